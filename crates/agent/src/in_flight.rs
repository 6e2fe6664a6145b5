//! Actions in flight: the guard of the performing task, and the receivers of its outcome.

use std::{
    collections::{HashMap, hash_map::Entry},
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

use super::{ActionClaim, ActionError, ActionKey, ActionStore, KeyBy, store::ActionStoreFuture};
use steadfast_internal::sync::{Mutex, lock};

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) ttl: Duration,
    pub(super) lease: Duration,
    pub(super) store_timeout: Duration,
    pub(super) key_by: KeyBy,
}

pub(super) struct Shared<R> {
    pub(super) store: Box<dyn ActionStore<R>>,
    /// The actions in flight in this process, by key.
    pub(super) in_flight: Mutex<HashMap<Arc<str>, InFlight<R>>>,
}

pub(super) struct InFlight<R> {
    input: Arc<str>,
    outcome: OutcomeReceiver<R>,
}

/// A receiver for an action's outcome.
pub(super) type OutcomeReceiver<R> = watch::Receiver<Option<Outcome<R>>>;

pub(super) type Outcome<R> = Result<ActionOutput<R>, ActionError>;

#[derive(Clone)]
pub(super) struct ActionOutput<R> {
    pub(super) result: R,
    /// True if the action ran before.
    pub(super) repeated: bool,
}

/// The interval at which the store is asked for another process's result.
const POLL: Duration = Duration::from_millis(250);
/// The number of attempts to store a result.
const TRIES: u32 = 4;

impl<R> Shared<R> {
    /// Returns a receiver for the outcome and, if no one has started it, the guard that must run it.
    pub(super) fn join_or_claim(
        self: &Arc<Self>,
        key: &ActionKey,
    ) -> Result<(OutcomeReceiver<R>, Option<ActionGuard<R>>), ActionError> {
        let mut in_flight = lock(&self.in_flight);
        match in_flight.entry(key.as_str().into()) {
            Entry::Occupied(other) if *other.get().input != *key.input() => Err(ActionError::Conflict),
            Entry::Occupied(other) => Ok((other.get().outcome.clone(), None)),
            Entry::Vacant(free) => {
                let (sender, outcome) = watch::channel(None);
                free.insert(InFlight { input: key.input().into(), outcome: outcome.clone() });
                drop(in_flight);
                Ok((outcome, Some(ActionGuard { key: key.clone(), sender, shared: self.clone(), left: false })))
            }
        }
    }
}

/// The guard of a performing task; dropping it frees the key.
pub(super) struct ActionGuard<R> {
    key: ActionKey,
    pub(super) sender: watch::Sender<Option<Outcome<R>>>,
    shared: Arc<Shared<R>>,
    /// True if the key is already free, and may belong to another task.
    left: bool,
}

impl<R: Clone + Send + Sync + 'static> ActionGuard<R> {
    /// Performs the action and returns its outcome; `None` if nothing started and all receivers are gone.
    pub(super) async fn perform<A, F, E>(&mut self, settings: Settings, action: A) -> Option<Outcome<R>>
    where
        A: FnOnce() -> F,
        F: Future<Output = Result<R, E>>,
        E: Into<BoxError>,
    {
        let ticket = loop {
            match ask_store(settings, self.shared.store.claim(&self.key, settings.lease)).await {
                Ok(ActionClaim::Won { ticket }) => break ticket,
                Ok(ActionClaim::Done(result)) => return Some(Ok(ActionOutput { result, repeated: true })),
                Ok(ActionClaim::Conflict) => return Some(Err(ActionError::Conflict)),
                Ok(ActionClaim::Busy { lease_left }) => sleep(lease_left.min(POLL)).await,
                Err(error) => return Some(Err(error)),
            }
            if self.release_if_abandoned() {
                return None;
            }
        };
        let (key, store) = (&self.key, &*self.shared.store);
        let action = AssertUnwindSafe(async { action().await.map_err(|error| ActionError::failed(error.into())) });
        let result = under_lease(store, key, ticket, settings, action.catch_unwind()).await;
        Some(match result.unwrap_or(Err(ActionError::Panicked)) {
            Ok(result) => {
                keep(store, key, ticket, settings, &result).await;
                Ok(ActionOutput { result, repeated: false })
            }
            Err(error) => {
                // Without the store's answer, the lease expires by itself.
                let _ = ask_store(settings, store.release(key, ticket)).await;
                Err(error)
            }
        })
    }

    /// Frees the key if no receiver is left. Another process runs the action, and a new caller starts over.
    fn release_if_abandoned(&mut self) -> bool {
        let mut in_flight = lock(&self.shared.in_flight);
        // One receiver is the map's own, and new ones are created only under this lock.
        self.left = self.sender.receiver_count() <= 1;
        let gone = self.left.then(|| in_flight.remove(self.key.as_str()));
        drop(in_flight);
        drop(gone);
        self.left
    }
}

impl<R> Drop for ActionGuard<R> {
    fn drop(&mut self) {
        if !self.left {
            let gone = lock(&self.shared.in_flight).remove(self.key.as_str());
            // The last result may be dropped with it: foreign code must not run under the lock.
            drop(gone);
        }
    }
}

/// Renews the key's lease while the action runs.
async fn under_lease<R: 'static, T>(
    store: &dyn ActionStore<R>,
    key: &ActionKey,
    ticket: u64,
    settings: Settings,
    action: impl Future<Output = T>,
) -> T {
    let mut action = pin!(action);
    loop {
        match select(action.as_mut(), pin!(sleep(settings.lease / 3))).await {
            Either::Left((result, _)) => return result,
            // A started action goes on in any state of its lease.
            Either::Right(_) => {
                let renewal = pin!(ask_store(settings, store.renew(key, ticket, settings.lease)));
                if let Either::Left((result, _)) = select(action.as_mut(), renewal).await {
                    return result;
                }
            }
        }
    }
}

/// Stores the result. The action has already run, so a failure of the store only hides the result from others; for a
/// while the lease keeps them from repeating the action.
async fn keep<R: Clone + 'static>(
    store: &dyn ActionStore<R>,
    key: &ActionKey,
    ticket: u64,
    settings: Settings,
    result: &R,
) {
    for tried in 1..=TRIES {
        match ask_store(settings, store.complete(key, ticket, result.clone(), settings.ttl)).await {
            Ok(_) => return,
            Err(_) if tried < TRIES => sleep(POLL * tried).await,
            Err(error) => tracing::warn!(%error, "action result not stored"),
        }
    }
}

/// Waits for the store's answer, within its time limit.
async fn ask_store<T>(settings: Settings, request: ActionStoreFuture<'_, T>) -> Result<T, ActionError> {
    match timeout(settings.store_timeout, request).await {
        Ok(said) => said.map_err(|error| ActionError::Store(error.into())),
        Err(elapsed) => Err(ActionError::Store(Arc::new(elapsed))),
    }
}
