//! A short way for requests that succeed, and for those that another tier serves after a refusal before sending: nearly
//! all requests, and all of them while a circuit is open.

use std::{mem, sync::Arc};

use metrics::{Counter, Histogram};

use super::{
    leaves::{Series, Tally},
    series::Name,
};
use crate::{
    ErrorKind,
    events::{RequestEnded, RequestOutcome},
    ledger::{Attempt, Next},
};

/// The series of a kind of successful request: its feature's, its tier's and its leaf's.
#[derive(Debug)]
pub(super) struct Well {
    names: [Option<Arc<str>>; 4],
    /// The first tier and the kind of its refusal.
    refused: Option<(Option<Arc<str>>, ErrorKind)>,
    stream: bool,
    series: WellSeries,
    /// The number of requests that are not counted yet.
    requests: u64,
    /// Their pending counts.
    tally: Tally,
}

/// The series of [`Well`].
#[derive(Debug)]
pub(super) struct WellSeries {
    pub(super) requests: Counter,
    pub(super) duration: Histogram,
    /// Only for streams.
    pub(super) first_token: Option<Histogram>,
    pub(super) leaf: Arc<Series>,
    pub(super) refused: Option<RefusedSeries>,
}

/// The further series where a tier refused first.
#[derive(Debug)]
pub(super) struct RefusedSeries {
    pub(super) refusals: Counter,
    pub(super) rescued: Counter,
    pub(super) tiers: Switched,
}

/// The first tier, and the one that served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switched {
    pub(super) asked: Name,
    pub(super) served: Name,
}

/// Returns the refusal before the tier that served, if there was one. Returns `None` for a request with more to record
/// than its time and cost. Cached answers are recorded elsewhere.
#[inline]
pub(super) fn before(request: &RequestEnded) -> Option<Option<&Attempt>> {
    let is_well = request.outcome == RequestOutcome::Answered
        && request.route.is_none()
        && request.degraded.is_none()
        && request.cached.is_none();
    if !is_well {
        return None;
    }
    match &request.failures {
        None => Some(None),
        Some(failures) => refusal(request, failures).map(Some),
    }
}

/// Returns the single step before the tier that served, if it was another tier's refusal.
fn refusal<'a>(request: &RequestEnded, failures: &'a [Attempt]) -> Option<&'a Attempt> {
    let [step] = failures else { return None };
    let is_refusal = step.failure.is_some_and(ErrorKind::is_local) && step.next == Next::FailedOver;
    (is_refusal && step.tier != request.tier).then_some(step)
}

impl Well {
    pub(super) fn new(request: &RequestEnded, refusal: Option<&Attempt>, series: WellSeries) -> Self {
        let names = [&request.feature, &request.tier, &request.model, &request.provider].map(Clone::clone);
        let refused = refusal.and_then(|step| Some((step.tier.clone(), step.failure?)));
        Self { names, refused, stream: request.stream, series, requests: 0, tally: Tally::default() }
    }

    /// Returns whether a request is of this kind.
    #[inline]
    pub(super) fn is(&self, request: &RequestEnded, refusal: Option<&Attempt>) -> bool {
        let [feature, tier, model, provider] = &self.names;
        let is_refused = match (&self.refused, refusal) {
            (None, None) => true,
            (Some((tier, kind)), Some(step)) => Some(*kind) == step.failure && same(tier, &step.tier),
            _ => false,
        };
        is_refused
            && self.stream == request.stream
            && same(feature, &request.feature)
            && same(tier, &request.tier)
            && same(model, &request.model)
            && same(provider, &request.provider)
    }

    /// Records a request and returns the tiers of its switch, if a tier refused before.
    #[inline]
    pub(super) fn record(&mut self, request: &RequestEnded) -> Option<Switched> {
        let WellSeries { duration, first_token, leaf, refused, .. } = &self.series;
        self.requests += 1;
        leaf.served(request, &mut self.tally);
        let took = request.took.as_secs_f64();
        duration.record(took);
        // With nothing before it, the call took as long as the request.
        leaf.duration.record(if refused.is_none() { took } else { request.took_there().as_secs_f64() });
        if let Some(first_token) = first_token {
            first_token.record(request.first_token);
        }
        refused.as_ref().map(|refused| refused.tiers)
    }

    /// Counts the requests recorded since the last flush.
    pub(super) fn flush(&mut self) {
        if self.requests > 0 {
            let requests = mem::take(&mut self.requests);
            self.series.requests.increment(requests);
            self.series.leaf.count(&mem::take(&mut self.tally));
            if let Some(refused) = &self.series.refused {
                refused.refusals.increment(requests);
                refused.rescued.increment(requests);
            }
        }
    }
}

/// Returns whether two names are equal. Most share an allocation, which makes the text irrelevant.
#[inline]
fn same(kept: &Option<Arc<str>>, name: &Option<Arc<str>>) -> bool {
    match (kept, name) {
        (Some(kept), Some(name)) => Arc::ptr_eq(kept, name) || kept == name,
        (None, None) => true,
        _ => false,
    }
}
