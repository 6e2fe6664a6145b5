//! The other crates' layers, set up as their documentation says.

#[cfg(feature = "liter-llm")]
pub mod liter;
pub mod resilience;
pub mod seatbelt;
pub mod tower;
pub mod wrapped;

use std::time::Duration;

/// Room for every call that a benchmark has in flight.
pub const PLACES: usize = 64;
/// Longer than any call here takes.
pub const TOTAL: Duration = Duration::from_secs(90);
/// Longer than any benchmark runs: a circuit that has opened stays open.
pub const LONG: Duration = Duration::from_secs(3600);
