//! The layers, one folder each, and the mechanisms that they share.
//!
//! Recommended order, outermost first: Observe · Timeout (total) · Idempotency · Cache · Budget · Bulkhead · Mirror
//! · Route · Fallback · and for each tier: Hedge · Validate · RetryWithJitter · Balance · CircuitBreaker · Timeout
//! (attempt) · leaf. Every other order compiles, and [the guide](https://docs.rs/steadfast-guide) explains its effect.
//!
//! # Mechanisms
//!
//! Each is written once, in `steadfast-core` where layers of several packages need it. Layers of other crates repeat
//! them and go wrong.
//!
//! 1. **Admission** (`admission.rs`). A gate (breaker, bulkhead) gives a `Permit` synchronously in `call`. The future
//!    owns it, then the body. It is settled exactly once, and dropping it settles it. The permit carries the gate's
//!    generation, so that the gate recognises a late result from before its last transition.
//! 2. **The body guard** (`body/streaming.rs`). One wrapper holds the permits and the idle clock of a stream, in the
//!    leaf's own allocation: a layer adds to it without another one. Permits settle when the provider's end mark has
//!    passed, when the stream breaks, or when the caller drops the body. A complete answer has ended already, so that
//!    its permits settle at once.
//! 3. **The attempt ledger** (`ledger.rs`). The attempts that are left go down by value in the
//!    [`Context`](crate::Context). The attempts that were made come up in the error or the response. A request shares
//!    nothing mutable.
//! 4. **Readiness** (`call.rs`). *First call*: `call` polls the service in hand once. A ready one is called without a
//!    clone. A pending one moves into the future, and a fresh clone stays behind. *Further calls*: a fresh clone,
//!    awaited under the deadline. Retry makes that clone only after a failed attempt, since cloning a provider's client
//!    can be dear. Fallback calls the next tier as a first call, through a service that stands by for all callers.
//! 5. **The classifier** ([`classify`](crate::classify)). One table; each layer takes an override.
//!
//! 6. **State and settings**. A layer that learns (counts, amounts, observed times) has its state apart from its
//!    settings. `Layer::state(&handle)` gives a layer with other settings the state of that handle's layer, and both
//!    may run at once: a reload builds the next stack over the state of the running one. Each request keeps the
//!    settings with which it began, and what it finds is known to all layers of that state.
//!
//! A layer's block of a configuration file is in its `block.rs`: the fields with their defaults, the merge of two
//! blocks, the check of the values, and their effect on the layer. `block_tests.rs` sets each field.
//!
//! One layer ends a request's deadline: the outermost that waits marks the request (`deadline.rs`), and a `Timeout`
//! does so with its own clock. Layers further in set no timer for the same moment. Only a call that waits for readiness
//! asks for it all the same (`call.rs`), since it alone knows that nothing was sent.
//!
//! Three smaller mechanisms make the healthy path cheap. **The alarm** (`alarm.rs`): of all limits of time that are
//! nested in one task, only the outermost Timeout sets a timer; those inside ask it for an earlier one. **The clock**
//! (`clock.rs`): one reading for all layers that a call passes on its way down. **Sharded references**
//! (`internal::sharded`): a count of references for each thread, since many threads would wait for a shared one.
//!
//! The request's context says whether a tier that asks a model is left (`can_go_on`). Three things go by that bit. A
//! retry waits for a moment at most (`failover_delay`) and takes its token from a thousandth of the traffic: it repeats
//! what fails in passing, and leaves all else to the next tier. An adaptive `Timeout` leaves calls that are late
//! (`timeout/silence.rs`). A call that is given up so is a timeout like any other, to the circuit and to the fallback.
//!
//! # Cost
//!
//! The healthy path of the five layers allocates nothing, boxes nothing and takes no lock. Three habits keep the
//! compiler's copies small:
//!
//! - A layer goes on to the next one from one place only. With two places, or with a cold function that returns the
//!   whole future, the future of everything inside moves once more.
//! - A request's context has no gap. The compiler copies one with a gap piece by piece.
//! - A poll that is pending returns before anything moves.
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
//!   it goes on, so that the compiler does not move the inner future once more. The breaker's and the bulkhead's cold
//!   `call_in_time` return a `Result`. If they wrote to the place of the common path's future, a task would copy that
//!   one twice: 45 ns a call in place of 27. The retry's does not, since the five layers as one then take longer.
//! - *Thread-locals between layers.* Nested layers share three facts during a synchronous call, poll or drop, through
//!   guards that restore the earlier value: the earliest requested timer (`alarm`), one reading of the clock (`clock`),
//!   and whether a hedge drops a call of a silent tier (`hedge_loss`). A task or a queue in between ends the sharing,
//!   and each layer then does without.

pub mod balance;
pub mod budget;
pub mod bulkhead;
pub(crate) mod caller;
pub mod circuit_breaker;
pub mod commit;
mod draft;
pub mod fallback;
pub mod hedge;
pub(crate) mod hedge_loss;
pub mod mirror;
pub mod observe;
pub(crate) mod patience;
mod ready_call;
pub(crate) mod recent_values;
pub mod retry;
pub mod route;
pub(crate) mod shares;
pub mod timeout;

pub use self::ready_call::ReadyCall;
#[cfg(feature = "idempotency")]
#[doc(no_inline)]
pub use steadfast_cache::idempotency;
#[cfg(feature = "cache")]
#[doc(no_inline)]
pub use steadfast_cache::{cache, cached};
pub(crate) use steadfast_core::mechanisms::{alarm, call, clock, deadline};
pub(crate) use steadfast_internal::{recent, text_similarity, totals};
#[cfg(feature = "validate")]
#[doc(no_inline)]
pub use steadfast_validate as validate;

#[cfg(all(test, feature = "schema"))]
mod block_tests;
#[cfg(test)]
mod busy;
#[cfg(test)]
#[path = "../../crates/core/src/mechanisms/testing.rs"]
pub(crate) mod testing;
