//! Drills: an outage replayed against a configuration, in virtual time.

pub mod report;
pub mod slo;

pub use self::{report::Report, slo::Missed};
