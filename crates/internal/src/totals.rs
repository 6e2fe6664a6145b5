//! Running totals: they are only reported, and decide nothing, so that they need no order among them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Adds one.
#[inline]
pub fn count(total: &AtomicU64) {
    total.fetch_add(1, Relaxed);
}
