//! An agent's actions, once for each key.

use std::{collections::HashMap, fmt, future::Future, sync::Arc, time::Duration};

use tower::BoxError;

use super::{
    ActionError, ActionKey, ActionStore, CompletedAnswer, KeyBy, MemoryActions, Scope, ToolOutcome,
    in_flight::{ActionOutput, Outcome, Settings, Shared},
};
use steadfast::chat::ToolCall;
use steadfast_internal::sync::{Mutex, lock};

/// Runs the actions that a completed answer requests, each once for its key, however often and by however many callers
/// it is requested.
///
/// `R` is an action's result, usually a tool's text. See the [module docs](super) for the guarantees and for an
/// agent's loop.
///
/// An action runs in its own task and continues even if its caller leaves. Concurrent callers of the same action wait
/// for it and share its result; later callers receive its result for as long as it is [kept](Self::ttl). A failure or
/// panic is not kept: the waiting callers receive its error, and the next caller runs the action again.
///
/// Clones are the same actions.
pub struct Actions<R> {
    settings: Settings,
    shared: Arc<Shared<R>>,
}

/// The default of [`Actions::ttl`]: a day, so that a turn can be retried the next morning.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The default of [`Actions::lease`].
const LEASE: Duration = Duration::from_secs(60);
/// The default of [`Actions::store_timeout`].
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// The shortest lease; a shorter one would consist of renewals only.
const SHORTEST_LEASE: Duration = Duration::from_millis(100);

impl<R: Clone + Send + Sync + 'static> Actions<R> {
    /// Creates actions that keep results in memory: 10,000 of them, for a day.
    pub fn new() -> Self {
        Self::with_store(MemoryActions::new())
    }

    /// Creates actions that keep results in this store, which may outlive the process and be shared by several.
    pub fn with_store(store: impl ActionStore<R>) -> Self {
        let settings = Settings { ttl: TTL, lease: LEASE, store_timeout: STORE_TIMEOUT, key_by: KeyBy::default() };
        let shared = Shared { store: Box::new(store), in_flight: Mutex::new(HashMap::new()) };
        Self { settings, shared: Arc::new(shared) }
    }

    /// Sets how long a result is kept and its action is not repeated. Default: a day.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = ttl;
        self
    }

    /// Sets how long an action belongs to a process that has gone silent; afterwards another process may run it. A
    /// running action renews its lease after each third of it. This matters if processes share a store, or the store
    /// outlives them. Default: 60 s; at least 100 ms.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease.max(SHORTEST_LEASE);
        self
    }

    /// Sets the time limit of store operations. Without the store's answer, an action does not start. Default: 2 s.
    #[must_use]
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.settings.store_timeout = timeout;
        self
    }

    /// Sets how a repeated tool call is recognized. Default: [`KeyBy::Arguments`].
    #[must_use]
    pub fn key_by(mut self, by: KeyBy) -> Self {
        self.settings.key_by = by;
        self
    }

    /// Runs each tool call of an answer that has not run in this scope yet, one after the other, and returns their
    /// outcomes in order. A failed call does not stop the next.
    ///
    /// # Errors
    ///
    /// The answer [stopped short](CompletedAnswer::stopped_short), so nothing runs. A single call's error is in
    /// [`ToolOutcome::result`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the current call continues and those after it do not start. Calling again is safe.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub async fn act<A, F, E>(
        &self,
        scope: &Scope,
        answer: &CompletedAnswer,
        action: A,
    ) -> Result<Vec<ToolOutcome<R>>, ActionError>
    where
        A: Fn(ToolCall) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        ensure_complete(answer)?;
        let (action, mut acted) = (Arc::new(action), Vec::new());
        for call in answer.tool_calls() {
            let key = ActionKey::of_call(scope, call, self.settings.key_by);
            let (action, asked) = (action.clone(), call.clone());
            let done = self.join(&key, move || action(asked)).await;
            let repeated = done.as_ref().is_ok_and(|done| done.repeated);
            acted.push(ToolOutcome { call: call.clone(), result: done.map(|done| done.result), repeated });
        }
        Ok(acted)
    }

    /// Runs a custom action for a completed answer, once for this key: for example to send, book or store it.
    ///
    /// # Errors
    ///
    /// The answer [stopped short](CompletedAnswer::stopped_short), or the action failed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the action continues.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub async fn once<A, F, E>(&self, key: &ActionKey, answer: &CompletedAnswer, action: A) -> Result<R, ActionError>
    where
        A: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<R, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        ensure_complete(answer)?;
        self.join(key, action).await.map(|done| done.result)
    }

    /// Waits for the action under this key, or starts it.
    async fn join<A, F, E>(&self, key: &ActionKey, action: A) -> Outcome<R>
    where
        A: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<R, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let (mut outcome, begins) = self.shared.join_or_claim(key)?;
        let joined = begins.is_none();
        if let Some(mut place) = begins {
            let settings = self.settings;
            tokio::spawn(async move {
                if let Some(outcome) = place.perform(settings, action).await {
                    place.sender.send_replace(Some(outcome));
                }
            });
        }
        // The performing task sends its outcome before it ends, unless its runtime ends.
        let outcome = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        let done = outcome.unwrap_or(Err(ActionError::Interrupted))?;
        Ok(ActionOutput { repeated: joined || done.repeated, ..done })
    }
}

/// Checks that the answer may be acted on.
fn ensure_complete(answer: &CompletedAnswer) -> Result<(), ActionError> {
    answer.stopped_short().map_or(Ok(()), |reason| Err(ActionError::StoppedShort(reason.clone())))
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
        let in_flight = lock(&self.shared.in_flight).len();
        f.debug_struct("Actions").field("settings", &self.settings).field("in_flight", &in_flight).finish()
    }
}
