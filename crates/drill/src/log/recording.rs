//! The recorded requests in order of arrival, and how a call of today fares by them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    faults::{fault, late_fault},
    line::{LoggedCheck, LoggedEnd, LoggedRequest},
};
use crate::{
    scenario::file::FaultSpec,
    traffic::{DrillRequest, Question},
};
use steadfast::ErrorKind;

/// The time around a moment in which a tier's calls tell of it.
const WINDOW: Duration = Duration::from_secs(10);

/// The requests of a log. Times count from the first arrival.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recording {
    pub(crate) requests: Vec<RecordedRequest>,
    pub(crate) tiers: Vec<RecordedTier>,
}

/// A request as it ended.
#[derive(Clone, Debug)]
pub(crate) struct RecordedRequest {
    pub(crate) at: Duration,
    feature: Arc<str>,
    key: Option<Arc<str>>,
    session: Option<u32>,
    pub(crate) stream: bool,
    pub(crate) end: RecordedEnd,
    /// The tier that served, by its index.
    pub(crate) tier: Option<usize>,
    pub(crate) first_token: Option<Duration>,
    took: Duration,
    /// Its calls in order, each with its tier.
    calls: Vec<(usize, RecordedCall)>,
    /// The tiers that were not called, because they were out.
    passed_over: Vec<usize>,
    /// The failure, if there was one.
    failure: Option<ErrorKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordedEnd {
    Answered,
    Degraded,
    HandedOff,
    /// A justified error, or a caller that left before an answer.
    Refused,
    Lost,
}

/// A call of a tier's provider.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RecordedCall {
    /// Its begin.
    pub(crate) at: Duration,
    pub(crate) fault: Option<FaultSpec>,
    /// True if the request itself is the reason for the failure.
    is_callers_own: bool,
    /// The time to the first token, or to the error.
    pub(crate) first: Duration,
    /// The time from there to the end.
    pub(crate) rest: Duration,
    /// The wait that the provider asked for.
    pub(crate) retry_after: Option<Duration>,
}

/// A tier of the log.
#[derive(Clone, Debug)]
pub(crate) struct RecordedTier {
    pub(crate) name: Arc<str>,
    /// The calls that say something of its provider, in order of time.
    pub(crate) calls: Vec<RecordedCall>,
    /// All calls for a request.
    pub(crate) attempts: u64,
    pub(crate) failures: u64,
    pub(crate) answered: u64,
}

impl RecordedRequest {
    fn is_lost(&self) -> bool {
        self.end == RecordedEnd::Lost
    }

    /// Returns whether it got less than a full answer.
    fn got_less(&self) -> bool {
        matches!(self.end, RecordedEnd::Lost | RecordedEnd::Degraded | RecordedEnd::HandedOff)
    }
}

impl RecordedCall {
    pub(crate) fn fails(&self) -> bool {
        self.fault.is_some()
    }
}

impl RecordedTier {
    /// Returns how a call fares that the log does not have: like one of the ten seconds around, drawn by `roll`, or
    /// else like the last before, or else like the first.
    fn drawn(&self, at: Duration, roll: f64) -> Option<&RecordedCall> {
        let begin = self.calls.partition_point(|call| call.at < at.saturating_sub(WINDOW / 2));
        let end = self.calls.partition_point(|call| call.at <= at + WINDOW / 2);
        if begin < end {
            let place = begin + (roll * (end - begin) as f64) as usize;
            return self.calls.get(place.min(end - 1));
        }
        begin.checked_sub(1).map_or_else(|| self.calls.first(), |last| self.calls.get(last))
    }
}

impl Recording {
    /// Returns the traffic: each request at its own time. `keeps` says whether a tier has kept answers.
    ///
    /// Each request asks something new, but one with a kept answer: it asks what a request of its feature asked before.
    pub(crate) fn traffic(&self, keeps: impl Fn(&str) -> bool) -> Vec<DrillRequest> {
        let keeps: Vec<bool> = self.tiers.iter().map(|tier| keeps(&tier.name)).collect();
        let mut answered: HashMap<&str, usize> = HashMap::new();
        let mut asks = Vec::with_capacity(self.requests.len());
        for (number, request) in self.requests.iter().enumerate() {
            let is_kept = request.tier.is_some_and(|tier| keeps[tier]);
            let asked = answered.get(&*request.feature).copied().filter(|_| is_kept).unwrap_or(number);
            if request.end == RecordedEnd::Answered {
                answered.insert(&request.feature, number);
            }
            // A caller's own limit is over, or it has left.
            let is_over = request.end == RecordedEnd::Refused && request.failure.is_none();
            let time = request.failure == Some(ErrorKind::Deadline);
            asks.push(DrillRequest {
                number,
                at: request.at,
                feature: request.feature.clone(),
                key: request.key.clone(),
                session: request.session,
                stream: request.stream,
                wrong: request.end == RecordedEnd::Refused,
                caller: 0.0,
                runaway: false,
                leaves_after: is_over.then_some(request.took),
                time: time.then_some(request.took),
                question: Question::Number(asked),
            });
        }
        asks
    }

    /// Returns the index of the tier of this name.
    pub(crate) fn tier(&self, name: &str) -> Option<usize> {
        self.tiers.iter().position(|tier| *tier.name == *name)
    }

    /// Returns whether a tier is out for a request, as it was: it got less than a full answer, and the
    /// tier's circuit refused it.
    ///
    /// Nothing is sent, so that a call that never was changes no circuit.
    pub(crate) fn is_out(&self, tier: usize, number: usize) -> bool {
        self.requests.get(number).is_some_and(|request| {
            let called = request.calls.iter().any(|(place, _)| *place == tier);
            request.got_less() && !called && request.passed_over.contains(&tier)
        })
    }

    /// Returns how a call for a request fares at a tier: its `nth` there, from 0.
    ///
    /// - A call that the log has fares as it did.
    /// - A further one fares like the last, if that answered or the request was lost.
    /// - A request that was wrong is wrong everywhere.
    /// - Any other is [drawn](RecordedTier::drawn).
    pub(crate) fn call(
        &self,
        tier: usize,
        number: Option<usize>,
        nth: usize,
        at: Duration,
        roll: f64,
    ) -> Option<RecordedCall> {
        let of = &self.tiers[tier];
        let Some(request) = number.and_then(|number| self.requests.get(number)) else {
            return of.drawn(at, roll).cloned();
        };
        let own = || request.calls.iter().filter(|(place, _)| *place == tier).map(|(_, call)| call);
        let last = own().next_back().filter(|call| request.is_lost() || !call.fails());
        let known = own().nth(nth).or(last);
        let is_wrong = |call: &&RecordedCall| call.fault == Some(FaultSpec::BadRequest);
        let wrong = request.calls.iter().map(|(_, call)| call).find(is_wrong);
        let wrong = wrong.filter(|_| request.failure == Some(ErrorKind::InvalidRequest));
        known.or(wrong).or_else(|| of.drawn(at, roll)).cloned()
    }
}

/// Puts a recording together, request by request.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    requests: Vec<(Duration, RecordedRequest)>,
    checks: Vec<(usize, Duration, RecordedCall)>,
    tiers: Vec<Arc<str>>,
    features: HashMap<String, Arc<str>>,
    keys: HashMap<String, Arc<str>>,
    sessions: HashMap<String, u32>,
}

/// The feature of requests without one.
const UNNAMED: &str = "default";

impl Assembly {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn add(&mut self, logged: LoggedRequest) {
        let mut calls = Vec::with_capacity(logged.failures.len() + 1);
        let mut passed_over = Vec::new();
        let mut begin = logged.at;
        for failure in &logged.failures {
            let Some(tier) = failure.tier.as_deref().map(|name| self.tier(name)) else { continue };
            let played = fault(failure.kind, failure.status, failure.retry_after).filter(|_| !failure.is_local);
            let Some(played) = played else {
                if failure.kind == ErrorKind::CircuitOpen {
                    passed_over.push(tier);
                }
                continue;
            };
            // Of an answer that broke, the log has the whole time.
            let rest = match played {
                FaultSpec::CutAfter(_) if logged.stream => failure.took / 2,
                _ => Duration::ZERO,
            };
            let is_callers_own = failure.kind.is_callers_own();
            let first = failure.took.saturating_sub(rest);
            let (retry_after, fault) = (failure.retry_after, Some(played));
            calls.push((tier, RecordedCall { at: begin, fault, is_callers_own, first, rest, retry_after }));
            begin += failure.took;
        }
        let tier = logged.tier.as_deref().map(|name| self.tier(name));
        if let Some(tier) = tier {
            let until_first = logged.first_token.unwrap_or(logged.took);
            let fault = match logged.end {
                LoggedEnd::Broken(kind) => Some(late_fault(kind)),
                _ => None,
            };
            let call = RecordedCall {
                at: logged.at + until_first.saturating_sub(logged.served_in),
                fault,
                is_callers_own: false,
                first: logged.served_in,
                rest: logged.took.saturating_sub(until_first),
                retry_after: None,
            };
            calls.push((tier, call));
        }
        let (end, failure) = match logged.end {
            LoggedEnd::Answered { handed_off: true, .. } => (RecordedEnd::HandedOff, None),
            LoggedEnd::Answered { degraded: true, .. } => (RecordedEnd::Degraded, None),
            LoggedEnd::Answered { .. } => (RecordedEnd::Answered, None),
            // The answer had begun.
            LoggedEnd::Abandoned if tier.is_some() => (RecordedEnd::Answered, None),
            LoggedEnd::Abandoned => (RecordedEnd::Refused, None),
            LoggedEnd::Failed(kind) if kind.is_callers_own() => (RecordedEnd::Refused, Some(kind)),
            LoggedEnd::Failed(kind) | LoggedEnd::Broken(kind) => (RecordedEnd::Lost, Some(kind)),
        };
        let sessions = self.sessions.len();
        let session = logged
            .session
            .map(|name| *self.sessions.entry(name).or_insert_with(|| u32::try_from(sessions).unwrap_or(u32::MAX)));
        let request = RecordedRequest {
            at: Duration::ZERO,
            feature: shared(&mut self.features, logged.feature.unwrap_or_else(|| UNNAMED.to_owned())),
            key: logged.key.map(|key| shared(&mut self.keys, key)),
            session,
            stream: logged.stream,
            end,
            tier,
            first_token: logged.first_token,
            took: logged.took,
            calls,
            passed_over,
            failure,
        };
        self.requests.push((logged.at, request));
    }

    pub(super) fn add_check(&mut self, check: LoggedCheck) {
        let tier = self.tier(&check.tier);
        let fault = check.failure.and_then(|kind| fault(kind, None, None));
        if check.failure.is_some() && fault.is_none() {
            return;
        }
        let (first, rest, is_callers_own) = (check.took, Duration::ZERO, false);
        let call = RecordedCall { at: check.at, fault, is_callers_own, first, rest, retry_after: None };
        self.checks.push((tier, check.at, call));
    }

    fn tier(&mut self, name: &str) -> usize {
        let place = self.tiers.iter().position(|known| **known == *name);
        place.unwrap_or_else(|| {
            self.tiers.push(name.into());
            self.tiers.len() - 1
        })
    }

    /// Returns the recording, and the time of its first arrival since 1970.
    pub(super) fn finish(self) -> (Recording, Duration) {
        let Self { mut requests, checks, tiers, .. } = self;
        requests.sort_by_key(|(at, _)| *at);
        let origin = requests.first().map_or(Duration::ZERO, |(at, _)| *at);
        let empty = |name| RecordedTier { name, calls: Vec::new(), attempts: 0, failures: 0, answered: 0 };
        let mut tiers: Vec<RecordedTier> = tiers.into_iter().map(empty).collect();
        for (at, request) in &mut requests {
            request.at = *at - origin;
            for (tier, call) in &mut request.calls {
                call.at = call.at.saturating_sub(origin);
                let of = &mut tiers[*tier];
                of.attempts += 1;
                of.failures += u64::from(call.fails());
                // A request that is wrong says nothing of the provider.
                if !call.is_callers_own {
                    of.calls.push(call.clone());
                }
            }
            if let Some(tier) = request.tier.filter(|_| !request.is_lost()) {
                tiers[tier].answered += 1;
            }
        }
        for (tier, at, mut call) in checks.into_iter().filter(|(_, at, _)| *at >= origin) {
            call.at = at - origin;
            tiers[tier].calls.push(call);
        }
        for tier in &mut tiers {
            tier.calls.sort_by_key(|call| call.at);
        }
        let requests = requests.into_iter().map(|(_, request)| request).collect();
        (Recording { requests, tiers }, origin)
    }
}

fn shared(known: &mut HashMap<String, Arc<str>>, name: String) -> Arc<str> {
    if let Some(known) = known.get(&name) {
        return known.clone();
    }
    let own: Arc<str> = name.as_str().into();
    known.insert(name, own.clone());
    own
}
