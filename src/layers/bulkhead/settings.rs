use std::time::Duration;

use super::{Adaptive, Rate};

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
