use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, poisoned or not: one request that panicked must not stop the others.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
