use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Wake, Waker},
};

use crate::internal::sync::{Mutex, lock};

/// The wakers of all tasks that wait for the same thing. A wake wakes them all, once.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    waiting: Mutex<HashMap<u64, Waker>>,
    next: AtomicU64,
}

impl Wakers {
    /// Returns a new number under which to register a waker.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    /// Registers this waker for the next wake.
    pub(super) fn add(&self, number: u64, waker: &Waker) {
        // Clone before and drop after the lock is held: both run the waker's own code.
        let new = waker.clone();
        let old = lock(&self.waiting).insert(number, new);
        drop(old);
    }

    /// Removes the waker of this number.
    pub(super) fn remove(&self, number: u64) {
        let old = lock(&self.waiting).remove(&number);
        drop(old);
    }

    pub(super) fn wake_all(&self) {
        let all = std::mem::take(&mut *lock(&self.waiting));
        all.into_values().for_each(Waker::wake);
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}
