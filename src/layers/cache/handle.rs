use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{Answer, AnswerStore, CacheKey, Found, flights::Flights, questions::Questions, store::Memory};

/// The answers that are kept, and what became of the requests: shared by a [`CacheLayer`](super::CacheLayer), the services
/// that it makes, and [`CachedAnswers`](crate::providers::CachedAnswers).
///
/// Clones are the same answers.
#[derive(Clone)]
pub struct CacheHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    store: Box<dyn AnswerStore>,
    pub(super) flights: Arc<Flights>,
    pub(super) counters: Counters,
    pub(crate) questions: Questions,
}

/// The default of [`CacheHandle::new`], in bytes.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// The default of [`CacheLayer::max_answer`](super::CacheLayer::max_answer), in bytes.
pub(super) const MAX_ANSWER: usize = 1024 * 1024;

impl CacheHandle {
    /// Room for answers in memory of so many bytes in all; those that are asked for seldom go first. An answer over a
    /// quarter of it may find no room.
    pub fn new(max_bytes: u64) -> Self {
        Self::over(Memory::new(max_bytes, MAX_ANSWER as u64))
    }

    /// Answers that are kept in a store of your own.
    pub fn over(store: impl AnswerStore) -> Self {
        let shared = Shared {
            store: Box::new(store),
            flights: Arc::default(),
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

    /// Forgets all answers. One that is under way is kept when it is there.
    pub fn clear(&self) {
        self.shared.store.retain(&|_| false);
        self.shared.questions.clear();
    }

    /// Forgets the answers of a feature. One that is under way is kept when it is there.
    pub fn invalidate(&self, feature: &str) {
        self.shared.store.retain(&|answer| answer.feature() != Some(feature));
    }

    /// What became of the requests so far.
    pub fn stats(&self) -> CacheStats {
        let Counters { hits, misses, stale, shared, similar, kept } = &self.shared.counters;
        CacheStats {
            hits: hits.load(Relaxed),
            misses: misses.load(Relaxed),
            stale: stale.load(Relaxed),
            shared: shared.load(Relaxed),
            similar: similar.load(Relaxed),
            kept: kept.load(Relaxed),
        }
    }

    pub(crate) fn get(&self, key: &CacheKey) -> Found {
        self.shared.store.get(key)
    }

    pub(crate) fn put(&self, key: CacheKey, answer: Arc<Answer>) {
        self.shared.counters.kept.fetch_add(1, Relaxed);
        self.shared.store.put(key, answer);
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
        Self::new(MAX_BYTES)
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
    pub(crate) stale: AtomicU64,
    pub(crate) shared: AtomicU64,
    pub(crate) similar: AtomicU64,
    pub(crate) kept: AtomicU64,
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
