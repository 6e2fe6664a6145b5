//! Structured output that meets its schema, whichever model answered.
//!
//! # When to use it, and when not
//!
//! Use it if a program reads the answer, and some of the models behind a fallback do not follow a JSON Schema by
//! themselves. Do not use it if people read the answer as it is written: a stream is held back until it is whole
//! ([`CommitPoint::Complete`]), since text that was shown cannot be withdrawn. It does not replace the provider's own
//! strict mode: the request goes out with its schema as before, and a provider that enforces it needs no second
//! question. The layer cannot judge whether the content is *true*.
//!
//! # Where in the stack
//!
//! Inside of a `Fallback`, outside of RetryWithJitter. The second question is then retried like any other call, and
//! after an answer that stays wrong the next tier answers. The circuit breaker further in counts both as the
//! successes that they are: a provider with a careless model is not down. Outside of a `Fallback` the second
//! question goes through the whole chain. Give each tier the layer, since each can be careless: Fallback · Validate
//! · RetryWithJitter · CircuitBreaker · Timeout · leaf.
//!
//! # What it does
//!
//! - A request without an output schema ([`Chat::output`](steadfast_core::Chat::output)) passes untouched. So does an
//!   answer that calls tools, declines, or pauses: none of these is the answer yet. A request in wire form is decoded
//!   only if its bytes contain its dialect's field for the output format.
//! - An answer of the right shape passes as it is, the provider's own bytes included.
//! - Otherwise the layer *repairs* it, cheaply: it removes a code fence, text around the JSON and trailing commas.
//!   It invents nothing, never changes valid JSON, and never takes a fragment of a cut answer for the whole. The
//!   response has a [note](crate::LlmResponse::notes); the provider's bytes are dropped, since they differ.
//! - Otherwise the layer *asks the model again*, once ([`reasks`](ValidateLayer::reasks)), with the answer and its
//!   errors as two more turns. That is an attempt like any other: it counts against the request's attempts and is
//!   not begun without time left. An answer that was cut at its `max_tokens` would be cut again, so the model is
//!   not asked again.
//! - Otherwise the result is [`InvalidOutput`](crate::ErrorKind::InvalidOutput), which is not retried and goes to
//!   the next tier.
//!
//! Each answer of a wrong shape is in the [record](crate::Attempt), with the tokens that it took. After the first
//! response this layer enforces the request's deadline, also for the rest of a stream that is held back.
//!
//! A check's cost is bounded. A schema is refused with [`InvalidRequest`](crate::ErrorKind::InvalidRequest) if its
//! alternatives and references come to more than 100,000 looks at one value, or if it has more than 200,000 parts, or
//! patterns whose repeats come to as much. An answer with more parts than such a schema can be checked against is of a
//! wrong shape. A set of alternatives that a value misses is one error, at its place.
//!
//! A schema of more than 8 KiB is compiled on tokio's pool for blocking work, and so is a long answer checked: four at
//! once in the process, and no longer than to the request's deadline.
//!
//! A request may end with a turn of the assistant (a prefill). Its answer is checked together with the prefill, and
//! never repaired: the caller joins the two.
//!
//! # Example
//!
//! ```
//! use serde_json::json;
//! use steadfast::{Chat, LlmRequest, ValidateLayer, chat::{Message, OutputSchema}, providers::Canned};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let chatty = Canned::text("Here you are:\n```json\n{\"city\": \"Paris\",}\n```");
//! let llm = ServiceBuilder::new().layer(ValidateLayer::new()).service(chatty);
//!
//! let mut chat = Chat::new([Message::user("The capital of France?")]);
//! let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
//! chat.output = Some(OutputSchema { name: "capital".into(), schema: Some(schema.into()), strict: true });
//!
//! let answer = llm.oneshot(LlmRequest::from(chat)).await.unwrap();
//! assert_eq!(answer.notes(), ["output: trailing commas were removed"]);
//! assert_eq!(answer.text().await.unwrap(), "{\"city\": \"Paris\"}");
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

use steadfast_core::{
    Attempt, CommitPoint, Dialect, ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, LlmService, body,
    chat, commit, error, ledger, mechanisms::call, timer, wire,
};
#[cfg(test)]
use steadfast_core::{StreamEvent, Wire, events};
use steadfast_internal::{self as internal, recent};

mod check;
mod cost;
mod future;
mod held;
mod layer;
mod options;
mod pattern;
mod problems;
mod repair;
mod schema;
mod service;
mod settings;

pub use self::{future::ResponseFuture, layer::ValidateLayer, service::Validate};

#[cfg(test)]
#[path = "../../core/src/mechanisms/testing.rs"]
mod testing;
#[cfg(test)]
mod tests;
