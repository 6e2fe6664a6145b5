//! Answers given again to requests that ask the same.
//!
//! # When to use it, and when not
//!
//! Use it if the same is asked often: classification of the same texts, a shop's common questions, tests, agents
//! that read the same page. Use it too if an old answer is better than none while every model is down. Do not use
//! it if each answer must be a new one (a "try again" button: send [`CacheControl::NoCache`]), or if facts change
//! faster than the [`ttl`](CacheLayer::ttl). The layer does not see tools that the provider runs, such as a web
//! search.
//!
//! # Where in the stack
//!
//! Outside of Budget, Bulkhead and Fallback, inside of the total Timeout. A kept answer costs no money, takes no
//! place and wakes no provider, whichever tier made it.
//!
//! # What is the same
//!
//! A [`CacheKey`] identifies a request by a hash of its meaning. The hash is SHA-256: callers must not be able to
//! make two requests collide, and processes that share a store must agree. The key covers the [`Tenant`], the
//! feature, the requested model, the conversation, the tools, the parameters and the format of the answer. For a
//! request in wire form, every field counts, known or not, and so do the headers that go with it. The order of its
//! fields, white space, escapes and the spelling of numbers do not count. Nor do the fields for the provider's
//! books (`user`, `metadata`, `service_tier` and the like). Two dialects never share. Session, idempotency key,
//! deadline, attempts and streaming do not count. A stream is replayed as a stream, frame by frame in the
//! provider's own bytes, and joined for a request that wants it whole.
//!
//! An ambiguous request (a name twice in an object, a number that no double holds) passes by. So does a Responses
//! request with a `conversation`, which the provider extends with each answer, or with `background`, whose answer is
//! fetched later. A request with a `previous_response_id` is the same as another one with that id, and no answer to a
//! similar question is given to it.
//!
//! # What is kept
//!
//! The cache keeps whole answers. It does not keep an answer that is marked as degraded, was cut (by `max_tokens`,
//! a filter, a full context), declined, is empty, broke, was restarted, was written by a person
//! ([`task_id`](crate::LlmResponse::task_id)), or is larger than [`max_answer`](CacheLayer::max_answer). It never
//! keeps a failure. The memory is bounded in bytes, and rarely requested answers go first. Time is tokio's.
//!
//! # Single flight
//!
//! Of the requests that ask the same at the same time, one calls and the others wait. All read a stream along from
//! its beginning, each at its own pace. A reader that needs a frame fetches it for all, so that a slow reader, or
//! one that leaves, holds up no other. If the caller leaves before its response, or its time is over, one of the
//! waiting requests calls in its place. A failure goes to all who wait, so that a failing provider is not asked a
//! hundred times at once. A failure may be one caller's own: its places, rates, caps or key are used up or refused, or
//! its [session](crate::LlmRequest::with_session) is pinned. Then one of the others calls for them, and if that fails
//! in the same way, each calls for itself. Requests with other bounds (commit point, attempts,
//! levels, [`no_fallback`](crate::LlmRequest::no_fallback)) do not share a call.
//!
//! Processes may share the [store](AnswerStore::claim), such as Redis. One of them then calls for a whole answer,
//! and requests that ask the same meanwhile get it from the store. A stream stays within its process, since a slow
//! reader would hold up the others. A failure is not shared. A process that is gone holds the others up for five
//! seconds.
//!
//! # Old answers
//!
//! The call may fail with an error that another tier might have mended, or the deadline may pass. An answer older than
//! its `ttl`, by at most [`stale_for`](CacheLayer::stale_for), is then given in its place. It is marked as
//! [degraded](crate::LlmResponse::degraded), with a note that says its age. It is level 4 of the ladder. A request
//! whose [worst level](crate::LlmRequest::with_worst_level) is better gets the error. So does a request of a feature
//! for which a fallback further in sets a better level. To give
//! such answers, and answers to similar questions, in a fallback's own order of tiers, see
//! [`CachedAnswers`](crate::cached::CachedAnswers).
//!
//! Each answer from here is marked: [`LlmResponse::cached`](crate::LlmResponse::cached). It costs nothing, and its
//! provider is called `cached`.
//!
//! # Design
//!
//! The cache keeps an answer with the moment at which it was made. The layer that looks decides how old it may be, by
//! the request (`lifetime.rs`). So a changed `ttl` holds for answers that are kept already, a feature has its own over
//! the same answers, and a tier of them (`cached/`) has the layer's. That tier stands outside of the fallback,
//! which knows the levels that features accept: `Generation::prepare` puts a feature's worst level on the request, so
//! that an old answer (level 4) reaches no feature that refuses it. A memory is laid out once for its largest answer.
//! Only a reload that asks for larger answers than fit makes another, and forgets the kept ones. What two callers need
//! not share is part of the key, so that an answer which callers shared once belongs to none of them when a reload
//! separates them.
//!
//! The reader that needs the next frame of a shared stream fetches it (`recording.rs`); neither a task nor the first
//! caller does. So nothing is spawned, and a slow or leaving reader holds no other up. A reader reads along from the
//! first token on; before it there is one request's call, which the next request repeats if that one leaves.
//!
//! Two requests are the same by SHA-256 over a canonical form of the caller's own bytes: no two requests that a caller
//! can write collide, and stores that processes share agree. A hit takes 0.5 µs, or 1.1 µs for a prompt of 300 bytes in
//! wire form (release build, 2-core machine, answers in memory). A kept answer is bytes of our own (`bytes/`):
//! serde_json would change the last bit of a float, and base64 would grow a provider's bytes by a third. A checksum
//! precedes them, so that damage is a missing answer, never another one.
//!
//! # Sources
//!
//! RFC 9111 (HTTP caching, 2022) for `no-cache` and `no-store`; RFC 5861 (`stale-if-error`, 2010); Go's
//! `golang.org/x/sync/singleflight` for the name and the idea.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{CacheLayer, CacheReason, LlmRequest, LlmResponse, provider_fn};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let cache = CacheLayer::new().ttl(Duration::from_secs(600));
//! let handle = cache.handle();
//! let leaf = provider_fn(|_| async { Ok::<_, steadfast::LlmError>(LlmResponse::from_text("A function with its surroundings.")) });
//! let llm = ServiceBuilder::new().layer(cache).service(leaf);
//!
//! let ask = || LlmRequest::prompt("What is a closure?").with_feature("chat");
//! let first = llm.clone().oneshot(ask()).await.unwrap();
//! assert!(first.cached().is_none());
//! let again = llm.oneshot(ask()).await.unwrap();
//! assert_eq!(again.cached().unwrap().reason, CacheReason::Fresh);
//! assert_eq!((handle.stats().hits, handle.stats().misses), (1, 1));
//! # }
//! ```

mod accepted_levels;
mod answer;
mod bytes;
mod canonical;
mod flights;
mod future;
mod handle;
mod key;
mod layer;
mod lifetime;
mod lookup;
mod questions;
mod recording;
mod service;
mod settings;
mod store;
#[cfg(test)]
mod tests;
mod wakers;

pub(crate) use self::{
    answer::CACHED_LEVEL,
    lifetime::Lifetime,
    questions::{Question, REMEMBERED, Scope},
};
pub use self::{
    answer::{Answer, AnswerOwner},
    future::ResponseFuture,
    handle::{CacheHandle, CacheStats},
    key::fingerprint,
    key::{CacheControl, CacheKey},
    layer::CacheLayer,
    service::Cache,
    store::{AnswerStore, CallClaim, ClaimFuture, SharedCall, StoreLookup},
};
#[cfg(feature = "idempotency")]
pub(crate) use self::{
    answer::{Facts, Requester},
    canonical::Meaning,
    lookup::ran_out,
    recording::{Reader, Recording, RecordingStatus},
};
#[doc(no_inline)]
pub use crate::request::Tenant;
