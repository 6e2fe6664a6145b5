use std::{collections::HashMap, fmt, future::Future, future::ready, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{Heard, Notice, ReplicaStore, Said, Stamp};
use crate::{
    store::StoreError,
    sync::{Mutex, lock},
};

/// A store for replicas in one process: several stacks in a program, and tests. Clones are the same store.
#[derive(Clone, Default)]
pub struct MemoryReplicas {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    board: Mutex<Board>,
    changed: Notify,
}

#[derive(Default)]
struct Board {
    origin: Option<Instant>,
    /// Each with the time of its expiry.
    notices: HashMap<Arc<str>, (Stamp, Notice, Duration)>,
    totals: HashMap<Arc<str>, i64>,
    epoch: u64,
}

/// The time by which the store's clock is ahead at its first look: a year.
const BEFORE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl MemoryReplicas {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Deletes everything, like a store that was restarted.
    pub fn forget(&self) {
        let mut board = lock(&self.shared.board);
        board.notices.clear();
        board.totals.clear();
        board.epoch += 1;
    }

    fn take(&self, said: &Said) -> Heard {
        let now = Instant::now();
        let mut guard = lock(&self.shared.board);
        let board = &mut *guard;
        // Events before the first look also need a time above zero.
        let now = BEFORE + now.saturating_duration_since(*board.origin.get_or_insert(now));
        let mut is_new = false;
        let mut notices = Vec::with_capacity(said.notices.len());
        for (name, notice) in &said.notices {
            if let Some(notice) = notice {
                let at = u64::try_from(now.saturating_sub(notice.age).as_nanos()).unwrap_or(u64::MAX);
                if board.notices.get(name).is_none_or(|(stamp, _, _)| stamp.at <= at) {
                    let stamp = Stamp { at, replica: said.replica };
                    board.notices.insert(name.clone(), (stamp, notice.clone(), now.saturating_add(notice.left)));
                    is_new = true;
                }
            }
            notices.push(board.notices.get(name).map(|(stamp, notice, until)| {
                let age = now.saturating_sub(Duration::from_nanos(stamp.at));
                (*stamp, Notice { what: notice.what.clone(), age, left: until.saturating_sub(now) })
            }));
        }
        let add = |(name, count): &(Arc<str>, i64)| {
            let total = board.totals.entry(name.clone()).or_default();
            *total = total.wrapping_add(*count);
            *total
        };
        let totals = said.counts.iter().map(add).collect();
        let epoch = board.epoch;
        drop(guard);
        if is_new {
            self.shared.changed.notify_waiters();
        }
        Heard { epoch, notices, totals }
    }
}

impl ReplicaStore for MemoryReplicas {
    fn exchange<'a>(&'a self, said: &'a Said) -> Pin<Box<dyn Future<Output = Result<Heard, StoreError>> + Send + 'a>> {
        Box::pin(ready(Ok(self.take(said))))
    }

    fn changed<'a>(&'a self, at_most: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let _ = timeout(at_most, self.shared.changed.notified()).await;
        })
    }
}

impl fmt::Debug for MemoryReplicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let board = lock(&self.shared.board);
        f.debug_struct("MemoryReplicas")
            .field("notices", &board.notices.len())
            .field("totals", &board.totals.len())
            .finish()
    }
}
