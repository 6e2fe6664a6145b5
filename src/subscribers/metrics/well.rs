//! The short way for requests that go well, which are almost all, and for those that another tier has served since the
//! first was refused on this side: while a circuit is open these are all.

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

/// What a request that went well is recorded to: its feature's, its tier's and its leaf's series at hand together.
#[derive(Debug)]
pub(super) struct Well {
    names: [Option<Arc<str>>; 4],
    /// The tier that was asked first and refused, and what it refused with.
    refused: Option<(Option<Arc<str>>, ErrorKind)>,
    stream: bool,
    series: WellSeries,
    /// How many of them are not counted yet.
    requests: u64,
    /// What they come to.
    tally: Tally,
}

/// The series of [`Well`].
#[derive(Debug)]
pub(super) struct WellSeries {
    pub(super) requests: Counter,
    pub(super) duration: Histogram,
    /// Of streams.
    pub(super) first_token: Option<Histogram>,
    pub(super) leaf: Arc<Series>,
    pub(super) refused: Option<RefusedSeries>,
}

/// What there is beside it where a tier refused first.
#[derive(Debug)]
pub(super) struct RefusedSeries {
    pub(super) refusals: Counter,
    pub(super) rescued: Counter,
    pub(super) tiers: Switched,
}

/// The tier that was asked first, and the one that served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switched {
    pub(super) asked: Name,
    pub(super) served: Name,
}

/// What came before the tier that served: nothing, or a refusal. `None` of a request of which there is more to tell than that,
/// how long it took and what it cost. What comes from a cache is told as such.
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

/// The one step before the tier that served, where it was another tier's refusal.
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

    /// Whether a request is one of these.
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

    /// Records it, and says between which tiers it went, where one refused before.
    #[inline]
    pub(super) fn record(&mut self, request: &RequestEnded) -> Option<Switched> {
        let WellSeries { duration, first_token, leaf, refused, .. } = &self.series;
        self.requests += 1;
        leaf.served(request, &mut self.tally);
        let took = request.took.as_secs_f64();
        duration.record(took);
        // Where nothing came before, its call took as long as the request.
        leaf.duration.record(if refused.is_none() { took } else { request.took_there().as_secs_f64() });
        if let Some(first_token) = first_token {
            first_token.record(request.first_token);
        }
        refused.as_ref().map(|refused| refused.tiers)
    }

    /// Counts what has been recorded since the last time.
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

/// Whether two names are one. Most are the very same allocation, which is seen without their text.
#[inline]
fn same(kept: &Option<Arc<str>>, name: &Option<Arc<str>>) -> bool {
    match (kept, name) {
        (Some(kept), Some(name)) => Arc::ptr_eq(kept, name) || kept == name,
        (None, None) => true,
        _ => false,
    }
}
