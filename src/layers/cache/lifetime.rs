use std::time::Duration;

use tokio::time::Instant;

use super::Answer;

/// How old an answer may be for one who asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    pub(crate) fresh_for: Duration,
    /// After that.
    pub(crate) stale_for: Duration,
}

impl Lifetime {
    /// Whether it is given at once.
    pub(crate) fn is_fresh(self, answer: &Answer, now: Instant) -> bool {
        answer.age(now) < self.fresh_for
    }

    /// Whether it is given where there is no better one.
    pub(crate) fn is_usable(self, answer: &Answer, now: Instant) -> bool {
        answer.age(now) < self.fresh_for.saturating_add(self.stale_for)
    }
}
