use std::{fmt, sync::Arc, time::Duration};

use tower::Layer;

use super::{Bulkhead, BulkheadHandle, Limits, plan::Plan};
use crate::layers::draft::Draft;

/// Applies [`Bulkhead`]. See the [module docs](super).
///
/// All services of one layer value share their limits, and so do those of its clones. A [`handle`](Self::handle)
/// follows the settings that come after it. A layer that is changed once it has wrapped a service, or beside a clone,
/// starts new counts.
#[derive(Clone)]
pub struct BulkheadLayer {
    draft: Draft<Plan>,
}

/// The default of [`BulkheadLayer::default_limit`]: room for features without a limit of their own, and still a
/// bound.
const DEFAULT_LIMIT: usize = 64;
/// The default of [`BulkheadLayer::max_wait`]: the usual time of one attempt.
const MAX_WAIT: Duration = Duration::from_secs(30);

impl BulkheadLayer {
    /// Creates a layer without named features: all share the default limit of 64, and a request that finds no place
    /// is refused at once.
    pub fn new() -> Self {
        let default = Limits::new(DEFAULT_LIMIT);
        let plan = Plan { named: Vec::new(), default, queue: 0, max_wait: MAX_WAIT, state: None };
        Self { draft: Draft::new(plan) }
    }

    /// Gives a feature its own limits: a number of requests in flight, or [`Limits`] for more. Naming it again
    /// replaces them. A limit of 0 is closed.
    #[must_use]
    pub fn feature(mut self, name: impl Into<Arc<str>>, limits: impl Into<Limits>) -> Self {
        let (name, limits) = (name.into(), limits.into());
        self.draft.change(|plan| plan.named.push((name, limits)));
        self
    }

    /// Sets the limits for all requests without limits of their own: those of features that are not named, and
    /// those without a feature. They share one count, so that memory stays bounded whatever names requests carry.
    /// Default: 64 in flight.
    #[must_use]
    pub fn default_limit(mut self, limits: impl Into<Limits>) -> Self {
        let limits = limits.into();
        self.draft.change(|plan| plan.default = limits);
        self
    }

    /// Sets how many requests of each feature may wait for a place, in order, up to 1,048,575. Default: 0, which
    /// refuses at once.
    #[must_use]
    pub fn queue(mut self, len: usize) -> Self {
        self.draft.change(|plan| plan.queue = len);
        self
    }

    /// Sets how long a request may wait, in the queue and for its rates together. The request's deadline bounds it
    /// too. Default: 30 s. [`Duration::MAX`] is no limit.
    #[must_use]
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.draft.change(|plan| plan.max_wait = wait);
        self
    }

    /// Shares the state of this handle's layer: requests in flight and in queues there count here too. Default: all
    /// counts start at zero.
    ///
    /// A feature that both layers name has one count of places and one queue; so do the unnamed features. If its limit
    /// differs, this layer's applies to both from the first use of this layer; otherwise a limit that was set by hand
    /// stays. Rates and adaptive limits are shared if they are the same. A feature that only this layer names begins
    /// with none in flight: its earlier calls count where they were admitted, with the unnamed ones. A feature that
    /// only the other layer names keeps its count until its last call has ended, in case a later layer names it.
    #[must_use]
    pub fn state(mut self, handle: &BulkheadHandle) -> Self {
        let state = handle.features();
        self.draft.change(|plan| plan.state = Some(state));
        self
    }

    /// Returns a handle to read this layer's limits and to change them.
    pub fn handle(&self) -> BulkheadHandle {
        BulkheadHandle::new(self.draft.view())
    }
}

impl Default for BulkheadLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for BulkheadLayer {
    type Service = Bulkhead<S>;

    fn layer(&self, inner: S) -> Bulkhead<S> {
        Bulkhead::new(inner, self.draft.settle())
    }
}

impl fmt::Debug for BulkheadLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadLayer").field("plan", &self.draft.plan()).finish()
    }
}
