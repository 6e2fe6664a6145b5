//! The clock of the Redis server.
//!
//! Redis executes commands that it received while it stood still, even if their sender has given up: a claim that no
//! one releases, a notice that looks newer than it is. So each command carries the time until which it may run, by the
//! clock of Redis as far as it is known here.

use std::time::Duration;

use tokio::time::Instant;

use steadfast::store::{StoreError, StoreErrorKind};
use steadfast_internal::sync::{Mutex, lock};

/// Redis's last reported time, in milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Option<(u64, Instant)>>);

impl Clock {
    pub(super) fn set(&self, there: u64, now: Instant) {
        *lock(&self.0) = Some((there, now));
    }

    /// Returns the server's time after this duration from now; `None` while it is unknown.
    pub(super) fn after(&self, now: Instant, span: Duration) -> Option<u64> {
        let (there, since) = (*lock(&self.0))?;
        let passed = now.saturating_duration_since(since).saturating_add(span);
        Some(there.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Returns the error of a command that came too late and did nothing.
pub(super) fn late(what: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, what).with_source("it reached Redis too late and was not executed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_what_was_told_last() {
        let (clock, now) = (Clock::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(clock.after(now, second), None);
        clock.set(5000, now);
        assert_eq!(clock.after(now, second), Some(6000));
        assert_eq!(clock.after(now + 2 * second, second), Some(8000));
        clock.set(1000, now);
        assert_eq!(clock.after(now, Duration::ZERO), Some(1000), "a clock that was put back");
        assert_eq!(clock.after(now, Duration::MAX), Some(u64::MAX));
    }
}
