//! Stops calling a provider that is down, and finds out by itself when it is back.
//!
//! # When to use it
//!
//! Around each tier of a fallback: while a provider is down its requests go elsewhere at once, instead of each waiting
//! for a failure of its own, and the provider is left in peace to recover. One circuit for each provider *and model*, for
//! most outages are of single models; use [`keyed`](CircuitBreakerLayer::keyed) where one leaf serves many.
//!
//! # When not to
//!
//! Where there is nowhere else to go and an answer that takes long is better than none: a breaker with nothing behind it
//! turns some failures into all failures for its cooldown. Against a provider that is only *partly* ill it does little: at
//! the default of five failures in a row, one that fails a fifth of its calls trips it every few thousand calls. That is
//! what the retry budget is for.
//!
//! # Where in the stack
//!
//! Inside the retries, so that each attempt counts and a rejection is not retried; outside the attempt's timeout, so
//! that a call that hangs ends in a failure that counts. Inside of a [`Timeout`](super::timeout) a hang counts too, if the call had
//! at least a second.
//!
//! # What counts
//!
//! The [`Classifier`](crate::Classifier) decides. Failures of the provider count; what the caller did wrong, a local refusal
//! and a dropped call do not. For a stream the verdict falls at its end: one that breaks is a failure although it began
//! with a 200. Beyond counting,
//!
//! - a `Retry-After` closes the provider off until then, at once (at most [5 minutes](CircuitBreakerLayer::max_throttle));
//!   after it all calls go through again, without a probe, for nothing was broken;
//! - a used-up quota, and a refused key that has worked before, open the circuit at once where the answer is about the account
//!   (a 401, 402 or 429 that names its error, or a leaf's error without a status). Any other 4xx may be what its caller has brought
//!   about, so that nobody is refused on its word: the circuit opens if a small request
//!   [of its own](CircuitBreakerLayer::confirm_with) meets the same, and without one not at all;
//! - twenty different requests in a minute that are suddenly called invalid, and are half of all, are the provider's fault
//!   (seen for twenty hours in 2026) and open it, too. While that lasts the error of a probe says so: it is no longer
//!   [`InvalidRequest`](crate::ErrorKind::InvalidRequest), which stops at once, but one of the provider, which fails over.
//!   They count by callers: the tenant or key that a request is from, or else its session. Where several call, at most half of
//!   the twenty are one caller's. A caller with a name who seems to be alone decides after a minute in which nobody else came. A
//!   request that the next tier calls invalid too counts no more, at neither tier;
//! - before that, from the [third](CircuitBreakerLayer::second_opinion_after) different one that makes them half of all, and
//!   where it was a probe that was called invalid, it counts for nothing but is *doubted*: it stays the error that it is, and a
//!   [`Fallback`](crate::Fallback) further out asks the next tier whether it sees the mistake too. So in thin traffic, which
//!   never comes to twenty a minute, all but the first two are answered.
//!
//! A probe whose caller's own [time](crate::LlmRequest::timeout) is over within ten seconds decides nothing, and the next
//! request is one; only the third such probe opens the circuit again.
//!
//! All of them are looked at again by themselves.
//!
//! # The clock
//!
//! The cooldown runs from the failure that opened the circuit. While closed no clock is read, unless slow calls or a window of
//! time are asked for; then a call's time runs from `call` to its response, which for a stream is its first token.
//!
//! The pattern is Michael Nygard's ("Release It!", 2007). Outcomes of calls that began before the last change of state are
//! ignored, as are those of probes that were replaced. One thing of them is heard: a `Retry-After` prolongs an open circuit, for it is
//! the provider's word of now, whenever the call began, and nobody is sent there meanwhile to hear it again. It closes off nobody who
//! is let through.
//!
//! # Design
//!
//! A relapse costs trust. A circuit that trips again within an hour of its closing asks for four successful probes in a
//! row, and then sixteen: the first one alone, and twice as many at once after each.
//!
//! A failure of the account (401, 402, 429 with a name) opens the circuit at once. Any other latch is an *accusation*.
//! Where the layer has a service to ask (`confirm_with`; a stack gives each model's tier its leaf), settling the
//! accusation spawns a probe, whose verdict comes back under the generation of that time. Without such a service an
//! accusation decides nothing. The circuit keeps a storm's requests with their callers (`storm.rs`). The error of each
//! carries its `Evidence`, which the fallback withdraws where a second tier says the same.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{CircuitBreakerLayer, ErrorKind, LlmError, LlmRequest, LlmResponse, events::CircuitState, provider_fn};
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
//! assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
//! assert_eq!(circuit.state(), CircuitState::Open);
//! # }
//! ```

mod circuit;
mod fingerprint;
mod future;
mod handle;
mod keyed;
mod layer;
#[cfg(all(test, steadfast_loom))]
mod loom_tests;
#[cfg(feature = "redis")]
mod news;
mod probe;
mod service;
mod settings;
mod settle;
mod state;
mod storm;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;
mod window;
mod word;

#[cfg(feature = "redis")]
pub(crate) use self::news::{COURTESY, Mark, News};
#[cfg(feature = "config")]
pub(crate) use self::probe::{LONGEST_PROBE, ask};
pub use self::{
    future::ResponseFuture, handle::CircuitBreakerHandle, layer::CircuitBreakerLayer, service::CircuitBreaker,
    settings::Window,
};
