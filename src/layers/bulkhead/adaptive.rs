//! A limit that adapts to the provider.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::{ErrorKind, InvalidConfig};

/// A concurrency limit that follows the provider's capacity: additive increase, multiplicative decrease (AIMD).
///
/// An answer that came while at least half of the limit was in use raises the limit by one for each full round of
/// answers. A failure by load (rate limited, overloaded, timed out) multiplies it by the [backoff](Self::backoff),
/// once for all calls that were under way together: their failures are one event. Any other outcome, cancelled
/// calls and callers' mistakes included, shows nothing about load and changes nothing.
///
/// The rule is TCP's congestion avoidance (RFC 5681, section 3.1; Chiu and Jain, 1989), applied to concurrency as
/// Netflix's concurrency-limits does. Latency does not count, on purpose: a language model's follows the length of
/// its answer more than the provider's load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptive {
    min: u16,
    max: u16,
    backoff: f64,
}

/// The factor after a failure. TCP halves; a provider's limit moves less than a network's, and concurrency-limits
/// uses 0.9.
const BACKOFF: f64 = 0.9;

impl Adaptive {
    /// Creates a limit between these bounds. It starts from the feature's limit. A `min` of 0 counts as 1, since a
    /// limit of 0 would never receive an answer again. A `max` below `min` counts as `min`.
    pub fn between(min: u16, max: u16) -> Self {
        let min = min.max(1);
        Self { min, max: max.max(min), backoff: BACKOFF }
    }

    /// Sets the factor by which a failure multiplies the limit. Default: 0.9.
    ///
    /// # Errors
    ///
    /// Fails unless it lies between 0 and 1, both excluded.
    pub fn backoff(mut self, factor: f64) -> Result<Self, InvalidConfig> {
        if !(factor > 0.0 && factor < 1.0) {
            return Err(InvalidConfig::new("backoff", format!("{factor} is not between 0 and 1")));
        }
        self.backoff = factor;
        Ok(self)
    }
}

/// The state of an adaptive limit, in one word: the number of decreases so far in the upper half (the generation),
/// the limit in 65,536ths in the lower one.
#[derive(Debug)]
pub(super) struct Aimd {
    settings: Adaptive,
    word: AtomicU64,
    /// True if another has taken its place.
    retired: AtomicBool,
}

/// One place, in 65,536ths.
const ONE: u64 = 1 << 16;

impl Aimd {
    pub(super) fn new(settings: Adaptive, initial: usize) -> Self {
        let this = Self { settings, word: AtomicU64::new(0), retired: AtomicBool::new(false) };
        this.set(initial);
        this
    }

    /// Stops it from moving any limit, since another takes its place.
    pub(super) fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// Returns the limit.
    pub(super) fn limit(&self) -> usize {
        let (_, limit) = split(self.word.load(Relaxed));
        // At most 65,535.
        (limit / ONE) as usize
    }

    /// Returns the generation for a permit: failures of calls from before the last decrease do not decrease again.
    pub(super) fn generation(&self) -> u32 {
        split(self.word.load(Relaxed)).0
    }

    /// Sets the limit, as near to it as the bounds allow. 0 is closed, until it is set again.
    pub(super) fn set(&self, limit: usize) {
        let Adaptive { min, max, .. } = self.settings;
        let limit = match limit {
            0 => 0,
            _ => u64::try_from(limit).unwrap_or(u64::MAX).clamp(min.into(), max.into()) * ONE,
        };
        self.update(|generation, _| Some((generation, limit)));
    }

    /// Records an answer that came while so many calls were in flight, itself included.
    pub(super) fn answered(&self, in_flight: usize) {
        let (in_flight, max) = (in_flight as u64, u64::from(self.settings.max) * ONE);
        self.update(|generation, limit| {
            let in_use = in_flight.saturating_mul(2 * ONE) >= limit;
            let places = limit / ONE;
            // One more place for as many answers as there are places. Closed stays closed.
            (in_use && places > 0 && limit < max).then(|| (generation, (limit + ONE / places).min(max)))
        });
    }

    /// Records the failure of a call of this generation.
    pub(super) fn failed(&self, kind: ErrorKind, admitted: u32) {
        if !matches!(kind, ErrorKind::RateLimited | ErrorKind::Overloaded | ErrorKind::Timeout) {
            return;
        }
        let Adaptive { min, backoff, .. } = self.settings;
        self.update(|generation, limit| {
            let less = ((limit as f64 * backoff) as u64).max(u64::from(min) * ONE);
            (generation == admitted && limit > 0).then(|| (generation.wrapping_add(1), less))
        });
    }

    fn update(&self, change: impl Fn(u32, u64) -> Option<(u32, u64)>) {
        // An error means that there was nothing to change.
        let _ = self.word.fetch_update(Relaxed, Relaxed, |word| {
            let (generation, limit) = split(word);
            change(generation, limit).map(|(generation, limit)| u64::from(generation) << 32 | limit)
        });
    }
}

fn split(word: u64) -> (u32, u64) {
    ((word >> 32) as u32, word & u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aimd(min: u16, max: u16, initial: usize) -> Aimd {
        Aimd::new(Adaptive::between(min, max).backoff(0.5).unwrap(), initial)
    }

    #[test]
    fn a_round_of_answers_under_load_adds_one_place() {
        let aimd = aimd(1, 100, 10);
        for _ in 0..11 {
            aimd.answered(10);
        }
        assert_eq!(aimd.limit(), 11);
    }

    #[test]
    fn an_idle_limit_does_not_grow() {
        let aimd = aimd(1, 100, 10);
        for _ in 0..1000 {
            aimd.answered(4);
        }
        assert_eq!(aimd.limit(), 10);
    }

    #[test]
    fn failures_of_calls_that_were_under_way_together_shrink_it_once() {
        let aimd = aimd(1, 100, 40);
        let together = aimd.generation();
        for _ in 0..40 {
            aimd.failed(ErrorKind::RateLimited, together);
        }
        assert_eq!(aimd.limit(), 20);
        aimd.failed(ErrorKind::Overloaded, aimd.generation());
        assert_eq!(aimd.limit(), 10);
        aimd.failed(ErrorKind::Timeout, aimd.generation());
        assert_eq!(aimd.limit(), 5);
    }

    #[test]
    fn it_stays_between_its_bounds() {
        let aimd = aimd(3, 12, 1000);
        assert_eq!(aimd.limit(), 12);
        for _ in 0..1000 {
            aimd.answered(12);
        }
        assert_eq!(aimd.limit(), 12);
        for _ in 0..1000 {
            aimd.failed(ErrorKind::Overloaded, aimd.generation());
        }
        assert_eq!(aimd.limit(), 3);
    }

    #[test]
    fn what_says_nothing_of_load_changes_nothing() {
        let aimd = aimd(1, 100, 10);
        for kind in ErrorKind::ALL {
            if !matches!(kind, ErrorKind::RateLimited | ErrorKind::Overloaded | ErrorKind::Timeout) {
                aimd.failed(*kind, aimd.generation());
                assert_eq!(aimd.limit(), 10, "{kind}");
            }
        }
    }

    #[test]
    fn it_finds_what_the_provider_takes() {
        // A provider that takes 30 at once and refuses a whole round that is larger.
        let aimd = Aimd::new(Adaptive::between(1, 200), 1);
        let mut seen = Vec::new();
        for round in 0..2000 {
            let (limit, generation) = (aimd.limit(), aimd.generation());
            for _ in 0..limit {
                match limit {
                    ..=30 => aimd.answered(limit),
                    _ => aimd.failed(ErrorKind::Overloaded, generation),
                }
            }
            if round > 200 {
                seen.push(limit);
            }
        }
        assert_eq!((seen.iter().min(), seen.iter().max()), (Some(&27), Some(&31)));
    }

    #[test]
    fn nonsense_is_refused_or_has_a_plain_meaning() {
        for bad in [0.0, 1.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Adaptive::between(1, 2).backoff(bad).unwrap_err().field(), "backoff");
        }
        assert_eq!(Adaptive::between(0, 0), Adaptive::between(1, 1));
        assert_eq!(Adaptive::between(9, 3), Adaptive::between(9, 9));
        let closed = aimd(2, 9, 0);
        closed.answered(1);
        closed.failed(ErrorKind::Timeout, closed.generation());
        assert_eq!(closed.limit(), 0);
        closed.set(1);
        assert_eq!(closed.limit(), 2);
        let largest = aimd(u16::MAX, u16::MAX, usize::MAX);
        assert_eq!(largest.limit(), 65_535);
    }
}
