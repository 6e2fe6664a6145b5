//! A circuit breaker: it stops calls to a provider that is down, and detects by itself when it is back.
//!
//! # When to use it
//!
//! Use it around each tier of a fallback. While a provider is down its requests go elsewhere at once, instead of
//! each waiting for a failure of its own, and the provider gets time to recover. Use one circuit for each provider
//! *and model*, since most outages are of single models; use [`keyed`](CircuitBreakerLayer::keyed) if one leaf
//! serves many.
//!
//! # When not to
//!
//! Do not use it if there is no other tier and a slow answer is better than none: a breaker with nothing behind it
//! turns some failures into all failures for its cooldown. Against a provider that is only *partly* unhealthy it
//! does little. At the default of five failures in a row, one that fails a fifth of its calls trips it every few
//! thousand calls. Use the retry budget for that.
//!
//! # Where in the stack
//!
//! Inside the retries, so that each attempt counts and a rejection is not retried; outside the attempt's timeout,
//! so that a hanging call ends in a failure that counts. Inside of a [`Timeout`](super::timeout) a hang counts too,
//! if the call had at least a second.
//!
//! # What counts
//!
//! Causes count, not calls. Calls that were under way together and fail within 60 ms tell of one fact, as do all that
//! fail with one connection. A call that waits ten seconds or more in vain weighs as half of what opens the circuit.
//! Where all facts are of one prompt, the next call of another is the probe. A success ends the row
//! if its call began after the first failure was known. Any other one does not, but then half of all calls since must
//! have failed.
//!
//! One named caller (a tenant, a key, or else a session) never decides alone where others are served, whatever fails:
//! it is *held apart*. Its calls go on to the next tier or are refused, with one probe of its own at growing intervals,
//! until one of them is answered ([`Event::CallerHeldApart`](crate::Event::CallerHeldApart)). Where nobody else calls,
//! the circuit opens; with another caller's first call it closes again. A wait that the provider asks for is one
//! caller's too, until it asks another.
//!
//! The [`Classifier`](crate::Classifier) decides. Failures of the provider count; callers' mistakes, local refusals
//! and dropped calls do not. For a stream the verdict falls at its end: one that breaks is a failure although it
//! began with a 200. Beyond counting,
//!
//! - a `Retry-After` closes the provider off until then, at once (at most [5
//!   minutes](CircuitBreakerLayer::max_throttle)); after it all calls go through again, without a probe, since
//!   nothing was broken;
//! - a used-up quota, and a rejected key that has worked before, open the circuit if a small request [of its
//!   own](CircuitBreakerLayer::confirm_with) gets the same answer. Where the answer is about the account (a 401, 402 or
//!   429 that names its error), the next call of another caller confirms it too; without a request of its own, another
//!   call of the same does. A leaf's error without a status opens it at once. The caller may have caused any other 4xx:
//!   nothing else confirms that;
//! - twenty different requests in a minute that are suddenly called invalid, and are half of all, are the
//!   provider's fault (seen for twenty hours in 2026) and open it, too. During such a storm a probe's error is no
//!   longer [`InvalidRequest`](crate::ErrorKind::InvalidRequest), which stops at once, but one of the provider,
//!   which fails over. Requests count by callers: the tenant or key that a request is from, or else its session.
//!   With two, three, and four or more callers met, at most ten, seven and five of the twenty are one's. A named
//!   caller that seems to be alone decides after a minute without any other. A request that the next tier calls
//!   invalid too no longer counts, at either tier;
//! - before that, from the [third](CircuitBreakerLayer::second_opinion_after) different one that makes them half of
//!   all, and if a probe was called invalid, it counts for nothing but is *doubted*. It stays the error that it is,
//!   and a [`Fallback`](crate::Fallback) further out asks the next tier for a second opinion. In thin traffic,
//!   which never reaches twenty a minute, all but the first two are therefore answered.
//!
//! A probe whose caller's own [time](crate::LlmRequest::with_timeout) is over within ten seconds decides nothing, and
//! the next request is one; only the third such probe opens the circuit again.
//!
//! The circuit checks all of these conditions again by itself. That a key has worked it may learn from another process
//! too: a stack with a durable store tells its circuits.
//!
//! # The clock
//!
//! The cooldown runs from the failure that opened the circuit. While closed it reads no clock, unless slow calls or
//! a window of time are configured; then a call's time runs from `call` to its response, which for a stream is its
//! first token.
//!
//! The pattern is Michael Nygard's ("Release It!", 2007). Outcomes of calls that began before the last change of
//! state are ignored, as are those of probes that were replaced. One part of them counts: a `Retry-After` prolongs
//! an open circuit, since it is the provider's current wish, whenever the call began, and no call goes there
//! meanwhile to receive it again. It rejects no call that is admitted.
//!
//! # Design
//!
//! A relapse costs trust. A circuit that trips again within an hour of its closing asks for four successful probes in a
//! row, and then sixteen: the first one alone, and twice as many at once after each.
//!
//! A caller's word for a latch is an *accusation*. Where the layer has a service to ask (`confirm_with`; a stack gives
//! each model's tier its leaf), settling the accusation spawns a probe. Its verdict comes back under the generation of
//! that time. The circuit keeps the failures of each caller (`callers.rs` has the law, `apart.rs` applies it) and a
//! storm's requests with their callers (`storm/`). The error of each of these carries its `Evidence`, which the
//! fallback withdraws where a second tier says the same.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{
//!     CircuitBreakerLayer, ErrorKind, LlmError, LlmRequest, LlmResponse, events::CircuitState, provider_fn,
//! };
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let breaker = CircuitBreakerLayer::new("sonnet").consecutive_failures(2);
//! let circuit = breaker.handle();
//! let down = provider_fn(|_request| async {
//!     Err::<LlmResponse, _>(LlmError::new(ErrorKind::Server, "down"))
//! });
//! let mut llm = ServiceBuilder::new().layer(breaker).service(down);
//!
//! for _ in 0..2 {
//!     let error = llm.ready().await.unwrap().call(LlmRequest::prompt("hello")).await.unwrap_err();
//!     assert_eq!(error.kind(), ErrorKind::Server);
//! }
//! // from now on the provider is not called
//! let error = llm.ready().await.unwrap().call(LlmRequest::prompt("hello")).await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::CircuitOpen);
//! assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
//! assert_eq!(circuit.state(), CircuitState::Open);
//! # }
//! ```

mod apart;
#[cfg(feature = "schema")]
#[doc(hidden)]
pub mod block;
mod callers;
mod circuit;
mod evidence;
mod fingerprint;
mod future;
mod handle;
mod keyed;
mod layer;
mod plan;
mod probe;
#[cfg(steadfast_loom)]
pub(crate) mod races;
mod replication;
mod service;
mod settings;
mod settle;
mod shared;
mod state;
mod storm;
#[cfg(test)]
mod tests;
mod window;
mod word;

pub(crate) use self::handle::Forecast;
#[doc(hidden)]
pub use self::{
    future::ResponseFuture,
    probe::{LONGEST_PROBE, ask},
    replication::{CircuitUpdate, PROBE_HEAD_START, Version},
    word::Reason,
};
pub use self::{handle::CircuitBreakerHandle, layer::CircuitBreakerLayer, service::CircuitBreaker, settings::Window};
