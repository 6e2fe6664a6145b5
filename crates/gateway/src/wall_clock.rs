//! The wall clock, for dates that people read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since 1970.
#[allow(clippy::disallowed_methods, reason = "a date is wanted, which tokio's clock does not know")]
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
