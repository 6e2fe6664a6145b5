//! One call for each key, however often its request is sent.
//!
//! # When to use it, and when not
//!
//! Use it if a request may be sent twice and is to be answered once: by a job queue that delivers again, a client that
//! retries after its own timeout, a user who presses twice. The answer is then paid for once, and an agent acts on it
//! once. The caller gives the key ([`LlmRequest::with_idempotency_key`](crate::LlmRequest::with_idempotency_key)); a
//! request without one passes by at no cost. It does not replace a [cache](crate::cache), which serves
//! different callers that ask the same.
//!
//! # Where in the stack
//!
//! Inside of the total Timeout, outside of everything else. A replay costs no money, takes no place and wakes no
//! provider, and all retries and tiers belong to the one call. A Bulkhead further in counts the calls, not the
//! requests that wait. So does a `CallerBulkhead`, through which a call
//! that outlives its caller keeps its place.
//!
//! # What a key stands for
//!
//! A key stands for the first request under it: its tenant, feature, model and
//! [meaning](crate::cache#what-is-the-same). The same request again is a repeat, as a stream or whole. The
//! layer refuses any other with [`IdempotencyConflict`](crate::ErrorKind::IdempotencyConflict), HTTP 422 at a
//! gateway. Each tenant has its own keys ([`Tenant`](crate::request::Tenant), or
//! [`BudgetKey`](crate::request::BudgetKey)), so that two tenants' equal keys never meet. An ambiguous
//! request is the same only if its bytes are. [`derive`](IdempotencyLayer::derive) derives the key from an input
//! that is not ambiguous: the same words in a conversation that the provider keeps are another question each time.
//!
//! # What a repeat gets
//!
//! A repeat gets the answer that was made, for the whole [`ttl`](IdempotencyLayer::ttl): frame by frame in the
//! provider's own bytes, or joined. While the call is under way a repeat waits for it, by its own deadline, and
//! reads its stream from the beginning and then live. The response is marked:
//! [`cached`](crate::LlmResponse::cached), a note that begins with `replayed`, and a cost of nothing. The provider
//! of a kept answer is called `replayed`. The key has one answer, whatever level of service the repeat would
//! accept.
//!
//! The layer keeps whole answers. These include an answer that was cut by `max_tokens`, and a refusal, since they
//! were paid for. It does not keep a [degraded](crate::LlmResponse::degraded) answer, a stream that was restarted,
//! or an answer larger than [`max_answer`](IdempotencyLayer::max_answer).
//!
//! # Failures
//!
//! A failure is not kept: the layer releases the key, so that the retry can try again. A failure goes to all
//! requests that waited for the call, as one attempt in their record that was not their own. A stream that breaks,
//! breaks for all its readers. If the call ran out of its own caller's time, the waiting requests make one more.
//!
//! # A call outlives its caller
//!
//! A call under a key is a task of its own, so that the layer needs a tokio runtime. It goes on for
//! [`grace`](IdempotencyLayer::grace) after all its callers have left or the first caller's deadline has passed. A
//! stream is read to its end, so that the late answer is there for the retry. No task goes on longer than that, and
//! a Bulkhead further in bounds how many run at once. [`IdempotencyHandle::under_way`] counts them, and
//! [`IdempotencyHandle::close`] ends them at a shutdown. A stream with readers goes on at their pace. A process
//! that ends without `close` loses only late answers; in a shared store its keys are free when their leases expire.
//!
//! The caps of a `Budget` further in count the cost of a late answer. An
//! `Observe` further out reports the caller that left, and not what came after.
//!
//! # Several processes
//!
//! A shared [store](IdempotencyStore) makes one call for all its processes. A process claims a key with a lease
//! before its call, and renews the lease while the call runs. If the process crashes, another takes over within one
//! [`lease`](IdempotencyLayer::lease).
//!
//! An unreachable store holds no request up. The layer leaves it alone after three failures in a row, or one
//! request that is not answered within [`store_timeout`](IdempotencyLayer::store_timeout). Each process then knows
//! the keys that it sees itself, up to 64 MiB of answers. Answers that the store kept before are not known
//! meanwhile, and two processes may make one call each. The layer tries the store again after a second, then after
//! 2, 4 and so on up to 5. Each process still knows its own answers of that time. The log reports the outage once,
//! and its end once; so does [`Event::StoreChanged`](steadfast_core::Event::StoreChanged). A store that [guards
//! itself](IdempotencyStore::is_guarded) does all that in its own way. A store that has no room, or may only be
//! read, is still asked for the records that it has.
//!
//! A caller waits for the stores for at most twice the [`store_timeout`](IdempotencyLayer::store_timeout) in all. If a
//! store takes longer for the outcome of a call, the caller gets its answer first. A repeat waits for another process's
//! call for as long as a store reports it as under way. A store that failed to answer within the last second may have
//! missed the end of that call: a repeat believes it for one `store_timeout` more, and then makes the call.
//!
//! The layer sends a missed update again: that a call has failed until the lease ends, an answer for 10 minutes. A
//! store that comes back gets the answers of the last minute once more, and calls under way claim their keys there
//! again: the store may be empty, or an earlier state of itself.
//!
//! Over [two stores](IdempotencyLayer::over_both) a key is claimed in both. While one is away, or has lost its
//! records, the other knows the keys.
//!
//! # Calls that may have been made twice
//!
//! An answer ([`is_possible_repeat`](crate::LlmResponse::is_possible_repeat)) and an error
//! ([`LlmError::is_possible_repeat`](crate::LlmError::is_possible_repeat)) are marked if their call may not have
//! been the key's first. That is so if no store was reachable, an earlier holder of the key never reported a
//! result, or the store has lost records. The event of the request's end
//! ([`possible_repeat`](steadfast_core::events::RequestEnded::possible_repeat)) is marked too.
//!
//! # Design
//!
//! Elsewhere a dropped future ends its work. (A mirrored request's copy runs in a task of its own:
//! `layers/mirror/shadow.rs` of `steadfast`.) A call under a key runs in a task (`task.rs`), and every request with the
//! key waits for it, the first included (`ask.rs`). So there is no leader to lose. A waiter holds a receiver of a
//! `watch` channel; by it, and by the readers of the recording, the task knows when every caller has left. The store
//! decides whether a key stands for another request, not the table of calls under way: a record outlives the process.
//! The layer asks the store before the call and stores the answer before giving it out.
//!
//! A stream is the cache's recording (`cache/recording.rs`) with one more reader, which does not read. That reader is
//! the task: it keeps the body while a caller reads, and reads it to its end when none does. The cache's fingerprint
//! says what a request means.
//!
//! A key is claimed in every store there is (`holding.rs`), under a ticket of the claimant's own choice. So a claim
//! whose reply was lost can be completed or given back. The outcome of a call is kept too (`results.rs`). The layer
//! repeats it until each store knows it, and repeats it again to a store that comes back, which may be empty or an
//! earlier state of itself. `Claim::Inherited`, `IdempotencyStore::may_have_lost` and the answer's `is_possible_repeat`
//! say what no process can know.
//!
//! # Sources
//!
//! The refusal of another input is from the `Idempotency-Key` header of the IETF's draft
//! (draft-ietf-httpapi-idempotency-key-header); the 24 hours are from Stripe's API. That draft refuses a request
//! while the first is under way (409). This layer waits, since an answer takes long and the clients would only ask
//! again.
//!
//! # Example
//!
//! ```
//! use steadfast::{ErrorKind, IdempotencyLayer, LlmError, LlmRequest, LlmResponse, provider_fn};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let layer = IdempotencyLayer::new();
//! let handle = layer.handle();
//! let leaf = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("Dear Ms Lovelace")) });
//! let llm = ServiceBuilder::new().layer(layer).service(leaf);
//!
//! let ask = |words: &str| LlmRequest::prompt(words).with_idempotency_key("mail-17");
//! llm.clone().oneshot(ask("Write to Ada.")).await.unwrap();
//! let again = llm.clone().oneshot(ask("Write to Ada.")).await.unwrap();
//! assert!(again.notes()[0].starts_with("replayed"));
//! assert_eq!((handle.stats().calls, handle.stats().replayed), (1, 1));
//!
//! let refused = llm.oneshot(ask("Write to Bob.")).await.unwrap_err();
//! assert_eq!(refused.kind(), ErrorKind::IdempotencyConflict);
//! # }
//! ```

mod ask;
mod backing;
mod calls;
mod handle;
mod holding;
mod key;
mod layer;
mod memory;
mod place;
mod results;
mod service;
mod settings;
mod shared;
mod store;
mod task;

pub use self::{
    handle::{IdempotencyHandle, IdempotencyStats},
    key::{Fingerprint, IdempotencyKey},
    layer::IdempotencyLayer,
    memory::MemoryIdempotency,
    service::{Idempotency, ResponseFuture},
    store::{Claim, IdempotencyStore, StoreFuture, Ticket},
};
