//! The mechanisms that the layers of several packages share: readiness, deadlines, timers, the clock. The documentation
//! of `steadfast::layers` explains them.

pub mod alarm;
pub mod call;
pub mod clock;
pub mod deadline;
pub mod retry_budget;

#[cfg(test)]
mod testing;
