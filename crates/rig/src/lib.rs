//! steadfast under unchanged [rig](https://docs.rs/rig) agents: failover, circuit breakers, retries, bulkheads and
//! deadlines for a program that calls models through it.
//!
//! - [`http_client`] turns any stack into the HTTP client of rig's OpenAI or Anthropic client. The program's own
//!   requests, streams and errors stay rig's.
//! - [`model`] turns any stack into a model of rig, for a program that names no provider.
//! - [`leaf`] turns any model of rig into a tier of a stack, for a provider that only rig has; [`llm_error`] turns
//!   rig's errors into steadfast's.
//!
//! ```
//! use std::time::Duration;
//!
//! use rig_core::providers::openai::OpenAIConfig;
//! use steadfast::{CircuitBreakerLayer, FallbackLayer, RetryWithJitterLayer, TimeoutLayer};
//! use steadfast::providers::simulated::{Fault, Simulated};
//! use tower::ServiceBuilder;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In earnest: `OpenAi::from_env()?.model("gpt-4o")` and `Anthropic::from_env()?.model("claude-sonnet-4-5")`.
//! let gpt = Simulated::new("gpt-4o");
//! gpt.handle().fail(Fault::ServerError);
//! let claude = Simulated::new("claude-sonnet-4-5").reply("It rains.");
//! let stack = ServiceBuilder::new()
//!     .layer(FallbackLayer::new("gpt").tier("claude", claude))
//!     .layer(RetryWithJitterLayer::new())
//!     .layer(CircuitBreakerLayer::new("gpt"))
//!     .layer(TimeoutLayer::new(Duration::from_secs(30)))
//!     .service(gpt);
//!
//! let client = OpenAIConfig::new("").connect(steadfast_rig::http_client(stack));
//!
//! // As before.
//! let answer = client.chat("gpt-4o").call("How is the weather?").await?;
//! assert_eq!(answer.text(), "It rains.");
//! # Ok(()) }
//! ```
//!
//! # What changes under a client
//!
//! - **Calls of OpenAI's Responses and chat completions and of Anthropic's messages**, whole and streamed, go to the
//!   stack; so does the list of models. Nothing is sent to the client's base URL, and its API key reaches no provider:
//!   each leaf has its own.
//! - **Other paths** (embeddings, transcriptions) are refused with a 404 that names the served ones, or go out as they
//!   did before: [`GatewayClient::others_by`].
//! - **Retries**: rig's clients and agents repeat no call by themselves. The stack's retries are the only ones.
//! - **Errors** are [`ProviderError::ProviderResponse`](rig_core::ProviderError), with the status and body that the
//!   provider's API has for them, and `Retry-After`.
//!
//! A stream that breaks after its first token ends with an error item. Set `commit` to complete in the stack where the
//! program cannot use half an answer.

mod decoder;
mod error;
mod leaf;
mod model;
mod request;
mod rig_request;
mod transport;

pub use self::{
    error::{llm_error, provider_error},
    leaf::leaf,
    model::model,
    transport::{GatewayClient, http_client},
};
