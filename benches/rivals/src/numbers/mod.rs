//! The stack's promises in numbers that only a clock can tell: the overhead of a call and of an event, refusals under
//! sixteen threads, deadlines that are kept.

mod bulkhead;
mod deadline;
mod overhead;

use std::time::Duration;

pub use self::{
    bulkhead::{Refusals, refusals},
    deadline::{Overrun, overruns},
    overhead::{Overhead, overhead},
};

/// The value that this share of them does not exceed.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}
