use std::{fmt, sync::Arc, time::Duration};

use tower::{Service, ServiceExt as _, util::BoxCloneSyncService};

use super::Capabilities;
use crate::{BoxLlmService, LlmError, LlmRequest, LlmResponse};

/// A place in the order of a fallback: a service and what it can do. Clones share the service.
#[derive(Clone)]
pub struct Tier {
    pub(super) service: BoxLlmService,
    pub(super) facts: TierFacts,
}

/// What the walk knows of a tier, the primary included.
#[derive(Clone, Debug)]
pub(super) struct TierFacts {
    pub(super) name: Arc<str>,
    pub(super) capabilities: Capabilities,
    pub(super) last_resort: bool,
    pub(super) degraded: bool,
    pub(super) min_useful: Option<Duration>,
}

impl TierFacts {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self { name, capabilities: Capabilities::new(), last_resort: false, degraded: false, min_useful: None }
    }
}

impl Tier {
    /// A tier of this name.
    pub fn new<S>(name: impl Into<Arc<str>>, service: S) -> Self
    where
        S: Service<LlmRequest, Response = LlmResponse> + Clone + Send + Sync + 'static,
        S::Error: Into<LlmError>,
        S::Future: Send,
    {
        let service = BoxCloneSyncService::new(service.map_err(Into::into));
        Self { service, facts: TierFacts::new(name.into()) }
    }

    /// Sets what the tier can do: a request that needs more skips it. Default: unknown, so that every request may come.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.facts.capabilities = capabilities;
        self
    }

    /// Sets how many tokens fit into the model's context window, as
    /// [`Capabilities::context_window`] does. A request that was too long for one tier goes only to tiers that are
    /// known to have a larger one. Default: unknown.
    #[must_use]
    pub fn context_window(mut self, tokens: u64) -> Self {
        self.facts.capabilities = self.facts.capabilities.context_window(tokens);
        self
    }

    /// Makes the tier ignore its own circuit: better a slim chance than none.
    #[must_use]
    pub fn last_resort(mut self) -> Self {
        self.facts.last_resort = true;
        self
    }

    /// Marks the tier's answers as [degraded](LlmResponse::degraded).
    #[must_use]
    pub fn degraded(mut self) -> Self {
        self.facts.degraded = true;
        self
    }

    /// Sets the least time before the deadline that makes it worth beginning this tier. Default: the
    /// [layer's](super::FallbackLayer::min_useful).
    #[must_use]
    pub fn min_useful(mut self, time: Duration) -> Self {
        self.facts.min_useful = Some(time);
        self
    }
}

impl fmt::Debug for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tier").field("facts", &self.facts).finish_non_exhaustive()
    }
}
