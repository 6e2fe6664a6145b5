//! The results of one process, kept in memory.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::ready,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{ActionClaim, ActionKey, ActionStore, store::ActionStoreFuture};
use steadfast_internal::sync::{Mutex, MutexGuard, lock};

/// A store in one process's memory, which ends with the process.
///
/// Its size is bounded: over the bound, the oldest result is removed, and its action would run again. A running
/// action's record stays at least until its lease ends.
///
/// Clones are the same records.
#[derive(Clone)]
pub struct MemoryActions<R> {
    capacity: usize,
    records: Arc<Mutex<Records<R>>>,
}

struct Records<R> {
    by_key: HashMap<Arc<str>, Record<R>>,
    /// The results, oldest first.
    kept: VecDeque<(Arc<str>, u64)>,
    last_ticket: u64,
}

struct Record<R> {
    input: Arc<str>,
    ticket: u64,
    /// The end of the lease or of the result's lifetime; `None` means never.
    until: Option<Instant>,
    /// Shared, so that the result's foreign `clone` does not run under the lock.
    result: Option<Arc<R>>,
}

impl<R> MemoryActions<R> {
    /// The default number of kept results.
    pub const CAPACITY: usize = 10_000;

    /// Creates a store with room for 10,000 results.
    pub fn new() -> Self {
        Self::with_capacity(Self::CAPACITY)
    }

    /// Creates a store with room for this many results.
    pub fn with_capacity(results: usize) -> Self {
        let records = Records { by_key: HashMap::new(), kept: VecDeque::new(), last_ticket: 0 };
        Self { capacity: results, records: Arc::new(Mutex::new(records)) }
    }

    /// Returns the number of records: results, and running actions.
    pub fn len(&self) -> usize {
        self.records().by_key.len()
    }

    /// Returns whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn records(&self) -> MutexGuard<'_, Records<R>> {
        lock(&self.records)
    }
}

impl<R> Record<R> {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl<R> Records<R> {
    /// Returns the running action's record with this ticket.
    fn acting(&mut self, key: &ActionKey, ticket: u64) -> Option<&mut Record<R>> {
        self.by_key.get_mut(key.as_str()).filter(|record| record.ticket == ticket && record.result.is_none())
    }

    /// Removes expired and excess results, oldest first.
    fn make_room(&mut self, capacity: usize, now: Instant, gone: &mut Vec<Record<R>>) {
        while let Some((key, ticket)) = self.kept.front() {
            match self.by_key.get(key).filter(|record| record.ticket == *ticket) {
                Some(record) if self.kept.len() <= capacity && !record.is_over(now) => return,
                Some(_) => gone.extend(self.by_key.remove(key)),
                None => {}
            }
            self.kept.pop_front();
        }
    }
}

impl<R: Clone + Send + Sync + 'static> MemoryActions<R> {
    fn take_claim(&self, key: &ActionKey, lease: Duration) -> ActionClaim<R> {
        // Results have foreign destructors, which must run without the lock.
        let (now, mut gone) = (Instant::now(), Vec::new());
        let mut records = self.records();
        records.make_room(self.capacity, now, &mut gone);
        match records.by_key.get(key.as_str()).filter(|record| !record.is_over(now)) {
            Some(record) if *record.input != *key.input() => return ActionClaim::Conflict,
            Some(Record { result: Some(result), .. }) => {
                let result = result.clone();
                drop(records);
                return ActionClaim::Done(R::clone(&result));
            }
            Some(record) => {
                let left = record.until.map_or(Duration::MAX, |until| until.saturating_duration_since(now));
                return ActionClaim::Busy { lease_left: left };
            }
            None => {}
        }
        records.last_ticket += 1;
        let (ticket, until) = (records.last_ticket, now.checked_add(lease));
        let record = Record { input: key.input().into(), ticket, until, result: None };
        gone.extend(records.by_key.insert(key.as_str().into(), record));
        drop(records);
        ActionClaim::Won { ticket }
    }

    fn keep(&self, key: &ActionKey, ticket: u64, result: R, ttl: Duration) -> bool {
        let (now, mut gone) = (Instant::now(), Vec::new());
        let mut records = self.records();
        let Some(record) = records.by_key.get_mut(key.as_str()).filter(|record| record.ticket == ticket) else {
            return false;
        };
        if record.result.is_none() {
            (record.result, record.until) = (Some(Arc::new(result)), now.checked_add(ttl));
            records.kept.push_back((key.as_str().into(), ticket));
            records.make_room(self.capacity, now, &mut gone);
        }
        drop(records);
        true
    }
}

impl<R: Clone + Send + Sync + 'static> ActionStore<R> for MemoryActions<R> {
    fn claim<'a>(&'a self, key: &'a ActionKey, lease: Duration) -> ActionStoreFuture<'a, ActionClaim<R>> {
        Box::pin(ready(Ok(self.take_claim(key, lease))))
    }

    fn renew<'a>(&'a self, key: &'a ActionKey, ticket: u64, lease: Duration) -> ActionStoreFuture<'a, bool> {
        let until = Instant::now().checked_add(lease);
        let renewed = self.records().acting(key, ticket).map(|record| record.until = until).is_some();
        Box::pin(ready(Ok(renewed)))
    }

    fn complete<'a>(
        &'a self,
        key: &'a ActionKey,
        ticket: u64,
        result: R,
        ttl: Duration,
    ) -> ActionStoreFuture<'a, bool> {
        Box::pin(ready(Ok(self.keep(key, ticket, result, ttl))))
    }

    fn release<'a>(&'a self, key: &'a ActionKey, ticket: u64) -> ActionStoreFuture<'a, ()> {
        let mut records = self.records();
        if records.acting(key, ticket).is_some() {
            records.by_key.remove(key.as_str());
        }
        drop(records);
        Box::pin(ready(Ok(())))
    }
}

impl<R> Default for MemoryActions<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> fmt::Debug for MemoryActions<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = self.len();
        f.debug_struct("MemoryActions").field("capacity", &self.capacity).field("records", &records).finish()
    }
}
