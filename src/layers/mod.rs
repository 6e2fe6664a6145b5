//! The layers, one folder each, and the mechanisms that they share.
//!
//! Recommended order, outermost first: Observe · Timeout (total) · Idempotency · Cache · Budget · Bulkhead · Mirror · Route ·
//! Fallback · and for each tier: Hedge · Validate · RetryWithJitter · CircuitBreaker · Timeout (attempt) · leaf. Every other order
//! compiles and means what it says: [what that is](crate::guide::choosing_an_order).
//!
//! # Readiness
//!
//! Each layer here decides by the request (its feature, its deadline, its tier), and none can know the request in
//! `poll_ready`. So their `poll_ready` reserves nothing and is always ready, and the future that `call` gives waits
//! for the inner service, under the deadline and counted by it. A limiter that must push back on the caller's accept
//! loop (tower's `load_shed`, `concurrency_limit`) belongs outside of them.

pub(crate) mod alarm;
pub mod budget;
pub mod bulkhead;
#[cfg(feature = "cache")]
pub mod cache;
#[cfg(feature = "cache")]
pub mod cached;
pub(crate) mod call;
pub(crate) mod caller;
pub mod circuit_breaker;
pub(crate) mod clock;
pub mod commit;
pub(crate) mod deadline;
pub mod fallback;
pub mod hedge;
#[cfg(feature = "idempotency")]
pub mod idempotency;
pub(crate) mod lanes;
pub(crate) mod latest;
pub mod mirror;
pub mod observe;
pub(crate) mod overtaken;
mod ready_call;
pub(crate) mod recent;
pub mod retry;
pub mod route;
pub mod timeout;
pub(crate) mod totals;
#[cfg(feature = "validate")]
pub mod validate;
pub(crate) mod words;

pub use self::ready_call::ReadyCall;

#[cfg(test)]
pub(crate) mod testing;
