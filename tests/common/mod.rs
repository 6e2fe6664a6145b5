//! The parts that the tests of the promises share.

/// An observed stack, and the outage of 2026-06-15.
#[allow(dead_code, reason = "each test takes what it needs")]
pub(crate) mod outage;
/// The strict leaf that stands under every layer's own tests too.
#[allow(dead_code, reason = "each test takes what it needs")]
pub(crate) mod scenario;

#[path = "../../crates/core/src/mechanisms/testing.rs"]
pub(crate) mod testing;
