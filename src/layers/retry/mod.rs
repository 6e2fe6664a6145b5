//! Retries of transient failures: backoff with jitter, Retry-After obeyed, all within a budget.
//!
//! # When to use it, and when not
//!
//! Use it around each provider whose failures are short: a rate limit with a second's delay, a 503, a connection
//! that was reset. It does not help against an outage: there a retry only adds load. So the attempts are few, a
//! [`RetryBudget`] bounds them over all requests, and a circuit breaker further in ends them. With another tier
//! left, a silent provider (a timeout) is not asked twice; see
//! [`retry_timeouts`](RetryWithJitterLayer::retry_timeouts). With another *model* left, only a passing failure is
//! retried (see [`RetryBudget`]), or with [`failover_first`](RetryWithJitterLayer::failover_first) only a failure for
//! which the provider names a time. The [`Classifier`](crate::Classifier)'s table decides
//! which failures are retried: never permanent ones (400, 401, 403, 404, 422, a used-up quota). A refusal on this
//! side (an open circuit, a full bulkhead, a spent budget) is never retried either: it goes up at once and costs
//! neither an attempt nor a token nor a wait.
//!
//! # Where in the stack
//!
//! Inside a `Fallback`, around a `CircuitBreaker` around a `Timeout`, so that each attempt has a limit of its own
//! and the breaker counts it. Outside a `Fallback` it repeats the whole chain. Several retry layers do not
//! multiply: each counts the attempts that those further in have made, by the record in the failure.
//!
//! # What it waits for
//!
//! A wait is drawn from the schedule of the failure's kind. The provider's own wait (Retry-After, read by
//! [`retry_after`](crate::retry_after)) is a floor, with the jitter above it, so that a retry is never earlier than
//! asked and still spread. The provider may ask for more than [`max_delay`](RetryWithJitterLayer::max_delay), or
//! than a [moment](RetryWithJitterLayer::failover_delay) if a fallback further out has another model to ask. Or the
//! wait may not fit before the request's deadline. The failure then goes up *at once* and unchanged, with the
//! reason in its [record](crate::LlmError::attempts), so that a fallback can act on it. `x-should-retry: false` is
//! obeyed.
//!
//! While it waits it holds no resource of the failed attempt: no permit, no connection, no body. An answer ends its
//! work: for a stream that is the first token, so that nothing is repeated that the caller has seen.
//!
//! # Sources
//!
//! Jitter: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. Retry-After: RFC 9110, section
//! 10.2.3. The budget: Finagle's `RetryBudget` and tower's `TpsBudget`. The reason for a budget: "Addressing
//! Cascading Failures" in *Site Reliability Engineering*, Google, 2016.
//!
//! # Example
//!
//! ```
//! use std::{sync::atomic::{AtomicUsize, Ordering}, time::Duration};
//! use steadfast::{ErrorKind, LlmError, LlmRequest, LlmResponse, RetryWithJitterLayer, provider_fn};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), LlmError> {
//! static CALLS: AtomicUsize = AtomicUsize::new(0);
//! let flaky = provider_fn(|_request| async {
//!     match CALLS.fetch_add(1, Ordering::SeqCst) {
//!         0 => Err(LlmError::new(ErrorKind::RateLimited, "slow down").with_retry_after(Duration::from_secs(2))),
//!         _ => Ok(LlmResponse::from_text("hello")),
//!     }
//! });
//! let llm = ServiceBuilder::new().layer(RetryWithJitterLayer::new()).service(flaky);
//!
//! let start = tokio::time::Instant::now();
//! let answer = llm.oneshot(LlmRequest::prompt("hi")).await?;
//! assert!(start.elapsed() >= Duration::from_secs(2), "never earlier than asked");
//! assert_eq!(answer.served_by().attempts, 2);
//! assert_eq!(answer.attempts()[0].failure, Some(ErrorKind::RateLimited));
//! # Ok(())
//! # }
//! ```

mod backoff;
#[cfg(feature = "schema")]
#[doc(hidden)]
pub mod block;
mod future;
mod layer;
mod policy;
mod service;
mod shared;

#[doc(hidden)]
pub use self::future::ResponseFuture;
pub use self::{
    backoff::{Backoff, Jitter},
    layer::RetryWithJitterLayer,
    service::RetryWithJitter,
};
#[doc(hidden)]
pub use steadfast_core::mechanisms::retry_budget::Reservation;
pub use steadfast_core::mechanisms::retry_budget::RetryBudget;

#[cfg(steadfast_loom)]
pub(crate) use steadfast_core::mechanisms::retry_budget::races;

#[cfg(test)]
mod tests;
