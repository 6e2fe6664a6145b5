//! The cost of one more request at a deployment: the time to its first token, its load and its failures.
//!
//! The time counts by its fourth power: a tenfold time must outweigh any load of the others, which at an API slows
//! nothing. Where it does slow, as on a server of one's own, the time says so.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::time::Moment;

/// The time in which an estimate forgets half of the past while calls answer.
const HALF_LIFE: f32 = 10.0;
/// The times in which a peak and a mean halve while no call answers, so that a slow deployment is tried again.
const IDLE_PEAK: f32 = 120.0;
const IDLE_MEAN: f32 = 300.0;
/// The weight of one answer in the mean, and the least in a peak.
const ANSWER: f32 = 0.1;
/// Its weight where many answers come in a half-life: there one late answer says little.
const BUSY_ANSWER: f32 = 0.02;
/// The requests in flight that make no lasting difference.
const SLACK: f32 = 4.0;
/// The weight of one failure in the share of failures, and of one success.
const FAILURE: f32 = 0.3;
const SUCCESS: f32 = 0.2;
/// The factor on the cost of a deployment whose calls all fail. Failures are fast, and must not attract requests.
const PENALTY: f32 = 20.0;
/// The least time to a first token: an answer at once must not make a deployment free.
const LEAST: f32 = 1e-3;
/// Times within this ratio of each other are equal: their difference is noise, and the load decides.
const NOISE: f32 = 1.6;

/// The observed times and failures of a deployment.
#[derive(Debug, Default)]
pub(super) struct Cost {
    /// The time to the first token of streams, and to whole answers.
    peaks: [Stamped; 2],
    /// The means of the same times, without their peaks.
    means: [Mean; 2],
    /// The share of failures among the last calls.
    failures: Stamped,
}

/// The cost of a request, in parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quote {
    /// The seconds to the first token, if they are known.
    pub(super) time: Option<f32>,
    /// Their mean.
    pub(super) mean: Option<f32>,
    /// The factor for failures.
    pub(super) penalty: f32,
    /// The requests in flight for each unit of weight, with this one.
    pub(super) load: f32,
}

impl Cost {
    /// Records the time to a first token: a longer one counts at once, a shorter one by and by.
    ///
    /// That is Finagle's and tower's peak EWMA.
    pub(super) fn answered(&self, stream: bool, took: Duration, now: Moment) {
        let took = took.as_secs_f32().max(LEAST);
        let (peak, mean) = (&self.peaks[usize::from(stream)], &self.means[usize::from(stream)]);
        let idle = peak.read(now).map_or(0.0, |(_, idle)| idle);
        peak.update(now, |known, idle| match known {
            // By time, and by answers: else a busy deployment shows the latest of hundreds, and a slow one that of few.
            Some(known) => took.max(known + (took - known) * (1.0 - halved(idle, HALF_LIFE)).max(ANSWER)),
            None => took,
        });
        mean.update(took, (1.0 - halved(idle, HALF_LIFE)).clamp(BUSY_ANSWER, ANSWER));
    }

    /// Records that a caller left after it had waited so long for the first token.
    pub(super) fn abandoned(&self, stream: bool, waited: Duration, now: Moment) {
        if self.time(stream, now).is_none_or(|known| known < waited.as_secs_f32()) {
            self.answered(stream, waited, now);
        }
    }

    /// Records a failure of the deployment.
    pub(super) fn failed(&self, now: Moment) {
        self.failures.update(now, |share, idle| {
            let share = share.unwrap_or(0.0) * halved(idle, HALF_LIFE);
            share + (1.0 - share) * FAILURE
        });
    }

    /// Records a whole answer.
    #[inline]
    pub(super) fn succeeded(&self, now: impl FnOnce() -> Moment) {
        // While nothing fails, nothing is written, and no clock is read.
        if self.failures.read(0.0).is_some() {
            self.failures.update(now(), |share, idle| {
                let share = share.unwrap_or(0.0) * halved(idle, HALF_LIFE) * (1.0 - SUCCESS);
                if share < 1e-3 { 0.0 } else { share }
            });
        }
    }

    /// Returns the expected seconds to the first token.
    pub(super) fn time(&self, stream: bool, now: Moment) -> Option<f32> {
        self.times(stream, now).map(|(time, _)| time)
    }

    /// Returns the expected seconds to the first token, and their mean.
    #[inline]
    pub(super) fn times(&self, stream: bool, now: Moment) -> Option<(f32, f32)> {
        let (peak, idle) = self.peaks[usize::from(stream)].read(now)?;
        let mean = self.means[usize::from(stream)].read()? * halved(idle, IDLE_MEAN);
        // In orders of magnitude the peak counts half: one late answer is a sign, and no more.
        Some(((peak * halved(idle, IDLE_PEAK) * mean).sqrt(), mean))
    }

    /// Returns true once an answer of either form has come.
    pub(super) fn is_measured(&self) -> bool {
        self.means.iter().any(|mean| mean.read().is_some())
    }

    /// Returns the factor for failures.
    #[inline]
    pub(super) fn penalty(&self, now: Moment) -> f32 {
        self.failures.read(now).map_or(1.0, |(share, idle)| 1.0 + PENALTY * share * halved(idle, HALF_LIFE))
    }
}

impl Quote {
    /// Returns true if this costs more than the other.
    #[inline]
    pub(super) fn exceeds(self, other: Self) -> bool {
        // Only the part beyond the noise counts, so that a ratio just above it makes no leap.
        let ratio = match ratio(self.time, other.time) {
            ratio if ratio > NOISE => ratio / NOISE,
            ratio => (ratio * NOISE).min(1.0),
        };
        ratio.powi(4) * self.penalty * self.load > other.penalty * other.load
    }

    /// Returns true if this costs more than `times` the other, and not only for a moment: reason enough to leave a warm
    /// cache or a zone.
    pub(super) fn exceeds_lastingly(self, times: f32, other: Self) -> bool {
        let load = (self.load + SLACK) / (other.load + SLACK);
        ratio(self.mean, other.mean) * self.penalty * load > times * other.penalty
    }
}

/// Returns the part that is left after so long.
#[inline]
fn halved(idle: f32, half_life: f32) -> f32 {
    // A busy deployment was used in the same tick.
    if idle == 0.0 { 1.0 } else { (-idle / half_life).exp2() }
}

/// Returns the ratio of two times; 1 if one of them was never measured.
#[inline]
fn ratio(one: Option<f32>, other: Option<f32>) -> f32 {
    one.zip(other).map_or(1.0, |(one, other)| one / other)
}

/// The mean of the seconds to a first token, with the number of answers, in one word. It changes with its peak, which
/// has the moment.
#[derive(Debug, Default)]
struct Mean(AtomicU64);

impl Mean {
    /// Returns the mean; `None` before the first answer.
    #[inline]
    fn read(&self) -> Option<f32> {
        Some(f32::from_bits((self.0.load(Relaxed) >> 32) as u32)).filter(|mean| *mean > 0.0)
    }

    /// Takes an answer after so many seconds, with at least this weight.
    fn update(&self, took: f32, weight: f32) {
        let new = |word: u64| {
            let (mean, nth) = (f32::from_bits((word >> 32) as u32), (word as u32).saturating_add(1));
            // The plain mean of the first answers: one of them, early or late by luck, must not decide for long.
            Some(halves(mean + (took - mean) * weight.max(1.0 / nth as f32), nth))
        };
        // The closure always returns a value, so that this cannot fail.
        let _ = self.0.fetch_update(Relaxed, Relaxed, new);
    }
}

/// A number with the moment of its last change, in one word: the choice reads it without a lock.
#[derive(Debug, Default)]
pub(super) struct Stamped(AtomicU64);

/// The parts of a second in which moments are stored: a `u32` of them lasts for two years.
const TICKS: f64 = 64.0;

impl Stamped {
    /// Returns the number and the seconds since its last change; `None` if it is zero.
    #[inline]
    pub(super) fn read(&self, now: Moment) -> Option<(f32, f32)> {
        unpack(self.0.load(Relaxed), now)
    }

    pub(super) fn update(&self, now: Moment, change: impl Fn(Option<f32>, f32) -> f32) {
        let new = |word| {
            let (known, idle) = unpack(word, now).unzip();
            Some(pack(change(known, idle.unwrap_or(0.0)), now))
        };
        // The closure always returns a value, so that this cannot fail.
        let _ = self.0.fetch_update(Relaxed, Relaxed, new);
    }
}

fn pack(number: f32, now: Moment) -> u64 {
    halves(number, ticks(now))
}

/// Returns both numbers in one word.
fn halves(upper: f32, lower: u32) -> u64 {
    u64::from(upper.to_bits()) << 32 | u64::from(lower)
}

#[inline]
fn ticks(now: Moment) -> u32 {
    (now * TICKS) as u32
}

#[inline]
fn unpack(word: u64, now: Moment) -> Option<(f32, f32)> {
    let number = f32::from_bits((word >> 32) as u32);
    // Whole ticks: within one nothing fades, and no power has to be computed.
    let idle = ticks(now).saturating_sub(word as u32) as f32 / TICKS as f32;
    (number > 0.0).then_some((number, idle))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_by_half_lives() {
        let cost = Cost::default();
        assert_eq!((cost.time(true, 0.0), cost.penalty(0.0)), (None, 1.0));
        let is = |time: Option<f32>, peak: f32, mean: f32| {
            assert!((time.unwrap() - (peak * mean).sqrt()).abs() < 0.005, "{time:?}, not of {peak} and {mean}");
        };
        cost.answered(true, MS(200), 0.0);
        // Few answers have a plain mean.
        cost.answered(true, MS(2000), 1.0);
        is(cost.time(true, 1.0), 2.0, 1.1);
        // A half-life of ten seconds: the peak comes half of the way back.
        cost.answered(true, MS(200), 11.0);
        is(cost.time(true, 11.0), 1.1, 0.8);
        is(cost.time(true, 131.0), 1.1 / 2.0, 0.8 * 0.758);
        assert_eq!(cost.time(false, 11.0), None, "whole answers are measured by themselves");
    }

    #[test]
    fn an_hour_of_answers_says_the_same_at_any_rate() {
        // The same distribution, ten a second and one in ten seconds.
        let after = |each: f64| {
            let (cost, mut random, mut sum) = (Cost::default(), fastrand::Rng::with_seed(5), 0.0);
            for nth in 0..3600 {
                cost.answered(true, MS(random.u64(100..500)), f64::from(nth) * each);
                sum += cost.time(true, f64::from(nth) * each).unwrap();
            }
            sum / 3600.0
        };
        let (busy, quiet) = (after(0.1), after(10.0));
        assert!((0.8..1.25).contains(&(busy / quiet)), "{busy} {quiet}");
    }

    #[test]
    fn failures_cost_more_than_they_save_and_are_forgotten() {
        let cost = Cost::default();
        cost.answered(true, MS(300), 0.0);
        for _ in 0..10 {
            cost.failed(0.0);
        }
        assert!((15.0..=21.0).contains(&cost.penalty(0.0)), "{}", cost.penalty(0.0));
        assert!(cost.penalty(60.0) < 1.4);
        for _ in 0..40 {
            cost.succeeded(|| 0.0);
        }
        assert_eq!(cost.penalty(0.0), 1.0);
    }

    #[test]
    fn a_caller_that_leaves_only_raises_the_time() {
        let cost = Cost::default();
        cost.answered(false, MS(300), 0.0);
        cost.abandoned(false, MS(100), 0.0);
        assert_eq!(cost.times(false, 0.0).map(|(_, mean)| mean), Some(0.3));
        cost.abandoned(false, MS(5000), 0.0);
        assert!(cost.time(false, 0.0) > Some(1.5));
    }

    #[test]
    fn noise_leaves_the_decision_to_the_load_and_the_unknown_costs_the_same() {
        let quote = |time, load| Quote { time, mean: time, penalty: 1.0, load };
        assert!(!quote(Some(0.31), 1.0).exceeds(quote(Some(0.2), 1.0)));
        assert!(quote(Some(0.2), 2.0).exceeds(quote(Some(0.31), 1.0)));
        assert!(quote(Some(2.0), 1.0).exceeds(quote(Some(0.2), 5.0)));
        assert!(quote(None, 2.0).exceeds(quote(Some(9.0), 1.0)));
        assert!(!quote(None, 1.0).exceeds(quote(Some(0.1), 1.0)));
        assert!(quote(Some(2.0), 1.0).exceeds(quote(Some(0.2), 99.0)), "a tenfold time outweighs a hundredfold load");
        let lasting = |mine, its| quote(None, mine).exceeds_lastingly(2.0, quote(None, its));
        assert!(!lasting(5.0, 1.0) && lasting(7.0, 1.0));
    }
}
