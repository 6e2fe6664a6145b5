//! Answers given again to those who ask the same.
//!
//! # When to use it, and when not
//!
//! Where the same is asked often: classification of the same texts, a shop's common questions, tests, agents that read the
//! same page. And where an old answer is better than none while every model is down. Not where each answer is to be another
//! one (a "try again" button: say [`CacheControl::NoCache`]), or where what is true changes faster than the
//! [`ttl`](CacheLayer::ttl): a tool that the provider runs, such as a web search, is not seen here.
//!
//! # Where in the stack
//!
//! Outside of Budget, Bulkhead and Fallback, inside of the total Timeout: an answer that is here costs no money, takes no place
//! and wakes no provider, whichever tier has made it.
//!
//! # What is the same
//!
//! A request is known by a hash of what it means ([`CacheKey`], SHA-256: callers must not be able to make two requests collide,
//! and processes that share a store must agree): who asks ([`Tenant`]), the feature, the model that is asked for, the
//! conversation, the tools, the parameters and the shape of the answer. Of a request in wire form every field counts, known or
//! not, and so do the headers that go with it, but not the order of its fields, white space, escapes or the spelling of
//! numbers, nor the fields that are for the provider's books (`user`, `metadata`, `service_tier` and the like). Two
//! dialects never share. Session, idempotency key, deadline, attempts and whether it is streamed do not count: a stream is
//! replayed as a stream, frame by frame in the provider's own bytes, and put together for who wants it whole.
//!
//! What could be read in two ways (a name twice in an object, a number that no double holds) passes by.
//!
//! # What is kept
//!
//! Whole answers: not one that is marked as degraded, was cut (by `max_tokens`, a filter, a full context), declined, is empty,
//! broke, began anew, was written by a person ([`task_id`](crate::LlmResponse::task_id)), or is larger than
//! [`max_answer`](CacheLayer::max_answer). A failure never. The memory is bounded in bytes; what is asked for seldom goes
//! first. Time is tokio's.
//!
//! # Single flight
//!
//! Of those who ask the same at the same time one calls, and the others wait. A stream they all read along from its
//! beginning, each at its own pace: whoever needs a frame fetches it for all, so that one who is slow or leaves holds up
//! nobody. Where the caller leaves before its response, or its time is over, one of those who wait calls in its place. A failure
//! goes to all who wait: what has just failed is not asked a hundred times at once. Only where it may be the caller's own
//! (it is in a [session](crate::LlmRequest::session), which may be pinned) each calls for itself. Requests with other bounds
//! (commit point, attempts, levels, [`no_fallback`](crate::LlmRequest::no_fallback)) do not share a call.
//!
//! Where processes share the [store](AnswerStore::claim), as over Redis, one of them calls for who wants a whole answer, and those that ask the
//! same meanwhile have it from the store. A stream is each process's own, for whoever reads it slowly would hold up the others. A
//! failure is not shared, and a process that is gone holds them up for five seconds.
//!
//! # Old answers
//!
//! Where the call fails with what another tier might have mended, or the deadline passes, an answer that is older than its
//! `ttl` and not older than [`stale_for`](CacheLayer::stale_for) beyond it is given in its place: marked as
//! [degraded](crate::LlmResponse::degraded), with a note that says its age. It is level 4 of the ladder, so that
//! a request whose [worst level](crate::LlmRequest::worst_level) is better gets the error, and so does one of a feature of which a
//! [fallback](crate::FallbackLayer::feature_worst_level) further in says so. Where a fallback is to give such
//! answers, and answers to similar questions, in its own order of tiers, see
//! [`CachedAnswers`](crate::providers::CachedAnswers).
//!
//! Each answer from here says so: [`LlmResponse::cached`](crate::LlmResponse::cached). It costs nothing, and its provider is
//! called `cached`.
//!
//! # Design
//!
//! The cache keeps an answer with the moment at which it was made. The layer that looks decides how old it may be, by
//! the request (`lifetime.rs`). So a changed `ttl` holds for answers that are kept already, a feature has its own over
//! the same answers, and a tier of them (`providers/cached`) has the layer's. That tier stands outside of the fallback,
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
//! use steadfast::{CacheLayer, CachedWhy, LlmRequest, LlmResponse, provider_fn};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let cache = CacheLayer::new().ttl(Duration::from_secs(600));
//! let handle = cache.handle();
//! let leaf = provider_fn(|_| async { Ok::<_, steadfast::LlmError>(LlmResponse::from_text("A function with its surroundings.")) });
//! let llm = ServiceBuilder::new().layer(cache).service(leaf);
//!
//! let ask = || LlmRequest::prompt("What is a closure?").feature("chat");
//! let first = llm.clone().oneshot(ask()).await.unwrap();
//! assert!(first.cached().is_none());
//! let again = llm.oneshot(ask()).await.unwrap();
//! assert_eq!(again.cached().unwrap().why, CachedWhy::Fresh);
//! assert_eq!((handle.stats().hits, handle.stats().misses), (1, 1));
//! # }
//! ```

mod accepted;
mod answer;
mod asked;
mod bytes;
mod canonical;
mod flights;
mod future;
mod handle;
mod key;
mod layer;
mod lifetime;
mod questions;
mod recording;
mod service;
mod store;
#[cfg(test)]
mod tests;
mod wakers;

#[cfg(feature = "idempotency")]
pub(crate) use self::key::fingerprint;
pub(crate) use self::{
    answer::CACHED_LEVEL,
    lifetime::Lifetime,
    questions::{Question, REMEMBERED, Scope},
};
pub use self::{
    answer::{Answer, AnswerOwner},
    future::ResponseFuture,
    handle::{CacheHandle, CacheStats},
    key::{CacheControl, CacheKey, Tenant},
    layer::CacheLayer,
    service::Cache,
    store::{AnswerStore, Claimed, Claiming, Found, SharedCall},
};
#[cfg(feature = "idempotency")]
pub(in crate::layers) use self::{
    answer::{Asker, Facts},
    asked::ran_out,
    canonical::Meaning,
    recording::{Reader, Recording, Watched},
};
