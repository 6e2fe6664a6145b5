//! What a stack is made with beside its configuration.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use crate::{
    BoxLlmService, CacheHandle, Events, FallbackHandle,
    config::Environment,
    fnv::fnv1a,
    handoff::TaskStore,
    providers::{
        http::{Transport, boxed},
        transport::HttpClient,
    },
};

/// What a stack is made with beside its configuration: it stays the same over reloads.
pub(super) struct StackContext {
    pub(super) events: Events,
    /// What steers every chain of tiers by hand.
    pub(super) fallback: FallbackHandle,
    /// Default: the process's, read anew at each load.
    pub(super) environment: Option<Environment>,
    pub(super) seed: Option<u64>,
    /// Whether callers cannot be told that a stream begins anew.
    pub(super) without_restarts: bool,
    pub(super) leaves: HashMap<String, BoxLlmService>,
    /// Those that replicas share, for a configuration that says so of its cache.
    pub(super) answers: Option<CacheHandle>,
    /// Where replicas meet.
    #[cfg(feature = "redis")]
    pub(super) hub: Option<super::replicas::ReplicaHub>,
    /// Where tasks are, in place of what the configuration names.
    pub(super) tasks: Option<Arc<dyn TaskStore>>,
    /// One for all tiers, and made only where there is one that needs it.
    transport: OnceLock<Transport>,
}

impl Default for StackContext {
    fn default() -> Self {
        let events = Events::new();
        Self {
            fallback: FallbackHandle::new(events.clone()),
            events,
            environment: None,
            seed: None,
            without_restarts: false,
            leaves: HashMap::new(),
            answers: None,
            #[cfg(feature = "redis")]
            hub: None,
            tasks: None,
            transport: OnceLock::new(),
        }
    }
}

impl StackContext {
    pub(super) fn environment(&self) -> Environment {
        self.environment.clone().unwrap_or_else(Environment::process)
    }

    /// What was put in the place of a tier's provider.
    pub(super) fn leaf(&self, tier: &str) -> Option<&BoxLlmService> {
        self.leaves.get(tier)
    }

    pub(super) fn transport(&self) -> Transport {
        self.transport.get_or_init(|| boxed(HttpClient::new())).clone()
    }

    pub(super) fn set_transport(&mut self, transport: Transport) {
        self.transport = transport.into();
    }

    /// The seed of a part's chances: another for each name.
    pub(super) fn seed(&self, name: &str) -> Option<u64> {
        self.seed.map(|seed| fnv1a(seed, name))
    }
}
