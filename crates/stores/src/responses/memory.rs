use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{PathLimits, ResponsePath, ResponseState, ResponseStore, StoreFuture, StoredResponse};
use steadfast::layers::cache::AnswerOwner;
use steadfast_internal::sync::{Mutex, lock};

/// Responses in the memory of the process, for tests and for programs of one process. They end with it.
///
/// Clones share the responses.
#[derive(Clone, Debug, Default)]
pub struct MemoryResponses {
    records: Arc<Mutex<HashMap<String, Record>>>,
}

#[derive(Debug)]
struct Record {
    response: StoredResponse,
    /// The place in the order of their storage.
    number: usize,
    until: Option<Instant>,
    /// The end of its lease, while a process makes it.
    lease: Option<Instant>,
}

impl Record {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Returns whether it is this owner's, and has not ended.
    fn runs_for(&self, owner: &str, now: Instant) -> bool {
        self.response.owner == owner && !self.is_over(now) && self.lease.is_some()
    }

    /// Returns the response, and how far it has come.
    fn read(&self, now: Instant) -> StoredResponse {
        let state = match self.lease {
            None => ResponseState::Ended,
            Some(lease) if lease > now => ResponseState::Running,
            Some(_) => ResponseState::Lost,
        };
        StoredResponse { state, ..self.response.clone() }
    }
}

impl MemoryResponses {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn find(&self, owner: &str, id: &str) -> Option<StoredResponse> {
        let now = Instant::now();
        let records = lock(&self.records);
        let record = records.get(id).filter(|record| record.response.owner == owner && !record.is_over(now));
        record.map(|record| record.read(now))
    }

    fn store(&self, response: StoredResponse, keep: Duration, lease: Option<Duration>) {
        let now = Instant::now();
        let (until, lease) = (now.checked_add(keep), lease.map(|lease| now + lease));
        let mut records = lock(&self.records);
        extend(&mut records, response.previous.clone(), until);
        let number = records.values().map(|record| record.number + 1).max().unwrap_or_default();
        records.insert(response.id.clone(), Record { response, number, until, lease });
    }

    fn retain(&self, stays: impl Fn(&Record) -> bool) -> u64 {
        let mut records = lock(&self.records);
        let before = records.len();
        records.retain(|_, record| stays(record));
        (before - records.len()) as u64
    }
}

/// Keeps a response and its predecessors as long as this.
fn extend(records: &mut HashMap<String, Record>, mut last: Option<String>, until: Option<Instant>) {
    while let Some(record) = last.and_then(|id| records.get_mut(&id)) {
        record.until = record.until.max(until);
        last = record.response.previous.clone();
    }
}

impl ResponseStore for MemoryResponses {
    fn put(&self, response: StoredResponse, keep: Duration) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.store(response, keep, None);
            Ok(())
        })
    }

    fn begin(&self, response: StoredResponse, keep: Duration, lease: Duration) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.store(response, keep, Some(lease));
            Ok(())
        })
    }

    fn renew<'a>(&'a self, owner: &'a str, id: &'a str, lease: Duration) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let now = Instant::now();
            let mut records = lock(&self.records);
            let record = records.get_mut(id).filter(|record| record.runs_for(owner, now));
            Ok(record.map(|record| record.lease = Some(now + lease)).is_some())
        })
    }

    fn end(&self, response: StoredResponse, keep: Duration) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let now = Instant::now();
            let until = now.checked_add(keep);
            let mut records = lock(&self.records);
            let record = records.get_mut(&response.id).filter(|record| record.runs_for(&response.owner, now));
            let Some(record) = record else { return Ok(false) };
            let previous = record.response.previous.clone();
            record.response.items.extend(response.items);
            (record.response.response, record.response.origin) = (response.response, response.origin);
            (record.until, record.lease) = (until, None);
            extend(&mut records, previous, until);
            Ok(true)
        })
    }

    fn get<'a>(&'a self, owner: &'a str, id: &'a str) -> StoreFuture<'a, Option<StoredResponse>> {
        Box::pin(async move { Ok(self.find(owner, id)) })
    }

    fn path<'a>(&'a self, owner: &'a str, id: &'a str, limits: PathLimits) -> StoreFuture<'a, ResponsePath> {
        Box::pin(async move {
            let (mut chain, mut bytes, mut next) = (Vec::new(), 0, Some(id.to_owned()));
            while chain.len() < limits.responses
                && bytes < limits.bytes
                && let Some(found) = next.and_then(|id| self.find(owner, &id))
            {
                let size = found.size();
                bytes += size;
                next = found.previous.clone();
                chain.push((found, size));
            }
            Ok(ResponsePath::of_chain(chain, limits))
        })
    }

    fn with_item<'a>(&'a self, owner: &'a str, item: &'a str) -> StoreFuture<'a, Option<StoredResponse>> {
        Box::pin(async move {
            let now = Instant::now();
            let records = lock(&self.records);
            let has = |record: &&Record| {
                record.response.owner == owner
                    && !record.is_over(now)
                    && record.response.items.iter().any(|id| id == item)
            };
            let latest = records.values().filter(has).max_by_key(|record| record.number);
            Ok(latest.map(|record| record.read(now)))
        })
    }

    fn delete<'a>(&'a self, owner: &'a str, id: &'a str) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let found = self.find(owner, id).is_some();
            if found {
                lock(&self.records).remove(id);
            }
            Ok(found)
        })
    }

    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        Box::pin(async move { Ok(self.retain(|record| !record.response.is_of(owner))) })
    }

    fn sweep(&self, bytes_per_owner: u64) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let now = Instant::now();
            self.retain(|record| !record.is_over(now));
            let mut records = lock(&self.records);
            let mut newest: Vec<_> = records
                .values()
                .map(|record| {
                    (record.number, record.response.owner.clone(), record.response.id.clone(), record.response.size())
                })
                .collect();
            newest.sort_by_key(|(number, ..)| std::cmp::Reverse(*number));
            let mut taken: HashMap<String, u64> = HashMap::new();
            for (_, owner, id, size) in newest {
                let taken = taken.entry(owner).or_default();
                *taken += size as u64;
                if *taken > bytes_per_owner {
                    records.remove(&id);
                }
            }
            Ok(())
        })
    }
}
