//! The layers, one folder each, and the mechanisms that they share.
//!
//! Recommended order, outermost first: Observe · Timeout (total) · Idempotency · Cache · Budget · Bulkhead · Mirror
//! · Route · Fallback · and for each tier: Hedge · Validate · RetryWithJitter · CircuitBreaker · Timeout (attempt)
//! · leaf. Every other order compiles, and [the guide](crate::guide::choosing_an_order) explains its effect.
//!
//! # Readiness
//!
//! Each layer here decides by the request (its feature, its deadline, its tier), and none can know the request in
//! `poll_ready`. So their `poll_ready` reserves nothing and is always ready. The future that `call` returns waits
//! for the inner service, under the deadline and counted by it. A limiter that must push back on the caller's
//! accept loop (tower's `load_shed`, `concurrency_limit`) belongs outside of them.
//!
//! # How a layer stays cheap
//!
//! A layer adds a few instructions to a call that goes well. Three rules keep it so.
//!
//! - *A hot `poll` and a boxed cold rest.* `call` and `poll` contain the path of a call that goes well, and are inlined
//!   through the whole stack: each is small, and as one they cost a tenth less. State that only a wait, a failure or a
//!   second call needs is in an `Option<Box<..>>`, and its code in a separate `#[cold]` function, such as
//!   `retry::ResponseFuture::poll_on`.
//! - *Values stay in place.* Requests, responses and futures are large. `poll` changes a response through `&mut` and
//!   returns it from where it is. `call` clones references before it makes the inner call, and has one place from which
//!   it goes on, so that the compiler does not move the inner future once more.
//! - *Thread-locals between layers.* Nested layers share three facts during a synchronous call, poll or drop, through
//!   guards that restore the earlier value: the earliest requested timer (`alarm`), one reading of the clock (`clock`),
//!   and whether a hedge drops a call of a silent tier (`overtaken`). A task or a queue in between ends the sharing, and
//!   each layer then does without.

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
