//! All limits as a layer is told them, and what they come to for each feature.

use std::{sync::Arc, time::Duration};

use super::{Adaptive, Limits, Rate};

/// The configured limits.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) named: Vec<(Arc<str>, Limits)>,
    pub(super) default: Limits,
    pub(super) queue: usize,
    pub(super) max_wait: Duration,
}

impl Plan {
    pub(super) fn settings(&self, limits: Limits) -> Settings {
        let Limits { concurrency, queue, max_wait, requests, tokens, adaptive } = limits;
        let (queue, max_wait) = (queue.unwrap_or(self.queue), max_wait.unwrap_or(self.max_wait));
        Settings { concurrency, queue, max_wait, requests, tokens, adaptive }
    }
}

/// A feature's limits, with the layer's own for those that were left open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) concurrency: usize,
    pub(super) queue: usize,
    pub(super) max_wait: Duration,
    pub(super) requests: Option<Rate>,
    pub(super) tokens: Option<Rate>,
    pub(super) adaptive: Option<Adaptive>,
}

impl Settings {
    /// Returns the most requests that may wait. With a maximum wait of zero there is no queue.
    pub(super) fn queue(&self) -> usize {
        if self.max_wait.is_zero() { 0 } else { self.queue }
    }
}
