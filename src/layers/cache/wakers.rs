use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Wake, Waker},
};

use crate::internal::sync::{Mutex, lock};

/// All who wait for the same thing. To wake it is to wake them all, once.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    waiting: Mutex<HashMap<u64, Waker>>,
    next: AtomicU64,
}

impl Wakers {
    /// A number for one who will wait.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    /// Wakes this one too, the next time.
    pub(super) fn add(&self, number: u64, waker: &Waker) {
        // Cloned before and dropped after the lock is held: both run code of whoever made it.
        let new = waker.clone();
        let old = lock(&self.waiting).insert(number, new);
        drop(old);
    }

    /// This one waits no longer.
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
