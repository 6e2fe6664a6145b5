//! Simple requests sent to a cheaper chain.
//!
//! # When to use it
//!
//! Use it if most of the money goes into requests that a small model answers as well: titles, summaries,
//! classifications. Rules ([`Rule`]) decide which requests are simple: a feature, a size, no tools, a function of
//! yours. The layer does not look at the meaning of a request, and a worse answer than the expensive model's is no
//! error: measure before you route.
//!
//! # Where in the stack
//!
//! Inside of the layers for the whole request (total Timeout, Bulkhead, Budget), outside of `Fallback`, which is
//! the default chain. A rule's chain is any service, such as a `Fallback` of its own, with its own circuits.
//!
//! # What it does
//!
//! The first matching rule takes the request. Without a match it goes to the default chain, without an allocation.
//! A rule's chain is an attempt to save, never a way to lose an answer. If it fails with an error that another
//! chain can help with ([`Classifier`](crate::Classifier)), the default chain serves, and the record has both. A
//! rejected API key counts as such here. An invalid request ends there, and so does one that the cheap model
//! declined. Like a tier, the rule's chain gets only part of the time before the deadline, and leaves an attempt. A
//! request with [`no_fallback`](crate::LlmRequest::no_fallback) is answered by the rule's chain or fails.
//!
//! The response names the rule that matched ([`LlmResponse::route`](crate::LlmResponse::route)). It also has the
//! cost without the route ([`cost_without_route`](crate::LlmResponse::cost_without_route)), if the layer knows
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
//!     .layer(model("gpt-4o"));
//!
//! let answer = llm.clone().oneshot(LlmRequest::prompt("...").with_feature("summary")).await.unwrap();
//! assert_eq!(answer.route(), Some("short"));
//! assert_eq!(answer.cost().unwrap().to_string(), "$0.00021");
//! assert_eq!(answer.cost_without_route().unwrap().to_string(), "$0.0035");
//!
//! let answer = llm.oneshot(LlmRequest::prompt("...").with_feature("chat")).await.unwrap();
//! assert_eq!((answer.route(), answer.served_by().model), (None, Some("gpt-4o")));
//! # }
//! ```

mod future;
mod layer;
mod plan;
mod rule;
mod service;

#[doc(hidden)]
pub use self::future::ResponseFuture;
pub use self::{layer::RouteLayer, rule::Rule, service::Route};

#[cfg(test)]
mod tests;
