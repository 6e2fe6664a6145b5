//! The stack of a configuration: [`Stack`], what steers it, and how it is loaded anew.
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
//! time, which go on for the first token and for silences) · CircuitBreaker · Timeout · leaf.
//!
//! A reload makes a new generation beside the serving one, and swaps one pointer; requests under way end where they
//! began. An unchanged part is *kept, not copied*: the same leaf and its connections, the same circuit, the same caps.
//! The cache's answers go on in its handle (`cache.rs`); the bulkhead hands on the requests in flight
//! (`BulkheadLayer::succeeding`), the fallback its serving tier (`FallbackLayer::succeeding`). The stack refuses a
//! wrong file as a whole.

#[cfg(feature = "alerts")]
mod alert_rules;
mod alerts;
mod cache;
mod chain;
mod file;
mod generation;
mod handle;
mod handoff;
mod hedge;
mod leaf;
mod makings;
mod mirror;
mod operate;
mod part;
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
mod validate;
mod view;

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
pub use self::alerts::Alerting;
use self::{
    generation::{Generation, Plan},
    makings::Makings,
    service::Following,
};
pub use self::{
    handle::{Reload, StackHandle, TierInfo},
    handoff::HandingOver,
    recovery::CheckingRecovery,
};
use super::{Budget, Config, ConfigError, Environment, Problem};
use crate::{
    BoxLlmService, CacheHandle, Event, Events, FallbackHandle, InvalidConfig, LlmError, LlmRequest, LlmResponse,
    events::{self, CircuitReason, CircuitState, Subscriber as _},
    handoff::TaskStore,
    internal::sync::{Mutex, MutexGuard, lock},
    layers::cache::AnswerStore,
    providers::http::{RequestBody, boxed},
    subscribers::StatusBoard,
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
    makings: Makings,
    current: ArcSwap<Generation>,
    /// Where it was read from.
    path: Option<PathBuf>,
    /// How often it was read again at somebody's word.
    readings: AtomicU64,
    /// Kept by the events from the moment when somebody first asks for it.
    status: OnceLock<(StatusBoard, events::Following)>,
    /// Caps beside those of the configuration; held while the next generation is made out of the present one.
    turn: Mutex<Vec<Budget>>,
    #[cfg(feature = "redis")]
    in_step: Mutex<Option<replicas::InStep>>,
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
        StackBuilder { makings: Makings::default() }
    }

    /// The stack as a service. It follows the stack's reloads, and so do its clones.
    pub fn service(&self) -> BoxLlmService {
        self.shared.keep_in_step();
        BoxLlmService::new(Following::new(self.shared.clone()))
    }

    /// What watches the stack and steers it.
    pub fn handle(&self) -> StackHandle {
        self.shared.keep_in_step();
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
    makings: Makings,
}

impl StackBuilder {
    /// Sets where the layers and the reloads tell what happens. Default: a channel of the stack's own.
    pub fn events(mut self, events: Events) -> Self {
        self.makings.fallback = FallbackHandle::new(events.clone());
        self.makings.events = events;
        self
    }

    /// Sets where keys come from and, of a stack that is [loaded](Self::load) from a file, the file's references and
    /// overrides. Default: the environment of this process, read anew at each load.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.makings.environment = Some(environment);
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
        self.makings.set_transport(boxed(transport));
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
        self.makings.leaves.insert(tier.into(), service);
        self
    }

    /// Sets where the answers are kept that replicas share: of a configuration whose cache says `shared: true`, which is
    /// refused without it. Default: none.
    pub fn shared_answers(mut self, store: impl AnswerStore) -> Self {
        self.makings.answers = Some(CacheHandle::over(store));
        self
    }

    /// Sets where the replicas of this stack meet: what they share there, [`replicas`](crate::stores::replicas) says, and how exact
    /// it is. A configuration whose cache says `shared: true` keeps its answers there too. Default: nowhere, each is alone.
    ///
    /// What is shared is kept in step by a task, from when the stack is made in a tokio runtime, or a service or handle of it
    /// is; it ends with the stack.
    #[cfg(feature = "redis")]
    pub fn replicas(mut self, redis: crate::stores::redis::Redis) -> Self {
        self.makings.meeting = Some(replicas::Meeting::at(redis));
        self
    }

    /// Sets where the tasks are that are handed to people, in place of the configuration's `stores: { durable }`: of
    /// a configuration that is made in the program, for a file must name one. Default: none.
    pub fn tasks(mut self, store: impl TaskStore) -> Self {
        self.makings.tasks = Some(Arc::new(store));
        self
    }

    /// Makes the jitter of retries and circuits repeatable. Default: random seeds.
    pub fn seed(mut self, seed: u64) -> Self {
        self.makings.seed = Some(seed);
        self
    }

    /// Looks up what a stack of this configuration takes from the environment: keys, secrets, servers. It makes no stack, opens
    /// no store and calls nobody.
    ///
    /// # Errors
    ///
    /// All that is missing or wrong there, each as [`build`](Self::build) says it.
    pub fn check(&self, config: &Config) -> Result<(), ConfigError> {
        Plan::new(config.clone(), &self.makings).map(drop)
    }

    /// Ends a stream that breaks with its error where the configuration says `on_break: restart`: for callers who cannot be told to
    /// discard what they have, as over a provider's protocol. Default: it begins anew.
    pub fn without_restarts(mut self) -> Self {
        self.makings.without_restarts = true;
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
        let Self { makings } = self;
        let first = Plan::new(config, &makings).and_then(|plan| Ok(Generation::new(plan, &makings, &[], None)?));
        let current = ArcSwap::from_pointee(first.map_err(|error| error.of(path.as_deref()))?);
        let (readings, status) = (AtomicU64::new(0), OnceLock::new());
        let shared = Shared {
            makings,
            current,
            path,
            readings,
            status,
            turn: Mutex::default(),
            #[cfg(feature = "redis")]
            in_step: Mutex::default(),
        };
        shared.keep_in_step();
        Ok(Stack { shared: Arc::new(shared) })
    }
}

impl fmt::Debug for StackBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackBuilder")
            .field("environment", &self.makings.environment)
            .field("leaves", &self.makings.leaves.keys())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The board that keeps the status, from the first call on.
    fn status(&self) -> &StatusBoard {
        let begin = || {
            let (primary, others) = self.current.load().names();
            let board = StatusBoard::new(primary).tiers(others);
            let following = self.makings.events.follow(board.clone());
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
        self.makings.events.send(match &reloaded {
            Ok(reload) => Event::Reloaded { kept: reload.kept.len(), changed: reload.changed.len(), at },
            Err(error) => Event::ReloadRefused { problem: error.to_string().into(), at },
        });
        reloaded
    }

    fn swap(&self, config: Config) -> Result<Reload, ConfigError> {
        let plan = Plan::new(config, &self.makings)?;
        let turn = self.turn();
        let before = self.current.load_full();
        let next = Generation::new(plan, &self.makings, &turn, Some(&before))?;
        let reload = next.since(&before);
        self.current.store(Arc::new(next));
        if let Some(kept) = &before.kept {
            kept.make_way(self.current.load().kept.as_ref());
        }
        self.makings.fallback.forget_all_but(|tier| self.current.load().part(tier).is_some());
        self.keep_in_step();
        drop(turn);
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
    fn keep_in_step(&self) {}

    fn turn(&self) -> MutexGuard<'_, Vec<Budget>> {
        lock(&self.turn)
    }

    fn set_budgets(&self, budgets: Vec<Budget>) -> Result<(), ConfigError> {
        let mut turn = self.turn();
        if *turn == budgets {
            return Ok(());
        }
        let before = self.current.load_full();
        let plan = Plan::again(&before, &self.makings)?;
        let next = Generation::new(plan, &self.makings, &budgets, Some(&before))?;
        self.current.store(Arc::new(next));
        self.keep_in_step();
        *turn = budgets;
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
