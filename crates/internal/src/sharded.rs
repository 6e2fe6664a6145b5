//! Values that many threads use at once, with a part for each of a few threads.
//!
//! A call owns such a value as long as it runs, and so counts a reference up and down. With one count for all, two
//! threads would spend most of a healthy call on passing its cache line to and fro. So there are a few counts, and each
//! thread uses one. Measured on a breaker with 64 tasks on 2 threads: from some 10 to some 16
//! million calls a second.

use std::{
    cell::Cell,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::sync::atomic::AtomicU64;

/// A value with a count of references for each of a few threads. Clones are the same value and the same counts.
#[derive(Debug)]
pub struct ShardedArc<T: ?Sized> {
    value: Arc<T>,
    shards: [Arc<Shard<T>>; SHARDS],
}

/// The value, by one of the counts.
// The counts of the `Arc` around it share their cache line with nothing that other threads write.
#[repr(align(64))]
#[derive(Debug)]
pub struct Shard<T: ?Sized> {
    value: Arc<T>,
}

impl<T: ?Sized> Shard<T> {
    /// Creates the only shard of a value.
    pub fn new(value: Arc<T>) -> Self {
        Self { value }
    }

    /// Returns the value, whose own count is one for all threads.
    pub fn value(&self) -> &Arc<T> {
        &self.value
    }
}

impl<T: ?Sized> ShardedArc<T> {
    /// Creates the counts of a value.
    pub fn new(value: Arc<T>) -> Self {
        let shards = std::array::from_fn(|_| Arc::new(Shard { value: value.clone() }));
        Self { value, shards }
    }

    /// Returns the value, whose own count is one for all threads.
    pub fn value(&self) -> &Arc<T> {
        &self.value
    }

    /// Returns this thread's reference to the value, to keep as long as a call runs.
    #[inline]
    pub fn shard(&self) -> Arc<Shard<T>> {
        self.shards[shard()].clone()
    }

    /// Returns the number of references that are out: those of the shards, and other clones of the value's own.
    pub fn out(&self) -> usize {
        let shards: usize = self.shards.iter().map(|shard| Arc::strong_count(shard).saturating_sub(1)).sum();
        // Subtract this value's own reference, and one of each shard.
        shards.saturating_add(Arc::strong_count(&self.value).saturating_sub(SHARDS + 1))
    }
}

impl<T: ?Sized> Clone for ShardedArc<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), shards: self.shards.clone() }
    }
}

impl<T: ?Sized> Deref for ShardedArc<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> Deref for Shard<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

/// A running total, which may wrap. Many threads add to it, each to its own part.
#[derive(Debug, Default)]
pub struct ShardedTotal {
    parts: [Part; SHARDS],
}

#[repr(align(64))]
#[derive(Debug, Default)]
struct Part(AtomicU64);

impl ShardedTotal {
    /// Adds to this thread's part.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.parts[shard()].0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Returns the sum of all parts. Whoever reads it twice sees no part go back.
    pub fn get(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.wrapping_add(part.0.load(Ordering::Relaxed)))
    }
}

/// Returns this thread's shard.
#[inline]
fn shard() -> usize {
    // A thread that is being torn down has lost its own shard: any other will do.
    let known = SHARD.try_with(Cell::get).unwrap_or(0);
    // Both are known to be in range, so that an access checks no bounds.
    if known < SHARDS { known } else { choose() % SHARDS }
}

/// Chooses a thread's shard, in turns.
#[cold]
fn choose() -> usize {
    let chosen = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    let _ = SHARD.try_with(|shard| shard.set(chosen));
    chosen
}

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

static NEXT: AtomicUsize = AtomicUsize::new(0);
/// One under loom, which explores the order of all accesses.
const SHARDS: usize = if cfg!(steadfast_loom) { 1 } else { 16 };

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn each_thread_counts_for_itself_and_all_count() {
        let (value, total) = (ShardedArc::<str>::new("a".into()), ShardedTotal::default());
        let held = thread::scope(|scope| {
            let count = || (0..100).map(|_| (total.add(3), value.shard()).1).collect::<Vec<_>>();
            let threads: Vec<_> = (0..SHARDS + 1).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert_eq!((value.out(), total.get()), (100 * (SHARDS + 1), 300 * (SHARDS as u64 + 1)));
        for shards in &held {
            assert!(shards.iter().all(|shard| Arc::ptr_eq(shard, &shards[0])), "a thread stays with its own");
        }
        let others = held.iter().filter(|shards| !Arc::ptr_eq(&shards[0], &held[0][0])).count();
        assert!(others >= SHARDS - 2, "two threads in a row have different ones");
        drop(held);
        let _clone = value.clone();
        assert_eq!(value.out(), SHARDS + 1, "a clone holds the value and each shard");
        total.add(u64::MAX);
        assert_eq!(total.get(), 300 * (SHARDS as u64 + 1) - 1);
    }
}
