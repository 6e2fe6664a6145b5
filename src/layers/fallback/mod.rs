//! Other tiers, when the primary cannot answer: another model, another provider, a canned sentence.
//!
//! # When to use it
//!
//! Where an answer of another model beats no answer. Where it does not (a fine-tuned model, an evaluation), give the
//! feature a chain of one: [`FallbackLayer::feature`]. An answer that is bad but well-formed is out of reach: no error,
//! no fallback.
//!
//! # Where in the stack
//!
//! Outside of what belongs to one tier (RetryWithJitter, CircuitBreaker, Timeout of an attempt), inside of what belongs
//! to the request (Timeout of the whole, Bulkhead). Each tier brings its own circuit: an open one refuses in less than
//! a microsecond, and the walk goes on.
//!
//! # What it does
//!
//! - The primary is asked first, always: its circuit decides whether it is really called, so that it is preferred again
//!   as soon as it is healthy. [`gradually`](FallbackLayer::gradually) returns the traffic in steps.
//! - On a failure the [`Classifier`](crate::Classifier) says whether another tier can help. A request that is wrong
//!   stops; `ContextLength` goes only to a tier with a larger window; `ContentPolicy` and `Refusal` only where a
//!   [`route`](FallbackLayer::route) says so; a refused key stops at the first tier of a chain if that has never answered, which is
//!   a mistake of the configuration, and goes on everywhere else.
//! - A tier that has said what it can do ([`Capabilities`]) is not asked what it cannot carry. That is no failure of
//!   it: it costs no attempt, its circuit hears nothing, and the record says what it lacks. A route for what it would
//!   have failed with is taken all the same. A request that no tier can carry fails at once, with the fields and the tiers named.
//! - Callers that name a [model](FallbackLayer::model) get that model's own chain, within what their feature may use. Those
//!   that name a tier, or the [model of one](Tier::model), begin there.
//! - Tiers have [levels](Tier::level) of service, from 1 (full) to 5 (a fixed sentence). A feature can say how far down
//!   it may go; a request that was [stepped down](crate::Context::min_level), by a budget or by hand, leaves the better
//!   tiers out. Where nothing answers further down the step-down gives way, unless the feature
//!   [stays down](FallbackLayer::feature_stays_down). A tier that is left out is like one that lacks something. An answer
//!   from level 2 on says so, and what led there: [`LlmResponse::degraded`](crate::LlmResponse::degraded).
//! - A level that fails too often is stepped down from by its tiers' circuits: give them a
//!   [failure rate](crate::CircuitBreakerLayer::failure_rate) and several [probes](crate::CircuitBreakerLayer::probe_successes)
//!   that must succeed, and return [`gradually`](FallbackLayer::gradually).
//! - A tier of people ([`Tier::human`]) is told what was tried before it. A request that
//!   [requires a person](crate::LlmRequest::requires_human) goes there and nowhere else.
//! - Where nothing works that a request may have, it fails at once, or waits: [`AllOpen`], for all or
//!   [for a feature](FallbackLayer::feature_all_open).
//! - An operator can take a tier out of service, or all tiers above a level, and put them back: [`FallbackHandle`].
//! - The attempts of a request are shared out: each tier may take an equal part of what is left, and what it does not need goes
//!   to those after it. A [retry budget](FallbackLayer::budget) can bound how many calls go to further tiers in all.
//! - While tiers are left, each gets only part of the time before the request's deadline: a primary that hangs is
//!   answered by the next tier, not refused when all time is gone. There is no sleep before a different tier.
//!   Time spent in a [bulkhead](super::bulkhead)'s queue further out is nobody's; that spent in a foreign queue which
//!   hands the request on later (tower's `buffer`) is the primary's.
//! - When all have failed, the error leads with the first tier's failure, lists every step, and its `retry_after` is
//!   the earliest moment at which any tier may work again.
//!
//! # Design
//!
//! A level is no mechanism of its own. Each tier carries one (`tier.rs`), and a request's way leaves out the tiers that
//! it may not have like tiers that lack something (`unable.rs`), with the reason. So the fallback knows why the
//! answering tier is no better one: the first failure, or else the order that excluded the better tiers.
//! `LlmResponse::degrade` puts the level and that reason on the answer (`response/degraded.rs`). Where tiers are
//! nested, the worse level and the inner reason stand; a `Route` replaces the reason only where nothing went wrong.
//! Steps by error rate need no layer: a circuit with a failure rate is one, with its probes as the hysteresis.
//!
//! A feature that is *queued* ([`AllOpen::Queue`]) starts over once a second, or at the earliest probe if that is
//! sooner, until its deadline. A circuit refuses in less than a microsecond, so that no list of waiters is kept and no
//! waiter needs a wake. Each circuit still admits only its probes.
//!
//! One place makes a request's order (`shared.rs`, `chain`): the order of its feature and of the model that it names,
//! turned to begin at the tier with that name or model. Its session goes by the same (`session_key`).
//!
//! Fallback and circuit breaker remember whether a tier has ever answered. So a custom leaf needs to say nothing about
//! its key.
//!
//! A reported switch is a change that lasts (`told.rs`). The first one is reported at once. After each relapse, a
//! switch needs more requests in a row, and the way back needs more time.
//!
//! # Example
//!
//! ```
//! use steadfast::{ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse, provider_fn, providers::Canned};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let down = provider_fn(|_| async { Err::<LlmResponse, _>(LlmError::new(ErrorKind::Server, "down")) });
//! let llm = ServiceBuilder::new()
//!     .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("Please try again in a minute.")))
//!     .service(down);
//!
//! let answer = llm.oneshot(LlmRequest::prompt("hello")).await.unwrap();
//! assert_eq!(answer.served_by().tier, Some("canned"));
//! assert_eq!(answer.attempts()[0].failure, Some(ErrorKind::Server));
//! # }
//! ```

mod capabilities;
mod chain;
mod future;
mod handle;
mod layer;
pub(crate) mod models;
#[cfg(feature = "config")]
mod outlook;
mod policy;
mod ramp;
mod restart;
mod service;
mod shared;
mod tier;
mod told;
mod unable;
mod walk;

#[cfg(feature = "config")]
pub(crate) use self::outlook::Outlook;
pub use self::{
    capabilities::Capabilities,
    future::ResponseFuture,
    handle::FallbackHandle,
    layer::FallbackLayer,
    policy::{AllOpen, SessionPolicy, StreamBreak},
    ramp::RampStep,
    service::Fallback,
    tier::Tier,
};

#[cfg(test)]
mod tests;
