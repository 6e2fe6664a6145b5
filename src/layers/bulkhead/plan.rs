//! All limits as a layer is told them, and what they come to for each feature.

use std::{sync::Arc, time::Duration};

use super::{Limits, features::Features, settings::Settings};

/// The configured limits.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) named: Vec<(Arc<str>, Limits)>,
    pub(super) default: Limits,
    pub(super) queue: usize,
    pub(super) max_wait: Duration,
    /// The gates of another layer, whose counts this one's share.
    pub(super) state: Option<Arc<Features>>,
}

impl Plan {
    pub(super) fn settings(&self, limits: Limits) -> Settings {
        let Limits { concurrency, queue, max_wait, requests, tokens, adaptive } = limits;
        let (queue, max_wait) = (queue.unwrap_or(self.queue), max_wait.unwrap_or(self.max_wait));
        Settings { concurrency, queue, max_wait, requests, tokens, adaptive }
    }
}
