use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use tower::BoxError;

use super::{IdempotencyStore, StoreFuture, calls::Calls};

/// The records and the calls under way: shared by an [`IdempotencyLayer`](super::IdempotencyLayer), its clones, and the
/// services that they make.
///
/// Clones are the same.
#[derive(Clone)]
pub struct IdempotencyHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) store: Box<dyn IdempotencyStore>,
    pub(super) calls: Calls,
    pub(super) counters: Counters,
    /// The tasks that make calls.
    pub(super) tasks: watch::Sender<usize>,
    /// Calls that nobody waits for end.
    pub(super) closed: watch::Sender<bool>,
    store_is_down: AtomicBool,
}

impl IdempotencyHandle {
    pub(super) fn over(store: impl IdempotencyStore) -> Self {
        let shared = Shared {
            store: Box::new(store),
            calls: Calls::default(),
            counters: Counters::default(),
            tasks: watch::Sender::new(0),
            closed: watch::Sender::new(false),
            store_is_down: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
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
    /// What the store says, in time; `None` where it cannot be asked, which is said once.
    pub(super) async fn asked<T>(&self, asking: StoreFuture<'_, T>, limit: Duration) -> Option<T> {
        let problem: BoxError = match timeout(limit, asking).await {
            Ok(Ok(said)) => {
                if self.store_is_down.swap(false, Relaxed) {
                    tracing::info!("the idempotency store can be asked again");
                }
                return Some(said);
            }
            Ok(Err(error)) => error,
            Err(late) => late.into(),
        };
        count(&self.counters.store_failures);
        if !self.store_is_down.swap(true, Relaxed) {
            tracing::warn!(%problem, "the idempotency store cannot be asked: repeats are known in this process only");
        }
        None
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

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
