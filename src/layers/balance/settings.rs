use std::{sync::Arc, time::Duration};

use super::exchange::Sharing;
use crate::{Classifier, RetryBudget};

/// The default of [`BalanceLayer::max_ejected`](super::BalanceLayer::max_ejected).
pub(super) const MAX_EJECTED: f64 = 1.0;

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

impl Default for Settings {
    fn default() -> Self {
        Self {
            affinity: true,
            zone: None,
            max_ejected: MAX_EJECTED,
            slow_start: Duration::from_secs(30),
            classifier: Classifier::default(),
            budget: RetryBudget::unlimited(),
            seed: None,
            sharing: None,
        }
    }
}
