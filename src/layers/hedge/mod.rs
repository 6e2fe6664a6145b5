//! A second call where the first is late: the slowest answers, at the price of a few extra calls.
//!
//! # When to use it, and when not
//!
//! Where a person waits, and the slow tail is what they remember: of two calls that are each slow once in a hundred times,
//! both are slow once in ten thousand. Not where a call does something besides answering (a tool that acts on the provider's
//! side), not where an answer must be paid for once at most ([`only`](HedgeLayer::only)), and not against an outage: the
//! extra calls are few, which is their point, so that most requests still meet it. That is a
//! [fallback](super::fallback)'s.
//!
//! # What it does
//!
//! - The first call goes out alone. If it has no answer after the time within which 95 % of those before it had one, a
//!   second goes to [another tier](HedgeLayer::tier), or [to the same service](HedgeLayer::new) once more. Whichever
//!   answers first is the answer, and the other is dropped in the same moment. An answer means that the first token is
//!   here; after it nothing is hedged.
//! - Times are observed to the answer (for a stream, to its first token; streams and whole answers each for themselves), over
//!   the last 512 to 1024 calls, and kept within [bounds](HedgeLayer::between). Calls that were given up count with
//!   twice the time they had. Before [20](HedgeLayer::min_observed) have answered nothing is late. A [fixed time](HedgeLayer::after)
//!   needs no observation.
//! - A first call that fails before that is followed by the second at once, where a retry could help. Not after a
//!   429, nor after any failure that asks to wait (Retry-After, `x-should-retry: false`): that goes up, as do the
//!   refusals on this side and what is wrong with the request itself. A failure that is the request's own ends both calls.
//! - Extra calls are at most [5 %](HedgeLayer::extra) of the first ones, by a token bucket; and they can be taken
//!   from the [retry budget](HedgeLayer::budget) too. A token is taken when the second call is begun, and comes back
//!   if it was never sent (it waited for readiness, its circuit was open). Each call is one attempt of the request, and one
//!   is kept back for the second. No second call begins at the request's deadline or after it.
//! - A request that requires a person has no second call, one with [`no_fallback`](crate::LlmRequest::no_fallback) none at
//!   another tier, and one of a session neither, unless that is [allowed](HedgeLayer::sessions).
//! - The record has both calls; the one that was dropped says [`Cancelled`](crate::ledger::Next::Cancelled).
//!   [`is_hedged`](crate::LlmResponse::is_hedged) says whether the second answered. [`HedgeHandle`] has the totals.
//! - When both fail, the error lists both. It leads with the first tier's failure; of one service, with the newer one.
//!
//! To a circuit breaker inside, a call that was dropped for the second one is neutral, as is one whose caller has left; but
//! it is a failure where that tier has answered nobody since the call began. So a tier that hangs is found out although
//! none of its calls comes to an end.
//!
//! # Where in the stack
//!
//! Around a tier's whole stack (RetryWithJitter, CircuitBreaker, Timeout), inside of a `Fallback`, with the next tier's
//! whole stack as the second. A `Fallback` further out does not ask that tier again when it has failed so, and takes its answers
//! for what they are. To the same service: inside of RetryWithJitter, around CircuitBreaker. A cache, a canned
//! sentence or people are no tier to hedge with: they would win each time.
//!
//! # Sources
//!
//! Dean and Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013, for the method and its 95th percentile. gRPC's
//! proposal A6, "client retries", for what a failure does to the other call, and for pushback. The shape of the histogram is
//! HdrHistogram's, and its two halves are from tower's `hedge`.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{HedgeLayer, LlmError, LlmRequest, LlmResponse, provider_fn};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stalls = provider_fn(|_request| async {
//!     tokio::time::sleep(Duration::from_secs(30)).await;
//!     Ok::<_, LlmError>(LlmResponse::from_text("sorry for the delay"))
//! });
//! let quick = provider_fn(|_request| async { Ok::<_, LlmError>(LlmResponse::from_text("hello")) });
//! // One call in four may be a second one, so that four requests are enough for an example.
//! let hedge = HedgeLayer::new("sonnet").tier("gpt-4o", quick).after(Duration::from_secs(2)).extra(0.25)?;
//! let handle = hedge.handle();
//! let llm = ServiceBuilder::new().layer(hedge).service(stalls);
//!
//! let asked = (0..4).map(|_| llm.clone().oneshot(LlmRequest::prompt("hi")));
//! let answers = futures_util::future::try_join_all(asked).await?;
//! assert_eq!(answers.iter().filter(|answer| answer.served_by().tier == Some("gpt-4o")).count(), 1);
//! assert_eq!((handle.stats().sent, handle.stats().won, handle.stats().extra_load()), (1, 1, 0.25));
//! # Ok(())
//! # }
//! ```

mod future;
mod handle;
mod layer;
mod observed;
mod race;
mod service;
mod settings;

pub use self::{
    future::ResponseFuture,
    handle::{HedgeHandle, HedgeStats},
    layer::HedgeLayer,
    service::Hedge,
};

#[cfg(test)]
mod tests;
