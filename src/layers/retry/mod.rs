//! Retry with backoff, jitter and a budget.

mod backoff;
mod budget;

pub use backoff::{Backoff, Jitter};
pub use budget::RetryBudget;
