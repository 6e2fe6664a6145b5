//! The time, as the file has it.

use crate::quota::millis;
use steadfast_internal::wall_clock;

/// Returns Unix milliseconds, which are the same for all processes of one machine.
pub(super) fn now() -> i64 {
    millis(wall_clock::since_1970())
}
