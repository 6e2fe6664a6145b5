use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
};

use tokio::{sync::Notify, time::Instant};

use steadfast::{
    BulkheadHandle,
    layers::{
        balance::{HeadroomGrant, HeadroomOrder},
        bulkhead::SharedRate,
    },
};
use steadfast_internal::sync::{Mutex, lock};

/// The limits of callers that replicas share. Clones are the same set.
///
/// There may be many callers, of whom few call at a time. A limit counts with the other replicas from its first use
/// until nothing of it is used up any more.
#[derive(Clone, Default)]
pub struct SharedLimits {
    pub(super) set: Arc<Set>,
}

#[derive(Default)]
pub(super) struct Set {
    /// The number of tasks that share the limits.
    pub(super) tasks: AtomicUsize,
    /// The limits that have come into use since the last exchange.
    pub(super) new: Mutex<Vec<Arc<Limit>>>,
    pub(super) has_new: Notify,
}

/// A caller's limit: a rate, or a rate and places. Clones are the same limit.
#[derive(Clone)]
pub struct SharedLimit {
    set: Arc<Set>,
    limit: Arc<Limit>,
}

/// A call that may take from a limit, until it is dropped.
pub struct LimitUse(Arc<Limit>);

pub(super) struct Limit {
    pub(super) name: Arc<str>,
    parts: Mutex<Parts>,
    /// The calls that may take from it.
    users: AtomicUsize,
    /// The requests in flight at other replicas.
    elsewhere: AtomicUsize,
    is_listed: AtomicBool,
}

#[derive(Default)]
struct Parts {
    rate: Option<RateShare>,
    places: Option<Places>,
}

/// A rate, and what the store knows of it.
struct RateShare {
    /// The name of its bucket, which states the limit: a changed limit is another bucket.
    name: Arc<str>,
    rate: SharedRate,
    per_minute: u32,
    /// The units used here at the last report.
    reported: i64,
    /// The units that are charged here and missing in the store.
    missing: f64,
    /// True if the store has replied since the last failure.
    is_known: bool,
}

/// The places of a bulkhead's default gate.
struct Places {
    bulkhead: BulkheadHandle,
    limit: usize,
    /// The operations in flight that pass no bulkhead.
    other_work: Arc<AtomicUsize>,
}

impl SharedLimits {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a limit of this set. Replicas find each other's by its name.
    pub fn limit(&self, name: impl Into<Arc<str>>) -> SharedLimit {
        let limit = Limit {
            name: name.into(),
            parts: Mutex::default(),
            users: AtomicUsize::new(0),
            elsewhere: AtomicUsize::new(0),
            is_listed: AtomicBool::new(false),
        };
        SharedLimit { set: self.set.clone(), limit: Arc::new(limit) }
    }
}

impl SharedLimit {
    /// Sets the rate that it counts against, with its limit. `what` says what it counts, such as `requests`.
    pub fn set_rate(&self, what: &str, rate: Option<(SharedRate, u32)>) {
        let mut parts = lock(&self.limit.parts);
        let is_known = |rate: &SharedRate| parts.rate.as_ref().is_some_and(|known| known.rate.is_of(rate));
        if rate.as_ref().is_some_and(|(rate, _)| is_known(rate)) {
            return;
        }
        parts.rate = rate.map(|(rate, per_minute)| {
            let name = format!("{} {what} {per_minute}", self.limit.name).into();
            let reported = rate.used();
            RateShare { name, rate, per_minute, reported, missing: 0.0, is_known: false }
        });
    }

    /// Sets the bulkhead whose default gate has the places, their number, and the operations in flight that pass no
    /// bulkhead.
    pub fn set_places(&self, places: Option<(BulkheadHandle, usize, Arc<AtomicUsize>)>) {
        let places = places.map(|(bulkhead, limit, other_work)| Places { bulkhead, limit, other_work });
        let mut parts = lock(&self.limit.parts);
        match &places {
            Some(places) => places.leave_to_others(self.elsewhere()),
            // Nobody asks for them any more.
            None => self.limit.elsewhere.store(0, Relaxed),
        }
        parts.places = places;
    }

    /// Returns the number of requests in flight at other replicas, as far as it is known.
    pub fn elsewhere(&self) -> usize {
        self.limit.elsewhere.load(Relaxed)
    }

    /// Tells the other replicas what was used a moment ago.
    pub fn touch(&self) {
        if self.set.tasks.load(Relaxed) == 0 || self.limit.is_listed.swap(true, AcqRel) {
            return;
        }
        lock(&self.set.new).push(self.limit.clone());
        self.set.has_new.notify_one();
    }

    /// Begins a call that may take from the limit.
    pub fn enter(&self) -> LimitUse {
        self.limit.users.fetch_add(1, AcqRel);
        self.touch();
        LimitUse(self.limit.clone())
    }
}

impl Drop for LimitUse {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Release);
    }
}

impl Limit {
    /// Takes what the store is to know: the use of the rate, and the number of requests in flight.
    pub(super) fn report(&self) -> (Option<HeadroomOrder>, Option<usize>) {
        let mut parts = lock(&self.parts);
        let places = parts.places.as_ref().map(Places::in_flight);
        (parts.rate.as_mut().map(RateShare::report), places)
    }

    /// Applies the store's replies.
    pub(super) fn apply(&self, grant: Option<HeadroomGrant>, elsewhere: Option<usize>, now: Instant) {
        let mut parts = lock(&self.parts);
        if let (Some(rate), Some(grant)) = (&mut parts.rate, grant) {
            rate.apply(grant.left, now);
        }
        if let (Some(places), Some(elsewhere)) = (&parts.places, elsewhere) {
            self.elsewhere.store(elsewhere, Relaxed);
            places.leave_to_others(elsewhere);
        }
    }

    /// Goes on alone: the store has not replied, or is not asked any more.
    pub(super) fn forget(&self) {
        let mut parts = lock(&self.parts);
        if let Some(rate) = &mut parts.rate {
            rate.is_known = false;
        }
        self.elsewhere.store(0, Relaxed);
        if let Some(places) = &parts.places {
            places.leave_to_others(0);
        }
    }

    /// Leaves the list, unless something of the limit is used up, here or elsewhere: a limit that left has all of its
    /// places. A call that begins meanwhile lists it again.
    pub(super) fn leave_if_idle(&self, now: Instant) -> bool {
        if self.is_used(now) {
            return false;
        }
        self.is_listed.swap(false, AcqRel);
        // A call that began before, and found it listed.
        !self.is_used(now) || self.is_listed.swap(true, AcqRel)
    }

    /// Leaves the list in any case.
    pub(super) fn leave(&self) {
        self.forget();
        self.is_listed.swap(false, AcqRel);
    }

    fn is_used(&self, now: Instant) -> bool {
        let parts = lock(&self.parts);
        self.users.load(Acquire) > 0
            || self.elsewhere.load(Relaxed) > 0
            || parts.places.as_ref().is_some_and(|places| places.in_flight() > 0)
            || parts.rate.as_ref().is_some_and(|rate| rate.is_used(now))
    }
}

impl RateShare {
    /// Returns the order that takes what was used here since the last one.
    fn report(&mut self) -> HeadroomOrder {
        let used = self.rate.used();
        let since = used.wrapping_sub(self.reported) as f64 + std::mem::take(&mut self.missing);
        self.reported = used;
        HeadroomOrder::new(self.name.clone(), self.per_minute.into()).settle(since)
    }

    /// Sets the level to the one of all replicas. After a failure the store may lack what was used here: the lower
    /// level counts, and the difference is reported.
    fn apply(&mut self, left: f64, now: Instant) {
        let since = self.rate.used().wrapping_sub(self.reported) as f64;
        let excess = self.rate.left(now) - (left - since);
        if excess > 0.0 || self.is_known {
            self.rate.charge(now, excess);
        } else {
            self.missing = -excess;
        }
        self.is_known = true;
    }

    fn is_used(&self, now: Instant) -> bool {
        self.rate.used() != self.reported || self.missing > 0.0 || self.rate.left(now) < self.per_minute.into()
    }
}

impl Places {
    fn in_flight(&self) -> usize {
        // Of a bulkhead without named features any name does.
        self.bulkhead.in_flight("").saturating_add(self.other_work.load(Relaxed))
    }

    fn leave_to_others(&self, elsewhere: usize) {
        self.bulkhead.set_default_limit(self.limit.saturating_sub(elsewhere));
    }
}

impl fmt::Debug for SharedLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLimits").field("tasks", &self.set.tasks).finish_non_exhaustive()
    }
}

impl fmt::Debug for SharedLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedLimit").field(&self.limit.name).finish()
    }
}

impl fmt::Debug for LimitUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LimitUse").field(&self.0.name).finish()
    }
}
