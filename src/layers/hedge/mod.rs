//! A second call if the first is late: shorter tail latency, at the price of a few extra calls.
//!
//! # When to use it, and when not
//!
//! Use it if people wait, and the slow tail is what they remember: of two calls that are each slow once in a
//! hundred times, both are slow once in ten thousand. Do not use it if a call has side effects (a tool that acts on
//! the provider's side), or if an answer must be paid for at most once ([`only`](HedgeLayer::only)). It does not
//! help against an outage: extra calls are few by design, so that most requests still meet the outage. Use a
//! [fallback](super::fallback) for that.
//!
//! # What it does
//!
//! - The first call goes out alone. If it has no answer after the time within which 95 % of earlier calls had one,
//!   a second goes to [another tier](HedgeLayer::tier), or [to the same service](HedgeLayer::new) once more. The
//!   first answer wins, and the other call is dropped in the same moment. An answer means that the first token is
//!   here; after it the layer hedges nothing.
//! - Times are observed to the answer, over the last 512 to 1024 calls, and kept within
//!   [bounds](HedgeLayer::between). For a stream, that is its first token; streams and whole answers are observed
//!   separately. Calls that were given up count with twice the time they had. Before [20](HedgeLayer::min_observed)
//!   calls have answered, no call is late. A [fixed time](HedgeLayer::after) needs no observation.
//! - If the first call fails before that, the second follows at once, provided that a retry could help. It does not
//!   follow a 429, nor any failure that asks to wait (Retry-After, `x-should-retry: false`). Those failures go up,
//!   as do refusals on this side and errors in the request itself. A failure that is the request's own ends both
//!   calls.
//! - Extra calls are at most [5 %](HedgeLayer::extra) of the first ones, by a token bucket. They can be taken from
//!   the [retry budget](HedgeLayer::budget) too. The layer takes a token when it begins the second call, and
//!   returns it if the call was never sent (it waited for readiness, its circuit was open). Each call is one
//!   attempt of the request, and one is reserved for the second. No second call begins at the request's deadline or
//!   after it.
//! - A request that requires a person has no second call. One with [`no_fallback`](crate::LlmRequest::no_fallback)
//!   has none at another tier, nor has one of a session, unless that is [allowed](HedgeLayer::sessions).
//! - The record has both calls; the dropped one is marked [`Cancelled`](crate::ledger::Next::Cancelled).
//!   [`is_hedged`](crate::LlmResponse::is_hedged) returns whether the second answered. [`HedgeHandle`] has the
//!   totals.
//! - If both fail, the error lists both. It leads with the first tier's failure; of one service, with the newer
//!   one.
//!
//! For a circuit breaker inside, a call that was dropped for the second one is neutral, as is one whose caller has
//! left. It counts as a failure if that tier has answered no request since the call began. A hanging tier is
//! therefore detected although none of its calls ends.
//!
//! # Where in the stack
//!
//! Around a tier's whole stack (RetryWithJitter, CircuitBreaker, Timeout), inside of a `Fallback`, with the next
//! tier's whole stack as the second. After a failure of both, a `Fallback` further out does not ask that second
//! tier again, and it credits that tier with its answers. To the same service: inside of RetryWithJitter, around
//! CircuitBreaker. A cache, a canned sentence or people are no tier to hedge with: they would win each time.
//!
//! # Sources
//!
//! Dean and Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013, for the method and its 95th
//! percentile. gRPC's proposal A6, "client retries", for the effect of a failure on the other call, and for
//! pushback. The shape of the histogram is HdrHistogram's, and its two halves are from tower's `hedge`.
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
//! let hedge = HedgeLayer::new("sonnet").tier("gpt-4o", quick).after(Duration::from_secs(2)).extra(0.25);
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

#[cfg(feature = "schema")]
#[doc(hidden)]
pub mod block;
mod future;
mod handle;
mod layer;
mod plan;
mod race;
mod response_times;
mod service;
mod settings;
mod state;

#[doc(hidden)]
pub use self::future::ResponseFuture;
pub use self::{
    handle::{HedgeHandle, HedgeStats},
    layer::HedgeLayer,
    service::Hedge,
};

#[cfg(test)]
mod tests;
