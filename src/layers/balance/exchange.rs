//! Headroom that replicas share: the limits of a deployment are one bucket in a store, and each replica takes from it.
//!
//! A request waits for no store. A task exchanges with the store four times a second: it takes what the next requests
//! will need, as far as there is some, and gives back what they did not. Between two exchanges a replica admits from
//! what it has taken. What was used beyond that is taken afterwards, so that all together stay within the limits.
//!
//! Without a reply for two seconds a replica goes on with its own bucket, as if it were alone, until the next reply.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{state::DeploymentState, task::Task};
use crate::{
    internal::sync::{Mutex, lock},
    store::StoreError,
};

/// The future of a [`HeadroomStore`].
pub type HeadroomFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<HeadroomGrant>, StoreError>> + Send + 'a>>;

/// The place where replicas share the limits of deployments: a bucket for each name, which holds a minute's limit and
/// refills evenly.
///
/// [`MemoryHeadroom`] is one for a single process. `steadfast-stores` has one in Redis.
pub trait HeadroomStore: Send + Sync + 'static {
    /// Settles and takes, for each of the orders. It returns a grant for each, in their order.
    ///
    /// An implementation sets a time limit of its own: the balancer gives up after two seconds.
    ///
    /// # Errors
    ///
    /// Fails if the store is not available. Nothing may be taken then; if it was, that much is lost to all for a
    /// minute.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time, with the same consequence.
    fn exchange<'a>(&'a self, orders: &'a [HeadroomOrder]) -> HeadroomFuture<'a>;
}

/// One replica's exchange with a bucket.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HeadroomOrder {
    /// The bucket: the tier, the deployment, and `requests` or `tokens`.
    pub name: Arc<str>,
    /// The limit for a minute, which is the bucket's size too.
    pub per_minute: f64,
    /// The amount that was used beyond what was granted: taken even if the bucket has less. Negative: given back.
    pub settle: f64,
    /// The amount wanted for the next requests, taken as far as the bucket has it.
    pub reserve: f64,
}

impl HeadroomOrder {
    /// Creates an order that settles and wants nothing.
    pub fn new(name: impl Into<Arc<str>>, per_minute: f64) -> Self {
        Self { name: name.into(), per_minute, settle: 0.0, reserve: 0.0 }
    }

    /// Sets the amount that was [used](Self::settle) beyond what was granted.
    #[must_use]
    pub fn settle(mut self, amount: f64) -> Self {
        self.settle = amount;
        self
    }

    /// Sets the amount that is [wanted](Self::reserve).
    #[must_use]
    pub fn reserve(mut self, amount: f64) -> Self {
        self.reserve = amount;
        self
    }
}

/// A bucket's reply.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct HeadroomGrant {
    /// The amount taken of what was wanted.
    pub granted: f64,
    /// The amount left in the bucket; below zero if more was used than there was.
    pub left: f64,
}

impl HeadroomGrant {
    /// Creates a reply.
    pub fn new(granted: f64, left: f64) -> Self {
        Self { granted, left }
    }
}

/// Headroom shared within one process, such as by two stacks with the same keys. Clones share their buckets.
#[derive(Clone, Debug, Default)]
pub struct MemoryHeadroom(Arc<Mutex<Buckets>>);

/// The level of each bucket, and when it was that.
type Buckets = HashMap<Arc<str>, (f64, Instant)>;

impl MemoryHeadroom {
    /// Creates a store whose buckets are full.
    pub fn new() -> Self {
        Self::default()
    }
}

impl HeadroomStore for MemoryHeadroom {
    fn exchange<'a>(&'a self, orders: &'a [HeadroomOrder]) -> HeadroomFuture<'a> {
        let now = Instant::now();
        let mut buckets = lock(&self.0);
        let grants = orders.iter().map(|order| {
            let size = order.per_minute.max(0.0);
            let (level, at) = buckets.entry(order.name.clone()).or_insert((size, now));
            let refill = now.saturating_duration_since(*at).as_secs_f64() * size / 60.0;
            let settled = (*level + refill).min(size) - order.settle;
            let granted = order.reserve.min(settled).max(0.0);
            (*level, *at) = ((settled - granted).min(size), now);
            HeadroomGrant { granted, left: *level }
        });
        let grants = grants.collect();
        Box::pin(std::future::ready(Ok(grants)))
    }
}

/// The time between two exchanges.
pub(super) const EVERY: Duration = Duration::from_millis(250);
/// The time for which a reply is believed, and waited for.
pub(super) const FRESH: Duration = Duration::from_secs(2);

/// The store of a balancer, and the name under which its deployments are known there.
#[derive(Clone)]
pub(super) struct Sharing {
    pub(super) store: Arc<dyn HeadroomStore>,
    pub(super) tier: Arc<str>,
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing").field("tier", &self.tier).finish_non_exhaustive()
    }
}

/// The exchange of a balancer with its store.
pub(super) struct Exchange {
    sharing: Sharing,
    states: Arc<States>,
    /// Begins with the first call, which has a runtime.
    task: OnceLock<Task>,
}

type States = Mutex<Vec<Arc<DeploymentState>>>;

impl Exchange {
    pub(super) fn new(sharing: Sharing) -> Self {
        Self { sharing, states: Arc::default(), task: OnceLock::new() }
    }

    /// Exchanges for these deployments from now on.
    pub(super) fn set(&self, states: impl Iterator<Item = Arc<DeploymentState>>) {
        let states: Vec<_> = states.collect();
        let now = Instant::now();
        states.iter().for_each(|state| state.headroom.share(state.time(now).moment));
        let old = std::mem::replace(&mut *lock(&self.states), states);
        drop(old);
    }

    /// Begins the task, if it has not begun. It holds no reference to the balancer, and ends with it.
    #[inline]
    pub(super) fn begin(&self) {
        if self.task.get().is_none() {
            self.task.get_or_init(|| {
                Task(tokio::spawn(run(self.sharing.clone(), Arc::downgrade(&self.states))).abort_handle())
            });
        }
    }
}

async fn run(sharing: Sharing, states: Weak<States>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(states) = states.upgrade().map(|states| lock(&states).clone()) else { return };
        sharing.exchange(&states).await;
    }
}

impl Sharing {
    async fn exchange(&self, states: &[Arc<DeploymentState>]) {
        let (mut orders, mut of) = (Vec::new(), Vec::new());
        for state in states {
            for (kind, order) in state.headroom.orders(&self.tier, &state.name) {
                orders.push(order);
                of.push((kind, state));
            }
        }
        if orders.is_empty() {
            return;
        }
        // The store reports its own troubles. A reply of another length is none.
        let Ok(Ok(grants)) = timeout(FRESH, self.store.exchange(&orders)).await else { return };
        if grants.len() == orders.len() {
            for ((order, (kind, state)), grant) in orders.iter().zip(of).zip(grants) {
                state.headroom.granted(kind, order, grant, state.time(Instant::now()).moment);
            }
        }
    }
}
