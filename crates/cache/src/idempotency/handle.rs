use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::sleep;
use tower::BoxError;

use super::{
    IdempotencyStore,
    backing::Backing,
    shared::{Counters, Shared},
};
use crate::{Events, cache::AnswerOwner, store::StoreTrouble};

/// The records and the calls under way, shared by an [`IdempotencyLayer`](super::IdempotencyLayer), its clones, and
/// the services that they make.
///
/// Clones share them.
#[derive(Clone)]
pub struct IdempotencyHandle {
    pub(super) shared: Arc<Shared>,
}

/// The interval at which `close` checks whether all results were sent.
const LAST_WORD: Duration = Duration::from_millis(10);

impl IdempotencyHandle {
    pub(super) fn over(store: impl IdempotencyStore) -> Self {
        Self::of(vec![Backing::new(store)])
    }

    pub(super) fn of(backings: Vec<Backing>) -> Self {
        Self { shared: Arc::new(Shared::new(backings)) }
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
