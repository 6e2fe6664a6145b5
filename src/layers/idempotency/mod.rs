//! One call for each key, however often its request is sent.
//!
//! # When to use it, and when not
//!
//! Where a request may be sent twice and is to be answered once: by a job queue that delivers again, a client that retries
//! after its own timeout, a user who presses twice. What an answer costs, and what an agent does upon it, happens once. The
//! caller gives the key ([`LlmRequest::idempotency_key`](crate::LlmRequest::idempotency_key)); a request without one passes by
//! at no cost. Not in place of a [cache](crate::layers::cache): that is for different callers who ask the same.
//!
//! # Where in the stack
//!
//! Inside of the total Timeout, outside of everything else: a replay costs no money, takes no place and wakes no provider, and
//! whatever retries and tiers there are belong to the one call. A Bulkhead further in counts the calls, not those who wait; so
//! does a [`CallerBulkhead`](crate::layers::bulkhead::CallerBulkhead), by which a call that outlives its caller keeps its place.
//!
//! # What a key stands for
//!
//! The first request under it: its tenant, feature, model and [meaning](crate::layers::cache#what-is-the-same). The same
//! again is a repeat, as a stream or whole. Anything else is refused with
//! [`IdempotencyConflict`](crate::ErrorKind::IdempotencyConflict), HTTP 422 at a gateway. Keys are each tenant's own
//! ([`Tenant`](crate::layers::cache::Tenant), or [`BudgetKey`](crate::layers::budget::BudgetKey)): another's same key never
//! meets. A request that can be read in two ways is the same where its bytes are.
//! [`derive`](IdempotencyLayer::derive) makes the key of what is asked.
//!
//! # What a repeat gets
//!
//! The answer that was made, for the whole [`ttl`](IdempotencyLayer::ttl): frame by frame in the provider's own bytes, or put
//! together. While the call is under way a repeat waits for it, by its own deadline, and reads its stream from the beginning
//! and then live. It says so: [`cached`](crate::LlmResponse::cached), a note that begins with `replayed`, and a cost of
//! nothing. The provider of an answer that was kept is called `replayed`. It is the key's answer, whatever level of
//! service the repeat would accept.
//!
//! Kept is what is whole: also an answer that was cut by `max_tokens`, and a refusal, for they were paid for. Not kept is one
//! that is [degraded](crate::LlmResponse::degraded), a stream that began anew, and what is larger than
//! [`max_answer`](IdempotencyLayer::max_answer).
//!
//! # Failures
//!
//! None is kept: the key is given back, so that the retry can try again. A failure goes to all who were waiting for that
//! call, and is one step of their record that was not their own; a stream that breaks, breaks for all who read it. Only where
//! the call ran out of its own caller's time, those who waited have one more.
//!
//! # A call outlives its caller
//!
//! A call under a key is a task of its own, so that the layer needs a tokio runtime. When all who waited or read have left, or
//! the deadline of the one who began it has passed, it goes on for [`grace`](IdempotencyLayer::grace), and a stream is
//! read to its end: the late answer is there for the retry. No task goes on longer than that, and a Bulkhead further in
//! bounds how many run at once; [`IdempotencyHandle::under_way`] counts them, and [`IdempotencyHandle::close`] ends them at a
//! shutdown. A stream that somebody still reads is theirs, at their pace. A process that ends without it loses nothing but
//! late answers; in a store that is shared its keys are free when their leases are over.
//!
//! What a late answer costs is in the caps of a [`Budget`](crate::Budget), which is further in. An
//! [`Observe`](crate::Observe) further out tells of the caller that left, and not of what came after.
//!
//! # Several processes
//!
//! A [store](IdempotencyStore) that processes share makes one call for all of them. A key is claimed with a lease before its
//! call, and the lease is renewed while that runs: where a process crashes, another takes over within one
//! [`lease`](IdempotencyLayer::lease).
//!
//! A store that cannot be asked is in nobody's way. After three failures in a row, or one question that is not answered within
//! [`store_timeout`](IdempotencyLayer::store_timeout), it is left alone, and each process knows the keys that it sees
//! itself, up to 64 MiB of answers: what was kept in the store before is not known meanwhile, and two processes may make one
//! call each. It is tried again after a second, then after 2, 4 and so on up to 5. What was answered
//! meanwhile stays known in its own process. The log says so once, and once when it is back; so does
//! [`Event::StoreChanged`](crate::Event::StoreChanged). A store that [guards itself](IdempotencyStore::is_guarded) does all that
//! in its own way. One that has no room, or may only be read, is asked on for what it has.
//!
//! What a store could not be told it is told again: that a call has failed until the lease ends, an answer for 10 minutes. A store
//! that comes back is told the answers of the last minute once more, and calls under way claim their keys there again: it may be
//! empty, or an earlier state of itself.
//!
//! Over [two stores](IdempotencyLayer::over_both) a key is claimed in both: while one is away, or has lost what it knew, the
//! other knows the keys.
//!
//! # Calls that may have been made twice
//!
//! An answer says so ([`is_possible_repeat`](crate::LlmResponse::is_possible_repeat)), and an error
//! ([`LlmError::is_possible_repeat`](crate::LlmError::is_possible_repeat)), where nobody can know that its call was the key's first:
//! no store could be asked, who held the key before has never said what came of it, or the store has lost records. So does
//! [`RequestEnded`](crate::events::RequestEnded::possible_repeat).
//!
//! # Design
//!
//! Elsewhere a dropped future ends its work. (A mirrored request's copy runs in a task of its own:
//! `layers/mirror/shadow.rs`.) A call under a key runs in a task (`task.rs`), and every request with the key waits for
//! it, the first included (`ask.rs`). So there is no leader to lose. A waiter holds a receiver of a `watch` channel; by
//! it, and by the readers of the recording, the task knows when every caller has left. The store decides whether a key
//! stands for another request, not the table of calls under way: a record outlives the process. The layer asks the
//! store before the call and stores the answer before giving it out.
//!
//! A stream is the cache's recording (`layers/cache/recording.rs`) with one more reader, which does not read. That
//! reader is the task: it keeps the body while a caller reads, and reads it to its end when none does. The cache's
//! fingerprint says what a request means.
//!
//! A key is claimed in every store there is (`holding.rs`), under a ticket of the claimant's own choice. So a claim
//! whose reply was lost can be completed or given back. The outcome of a call is a word (`words.rs`). The layer repeats
//! it until each store knows it, and repeats it again to a store that comes back, which may be empty or an earlier
//! state of itself. `Claim::Inherited`, `IdempotencyStore::may_have_lost` and the answer's `is_possible_repeat` say
//! what no process can know.
//!
//! # Sources
//!
//! The `Idempotency-Key` header of the IETF's draft (draft-ietf-httpapi-idempotency-key-header), from which the refusal of
//! another input is; Stripe's API for the 24 hours. Where that draft has a request refused while the first is under way
//! (409), it waits here, since an answer takes long and the clients would only ask again.
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
//! let ask = |words: &str| LlmRequest::prompt(words).idempotency_key("mail-17");
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
mod service;
mod store;
mod task;
mod words;

pub use self::{
    handle::{IdempotencyHandle, IdempotencyStats},
    key::{Fingerprint, IdempotencyKey},
    layer::IdempotencyLayer,
    memory::MemoryIdempotency,
    service::{Idempotency, ResponseFuture},
    store::{Claim, IdempotencyStore, StoreFuture, Ticket},
};
