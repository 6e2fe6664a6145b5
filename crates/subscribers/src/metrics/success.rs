//! A short way for requests that succeed, and for those that another tier serves after a refusal before sending: nearly
//! all requests, and all of them while a circuit is open.

use std::{mem, sync::Arc};

use metrics::{Counter, Histogram};

use super::{
    leaves::{Series, Tally},
    series::Name,
};
use steadfast::{
    ErrorKind,
    events::{RequestEnded, RequestOutcome},
    ledger::{Attempt, Next},
};

/// The series of a kind of successful request: its feature's, its tier's and its leaf's.
#[derive(Debug)]
pub(super) struct Success {
    names: [Option<Arc<str>>; 4],
    /// The first tier and the kind of its refusal.
    refusal: Option<(Option<Arc<str>>, ErrorKind)>,
    stream: bool,
    series: SuccessSeries,
    /// The number of requests that are not counted yet.
    requests: u64,
    /// Their pending counts.
    tally: Tally,
}

/// The series of [`Success`].
#[derive(Debug)]
pub(super) struct SuccessSeries {
    pub(super) requests: Counter,
    pub(super) duration: Histogram,
    /// Only for streams.
    pub(super) first_token: Option<Histogram>,
    pub(super) leaf: Arc<Series>,
    pub(super) refusal: Option<RefusalSeries>,
}

/// The further series where a tier refused first.
#[derive(Debug)]
pub(super) struct RefusalSeries {
    pub(super) refusals: Counter,
    pub(super) rescued: Counter,
    pub(super) tiers: TierSwitch,
}

/// The first tier, and the one that served.
#[derive(Clone, Copy, Debug)]
pub(super) struct TierSwitch {
    pub(super) first_tier: Name,
    pub(super) served: Name,
}

/// Returns the refusal before the tier that served, if there was one. Returns `None` for a request with more to record
/// than its time and cost. Cached answers are recorded elsewhere.
#[inline]
pub(super) fn prior_refusal(request: &RequestEnded) -> Option<Option<&Attempt>> {
    let is_success = request.outcome == RequestOutcome::Answered
        && request.route.is_none()
        && request.degraded.is_none()
        && request.cached.is_none();
    if !is_success {
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

impl Success {
    pub(super) fn new(request: &RequestEnded, refusal: Option<&Attempt>, series: SuccessSeries) -> Self {
        let names = [&request.feature, &request.tier, &request.model, &request.provider].map(Clone::clone);
        let refusal = refusal.and_then(|step| Some((step.tier.clone(), step.failure?)));
        Self { names, refusal, stream: request.stream, series, requests: 0, tally: Tally::default() }
    }

    /// Returns whether a request is of this kind.
    #[inline]
    pub(super) fn matches(&self, request: &RequestEnded, refusal: Option<&Attempt>) -> bool {
        let [feature, tier, model, provider] = &self.names;
        let is_refused = match (&self.refusal, refusal) {
            (None, None) => true,
            (Some((tier, kind)), Some(step)) => Some(*kind) == step.failure && is_same(tier, &step.tier),
            _ => false,
        };
        is_refused
            && self.stream == request.stream
            && is_same(feature, &request.feature)
            && is_same(tier, &request.tier)
            && is_same(model, &request.model)
            && is_same(provider, &request.provider)
    }

    /// Records a request and returns the tiers of its switch, if a tier refused before.
    #[inline]
    pub(super) fn record(&mut self, request: &RequestEnded) -> Option<TierSwitch> {
        let SuccessSeries { duration, first_token, leaf, refusal, .. } = &self.series;
        self.requests += 1;
        leaf.record_served(request, &mut self.tally);
        let took = request.took.as_secs_f64();
        duration.record(took);
        // With nothing before it, the call took as long as the request.
        leaf.duration.record(if refusal.is_none() { took } else { request.took_there().as_secs_f64() });
        if let Some(first_token) = first_token {
            first_token.record(request.first_token);
        }
        refusal.as_ref().map(|refusal| refusal.tiers)
    }

    /// Counts the requests recorded since the last flush.
    pub(super) fn flush(&mut self) {
        if self.requests > 0 {
            let requests = mem::take(&mut self.requests);
            self.series.requests.increment(requests);
            self.series.leaf.count(&mem::take(&mut self.tally));
            if let Some(refusal) = &self.series.refusal {
                refusal.refusals.increment(requests);
                refusal.rescued.increment(requests);
            }
        }
    }
}

/// Returns whether two names are equal. Most share an allocation, which makes the text irrelevant.
#[inline]
fn is_same(known: &Option<Arc<str>>, name: &Option<Arc<str>>) -> bool {
    match (known, name) {
        (Some(known), Some(name)) => Arc::ptr_eq(known, name) || known == name,
        (None, None) => true,
        _ => false,
    }
}
