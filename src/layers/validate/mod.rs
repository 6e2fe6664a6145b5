//! Structured output that holds, whichever model answered.
//!
//! # When to use it, and when not
//!
//! Where a program reads the answer, and some of the models behind a fallback do not keep to a JSON Schema by
//! themselves. Not where people read the answer as it is written: a stream is held back until it is whole
//! ([`CommitPoint::Complete`](crate::CommitPoint::Complete)), for nobody can take back what was shown. And not in
//! place of the provider's own strict mode: the request goes out with its schema as before, and the provider that
//! holds the model to it needs no second question. Whether the content is *true* is out of its reach.
//!
//! # Where in the stack
//!
//! Inside of a `Fallback`, outside of RetryWithJitter: then the second question is retried like any other call, and
//! an answer that stays wrong is answered by the next tier. The circuit breaker further in counts both as the successes
//! that they are: a provider whose model is careless is not down. Outside of a `Fallback` the second question goes
//! through the whole chain. Give each tier the layer, for each of them can be careless:
//! Fallback · Validate · RetryWithJitter · CircuitBreaker · Timeout · leaf.
//!
//! # What it does
//!
//! - A request without an output schema ([`Chat::output`](crate::Chat::output)) passes untouched, and so does an answer
//!   that calls tools, declines, or pauses: none of these is the answer yet. A request in wire form is decoded only
//!   if its bytes name its dialect's field for the output's shape.
//! - An answer of the right shape passes as it is, the provider's own bytes included.
//! - Else it is *repaired*, cheaply: a code fence, text around the JSON and trailing commas go. Nothing is invented, valid
//!   JSON is never changed, and of an answer that was cut no fragment is taken for the whole. The response
//!   [says so](crate::LlmResponse::notes); the provider's bytes, which say something else, go with it.
//! - Else the model is *asked again*, once ([`reasks`](ValidateLayer::reasks)), with its answer and what is wrong with it as
//!   two more turns. That is an attempt like any other: it takes from the request's attempts and is not begun
//!   without time left. An answer that was cut at its `max_tokens` would be cut again, so that it is not asked again.
//! - Else it is [`InvalidOutput`](crate::ErrorKind::InvalidOutput), which is not retried and goes to the next tier.
//!
//! Each answer of a wrong shape is in the [record](crate::Attempt), with the tokens that it took. After the first
//! response the request's deadline is kept here, also for the rest of a stream that is held back.
//!
//! A request that ends with a turn of the assistant (a prefill) is checked together with it, and never repaired: the
//! caller puts the two together itself.
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

mod check;
mod future;
mod held;
mod layer;
mod repair;
mod schema;
mod service;

pub use self::{future::ResponseFuture, layer::ValidateLayer, service::Validate};

#[cfg(test)]
mod tests;
