use std::{num::NonZeroU32, sync::Mutex, time::Duration};

use steadfast::layers::bulkhead::RateLevel;
use tokio::time::Instant;

use crate::lock::lock;

/// A limit of requests per minute, with as many at once: the generic cell rate algorithm (ITU-T I.371), which keeps a
/// single moment.
#[derive(Debug)]
pub(super) struct Rate {
    pub(super) per_minute: NonZeroU32,
    /// The time at which the whole rate is available again.
    full_at: Mutex<Option<Instant>>,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Rate {
    pub(super) fn new(per_minute: NonZeroU32) -> Self {
        Self { per_minute, full_at: Mutex::new(None) }
    }

    /// Returns the requests that are left.
    pub(super) fn level(&self, now: Instant) -> RateLevel {
        let full_in = lock(&self.full_at).unwrap_or(now).saturating_duration_since(now);
        let limit = self.per_minute.get();
        let used = full_in.as_nanos().div_ceil((MINUTE / limit).as_nanos().max(1));
        let left = limit.saturating_sub(used.try_into().unwrap_or(u32::MAX));
        RateLevel { limit, left, full_in }
    }

    /// Takes one request, or returns the time until one is available.
    pub(super) fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut full_at = lock(&self.full_at);
        let next = full_at.unwrap_or(now).max(now) + MINUTE / self.per_minute.get();
        match next.checked_duration_since(now + MINUTE) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *full_at = Some(next);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_at_once_and_then_one_after_the_other() {
        let rate = Rate::new(NonZeroU32::new(60).unwrap());
        let start = Instant::now();
        assert_eq!((0..100).filter(|_| rate.take(start).is_ok()).count(), 60);
        assert_eq!(rate.take(start), Err(Duration::from_secs(1)));
        let later = start + Duration::from_secs(1);
        assert_eq!((rate.take(later), rate.take(later)), (Ok(()), Err(Duration::from_secs(1))));
        // Unused requests do not accumulate beyond a minute's.
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| rate.take(much_later).is_ok()).count(), 60);
    }
}
