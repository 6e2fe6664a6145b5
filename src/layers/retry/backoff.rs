//! The wait before a retry: growth, cap and jitter, without clock or I/O.

use std::time::Duration;

/// The spread of the wait before a retry, so that callers who failed together do not come back together.
///
/// `d` below is the delay of the schedule: `base * factor^n`, at most `max_delay`.
/// After Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Jitter {
    /// Draws from `[0, d]`: the widest spread and the fewest collisions. The default.
    #[default]
    Full,
    /// Takes half of `d`, and draws from the other half: never shorter than `d / 2`.
    Equal,
    /// Draws within this fraction of `d` on either side, cut at `max_delay`: `Proportional(0.25)` is `d` plus or
    /// minus a quarter. A fraction below 0, or NaN, counts as 0; above 1 as 1.
    Proportional(f64),
    /// Draws between `base` and three times the previous wait: it grows by chance, not by the number of the retry,
    /// and `factor` plays no part.
    Decorrelated,
    /// Waits exactly `d`. Callers who failed together return together: for tests, or behind a layer that spreads
    /// them.
    None,
}

/// A schedule of waits: `base * factor^n` for the n-th retry (counted from 0), at most `max_delay`, spread by
/// [`Jitter`].
///
/// Every jitter is drawn within the cap, not before it. Waits are therefore spread also at the cap, and none is
/// longer than `max_delay`. Arithmetic saturates: retry `u32::MAX` waits as the cap says.
///
/// ```
/// use std::time::Duration;
/// use steadfast::layers::retry::{Backoff, Jitter};
///
/// let backoff = Backoff::new(Duration::from_secs(1)).jitter(Jitter::None);
/// let mut rng = fastrand::Rng::with_seed(7);
/// let waits = [0, 1, 2, u32::MAX].map(|n| backoff.delay(n, None, &mut rng).as_secs());
/// assert_eq!(waits, [1, 2, 4, 30]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    base: Duration,
    /// `None` if the delay grows by `base`.
    factor: Option<f64>,
    max_delay: Duration,
    jitter: Jitter,
}

impl Backoff {
    /// The default of [`factor`](Self::factor).
    pub(super) const FACTOR: f64 = 2.0;

    /// Creates a schedule from `base` on, doubling, at most 30 s, with [`Jitter::Full`].
    pub fn new(base: Duration) -> Self {
        Self { base, factor: Some(Self::FACTOR), max_delay: Duration::from_secs(30), jitter: Jitter::Full }
    }

    /// Creates a schedule of equal waits, without jitter. `max_delay` is `wait`.
    pub fn fixed(wait: Duration) -> Self {
        Self { base: wait, factor: Some(1.0), max_delay: wait, jitter: Jitter::None }
    }

    /// Sets the factor by which the delay grows with each retry. Default: 2; below 1, or NaN, counts as 1.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = Some(if factor >= 1.0 { factor } else { 1.0 });
        self
    }

    /// Lets the delay grow by `base` with each retry, and not by a factor: 1 s, 2 s, 3 s.
    #[must_use]
    pub fn linear(mut self) -> Self {
        self.factor = None;
        self
    }

    /// Sets the longest wait. Default: 30 s.
    #[must_use]
    pub fn max_delay(mut self, max_delay: Duration) -> Self {
        self.max_delay = max_delay;
        self
    }

    /// Sets the spread of the wait. Default: [`Jitter::Full`].
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Returns the schedule with no wait longer than `cap`.
    pub(super) fn capped(self, cap: Duration) -> Self {
        Self { max_delay: self.max_delay.min(cap), ..self }
    }

    /// Draws the wait before retry `n` (counted from 0). `previous` is the wait before the preceding retry; only
    /// [`Jitter::Decorrelated`] uses it.
    pub fn delay(&self, n: u32, previous: Option<Duration>, rng: &mut fastrand::Rng) -> Duration {
        self.delay_from(Duration::ZERO, n, previous, rng)
    }

    /// Draws the wait before retry `n` if the server asked for at least `floor`. It is never shorter than that, and
    /// as widely spread above it as it would have been without.
    ///
    /// It can exceed `max_delay` by that spread: a caller told to wait 30 s comes back a little after 30 s, and not
    /// together with all others.
    pub fn delay_from(&self, floor: Duration, n: u32, previous: Option<Duration>, rng: &mut fastrand::Rng) -> Duration {
        let (shortest, longest) = self.bounds(n, previous);
        let spread = nanos(longest.saturating_sub(shortest));
        // One draw over the whole spread in nanoseconds: drawing seconds and their fraction apart loses the
        // fraction.
        let drawn = match spread {
            0 => Duration::ZERO,
            _ => Duration::from_nanos(rng.u64(0..=spread)),
        };
        shortest.max(floor).saturating_add(drawn)
    }

    /// Returns the shortest and the longest wait that can be drawn for retry `n`.
    fn bounds(&self, n: u32, previous: Option<Duration>) -> (Duration, Duration) {
        let delay = self.ceiling(n);
        match self.jitter {
            Jitter::Full => (Duration::ZERO, delay),
            Jitter::Equal => (delay / 2, delay),
            Jitter::Proportional(fraction) => {
                // A comparison, because NaN passes through `clamp`.
                let fraction = if fraction > 0.0 { fraction.min(1.0) } else { 0.0 };
                let part = scale(delay, fraction);
                let longest = delay.saturating_add(part).min(self.max_delay);
                (delay.saturating_sub(part), longest)
            }
            Jitter::Decorrelated => {
                let shortest = self.base.min(self.max_delay);
                let previous = previous.unwrap_or(self.base);
                // Cut before the draw: `min(cap, draw)` would pile two thirds of the waits onto the cap.
                let longest = previous.saturating_mul(3).min(self.max_delay);
                (shortest, longest.max(shortest))
            }
            Jitter::None => (delay, delay),
        }
    }

    /// Returns `min(max_delay, base * factor^n)`, or `min(max_delay, base * (n + 1))`.
    fn ceiling(&self, n: u32) -> Duration {
        if self.base.is_zero() {
            return Duration::ZERO; // 0 * infinity is not a number
        }
        let growth = match self.factor {
            Some(factor) => factor.powf(f64::from(n)),
            None => f64::from(n) + 1.0,
        };
        let seconds = self.base.as_secs_f64() * growth;
        Duration::try_from_secs_f64(seconds).map_or(self.max_delay, |d| d.min(self.max_delay))
    }
}

/// Returns `delay * fraction`, for a fraction between 0 and 1.
fn scale(delay: Duration, fraction: f64) -> Duration {
    Duration::try_from_secs_f64(delay.as_secs_f64() * fraction).map_or(delay, |part| part.min(delay))
}

fn nanos(delay: Duration) -> u64 {
    u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JITTERS: [Jitter; 5] =
        [Jitter::Full, Jitter::Equal, Jitter::Proportional(0.25), Jitter::Decorrelated, Jitter::None];

    /// Returns the Kolmogorov-Smirnov distance of waits from the uniform distribution over `[from, to]`.
    fn distance_from_uniform(mut waits: Vec<Duration>, from: Duration, to: Duration) -> f64 {
        waits.sort_unstable();
        let (n, width) = (waits.len() as f64, (to - from).as_secs_f64());
        let gaps = waits.iter().enumerate().map(|(i, wait)| {
            let expected = wait.checked_sub(from).unwrap().as_secs_f64() / width;
            let (below, above) = (i as f64 / n, (i as f64 + 1.0) / n);
            (expected - below).abs().max((above - expected).abs())
        });
        gaps.fold(0.0, f64::max)
    }

    /// The critical distance at 0.1 % for large samples (Kolmogorov; Smirnov 1948).
    fn critical(n: usize) -> f64 {
        1.949 / (n as f64).sqrt()
    }

    fn thousand(backoff: Backoff, n: u32, previous: Option<Duration>) -> Vec<Duration> {
        let mut rng = fastrand::Rng::with_seed(42);
        (0..1000).map(|_| backoff.delay(n, previous, &mut rng)).collect()
    }

    #[test]
    fn full_jitter_is_uniform_over_the_whole_delay() {
        let cases = [(1000, 0, 1000), (700, 0, 700), (700, 2, 2800), (1000, 9, 30_000), (1000, u32::MAX, 30_000)];
        for (base, n, delay) in cases {
            let waits = thousand(Backoff::new(Duration::from_millis(base)), n, None);
            let far = distance_from_uniform(waits, Duration::ZERO, Duration::from_millis(delay));
            assert!(far < critical(1000), "base {base} ms, retry {n}: {far}");
        }
    }

    #[test]
    fn every_jitter_is_uniform_between_its_bounds_also_at_the_cap() {
        let second = Duration::from_secs(1);
        for (jitter, from, to) in
            [(Jitter::Equal, 15.0, 30.0), (Jitter::Proportional(0.25), 22.5, 30.0), (Jitter::Decorrelated, 1.0, 30.0)]
        {
            let waits = thousand(Backoff::new(second).jitter(jitter), 40, Some(second * 30));
            let far = distance_from_uniform(waits, second.mul_f64(from), second.mul_f64(to));
            assert!(far < critical(1000), "{jitter:?}: {far}");
        }
    }

    #[test]
    fn requests_that_fail_together_do_not_wait_alike() {
        let mut rng = fastrand::Rng::with_seed(1);
        let backoff = Backoff::new(Duration::from_millis(700));
        let mut waits: Vec<_> = (0..4).map(|_| backoff.delay(0, None, &mut rng)).collect();
        waits.dedup();
        assert_eq!(waits.len(), 4);
    }

    #[test]
    fn the_schedule_grows_by_its_factor() {
        let mut rng = fastrand::Rng::with_seed(1);
        let overload = Backoff::new(Duration::from_secs(1)).factor(1.5).jitter(Jitter::None);
        let waits = [0, 1, 2, 3].map(|n| overload.delay(n, None, &mut rng).as_millis());
        assert_eq!(waits, [1000, 1500, 2250, 3375]);
        let linear = Backoff::new(Duration::from_secs(2)).linear().jitter(Jitter::None);
        let waits = [0, 1, 2, u32::MAX].map(|n| linear.delay(n, None, &mut rng).as_secs());
        assert_eq!(waits, [2, 4, 6, 30]);
        let fixed = Backoff::fixed(Duration::from_secs(1));
        assert_eq!([0, 5].map(|n| fixed.delay(n, None, &mut rng).as_secs()), [1, 1]);
    }

    #[test]
    fn decorrelated_waits_follow_the_previous_one() {
        let backoff = Backoff::new(Duration::from_secs(1)).jitter(Jitter::Decorrelated);
        let waits = thousand(backoff, 0, None);
        let far = distance_from_uniform(waits, Duration::from_secs(1), Duration::from_secs(3));
        assert!(far < critical(1000), "{far}");
        let waits = thousand(backoff, 1, Some(Duration::from_secs(4)));
        let far = distance_from_uniform(waits, Duration::from_secs(1), Duration::from_secs(12));
        assert!(far < critical(1000), "{far}");
    }

    #[test]
    fn nonsense_fractions_and_factors_have_a_plain_meaning() {
        let mut rng = fastrand::Rng::with_seed(1);
        let second = Duration::from_secs(1);
        for fraction in [f64::NAN, -1.0, f64::NEG_INFINITY] {
            let none = Backoff::new(second).jitter(Jitter::Proportional(fraction));
            assert_eq!(none.delay(0, None, &mut rng), second, "{fraction}");
        }
        let all = Backoff::new(second).jitter(Jitter::Proportional(f64::INFINITY));
        assert_eq!(all.bounds(0, None), (Duration::ZERO, second * 2));
        for factor in [f64::NAN, -3.0, 0.0, f64::NEG_INFINITY] {
            let same = Backoff::new(second).factor(factor).jitter(Jitter::None);
            assert_eq!(same.delay(9, None, &mut rng), second, "{factor}");
        }
        let steep = Backoff::new(second).factor(f64::INFINITY).jitter(Jitter::None);
        assert_eq!([0, 1].map(|n| steep.delay(n, None, &mut rng).as_secs()), [1, 30]);
    }

    #[test]
    fn the_servers_floor_has_the_whole_jitter_above_it() {
        let backoff = Backoff::new(Duration::from_secs(2));
        let floor = Duration::from_secs(30);
        let mut rng = fastrand::Rng::with_seed(5);
        let waits = (0..1000).map(|_| backoff.delay_from(floor, 0, None, &mut rng)).collect();
        let far = distance_from_uniform(waits, floor, Duration::from_secs(32));
        assert!(far < critical(1000), "{far}");
    }

    fn durations() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::MAX),
            (0u64..100_000).prop_map(Duration::from_millis),
            (any::<u64>(), 0u32..1_000_000_000).prop_map(|(s, n)| Duration::new(s, n)),
        ]
    }

    proptest! {
        #[test]
        fn no_wait_exceeds_the_cap_or_undercuts_the_floor(
            base in durations(),
            cap in durations(),
            factor in any::<f64>(),
            fraction in any::<f64>(),
            n in prop_oneof![0u32..10, any::<u32>(), Just(u32::MAX)],
            previous in proptest::option::of(durations()),
            floor in durations(),
            seed in any::<u64>(),
        ) {
            let mut rng = fastrand::Rng::with_seed(seed);
            for jitter in JITTERS.into_iter().chain([Jitter::Proportional(fraction)]) {
                let backoff = Backoff::new(base).factor(factor).max_delay(cap).jitter(jitter);
                let wait = backoff.delay(n, previous, &mut rng);
                prop_assert!(wait <= cap, "{jitter:?}: {wait:?}");
                let (shortest, longest) = backoff.bounds(n, previous);
                prop_assert!(shortest <= wait && wait <= longest, "{jitter:?}: {wait:?}");
                prop_assert!(backoff.delay_from(floor, n, previous, &mut rng) >= floor);
            }
        }
    }
}
