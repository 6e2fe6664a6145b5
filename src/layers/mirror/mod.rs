//! Shadow traffic: a share of the requests is also sent to a candidate, and the answers are compared.
//!
//! # When to use it, and when not
//!
//! Use it before another model, provider, prompt or whole stack replaces one that works. Real requests show how
//! fast the candidate is, what it costs, how often it fails and how often it agrees, while no caller sees its
//! answers. Each mirrored request is paid for twice. Do not use it for requests that must not reach the candidate's
//! provider at all (another country, another contract): [`MirrorLayer::only`] excludes those.
//!
//! # What is promised
//!
//! The caller's answer is the primary's: the mirror never delays, fails, cancels or changes it. The request's copy
//! runs in a task of its own, which begins when the caller's own call has begun. The copy's errors, panics, hangs
//! and floods of frames stay in that task. A body is observed as it is read; nothing is read ahead or held back.
//!
//! - *Cancellation.* A caller that leaves ends its own call, as ever. The candidate's call goes on, since its
//!   performance for impatient callers is worth knowing. The comparison reports that the caller
//!   [left](crate::events::RequestOutcome::Abandoned), before the response or in the middle of the body. The
//!   candidate's own [timeout](MirrorLayer::timeout) or [`MirrorHandle::close`] ends its call. Dropping the layer
//!   ends nothing, since services are often dropped with the call that they make. Each task ends by itself within
//!   twice its timeout.
//! - *Readiness.* Always ready. The task waits for the candidate's readiness, on a clone of its own.
//! - *Budgets.* The copy has a deadline and attempts of its own. It passes none of the caller's layers, so that no
//!   retry budget, bulkhead, cap or statistic of theirs counts it. The layers around the candidate do.
//! - *Bounds.* There are at most [`max_in_flight`](MirrorLayer::max_in_flight) tasks, each with at most
//!   [`max_answer`](MirrorLayer::max_answer) of each answer. A request that finds no place is not mirrored.
//! - Outside of a tokio runtime no request is mirrored.
//!
//! A request that is chosen and not compared is [counted](MirrorStats) and reported, with [the
//! reason](ComparisonSkipReason).
//!
//! # Which requests
//!
//! The layer chooses a [share](MirrorLayer::share) of all requests, by chance or [by
//! session](MirrorLayer::by_session). It never chooses one that [requires a
//! person](crate::LlmRequest::with_human_required), nor one that is itself a [copy](crate::LlmRequest::is_shadow),
//! nor one that [compacts](crate::LlmRequest::is_compaction) a conversation.
//! Requests with an idempotency key are mirrored, and their copies have none. Callers carry out tool calls, and no
//! caller sees the candidate's, so that nothing is done twice. Tools that the *provider* runs (a web search, a
//! remote MCP server) do run for the copy too: exclude requests that name such tools with
//! [`only`](MirrorLayer::only).
//!
//! # Where in the stack
//!
//! Inside of Timeout, Cache, Bulkhead and Budget, outside of Fallback. Refused and cached requests are then not
//! paid for again, and the candidate is compared with the answers that callers get, whichever tier served. Around
//! one tier inside of a fallback, the candidate is compared with that tier, on each request that the tier gets.
//! Outside of a retry; within it, each attempt is mirrored.
//!
//! # What it costs
//!
//! A request that is not chosen costs the draw, and no allocation. A chosen one costs a few allocations, a task,
//! and for a stream one more call for each frame, which copies its text. The task makes the candidate's copy of the
//! request.
//!
//! # Sources
//!
//! Envoy's `request_mirror_policies` for not waiting on the copy, and its `-shadow` suffix for
//! [`LlmRequest::is_shadow`](crate::LlmRequest::is_shadow); Istio's `mirrorPercentage`. nginx's `mirror` for a
//! pitfall to avoid: a mirror slower than the original holds the connection, and with it the next request (nginx
//! mailing list, October 2017).
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
//! let answer = llm.oneshot(LlmRequest::prompt("The capital of France?").with_feature("quiz")).await.unwrap();
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
mod layer;
pub mod measure;
mod observer;
mod primary;
mod service;
mod settings;
mod shadow;
mod under_way;

#[doc(hidden)]
pub use self::future::ResponseFuture;
pub use self::{
    compare::Compare,
    handle::{MirrorHandle, MirrorStats},
    layer::MirrorLayer,
    service::Mirror,
};

#[doc(no_inline)]
pub use crate::events::{ComparedTexts, Comparison, ComparisonSide, ComparisonSkipReason};

#[cfg(test)]
mod tests;
