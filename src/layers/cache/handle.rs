use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::time::Instant;

use super::{
    Answer, AnswerOwner, AnswerStore, CacheKey, CacheLayer, Claiming, Found, Lifetime, SharedCall, accepted::Accepted,
    flights::Flights, questions::Questions, store::Memory,
};
use crate::layers::totals::count;

/// The answers that are kept, and what became of the requests: shared by a [`CacheLayer`](super::CacheLayer), the services
/// that it makes, and [`CachedAnswers`](crate::layers::cached::CachedAnswers).
///
/// Clones are the same answers.
#[derive(Clone)]
pub struct CacheHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    store: Box<dyn AnswerStore>,
    /// Into how many parts of equal size its memory is divided; 0 of a store of one's own.
    parts: u64,
    pub(super) flights: Arc<Flights>,
    pub(super) accepted: Accepted,
    pub(super) counters: Counters,
    pub(crate) questions: Questions,
}

impl CacheHandle {
    /// The bytes of memory of the [default](Self::default): 64 MiB.
    pub const MAX_BYTES: u64 = 64 * 1024 * 1024;

    /// Room for answers in memory of so many bytes in all; those that are asked for seldom go first. An answer over a
    /// quarter of it may find no room.
    pub fn new(max_bytes: u64) -> Self {
        Self::with_largest(max_bytes, CacheLayer::MAX_ANSWER as u64)
    }

    /// The same, with room for answers as large as this, where it is not more than a quarter of all.
    pub fn with_largest(max_bytes: u64, largest: u64) -> Self {
        let memory = Memory::new(max_bytes, largest);
        let parts = memory.parts();
        Self::of(Box::new(memory), parts)
    }

    /// Answers that are kept in a store of your own.
    pub fn over(store: impl AnswerStore) -> Self {
        Self::of(Box::new(store), 0)
    }

    fn of(store: Box<dyn AnswerStore>, parts: u64) -> Self {
        let shared = Shared {
            store,
            parts,
            flights: Arc::default(),
            accepted: Accepted::default(),
            counters: Counters::default(),
            questions: Questions::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// How many answers are kept, those too old to be given included.
    pub fn len(&self) -> usize {
        self.shared.store.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.shared.store.is_empty()
    }

    /// How many bytes the answers take, about.
    pub fn bytes(&self) -> u64 {
        self.shared.store.bytes()
    }

    /// Sets how many bytes the answers may take in all; those over it go at once. A [store](Self::over) of your own may have
    /// bounds of its own.
    pub fn set_max_bytes(&self, bytes: u64) {
        self.shared.store.set_max_bytes(bytes);
    }

    /// Whether answers as large as this would find room, if there were so many bytes: its parts are made once.
    #[cfg_attr(not(feature = "config"), allow(dead_code, reason = "nothing changes while it runs"))]
    pub(crate) fn would_have_room(&self, max_bytes: u64, largest: u64) -> bool {
        self.shared.parts == 0 || self.shared.parts == 1 || largest <= max_bytes / self.shared.parts
    }

    /// Whether both are the same answers.
    #[cfg_attr(
        not(any(feature = "config", feature = "metrics")),
        allow(dead_code, reason = "nothing changes while it runs")
    )]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Forgets all answers. One that is under way is kept when it is there.
    pub fn clear(&self) {
        self.shared.store.forget(None);
        self.shared.questions.clear();
    }

    /// Forgets the answers of a feature. One that is under way is kept when it is there.
    pub fn invalidate(&self, feature: &str) {
        self.shared.store.forget(Some(feature));
    }

    /// Forgets the answers that were made for a tenant or a session, and the questions by which similar ones are found. One
    /// that is under way is kept when it is there. Answers of versions before 0.2 do not say whose they are.
    pub fn forget_owner(&self, owner: &AnswerOwner) {
        self.shared.store.forget_owner(owner);
        self.shared.questions.clear();
    }

    /// What became of the requests so far.
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

    pub(crate) fn get(&self, key: &CacheKey) -> Found {
        self.shared.store.get(key)
    }

    /// Asks to be the one who calls, of all processes that share the answers.
    pub(super) fn claim(&self, key: &CacheKey, life: Lifetime) -> Option<Claiming> {
        self.shared.store.claim(key, Box::new(move |answer| life.is_fresh(answer, Instant::now())))
    }

    pub(crate) fn put(&self, key: CacheKey, answer: Arc<Answer>) {
        count(&self.shared.counters.kept);
        self.shared.store.put(key, answer);
    }

    /// The same, by the call that was made for all processes.
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
    /// 64 MiB in memory.
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

/// What became of the requests that a cache has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Those that were answered by what was kept.
    pub hits: u64,
    /// Those for which a call was made.
    pub misses: u64,
    /// Those that were not looked at: by the caller's word, or because they are of a kind that is left alone.
    pub passed_by: u64,
    /// Those that were given a kept answer that was too old, for there was no other.
    pub stale: u64,
    /// Those that were answered by the call of another.
    pub shared: u64,
    /// Those that were given the answer to a similar question.
    pub similar: u64,
    /// The answers that were kept.
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
