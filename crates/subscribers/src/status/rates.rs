//! Calls, failures and latencies of the last minutes, in bounded memory.

use std::time::Duration;

use tokio::time::Instant;

use super::Latency;
use steadfast_internal::histogram::{Coarse, micros};

/// The window slides in steps of this many seconds.
const STEP: u64 = 30;
/// The number of steps: five minutes.
const STEPS: usize = 10;
/// The number of slots: a power of two, so that a slot is found without a division.
const SLOTS: usize = 16;

/// The outcomes of the calls of the last five minutes.
#[derive(Debug)]
pub(super) struct Rates {
    start: Instant,
    /// The newest step with a count, and its end.
    last: (u64, Instant),
    steps: Box<[Step; SLOTS]>,
}

#[derive(Debug, Default)]
struct Step {
    /// The step since the start to which the slot belongs.
    number: u64,
    counts: Counts,
}

/// The sums of one or more steps.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) failures: u64,
    answers: u64,
    micros: u64,
    latencies: Coarse,
}

impl Rates {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, last: (0, start), steps: Box::default() }
    }

    /// Counts a call. `latency` is `None` if it is unknown or there was no answer.
    pub(super) fn record(&mut self, now: Instant, failed: bool, latency: Option<Duration>) {
        let counts = self.counts(now);
        counts.calls += 1;
        counts.failures += u64::from(failed);
        if let Some(latency) = latency {
            counts.add_latency(latency);
        }
    }

    /// Returns the end of the newest step.
    pub(super) fn until(&self) -> Instant {
        self.last.1
    }

    /// Returns the counts of the step of this moment.
    pub(super) fn counts(&mut self, now: Instant) -> &mut Counts {
        // The last step is nearly always the same one; a difference of times and its quotient cost more than all else
        // here. Time never runs back: a late event counts in the newest step.
        let (number, until) = self.last;
        let number = if now < until { number } else { self.step_at(now) };
        let step = &mut self.steps[number as usize % SLOTS];
        if step.number < number {
            *step = Step { number, ..Step::default() };
        }
        &mut step.counts
    }

    /// Returns the sums of the window that ends now.
    pub(super) fn sum(&self, now: Instant) -> Counts {
        let number = self.number(now);
        let oldest = (number + 1).saturating_sub(STEPS as u64);
        let mut sum = Counts::default();
        for step in self.steps.iter().filter(|step| (oldest..=number).contains(&step.number)) {
            sum.add(&step.counts);
        }
        sum
    }

    /// Returns the step of this moment and remembers its end.
    #[cold]
    fn step_at(&mut self, now: Instant) -> u64 {
        let number = self.number(now);
        if let Some(until) = self.start.checked_add(Duration::from_secs((number + 1) * STEP)) {
            self.last = (number, until);
        }
        number
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / STEP
    }
}

impl Counts {
    /// Counts an answer.
    #[inline]
    pub(super) fn count_answer(&mut self, latency: Duration) {
        self.calls += 1;
        self.add_latency(latency);
    }

    #[inline]
    fn add_latency(&mut self, latency: Duration) {
        let micros = micros(latency);
        self.answers += 1;
        self.micros = self.micros.saturating_add(micros);
        self.latencies.add(micros);
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.failures += other.failures;
        self.answers += other.answers;
        self.micros = self.micros.saturating_add(other.micros);
        self.latencies.merge(&other.latencies);
    }

    pub(super) fn failure_rate(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.failures as f64 / self.calls as f64 }
    }

    pub(super) fn latency(&self) -> Option<Latency> {
        let quantile = |share| self.latencies.quantile(self.answers, share).middle() / 1e3;
        (self.answers > 0).then(|| Latency {
            mean_ms: self.micros as f64 / self.answers as f64 / 1e3,
            p50_ms: quantile(0.5),
            p95_ms: quantile(0.95),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn quantiles_are_right_to_an_eighth() {
        let (start, mut random) = (Instant::now(), fastrand::Rng::with_seed(5));
        for scale in [1, 100, 10_000] {
            let mut rates = Rates::new(start);
            let mut all: Vec<u64> = (0..10_000).map(|_| random.u64(1_000..20_000) * scale).collect();
            for micros in &all {
                rates.record(start, false, Some(Duration::from_micros(*micros)));
            }
            all.sort_unstable();
            let latency = rates.sum(start).latency().unwrap();
            for (told, exact) in [(latency.p50_ms, all[4_999]), (latency.p95_ms, all[9_499])] {
                let exact = exact as f64 / 1e3;
                assert!((told - exact).abs() <= exact / 8.0, "{told} for {exact}");
            }
            let mean = all.iter().sum::<u64>() as f64 / 1e7;
            assert!((latency.mean_ms - mean).abs() < mean / 1e6);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_the_window_is_forgotten() {
        let start = Instant::now();
        let mut rates = Rates::new(start);
        rates.record(start, true, None);
        rates.record(start + MS * 60_000, false, Some(MS * 20));
        let sum = rates.sum(start + MS * 299_999);
        assert_eq!((sum.calls, sum.failures, sum.failure_rate()), (2, 1, 0.5));
        let sum = rates.sum(start + MS * 300_000);
        assert_eq!((sum.calls, sum.failures, sum.failure_rate()), (1, 0, 0.0));
        // The slot is used again, and a late event does not clear it.
        rates.record(start + MS * 300_000, false, None);
        rates.record(start, false, None);
        assert_eq!(rates.sum(start + MS * 300_000).calls, 3);
        assert!(rates.sum(start + MS * 10_000_000).latency().is_none());
    }
}
