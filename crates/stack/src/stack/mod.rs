//! The stack of a configuration: [`Stack`], its handle, and its reloads.
//!
//! # Design
//!
//! A file becomes a tree of values, each with its line and column, whatever the format. References to the environment,
//! the two imported forms (with the schema's own blocks beside them) and overrides work on that tree. Then it is read
//! into the schema, plain data in which `None` stands for an absent value, and checked: every problem has a place, and
//! one error reports all of them. [`Stack`] makes layers of it with `ServiceBuilder` and nothing that a user could not
//! write: Observe · Timeout · Idempotency · Cache · CallerBulkhead · Budget · Bulkhead · Mirror · Route · Fallback.
//! Each tier is Hedge (only where the file has one; boxed, so that others pay nothing) · Validate (the same) · Budget ·
//! RetryWithJitter · CommitOnFirstToken (only where more than the first token is held back: outside of the limits of
//! time, which go on for the first token and for silences) · CircuitBreaker · Timeout · leaf. A tier with deployments
//! has Balance below its circuit, which is by hand alone, and all layers from CommitOnFirstToken on in each deployment
//! (`deployments.rs`).
//!
//! A reload makes a new generation beside the serving one, and swaps one pointer; requests under way end where they
//! began. An unchanged part is *kept, not copied*: the same leaf and its connections, the same circuit, the same caps.
//! A changed layer has other settings over the same state (`BulkheadLayer::state`, `FallbackLayer::state`): the
//! requests in flight, the serving tier. First a `Plan` of the file is checked as a whole (`plan.rs`), so that
//! assembling its generation (`generation.rs`) can fail at a store alone, before any state is shared.

mod alert_rules;
#[cfg(feature = "alerts")]
mod alerts;
mod asked;
mod cache;
mod chain;
mod context;
mod deployments;
mod door;
mod file;
mod generation;
mod handle;
mod handoff;
mod hedge;
mod lane;
mod leaf;
mod mirror;
mod objects;
mod operate;
mod plan;
mod queue;
mod recovery;
mod reloads;
#[cfg(feature = "redis")]
mod replicas;
mod responses;
mod resume;
mod service;
mod settings;
mod spend;
mod stores;
#[cfg(test)]
mod tests;
mod tier_runtime;
mod validate;
mod view;

#[cfg(feature = "alerts")]
use std::net::SocketAddr;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use tokio::time::Instant;
use tower::{BoxError, Service, ServiceExt as _};

#[cfg(feature = "alerts")]
pub use self::alerts::AlertTask;
pub use self::asked::AskedTier;
use self::{context::StackContext, generation::Generation, plan::Plan, service::ReloadingService};
pub use self::{
    handle::{Reload, StackHandle, TierDeployment, TierInfo},
    handoff::HandoffTask,
    lane::LanePool,
    objects::{ObjectPlaces, ObjectTier},
    recovery::RecoveryCheckTask,
    responses::ResponseArchive,
    resume::Continuation,
};
use super::{Budget, Config, ConfigError, Environment, Problem};
use steadfast::{
    BoxLlmService, CacheHandle, Event, Events, FallbackHandle, InvalidConfig, LlmService,
    events::{self, CircuitReason, CircuitState, Subscriber as _},
    layers::cache::AnswerStore,
    providers::http::{RequestBody, boxed},
};
use steadfast_handoff::TaskStore;
use steadfast_internal::sync::{Mutex, MutexGuard, lock};
use steadfast_stores::responses::ResponseStore;
use steadfast_subscribers::StatusBoard;

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
    shared: Arc<Shared>,
}

/// The state that all clones, services and handles of a stack share.
struct Shared {
    context: StackContext,
    current: ArcSwap<Generation>,
    /// The file that it was read from.
    path: Option<PathBuf>,
    /// The number of reloads that a caller requested.
    readings: AtomicU64,
    /// The status board, kept by events from the first request for it.
    status: OnceLock<(StatusBoard, events::Subscription)>,
    /// Caps beside those of the configuration; locked while the next generation is built from the current one.
    extra_budgets: Mutex<Vec<Budget>>,
    #[cfg(feature = "redis")]
    replica_sync: Mutex<Option<replicas::ReplicaSync>>,
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
        self.context.hub = Some(replicas::ReplicaHub::at(redis));
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

    fn build_from(self, config: Config, path: Option<PathBuf>) -> Result<Stack, ConfigError> {
        let Self { context } = self;
        let first = Plan::new(config, &context, &[]).and_then(|plan| Ok(Generation::new(plan, &context, None)?));
        let current = ArcSwap::from_pointee(first.map_err(|error| error.of(path.as_deref()))?);
        let (readings, status) = (AtomicU64::new(0), OnceLock::new());
        let shared = Shared {
            context,
            current,
            path,
            readings,
            status,
            extra_budgets: Mutex::default(),
            #[cfg(feature = "redis")]
            replica_sync: Mutex::default(),
        };
        shared.sync_replicas();
        Ok(Stack { shared: Arc::new(shared) })
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

impl Shared {
    /// Returns the board that keeps the status, starting it on the first call.
    fn status(&self) -> &StatusBoard {
        let begin = || {
            let (primary, others) = self.current.load().names();
            let board = StatusBoard::new(primary).tiers(others);
            board.set_chains(self.current.load().chains());
            board.set_deployments(self.current.load().deployment_names());
            let subscription = self.context.events.follow(board.clone());
            // States learned from other replicas before the board existed.
            for (circuit, handle) in self.current.load().circuits() {
                let (to, at) = (handle.state(), Instant::now());
                if to != CircuitState::Closed {
                    let (from, reason) = (CircuitState::Closed, CircuitReason::Failures);
                    board.clone().event(&Event::CircuitChanged { circuit, from, to, reason, failure: None, at });
                }
            }
            (board, subscription)
        };
        &self.status.get_or_init(begin).0
    }

    /// Replaces the active configuration, or returns why not; sends one event for either.
    fn reload(&self, config: Result<Config, ConfigError>, file: Option<&Path>) -> Result<Reload, ConfigError> {
        let reloaded = config.and_then(|config| self.swap(config)).map_err(|error| error.of(file));
        let at = Instant::now();
        self.context.events.send(match &reloaded {
            Ok(reload) => Event::Reloaded {
                kept: reload.kept.len(),
                changed: reload.changed.len(),
                settings: reload.settings.as_slice().into(),
                at,
            },
            Err(error) => Event::ReloadRefused { problem: error.to_string().into(), at },
        });
        reloaded
    }

    fn swap(&self, config: Config) -> Result<Reload, ConfigError> {
        let extra_budgets = self.lock_reload();
        let plan = Plan::new(config, &self.context, &extra_budgets)?;
        let before = self.current.load_full();
        let next = Generation::new(plan, &self.context, Some(&before))?;
        let reload = next.since(&before);
        self.current.store(Arc::new(next));
        if let Some(cache) = &before.cache {
            cache.yield_to(self.current.load().cache.as_ref());
        }
        self.context.fallback.forget_all_but(|tier| self.current.load().runtime(tier).is_some());
        self.sync_replicas();
        drop(extra_budgets);
        if let Some((board, _)) = self.status.get() {
            let (primary, others) = self.current.load().names();
            board.set_tiers(primary, others);
            board.set_chains(self.current.load().chains());
            // Requests under way may still open a removed one's circuit.
            board.set_deployments(before.deployment_names().into_iter().chain(self.current.load().deployment_names()));
            board.renew(&reload.changed);
        }
        Ok(reload)
    }

    /// Does nothing: without a shared store there is nothing to synchronize.
    #[cfg(not(feature = "redis"))]
    #[allow(clippy::unused_self, reason = "as with one")]
    fn sync_replicas(&self) {}

    fn lock_reload(&self) -> MutexGuard<'_, Vec<Budget>> {
        lock(&self.extra_budgets)
    }

    fn set_budgets(&self, budgets: Vec<Budget>) -> Result<(), ConfigError> {
        let mut extra_budgets = self.lock_reload();
        if *extra_budgets == budgets {
            return Ok(());
        }
        let before = self.current.load_full();
        let plan = Plan::of_current(&before, &self.context, &budgets)?;
        let next = Generation::new(plan, &self.context, Some(&before))?;
        self.current.store(Arc::new(next));
        self.sync_replicas();
        *extra_budgets = budgets;
        Ok(())
    }
}

impl From<InvalidConfig> for Problem {
    fn from(error: InvalidConfig) -> Self {
        Self::of_file(None, error.to_string())
    }
}

impl From<InvalidConfig> for ConfigError {
    fn from(error: InvalidConfig) -> Self {
        Self::new(vec![error.into()])
    }
}
