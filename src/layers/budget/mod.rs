//! Caps on what is spent: by feature, by key, by tier, in an hour, a day, a week or a month.
//!
//! # When to use it
//!
//! Wherever a loop, a customer or a bug could spend more than the product earns. A cap at which a product would rather
//! answer worse than not at all steps down to cheaper tiers ([`AtCap::StepDown`]); one that nobody is to notice only tells
//! ([`AtCap::Warn`]).
//!
//! It counts by list prices ([`PriceTable`](crate::prices::PriceTable)) in one process: it is a brake, not a bill. For
//! pace rather than money, a [bulkhead](super::bulkhead)'s rates.
//!
//! # Where in the stack
//!
//! Caps of features and keys outside of `Fallback`, so that one request is one reservation however many tiers it tries,
//! and so that a step-down is heard. A tier's cap around that tier's stack: it refuses, and `Fallback` goes on to the next
//! tier at once. Outside of a cache, an answer from the cache would be reserved for.
//!
//! # What is counted
//!
//! A request that a cap counts reserves what it may cost before it is sent: its prompt, estimated at a token for four
//! bytes, and its `max_tokens` ([`default_output`](BudgetLayer::default_output) where it sets none), at the price of the
//! model that is asked; one in wire form is decoded for that. Under a cap that refuses it goes only if that fits beside what is spent and reserved. When the
//! answer ends, what it really cost takes that place. So spending exceeds a cap by no more than what requests in flight
//! cost above their reservations.
//!
//! - An attempt that failed after it had used tokens counts by them (an answer of the wrong shape, for one).
//! - A stream that breaks or is dropped counts by the tokens that the provider has told so far, and at least by its prompt and
//!   what came of it, a token for four bytes. Some tell only at the end; then what was reserved is taken for spent where that is
//!   more, and so it is for a call that timed out or whose caller left: the provider may have worked all the same, and charge
//!   for it.
//! - What failed before the provider worked (refused here, no connection, an error status) is given back.
//! - A model without a price costs nothing, with one warning in the log for each;
//!   [`check`](BudgetLayer::check) and [`model`](BudgetLayer::model) find that out at the start.
//!
//! A request counts in the period in which it was admitted. Periods go by the calendar in UTC, and begin when somebody
//! next looks: with a request, or through the handle.
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
//! let layer = BudgetLayer::new(PriceTable::builtin()).cap(Cap::new("chat per day", cent, Period::Day).feature("chat"));
//! let (budget, llm) = (layer.handle(), layer.layer(leaf));
//!
//! let ask = || LlmRequest::from(Chat::new([Message::user("hello")]).model("gpt-4o").max_tokens(500)).feature("chat");
//! let answer = llm.clone().oneshot(ask()).await.unwrap();
//! assert_eq!(answer.cost().unwrap().to_string(), "$0.0075");
//! assert_eq!(budget.spent("chat per day"), answer.cost().unwrap());
//!
//! let refused = llm.oneshot(ask()).await.unwrap_err();
//! assert_eq!(refused.kind(), ErrorKind::Budget);
//! assert_eq!(refused.retry_at(), budget.resets_at("chat per day"));
//! # }
//! ```

mod account;
mod calendar;
mod cap;
mod future;
mod handle;
mod holds;
mod layer;
mod meter;
mod service;
mod shared;

pub use self::{
    calendar::Period,
    cap::{AtCap, Cap},
    future::ResponseFuture,
    handle::{BudgetHandle, CapSpend},
    layer::BudgetLayer,
    service::Budget,
};
pub use crate::request::BudgetKey;

#[cfg(all(test, not(steadfast_loom)))]
mod tests;
