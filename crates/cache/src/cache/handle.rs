use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::time::Instant;

use super::{
    Answer, AnswerOwner, AnswerStore, CacheKey, ClaimFuture, Lifetime, SharedCall, StoreLookup,
    accepted_levels::AcceptedLevels, flights::Flights, questions::Questions, settings::MAX_ANSWER, store::Memory,
};
use crate::totals::count;

/// The kept answers and the counts of requests, shared by a [`CacheLayer`](super::CacheLayer), the services that it
/// makes, and [`CachedAnswers`](crate::cached::CachedAnswers).
///
/// Clones share the answers.
#[derive(Clone)]
pub struct CacheHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    store: Box<dyn AnswerStore>,
    /// The number of equal parts of the memory; 0 for a user's own store.
    parts: u64,
    pub(super) flights: Arc<Flights>,
    pub(super) accepted: AcceptedLevels,
    pub(super) counters: Counters,
    pub(crate) questions: Questions,
}

impl CacheHandle {
    /// The [default](Self::default) size in memory: 64 MiB.
    pub const MAX_BYTES: u64 = 64 * 1024 * 1024;

    /// Creates a handle with room for so many bytes of answers in memory. Rarely requested answers go first. An
    /// answer over a quarter of the room may not fit.
    pub fn new(max_bytes: u64) -> Self {
        Self::with_largest(max_bytes, MAX_ANSWER as u64)
    }

    /// Creates a handle with room for answers as large as `largest`, up to a quarter of the whole.
    pub fn with_largest(max_bytes: u64, largest: u64) -> Self {
        let memory = Memory::new(max_bytes, largest);
        let parts = memory.parts();
        Self::of(Box::new(memory), parts)
    }

    /// Creates a handle over a store of your own.
    pub fn over(store: impl AnswerStore) -> Self {
        Self::of(Box::new(store), 0)
    }

    fn of(store: Box<dyn AnswerStore>, parts: u64) -> Self {
        let shared = Shared {
            store,
            parts,
            flights: Arc::default(),
            accepted: AcceptedLevels::default(),
            counters: Counters::default(),
            questions: Questions::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns the number of kept answers, including those too old to be given.
    pub fn len(&self) -> usize {
        self.shared.store.len()
    }

    /// Returns whether no answer is kept.
    pub fn is_empty(&self) -> bool {
        self.shared.store.is_empty()
    }

    /// Returns the approximate size of the answers, in bytes.
    pub fn bytes(&self) -> u64 {
        self.shared.store.bytes()
    }

    /// Sets the most bytes that the answers may take; the excess is dropped at once. A [store](Self::over) of your
    /// own may have bounds of its own.
    pub fn set_max_bytes(&self, bytes: u64) {
        self.shared.store.set_max_bytes(bytes);
    }

    /// Returns whether answers of this size would fit into so many bytes. The number of parts never changes.
    pub fn would_have_room(&self, max_bytes: u64, largest: u64) -> bool {
        self.shared.parts == 0 || self.shared.parts == 1 || largest <= max_bytes / self.shared.parts
    }

    /// Returns whether both handles share the same answers.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Forgets all answers. An answer under way is kept when it arrives.
    pub fn clear(&self) {
        self.shared.store.forget(None);
        self.shared.questions.clear();
    }

    /// Forgets the answers of a feature. An answer under way is kept when it arrives.
    pub fn invalidate(&self, feature: &str) {
        self.shared.store.forget(Some(feature));
    }

    /// Forgets the answers made for a tenant or a session, and the questions by which similar ones are found. An
    /// answer under way is kept when it arrives. Answers of versions before 0.2 do not record their owner.
    pub fn forget_owner(&self, owner: &AnswerOwner) {
        self.shared.store.forget_owner(owner);
        self.shared.questions.clear();
    }

    /// Returns the counts of requests so far.
    pub fn stats(&self) -> CacheStats {
        let Counters { hits, misses, passed_by, stale, shared, similar, kept } = &self.shared.counters;
        CacheStats {
            hits: hits.load(Relaxed),
            misses: misses.load(Relaxed),
            passed_by: passed_by.load(Relaxed),
            stale: stale.load(Relaxed),
            shared: shared.load(Relaxed),
            similar: similar.load(Relaxed),
            kept: kept.load(Relaxed),
        }
    }

    pub(crate) fn get(&self, key: &CacheKey) -> StoreLookup {
        self.shared.store.get(key)
    }

    /// Claims the call among all processes that share the answers.
    pub(super) fn claim(&self, key: &CacheKey, life: Lifetime) -> Option<ClaimFuture> {
        self.shared.store.claim(key, Box::new(move |answer| life.is_fresh(answer, Instant::now())))
    }

    pub(crate) fn put(&self, key: CacheKey, answer: Arc<Answer>) {
        count(&self.shared.counters.kept);
        self.shared.store.put(key, answer);
    }

    /// Keeps an answer of a call made for all processes.
    pub(super) fn put_by(&self, call: Box<dyn SharedCall>, answer: Arc<Answer>) {
        count(&self.shared.counters.kept);
        call.answered(answer);
    }

    pub(crate) fn questions(&self) -> &Questions {
        &self.shared.questions
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }
}

impl Default for CacheHandle {
    /// Creates a handle with 64 MiB of memory.
    fn default() -> Self {
        Self::new(Self::MAX_BYTES)
    }
}

impl fmt::Debug for CacheHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheHandle")
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The counts of requests that a cache has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Requests that a kept answer served.
    pub hits: u64,
    /// Requests that made a call.
    pub misses: u64,
    /// Requests that passed by: the caller asked for it, or they are of an excluded kind.
    pub passed_by: u64,
    /// Requests that got a stale answer, since there was no other.
    pub stale: u64,
    /// Requests that another request's call answered.
    pub shared: u64,
    /// Requests that got the answer to a similar question.
    pub similar: u64,
    /// Answers that were kept.
    pub kept: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) passed_by: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) shared: AtomicU64,
    pub(crate) similar: AtomicU64,
    pub(crate) kept: AtomicU64,
}
