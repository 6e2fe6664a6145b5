//! The provider's own rate limit: two token buckets.

use std::time::Duration;

use tokio::time::Instant;

/// A provider's limits for a minute.
///
/// Each limit is a token bucket that starts full and refills evenly. A limit of 0 admits nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    requests: Option<u64>,
    tokens: Option<u64>,
    burst: Option<u64>,
}

impl RateLimit {
    /// Creates a limit of this many requests in a minute.
    #[must_use]
    pub fn requests_per_minute(requests: u64) -> Self {
        Self { requests: Some(requests), ..Self::default() }
    }

    /// Limits the tokens in a minute, prompt and answer together. Default: no limit.
    ///
    /// A request that needs more than the whole limit waits for a full bucket.
    #[must_use]
    pub fn tokens_per_minute(mut self, tokens: u64) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Limits the requests that may come at once. Default: those of a whole minute.
    #[must_use]
    pub fn burst(mut self, requests: u64) -> Self {
        self.burst = Some(requests);
        self
    }
}

/// The state of a [`RateLimit`].
#[derive(Debug)]
pub(crate) struct Limiter {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

impl Limiter {
    pub(crate) fn new(limit: RateLimit, now: Instant) -> Self {
        Self {
            requests: limit.requests.map(|n| Bucket::new(n, limit.burst.unwrap_or(n).min(n), now)),
            tokens: limit.tokens.map(|n| Bucket::new(n, n, now)),
        }
    }

    /// Takes one request of `tokens` tokens out of both buckets; or takes nothing and returns the wait.
    pub(crate) fn admit(&mut self, tokens: u64, now: Instant) -> Result<(), Duration> {
        let wants = [(&mut self.requests, 1), (&mut self.tokens, tokens)];
        let mut wait = Duration::ZERO;
        for (bucket, cost) in wants {
            if let Some(bucket) = bucket {
                bucket.refill(now);
                wait = wait.max(bucket.wait_for(cost));
            }
        }
        if wait > Duration::ZERO {
            return Err(wait);
        }
        for (bucket, cost) in [(&mut self.requests, 1), (&mut self.tokens, tokens)] {
            if let Some(bucket) = bucket {
                bucket.take(cost);
            }
        }
        Ok(())
    }

    /// Returns the values of an answer's rate limit headers.
    pub(crate) fn status(&mut self, now: Instant) -> RateStatus {
        let read = |bucket: &mut Option<Bucket>| {
            bucket.as_mut().map(|bucket| {
                bucket.refill(now);
                bucket.reading()
            })
        };
        RateStatus { requests: read(&mut self.requests), tokens: read(&mut self.tokens) }
    }
}

/// The remainder of each limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateStatus {
    /// Of the requests, if they are limited.
    pub requests: Option<RateReading>,
    /// Of the tokens, if they are limited.
    pub tokens: Option<RateReading>,
}

/// The remainder of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateReading {
    /// The limit for a minute.
    pub limit: u64,
    /// The number that is left.
    pub remaining: u64,
    /// The time until the limit is full again.
    pub reset: Duration,
}

#[derive(Debug)]
struct Bucket {
    per_minute: u64,
    capacity: f64,
    level: f64,
    filled_at: Instant,
}

impl Bucket {
    fn new(per_minute: u64, capacity: u64, now: Instant) -> Self {
        let capacity = capacity as f64;
        Self { per_minute, capacity, level: capacity, filled_at: now }
    }

    fn per_second(&self) -> f64 {
        self.per_minute as f64 / 60.0
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled_at);
        self.filled_at = self.filled_at.max(now);
        self.level = (self.level + elapsed.as_secs_f64() * self.per_second()).min(self.capacity);
    }

    fn wait_for(&self, cost: u64) -> Duration {
        if self.capacity < 1.0 {
            return Duration::from_secs(60);
        }
        // A thousandth of a token is a rounding error.
        self.time_to((cost as f64).min(self.capacity) - 0.001)
    }

    fn take(&mut self, cost: u64) {
        self.level = (self.level - cost as f64).max(0.0);
    }

    fn time_to(&self, level: f64) -> Duration {
        let missing = level - self.level;
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(missing / self.per_second())
            .unwrap_or(Duration::from_secs(60))
            .max(Duration::from_millis(1))
    }

    fn reading(&self) -> RateReading {
        RateReading { limit: self.per_minute, remaining: self.level as u64, reset: self.time_to(self.capacity) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_wait_it_names_is_the_wait_that_helps() {
        let now = start();
        let mut limiter = Limiter::new(RateLimit::requests_per_minute(60).burst(2), now);
        assert_eq!(limiter.admit(10, now), Ok(()));
        assert_eq!(limiter.admit(10, now), Ok(()));
        let wait = limiter.admit(10, now).unwrap_err();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        assert!(limiter.admit(10, now + wait / 2).is_err());
        assert_eq!(limiter.admit(10, now + wait), Ok(()));
    }

    #[test]
    fn a_refused_request_takes_nothing() {
        let now = start();
        let limit = RateLimit::requests_per_minute(100).tokens_per_minute(1000);
        let mut limiter = Limiter::new(limit, now);
        assert_eq!(limiter.admit(900, now), Ok(()));
        assert!(limiter.admit(200, now).is_err());
        let status = limiter.status(now);
        assert_eq!(status.requests.unwrap().remaining, 99);
        assert_eq!(status.tokens.unwrap().remaining, 100);
        assert_eq!(status.tokens.unwrap().reset, Duration::from_secs(54));
    }

    #[test]
    fn a_request_larger_than_the_whole_limit_waits_for_a_full_bucket() {
        let now = start();
        let limit = RateLimit::requests_per_minute(100).tokens_per_minute(1000);
        let mut limiter = Limiter::new(limit, now);
        assert_eq!(limiter.admit(5_000, now), Ok(()));
        let wait = limiter.admit(5_000, now).unwrap_err();
        assert!(wait <= Duration::from_secs(60) && wait > Duration::from_secs(59));
        assert_eq!(limiter.admit(5_000, now + wait), Ok(()));
    }

    #[test]
    fn a_limit_of_zero_is_closed() {
        let now = start();
        let mut limiter = Limiter::new(RateLimit::requests_per_minute(0), now);
        assert_eq!(limiter.admit(1, now), Err(Duration::from_secs(60)));
        let later = now + Duration::from_secs(3600);
        assert_eq!(limiter.admit(1, later), Err(Duration::from_secs(60)));
    }

    #[test]
    fn a_clock_that_steps_back_does_no_harm() {
        let now = start() + Duration::from_secs(10);
        let mut limiter = Limiter::new(RateLimit::requests_per_minute(60).burst(1), now);
        assert_eq!(limiter.admit(1, now), Ok(()));
        assert!(limiter.admit(1, now - Duration::from_secs(5)).is_err());
        assert_eq!(limiter.admit(1, now + Duration::from_secs(1)), Ok(()));
    }
}
