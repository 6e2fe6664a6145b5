use std::time::Duration;

use tokio::time::Instant;

use super::Answer;

/// The age limits of an answer for one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    pub(crate) fresh_for: Duration,
    /// The time beyond `fresh_for` in which a stale answer may still be given.
    pub(crate) stale_for: Duration,
}

impl Lifetime {
    /// Returns whether the answer is given at once.
    pub(crate) fn is_fresh(self, answer: &Answer, now: Instant) -> bool {
        answer.age(now) < self.fresh_for
    }

    /// Returns whether the answer is given when no better one exists.
    pub(crate) fn is_usable(self, answer: &Answer, now: Instant) -> bool {
        answer.age(now) < self.fresh_for.saturating_add(self.stale_for)
    }
}
