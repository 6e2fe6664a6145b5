//! Faults of the crates before this one, each as a behaviour of ours.
//!
//! The number in each test's comment is that of the lesson, with what was seen elsewhere. All of it goes through the
//! public API, and through compositions rather than single layers: those have tests of their own beside the code.

mod breaker;
mod bulkhead;
mod fallback;
mod fixtures;
mod hedge;
mod knobs;
mod messages;
mod outages;
mod readiness;
mod retry;
mod shared;
mod streams;
mod tower_contract;
