//! A storm of 400s: when the fault of the callers is in truth the provider's.
//!
//! On 2026-03-09 a provider answered 400 to every request for one model, for twenty hours. One bad request says nothing
//! about the provider; many *different* ones that are suddenly all bad do. So the last [`DISTINCT`] different requests that
//! were called invalid are remembered (by a fingerprint), with the number of other calls between them. They are a storm if
//! they lie within [`SPAN`] and make up at least half of all calls since the first of them.

use std::{collections::VecDeque, time::Duration};

#[derive(Debug)]
pub(super) struct Storm {
    seen: VecDeque<Seen>,
    /// Calls that ended otherwise, since the memory was last empty.
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
    pub(super) fn new() -> Self {
        Self { seen: VecDeque::new(), others: 0 }
    }

    /// Takes note of one invalid request, after `others` calls that ended otherwise; true if this makes a storm.
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

    pub(super) fn clear(&mut self) {
        self.seen.clear();
        self.others = 0;
    }
}

/// Different invalid requests that make a storm.
pub(super) const DISTINCT: usize = 20;
/// After so many other calls in a row no storm can include the requests before them: they may be forgotten.
pub(super) const CALM: u32 = DISTINCT as u32 + 1;
const SPAN: Duration = Duration::from_secs(60);

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn twenty_different_invalid_requests_in_a_minute_are_a_storm() {
        let mut storm = Storm::new();
        let calls: Vec<_> = (0..20).map(|n| storm.observe(Some(n), n * 3 * SECOND, 0)).collect();
        assert_eq!(calls.iter().position(|&found| found), Some(19));
    }

    #[test]
    fn requests_without_a_fingerprint_count_as_one() {
        let mut storm = Storm::new();
        assert!((0..1000).all(|n| !storm.observe(None, n, 0)));
        assert_eq!((1000..).position(|n| storm.observe(Some(n), n, 0)), Some(18));
    }

    #[test]
    fn one_bad_request_repeated_is_no_storm() {
        let mut storm = Storm::new();
        assert!((0..1000).all(|n| !storm.observe(Some(n % 19), n, 0)));
    }

    #[test]
    fn slower_than_twenty_a_minute_is_no_storm() {
        let mut storm = Storm::new();
        assert!((0..1000).all(|n| !storm.observe(Some(n), n * 4 * SECOND, 0)));
    }

    #[test]
    fn half_of_the_calls_are_a_storm_and_a_third_are_not() {
        let mut half = Storm::new();
        assert!((0..100).any(|n| half.observe(Some(n), n, 1)));
        let mut third = Storm::new();
        assert!((0..100).all(|n| !third.observe(Some(n), n, 2)));
    }
}
