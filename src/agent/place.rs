//! An action under way: the place of the one who acts, and those who wait for it.

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
use crate::internal::sync::{Mutex, lock};

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) ttl: Duration,
    pub(super) lease: Duration,
    pub(super) store_timeout: Duration,
    pub(super) key_by: KeyBy,
}

pub(super) struct Shared<R> {
    pub(super) store: Box<dyn ActionStore<R>>,
    /// What is being done here, by its key.
    pub(super) under_way: Mutex<HashMap<Arc<str>, UnderWay<R>>>,
}

pub(super) struct UnderWay<R> {
    input: Arc<str>,
    outcome: Heard<R>,
}

/// Where it is heard what came of it.
pub(super) type Heard<R> = watch::Receiver<Option<Outcome<R>>>;

pub(super) type Outcome<R> = Result<Done<R>, ActionError>;

#[derive(Clone)]
pub(super) struct Done<R> {
    pub(super) result: R,
    /// Whether it was done before.
    pub(super) repeated: bool,
}

/// How often a store is asked whether another has done what it is at.
const POLL: Duration = Duration::from_millis(250);
/// How often it is tried to write a result down.
const TRIES: u32 = 4;

impl<R> Shared<R> {
    /// Where to hear what comes of it, and the place of the one who does it where nobody did yet.
    pub(super) fn enter(self: &Arc<Self>, key: &ActionKey) -> Result<(Heard<R>, Option<Place<R>>), ActionError> {
        let mut under_way = lock(&self.under_way);
        match under_way.entry(key.as_str().into()) {
            Entry::Occupied(other) if *other.get().input != *key.input() => Err(ActionError::Conflict),
            Entry::Occupied(other) => Ok((other.get().outcome.clone(), None)),
            Entry::Vacant(free) => {
                let (sender, outcome) = watch::channel(None);
                free.insert(UnderWay { input: key.input().into(), outcome: outcome.clone() });
                drop(under_way);
                Ok((outcome, Some(Place { key: key.clone(), sender, shared: self.clone(), left: false })))
            }
        }
    }
}

/// The place of the one who acts; dropped, it is free.
pub(super) struct Place<R> {
    key: ActionKey,
    pub(super) sender: watch::Sender<Option<Outcome<R>>>,
    shared: Arc<Shared<R>>,
    /// Whether it is free already, and may be another's.
    left: bool,
}

impl<R: Clone + Send + Sync + 'static> Place<R> {
    /// What came of it; `None` where nothing was begun and nobody waits for it any longer.
    pub(super) async fn perform<A, F, E>(&mut self, settings: Settings, action: A) -> Option<Outcome<R>>
    where
        A: FnOnce() -> F,
        F: Future<Output = Result<R, E>>,
        E: Into<BoxError>,
    {
        let ticket = loop {
            match asked(settings, self.shared.store.claim(&self.key, settings.lease)).await {
                Ok(ActionClaim::Won { ticket }) => break ticket,
                Ok(ActionClaim::Done(result)) => return Some(Ok(Done { result, repeated: true })),
                Ok(ActionClaim::Conflict) => return Some(Err(ActionError::Conflict)),
                Ok(ActionClaim::Busy { lease_left }) => sleep(lease_left.min(POLL)).await,
                Err(error) => return Some(Err(error)),
            }
            if self.is_left_alone() {
                return None;
            }
        };
        let (key, store) = (&self.key, &*self.shared.store);
        let action = AssertUnwindSafe(async { action().await.map_err(|error| ActionError::failed(error.into())) });
        let result = under_lease(store, key, ticket, settings, action.catch_unwind()).await;
        Some(match result.unwrap_or(Err(ActionError::Panicked)) {
            Ok(result) => {
                keep(store, key, ticket, settings, &result).await;
                Ok(Done { result, repeated: false })
            }
            Err(error) => {
                // Where the store cannot be asked, the lease ends by itself.
                let _ = asked(settings, store.release(key, ticket)).await;
                Err(error)
            }
        })
    }

    /// Gives the place up if nobody waits here any longer. Another is at it, and whoever asks again begins again.
    fn is_left_alone(&mut self) -> bool {
        let mut under_way = lock(&self.shared.under_way);
        // One is the map's own, and others come in only under this lock.
        self.left = self.sender.receiver_count() <= 1;
        let gone = self.left.then(|| under_way.remove(self.key.as_str()));
        drop(under_way);
        drop(gone);
        self.left
    }
}

impl<R> Drop for Place<R> {
    fn drop(&mut self) {
        if !self.left {
            let gone = lock(&self.shared.under_way).remove(self.key.as_str());
            // The last result may go with it: foreign code, not under the lock.
            drop(gone);
        }
    }
}

/// Keeps the key for as long as the action runs.
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
            // An action that has begun is not stopped, whatever the store says of its lease.
            Either::Right(_) => {
                let renewal = pin!(asked(settings, store.renew(key, ticket, settings.lease)));
                if let Either::Left((result, _)) = select(action.as_mut(), renewal).await {
                    return result;
                }
            }
        }
    }
}

/// Writes the result down. It has been done: where the store cannot be asked, it is not known to others, and the lease
/// keeps them from doing it again for a while.
async fn keep<R: Clone + 'static>(
    store: &dyn ActionStore<R>,
    key: &ActionKey,
    ticket: u64,
    settings: Settings,
    result: &R,
) {
    for tried in 1..=TRIES {
        match asked(settings, store.complete(key, ticket, result.clone(), settings.ttl)).await {
            Ok(_) => return,
            Err(_) if tried < TRIES => sleep(POLL * tried).await,
            Err(error) => tracing::warn!(%error, "an action was done, and could not be written down"),
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
