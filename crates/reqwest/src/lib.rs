//! steadfast under an existing [reqwest] client: failover, circuit breakers, retries, bulkheads and
//! deadlines for a program that calls models with HTTP requests of its own.
//!
//! `middleware` puts a stack into the client of reqwest-middleware. The program's own requests, streams and errors
//! stay as they are:
//!
//! ```
//! # #[cfg(feature = "middleware")] {
//! use std::time::Duration;
//!
//! use reqwest_middleware::ClientBuilder;
//! use steadfast::{CircuitBreakerLayer, FallbackLayer, RetryWithJitterLayer, TimeoutLayer};
//! use steadfast::providers::{OpenAi, simulated::Simulated};
//! use tower::ServiceBuilder;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The first tier sends the program's own request, and needs no key. In earnest, the second is
//! // `Anthropic::from_env()?.model("claude-sonnet-4-5")`.
//! let claude = Simulated::new("claude-sonnet-4-5").reply("It rains.");
//! let stack = ServiceBuilder::new()
//!     .layer(FallbackLayer::new("gpt").tier("claude", claude))
//!     .layer(RetryWithJitterLayer::new())
//!     .layer(CircuitBreakerLayer::new("gpt"))
//!     .layer(TimeoutLayer::new(Duration::from_secs(30)))
//!     .service(OpenAi::new("").model("gpt-4o"));
//!
//! let client = ClientBuilder::new(reqwest::Client::new()).with(steadfast_reqwest::middleware(stack)).build();
//!
//! // As before; here the provider's server is not there.
//! let question = r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "How is the weather?"}]}"#;
//! let request = client.post("http://127.0.0.1:1/v1/chat/completions").bearer_auth("sk-mine").body(question);
//! let answer: serde_json::Value = request.send().await?.json().await?;
//! assert_eq!(answer["choices"][0]["message"]["content"], "It rains.");
//! # Ok(()) }
//! # main().unwrap(); }
//! ```
//!
//! # What changes
//!
//! - **Calls of models**, recognised by method and path as an [`HttpLlmLayer`] does, go through the stack. The rest of
//!   the client's middlewares, and the client, send for the stack's first tier: the program's own address, headers and
//!   bytes, once for each attempt. Each further tier has its own client and key, and gets none of those headers.
//! - **All other requests** pass as they are.
//! - **Errors** of the stack are responses with a status and a body of the provider's protocol.
//! - **The program's key**, once it has worked: a refusal of it goes to the next tier. A key that has never worked is
//!   the program's mistake, and its refusal the answer.
//! - **A timeout** of the client or the request limits each attempt at the first tier. The stack's layers limit the
//!   whole call.
//! - **Headers** of a request steer the stack: `x-steadfast-feature`, `x-steadfast-timeout-ms` and the others of the
//!   gateway. They do not reach the provider.
//!
//! The stack's retries are to be the only ones. A client's [`retry`](::reqwest::retry) by default repeats only what a
//! server has not begun; a policy for the status of a model's answers multiplies the attempts. So do the retries of
//! reqwest-retry, around the middleware or within it. Around it, let their strategy pass responses with the header
//! `x-steadfast-request-id`.
//!
//! # Without reqwest-middleware
//!
//! - [`service`] makes a client a tower service of HTTP requests, for
//!   `ServiceBuilder::new().layer(HttpLlmLayer::new(stack)).service(steadfast_reqwest::service(client))`.
//! - [`transport`] lets the leaves of steadfast send by a client that is configured already.
//! - [`llm_error`] gives the errors of a client, in a leaf of the program's own, their
//!   [kind](steadfast::ErrorKind).
//!
//! The feature `middleware`, on by default, brings `middleware` and the gateway behind it.
//!
//! [`HttpLlmLayer`]: https://docs.rs/steadfast-gateway/latest/steadfast_gateway/struct.HttpLlmLayer.html

mod error;
#[cfg(feature = "middleware")]
mod middleware;
mod service;

#[cfg(feature = "middleware")]
pub use self::middleware::{LlmMiddleware, middleware};
pub use self::{
    error::llm_error,
    service::{ReqwestService, ReqwestTransport, ResponseBody, ResponseFuture, service, transport},
};
