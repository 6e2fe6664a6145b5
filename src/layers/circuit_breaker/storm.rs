//! A storm of 400s: when the fault of the callers is in truth the provider's.
//!
//! On 2026-03-09 a provider answered 400 to every request for one model, for twenty hours. One bad request says nothing
//! about the provider; many *different* ones that are suddenly all bad do. So the last [`DISTINCT`] different requests that
//! were called invalid are remembered (by a fingerprint), with the number of calls between them that ended well. They are a storm if
//! they lie within [`SPAN`] and no more calls than that have ended well since the first of them.
//!
//! Well before that there is reason to doubt: at the third different one, as it comes without settings, with no more calls that
//! ended well since the first of them, whenever that was. Where traffic is thin, a storm is never seen as one, and each of its
//! callers would be told of a mistake that is not theirs. Nothing is held against the provider then; but another may be asked
//! whether it sees the mistake too.

use std::{collections::VecDeque, time::Duration};

#[derive(Debug)]
pub(super) struct Storm {
    /// Different invalid requests that make it doubtful whose fault they are, at least one.
    doubted: usize,
    seen: VecDeque<Seen>,
    /// Calls that ended well, since the memory was last empty.
    others: u64,
}

#[derive(Debug)]
struct Seen {
    /// `None`: of the one that began the suspicion, for until then nobody takes fingerprints.
    fingerprint: Option<u64>,
    /// Nanoseconds.
    at: u64,
    others: u64,
}

impl Storm {
    /// Of which the first `believed` are taken at their word.
    pub(super) fn new(believed: u32) -> Self {
        let doubted = usize::try_from(believed).unwrap_or(usize::MAX).saturating_add(1);
        Self { doubted, seen: VecDeque::new(), others: 0 }
    }

    /// Takes note of one invalid request, after `others` calls that ended well; true if this makes a storm.
    pub(super) fn observe(&mut self, fingerprint: Option<u64>, at: u64, others: u64) -> bool {
        self.others = self.others.saturating_add(others);
        // The same request again is the same caller's bug.
        if self.seen.iter().any(|seen| seen.fingerprint == fingerprint || fingerprint.is_none()) {
            return false;
        }
        if self.seen.len() == DISTINCT {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen { fingerprint, at, others: self.others });
        self.seen.len() == DISTINCT
            && self.seen.front().is_some_and(|first| {
                u128::from(at.saturating_sub(first.at)) <= SPAN.as_nanos()
                    && self.others - first.others <= DISTINCT as u64
            })
    }

    /// Whether the last call, which was observed as an invalid one, may well not be its caller's mistake.
    pub(super) fn is_doubtful(&self) -> bool {
        let first = self.seen.len().checked_sub(self.doubted).and_then(|first| self.seen.get(first));
        self.doubted == 1 || first.is_some_and(|first| self.others - first.others <= self.doubted as u64)
    }

    /// Forgets all but what doubts are made of: a circuit that opens and closes again does not believe anew what was called invalid.
    /// Whether there is anything of it.
    pub(super) fn keep_doubts(&mut self) -> bool {
        self.seen.drain(..self.seen.len().saturating_sub(self.doubted));
        !self.seen.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.seen.clear();
        self.others = 0;
    }
}

/// Different invalid requests that make a storm.
pub(super) const DISTINCT: usize = 20;
/// After so many calls in a row that ended well no storm can include the requests before them: they may be forgotten.
pub(super) const CALM: u32 = DISTINCT as u32 + 1;
const SPAN: Duration = Duration::from_secs(60);

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn twenty_different_invalid_requests_in_a_minute_are_a_storm() {
        let mut storm = Storm::new(2);
        let calls: Vec<_> = (0..20).map(|n| storm.observe(Some(n), n * 3 * SECOND, 0)).collect();
        assert_eq!(calls.iter().position(|&found| found), Some(19));
    }

    #[test]
    fn requests_without_a_fingerprint_count_as_one() {
        let mut storm = Storm::new(2);
        assert!((0..1000).all(|n| !storm.observe(None, n, 0)));
        assert_eq!((1000..).position(|n| storm.observe(Some(n), n, 0)), Some(18));
    }

    #[test]
    fn one_bad_request_repeated_is_no_storm() {
        let mut storm = Storm::new(2);
        assert!((0..1000).all(|n| !storm.observe(Some(n % 19), n, 0)));
    }

    #[test]
    fn slower_than_twenty_a_minute_is_no_storm() {
        let mut storm = Storm::new(2);
        assert!((0..1000).all(|n| !storm.observe(Some(n), n * 4 * SECOND, 0)));
    }

    #[test]
    fn the_third_different_one_is_doubtful_however_far_apart() {
        let hour = 3600 * SECOND;
        let mut storm = Storm::new(2);
        let mut observe = |request, at, others| {
            assert!(!storm.observe(request, at, others));
            storm.is_doubtful()
        };
        assert_eq!([observe(None, 0, 0), observe(Some(1), hour, 0)], [false, false]);
        assert!(!observe(Some(1), hour, 0), "the same caller's bug");
        assert!(observe(Some(2), 2 * hour, 0));
        assert!(observe(Some(2), 2 * hour, 0), "while nothing else comes");
        assert!(observe(Some(3), 3 * hour, 3), "half of six");
        assert!(!observe(Some(4), 3 * hour, 1), "three of seven");
        assert!(observe(Some(5), 3 * hour, 0), "three of the last four");
    }

    #[test]
    fn who_believes_as_many_as_are_remembered_doubts_none_that_are_far_apart() {
        for (believed, doubtful) in [(19, true), (20, false), (u32::MAX, false)] {
            let mut storm = Storm::new(believed);
            (0..40).for_each(|n| assert!(!storm.observe(Some(n), n * 3600 * SECOND, 0)));
            assert_eq!(storm.is_doubtful(), doubtful, "{believed}");
        }
    }

    #[test]
    fn half_of_the_calls_are_a_storm_and_a_third_are_not() {
        let mut half = Storm::new(2);
        assert!((0..100).any(|n| half.observe(Some(n), n, 1)));
        let mut third = Storm::new(2);
        assert!((0..100).all(|n| !third.observe(Some(n), n, 2)));
    }
}
