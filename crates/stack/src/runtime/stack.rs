//! The stack of a configuration, and its builder.

#[cfg(feature = "alerts")]
use std::net::SocketAddr;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Response};
use tower::{BoxError, Service, ServiceExt as _};

#[cfg(feature = "redis")]
use super::parts::replica_hub::ReplicaHub;
use super::{StackHandle, parts::context::StackContext, plan::Plan, service::ReloadingService, state::StackState};
use crate::{Budget, Config, ConfigError, Environment, file_text::FileText};
use steadfast::{
    BoxLlmService, CacheHandle, Events, FallbackHandle, LlmService,
    layers::cache::AnswerStore,
    providers::http::{RequestBody, boxed},
};
use steadfast_handoff::TaskStore;
use steadfast_stores::{responses::ResponseStore, worked_keys::WorkedKeyStore};

/// The stack that a configuration describes: its tiers with their leaves, and the layers around them.
///
/// From outside in, it is
///
/// ```text
/// Observe · Timeout (whole) · [Idempotency] · [Cache] · CallerBulkhead · [Budget] · Bulkhead · [Mirror] · [Route] ·
///     Fallback ·
///     for each tier: [Hedge] · [Validate] · [Budget] ·
///         RetryWithJitter · CommitOnFirstToken · CircuitBreaker · Timeout (attempt) · leaf
/// ```
///
/// built only from public layers, with those layers' defaults for all that the file leaves open. All tiers share one
/// [retry budget](steadfast::RetryBudget) and, if they need one, one HTTP client, so that providers share a connection
/// pool. All events go to one channel, [`StackHandle::events`].
///
/// Keys come only from the environment. A tier that lacks its required key is an error when the stack is built, rather
/// than a tier that fails later.
///
/// Clones are the same stack. It runs until its services, its handles and the requests in flight are gone. It spawns
/// only the tasks of calls under idempotency keys and of mirrored requests. Alerts start with a call to
/// `StackHandle::alert`, feature `alerts`.
///
/// # Reloads
///
/// [`StackHandle::reload`] replaces the configuration while requests are in flight: each request ends in the
/// generation in which it began, and the next one begins in the new generation. A reload keeps unchanged parts rather
/// than copying them:
///
/// - a tier's leaf and its connections, if its provider, model, key, server and commit point are unchanged, and its
///   circuit too, if its circuit breaker's settings are unchanged as well. A tier's other settings (retries, time
///   limits, capabilities) change around them;
/// - the same of each deployment of a tier, with its requests in flight, rate limits and times, even if others come and
///   go; a new one begins slowly;
/// - the retry budget, if its share is unchanged;
/// - each feature's requests in flight and in the queue, even if its limits change: see
///   [`BulkheadLayer::state`](steadfast::BulkheadLayer::state);
/// - the answers under idempotency keys and those of the cache, even if their bounds change: a new `ttl` applies to
///   existing answers. Removing the block discards them;
/// - the mirrored requests in flight, their number and today's cost of the candidate, and its circuit if it is
///   unchanged;
/// - the stores, if their names are unchanged;
/// - the serving tier, and the tier of each session: see
///   [`FallbackLayer::state`](steadfast::FallbackLayer::state);
/// - the [manual](StackHandle#by-hand) orders: drained tiers, pinned levels, and forced states of unchanged circuits.
///
/// A wrong configuration is refused as a whole, and the stack continues unchanged.
///
/// # Example
///
/// ```
/// use steadfast::LlmRequest;
/// use steadfast_stack::{Stack, Config, Format};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let file = "
/// tiers:
///   - { name: sonnet, provider: simulated, simulated: { reply: 'It rains.' } }
///   - { name: sorry, provider: canned, text: Please try again in a minute. }
/// features:
///   chat: { concurrency: 20 }
/// ";
/// let stack = Stack::from_config(Config::from_str(file, Format::Yaml)?)?;
/// let (llm, handle) = (stack.service(), stack.handle());
///
/// let answer = llm.clone().oneshot(LlmRequest::prompt("How is the weather?").with_feature("chat")).await?;
/// assert_eq!(answer.served_by().tier, Some("sonnet"));
///
/// // An outage, and a changed file.
/// handle.circuits()["sonnet"].force_open();
/// let answer = llm.clone().oneshot(LlmRequest::prompt("And now?").with_feature("chat")).await?;
/// assert_eq!(answer.text().await?, "Please try again in a minute.");
///
/// let changed = file.replace("concurrency: 20", "concurrency: 5");
/// let reload = handle.reload(Config::from_str(&changed, Format::Yaml)?)?;
/// assert_eq!((reload.kept.len(), handle.bulkhead().limit("chat")), (2, 5));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Stack {
    shared: Arc<StackState>,
}

impl Stack {
    /// Builds the stack of a configuration, with keys from this process's environment.
    ///
    /// # Errors
    ///
    /// A key of a tier or webhook is missing from the environment (the error names field and variable), a name refers
    /// to no tier, two tiers share a name, or a value is invalid.
    pub fn from_config(config: Config) -> Result<Self, ConfigError> {
        Self::builder().build(config)
    }

    /// Builds the stack of a file in any form that [`Config::from_path`] reads, with keys from this process's
    /// environment.
    ///
    /// # Errors
    ///
    /// The file is wrong, or as in [`from_config`](Self::from_config).
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::builder().load(path)
    }

    /// Returns a builder, for what a configuration cannot express.
    pub fn builder() -> StackBuilder {
        StackBuilder { context: StackContext::default() }
    }

    /// Returns the stack as a service. The service and its clones follow the stack's reloads.
    pub fn service(&self) -> BoxLlmService {
        self.shared.sync_replicas();
        BoxLlmService::new(ReloadingService::new(self.shared.clone()))
    }

    /// Returns the handle that watches and controls the stack.
    pub fn handle(&self) -> StackHandle {
        self.shared.sync_replicas();
        StackHandle::new(self.shared.clone())
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stack").field(&self.handle()).finish()
    }
}

/// Builds a [`Stack`] with what a configuration cannot express: custom clients, another environment, an existing
/// channel of events. Reloads keep all of it.
#[must_use = "a builder does nothing until it builds"]
pub struct StackBuilder {
    context: StackContext,
}

impl StackBuilder {
    /// Sets the channel of the layers' and reloads' events. Default: a channel of the stack's own.
    pub fn events(mut self, events: Events) -> Self {
        self.context.fallback = FallbackHandle::new(events.clone());
        self.context.events = events;
        self
    }

    /// Sets the environment that keys come from and, for a stack [loaded](Self::load) from a file, the file's
    /// references and overrides. Default: the environment of this process, read again at each load.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.context.environment = Some(environment);
        self
    }

    /// Sets the HTTP client of all tiers that need one, and of the webhooks: an
    /// [`HttpClient`](steadfast::providers::transport::HttpClient) with custom settings, a client behind tower-http's
    /// layers, or a function in tests. Default: one `HttpClient`.
    pub fn transport<S, R, B>(mut self, transport: S) -> Self
    where
        S: Service<Request<R>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        R: From<RequestBody> + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.context.set_transport(boxed(transport));
        self
    }

    /// Replaces the provider that the configuration names for a tier: with a client of your own, or with a simulated
    /// provider to rehearse an outage. The configured retries, circuit and time limits surround it, and no key is
    /// looked up for it. A tier that the configuration does not have is ignored. `TIER/DEPLOYMENT` replaces that of a
    /// deployment; a tier's service replaces that of each deployment without one.
    pub fn leaf<S>(mut self, tier: impl Into<String>, service: S) -> Self
    where
        S: LlmService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let service = BoxLlmService::new(service.map_err(Into::into));
        self.context.leaves.insert(tier.into(), service);
        self
    }

    /// Sets the store of the answers that replicas share. A configuration whose cache sets `shared: true` is refused
    /// without it. Default: none.
    pub fn shared_answers(mut self, store: impl AnswerStore) -> Self {
        self.context.answers = Some(CacheHandle::over(store));
        self
    }

    /// Sets the Redis through which the replicas of this stack share state: [`replicas`](steadfast_stores::replicas)
    /// lists what they share, and how exactly. A configuration whose cache sets `shared: true` keeps its answers there
    /// too. Default: none, each replica is alone.
    ///
    /// A task synchronizes the shared state. It starts once the stack, a service or a handle is created inside a tokio
    /// runtime, and ends with the stack.
    #[cfg(feature = "redis")]
    pub fn replicas(mut self, redis: steadfast_stores::redis::Redis) -> Self {
        self.context.hub = Some(ReplicaHub::at(redis));
        self
    }

    /// Sets the store of handed-off tasks, in place of the configuration's `stores: { durable }`. It is for a
    /// configuration made in the program; a file must name a store. Default: none.
    pub fn tasks(mut self, store: impl TaskStore) -> Self {
        self.context.tasks = Some(Arc::new(store));
        self
    }

    /// Sets the store of kept responses, in place of the configuration's `stores: { durable }`. It is for a
    /// configuration made in the program, such as a test's; a file must name a store. Default: none.
    pub fn responses(mut self, store: impl ResponseStore) -> Self {
        self.context.responses = Some(Arc::new(store));
        self
    }

    /// Sets the store of the providers' keys that have worked, in place of the configuration's `stores: { durable }`.
    /// It is for tests. Default: none.
    #[doc(hidden)]
    pub fn worked_keys(mut self, store: impl WorkedKeyStore) -> Self {
        self.context.worked_keys = Some(Arc::new(store));
        self
    }

    /// Sets the address that this process listens on. Alerts name the process by its host and this port. Default: the
    /// configuration's `listen`.
    #[cfg(feature = "alerts")]
    pub fn listen(mut self, address: impl Into<Option<SocketAddr>>) -> Self {
        self.context.listen = address.into();
        self
    }

    /// Makes the jitter of retries and circuits repeatable. Default: random seeds.
    pub fn seed(mut self, seed: u64) -> Self {
        self.context.seed = Some(seed);
        self
    }

    /// Checks a configuration, with all that its stack takes from the environment: keys, secrets, servers. It builds no
    /// stack, opens no store and makes no call.
    ///
    /// # Errors
    ///
    /// Everything that is missing or wrong, as [`build`](Self::build) reports it before it opens stores.
    pub fn check(&self, config: &Config) -> Result<(), ConfigError> {
        self.check_with_budgets(config, &[])
    }

    /// Checks a configuration as [`check`](Self::check) does, with caps [beside](StackHandle::set_budgets) its own.
    ///
    /// # Errors
    ///
    /// Fails like [`check`](Self::check) and [`set_budgets`](StackHandle::set_budgets).
    pub fn check_with_budgets(&self, config: &Config, budgets: &[Budget]) -> Result<(), ConfigError> {
        Plan::new(config.clone(), &self.context, budgets).map(drop)
    }

    /// Ends a broken stream with its error even if the configuration sets `on_break: restart`. Use it for callers who
    /// cannot be told to discard content, as over a provider's protocol. Default: the stream restarts.
    pub fn without_restarts(mut self) -> Self {
        self.context.without_restarts = true;
        self
    }

    /// Builds the stack of a configuration.
    ///
    /// # Errors
    ///
    /// As [`Stack::from_config`].
    pub fn build(self, config: Config) -> Result<Stack, ConfigError> {
        self.build_from(config, None)
    }

    /// Builds the stack of a file.
    ///
    /// # Errors
    ///
    /// As [`Stack::from_path`].
    pub fn load(self, path: impl AsRef<Path>) -> Result<Stack, ConfigError> {
        let config = self.context.read(&FileText::read(path.as_ref())?)?;
        self.build_from(config, Some(path.as_ref().to_owned()))
    }

    fn build_from(self, config: Config, path: Option<PathBuf>) -> Result<Stack, ConfigError> {
        StackState::new(self.context, config, path).map(|state| Stack { shared: Arc::new(state) })
    }
}

impl fmt::Debug for StackBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackBuilder")
            .field("environment", &self.context.environment)
            .field("leaves", &self.context.leaves.keys())
            .finish_non_exhaustive()
    }
}
