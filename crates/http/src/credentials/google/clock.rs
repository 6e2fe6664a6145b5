//! The wall clock, corrected by a server's date.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::internal::wall_clock;

/// Seconds to add to this machine's clock.
#[derive(Debug, Default)]
pub(super) struct Clock(AtomicI64);

impl Clock {
    /// Returns the corrected time since 1970.
    pub(super) fn since_1970(&self) -> Duration {
        let seconds = seconds(wall_clock::now()).saturating_add(self.offset());
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    }

    pub(super) fn offset(&self) -> i64 {
        self.0.load(Relaxed)
    }

    /// Returns true if the corrected clock is off by more than a server overlooks.
    pub(super) fn is_off(&self, date: SystemTime) -> bool {
        let corrected = i64::try_from(self.since_1970().as_secs()).unwrap_or(i64::MAX);
        seconds(date).saturating_sub(corrected).unsigned_abs() >= OVERLOOKED
    }

    /// Goes by the server's date from now on. False if it was right already.
    pub(super) fn correct(&self, date: SystemTime) -> bool {
        let is_off = self.is_off(date);
        if is_off {
            self.0.store(seconds(date).saturating_sub(seconds(wall_clock::now())), Relaxed);
        }
        is_off
    }

    pub(super) fn restore(&self, offset: i64) {
        self.0.store(offset, Relaxed);
    }

    /// Returns a sentence about the correction.
    pub(super) fn told(&self) -> String {
        let offset = self.offset();
        let side = if offset > 0 { "behind" } else { "ahead of" };
        format!("the clock of this machine is {} s {side} the server's", offset.unsigned_abs())
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = |later: SystemTime, earlier| later.duration_since(earlier).map(|span| span.as_secs());
    match since(time, UNIX_EPOCH) {
        Ok(seconds) => i64::try_from(seconds).unwrap_or(i64::MAX),
        Err(error) => i64::try_from(error.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

/// In seconds. A `Date` is as old as the answer's way, and has whole seconds.
const OVERLOOKED: u64 = 60;
