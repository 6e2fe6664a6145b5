//! The latency of a simulated provider.

use std::{f64::consts::TAU, time::Duration};

use fastrand::Rng;

/// The longest draw, so that the tail of a distribution cannot overflow a timer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A distribution of waiting times.
///
/// It is used for the time to the first token of a [`Simulated`](super::Simulated) provider. No draw is longer than 24
/// hours.
///
/// ```
/// use std::time::Duration;
/// use steadfast::providers::simulated::Latency;
///
/// let latency = Latency::percentiles(Duration::from_millis(600), Duration::from_secs(4));
/// let drawn = latency.sample(&mut fastrand::Rng::with_seed(7));
/// assert!(drawn > Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Latency {
    /// The same time for every call.
    Fixed(Duration),
    /// Any time from `min` to `max` with equal probability, in either order.
    Uniform {
        /// The shortest time.
        min: Duration,
        /// The longest time.
        max: Duration,
    },
    /// A log-normal time: most calls near the median, a long tail of slow ones. Measured response times of services
    /// have this shape far more often than a normal one.
    LogNormal {
        /// Half of the calls are faster than this.
        median: Duration,
        /// The spread: the standard deviation of the logarithm. 0 makes every call take the median; a negative number
        /// or NaN counts as 0.
        sigma: f64,
    },
}

impl Latency {
    /// Creates a log-normal distribution with the given median and 99th percentile.
    ///
    /// A percentile below the median counts as the median: no spread.
    #[must_use]
    pub fn percentiles(p50: Duration, p99: Duration) -> Self {
        // The 99th percentile of the standard normal distribution.
        const Z99: f64 = 2.326_347_874;
        let ratio = p99.as_secs_f64() / p50.as_secs_f64();
        let sigma = if ratio.is_finite() && ratio > 1.0 { ratio.ln() / Z99 } else { 0.0 };
        Self::LogNormal { median: p50, sigma }
    }

    /// Draws one time.
    pub fn sample(&self, rng: &mut Rng) -> Duration {
        let drawn = match *self {
            Self::Fixed(time) => time,
            Self::Uniform { min, max } => {
                let (low, high) = (min.min(max), min.max(max));
                low.saturating_add((high - low).mul_f64(rng.f64()))
            }
            Self::LogNormal { median, sigma } => {
                let sigma = if sigma > 0.0 { sigma } else { 0.0 };
                let seconds = median.as_secs_f64() * (sigma * standard_normal(rng)).exp();
                Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST)
            }
        };
        drawn.min(LONGEST)
    }
}

impl Default for Latency {
    /// No time at all.
    fn default() -> Self {
        Self::Fixed(Duration::ZERO)
    }
}

impl From<Duration> for Latency {
    fn from(time: Duration) -> Self {
        Self::Fixed(time)
    }
}

/// Draws from the standard normal distribution (Box and Muller, 1958).
fn standard_normal(rng: &mut Rng) -> f64 {
    // In (0, 1]: the logarithm of zero is not a number.
    let radius = 1.0 - rng.f64();
    (-2.0 * radius.ln()).sqrt() * (TAU * rng.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(latency: Latency) -> Vec<Duration> {
        let mut rng = Rng::with_seed(1);
        let mut drawn: Vec<_> = (0..20_000).map(|_| latency.sample(&mut rng)).collect();
        drawn.sort();
        drawn
    }

    #[test]
    fn uniform_stays_between_its_ends_and_fills_them() {
        let (a, b) = (Duration::from_millis(100), Duration::from_millis(300));
        let drawn = sorted(Latency::Uniform { min: b, max: a });
        assert!(drawn[0] >= a && drawn[drawn.len() - 1] <= b);
        assert!(drawn[0] < Duration::from_millis(101));
        assert!(drawn[drawn.len() - 1] > Duration::from_millis(299));
    }

    #[test]
    fn log_normal_has_the_median_and_the_tail_that_were_asked_for() {
        let latency = Latency::percentiles(Duration::from_millis(600), Duration::from_secs(4));
        let drawn = sorted(latency);
        let median = drawn[drawn.len() / 2].as_secs_f64();
        let p99 = drawn[drawn.len() * 99 / 100].as_secs_f64();
        assert!((0.58..0.62).contains(&median), "{median}");
        assert!((3.6..4.4).contains(&p99), "{p99}");
    }

    #[test]
    fn nonsense_has_a_plain_meaning() {
        let mut rng = Rng::with_seed(1);
        let second = Duration::from_secs(1);
        for sigma in [f64::NAN, -3.0, 0.0] {
            let latency = Latency::LogNormal { median: second, sigma };
            assert_eq!(latency.sample(&mut rng), second);
        }
        let wild = Latency::LogNormal { median: Duration::MAX, sigma: f64::INFINITY };
        for _ in 0..100 {
            assert!(wild.sample(&mut rng) <= LONGEST);
        }
        assert_eq!(Latency::percentiles(second, Duration::ZERO).sample(&mut rng), second);
        assert_eq!(Latency::percentiles(Duration::ZERO, second).sample(&mut rng), Duration::ZERO);
    }
}
