//! Recent outcomes: the last N calls or the last T seconds, in constant time and space, without a lock.
//!
//! A window belongs to one *generation* of the circuit at a time. [`History::restart`] empties it in constant time,
//! because every record carries the generation that wrote it: a straggler of an earlier one cannot count in a later
//! one.

use std::{num::NonZeroU32, time::Duration};

use crate::internal::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The span that a [`History`] covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// The last calls that ended, exactly; at most [`MOST_CALLS`] of them.
    Calls(NonZeroU32),
    /// The last stretch of time, in steps of a tenth; at least [`SHORTEST`].
    Time(Duration),
}

/// One call that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) failure: bool,
    pub(super) slow: bool,
}

/// The totals of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
}

#[derive(Debug)]
pub(super) enum History {
    Calls(CountWindow),
    Time(TimeWindow),
}

impl History {
    pub(super) fn new(span: Span) -> Self {
        match span {
            Span::Calls(calls) => Self::Calls(CountWindow::new(calls)),
            Span::Time(length) => Self::Time(TimeWindow::new(length)),
        }
    }

    /// Counts `sample` at `at` (nanoseconds, any origin), or nothing if `generation` is over.
    pub(super) fn record(&self, generation: u32, sample: Sample, at: impl FnOnce() -> u64) {
        match self {
            Self::Calls(window) => window.record(generation, sample),
            Self::Time(window) => window.record(generation, sample, at()),
        }
    }

    pub(super) fn totals(&self, generation: u32, at: impl FnOnce() -> u64) -> Totals {
        match self {
            Self::Calls(window) => window.totals(generation),
            Self::Time(window) => window.totals(generation, at()),
        }
    }

    /// Clears the window: from now on only records of `generation` count. Callers hold the circuit's lock.
    pub(super) fn restart(&self, generation: u32) {
        match self {
            Self::Calls(window) => window.restart(generation),
            // Its epochs grow with the generation, so older ones have left the window already.
            Self::Time(_) => {}
        }
    }
}

/// The last N calls: a ring whose cells are swapped one by one, and running totals.
///
/// A bad call enters the totals before it enters the ring, and leaves them after it has left the ring. Between two
/// threads the totals may therefore be ahead by the calls being written, and never below the truth.
#[derive(Debug)]
pub(super) struct CountWindow {
    /// `tag << 2 | slow << 1 | failure`
    cells: Box<[AtomicU32]>,
    /// The calls ever recorded; the next cell is this modulo the length.
    cursor: AtomicU64,
    /// The cursor when the current generation began.
    start: AtomicU64,
    /// `tag << 42 | failures << 21 | slow`
    totals: AtomicU64,
}

impl CountWindow {
    fn new(calls: NonZeroU32) -> Self {
        let length = calls.get().min(MOST_CALLS);
        Self {
            cells: (0..length).map(|_| AtomicU32::new(0)).collect(),
            cursor: AtomicU64::new(0),
            start: AtomicU64::new(0),
            totals: AtomicU64::new(0),
        }
    }

    fn record(&self, generation: u32, sample: Sample) {
        let tag = tag(generation);
        let bits = u32::from(sample.slow) << 1 | u32::from(sample.failure);
        if bits != 0 && !self.shift(tag, bits, u64::saturating_add) {
            return;
        }
        let position = self.cursor.fetch_add(1, Ordering::Relaxed) % self.cells.len() as u64;
        let evicted = self.cells[position as usize].swap(tag << 2 | bits, Ordering::AcqRel);
        if evicted & 0b11 != 0 {
            self.shift(evicted >> 2, evicted & 0b11, u64::saturating_sub);
        }
    }

    /// Moves the totals by one call; returns false if they belong to another generation.
    fn shift(&self, tag: u32, bits: u32, by: fn(u64, u64) -> u64) -> bool {
        let moved = |word: u64| {
            if (word >> (2 * COUNT_BITS)) as u32 != tag {
                return None;
            }
            let failures = by(word >> COUNT_BITS & COUNT_MASK, u64::from(bits & 1));
            let slow = by(word & COUNT_MASK, u64::from(bits >> 1));
            Some(u64::from(tag) << (2 * COUNT_BITS) | failures.min(COUNT_MASK) << COUNT_BITS | slow.min(COUNT_MASK))
        };
        self.totals.fetch_update(Ordering::AcqRel, Ordering::Acquire, moved).is_ok()
    }

    fn totals(&self, generation: u32) -> Totals {
        let word = self.totals.load(Ordering::Acquire);
        if (word >> (2 * COUNT_BITS)) as u32 != tag(generation) {
            return Totals::default();
        }
        let recorded = self.cursor.load(Ordering::Acquire).wrapping_sub(self.start.load(Ordering::Acquire));
        let calls = recorded.min(self.cells.len() as u64);
        // Another thread's call may be in the totals and not in the ring yet.
        Totals { calls, failures: (word >> COUNT_BITS & COUNT_MASK).min(calls), slow: (word & COUNT_MASK).min(calls) }
    }

    fn restart(&self, generation: u32) {
        self.start.store(self.cursor.load(Ordering::Acquire), Ordering::Release);
        self.totals.store(u64::from(tag(generation)) << (2 * COUNT_BITS), Ordering::Release);
    }
}

/// The last stretch of time: a ring of [`BUCKETS`] steps, each tally packed with the epoch it belongs to.
///
/// The oldest step leaves as a whole, so the window covers between nine and ten tenths of its length.
#[derive(Debug)]
pub(super) struct TimeWindow {
    buckets: Box<[Bucket]>,
    /// Nanoseconds.
    width: u64,
}

#[derive(Debug)]
struct Bucket {
    calls: Tally,
    failures: Tally,
    slow: Tally,
}

impl TimeWindow {
    fn new(length: Duration) -> Self {
        let length = length.max(SHORTEST).as_nanos();
        Self {
            buckets: (0..BUCKETS)
                .map(|_| Bucket { calls: Tally::new(), failures: Tally::new(), slow: Tally::new() })
                .collect(),
            width: u64::try_from(length / u128::from(BUCKETS)).unwrap_or(u64::MAX),
        }
    }

    fn record(&self, generation: u32, sample: Sample, at: u64) {
        let epoch = self.epoch(generation, at);
        let bucket = &self.buckets[(epoch % BUCKETS) as usize];
        // First, so that a reader never sees more failures than calls.
        if !bucket.calls.add(epoch) {
            return;
        }
        if sample.failure {
            bucket.failures.add(epoch);
        }
        if sample.slow {
            bucket.slow.add(epoch);
        }
    }

    fn totals(&self, generation: u32, at: u64) -> Totals {
        let newest = self.epoch(generation, at);
        let oldest = newest.saturating_sub(BUCKETS - 1);
        self.buckets.iter().fold(Totals::default(), |sum, bucket| Totals {
            // In the reverse of the order of writing, for the same reason.
            slow: sum.slow + bucket.slow.count(oldest, newest),
            failures: sum.failures + bucket.failures.count(oldest, newest),
            calls: sum.calls + bucket.calls.count(oldest, newest),
        })
    }

    /// Returns the number of the step. Each generation jumps ahead by two rings, past all that earlier ones have
    /// written.
    fn epoch(&self, generation: u32, at: u64) -> u64 {
        (at / self.width).wrapping_add(u64::from(generation) * 2 * BUCKETS) & EPOCH_MASK
    }
}

/// `epoch << 24 | count`
#[derive(Debug)]
struct Tally(AtomicU64);

impl Tally {
    fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds one; returns false if the step has left the window, or is full (its proportions are then kept as they
    /// are).
    fn add(&self, epoch: u64) -> bool {
        let added = |word: u64| {
            let (tallied, count) = (word >> TALLY_BITS, word & TALLY_MASK);
            if tallied < epoch {
                Some(epoch << TALLY_BITS | 1)
            } else if tallied == epoch && count < TALLY_MASK {
                Some(word + 1)
            } else {
                None
            }
        };
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, added).is_ok()
    }

    fn count(&self, oldest: u64, newest: u64) -> u64 {
        let word = self.0.load(Ordering::Acquire);
        if (oldest..=newest).contains(&(word >> TALLY_BITS)) { word & TALLY_MASK } else { 0 }
    }
}

fn tag(generation: u32) -> u32 {
    generation & TAG_MASK
}

/// The longest window of calls: four megabytes of cells.
pub(super) const MOST_CALLS: u32 = 1 << 20;
/// The shortest window of time: ten steps of the timer's own resolution.
pub(super) const SHORTEST: Duration = Duration::from_millis(10);

const BUCKETS: u64 = 10;
const COUNT_BITS: u32 = 21;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const TAG_MASK: u32 = (1 << 22) - 1;
const TALLY_BITS: u32 = 24;
const TALLY_MASK: u64 = (1 << TALLY_BITS) - 1;
/// At the smallest step, a millisecond, 34 years.
const EPOCH_MASK: u64 = (1 << 40) - 1;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const OK: Sample = Sample { failure: false, slow: false };
    const FAILURE: Sample = Sample { failure: true, slow: false };

    fn count(samples: impl Iterator<Item = Sample>) -> Totals {
        samples.fold(Totals::default(), |sum, sample| Totals {
            calls: sum.calls + 1,
            failures: sum.failures + u64::from(sample.failure),
            slow: sum.slow + u64::from(sample.slow),
        })
    }

    fn random_sample(rng: &mut fastrand::Rng) -> Sample {
        Sample { failure: rng.u8(..) < 80, slow: rng.u8(..) < 40 }
    }

    fn calls(length: u32) -> CountWindow {
        CountWindow::new(NonZeroU32::new(length).expect("a length"))
    }

    #[test]
    fn count_window_equals_a_queue_over_a_million_calls() {
        let mut rng = fastrand::Rng::with_seed(0x5eed);
        for length in [1, 2, 7, 100, 1000] {
            let window = calls(length);
            let mut queue = VecDeque::new();
            let mut generation = 0;
            for _ in 0..200_000 {
                if rng.u16(..) < 20 {
                    generation += 1;
                    window.restart(generation);
                    queue.clear();
                }
                let sample = random_sample(&mut rng);
                window.record(generation, sample);
                queue.push_back(sample);
                if queue.len() > length as usize {
                    queue.pop_front();
                }
                if rng.u8(..) < 8 || queue.len() < 3 {
                    assert_eq!(window.totals(generation), count(queue.iter().copied()));
                }
            }
        }
    }

    #[test]
    fn time_window_equals_a_queue_over_a_million_calls() {
        let mut rng = fastrand::Rng::with_seed(0x71e);
        for length in [
            Duration::from_millis(10),
            Duration::from_millis(500),
            Duration::from_secs(60),
            Duration::from_secs(86_400),
        ] {
            let window = TimeWindow::new(length);
            let width = window.width;
            let mut queue: VecDeque<(u64, Sample)> = VecDeque::new();
            let (mut at, mut generation) = (0, 0);
            for _ in 0..250_000 {
                // Mostly many calls in a step, sometimes a pause of up to three windows.
                at += match rng.u8(..) {
                    0 => rng.u64(0..30 * width),
                    1..40 => rng.u64(0..width),
                    _ => rng.u64(0..width / 50),
                };
                if rng.u16(..) < 20 {
                    generation += 1;
                    queue.clear();
                }
                let sample = random_sample(&mut rng);
                window.record(generation, sample, at);
                queue.push_back((at / width, sample));
                while queue.front().is_some_and(|(step, _)| step + BUCKETS <= at / width) {
                    queue.pop_front();
                }
                if rng.u8(..) < 8 || queue.len() < 3 {
                    let expected = count(queue.iter().map(|(_, sample)| *sample));
                    assert_eq!(window.totals(generation, at), expected);
                }
            }
        }
    }

    #[test]
    fn window_of_half_a_second_is_half_a_second() {
        let window = TimeWindow::new(Duration::from_millis(500));
        let millis = |ms: u64| ms * 1_000_000;
        window.record(0, FAILURE, millis(0));
        assert_eq!(window.totals(0, millis(449)).failures, 1);
        assert_eq!(window.totals(0, millis(499)).failures, 1);
        assert_eq!(window.totals(0, millis(500)).failures, 0);
    }

    #[test]
    fn straggler_of_an_earlier_generation_is_not_counted() {
        let window = calls(4);
        window.record(0, FAILURE);
        window.restart(1);
        window.record(0, FAILURE);
        assert_eq!(window.totals(1).failures, 0);
        window.record(1, FAILURE);
        assert_eq!(window.totals(1).failures, 1);

        let window = TimeWindow::new(Duration::from_secs(1));
        window.record(1, FAILURE, 0);
        window.record(0, FAILURE, 0);
        assert_eq!(window.totals(1, 0).failures, 1);
    }

    #[test]
    fn late_clock_of_another_thread_lands_in_its_own_step() {
        let window = TimeWindow::new(Duration::from_secs(10));
        let second = 1_000_000_000;
        window.record(0, OK, 5 * second);
        window.record(0, FAILURE, 4 * second);
        // A time before the window: a newer step has taken its place.
        window.record(0, OK, 14 * second);
        window.record(0, FAILURE, 4 * second);
        let now = window.totals(0, 14 * second);
        assert_eq!((now.calls, now.failures), (2, 0));
    }

    #[test]
    fn threads_lose_no_call() {
        let (by_calls, by_time) = (calls(256), TimeWindow::new(Duration::from_secs(60)));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (by_calls, by_time) = (&by_calls, &by_time);
                scope.spawn(move || {
                    for call in 0..20_000_u64 {
                        let failure = (call + thread) % 2 == 0;
                        let sample = Sample { failure, slow: failure };
                        by_calls.record(0, sample);
                        by_time.record(0, sample, call);
                    }
                });
            }
        });
        let cells = by_calls.cells.iter();
        let failures = cells.filter(|c| c.load(Ordering::Relaxed) & 1 == 1).count();
        assert_eq!(by_calls.totals(0).failures, failures as u64);
        assert_eq!(by_calls.totals(0).calls, 256);
        let totals = by_time.totals(0, 0);
        assert_eq!((totals.calls, totals.failures, totals.slow), (80_000, 40_000, 40_000));
    }

    proptest! {
        #[test]
        fn no_span_and_no_moment_panics(
            length in 0_u64..u64::MAX, at in 0_u64..u64::MAX, generation in 0_u32..u32::MAX,
        ) {
            let window = TimeWindow::new(Duration::from_nanos(length));
            window.record(generation, FAILURE, at);
            prop_assert!(window.totals(generation, at).failures <= 1);
        }
    }
}
