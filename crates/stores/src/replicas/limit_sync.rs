use std::{fmt, future::Future, pin::Pin, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    SharedLimits,
    limits::{Limit, Set},
};
use steadfast::{layers::balance::HeadroomStore, store::StoreError};
use steadfast_internal::sync::lock;

/// A store through which replicas learn how many requests are in flight elsewhere.
pub trait InFlightStore: Send + Sync + 'static {
    /// Sets this replica's number of requests in flight under each name, for the next [`LEASE`], and returns the sum of
    /// the other replicas' for each.
    ///
    /// # Errors
    ///
    /// Fails if the store is not available. The numbers may be set all the same.
    fn count_in_flight<'a>(&'a self, replica: u64, counts: &'a [(Arc<str>, usize)]) -> InFlightFuture<'a>;
}

/// The future of an [`InFlightStore`].
pub type InFlightFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<usize>, StoreError>> + Send + 'a>>;

/// The time for which a replica's number counts: what a replica that dies holds comes back then.
pub const LEASE: Duration = Duration::from_secs(2);

/// A background task that shares limits with the other replicas. Dropping it stops the task, and each replica continues
/// alone.
///
/// The rates are buckets in a [`HeadroomStore`]; the [module docs](super) say how exact all is.
#[must_use = "dropping it stops the task"]
pub struct LimitSync {
    limits: SharedLimits,
    task: AbortHandle,
}

/// The time between two exchanges of a limit in use.
const EVERY: Duration = Duration::from_millis(250);
/// The time from a limit's first use to its exchange, and between two exchanges.
const REST: Duration = Duration::from_millis(20);
/// The time limit of an exchange. A store may be stricter.
const WITHIN: Duration = Duration::from_secs(1);
/// The limits of one exchange, so that no store stands still for long.
const AT_ONCE: usize = 256;

impl LimitSync {
    /// Shares these limits over a store.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn start(store: impl HeadroomStore + InFlightStore, limits: &SharedLimits) -> Self {
        limits.set.tasks.fetch_add(1, Relaxed);
        let task = tokio::spawn(synchronize(store, limits.set.clone())).abort_handle();
        Self { limits: limits.clone(), task }
    }
}

impl Drop for LimitSync {
    fn drop(&mut self) {
        self.limits.set.tasks.fetch_sub(1, Relaxed);
        self.task.abort();
    }
}

impl fmt::Debug for LimitSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitSync").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The limits in use. Each goes on alone once they are dropped.
#[derive(Default)]
struct Listed(Vec<Arc<Limit>>);

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.iter().for_each(|limit| limit.leave());
    }
}

async fn synchronize(store: impl HeadroomStore + InFlightStore, set: Arc<Set>) {
    // Zero means no replica.
    let replica = fastrand::u64(1..);
    let (mut listed, mut next) = (Listed::default(), Instant::now());
    loop {
        tokio::select! {
            () = set.has_new.notified() => {}
            () = sleep_until(next), if !listed.0.is_empty() => {}
        }
        sleep(REST).await;
        let known = listed.0.len();
        listed.0.append(&mut lock(&set.new));
        let is_due = next <= Instant::now() || known == 0;
        let due = if is_due { 0 } else { known };
        for limits in listed.0[due..].chunks(AT_ONCE) {
            exchange(&store, replica, limits).await;
        }
        if is_due {
            let now = Instant::now();
            listed.0.retain(|limit| !limit.leave_if_idle(now));
            next = now + EVERY;
        }
    }
}

/// Reports these limits' use, and applies what all replicas have used.
async fn exchange(store: &(impl HeadroomStore + InFlightStore), replica: u64, limits: &[Arc<Limit>]) {
    let (mut orders, mut counts) = (Vec::new(), Vec::new());
    let reports = limits.iter().map(|limit| {
        let (order, in_flight) = limit.report();
        let has = (order.is_some(), in_flight.is_some());
        orders.extend(order);
        counts.extend(in_flight.map(|in_flight| (limit.name.clone(), in_flight)));
        (limit, has)
    });
    let reports: Vec<_> = reports.collect();
    let asking = async {
        let grants = async { if orders.is_empty() { Ok(Vec::new()) } else { store.exchange(&orders).await } };
        let others =
            async { if counts.is_empty() { Ok(Vec::new()) } else { store.count_in_flight(replica, &counts).await } };
        tokio::try_join!(grants, others)
    };
    // The store reports its own troubles. A reply of another length is none.
    let replied = timeout(WITHIN, asking).await.ok().and_then(Result::ok);
    let replied = replied.filter(|(grants, others)| (grants.len(), others.len()) == (orders.len(), counts.len()));
    let Some((grants, others)) = replied else {
        limits.iter().for_each(|limit| limit.forget());
        return;
    };
    let (now, mut grants, mut others) = (Instant::now(), grants.into_iter(), others.into_iter());
    for (limit, (has_rate, has_places)) in reports {
        let grant = has_rate.then(|| grants.next()).flatten();
        limit.apply(grant, has_places.then(|| others.next()).flatten(), now);
    }
}
