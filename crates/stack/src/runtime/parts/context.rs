//! The dependencies of a stack beside its configuration.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

#[cfg(feature = "alerts")]
use std::net::SocketAddr;

use super::credential_pool::CredentialPool;
#[cfg(feature = "redis")]
use super::replica_hub::ReplicaHub;
use crate::{Config, ConfigError, Environment, Loader, file_text::FileText};
use steadfast::{
    BoxLlmService, CacheHandle, Events, FallbackHandle,
    providers::{
        http::{Transport, boxed},
        transport::HttpClient,
    },
    translate::SealMemory,
};
use steadfast_handoff::TaskStore;
use steadfast_internal::fnv::fnv1a;
#[cfg(feature = "alerts")]
use steadfast_internal::system;
use steadfast_stores::{responses::ResponseStore, worked_keys::WorkedKeyStore};

/// The dependencies of a stack beside its configuration; reloads keep them.
pub(crate) struct StackContext {
    pub(crate) events: Events,
    /// The accounts that sealed reasoning.
    pub(crate) seals: SealMemory,
    /// The manual control of every chain of tiers.
    pub(crate) fallback: FallbackHandle,
    /// Default: the process's environment, read again at each load.
    pub(crate) environment: Option<Environment>,
    pub(crate) seed: Option<u64>,
    /// The address that this process listens on, in place of the configuration's.
    #[cfg(feature = "alerts")]
    pub(crate) listen: Option<SocketAddr>,
    /// True if callers cannot be told that a stream restarts.
    pub(crate) without_restarts: bool,
    pub(crate) leaves: HashMap<String, BoxLlmService>,
    /// The answers that replicas share, for a configuration with a `shared` cache.
    pub(crate) answers: Option<CacheHandle>,
    /// The hub through which replicas share state.
    #[cfg(feature = "redis")]
    pub(crate) hub: Option<ReplicaHub>,
    /// The store of tasks, in place of the configured one.
    pub(crate) tasks: Option<Arc<dyn TaskStore>>,
    /// The store of kept responses, in place of the configured one.
    pub(crate) responses: Option<Arc<dyn ResponseStore>>,
    /// The store of the providers' keys that have worked, in place of the configured one.
    pub(crate) worked_keys: Option<Arc<dyn WorkedKeyStore>>,
    /// The credentials for clouds that some tier uses.
    pub(crate) credentials: CredentialPool,
    /// One HTTP client for all tiers, created only if a tier needs it.
    transport: OnceLock<Transport>,
    /// True if that client is not the default one.
    is_own_transport: bool,
    /// The client of requests whose bodies are streams.
    uploads: OnceLock<HttpClient>,
}

impl Default for StackContext {
    fn default() -> Self {
        let events = Events::new();
        Self {
            fallback: FallbackHandle::new(events.clone()),
            events,
            seals: SealMemory::new(),
            environment: None,
            seed: None,
            #[cfg(feature = "alerts")]
            listen: None,
            without_restarts: false,
            leaves: HashMap::new(),
            answers: None,
            #[cfg(feature = "redis")]
            hub: None,
            tasks: None,
            responses: None,
            worked_keys: None,
            credentials: CredentialPool::default(),
            transport: OnceLock::new(),
            is_own_transport: false,
            uploads: OnceLock::new(),
        }
    }
}

impl StackContext {
    /// Reads a file with this stack's environment.
    pub(crate) fn read(&self, file: &FileText) -> Result<Config, ConfigError> {
        Loader::new().environment(self.environment()).file(file)
    }

    /// Returns this process's name: its host's and, where it listens, the port.
    #[cfg(feature = "alerts")]
    pub(crate) fn instance(&self, listen: Option<SocketAddr>, environment: &Environment) -> String {
        // A container's environment has its name.
        let told = environment.secret("HOSTNAME").map(str::to_owned);
        let host = told.or_else(system::host_name).unwrap_or_else(|| "unnamed".to_owned());
        match self.listen.or(listen).map(|address| address.port()).filter(|port| *port != 0) {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    pub(crate) fn environment(&self) -> Environment {
        self.environment.clone().unwrap_or_else(Environment::process)
    }

    /// Returns the service that replaces the provider of a tier, or of a deployment `TIER/DEPLOYMENT`.
    pub(crate) fn leaf(&self, tier: &str) -> Option<&BoxLlmService> {
        self.leaves.get(tier)
    }

    /// Returns whether the builder received a store for answers that replicas share.
    pub(crate) fn shares_answers(&self) -> bool {
        #[cfg(feature = "redis")]
        let has_hub = self.hub.is_some();
        #[cfg(not(feature = "redis"))]
        let has_hub = false;
        self.answers.is_some() || has_hub
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport.get_or_init(|| boxed(HttpClient::new())).clone()
    }

    pub(crate) fn set_transport(&mut self, transport: Transport) {
        self.transport = transport.into();
        self.is_own_transport = true;
    }

    /// Returns the HTTP client that replaces the default one.
    pub(crate) fn own_transport(&self) -> Option<Transport> {
        self.transport.get().filter(|_| self.is_own_transport).cloned()
    }

    /// Returns the client of requests whose bodies are streams; `None` if the default client is replaced.
    pub(crate) fn uploads(&self) -> Option<&HttpClient> {
        (!self.is_own_transport).then(|| self.uploads.get_or_init(HttpClient::new))
    }

    /// Returns a component's seed, a different one for each name.
    pub(crate) fn seed(&self, name: &str) -> Option<u64> {
        self.seed.map(|seed| fnv1a(seed, name))
    }
}
