//! What an agent does, once for each key.

use std::{collections::HashMap, fmt, future::Future, sync::Arc, time::Duration};

use tower::BoxError;

use super::{
    ActionError, ActionKey, ActionStore, CompletedAnswer, KeyBy, MemoryActions, Scope, ToolOutcome,
    in_flight::{ActionOutput, Outcome, Settings, Shared},
};
use crate::{
    chat::ToolCall,
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

/// The default of [`Actions::ttl`]: a day, so that a turn can be tried again after a night.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// The default of [`Actions::lease`].
const LEASE: Duration = Duration::from_secs(60);
/// The default of [`Actions::store_timeout`].
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// A shorter lease would be nothing but renewals.
const SHORTEST_LEASE: Duration = Duration::from_millis(100);

impl<R: Clone + Send + Sync + 'static> Actions<R> {
    /// Results are kept in memory: 10,000 of them, for a day.
    pub fn new() -> Self {
        Self::with_store(MemoryActions::new())
    }

    /// Results are kept in this store: it may outlive the process, and be shared by several.
    pub fn with_store(store: impl ActionStore<R>) -> Self {
        let settings = Settings { ttl: TTL, lease: LEASE, store_timeout: STORE_TIMEOUT, key_by: KeyBy::default() };
        let shared = Shared { store: Box::new(store), in_flight: Mutex::new(HashMap::new()) };
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
    /// 60 s; at least 100 ms.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease.max(SHORTEST_LEASE);
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
    /// [`ToolOutcome::result`].
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
        ensure_complete(answer)?;
        self.join(key, action).await.map(|done| done.result)
    }

    /// Waits for what is being done under this key, or begins it.
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
        // Who performs it says what came of it before it goes, unless its runtime ends.
        let outcome = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        let done = outcome.unwrap_or(Err(ActionError::Interrupted))?;
        Ok(ActionOutput { repeated: joined || done.repeated, ..done })
    }
}

/// Whether there is an answer to act on.
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
