//! The short way for requests that go well, which are almost all.

use std::{mem, sync::Arc};

use metrics::{Counter, Histogram};

use super::leaves::{Series, Tally};
use crate::events::{RequestEnded, RequestOutcome};

/// What a request that went well is recorded to: its feature's, its tier's and its leaf's series at hand together.
#[derive(Debug)]
pub(super) struct Well {
    names: [Option<Arc<str>>; 4],
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
}

/// Whether there is nothing to tell of it but who served it, how long it took and what it cost. What comes from a cache is told as
/// such.
#[inline]
pub(super) fn is_well(request: &RequestEnded) -> bool {
    request.outcome == RequestOutcome::Answered
        && request.failures.is_none()
        && request.route.is_none()
        && request.degraded.is_none()
        && request.cached.is_none()
}

impl Well {
    pub(super) fn new(request: &RequestEnded, series: WellSeries) -> Self {
        let names = names(request).map(<Option<&_>>::cloned);
        Self { names, stream: request.stream, series, requests: 0, tally: Tally::default() }
    }

    /// Whether a request is one of these.
    #[inline]
    pub(super) fn is(&self, request: &RequestEnded) -> bool {
        let same = |(kept, name): (&Option<Arc<str>>, Option<&Arc<str>>)| match (kept, name) {
            (Some(kept), Some(name)) => Arc::ptr_eq(kept, name) || kept == name,
            (None, None) => true,
            _ => false,
        };
        self.stream == request.stream && self.names.iter().zip(names(request)).all(same)
    }

    #[inline]
    pub(super) fn record(&mut self, request: &RequestEnded) {
        let WellSeries { duration, first_token, leaf, .. } = &self.series;
        self.requests += 1;
        leaf.served(request, &mut self.tally);
        // Nothing failed before: its call took as long as the request.
        let took = request.took.as_secs_f64();
        duration.record(took);
        leaf.duration.record(took);
        if let Some(first_token) = first_token {
            first_token.record(request.first_token);
        }
    }

    /// Counts what has been recorded since the last time.
    pub(super) fn flush(&mut self) {
        if self.requests > 0 {
            self.series.requests.increment(mem::take(&mut self.requests));
            self.series.leaf.count(&mem::take(&mut self.tally));
        }
    }
}

#[inline]
fn names(request: &RequestEnded) -> [Option<&Arc<str>>; 4] {
    [&request.feature, &request.tier, &request.model, &request.provider].map(Option::as_ref)
}
