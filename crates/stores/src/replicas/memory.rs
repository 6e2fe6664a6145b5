use std::{collections::HashMap, fmt, future::Future, future::ready, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{InFlightFuture, InFlightStore, LEASE, Notice, ReplicaStore, Report, Snapshot, Stamp};
use steadfast::{
    layers::balance::{HeadroomFuture, HeadroomOrder, HeadroomStore, MemoryHeadroom},
    store::StoreError,
};
use steadfast_internal::sync::{Mutex, lock};

/// A store for replicas in one process: several stacks in a program, and tests. Clones are the same store.
#[derive(Clone, Default)]
pub struct MemoryReplicas {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    contents: Mutex<Contents>,
    changed: Notify,
    buckets: Mutex<MemoryHeadroom>,
    in_flight: Mutex<InFlight>,
}

/// The numbers of each replica by name, with the times until which they count.
type InFlight = HashMap<Arc<str>, HashMap<u64, (usize, Instant)>>;

#[derive(Default)]
struct Contents {
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
        let mut contents = lock(&self.shared.contents);
        contents.notices.clear();
        contents.totals.clear();
        contents.epoch += 1;
        *lock(&self.shared.buckets) = MemoryHeadroom::new();
        lock(&self.shared.in_flight).clear();
    }

    fn take(&self, report: &Report) -> Snapshot {
        let now = Instant::now();
        let mut guard = lock(&self.shared.contents);
        let contents = &mut *guard;
        // Events before the first look also need a time above zero.
        let now = BEFORE + now.saturating_duration_since(*contents.origin.get_or_insert(now));
        let mut is_new = false;
        let mut notices = Vec::with_capacity(report.notices.len());
        for (name, notice) in &report.notices {
            if let Some(notice) = notice {
                let at = u64::try_from(now.saturating_sub(notice.age).as_nanos()).unwrap_or(u64::MAX);
                if contents.notices.get(name).is_none_or(|(stamp, _, _)| stamp.at <= at) {
                    let stamp = Stamp { at, replica: report.replica };
                    contents
                        .notices
                        .insert(name.clone(), (stamp, notice.clone(), now.saturating_add(notice.remaining)));
                    is_new = true;
                }
            }
            notices.push(contents.notices.get(name).map(|(stamp, notice, until)| {
                let age = now.saturating_sub(Duration::from_nanos(stamp.at));
                (*stamp, Notice { change: notice.change.clone(), age, remaining: until.saturating_sub(now) })
            }));
        }
        let add = |(name, count): &(Arc<str>, i64)| {
            let total = contents.totals.entry(name.clone()).or_default();
            *total = total.wrapping_add(*count);
            *total
        };
        let totals = report.counts.iter().map(add).collect();
        let epoch = contents.epoch;
        drop(guard);
        if is_new {
            self.shared.changed.notify_waiters();
        }
        Snapshot { epoch, notices, totals }
    }
}

impl ReplicaStore for MemoryReplicas {
    fn exchange<'a>(
        &'a self,
        report: &'a Report,
    ) -> Pin<Box<dyn Future<Output = Result<Snapshot, StoreError>> + Send + 'a>> {
        Box::pin(ready(Ok(self.take(report))))
    }

    fn changed<'a>(&'a self, at_most: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let _ = timeout(at_most, self.shared.changed.notified()).await;
        })
    }
}

impl HeadroomStore for MemoryReplicas {
    fn exchange<'a>(&'a self, orders: &'a [HeadroomOrder]) -> HeadroomFuture<'a> {
        Box::pin(async move {
            let buckets = lock(&self.shared.buckets).clone();
            buckets.exchange(orders).await
        })
    }
}

impl InFlightStore for MemoryReplicas {
    fn count_in_flight<'a>(&'a self, replica: u64, counts: &'a [(Arc<str>, usize)]) -> InFlightFuture<'a> {
        let now = Instant::now();
        let mut in_flight = lock(&self.shared.in_flight);
        let others = counts.iter().map(|(name, count)| {
            let replicas = in_flight.entry(name.clone()).or_default();
            replicas.insert(replica, (*count, now + LEASE));
            replicas.retain(|_, (count, until)| *count > 0 && *until > now);
            replicas.iter().filter(|(other, _)| **other != replica).map(|(_, (count, _))| count).sum()
        });
        Box::pin(ready(Ok(others.collect())))
    }
}

impl fmt::Debug for MemoryReplicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contents = lock(&self.shared.contents);
        f.debug_struct("MemoryReplicas")
            .field("notices", &contents.notices.len())
            .field("totals", &contents.totals.len())
            .finish()
    }
}
