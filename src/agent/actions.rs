//! What an agent does, once for each key.

use std::{
    collections::{HashMap, hash_map::Entry},
    error::Error,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{Either, select},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tower::BoxError;

use super::{
    ActionClaim, ActionKey, ActionStore, CompletedAnswer, KeyBy, MemoryActions, Scope, store::ActionStoreFuture,
};
use crate::{
    chat::{FinishReason, ToolCall, ToolResult},
    sync::{Mutex, lock},
};

/// Does what a completed answer asks for, each action once for its key, whoever asks for it how often.
///
/// `R` is what an action gives back: a tool's text, usually. See the [module docs](super) for what is promised, and for an
/// agent's loop.
///
/// An action runs in a task of its own: whoever waits for it may leave, and it goes on. Those who ask for the same while it
/// runs wait for it, and have what it comes to; those who ask later have its result, for as long as it is
/// [kept](Self::ttl). One that fails, or panics, is not kept: those who waited have its error, and the next who asks does
/// it again.
///
/// Clones are the same actions.
pub struct Actions<R> {
    settings: Settings,
    shared: Arc<Shared<R>>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    ttl: Duration,
    lease: Duration,
    store_timeout: Duration,
    key_by: KeyBy,
}

struct Shared<R> {
    store: Box<dyn ActionStore<R>>,
    /// What is being done here, by its key.
    under_way: Mutex<HashMap<Arc<str>, UnderWay<R>>>,
}

struct UnderWay<R> {
    input: Arc<str>,
    outcome: watch::Receiver<Option<Outcome<R>>>,
}

type Outcome<R> = Result<Done<R>, ActionError>;

#[derive(Clone)]
struct Done<R> {
    result: R,
    /// Whether it was done before.
    repeated: bool,
}

/// The default of [`Actions::ttl`]: a day, so that a turn can be tried again after a night.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The default of [`Actions::lease`].
const LEASE: Duration = Duration::from_secs(60);
/// The default of [`Actions::store_timeout`].
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a store is asked whether another has done what it is at.
const POLL: Duration = Duration::from_millis(250);
/// How often it is tried to write a result down.
const TRIES: u32 = 4;

impl<R: Clone + Send + Sync + 'static> Actions<R> {
    /// Results are kept in memory: 10,000 of them, for a day.
    pub fn new() -> Self {
        Self::with_store(MemoryActions::new())
    }

    /// Results are kept in this store: it may outlive the process, and be shared by several.
    pub fn with_store(store: impl ActionStore<R>) -> Self {
        let settings = Settings { ttl: TTL, lease: LEASE, store_timeout: STORE_TIMEOUT, key_by: KeyBy::default() };
        let shared = Shared { store: Box::new(store), under_way: Mutex::new(HashMap::new()) };
        Self { settings, shared: Arc::new(shared) }
    }

    /// Sets how long a result is kept: for so long a repeated action is not done again. Default: a day.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = ttl;
        self
    }

    /// Sets how long an action belongs to a process that is heard of no more: after it, another may do it. While it runs
    /// the lease is renewed, at a third of it. It matters where a store is shared by processes, or outlives them. Default:
    /// 60 s.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// Sets how long the store may take. An action is not begun where it cannot be asked. Default: 2 s.
    #[must_use]
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.settings.store_timeout = timeout;
        self
    }

    /// Sets by what a tool call is known again. Default: [`KeyBy::Arguments`].
    #[must_use]
    pub fn key_by(mut self, by: KeyBy) -> Self {
        self.settings.key_by = by;
        self
    }

    /// Does each tool call of an answer that was not done yet in this scope, one after the other, and gives what came of
    /// each, in their order. Whatever comes of one, the next is done too.
    ///
    /// # Errors
    ///
    /// The answer [stopped short](CompletedAnswer::stopped_short): nothing is done. What becomes of a single call is in
    /// [`Acted::result`].
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped, the call that is being done goes on, and those after it are not begun. To ask again is
    /// safe.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn act<A, F, E>(
        &self,
        scope: &Scope,
        answer: &CompletedAnswer,
        action: A,
    ) -> Result<Vec<Acted<R>>, ActionError>
    where
        A: Fn(ToolCall) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        goes_on(answer)?;
        let (action, mut acted) = (Arc::new(action), Vec::new());
        for call in answer.tool_calls() {
            let key = ActionKey::of_call(scope, call, self.settings.key_by);
            let (action, asked) = (action.clone(), call.clone());
            let done = self.join(&key, move || action(asked)).await;
            let repeated = done.as_ref().is_ok_and(|done| done.repeated);
            acted.push(Acted { call: call.clone(), result: done.map(|done| done.result), repeated });
        }
        Ok(acted)
    }

    /// Does something of the caller's own for a completed answer, once for this key: to send it, to book it, to write it
    /// down.
    ///
    /// # Errors
    ///
    /// The answer [stopped short](CompletedAnswer::stopped_short), or what came of the action.
    ///
    /// # Cancel safety
    ///
    /// Where the future is dropped, the action goes on.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn once<A, F, E>(&self, key: &ActionKey, answer: &CompletedAnswer, action: A) -> Result<R, ActionError>
    where
        A: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<R, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        goes_on(answer)?;
        self.join(key, action).await.map(|done| done.result)
    }

    /// Waits for what is being done under this key, or begins it.
    async fn join<A, F, E>(&self, key: &ActionKey, action: A) -> Outcome<R>
    where
        A: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<R, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let (mut outcome, begins) = self.shared.enter(key)?;
        let joined = begins.is_none();
        if let Some(place) = begins {
            let settings = self.settings;
            tokio::spawn(async move {
                let outcome = place.shared.perform(&place.key, settings, action).await;
                place.leave(outcome);
            });
        }
        // Who performs it says what came of it before it goes, unless its runtime ends.
        let outcome = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        let done = outcome.unwrap_or(Err(ActionError::Interrupted))?;
        Ok(Done { repeated: joined || done.repeated, ..done })
    }
}

/// Whether there is an answer to act on.
fn goes_on(answer: &CompletedAnswer) -> Result<(), ActionError> {
    answer.stopped_short().map_or(Ok(()), |reason| Err(ActionError::StoppedShort(reason.clone())))
}

impl<R: Clone + Send + Sync + 'static> Shared<R> {
    /// Where to hear what comes of it, and the place of the one who does it where nobody did yet.
    #[expect(clippy::type_complexity, reason = "said once")]
    fn enter(
        self: &Arc<Self>,
        key: &ActionKey,
    ) -> Result<(watch::Receiver<Option<Outcome<R>>>, Option<Place<R>>), ActionError> {
        let mut under_way = lock(&self.under_way);
        match under_way.entry(key.as_str().into()) {
            Entry::Occupied(other) if *other.get().input != *key.input() => Err(ActionError::Conflict),
            Entry::Occupied(other) => Ok((other.get().outcome.clone(), None)),
            Entry::Vacant(free) => {
                let (sender, outcome) = watch::channel(None);
                free.insert(UnderWay { input: key.input().into(), outcome: outcome.clone() });
                drop(under_way);
                Ok((outcome, Some(Place { key: key.clone(), sender, shared: self.clone() })))
            }
        }
    }

    async fn perform<A, F, E>(&self, key: &ActionKey, settings: Settings, action: A) -> Outcome<R>
    where
        A: FnOnce() -> F,
        F: Future<Output = Result<R, E>>,
        E: Into<BoxError>,
    {
        let ticket = loop {
            match asked(settings, self.store.claim(key, settings.lease)).await? {
                ActionClaim::Won { ticket } => break ticket,
                ActionClaim::Done(result) => return Ok(Done { result, repeated: true }),
                ActionClaim::Conflict => return Err(ActionError::Conflict),
                ActionClaim::Busy { lease_left } => sleep(lease_left.min(POLL)).await,
            }
        };
        let action = AssertUnwindSafe(async { action().await.map_err(|error| ActionError::failed(error.into())) });
        let result = self.under_lease(key, ticket, settings, action.catch_unwind()).await;
        match result.unwrap_or(Err(ActionError::Panicked)) {
            Ok(result) => {
                self.keep(key, ticket, settings, &result).await;
                Ok(Done { result, repeated: false })
            }
            Err(error) => {
                // Where the store cannot be asked, the lease ends by itself.
                let _ = asked(settings, self.store.release(key, ticket)).await;
                Err(error)
            }
        }
    }

    /// Keeps the key for as long as the action runs.
    async fn under_lease<T>(
        &self,
        key: &ActionKey,
        ticket: u64,
        settings: Settings,
        action: impl Future<Output = T>,
    ) -> T {
        let mut action = pin!(action);
        loop {
            match select(action.as_mut(), pin!(sleep(settings.lease / 3))).await {
                Either::Left((result, _)) => return result,
                // An action that has begun is not stopped, whatever the store says of its lease.
                Either::Right(_) => {
                    let renewal = pin!(asked(settings, self.store.renew(key, ticket, settings.lease)));
                    if let Either::Left((result, _)) = select(action.as_mut(), renewal).await {
                        return result;
                    }
                }
            }
        }
    }

    /// Writes the result down. It has been done: where the store cannot be asked, it is not known to others, and the lease
    /// keeps them from doing it again for a while.
    async fn keep(&self, key: &ActionKey, ticket: u64, settings: Settings, result: &R) {
        for tried in 1..=TRIES {
            match asked(settings, self.store.complete(key, ticket, result.clone(), settings.ttl)).await {
                Ok(_) => return,
                Err(_) if tried < TRIES => sleep(POLL * tried).await,
                Err(error) => tracing::warn!(%error, "an action was done, and could not be written down"),
            }
        }
    }
}

/// What the store says, in the time that it has.
async fn asked<T>(settings: Settings, asks: ActionStoreFuture<'_, T>) -> Result<T, ActionError> {
    match timeout(settings.store_timeout, asks).await {
        Ok(said) => said.map_err(|error| ActionError::Store(error.into())),
        Err(elapsed) => Err(ActionError::Store(Arc::new(elapsed))),
    }
}

/// The place of the one who acts; dropped, it is free.
struct Place<R> {
    key: ActionKey,
    sender: watch::Sender<Option<Outcome<R>>>,
    shared: Arc<Shared<R>>,
}

impl<R> Place<R> {
    fn leave(self, outcome: Outcome<R>) {
        self.sender.send_replace(Some(outcome));
    }
}

impl<R> Drop for Place<R> {
    fn drop(&mut self) {
        let gone = lock(&self.shared.under_way).remove(self.key.as_str());
        // The last result may go with it: foreign code, not under the lock.
        drop(gone);
    }
}

/// What came of a tool call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Acted<R> {
    /// The call, as this answer has it.
    pub call: ToolCall,
    /// What the action gave back, now or when it was first done.
    pub result: Result<R, ActionError>,
    /// Whether it was somebody else who did it, or somebody before.
    pub repeated: bool,
}

impl<R: AsRef<str>> Acted<R> {
    /// The same for the model: the text, or that the tool failed and with which words.
    pub fn tool_result(&self) -> ToolResult {
        let mut result = match &self.result {
            Ok(text) => ToolResult::new(&self.call.id, text.as_ref()),
            Err(error) => ToolResult::new(&self.call.id, error.to_string()),
        };
        result.name = Some(self.call.name.clone());
        result.is_error = self.result.is_err();
        result
    }
}

/// Why an action has no result.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ActionError {
    /// The provider ended the answer before the model had said all: nothing was begun.
    StoppedShort(FinishReason),
    /// The action failed. It may be tried again.
    Failed(Arc<dyn Error + Send + Sync>),
    /// The action panicked. It may be tried again.
    Panicked,
    /// The runtime that it ran in ended. It may have been done.
    Interrupted,
    /// The key stands for another tool or other arguments: nothing was begun.
    Conflict,
    /// The store could not be asked whether it was done before: nothing was begun.
    Store(Arc<dyn Error + Send + Sync>),
}

impl ActionError {
    fn failed(error: BoxError) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for ActionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StoppedShort(reason) => write!(f, "the answer stopped short ({reason:?}): nothing is done for it"),
            Self::Failed(error) => write!(f, "the action failed: {error}"),
            Self::Panicked => f.write_str("the action panicked"),
            Self::Interrupted => f.write_str("the action was interrupted, and may have been done"),
            Self::Conflict => f.write_str("the action's key stands for something else"),
            Self::Store(error) => write!(f, "it is not known whether the action was done before: {error}"),
        }
    }
}

impl Error for ActionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) | Self::Store(error) => Some(&**error),
            _ => None,
        }
    }
}

impl<R: Clone + Send + Sync + 'static> Default for Actions<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> Clone for Actions<R> {
    fn clone(&self) -> Self {
        Self { settings: self.settings, shared: self.shared.clone() }
    }
}

impl<R> fmt::Debug for Actions<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let under_way = lock(&self.shared.under_way).len();
        f.debug_struct("Actions").field("settings", &self.settings).field("under_way", &under_way).finish()
    }
}
