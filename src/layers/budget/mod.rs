//! Caps on spending: by feature, by key, by team, by tier, in an hour, a day, a week or a month.
//!
//! # When to use it
//!
//! Use it wherever a loop, a customer or a bug could spend more than the product earns. A product that prefers a
//! worse answer to none steps down to cheaper tiers at the cap ([`AtCap::StepDown`]). A cap that must not affect
//! callers only reports ([`AtCap::Warn`]).
//!
//! It counts by list prices ([`PriceTable`](crate::prices::PriceTable)) in one process: it is a brake, not a bill.
//! To limit pace rather than money, use a [bulkhead](super::bulkhead)'s rates.
//!
//! # Where in the stack
//!
//! Put caps of features, keys and teams outside of `Fallback`, so that one request is one reservation however many
//! tiers it tries, and so that `Fallback` sees a step-down. Put a tier's cap around that tier's stack: it refuses, and
//! `Fallback` goes on to the next tier at once. Outside of a cache, cached answers would be reserved for.
//!
//! # What is counted
//!
//! A request reserves its likely cost before it is sent. That is its prompt, estimated at a token for four bytes,
//! and its `max_tokens` ([`default_output`](BudgetLayer::default_output) if it sets none), at the price of its
//! model. No more is reserved than the model's longest answer, as the [families](crate::models) of models know it, or
//! 128,000 tokens; and no more than nineteen in twenty of the key's last answers of that model had (twice as much
//! after the first). A request in wire form is decoded for that. When the answer ends, its actual cost replaces the
//! reservation.
//!
//! A cap that refuses lets a request go if the amount fits beside the spent and reserved ones. One that does not fit
//! goes while something is left, as the only one of its key, and reserves a part of it: agents ask for far more than
//! they use. So each cap is reached, and spending exceeds it by no more than the costs of requests in flight above
//! their reservations.
//!
//! - An attempt that failed after it had used tokens counts by them (an answer of the wrong shape, for one).
//! - A stream that breaks or is dropped counts by the tokens that the provider has reported so far, and at least by
//!   its prompt and the text that came, a token for four bytes. The law is the same for providers that report tokens
//!   only at the end.
//! - A call that timed out, or whose caller left before its answer, counts by its prompt. The provider may have worked
//!   on a whole answer all the same: 250 tokens for each second count, up to its `max_tokens`.
//! - A failure before the provider worked (refused here, no connection, an error status) releases the reservation.
//! - A model without a price costs nothing, with one warning in the log for each. [`check`](BudgetLayer::check) and
//!   [`checked`](BudgetLayer::checked) detect that at the start.
//!
//! # Shares
//!
//! Under a cap that several [keys](BudgetKey) share, none keeps the others out by what it reserves. While others
//! reserve, or did so in the last half minute, a key beyond its even share leaves them what they have lately wanted,
//! and a quarter of what is not spent. A key that is alone may reserve all of it. A refusal by what is *reserved* is
//! worth another try in a second, and says so; one by what is spent waits for the next period.
//!
//! A request counts in the period in which it was admitted. Periods go by the calendar in UTC. A new one begins
//! with the next request, or the next use of the handle.
//!
//! # Example
//!
//! ```
//! use steadfast::{
//!     BudgetLayer, ErrorKind, LlmError, LlmRequest, LlmResponse,
//!     chat::{Chat, Message, Usage},
//!     layers::budget::{Cap, Period},
//!     prices::{PriceTable, Usd},
//!     provider_fn,
//! };
//! use tower::{Layer, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! // 1,000 input and 500 output tokens of gpt-4o: $0.0075
//! let leaf = provider_fn(|_| async {
//!     let mut message = Message::assistant("hello");
//!     message.usage = Some(Usage::new(1000, 500));
//!     Ok::<_, LlmError>(LlmResponse::from_message(message).with_model("openai", "gpt-4o"))
//! });
//! let cent = Usd::from_dollars(0.01).unwrap();
//! let layer = BudgetLayer::new(PriceTable::builtin()).cap(Cap::new("chat per day", cent,
//! Period::Day).feature("chat"));
//! let (budget, llm) = (layer.handle(), layer.layer(leaf));
//!
//! let ask = ||
//! LlmRequest::from(Chat::new([Message::user("hello")]).model("gpt-4o").max_tokens(500)).with_feature("chat");
//! let answer = llm.clone().oneshot(ask()).await.unwrap();
//! assert_eq!(answer.cost().unwrap().to_string(), "$0.0075");
//! assert_eq!(budget.spent("chat per day"), answer.cost().unwrap());
//!
//! // Of the cent a quarter is left, and nobody else wants it.
//! llm.clone().oneshot(ask()).await.unwrap();
//! let refused = llm.oneshot(ask()).await.unwrap_err();
//! assert_eq!(refused.kind(), ErrorKind::Budget);
//! assert_eq!(refused.retry_at(), budget.resets_at("chat per day"));
//! # }
//! ```

mod account;
mod calendar;
mod cap;
mod cap_spend;
mod expectation;
mod future;
mod handle;
mod layer;
mod meter;
mod plan;
mod replica_cap;
mod reservation;
mod service;
mod shared;

pub use self::{
    calendar::Period,
    cap::{AtCap, Cap},
    cap_spend::CapSpend,
    handle::BudgetHandle,
    layer::BudgetLayer,
    service::Budget,
};
#[doc(hidden)]
pub use self::{
    cap::KeyGroup,
    future::ResponseFuture,
    handle::CapScope,
    replica_cap::{FirstShare, ReplicaCap},
};

#[cfg(steadfast_loom)]
pub(crate) use self::meter::races;
#[doc(no_inline)]
pub use crate::request::BudgetKey;

#[cfg(test)]
mod tests;
