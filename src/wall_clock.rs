//! The clock on the wall, read here and nowhere else.
//!
//! For dates only: a provider's Retry-After that names one, and the stamp of an answer. Every span of time is measured
//! by tokio's clock, which tests can pause.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The date.
#[allow(clippy::disallowed_methods, reason = "a date of the wall clock, not a time to measure")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// The date as the time since 1970.
pub(crate) fn since_1970() -> Duration {
    now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
