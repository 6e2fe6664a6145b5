//! The settings of a route's services.

use std::time::Duration;

use super::Rule;
use crate::{BoxLlmService, Classifier, prices::Price};

#[derive(Clone)]
pub(super) struct Plan {
    pub(super) routes: Vec<(Rule, BoxLlmService)>,
    pub(super) classifier: Classifier,
    pub(super) reserve_for_default: Duration,
    /// The price of the model that would have served.
    pub(super) instead_of: Option<Price>,
}

impl Plan {
    pub(super) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.routes.iter().map(|(rule, _)| rule)
    }
}
