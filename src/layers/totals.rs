//! Running totals: told to whoever asks, and nothing is decided by them, so that they need no order among them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One more.
#[inline]
pub(crate) fn count(total: &AtomicU64) {
    total.fetch_add(1, Relaxed);
}
