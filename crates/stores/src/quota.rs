//! The space for answers under idempotency keys, and the schedule of its checks.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use steadfast_internal::sync::{Mutex, lock};

/// The space for answers, and its use since the last check.
pub(super) struct AnswerQuota {
    max_bytes: AtomicU64,
    unchecked: AtomicU64,
    check_at: Mutex<Option<Instant>>,
}

/// The default space for all answers, in bytes: 1 GiB.
pub(super) const MAX_BYTES: u64 = 1024 * 1024 * 1024;
/// The approximate size of a record without its answer.
const RECORD: u64 = 256;
/// The longest time between two sweeps of expired records, while there are answers.
const SWEEP: Duration = Duration::from_secs(60);
/// The part of the space that one process may fill between two checks.
const UNCHECKED_SHARE: u64 = 16;

/// The time for which an expired record stays: its former holder may still request it.
pub(super) const RETENTION: Duration = Duration::from_secs(600);
/// The records removed in one step, so that other calls do not wait for long.
pub(super) const STEP: i64 = 500;
/// The longest duration that is stored: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl AnswerQuota {
    pub(super) fn set_max_bytes(&self, bytes: u64) {
        self.max_bytes.store(bytes, Relaxed);
    }

    pub(super) fn max_bytes(&self) -> i64 {
        i64::try_from(self.max_bytes.load(Relaxed)).unwrap_or(i64::MAX)
    }

    /// Returns the size of an answer's record; `None` if it can never fit.
    pub(super) fn size_of(&self, answer: &[u8]) -> Option<i64> {
        let taken = RECORD.saturating_add(answer.len() as u64);
        i64::try_from(taken).ok().filter(|taken| *taken <= self.max_bytes())
    }

    /// Adds to the use. Returns whether a check is due.
    pub(super) fn add(&self, bytes: i64) -> bool {
        let bytes = bytes.unsigned_abs();
        let unchecked = self.unchecked.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let now = Instant::now();
        let mut check_at = lock(&self.check_at);
        if unchecked <= self.max_bytes.load(Relaxed) / UNCHECKED_SHARE && check_at.is_some_and(|at| now < at) {
            return false;
        }
        self.unchecked.store(0, Relaxed);
        *check_at = now.checked_add(SWEEP);
        true
    }
}

impl Default for AnswerQuota {
    fn default() -> Self {
        Self { max_bytes: AtomicU64::new(MAX_BYTES), unchecked: AtomicU64::new(0), check_at: Mutex::new(None) }
    }
}

/// Returns a duration in milliseconds, for a database. It is at least one, so that a lease of zero expires at the next
/// look and no sooner.
pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.min(LONGEST).as_millis()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_looked_at_once_a_minute_and_when_a_sixteenth_is_filled() {
        let quota = AnswerQuota::default();
        quota.set_max_bytes(1600);
        assert!(quota.add(1), "the first time");
        assert!(!quota.add(60) && !quota.add(40));
        assert!(quota.add(1), "over a sixteenth");
        assert!(!quota.add(50));
        tokio::time::advance(SWEEP).await;
        assert!(quota.add(1) && !quota.add(1));
    }

    #[test]
    fn what_never_has_room_is_known_before() {
        let quota = AnswerQuota::default();
        quota.set_max_bytes(1000);
        assert_eq!(quota.size_of(&[0; 744]), Some(1000));
        assert_eq!(quota.size_of(&[0; 745]), None);
    }

    #[test]
    fn spans_fit_into_a_database() {
        assert_eq!((millis(Duration::ZERO), millis(Duration::from_secs(30))), (1, 30_000));
        assert!(millis(Duration::MAX).checked_add(2_000_000_000_000).is_some());
    }
}
