//! Other tiers for when the primary cannot answer: another model, another provider, a canned sentence.
//!
//! # When to use it
//!
//! Use it if an answer of another model beats no answer. If it does not (a fine-tuned model, an evaluation), give
//! the feature a chain of one: [`FeaturePolicy::tiers`]. It cannot detect an answer that is bad but well-formed:
//! without an error there is no fallback.
//!
//! # Where in the stack
//!
//! Outside of the layers of one tier (RetryWithJitter, CircuitBreaker, Timeout of an attempt), inside of the layers
//! of the request (Timeout of the whole, Bulkhead). Each tier brings its own circuit: an open one refuses in less
//! than a microsecond, and the next tier is asked.
//!
//! # What it does
//!
//! - The primary is always asked first. Its circuit decides whether it is really called, so that it is preferred
//!   again as soon as it is healthy. [`gradually`](FallbackLayer::gradually) returns the traffic in steps.
//! - On a failure the [`Classifier`](crate::Classifier) decides whether another tier can help. An invalid request
//!   stops. `ContextLength` goes only to a tier with a larger window. `ContentPolicy` and `Refusal` go on only by a
//!   [`route`](FallbackLayer::route). A rejected key stops at the first tier of a chain if that has never answered,
//!   which is a mistake of the configuration, and goes on everywhere else.
//! - A tier with known [`Capabilities`] does not get a request that it cannot carry. That is no failure of the
//!   tier: it costs no attempt, its circuit does not count it, and the record names the lacking capability. A route
//!   for the kind that it would have failed with applies all the same. A request that no tier can carry fails at
//!   once, with the fields and the tiers named.
//! - Callers that name a [model](FallbackLayer::model) get that model's own chain, within the tiers that their
//!   feature may use. Those that name a tier, or the [model of one](Tier::model), begin there.
//! - Tiers have [levels](Tier::level) of service, from 1 (full) to 5 (a fixed sentence). A feature can limit how
//!   far down it may go. A request that was [stepped down](crate::Context::min_level), by a budget or by hand,
//!   skips the better tiers. If no tier answers further down, the step-down is lifted, unless the feature [stays
//!   down](FeaturePolicy::stays_down). A skipped tier is like one that lacks a capability. An answer from
//!   level 2 on says so, with its reason: [`LlmResponse::degraded`](crate::LlmResponse::degraded).
//! - The circuits of a level's tiers step down from it if it fails too often. Give them a [failure
//!   rate](crate::CircuitBreakerLayer::failure_rate) and several
//!   [probes](crate::CircuitBreakerLayer::probe_successes) that must succeed, and return
//!   [`gradually`](FallbackLayer::gradually).
//! - A tier of people ([`Tier::human`]) gets a list of the earlier attempts. A request that [requires a
//!   person](crate::LlmRequest::with_human_required) goes there and nowhere else.
//! - If no tier works that a request may use, it fails at once, or waits: [`AllOpen`], for all or for a
//!   feature. A [`FeaturePolicy`] sets that, with all else that differs by feature.
//! - A tier that has just failed the same request, or its session, is asked after the other models, if whoever sends
//!   the request [knows](crate::LlmRequest::with_known_failures).
//! - An operator can take a tier out of service, or all tiers above a level, and put them back: [`FallbackHandle`].
//! - The attempts of a request are allotted to its tiers: each may take an equal part of the rest, and leaves what
//!   it does not need to those after it. A [retry budget](FallbackLayer::budget) can bound the calls to further
//!   tiers in all.
//! - While tiers are left, each gets only part of the time before the request's deadline: the next tier answers for
//!   a primary that hangs, while there is time. There is no sleep before a different tier. Time spent in a
//!   [bulkhead](super::bulkhead)'s queue further out counts for no tier; time in a foreign queue that passes the
//!   request on later (tower's `buffer`) counts for the primary.
//! - If all have failed, the error leads with the first tier's failure, lists every attempt, and its `retry_after`
//!   is the earliest moment at which any tier may work again.
//!
//! # Design
//!
//! A level is no mechanism of its own. Each tier carries one (`tier.rs`), and a request's way leaves out the tiers that
//! it may not have like tiers that lack something (`exclusion.rs`), with the reason. So the fallback knows why the
//! answering tier is no better one: the first failure, or else the order that excluded the better tiers.
//! `LlmResponse::degrade` puts the level and that reason on the answer (`response/degradation.rs`). Where tiers are
//! nested, the worse level and the inner reason stand; a `Route` replaces the reason only where nothing went wrong.
//! Steps by error rate need no layer: a circuit with a failure rate is one, with its probes as the hysteresis.
//!
//! A feature that is *queued* ([`AllOpen::Queue`]) starts over once a second, or at the earliest probe if that is
//! sooner, until its deadline. A circuit refuses in less than a microsecond, so that no list of waiters is kept and no
//! waiter needs a wake. Each circuit still admits only its probes.
//!
//! A request's failover (`failover.rs`) has a plan, which is settled when it begins, and a progress, which each failure
//! changes (`progress.rs`). One place makes a request's order (`shared.rs`, `chain`): the order of its feature and of
//! the model that it names, turned to begin at the tier with that name or model. Its session goes by the same
//! (`session_key`), and belongs to its tenant (`sessions.rs`).
//!
//! Fallback and circuit breaker remember whether a tier has ever answered. So a custom leaf needs to say nothing about
//! its key.
//!
//! A switch belongs to a chain, a list of tiers (`known_chains.rs`). An answer of a first tier shows for all chains
//! that begin there that it serves again. A reported switch is a change that lasts (`switch_reports.rs`). The first one
//! is reported at once. After each relapse, a switch needs more requests in a row, and the way back needs more time.
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

mod ask;
mod canned;
mod choose;
mod core;
mod eligibility;
mod layer;
mod serve;
mod service;
mod shared;

#[doc(hidden)]
pub use self::{
    ask::ResponseFuture,
    choose::{ChainInfo, SessionSettings, TierSettings, model_fit},
    eligibility::Eligibility,
};
pub use self::{
    canned::Canned,
    choose::{AllOpen, Capabilities, FeaturePolicy, SessionPolicy, StreamBreak, Tier},
    layer::FallbackLayer,
    serve::{FallbackHandle, RampStep},
    service::Fallback,
};

#[cfg(test)]
mod tests;
