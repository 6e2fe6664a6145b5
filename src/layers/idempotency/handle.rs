use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::watch, time::sleep};
use tower::BoxError;

use super::{
    IdempotencyStore, MemoryIdempotency, Ticket,
    backing::Backing,
    calls::Calls,
    words::{Tickets, Words},
};
use crate::{
    Events,
    layers::cache::{Answer, AnswerOwner},
    store::StoreTrouble,
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
    /// Asked in this order.
    pub(super) backings: Vec<Backing>,
    /// What was claimed and answered while none of them could be asked.
    pub(super) local: MemoryIdempotency,
    /// What they are told, again where they were not there.
    pub(super) words: Words,
    /// Somebody tells them.
    pub(super) telling: AtomicBool,
    pub(super) calls: Calls,
    pub(super) counters: Counters,
    /// The tasks that make calls.
    pub(super) tasks: watch::Sender<usize>,
    /// Calls that nobody waits for end.
    pub(super) closed: watch::Sender<bool>,
}

/// A key that was claimed.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// The ticket of every claim that was made for the call, or may have been.
    pub(super) ticket: Ticket,
    pub(super) tickets: Tickets,
    /// Where no store could be asked: of this process's own records.
    pub(super) here: Option<Ticket>,
    /// Whether the call may have been made before.
    pub(super) is_doubtful: bool,
}

/// What became of a claim.
pub(super) enum Claimed {
    Won(Held),
    Busy(Duration),
    Done(Arc<Answer>),
    Conflict,
}

/// How often it is looked whether the stores are told nothing more.
const LAST_WORD: Duration = Duration::from_millis(10);

impl IdempotencyHandle {
    pub(super) fn over(store: impl IdempotencyStore) -> Self {
        Self::of(vec![Backing::new(store)])
    }

    pub(super) fn of(backings: Vec<Backing>) -> Self {
        let shared = Shared {
            backings,
            local: MemoryIdempotency::new(),
            words: Words::default(),
            telling: AtomicBool::new(false),
            calls: Calls::default(),
            counters: Counters::default(),
            tasks: watch::Sender::new(0),
            closed: watch::Sender::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn tells(&self, events: &Events) {
        self.shared.backings.iter().for_each(|backing| backing.guard.set_events(events));
    }

    /// What is the matter with the stores at the moment, as far as they were asked; empty while all is well. A store that
    /// [guards itself](IdempotencyStore::is_guarded) says it itself.
    pub fn troubles(&self) -> Vec<StoreTrouble> {
        self.shared.backings.iter().filter_map(|backing| backing.guard.trouble()).collect()
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
        while self.shared.telling.load(Relaxed) {
            sleep(LAST_WORD).await;
        }
    }

    /// Forgets the answers that were made for a tenant or a session, so that their keys are as new. Says how many there were. A
    /// call that is under way keeps its answer when it is there. Answers of versions before 0.2 do not say whose they are.
    ///
    /// # Errors
    ///
    /// The store could not do it, or not for all.
    pub async fn forget_owner(&self, owner: &AnswerOwner) -> Result<u64, BoxError> {
        let mut gone = self.shared.local.forget_owner(owner).await?;
        for backing in &self.shared.backings {
            gone += backing.forget_owner(owner).await?;
        }
        Ok(gone)
    }

    /// Removes the answers whose time is over. It happens with requests too; this is for when there are none.
    ///
    /// # Errors
    ///
    /// The store could not do it.
    pub async fn sweep(&self) -> Result<(), BoxError> {
        self.shared.local.sweep().await?;
        for backing in &self.shared.backings {
            backing.sweep().await?;
        }
        Ok(())
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
