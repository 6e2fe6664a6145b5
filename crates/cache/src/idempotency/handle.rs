use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tower::BoxError;

use super::{
    IdempotencyStore, MemoryIdempotency, Ticket,
    backing::Backing,
    calls::Calls,
    results::{ResultLog, Tickets},
};
use crate::{
    Events,
    cache::{Answer, AnswerOwner},
    store::StoreTrouble,
};

/// The records and the calls under way, shared by an [`IdempotencyLayer`](super::IdempotencyLayer), its clones, and
/// the services that they make.
///
/// Clones share them.
#[derive(Clone)]
pub struct IdempotencyHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    /// The stores, in the order in which they are asked.
    pub(super) backings: Vec<Backing>,
    /// The claims and answers of the time in which no store was reachable.
    pub(super) local: MemoryIdempotency,
    /// The results to send to the stores, and to send again to those that missed them.
    pub(super) results: ResultLog,
    /// True while a task sends them.
    pub(super) sending: AtomicBool,
    /// Wakes that task before its next interval.
    pub(super) send_now: Arc<Notify>,
    pub(super) calls: Calls,
    pub(super) counters: Counters,
    /// The number of tasks that make calls.
    pub(super) tasks: watch::Sender<usize>,
    /// True once calls without waiting callers end.
    pub(super) closed: watch::Sender<bool>,
}

/// A key that is being claimed, or was claimed.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyHold {
    /// The ticket of each store's claim that was made, or may have been.
    pub(super) tickets: Tickets,
    /// The ticket in this process's own records, if no store was reachable.
    pub(super) here: Option<Ticket>,
    /// True if the call may have been made before.
    pub(super) is_doubtful: bool,
}

/// The outcome of a claim.
pub(super) enum ClaimOutcome {
    Won,
    /// Another claimant makes the call.
    Busy {
        /// The time until its lease expires.
        lease_left: Duration,
        /// False if the store that says so may have missed the end of that call.
        is_certain: bool,
    },
    Done(Arc<Answer>),
    Conflict,
}

/// The interval at which `close` checks whether all results were sent.
const LAST_WORD: Duration = Duration::from_millis(10);

impl IdempotencyHandle {
    pub(super) fn over(store: impl IdempotencyStore) -> Self {
        Self::of(vec![Backing::new(store)])
    }

    pub(super) fn of(backings: Vec<Backing>) -> Self {
        let shared = Shared {
            backings,
            local: MemoryIdempotency::new(),
            results: ResultLog::default(),
            sending: AtomicBool::new(false),
            send_now: Arc::default(),
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

    /// Returns the stores' current troubles, as of their last requests; empty while all is well. A store that
    /// [guards itself](IdempotencyStore::is_guarded) reports them itself.
    pub fn troubles(&self) -> Vec<StoreTrouble> {
        self.shared.backings.iter().filter_map(|backing| backing.guard.trouble()).collect()
    }

    /// Returns the number of calls under way, each a task: those with waiting callers or readers, and those that go
    /// on for the retry.
    pub fn under_way(&self) -> usize {
        *self.shared.tasks.borrow()
    }

    /// Ends calls without waiting callers, at once and from now on, and releases their keys. Returns when no call
    /// under a key is under way any more. Use it for a shutdown, after the callers have been closed: calls with
    /// waiting callers or readers run to their end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future half-way has the same effect: no call goes on for a retry.
    pub async fn close(&self) {
        self.shared.closed.send_replace(true);
        let _ = self.shared.tasks.subscribe().wait_for(|tasks| *tasks == 0).await;
        while self.shared.sending.load(Relaxed) {
            sleep(LAST_WORD).await;
        }
    }

    /// Forgets the answers that were made for a tenant or a session, so that their keys are as new. Returns how
    /// many there were. A call that is under way keeps its answer when it arrives. Answers of versions before 0.2
    /// do not record their owner.
    ///
    /// # Errors
    ///
    /// Fails if a store failed, for some or all of the answers.
    pub async fn forget_owner(&self, owner: &AnswerOwner) -> Result<u64, BoxError> {
        let mut gone = self.shared.local.forget_owner(owner).await?;
        for backing in &self.shared.backings {
            gone += backing.forget_owner(owner).await?;
        }
        Ok(gone)
    }

    /// Removes expired answers. Requests do this too; call it for times without requests.
    ///
    /// # Errors
    ///
    /// Fails if a store failed.
    pub async fn sweep(&self) -> Result<(), BoxError> {
        self.shared.local.sweep().await?;
        for backing in &self.shared.backings {
            backing.sweep().await?;
        }
        Ok(())
    }

    /// Returns the counts of requests with a key so far.
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

/// The counts of requests with a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdempotencyStats {
    /// Calls that were made.
    pub calls: u64,
    /// Requests that got a kept answer.
    pub replayed: u64,
    /// Requests that got the answer of a call under way.
    pub shared: u64,
    /// Requests that were refused, since their key stood for another input.
    pub conflicts: u64,
    /// Answers that were kept.
    pub kept: u64,
    /// Kept answers that came when no caller waited any more.
    pub late: u64,
    /// The number of times that a store was unreachable.
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
