use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use tower::BoxError;

use super::{
    Claim, IdempotencyStore, MemoryIdempotency, StoreFuture, Ticket, calls::Calls, key::Same, layer::Settings,
};
use crate::{
    Events,
    layers::{
        cache::{Answer, AnswerOwner},
        totals::count,
    },
    store::guarded::Guard,
};

/// The records and the calls under way: shared by an [`IdempotencyLayer`](super::IdempotencyLayer), its clones, and the
/// services that they make.
///
/// Clones are the same.
#[derive(Clone)]
pub struct IdempotencyHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    store: Box<dyn IdempotencyStore>,
    /// Asks the store, as long as it answers.
    guard: Guard,
    /// What was claimed and answered while it did not.
    local: MemoryIdempotency,
    pub(super) calls: Calls,
    pub(super) counters: Counters,
    /// The tasks that make calls.
    pub(super) tasks: watch::Sender<usize>,
    /// Calls that nobody waits for end.
    pub(super) closed: watch::Sender<bool>,
}

/// Where a key was claimed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Held {
    InStore(Ticket),
    Here(Ticket),
}

/// What became of a claim.
pub(super) enum Claimed {
    Won(Held),
    Busy(Duration),
    Done(Arc<Answer>),
    Conflict,
}

impl IdempotencyHandle {
    pub(super) fn over(store: impl IdempotencyStore) -> Self {
        let shared = Shared {
            store: Box::new(store),
            guard: Guard::new("idempotency"),
            local: MemoryIdempotency::new(),
            calls: Calls::default(),
            counters: Counters::default(),
            tasks: watch::Sender::new(0),
            closed: watch::Sender::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn tells(&self, events: &Events) {
        self.shared.guard.tells(events);
    }

    /// The calls under way, each a task: those that somebody waits for or reads, and those that go on for the retry.
    pub fn under_way(&self) -> usize {
        *self.shared.tasks.borrow()
    }

    /// Ends what nobody waits for, at once and from now on, gives those keys back, and returns when no call under a key is
    /// under way any more. For a shutdown, after the callers were seen off: those who still wait or read are waited for.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, no call goes on for a retry all the same.
    pub async fn close(&self) {
        self.shared.closed.send_replace(true);
        let _ = self.shared.tasks.subscribe().wait_for(|tasks| *tasks == 0).await;
    }

    /// Forgets the answers that were made for a tenant or a session, so that their keys are as new. Says how many there were. A
    /// call that is under way keeps its answer when it is there. Answers of versions before 0.2 do not say whose they are.
    ///
    /// # Errors
    ///
    /// The store could not do it, or not for all.
    pub async fn forget_owner(&self, owner: &AnswerOwner) -> Result<u64, BoxError> {
        let here = self.shared.local.forget_owner(owner).await?;
        Ok(here + self.shared.store.forget_owner(owner).await?)
    }

    /// Removes the answers whose time is over. It happens with requests too; this is for when there are none.
    ///
    /// # Errors
    ///
    /// The store could not do it.
    pub async fn sweep(&self) -> Result<(), BoxError> {
        self.shared.local.sweep().await?;
        self.shared.store.sweep().await
    }

    /// What became of the requests with a key so far.
    pub fn stats(&self) -> IdempotencyStats {
        let Counters { calls, replayed, shared, conflicts, kept, late, store_failures } = &self.shared.counters;
        IdempotencyStats {
            calls: calls.load(Relaxed),
            replayed: replayed.load(Relaxed),
            shared: shared.load(Relaxed),
            conflicts: conflicts.load(Relaxed),
            kept: kept.load(Relaxed),
            late: late.load(Relaxed),
            store_failures: store_failures.load(Relaxed),
        }
    }
}

impl Shared {
    /// What the store says, in time; `None` where it cannot be asked.
    async fn asked<'a, T>(&self, asks: impl FnOnce() -> StoreFuture<'a, T>, settings: &Settings) -> Option<T> {
        let failed = || count(&self.counters.store_failures);
        if !self.store.is_guarded() {
            return self.guard.ask(settings.store_timeout, asks, failed).await;
        }
        let said = timeout(settings.store_timeout, asks()).await;
        let said = said.ok().and_then(Result::ok);
        if said.is_none() {
            failed();
        }
        said
    }

    /// Claims a key in the store; where that is away, among what this process knows itself.
    pub(super) async fn claim(&self, same: &Same, settings: &Settings) -> Claimed {
        // What was answered while the store was away is not in it.
        if let Some(known) = self.local.known(&same.key, &same.input) {
            return Claimed::of(known, Held::Here);
        }
        let claim = || self.store.claim(&same.key, &same.input, settings.lease);
        match self.asked(claim, settings).await {
            Some(claim) => Claimed::of(claim, Held::InStore),
            None => self.claim_here(same, settings),
        }
    }

    fn claim_here(&self, same: &Same, settings: &Settings) -> Claimed {
        Claimed::of(self.local.take_claim(&same.key, &same.input, settings.lease), Held::Here)
    }

    /// Waits until a claim may come to something else.
    pub(super) async fn changed(&self, same: &Same, at_most: Duration) {
        self.store.changed(&same.key, at_most).await;
    }

    /// `false` where another has taken the key over.
    pub(super) async fn renew(&self, same: &Same, held: Held, settings: &Settings) -> bool {
        match held {
            Held::InStore(ticket) => {
                self.asked(|| self.store.renew(&same.key, ticket, settings.lease), settings).await != Some(false)
            }
            Held::Here(ticket) => self.local.take_renewal(&same.key, ticket, settings.lease),
        }
    }

    /// Whether it was kept: in the store or, where that is away by now, here.
    pub(super) async fn complete(&self, same: &Same, held: Held, answer: &Arc<Answer>, settings: &Settings) -> bool {
        let held = match held {
            Held::InStore(ticket) => {
                let kept = || self.store.complete(&same.key, ticket, answer.clone(), settings.ttl);
                match self.asked(kept, settings).await {
                    Some(kept) => return kept,
                    None => self.claim_here(same, settings),
                }
            }
            Held::Here(ticket) => Claimed::Won(Held::Here(ticket)),
        };
        let Claimed::Won(Held::Here(ticket)) = held else { return false };
        self.local.take_answer(&same.key, ticket, answer.clone(), settings.ttl)
    }

    pub(super) async fn release(&self, same: &Same, held: Held, settings: &Settings) {
        match held {
            Held::InStore(ticket) => {
                self.asked(|| self.store.release(&same.key, ticket), settings).await;
            }
            Held::Here(ticket) => self.local.take_release(&same.key, ticket),
        }
    }
}

impl Claimed {
    fn of(claim: Claim, held: fn(Ticket) -> Held) -> Self {
        match claim {
            Claim::Won(ticket) => Self::Won(held(ticket)),
            Claim::Busy { lease_left } => Self::Busy(lease_left),
            Claim::Done(answer) => Self::Done(answer),
            Claim::Conflict => Self::Conflict,
        }
    }
}

impl fmt::Debug for IdempotencyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyHandle")
            .field("under_way", &self.under_way())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// What became of the requests with a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdempotencyStats {
    /// The calls that were made.
    pub calls: u64,
    /// The requests that were given an answer that was kept.
    pub replayed: u64,
    /// Those that were given the answer of a call under way.
    pub shared: u64,
    /// Those that were refused, since their key stood for something else.
    pub conflicts: u64,
    /// The answers that were kept.
    pub kept: u64,
    /// Of those, the ones that came when nobody waited any more.
    pub late: u64,
    /// How often the store could not be asked.
    pub store_failures: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) calls: AtomicU64,
    pub(super) replayed: AtomicU64,
    pub(super) shared: AtomicU64,
    pub(super) conflicts: AtomicU64,
    pub(super) kept: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) store_failures: AtomicU64,
}
