//! Recent failures, regardless of any circuit.

use std::time::Duration;

use tokio::time::Instant;

use crate::window::Window;

/// The length of the window.
const WINDOW: Duration = Duration::from_secs(60);
/// A larger share of failures is too much, ..
const MAX_SHARE: f64 = 0.05;
/// .. if there are at least this many: one failure among many says little.
const MIN_FAILURES: u64 = 3;

/// The requests, or the calls to a tier, of the last minute.
#[derive(Debug)]
pub(super) struct Recent {
    window: Window,
    /// The first failure since the last answer.
    unanswered: Option<Instant>,
    /// The failure that exceeded the limit.
    too_many: Option<Instant>,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { window: Window::new(WINDOW), unanswered: None, too_many: None }
    }

    #[inline]
    pub(super) fn record_answers(&mut self, at: Instant, number: u64) {
        self.window.add(at, [number, 0]);
        self.unanswered = None;
    }

    /// Returns the time from which a count moves the window on, if that is known.
    pub(super) fn until(&self) -> Option<Instant> {
        self.window.until()
    }

    #[cold]
    pub(super) fn record_failure(&mut self, at: Instant) {
        if !self.has_too_many(at) {
            self.too_many = None;
        }
        self.window.add(at, [1, 1]);
        self.unanswered.get_or_insert(at);
        if self.has_too_many(at) {
            self.too_many.get_or_insert(at);
        }
    }

    /// Clears earlier failures, because a probe has shown that calls succeed again.
    pub(super) fn clear_failures(&mut self) {
        if self.unanswered.is_some() || self.too_many.is_some() {
            *self = Self::new();
        }
    }

    /// Returns the time from which nothing was answered, if the last one failed.
    pub(super) fn unanswered(&self) -> Option<Instant> {
        self.unanswered
    }

    /// Returns the time from which too much fails, if it does: the last one, or more than a share of the last minute's.
    pub(super) fn failing(&self, now: Instant) -> Option<Instant> {
        let too_many = self.too_many.filter(|_| self.has_too_many(now));
        too_many.into_iter().chain(self.unanswered).min()
    }

    /// Returns the number of all, and of those that failed.
    pub(super) fn counts(&self, now: Instant) -> [u64; 2] {
        self.window.clone().sums(now)
    }

    fn has_too_many(&self, now: Instant) -> bool {
        let [all, failed] = self.counts(now);
        failed >= MIN_FAILURES && failed as f64 > MAX_SHARE * all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_last_that_failed_counts_until_one_is_answered_however_long_that_takes() {
        let (mut recent, start) = (Recent::new(), Instant::now());
        assert_eq!(recent.failing(start), None);
        recent.record_failure(start + SECOND);
        recent.record_failure(start + SECOND * 2);
        assert_eq!(recent.failing(start + SECOND * 3600), Some(start + SECOND));
        recent.record_answers(start + SECOND * 3601, 1);
        assert_eq!(recent.failing(start + SECOND * 3601), None);
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_a_few_may_fail_and_not_more_than_one_in_twenty() {
        let (mut recent, start) = (Recent::new(), Instant::now());
        for n in 0..60 {
            if n % 20 == 0 { recent.record_failure(start) } else { recent.record_answers(start, 1) }
        }
        assert_eq!((recent.counts(start), recent.failing(start)), ([60, 3], None), "5 % are not more than 5 %");
        let fourth = start + SECOND * 30;
        recent.record_failure(fourth);
        recent.record_answers(fourth, 1);
        assert_eq!(recent.failing(fourth), Some(fourth));
        // Two failures are too few at any share.
        let mut few = Recent::new();
        for _ in 0..2 {
            few.record_failure(start);
        }
        few.record_answers(start, 1);
        assert_eq!(few.failing(start), None);
        // A minute later the first ones leave the window.
        assert_eq!(recent.failing(start + SECOND * 95), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_before_it_was_mended_is_forgotten() {
        let (mut recent, start) = (Recent::new(), Instant::now());
        for _ in 0..10 {
            recent.record_failure(start);
        }
        recent.clear_failures();
        assert_eq!((recent.counts(start), recent.failing(start)), ([0, 0], None));
    }
}
