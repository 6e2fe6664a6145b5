use std::sync::Arc;

use steadfast::BoxLlmService;
use steadfast_handoff::Desk;

use super::{catalog::Catalog, keys::Keys, records::Records, repeats::Repeats, unknown_paths::UnknownPaths};
use crate::{
    lifecycle::Lifecycle,
    limits::{Memory, Settings},
};

/// The state that all requests share.
pub(crate) struct GatewayState {
    pub(crate) service: BoxLlmService,
    pub(crate) catalog: Catalog,
    /// The callers' keys; `None` if anyone may call.
    pub(crate) keys: Option<Arc<Keys>>,
    /// The memory for the bodies of requests.
    pub(crate) memory: Arc<Memory>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) records: Records,
    /// The last failures of each caller.
    pub(crate) repeats: Arc<Repeats>,
    pub(crate) unknown_paths: UnknownPaths,
    /// True if pages of other origins may call without a key.
    pub(crate) any_origin: bool,
    /// The desk for tasks, in place of the stack's.
    #[cfg(test)]
    pub(crate) desk: Option<Desk>,
}

impl GatewayState {
    /// Creates the state of a gateway to this service.
    pub(crate) fn new(service: BoxLlmService, catalog: Catalog, keys: Option<Keys>, settings: Settings) -> Self {
        Self {
            service,
            catalog,
            keys: keys.map(Arc::new),
            records: Records::new(settings.records),
            repeats: Arc::default(),
            unknown_paths: UnknownPaths::default(),
            any_origin: false,
            memory: Arc::new(Memory::new(settings.memory)),
            lifecycle: Arc::new(Lifecycle::new(settings)),
            #[cfg(test)]
            desk: None,
        }
    }

    /// Returns the desk for tasks, if the stack hands requests to people.
    pub(crate) fn desk(&self) -> Option<Desk> {
        match &self.catalog {
            // A reload may have changed the desk.
            Catalog::Stack(stack) => stack.desk(),
            #[cfg(test)]
            Catalog::Listed(_) => self.desk.clone(),
            #[cfg(not(test))]
            Catalog::Listed(_) => None,
        }
    }
}
