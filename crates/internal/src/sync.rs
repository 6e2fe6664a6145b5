//! The primitives that loom models: std's in a build, loom's under `cfg(steadfast_loom)`.
//!
//! It has a cfg of its own, because tokio itself reacts to `cfg(loom)` and drops its networking.

#[cfg(not(steadfast_loom))]
pub use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic};

#[cfg(steadfast_loom)]
pub use loom::{
    model,
    sync::{Arc, Mutex, MutexGuard, atomic},
    thread,
};
#[cfg(steadfast_loom)]
pub use std::sync::PoisonError;

/// Locks a mutex, poisoned or not: a callback that panicked must not disable every later call.
#[inline]
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
