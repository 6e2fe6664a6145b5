//! Shadow traffic: a share of the requests is also sent to a candidate, and the answers are compared.
//!
//! # When to use it, and when not
//!
//! Before another model, provider, prompt or whole stack takes the place of one that works: real requests tell how fast it
//! is, what it costs, how often it fails and how often it says the same, while no caller sees a word of it. Each mirrored
//! request is paid for twice. Not where requests must not leave for the candidate's provider at all (another country,
//! another contract): [`MirrorLayer::only`] keeps those back.
//!
//! # What is promised
//!
//! The caller's answer is the primary's, as it is: never delayed, failed, cancelled or changed by the mirror. The request's
//! copy runs in a task of its own, which begins when the caller's own call has begun. What it does (errors, panics, hanging,
//! floods of frames) ends there. A body is listened to as it is read; nothing is read ahead and nothing held back.
//!
//! - *Cancellation.* A caller who leaves takes the own call along, as ever. The candidate's goes on: it has begun, and how
//!   it would have done where callers lose patience is worth knowing. The comparison says that the caller
//!   [left](crate::events::RequestOutcome::Abandoned), before the response or in the middle of the body. What ends the
//!   candidate's call is its own [timeout](MirrorLayer::timeout) or [`MirrorHandle::close`]. Dropping the layer ends
//!   nothing, since services are often dropped with the call that they make; each task ends by its own within twice its timeout.
//! - *Readiness.* Always ready. The candidate's readiness is waited for in the task, on a clone of its own.
//! - *Budgets.* The copy has a deadline and attempts of its own, and is counted in no retry budget, bulkhead, cap or
//!   statistic of the caller's stack: it passes none of its layers. What is around the candidate counts it.
//! - *Bounds.* At most [`max_in_flight`](MirrorLayer::max_in_flight) tasks, each with at most
//!   [`max_answer`](MirrorLayer::max_answer) of each answer. What finds no place is not mirrored.
//! - Outside of a tokio runtime nothing is mirrored.
//!
//! What is chosen and not compared is [counted](MirrorStats) and told, with [the reason](NotCompared).
//!
//! # Which requests
//!
//! A [share](MirrorLayer::share) of all, by chance or [by session](MirrorLayer::by_session), but never one that [requires a
//! person](crate::LlmRequest::requires_human), nor one that is itself a [copy](crate::LlmRequest::is_shadow). Requests with an
//! idempotency key are mirrored, and their copies have none: what tools do is done by callers, and none sees the candidate's
//! calls of tools, so that nothing is done twice. Tools that the *provider* runs (a web search, a remote MCP server) do run
//! for the copy too: leave out requests that name such with [`only`](MirrorLayer::only).
//!
//! # Where in the stack
//!
//! Inside of Timeout, Cache, Bulkhead and Budget, outside of Fallback: what was refused or kept is not paid for again, and
//! the candidate is compared with what callers have, whichever tier served. Around one tier inside of a fallback it is
//! compared with that tier, request by request that comes there. Outside of a retry; within it, each attempt is mirrored.
//!
//! # What it costs
//!
//! A request that is not chosen: the draw, no allocation. One that is: a few allocations, a task, and for a stream one more
//! call on the way of each frame, which copies its text. The candidate's copy of the request is made in its task.
//!
//! # Sources
//!
//! Envoy's `request_mirror_policies` for sending and forgetting, and its `-shadow` suffix for
//! [`LlmRequest::is_shadow`](crate::LlmRequest::is_shadow); Istio's `mirrorPercentage`. nginx's `mirror` for what to avoid: a mirror
//! that is slower than the original keeps the connection, and with it the next request (nginx mailing list, October 2017).
//!
//! # Example
//!
//! ```
//! use std::sync::mpsc;
//! use steadfast::{LlmRequest, MirrorLayer, layers::mirror::Comparison, providers::Canned};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let (compared, comparisons) = mpsc::channel();
//! let mirror = MirrorLayer::new(Canned::text("Paris, France"))
//!     .share(1.0)
//!     .compare(move |comparison: Comparison| drop(compared.send(comparison)));
//! let handle = mirror.handle();
//! let llm = ServiceBuilder::new().layer(mirror).service(Canned::text("Paris"));
//!
//! let answer = llm.oneshot(LlmRequest::prompt("The capital of France?").feature("quiz")).await.unwrap();
//! assert_eq!(answer.text().await.unwrap(), "Paris");
//!
//! while handle.under_way() > 0 {
//!     tokio::task::yield_now().await;
//! }
//! let comparison = comparisons.recv().unwrap();
//! assert_eq!(comparison.feature.as_deref(), Some("quiz"));
//! assert!(comparison.similarity.unwrap() > 0.5);
//! assert_eq!(comparison.agrees, Some(false));
//! # }
//! ```

mod choice;
mod compare;
mod future;
mod handle;
mod heard;
mod layer;
pub mod measure;
mod primary;
mod service;
mod shadow;

pub use self::{
    compare::Compare,
    future::ResponseFuture,
    handle::{MirrorHandle, MirrorStats},
    layer::MirrorLayer,
    service::Mirror,
};

pub use crate::events::{ComparedTexts, Comparison, ComparisonSide, NotCompared};

#[cfg(test)]
mod tests;
