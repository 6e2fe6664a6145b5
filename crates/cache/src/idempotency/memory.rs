use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{Claim, Fingerprint, IdempotencyKey, IdempotencyStore, StoreFuture, Ticket};
use crate::{
    cache::{Answer, AnswerOwner},
    internal::sync::{Mutex, MutexGuard, lock},
};

/// The records of one process, in its memory: they end with it.
///
/// The records are bounded in bytes and in answers: over either, the oldest answer goes first. A key whose answer
/// has gone is as a new one. A record of a call under way is never dropped before its lease expires.
///
/// Clones share the records.
#[derive(Clone)]
pub struct MemoryIdempotency {
    shared: Arc<Shared>,
}

struct Shared {
    records: Mutex<Records>,
    changed: Notify,
    max_bytes: AtomicU64,
    max_answers: usize,
}

#[derive(Default)]
struct Records {
    by_key: HashMap<IdempotencyKey, Record>,
    /// The answers in the order in which they were kept, including some that are gone by now.
    kept: VecDeque<(IdempotencyKey, Ticket)>,
    answers: usize,
    bytes: u64,
    last_ticket: u64,
    sweep_at: Option<Instant>,
}

struct Record {
    input: Fingerprint,
    ticket: Ticket,
    /// The end of the lease, or of the answer's time; `None`: never.
    until: Option<Instant>,
    answer: Option<Arc<Answer>>,
}

/// The default of [`MemoryIdempotency::max_answers`].
const MAX_ANSWERS: usize = 100_000;
/// The interval between sweeps of expired records, which take room until then.
const SWEEP: Duration = Duration::from_secs(60);

impl MemoryIdempotency {
    /// The default room for answers, in bytes: 64 MiB.
    pub const MAX_BYTES: u64 = 64 * 1024 * 1024;

    /// Creates records with room for 64 MiB of answers, 100,000 at the most.
    pub fn new() -> Self {
        Self::with_bounds(Self::MAX_BYTES, MAX_ANSWERS)
    }

    /// Returns new records with room for about so many bytes of answers. A larger answer is not kept.
    #[must_use]
    pub fn max_bytes(self, bytes: u64) -> Self {
        Self::with_bounds(bytes, self.shared.max_answers)
    }

    /// Returns new records with room for so many answers.
    #[must_use]
    pub fn max_answers(self, answers: usize) -> Self {
        Self::with_bounds(self.shared.max_bytes.load(Relaxed), answers)
    }

    /// Changes the room for answers, in bytes, while it runs. The excess goes when the next answer comes.
    pub fn set_max_bytes(&self, bytes: u64) {
        self.shared.max_bytes.store(bytes, Relaxed);
    }

    fn with_bounds(max_bytes: u64, max_answers: usize) -> Self {
        let max_bytes = AtomicU64::new(max_bytes);
        let (records, changed) = (Mutex::default(), Notify::new());
        Self { shared: Arc::new(Shared { records, changed, max_bytes, max_answers }) }
    }

    /// Returns the number of records: answers, and calls under way.
    pub fn len(&self) -> usize {
        self.records().by_key.len()
    }

    /// Returns whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the approximate size of the answers, in bytes.
    pub fn bytes(&self) -> u64 {
        self.records().bytes
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        lock(&self.shared.records)
    }

    /// Returns the result that a claim would have, unless it would win.
    pub(super) fn known(&self, key: &IdempotencyKey, input: &Fingerprint) -> Option<Claim> {
        self.records().known(key, input, Instant::now())
    }

    /// Answers are dropped outside of the lock.
    pub(super) fn take_claim(&self, key: &IdempotencyKey, input: &Fingerprint, lease: Duration) -> Claim {
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut records = self.records();
        records.sweep(now, &mut gone);
        if let Some(known) = records.known(key, input, now) {
            return known;
        }
        let before = records.remove(key);
        let unsaid = before.as_ref().is_some_and(|record| record.answer.is_none());
        gone.extend(before);
        records.last_ticket += 1;
        let ticket = Ticket(records.last_ticket);
        records.by_key.insert(*key, Record { input: *input, ticket, until: now.checked_add(lease), answer: None });
        drop(records);
        if unsaid { Claim::Inherited(ticket) } else { Claim::Won(ticket) }
    }

    pub(super) fn take_renewal(&self, key: &IdempotencyKey, ticket: Ticket, lease: Duration) -> bool {
        let mut records = self.records();
        let Some(record) = records.processing(key, ticket) else { return false };
        record.until = Instant::now().checked_add(lease);
        true
    }

    pub(super) fn take_answer(&self, key: &IdempotencyKey, ticket: Ticket, answer: Arc<Answer>, ttl: Duration) -> bool {
        let size = answer.size();
        let mut gone = Vec::new();
        let max_bytes = self.shared.max_bytes.load(Relaxed);
        if size > max_bytes || self.shared.max_answers == 0 {
            // The answer is too large: the store would drop every other answer for it, and then the answer itself.
            self.take_release(key, ticket);
            return false;
        }
        let mut records = self.records();
        let Some(record) = records.processing(key, ticket) else { return false };
        record.answer = Some(answer);
        record.until = Instant::now().checked_add(ttl);
        records.answers += 1;
        records.bytes = records.bytes.saturating_add(size);
        records.kept.push_back((*key, ticket));
        while records.bytes > max_bytes || records.answers > self.shared.max_answers {
            let Some((first, ticket)) = records.kept.pop_front() else { break };
            if records.by_key.get(&first).is_some_and(|record| record.ticket == ticket) {
                gone.extend(records.remove(&first));
            }
        }
        drop(records);
        self.shared.changed.notify_waiters();
        true
    }

    pub(super) fn take_release(&self, key: &IdempotencyKey, ticket: Ticket) {
        let mut records = self.records();
        if records.processing(key, ticket).is_some() {
            records.by_key.remove(key);
        }
        drop(records);
        self.shared.changed.notify_waiters();
    }
}

impl Record {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl Records {
    fn known(&self, key: &IdempotencyKey, input: &Fingerprint, now: Instant) -> Option<Claim> {
        let record = self.by_key.get(key).filter(|record| !record.is_over(now))?;
        Some(match &record.answer {
            _ if record.input != *input => Claim::Conflict,
            Some(answer) => Claim::Done(answer.clone()),
            None => Claim::Busy {
                lease_left: record.until.map_or(Duration::MAX, |until| until.saturating_duration_since(now)),
            },
        })
    }

    fn processing(&mut self, key: &IdempotencyKey, ticket: Ticket) -> Option<&mut Record> {
        self.by_key.get_mut(key).filter(|record| record.ticket == ticket && record.answer.is_none())
    }

    fn remove(&mut self, key: &IdempotencyKey) -> Option<Record> {
        let record = self.by_key.remove(key)?;
        if let Some(answer) = &record.answer {
            self.answers -= 1;
            self.bytes = self.bytes.saturating_sub(answer.size());
        }
        Some(record)
    }

    /// Sweeps at intervals, so that many claims share the cost.
    fn sweep(&mut self, now: Instant, gone: &mut Vec<Record>) {
        if self.sweep_at.is_some_and(|at| now < at) {
            return;
        }
        self.sweep_at = now.checked_add(SWEEP);
        let over: Vec<_> = self.by_key.iter().filter(|(_, record)| record.is_over(now)).map(|(key, _)| *key).collect();
        gone.extend(over.iter().filter_map(|key| self.remove(key)));
        let by_key = &self.by_key;
        self.kept.retain(|(key, ticket)| by_key.get(key).is_some_and(|record| record.ticket == *ticket));
    }
}

impl IdempotencyStore for MemoryIdempotency {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, input: &'a Fingerprint, lease: Duration) -> StoreFuture<'a, Claim> {
        Box::pin(ready(Ok(self.take_claim(key, input, lease))))
    }

    fn renew<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket, lease: Duration) -> StoreFuture<'a, bool> {
        Box::pin(ready(Ok(self.take_renewal(key, ticket, lease))))
    }

    fn complete<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        ticket: Ticket,
        answer: Arc<Answer>,
        ttl: Duration,
    ) -> StoreFuture<'a, bool> {
        Box::pin(ready(Ok(self.take_answer(key, ticket, answer, ttl))))
    }

    fn release<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket) -> StoreFuture<'a, ()> {
        self.take_release(key, ticket);
        Box::pin(ready(Ok(())))
    }

    fn sweep(&self) -> StoreFuture<'_, ()> {
        let mut gone = Vec::new();
        let mut records = self.records();
        records.sweep_at = None;
        records.sweep(Instant::now(), &mut gone);
        drop(records);
        Box::pin(ready(Ok(())))
    }

    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        let is_of = |record: &Record| record.answer.as_ref().is_some_and(|answer| answer.is_of(owner));
        let mut records = self.records();
        let theirs: Vec<_> = records.by_key.iter().filter(|(_, record)| is_of(record)).map(|(key, _)| *key).collect();
        let gone: Vec<_> = theirs.iter().filter_map(|key| records.remove(key)).collect();
        drop(records);
        Box::pin(ready(Ok(gone.len() as u64)))
    }

    fn changed<'a>(
        &'a self,
        _: &'a IdempotencyKey,
        at_most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let _ = timeout(at_most, self.shared.changed.notified()).await;
        })
    }
}

impl Default for MemoryIdempotency {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryIdempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryIdempotency")
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;

    #[test]
    fn an_answer_for_which_there_is_no_room_is_not_said_to_be_kept() {
        let key = IdempotencyKey::from_bytes([1; 32]);
        let input = Fingerprint::from_bytes([2; 32]);
        let answer = Arc::new(Answer::for_tests(Message::assistant("yes")));
        let minute = Duration::from_secs(60);
        for records in [MemoryIdempotency::new().max_answers(0), MemoryIdempotency::new().max_bytes(1)] {
            let Claim::Won(ticket) = records.take_claim(&key, &input, minute) else { panic!("a new key") };
            assert!(!records.take_answer(&key, ticket, answer.clone(), minute));
            assert!(records.is_empty() && records.bytes() == 0);
        }
    }
}
