//! The detector of a storm, from the invalid requests and the calls between them.

use std::{collections::VecDeque, time::Duration};

use crate::layers::caller::UNNAMED;

/// The detector of a storm in the requests of one circuit.
#[derive(Debug)]
pub(crate) struct Storm {
    /// The number of different invalid requests that raise a doubt, at least one.
    doubted: usize,
    seen: VecDeque<InvalidCall>,
    /// The calls that ended well, since the memory was last empty.
    others: u64,
    /// The time of the first of those that are kept, or of those before them.
    begun: u64,
    /// The first callers, up to [`CALLERS`]. No caller is forgotten.
    met: Vec<u64>,
    /// The callers whose probes were called invalid since the circuit is half-open.
    probers: Vec<Option<u64>>,
}

#[derive(Debug)]
struct InvalidCall {
    /// `None` for the request that began the suspicion, since until then no fingerprints are taken.
    fingerprint: Option<u64>,
    /// `None` likewise.
    caller: Option<u64>,
    /// Nanoseconds.
    at: u64,
    others: u64,
}

impl Storm {
    /// Creates a storm detector that believes the first `believed` invalid requests.
    pub(crate) fn new(believed: u32) -> Self {
        let doubted = usize::try_from(believed).unwrap_or(usize::MAX).saturating_add(1);
        Self { doubted, seen: VecDeque::new(), others: 0, begun: 0, met: Vec::new(), probers: Vec::new() }
    }

    /// Records a caller.
    pub(crate) fn meet(&mut self, caller: u64) {
        if self.met.len() == CALLERS || self.met.contains(&caller) {
            return;
        }
        self.met.push(caller);
        for other in 0..self.met.len() - 1 {
            self.keep_share(Some(self.met[other]), self.share());
        }
    }

    /// Returns the number of different requests that may be one caller's.
    fn share(&self) -> usize {
        DISTINCT.div_ceil(self.met.len().max(1))
    }

    /// Records one invalid request, after `others` calls that ended well; returns true if this makes a storm.
    pub(crate) fn observe(&mut self, fingerprint: Option<u64>, caller: Option<u64>, at: u64, others: u64) -> bool {
        self.others = self.others.saturating_add(others);
        // The same request again is the same caller's bug.
        if self.seen.iter().any(|seen| seen.fingerprint == fingerprint || fingerprint.is_none()) {
            return false;
        }
        if self.seen.is_empty() {
            self.begun = at;
        }
        self.keep_share(caller, self.share() - 1);
        if self.seen.len() == DISTINCT {
            self.seen.pop_front();
        }
        self.seen.push_back(InvalidCall { fingerprint, caller, at, others: self.others });
        let within = |from: u64| u128::from(at.saturating_sub(from)) <= SPAN.as_nanos();
        let is_alone = self.met.len() < 2 && caller.is_some_and(|caller| caller != UNNAMED);
        self.seen.len() == DISTINCT
            && self.seen.front().is_some_and(|first| within(first.at) && self.others - first.others <= DISTINCT as u64)
            && !(is_alone && within(self.begun))
    }

    /// Removes a request that another provider calls invalid too.
    pub(crate) fn withdraw(&mut self, fingerprint: u64) {
        self.seen.retain(|seen| seen.fingerprint != Some(fingerprint));
    }

    /// Records a probe that was called invalid after a storm had opened the circuit; returns whether the storm goes
    /// on. It takes as many different callers as a new storm.
    pub(crate) fn goes_on(&mut self, caller: Option<u64>) -> bool {
        if !self.probers.contains(&caller) {
            self.probers.push(caller);
        }
        self.probers.len() >= self.met.len()
    }

    /// Keeps so many of one caller's requests, the newest.
    fn keep_share(&mut self, caller: Option<u64>, share: usize) {
        let of_caller = self.seen.iter().filter(|seen| seen.caller == caller).count();
        let mut over = of_caller.saturating_sub(share);
        self.seen.retain(|seen| {
            let goes = over > 0 && seen.caller == caller;
            over -= usize::from(goes);
            !goes
        });
    }

    /// Returns whether the last call, which was called invalid, may well not be its caller's mistake.
    pub(crate) fn is_doubtful(&self) -> bool {
        let first = self.seen.len().checked_sub(self.doubted).and_then(|first| self.seen.get(first));
        self.doubted == 1 || first.is_some_and(|first| self.others - first.others <= self.doubted as u64)
    }

    /// Clears all but the grounds of doubts: a circuit that opens and closes again must not believe the same errors
    /// again. Returns whether there are any.
    pub(crate) fn keep_doubts(&mut self) -> bool {
        self.probers.clear();
        self.seen.drain(..self.seen.len().saturating_sub(self.doubted));
        !self.seen.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.probers.clear();
        self.seen.clear();
        self.others = 0;
    }
}

/// The different invalid requests that make a storm.
pub(crate) const DISTINCT: usize = 20;
/// The calls in a row that ended well after which no storm can include the requests before them: those may be
/// dropped.
pub(crate) const CALM: u32 = DISTINCT as u32 + 1;
/// The number of callers that a storm takes, once as many have been met.
const CALLERS: usize = 4;
const SPAN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn twenty_different_invalid_requests_in_a_minute_are_a_storm() {
        let mut storm = Storm::new(2);
        let calls: Vec<_> = (0..20).map(|n| storm.observe(Some(n), None, n * 3 * SECOND, 0)).collect();
        assert_eq!(calls.iter().position(|&found| found), Some(19));
    }

    #[test]
    fn requests_without_a_fingerprint_count_as_one() {
        let mut storm = Storm::new(2);
        assert!((0..1000).all(|n| !storm.observe(None, None, n, 0)));
        assert_eq!((1000..).position(|n| storm.observe(Some(n), None, n, 0)), Some(18));
    }

    #[test]
    fn one_bad_request_repeated_is_no_storm() {
        let mut storm = Storm::new(2);
        assert!((0..1000).all(|n| !storm.observe(Some(n % 19), None, n, 0)));
    }

    #[test]
    fn slower_than_twenty_a_minute_is_no_storm() {
        let mut storm = Storm::new(2);
        assert!((0..1000).all(|n| !storm.observe(Some(n), None, n * 4 * SECOND, 0)));
    }

    #[test]
    fn the_third_different_one_is_doubtful_however_far_apart() {
        let hour = 3600 * SECOND;
        let mut storm = Storm::new(2);
        let mut observe = |request, at, others| {
            assert!(!storm.observe(request, None, at, others));
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
            (0..40).for_each(|n| assert!(!storm.observe(Some(n), None, n * 3600 * SECOND, 0)));
            assert_eq!(storm.is_doubtful(), doubtful, "{believed}");
        }
    }

    #[test]
    fn half_of_the_calls_are_a_storm_and_a_third_are_not() {
        let mut half = Storm::new(2);
        assert!((0..100).any(|n| half.observe(Some(n), None, n, 1)));
        let mut third = Storm::new(2);
        assert!((0..100).all(|n| !third.observe(Some(n), None, n, 2)));
    }

    /// A storm detector that has met this many callers.
    fn met(callers: u64) -> Storm {
        let mut storm = Storm::new(2);
        (0..callers).for_each(|caller| storm.meet(caller));
        storm
    }

    #[test]
    fn one_caller_alone_makes_no_storm_where_several_call() {
        let mut storm = met(2);
        assert!((0..1000).all(|n| !storm.observe(Some(n), Some(0), n, 0)));
        // Nor with a few mistakes of another.
        assert!((1000..1009).all(|n| !storm.observe(Some(n), Some(1), n, 0)));
        assert!(storm.observe(Some(1009), Some(1), 1009, 0), "ten of each");
    }

    #[test]
    fn fewer_callers_than_have_been_met_make_no_storm_up_to_four() {
        for (callers, most_of_each) in [(2, 10), (3, 7), (4, 5), (5, 5), (100, 5)] {
            for guilty in 1..callers.min(4) {
                let mut storm = met(callers);
                assert!((0..1000).all(|n| !storm.observe(Some(n), Some(n % guilty), n, 0)), "{guilty} of {callers}");
                assert_eq!(storm.seen.len() as u64, most_of_each * guilty, "{guilty} of {callers}");
            }
        }
    }

    #[test]
    fn a_provider_that_calls_everyones_requests_invalid_makes_a_storm() {
        for callers in [2, 3, 4, 5, 7, 20, 100] {
            let mut storm = met(callers);
            let found = (0..1000).position(|n| storm.observe(Some(n), Some(n % callers), n, 0));
            assert!(found.is_some_and(|found| (19..=20).contains(&found)), "{callers}: {found:?}");
        }
    }

    #[test]
    fn each_newly_met_caller_cuts_the_others_shares() {
        let mut storm = met(1);
        assert!((0..19).all(|n| !storm.observe(Some(n), Some(0), n, 0)));
        for (caller, left) in [(1, 10), (2, 7), (3, 5), (4, 5)] {
            storm.meet(caller);
            assert_eq!(storm.seen.len(), left);
            assert!(storm.seen.iter().map(|call| call.at).eq(19 - left as u64..19), "the newest");
        }
        let mut storm = met(2);
        assert!((0..19).all(|n| !storm.observe(Some(n), Some(n % 2), n, 0)));
        storm.meet(2);
        assert_eq!(storm.seen.len(), 14);
        assert!(!storm.observe(Some(19), Some(2), 19, 0));
    }

    #[test]
    fn a_lone_caller_with_a_name_is_believed_after_a_minute() {
        let mut storm = Storm::new(2);
        storm.meet(7);
        let found = (0..100).position(|n| storm.observe(Some(n), Some(7), n * SECOND, 0));
        assert_eq!(found, Some(61));
        let mut nobodys = Storm::new(2);
        nobodys.meet(UNNAMED);
        assert_eq!((0..100).position(|n| nobodys.observe(Some(n), Some(UNNAMED), n * SECOND, 0)), Some(19));
    }

    #[test]
    fn what_another_provider_calls_a_mistake_is_no_evidence() {
        let mut storm = Storm::new(2);
        for n in 0..1000 {
            assert!(!storm.observe(Some(n), None, n, 0));
            if storm.is_doubtful() {
                storm.withdraw(n);
            }
        }
        assert_eq!(storm.seen.len(), 2);
        assert!(!storm.is_doubtful());
    }

    #[test]
    fn probes_of_fewer_callers_than_make_a_storm_do_not_keep_it_going() {
        for callers in [1, 2, 3, 4, 5, 100] {
            let mut storm = met(callers);
            for _ in 0..2 {
                let most = callers.min(4) - 1;
                assert!((0..10 * most).all(|n| !storm.goes_on(Some(n % most))), "{callers}");
                assert!(storm.goes_on(Some(callers)), "{callers}");
                storm.keep_doubts();
            }
        }
        assert!(met(0).goes_on(None));
    }
}
