//! A limit of concurrency for each feature, so that none takes the places of another.
//!
//! # When to use it
//!
//! Use it if several features of a product share a provider: a batch job that floods it must not make the chat
//! wait. Each named feature gets places of its own; all others share the places of the [default
//! limit](BulkheadLayer::default_limit). Optionally a feature has a bounded [queue](Limits::queue), rates of
//! [requests](Limits::requests_per_minute) and [tokens](Limits::tokens_per_minute) in a minute, or a limit that
//! [adapts](Limits::adaptive) to the provider's capacity.
//!
//! Do not use it to push back on an accept loop: it decides by the request, so its `poll_ready` is always ready.
//! tower's `concurrency_limit` and `load_shed` do that, outside of it.
//!
//! # Where in the stack
//!
//! Inside the total `Timeout`, whose deadline bounds the wait in the queue, and outside of `Fallback`, so that one
//! request takes one place however many tiers it tries. Inside a tier it bounds that provider's requests in flight,
//! and its refusal sends the request to the next tier at once. An adaptive limit learns of a timeout only from a
//! `Timeout` further in; one further out drops the call, which shows nothing about load.
//!
//! # What is counted
//!
//! A request takes its place in `call`, and holds it until the answer ends. A complete answer has ended when it is
//! here; a stream ends with its end mark, breaks, or is dropped. A failed call gives its place back with the error.
//! A waiting request holds no place, and none of the inner service's: that is made ready only afterwards.
//!
//! The layer gives places in the order of `call` within a feature, and no feature waits for another. Without a
//! queue, or with a full one, it refuses a request with
//! [`ErrorKind::BulkheadFull`](crate::ErrorKind::BulkheadFull). It does the same after the [maximum
//! wait](BulkheadLayer::max_wait). If the request's deadline ends the wait, the error is
//! [`ErrorKind::Deadline`](crate::ErrorKind::Deadline). Nothing was sent in either case.
//! [`retry_after`](crate::LlmError::retry_after) is known if a rate refused.
//!
//! # Shares
//!
//! Requests may name the [key](crate::layers::budget::BudgetKey) of their caller. Of places, of positions in the queue
//! and of each rate, a key holds no more than its even share while other keys want the rest: those that hold some, and
//! those that asked in the last half minute. Beyond its share it leaves free what the others have lately wanted, and a
//! quarter of the limit. A key that is alone may take everything, and gives way as its requests end. Free places go to
//! the waiting key with the fewest. [`ReachedLimit::Share`](crate::error::ReachedLimit::Share) tells such a refusal
//! from a full feature. Requests without a key have no share, and take what is free.
//!
//! # Limits of each caller
//!
//! A caller may have limits of its own, which its requests bring along as [`CallerLimits`]. A [`CallerBulkhead`]
//! enforces them, inside of the layers that go on with a call when its caller has left.
//!
//! # Design
//!
//! The layer has no semaphore of tokio's: one atomic word (in flight, limit, waiting), and a line of waiters that is
//! locked only while a request waits. It costs a lock less for each call, and a limit can shrink while its places are
//! taken.
//!
//! # Source
//!
//! The pattern: Michael Nygard, *Release It!* (2007), "Bulkheads". [`Rate`] and [`Adaptive`] name the algorithms of
//! the rates and of the adaptive limit.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{BulkheadLayer, ErrorKind, LlmError, LlmRequest, LlmResponse, layers::bulkhead::Limits, provider_fn};
//! use tower::{Layer, Service};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let slow = provider_fn(|_request| async {
//!     tokio::time::sleep(Duration::from_secs(1)).await;
//!     Ok::<_, LlmError>(LlmResponse::from_text("done"))
//! });
//! let layer = BulkheadLayer::new()
//!     .feature("chat", 1)
//!     .feature("background", Limits::new(1).queue(100).max_wait(Duration::from_secs(10)));
//! let handle = layer.handle();
//! let mut llm = layer.layer(slow);
//! let ask = |feature| LlmRequest::prompt("hello").with_feature(feature);
//!
//! let (batch, next) = (llm.call(ask("background")), llm.call(ask("background")));
//! assert_eq!((handle.in_flight("background"), handle.queued("background")), (1, 1));
//!
//! // the chat has its own place, and refuses at once who does not find one
//! let (chat, refused) = (llm.call(ask("chat")), llm.call(ask("chat")));
//! assert_eq!(refused.await.unwrap_err().kind(), ErrorKind::BulkheadFull);
//! assert!(chat.await.is_ok());
//!
//! assert!(batch.await.is_ok() && next.await.is_ok());
//! assert_eq!(handle.in_flight("background"), 0);
//! # }
//! ```

mod adaptive;
mod caller;
mod features;
mod future;
mod gate;
mod handle;
mod layer;
mod limits;
mod plan;
mod rate;
mod semaphore;
mod service;
mod settings;
mod wait;

pub use self::{
    adaptive::Adaptive,
    handle::{BulkheadHandle, FeatureLoad},
    layer::BulkheadLayer,
    limits::Limits,
    rate::Rate,
    service::Bulkhead,
};
#[doc(hidden)]
pub use self::{
    caller::{CallerBulkhead, CallerBulkheadLayer, CallerFuture, CallerLimitReached, CallerLimits},
    future::ResponseFuture,
    rate::{RateLevel, ReachedRate, SharedRate},
};

#[cfg(test)]
mod tests;
