use std::{fmt, future::Future, pin::Pin, sync::Arc};

use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter, sync::DefaultLifecycle};

use super::{Answer, AnswerOwner, CacheKey};

/// A place to keep answers.
///
/// The trait is small, so that a database or a key-value server can stand behind it. It knows nothing of time: the
/// request decides whether an answer is too old, and the store may forget it or not. A store that is down has
/// nothing ([`StoreLookup::Ready`] of `None`) and forgets what it is given: it is never in the way of an answer.
pub trait AnswerStore: Send + Sync + 'static {
    /// Looks for an answer.
    fn get(&self, key: &CacheKey) -> StoreLookup;

    /// Keeps an answer, in place of an earlier one. It must not wait: a remote store writes later.
    fn put(&self, key: CacheKey, answer: Arc<Answer>);

    /// Claims the call for this answer among all processes that share the store. One process calls, and the others
    /// get its answer if `is_fresh` accepts it. Default: no other process is known, and each calls for itself.
    fn claim(&self, key: &CacheKey, is_fresh: Box<dyn Fn(&Answer) -> bool + Send + Sync>) -> Option<ClaimFuture> {
        let (_, _) = (key, is_fresh);
        None
    }

    /// Forgets all answers except those for which `stays` returns true.
    fn retain(&self, stays: &dyn Fn(&Answer) -> bool);

    /// Forgets all answers, or those of a feature. By default it [retains](Self::retain) the others; a store that
    /// cannot look at all its answers must override it.
    fn forget(&self, feature: Option<&str>) {
        self.retain(&|answer| feature.is_some_and(|feature| answer.feature() != Some(feature)));
    }

    /// Forgets the answers that were made for this owner. By default it [retains](Self::retain) the others. A store
    /// that cannot look at all its answers must override it, and may forget later.
    fn forget_owner(&self, owner: &AnswerOwner) {
        self.retain(&|answer| !answer.is_of(owner));
    }

    /// Returns the number of answers, or 0 if that cannot be known.
    fn len(&self) -> usize;

    /// Returns whether the store is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the approximate size of the answers, in bytes.
    fn bytes(&self) -> u64;

    /// Sets the most bytes that the answers may take. Default: does nothing, as for a remote store with bounds of
    /// its own.
    fn set_max_bytes(&self, bytes: u64) {
        let _ = bytes;
    }
}

impl<S: AnswerStore + ?Sized> AnswerStore for Arc<S> {
    fn get(&self, key: &CacheKey) -> StoreLookup {
        (**self).get(key)
    }

    fn put(&self, key: CacheKey, answer: Arc<Answer>) {
        (**self).put(key, answer);
    }

    fn claim(&self, key: &CacheKey, is_fresh: Box<dyn Fn(&Answer) -> bool + Send + Sync>) -> Option<ClaimFuture> {
        (**self).claim(key, is_fresh)
    }

    fn retain(&self, stays: &dyn Fn(&Answer) -> bool) {
        (**self).retain(stays);
    }

    fn forget(&self, feature: Option<&str>) {
        (**self).forget(feature);
    }

    fn forget_owner(&self, owner: &AnswerOwner) {
        (**self).forget_owner(owner);
    }

    fn len(&self) -> usize {
        (**self).len()
    }

    fn is_empty(&self) -> bool {
        (**self).is_empty()
    }

    fn bytes(&self) -> u64 {
        (**self).bytes()
    }

    fn set_max_bytes(&self, bytes: u64) {
        (**self).set_max_bytes(bytes);
    }
}

/// A claim in progress: it may take as long as another process's call. Dropping it releases nothing, since nothing
/// is held.
pub type ClaimFuture = Pin<Box<dyn Future<Output = CallClaim> + Send>>;

/// The outcome of a claim by several processes that want the same answer at the same time.
pub enum CallClaim {
    /// The claimant calls: for all processes, or for itself alone (`None`) if nothing is known of the others.
    Granted(Option<Box<dyn SharedCall>>),
    /// Another process called, and was answered.
    Answered(Arc<Answer>),
}

/// A call made for all processes. Dropping it without an answer makes each of the others call for itself.
pub trait SharedCall: Send + Sync {
    /// Publishes the answer: the store keeps it, and then gives it to all who wait. It must not wait itself.
    fn answered(self: Box<Self>, answer: Arc<Answer>);
}

impl fmt::Debug for CallClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted(call) => write!(f, "Granted(shared: {})", call.is_some()),
            Self::Answered(answer) => f.debug_tuple("Answered").field(answer).finish(),
        }
    }
}

/// The result of looking up an answer.
pub enum StoreLookup {
    /// The store knows at once.
    Ready(Option<Arc<Answer>>),
    /// The store will know.
    Pending(Pin<Box<dyn Future<Output = Option<Arc<Answer>>> + Send>>),
}

impl fmt::Debug for StoreLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(answer) => f.debug_tuple("Ready").field(answer).finish(),
            Self::Pending(_) => f.write_str("Pending"),
        }
    }
}

/// Answers in memory, bounded in bytes. Rarely requested answers go first (S3-FIFO and CLOCK, by `quick_cache`).
pub(super) struct Memory {
    parts: u64,
    answers: quick_cache::sync::Cache<CacheKey, Arc<Answer>, BySize>,
}

#[derive(Clone)]
struct BySize;

impl Weighter<CacheKey, Arc<Answer>> for BySize {
    fn weight(&self, _: &CacheKey, answer: &Arc<Answer>) -> u64 {
        answer.size().max(1)
    }
}

/// The assumed size of an answer, to estimate how many there will be.
const USUAL_ANSWER: u64 = 4096;
/// The number of parts, each with a lock. An answer over a part's share of the bytes is not kept.
const PARTS: u64 = 16;

impl Memory {
    pub(super) fn new(max_bytes: u64, largest: u64) -> Self {
        let parts = (max_bytes / largest.saturating_mul(4).max(1)).clamp(1, PARTS);
        // A whole power of two: more parts would be too small for the largest answer.
        let parts = 1u64 << parts.ilog2();
        let options = OptionsBuilder::new()
            .shards(parts as usize)
            .weight_capacity(max_bytes)
            .estimated_items_capacity((max_bytes / USUAL_ANSWER).clamp(64, 1 << 20) as usize)
            .build()
            .expect("all that must be set is set");
        let answers = quick_cache::sync::Cache::with_options(
            options,
            BySize,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        );
        Self { parts, answers }
    }

    /// Returns the number of parts, each with a lock.
    pub(super) fn parts(&self) -> u64 {
        self.parts
    }
}

impl AnswerStore for Memory {
    fn get(&self, key: &CacheKey) -> StoreLookup {
        StoreLookup::Ready(self.answers.get(key))
    }

    fn put(&self, key: CacheKey, answer: Arc<Answer>) {
        self.answers.insert(key, answer);
    }

    fn retain(&self, stays: &dyn Fn(&Answer) -> bool) {
        self.answers.retain(|_, answer| stays(answer));
    }

    fn len(&self) -> usize {
        self.answers.len()
    }

    fn bytes(&self) -> u64 {
        self.answers.weight()
    }

    fn set_max_bytes(&self, bytes: u64) {
        self.answers.set_capacity(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;

    #[test]
    fn an_answer_over_all_the_room_is_not_kept_and_the_rest_stays() {
        let memory = Memory::new(100_000, 10_000);
        let answer = |bytes: usize| Arc::new(Answer::for_tests(Message::assistant("x".repeat(bytes))));
        memory.put(CacheKey([1; 32]), answer(100));
        memory.put(CacheKey([2; 32]), answer(200_000));
        assert!(matches!(memory.get(&CacheKey([1; 32])), StoreLookup::Ready(Some(_))));
        assert!(matches!(memory.get(&CacheKey([2; 32])), StoreLookup::Ready(None)));
        assert!(memory.bytes() < 1000 && memory.len() == 1);
        memory.set_max_bytes(10);
        assert!(memory.is_empty(), "it has no room any more");
        memory.set_max_bytes(100_000);
        memory.put(CacheKey([1; 32]), answer(100));
        memory.retain(&|_| false);
        assert!(memory.is_empty() && memory.bytes() == 0);
    }
}
