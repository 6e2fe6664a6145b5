//! The stack of a configuration: [`Stack`], what steers it, and how it is loaded anew.

#[cfg(feature = "alerts")]
mod alerts;
mod cache;
mod chain;
mod context;
mod file;
mod generation;
mod handle;
mod handoff;
mod hedge;
mod leaf;
mod mirror;
mod operate;
mod queue;
mod recovery;
#[cfg(feature = "redis")]
mod replicas;
mod service;
mod settings;
mod spend;
mod stores;
#[cfg(test)]
mod tests;
mod tier_runtime;
mod validate;

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
use self::{
    context::StackContext,
    generation::{Generation, Plan},
    service::ReloadingService,
};
pub use self::{
    handle::{Reload, StackHandle, TierInfo},
    handoff::HandoffTask,
    recovery::RecoveryCheckTask,
};
use super::{Budget, Config, ConfigError, Environment, Problem};
use crate::{
    BoxLlmService, CacheHandle, Event, Events, FallbackHandle, InvalidConfig, LlmError, LlmRequest, LlmResponse,
    events::{self, CircuitReason, CircuitState, StatusBoard, Subscriber as _},
    handoff::TaskStore,
    layers::cache::AnswerStore,
    providers::http::{RequestBody, boxed},
    sync::{Mutex, MutexGuard, lock},
};

/// The stack that a configuration describes: its tiers with their leaves, and the layers around them.
///
/// From outside in, it is
///
/// ```text
/// Observe · Timeout (whole) · [Idempotency] · [Cache] · CallerBulkhead · [Budget] · Bulkhead · [Mirror] · [Route] ·
///     Fallback ·
///     for each tier: [Hedge] · [Validate] · [Budget] · RetryWithJitter · CommitOnFirstToken · CircuitBreaker · Timeout (attempt) · leaf
/// ```
///
/// made of the public layers and nothing else; what the file does not say is as those layers have it. All tiers share one
/// [retry budget](crate::RetryBudget) and, where they need one, one HTTP client, so that providers share a pool of
/// connections. All events go to one channel, [`StackHandle::events`].
///
/// Keys come from the environment only. A tier without a key that needs one is an error, and not a tier that fails later.
///
/// Clones are the same stack. It runs until its services, its handles and the requests under way are gone; it spawns
/// nothing but the tasks of calls under an idempotency key and of mirrored requests. Its alerts are sent from the moment when they are asked for: `StackHandle::alert`, feature `alerts`.
///
/// # Reloads
///
/// [`StackHandle::reload`] puts another configuration in place of this one while requests are under way: each ends where
/// it began, and the next begins in the new stack. What the new configuration has unchanged is kept, not copied:
///
/// - a tier's leaf and its connections, where nothing of its provider, model, key, server and commit point changed; its
///   circuit too, where its circuit breaker's settings are the same as well. Other settings of a tier (retries, limits of
///   time, what it can do) change without it;
/// - the retry budget, where its share is the same;
/// - what each feature has in flight and in its queue, also where its limits change: see
///   [`BulkheadLayer::succeeding`](crate::BulkheadLayer::succeeding);
/// - the answers under idempotency keys and those of the cache, also where their bounds change: a new `ttl` holds for what is
///   kept already. Without its block they are forgotten;
/// - the mirrored requests under way, their number and what their candidate has cost today; its circuit, where it is unchanged;
/// - the stores, where they are named as before;
/// - which tier serves, and the tier of each session: see [`FallbackLayer::succeeding`](crate::FallbackLayer::succeeding);
/// - what was said [by hand](StackHandle#by-hand): drained tiers, pinned levels, and what unchanged circuits are forced to.
///
/// A configuration that is wrong is refused as a whole, and the stack goes on as it was.
///
/// # Example
///
/// ```
/// use steadfast::{LlmRequest, Stack, config::{Config, Format}};
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
/// let answer = llm.clone().oneshot(LlmRequest::prompt("How is the weather?").feature("chat")).await?;
/// assert_eq!(answer.served_by().tier, Some("sonnet"));
///
/// // What an outage looks like, and what a changed file does.
/// handle.circuits()["sonnet"].force_open();
/// let answer = llm.clone().oneshot(LlmRequest::prompt("And now?").feature("chat")).await?;
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

/// What all clones, services and handles of a stack share.
struct Shared {
    context: StackContext,
    current: ArcSwap<Generation>,
    /// Where it was read from.
    path: Option<PathBuf>,
    /// How often it was read again at somebody's word.
    readings: AtomicU64,
    /// Kept by the events from the moment when somebody first asks for it.
    status: OnceLock<(StatusBoard, events::Following)>,
    /// Caps beside those of the configuration; held while the next generation is made out of the present one.
    extra_budgets: Mutex<Vec<Budget>>,
    #[cfg(feature = "redis")]
    replica_sync: Mutex<Option<replicas::ReplicaSync>>,
}

impl Stack {
    /// The stack of a configuration, with keys from the environment of this process.
    ///
    /// # Errors
    ///
    /// A tier or webhook whose key is not in the environment (the error names field and variable), a name that no tier has,
    /// two tiers of one name, a value that cannot be.
    pub fn from_config(config: Config) -> Result<Self, ConfigError> {
        Self::builder().build(config)
    }

    /// A stack with more to it than its configuration says.
    pub fn builder() -> StackBuilder {
        StackBuilder { context: StackContext::default() }
    }

    /// The stack as a service. It follows the stack's reloads, and so do its clones.
    pub fn service(&self) -> BoxLlmService {
        self.shared.sync_replicas();
        BoxLlmService::new(ReloadingService::new(self.shared.clone()))
    }

    /// What watches the stack and steers it.
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

/// Makes a [`Stack`] with what a configuration cannot say: clients of your own, another environment, a channel of events
/// that is there already. All of it stays over reloads.
#[must_use = "a builder does nothing until it builds"]
pub struct StackBuilder {
    context: StackContext,
}

impl StackBuilder {
    /// Sets where the layers and the reloads tell what happens. Default: a channel of the stack's own.
    pub fn events(mut self, events: Events) -> Self {
        self.context.fallback = FallbackHandle::new(events.clone());
        self.context.events = events;
        self
    }

    /// Sets where keys come from and, of a stack that is [loaded](Self::load) from a file, the file's references and
    /// overrides. Default: the environment of this process, read anew at each load.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.context.environment = Some(environment);
        self
    }

    /// Sets the HTTP client of all tiers that need one, and of the webhooks: an
    /// [`HttpClient`](crate::providers::transport::HttpClient) with settings of your own, one behind tower-http's layers,
    /// or a function in tests. Default: one `HttpClient`.
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

    /// Puts a service in the place of the provider that the configuration names for a tier: a client of your own, or a
    /// simulated one to rehearse an outage with. Retries, circuit and limits of time are around it as the configuration
    /// says, and no key is looked up for it. A tier that the configuration does not have is nobody's.
    pub fn leaf<S>(mut self, tier: impl Into<String>, service: S) -> Self
    where
        S: Service<LlmRequest, Response = LlmResponse> + Clone + Send + Sync + 'static,
        S::Error: Into<LlmError>,
        S::Future: Send + 'static,
    {
        let service = BoxLlmService::new(service.map_err(Into::into));
        self.context.leaves.insert(tier.into(), service);
        self
    }

    /// Sets where the answers are kept that replicas share: of a configuration whose cache says `shared: true`, which is
    /// refused without it. Default: none.
    pub fn shared_answers(mut self, store: impl AnswerStore) -> Self {
        self.context.answers = Some(CacheHandle::over(store));
        self
    }

    /// Sets where the replicas of this stack meet: what they share there, [`replicas`](crate::store::replicas) says, and how exact
    /// it is. A configuration whose cache says `shared: true` keeps its answers there too. Default: nowhere, each is alone.
    ///
    /// What is shared is kept in step by a task, from when the stack is made in a tokio runtime, or a service or handle of it
    /// is; it ends with the stack.
    #[cfg(feature = "redis")]
    pub fn replicas(mut self, redis: crate::store::redis::Redis) -> Self {
        self.context.hub = Some(replicas::ReplicaHub::at(redis));
        self
    }

    /// Sets where the tasks are that are handed to people, in place of the configuration's `stores: { durable }`: of
    /// a configuration that is made in the program, for a file must name one. Default: none.
    pub fn tasks(mut self, store: impl TaskStore) -> Self {
        self.context.tasks = Some(Arc::new(store));
        self
    }

    /// Makes the jitter of retries and circuits repeatable. Default: random seeds.
    pub fn seed(mut self, seed: u64) -> Self {
        self.context.seed = Some(seed);
        self
    }

    /// Looks up what a stack of this configuration takes from the environment: keys, secrets, servers. It makes no stack, opens
    /// no store and calls nobody.
    ///
    /// # Errors
    ///
    /// All that is missing or wrong there, each as [`build`](Self::build) says it.
    pub fn check(&self, config: &Config) -> Result<(), ConfigError> {
        Plan::new(config.clone(), &self.context).map(drop)
    }

    /// Ends a stream that breaks with its error where the configuration says `on_break: restart`: for callers who cannot be told to
    /// discard what they have, as over a provider's protocol. Default: it begins anew.
    pub fn without_restarts(mut self) -> Self {
        self.context.without_restarts = true;
        self
    }

    /// The stack of a configuration.
    ///
    /// # Errors
    ///
    /// As [`Stack::from_config`].
    pub fn build(self, config: Config) -> Result<Stack, ConfigError> {
        self.build_from(config, None)
    }

    fn build_from(self, config: Config, path: Option<PathBuf>) -> Result<Stack, ConfigError> {
        let Self { context } = self;
        let first = Plan::new(config, &context).and_then(|plan| Ok(Generation::new(plan, &context, &[], None)?));
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
    /// The board that keeps the status, from the first call on.
    fn status(&self) -> &StatusBoard {
        let begin = || {
            let (primary, others) = self.current.load().names();
            let board = StatusBoard::new(primary).tiers(others);
            let following = self.context.events.follow(board.clone());
            // What was heard of other replicas before anybody looked.
            for (circuit, handle) in self.current.load().circuits() {
                let (to, at) = (handle.state(), Instant::now());
                if to != CircuitState::Closed {
                    let (from, reason) = (CircuitState::Closed, CircuitReason::Failures);
                    board.clone().event(&Event::CircuitChanged { circuit, from, to, reason, at });
                }
            }
            (board, following)
        };
        &self.status.get_or_init(begin).0
    }

    /// Puts another configuration in place of the present one, or says why not; either is told once.
    fn reload(&self, config: Result<Config, ConfigError>, file: Option<&Path>) -> Result<Reload, ConfigError> {
        let reloaded = config.and_then(|config| self.swap(config)).map_err(|error| error.of(file));
        let at = Instant::now();
        self.context.events.send(match &reloaded {
            Ok(reload) => Event::Reloaded { kept: reload.kept.len(), changed: reload.changed.len(), at },
            Err(error) => Event::ReloadRefused { problem: error.to_string().into(), at },
        });
        reloaded
    }

    fn swap(&self, config: Config) -> Result<Reload, ConfigError> {
        let plan = Plan::new(config, &self.context)?;
        let extra_budgets = self.lock_reload();
        let before = self.current.load_full();
        let next = Generation::new(plan, &self.context, &extra_budgets, Some(&before))?;
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
            board.renew(&reload.changed);
        }
        Ok(reload)
    }

    /// Without a store for it there is nothing to share.
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
        let plan = Plan::of_current(&before, &self.context)?;
        let next = Generation::new(plan, &self.context, &budgets, Some(&before))?;
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
