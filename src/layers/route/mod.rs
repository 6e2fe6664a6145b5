//! Simple requests to a cheaper chain.
//!
//! # When to use it
//!
//! Where most of the money goes into requests that a small model answers as well: titles, summaries, classifications.
//! What is simple is said by rules ([`Rule`]): a feature, a size, no tools, a function of yours. Nothing looks at the
//! meaning of a request, and an answer that is worse than the dear model's is no error: measure before you route.
//!
//! # Where in the stack
//!
//! Inside of what belongs to the request (Timeout of the whole, Bulkhead, Budget), outside of `Fallback`, which is the
//! default chain. A rule's chain is any service, a `Fallback` of its own for one, with its own circuits.
//!
//! # What it does
//!
//! The first rule that fits takes the request; with none it goes to the default chain, and nothing is allocated for it.
//! A rule's chain is an attempt to save, never a way to lose an answer: when it fails with something that another can
//! help with ([`Classifier`](crate::Classifier)), the default chain serves, and the record has both. A refused key counts
//! as such here. Requests that are wrong stop, and so does what the cheap model declined. Like a tier, the rule's chain
//! gets only part of the time before the deadline, and leaves an attempt. A request with
//! [`no_fallback`](crate::LlmRequest::no_fallback) is answered by the rule's chain or fails.
//!
//! The answer says which rule was taken ([`LlmResponse::route`](crate::LlmResponse::route)), and what it would have cost
//! otherwise ([`cost_without_route`](crate::LlmResponse::cost_without_route)), where the layer knows
//! [whose place](RouteLayer::instead_of) the chain took.
//!
//! # Example
//!
//! ```
//! use steadfast::{
//!     LlmError, LlmRequest, LlmResponse, RouteLayer,
//!     chat::{Message, Usage},
//!     layers::route::Rule,
//!     provider_fn,
//! };
//! use tower::{Layer, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let model = |name: &'static str| {
//!     provider_fn(move |_| async move {
//!         let mut message = Message::assistant("a summary");
//!         message.usage = Some(Usage::new(1000, 100));
//!         Ok::<_, LlmError>(LlmResponse::from_message(message).with_model("openai", name))
//!     })
//! };
//! let llm = RouteLayer::new()
//!     .rule(Rule::new("short").feature("summary").max_input_tokens(2000).no_tools(), model("gpt-4o-mini"))
//!     .instead_of(Some("openai"), "gpt-4o")
//!     .unwrap()
//!     .layer(model("gpt-4o"));
//!
//! let answer = llm.clone().oneshot(LlmRequest::prompt("...").feature("summary")).await.unwrap();
//! assert_eq!(answer.route(), Some("short"));
//! assert_eq!(answer.cost().unwrap().to_string(), "$0.00021");
//! assert_eq!(answer.cost_without_route().unwrap().to_string(), "$0.0035");
//!
//! let answer = llm.oneshot(LlmRequest::prompt("...").feature("chat")).await.unwrap();
//! assert_eq!((answer.route(), answer.served_by().model), (None, Some("gpt-4o")));
//! # }
//! ```

mod future;
mod layer;
mod rule;
mod service;

pub use self::{future::ResponseFuture, layer::RouteLayer, rule::Rule, service::Route};

#[cfg(test)]
mod tests;
