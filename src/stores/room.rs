//! What the answers under idempotency keys may take, and when it is looked at.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use crate::internal::sync::{Mutex, lock};

/// The room for answers, and how far it was used since it was last looked at.
pub(super) struct Room {
    max_bytes: AtomicU64,
    unseen: AtomicU64,
    look_at: Mutex<Option<Instant>>,
}

/// The default of how many bytes all answers may take: 1 GiB.
pub(super) const MAX_BYTES: u64 = 1024 * 1024 * 1024;
/// What a record takes besides its answer, about.
const RECORD: u64 = 256;
/// How often what is over is swept out at the least, where there are answers at all.
const SWEEP: Duration = Duration::from_secs(60);
/// The part of the room that one process may fill between two looks.
const UNSEEN: u64 = 16;

/// For how long a record that is over stays: who has held it may still ask for it again.
pub(super) const STAYS: Duration = Duration::from_secs(600);
/// The records that go in one step, so that others are not held up for long.
pub(super) const STEP: i64 = 500;
/// The longest span that is written down: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Room {
    pub(super) fn set_max_bytes(&self, bytes: u64) {
        self.max_bytes.store(bytes, Relaxed);
    }

    pub(super) fn max_bytes(&self) -> i64 {
        i64::try_from(self.max_bytes.load(Relaxed)).unwrap_or(i64::MAX)
    }

    /// What an answer of so many bytes takes; `None` where there is never room for it.
    pub(super) fn taken_by(&self, answer: &[u8]) -> Option<i64> {
        let taken = RECORD.saturating_add(answer.len() as u64);
        i64::try_from(taken).ok().filter(|taken| *taken <= self.max_bytes())
    }

    /// So much more is taken: whether it is time to look.
    pub(super) fn takes(&self, bytes: i64) -> bool {
        let bytes = bytes.unsigned_abs();
        let unseen = self.unseen.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let now = Instant::now();
        let mut look_at = lock(&self.look_at);
        if unseen <= self.max_bytes.load(Relaxed) / UNSEEN && look_at.is_some_and(|at| now < at) {
            return false;
        }
        self.unseen.store(0, Relaxed);
        *look_at = now.checked_add(SWEEP);
        true
    }
}

impl Default for Room {
    fn default() -> Self {
        Self { max_bytes: AtomicU64::new(MAX_BYTES), unseen: AtomicU64::new(0), look_at: Mutex::new(None) }
    }
}

/// A span in milliseconds, for a database: at least one, so that a lease of nothing is over at the next look and no sooner.
pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.min(LONGEST).as_millis()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_looked_at_once_a_minute_and_when_a_sixteenth_is_filled() {
        let room = Room::default();
        room.set_max_bytes(1600);
        assert!(room.takes(1), "the first time");
        assert!(!room.takes(60) && !room.takes(40));
        assert!(room.takes(1), "over a sixteenth");
        assert!(!room.takes(50));
        tokio::time::advance(SWEEP).await;
        assert!(room.takes(1) && !room.takes(1));
    }

    #[test]
    fn what_never_has_room_is_known_before() {
        let room = Room::default();
        room.set_max_bytes(1000);
        assert_eq!(room.taken_by(&[0; 744]), Some(1000));
        assert_eq!(room.taken_by(&[0; 745]), None);
    }

    #[test]
    fn spans_fit_into_a_database() {
        assert_eq!((millis(Duration::ZERO), millis(Duration::from_secs(30))), (1, 30_000));
        assert!(millis(Duration::MAX).checked_add(2_000_000_000_000).is_some());
    }
}
