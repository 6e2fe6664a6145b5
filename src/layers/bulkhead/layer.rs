use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tower::Layer;

use super::{Bulkhead, BulkheadHandle, Limits, features::Features, plan::Plan};

/// Applies [`Bulkhead`]. See the [module docs](super).
///
/// All services of one layer value share their limits, and so do those of its clones. A layer that is changed after
/// that starts new counts: name all features first, then take the [`handle`](Self::handle) and wrap.
#[derive(Clone, Debug)]
pub struct BulkheadLayer {
    plan: Plan,
    /// The layer whose counts this one shares.
    state: Option<BulkheadHandle>,
    /// Created on first use, and shared by clones.
    features: Arc<OnceLock<Arc<Features>>>,
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
        let plan = Plan { named: Vec::new(), default, queue: 0, max_wait: MAX_WAIT };
        Self { plan, state: None, features: Arc::default() }
    }

    /// Gives a feature its own limits: a number of requests in flight, or [`Limits`] for more. Naming it again
    /// replaces them. A limit of 0 is closed.
    #[must_use]
    pub fn feature(mut self, name: impl Into<Arc<str>>, limits: impl Into<Limits>) -> Self {
        let (name, limits) = (name.into(), limits.into());
        self.plan.named.push((name, limits));
        self.changed()
    }

    /// Sets the limits for all requests without limits of their own: those of features that are not named, and
    /// those without a feature. They share one count, so that memory stays bounded whatever names requests carry.
    /// Default: 64 in flight.
    #[must_use]
    pub fn default_limit(mut self, limits: impl Into<Limits>) -> Self {
        self.plan.default = limits.into();
        self.changed()
    }

    /// Sets how many requests of each feature may wait for a place, in order, up to 1,048,575. Default: 0, which
    /// refuses at once.
    #[must_use]
    pub fn queue(mut self, len: usize) -> Self {
        self.plan.queue = len;
        self.changed()
    }

    /// Sets how long a request may wait, in the queue and for its rates together. The request's deadline bounds it
    /// too. Default: 30 s. [`Duration::MAX`] is no limit.
    #[must_use]
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.plan.max_wait = wait;
        self.changed()
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
        self.state = Some(handle.clone());
        self.changed()
    }

    /// Returns a handle to read this layer's limits and to change them.
    pub fn handle(&self) -> BulkheadHandle {
        BulkheadHandle::new(self.features())
    }

    fn features(&self) -> Arc<Features> {
        let state = self.state.as_ref().map(BulkheadHandle::features);
        self.features.get_or_init(|| Arc::new(Features::new(&self.plan, state))).clone()
    }

    fn changed(mut self) -> Self {
        self.features = Arc::default();
        self
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
        Bulkhead::new(inner, self.features())
    }
}
