use std::{sync::Arc, time::Duration};

use super::exchange::Sharing;
use crate::{Classifier, RetryBudget};

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) affinity: bool,
    pub(super) zone: Option<Arc<str>>,
    pub(super) max_ejected: f64,
    pub(super) slow_start: Duration,
    pub(super) classifier: Classifier,
    pub(super) budget: RetryBudget,
    pub(super) seed: Option<u64>,
    pub(super) sharing: Option<Sharing>,
}
