//! A store with a time limit on each request. It is left alone while it does not respond.

use std::{
    sync::atomic::{
        AtomicBool,
        Ordering::{AcqRel, Acquire, Release},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use tower::BoxError;

use super::{Claim, IdempotencyKey, IdempotencyStore, StoreFuture, Ticket, key::KeyedInput};
use crate::{
    cache::AnswerOwner,
    internal::sync::{Mutex, lock},
    store::{GuardError, StoreErrorKind, StoreGuard, kind_of},
};

pub(super) struct Backing {
    store: Box<dyn IdempotencyStore>,
    pub(super) guard: StoreGuard,
    /// True if it has failed since it last answered.
    silent: AtomicBool,
    /// The number of times that it has come back, and whether that was looked at.
    returns: watch::Sender<u64>,
    came_back: AtomicBool,
    /// True if it refuses writes, so that calls that it reports as under way may have ended.
    refuses: AtomicBool,
    /// The time at which it was last seen to write.
    wrote_at: Mutex<Option<Instant>>,
    /// The time of its last failure to answer.
    failed_at: Mutex<Option<Instant>>,
    /// The end of the time in which it may not know calls that were made while it was unreachable.
    gap_until: Mutex<Option<Instant>>,
}

/// The time for which a successful write proves that the store writes.
const SEEN: Duration = Duration::from_millis(250);
/// The time after a failure in which other processes' updates may still be missing. They are sent again by then.
const MAY_MISS: Duration = Duration::from_secs(1);

impl Backing {
    pub(super) fn new(store: impl IdempotencyStore) -> Self {
        Self {
            store: Box::new(store),
            guard: StoreGuard::new("idempotency"),
            silent: AtomicBool::new(false),
            returns: watch::Sender::new(0),
            came_back: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            wrote_at: Mutex::default(),
            failed_at: Mutex::default(),
            gap_until: Mutex::default(),
        }
    }

    /// Asks the store, with a time limit. `proves` returns whether the result shows that the store accepts writes.
    pub(super) async fn ask<'a, T>(
        &'a self,
        limit: Duration,
        asks: impl FnOnce(&'a dyn IdempotencyStore) -> StoreFuture<'a, T>,
        proves: impl FnOnce(&T) -> bool,
    ) -> Result<T, GuardError> {
        let mut is_proven = false;
        let proves = |said: &T| {
            is_proven = proves(said);
            is_proven
        };
        let said = match self.store.is_guarded() {
            false => self.guard.call(limit, || asks(&*self.store), proves).await,
            true => match timeout(limit, asks(&*self.store)).await {
                Ok(said) => said.inspect(|said| _ = proves(said)).map_err(|error| GuardError::Failed(kind_of(&error))),
                Err(_) => Err(GuardError::Failed(StoreErrorKind::Unavailable)),
            },
        };
        match &said {
            // The store is reachable: it has answered with a refusal.
            Err(GuardError::Failed(StoreErrorKind::Full | StoreErrorKind::ReadOnly)) => {
                self.refuses.store(true, Release)
            }
            Err(GuardError::Failed(kind)) if kind.is_refusal() => {}
            Err(_) => {
                self.silent.store(true, Release);
                *lock(&self.failed_at) = Some(Instant::now());
            }
            Ok(_) if self.silent.load(Acquire) && self.silent.swap(false, AcqRel) => {
                self.came_back.store(true, Release);
                self.returns.send_modify(|returns| *returns += 1);
            }
            Ok(_) => {}
        }
        if is_proven {
            self.refuses.store(false, Release);
            *lock(&self.wrote_at) = Some(Instant::now());
        }
        said
    }

    /// Forgets the answers of an owner, without a time limit.
    pub(super) async fn forget_owner(&self, owner: &AnswerOwner) -> Result<u64, BoxError> {
        self.store.forget_owner(owner).await
    }

    /// Removes the answers that have expired.
    pub(super) async fn sweep(&self) -> Result<(), BoxError> {
        self.store.sweep().await
    }

    /// Returns whether requests skip the store, and only background checks ask it.
    pub(super) fn is_left_alone(&self) -> bool {
        self.silent.load(Acquire) && self.guard.is_bypassed()
    }

    /// Returns whether the store is known to refuse writes.
    pub(super) fn refuses(&self) -> bool {
        self.refuses.load(Acquire)
    }

    /// Returns whether a call that the store reports as under way may have ended: the store refuses writes, or has
    /// failed to answer a moment ago.
    pub(super) fn may_miss_results(&self) -> bool {
        let failed_at = *lock(&self.failed_at);
        self.refuses() || failed_at.is_some_and(|at| at.elapsed() < MAY_MISS)
    }

    /// Checks whether the store accepts writes, unless it was seen to write recently. Returns true if it is now found
    /// to refuse them.
    pub(super) async fn starts_to_refuse(&self, limit: Duration) -> bool {
        let wrote_at = *lock(&self.wrote_at);
        if self.refuses() || wrote_at.is_some_and(|at| at.elapsed() < SEEN) {
            return false;
        }
        let nobodys = KeyedInput::unused();
        let ticket = Ticket(fastrand::u64(1 << 32..1 << 62));
        if self.claim(&nobodys, ticket, SEEN, limit).await.is_ok() {
            let _ = self.ask(limit, |store| store.release(&nobodys.key, ticket), |()| false).await;
        }
        self.refuses()
    }

    /// Claims a key with this ticket.
    pub(super) async fn claim(
        &self,
        same: &KeyedInput,
        ticket: Ticket,
        lease: Duration,
        limit: Duration,
    ) -> Result<Claim, GuardError> {
        let proves = |claim: &Claim| matches!(claim, Claim::Won(_) | Claim::Inherited(_));
        let claim = self.ask(limit, |store| store.claim_as(&same.key, &same.input, lease, ticket), proves).await;
        if claim.is_err() {
            *lock(&self.gap_until) = Instant::now().checked_add(lease);
        }
        claim
    }

    /// Returns whether a key that is won here is certainly new.
    pub(super) fn is_certain(&self) -> bool {
        let gap = *lock(&self.gap_until);
        gap.is_none_or(|until| until <= Instant::now()) && !self.store.may_have_lost()
    }

    pub(super) async fn changed(&self, key: &IdempotencyKey, at_most: Duration) {
        self.store.changed(key, at_most).await;
    }

    /// Returns whether the store has failed since it last answered.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Acquire)
    }

    /// Returns whether the store has come back since the last call of this method.
    pub(super) fn has_come_back(&self) -> bool {
        self.came_back.load(Acquire) && self.came_back.swap(false, AcqRel)
    }

    /// Returns a receiver for the number of times that the store has come back.
    pub(super) fn returns(&self) -> watch::Receiver<u64> {
        self.returns.subscribe()
    }
}
