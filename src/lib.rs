//! steadfast keeps language-model calls alive.
//!
//! A call to a language model is the least reliable call that most services make: it is rate-limited, overloaded, slow,
//! cut off in mid-stream, and down for hours a few times a year. This crate makes that call survive, with parts that
//! Rust services already know how to use: tower [`Layer`](tower::Layer)s around any `Service<LlmRequest>`.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use std::time::Duration;
//! use steadfast::{
//!     BulkheadLayer, CircuitBreakerLayer, FallbackLayer, LlmRequest, RetryWithJitterLayer, TimeoutLayer,
//!     providers::{Anthropic, Canned, OpenAi},
//! };
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! // one stack for each model: retry briefly, stop hammering, never wait for ever
//! let sonnet = ServiceBuilder::new()
//!     .layer(RetryWithJitterLayer::new())
//!     .layer(CircuitBreakerLayer::new("sonnet"))
//!     .layer(TimeoutLayer::new(Duration::from_secs(30)))
//!     .service(Anthropic::from_env()?.model("claude-sonnet-4-5"));
//! let gpt = ServiceBuilder::new()
//!     .layer(RetryWithJitterLayer::new())
//!     .layer(CircuitBreakerLayer::new("gpt-4o"))
//!     .layer(TimeoutLayer::new(Duration::from_secs(30)))
//!     .service(OpenAi::from_env()?.model("gpt-4o"));
//!
//! // one stack for the application
//! let mut llm = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(Duration::from_secs(90)))
//!     .layer(BulkheadLayer::new().feature("chat", 20).feature("summary", 10).feature("background", 5))
//!     .layer(FallbackLayer::new("sonnet").tier("gpt-4o", gpt).tier("canned", Canned::text("Please try again in a minute.")))
//!     .service(sonnet);
//!
//! let answer = llm.ready().await?.call(LlmRequest::prompt("Explain closures.").with_feature("chat")).await?;
//! println!("served by {}", answer.served_by());
//! println!("{}", answer.text().await?);
//! # Ok(()) }
//! ```
//!
//! [`Preset`] is this in three lines.
//!
//! # A tour
//!
//! - **The contract.** Everything is a `Service<LlmRequest, Response = LlmResponse>` with `Error: Into<LlmError>`: each
//!   provider, each layer around one, each tier of a fallback. A client of your own is a leaf by one
//!   `impl Service<LlmRequest>`, or by [`provider_fn`]; [`providers::codec`] converts for it. Any order of layers
//!   compiles, tower's own in between.
//! - **[`LlmRequest`]** is the caller's request, cheap to clone, with a small [`Context`] that layers read and write:
//!   deadline, attempts left. **[`LlmResponse`]** names [its provider and tier](LlmResponse::served_by) and carries an
//!   [`LlmBody`], whole or a stream of [`Frame`]s. **[`LlmError`]** has the failure ([`ErrorKind`]), the record of
//!   attempts ([`LlmError::attempts`]) and the wait before another one ([`LlmError::retry_after`]).
//! - **A response means that the first token is here.** Errors before it, those inside a 200 included, are service
//!   errors, so that timeouts, retries, breakers and fallbacks treat a stream like any other answer. See [`commit`].
//! - **The layers** are in [`layers`]: the purpose of each, when not to use it, and its position in a stack.
//!   [`Classifier`] is the one table from a failure to the layers' actions.
//! - **`steadfast-agent`** reads an answer that may be cut or restarted, and acts on a complete one, once.
//! - **Time is tokio's**, so that your own tests run an outage of hours in milliseconds: `#[tokio::test(start_paused =
//!   true)]` and [`providers::Simulated`].
//!
//! [`steadfast-guide`](https://docs.rs/steadfast-guide) has the rest: how to begin, streams, tests of your own,
//! operating the gateway, moving from a retry loop, tower-resilience or LiteLLM, and what failover cannot fix.
//!
//! # Features
//!
//! - `codec`: [`providers::codec`] for clients of your own, and the rules of [`translate`].
//! - `http` (default): the provider leaves over HTTP/1.1 and HTTP/2 with TLS (rustls, ring). It brings `codec`.
//! - `cache`: `CacheLayer`, a cache of answers, and `providers::CachedAnswers`, a tier of cached answers for outages.
//! - `load`: a [`Balance`] is a load for tower's own balancer, and `BodyCompletion` counts a stream until its end.
//! - `idempotency`: `IdempotencyLayer`, one call for each idempotency key. It brings `cache`.
//! - `validate`: `ValidateLayer`, which checks answers against the request's JSON Schema, repairs them, or asks again.
//! - `codings`: answers in gzip, br, zstd and deflate, which some servers send though none was asked for. It brings
//!   async-compression, and builds zstd's C.
//! - `clouds`: the same models through AWS, Azure and Google, with credentials that refresh themselves. It brings
//!   `http`.
//! - `schema`: the JSON Schema of the types that a configuration file contains.
//!
//! Without features the crate is the vocabulary, the layers, and the leaves that need no network.
//!
//! # Packages beside it
//!
//! | package | content |
//! |---|---|
//! | `steadfast-stack` | `Stack`: the whole of it from a file in YAML, TOML or JSON, reloaded while it runs |
//! | `steadfast-subscribers` | metrics, alerts, traces, logs and the status board |
//! | `steadfast-handoff` | requests handed to people, and the desk where they are answered |
//! | `steadfast-ledger` | what calls cost: a row for each, journaled before it is stored, and their sums by hours |
//! | `steadfast-stores` | what outlives a process or is shared by several: SQLite, PostgreSQL, Redis |
//! | `steadfast-agent` | reads an answer that may be cut or restarted, and acts on a complete one, once |
//! | `steadfast-simulator` | the simulated provider as a real HTTP server on loopback |
//! | `steadfast-conformance` | questions to any gateway or provider: ends, errors, faults, what reaches a provider |
//! | `steadfast-drill` | an outage replayed against a configuration, in virtual time |
//! | `steadfast-gateway` | the gateway as a library; its command is `steadfast-cli` |

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(test)]
extern crate self as steadfast;
use steadfast_internal as internal;

pub mod layers;
mod preset;
pub mod providers;

#[cfg(steadfast_loom)]
#[doc(hidden)]
pub mod races;

// Hidden items, here and in the layers, name a future, or are for steadfast's other packages and promise nothing.
// Core's modules are here with what users name: `steadfast-core` documents the rest.

pub mod body {
    //! The body of an answer: whole, or a stream of frames.

    #[doc(hidden)]
    pub use steadfast_core::body::*;
    #[doc(inline)]
    pub use steadfast_core::body::{CommitPoint, Frame, LlmBody, Progress, StreamEvent};
}
pub mod chat {
    //! The neutral form of a conversation: the parts that all providers share.
    //!
    //! A [`Chat`] is the caller's request, an assistant [`Message`] is the answer. Both are made of the same [`Part`]s,
    //! so that an answer can be pushed onto the conversation unchanged. A provider's own extensions stay in the wire
    //! form of a request (see [`Wire`](crate::Wire)), which the same provider receives byte for byte.
    //!
    //! `Debug` of all these types writes the kinds and lengths, never the words.

    #[doc(hidden)]
    pub use steadfast_core::chat::*;
    #[doc(inline)]
    pub use steadfast_core::chat::{
        Chat, Document, Effort, FinishReason, Image, Json, Media, Message, OutputSchema, Part, Reasoning, Role,
        Thinking, Tool, ToolCall, ToolChoice, ToolResult, Usage,
    };
}
pub mod error {
    //! The one error of the crate.

    #[doc(hidden)]
    pub use steadfast_core::error::*;
    #[doc(inline)]
    pub use steadfast_core::error::{
        Attempt, ErrorKind, InvalidConfig, LlmError, Next, Phase, ReachedLimit, Stop, TimeoutLimit,
    };
}
pub mod request {
    //! A caller's request, and the context that layers add on the way down.

    #[doc(hidden)]
    pub use steadfast_core::request::*;
    #[doc(inline)]
    pub use steadfast_core::request::{BudgetKey, Context, Dialect, LlmRequest, Tenant, Wire};
}
#[cfg(feature = "schema")]
#[doc(hidden)]
pub use steadfast_core::settings;
#[doc(inline)]
pub use steadfast_core::{classify, events, prices, response};
#[doc(no_inline)]
pub use steadfast_core::{commit, embed, models, retry_after};
use steadfast_core::{estimate, timer, wire};
#[doc(hidden)]
pub use steadfast_core::{ledger, sse, store};
#[cfg(feature = "codec")]
#[doc(no_inline)]
pub use steadfast_dialects::translate;

#[cfg(feature = "cache")]
#[doc(no_inline)]
pub use self::layers::cache::{Cache, CacheHandle, CacheLayer};
#[cfg(feature = "idempotency")]
#[doc(no_inline)]
pub use self::layers::idempotency::{Idempotency, IdempotencyHandle, IdempotencyLayer};
#[doc(no_inline)]
pub use self::layers::retry::RetryBudget;
#[cfg(feature = "validate")]
#[doc(no_inline)]
pub use self::layers::validate::{Validate, ValidateLayer};
#[doc(hidden)]
pub use self::providers::function::ProviderFuture;
#[doc(no_inline)]
pub use self::{
    body::{CommitPoint, Frame, LlmBody, Progress, StreamEvent},
    chat::Chat,
    classify::Classifier,
    error::{Attempt, ErrorKind, InvalidConfig, LlmError},
    events::{Event, Events},
    request::{Context, Dialect, LlmRequest, Wire},
    response::{AnswerSource, CacheOrigin, CacheReason, Degradation, DegradedReason, LlmResponse},
};
pub use self::{
    layers::{
        balance::{Balance, BalanceHandle, BalanceLayer},
        budget::{Budget, BudgetHandle, BudgetLayer},
        bulkhead::{Bulkhead, BulkheadHandle, BulkheadLayer},
        circuit_breaker::{CircuitBreaker, CircuitBreakerHandle, CircuitBreakerLayer},
        commit::{CommitOnFirstToken, CommitOnFirstTokenLayer},
        fallback::{Fallback, FallbackHandle, FallbackLayer},
        hedge::{Hedge, HedgeHandle, HedgeLayer},
        mirror::{Mirror, MirrorHandle, MirrorLayer},
        observe::{Observe, ObserveLayer},
        retry::{RetryWithJitter, RetryWithJitterLayer},
        route::{Route, RouteLayer},
        timeout::{Timeout, TimeoutLayer},
    },
    preset::Preset,
    providers::function::{ProviderFn, provider_fn},
};
#[doc(hidden)]
pub use steadfast_core::{BodyRest, OpaqueCall, Unit, WireLimits};
#[doc(inline)]
pub use steadfast_core::{BoxLlmService, LlmService};

/// The README's code compiles too.
#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
struct Readme;
