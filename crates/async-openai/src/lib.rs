//! steadfast under an unchanged [async-openai](async_openai) client: failover, circuit breakers, retries, bulkheads and
//! deadlines for a program that calls models through it.
//!
//! - [`service`] turns any stack into the HTTP service of a client. The program's own requests, streams and errors stay
//!   async-openai's.
//! - [`leaf`] turns a client into a tier of a stack; [`llm_error`] turns its errors into steadfast's.
//!
//! ```
//! use std::time::Duration;
//!
//! use async_openai::{Client, config::OpenAIConfig, types::chat::CreateChatCompletionRequestArgs};
//! use async_openai::types::chat::ChatCompletionRequestUserMessage;
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
//! let client = Client::with_config(OpenAIConfig::new()).with_http_service(steadfast_async_openai::service(stack));
//!
//! // As before.
//! let request = CreateChatCompletionRequestArgs::default()
//!     .model("gpt-4o")
//!     .messages([ChatCompletionRequestUserMessage::from("How is the weather?").into()])
//!     .build()?;
//! let answer = client.chat().create(request).await?;
//! assert_eq!(answer.choices[0].message.content.as_deref(), Some("It rains."));
//! # Ok(()) }
//! ```
//!
//! # What changes
//!
//! - **Calls of chat completions and of Responses**, whole and streamed, go to the stack; so does the list of models.
//!   Nothing is sent to the client's `api_base`, and its API key reaches no provider: each leaf has its own.
//! - **Other paths** (embeddings, files, a response by its id) are refused with a 404 that names the served ones, or go
//!   out as they did before: [`OpenAiService::others_by`].
//! - **Retries**: async-openai repeats by itself only without a service of one's own. The stack's retries are the only
//!   ones.
//! - **Errors** are [`OpenAIError::ApiError`], with the status and the code that OpenAI's API has for them.
//! - **Headers** of the client's requests choose what the stack does: `x-steadfast-feature`, `x-steadfast-timeout-ms`
//!   and the others of the gateway, by `RequestOptions` or the client's configuration.
//!
//! A stream that breaks after its first token ends with an error item. Set `commit` to complete in the stack where the
//! program cannot use half an answer.

mod leaf;

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use async_openai::{error::OpenAIError, middleware::HttpRequestFactory};
use http::{Uri, uri::PathAndQuery};
use http_body_util::BodyDataStream;
use reqwest::{Body, Client, Response};
use steadfast::LlmService;
use steadfast_gateway::{Gateway, GatewayBuilder};
use tower::{Service, ServiceExt};

pub use self::leaf::{leaf, llm_error};

/// Returns the HTTP service of an async-openai client that calls this stack, for `Client::with_http_service`.
///
/// The stack is any service of [`LlmRequest`](steadfast::LlmRequest): layers of the program's own, or
/// `Stack::from_path("steadfast.yaml")?.service()`.
pub fn service<S>(stack: S) -> OpenAiService
where
    S: LlmService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    OpenAiService::new(Gateway::builder(stack))
}

/// The HTTP service of an async-openai client, over a gateway in the same process.
///
/// It is always ready. Dropping a call, or a stream of the client, drops the call to the provider.
#[derive(Clone)]
pub struct OpenAiService {
    gateway: Gateway,
    others: Option<Client>,
}

impl OpenAiService {
    /// Creates the service over a gateway with settings of its own: models that it lists, keys, sizes.
    pub fn new(gateway: GatewayBuilder) -> Self {
        Self { gateway: gateway.in_process().build(), others: None }
    }

    /// Sends requests for other paths than the gateway's by this client, as async-openai would. Default: none, they are
    /// refused with 404.
    #[must_use]
    pub fn others_by(mut self, client: Client) -> Self {
        self.others = Some(client);
        self
    }
}

impl Service<HttpRequestFactory> for OpenAiService {
    type Response = Response;
    type Error = OpenAIError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, factory: HttpRequestFactory) -> ResponseFuture {
        let Self { gateway, others } = self.clone();
        ResponseFuture(Box::pin(async move {
            let request = factory.build().await?;
            let path = match (Gateway::path_of(request.method(), request.url().path()), others) {
                (Some(path), _) => path,
                (None, Some(client)) => return Ok(client.execute(request).await?),
                (None, None) => PathAndQuery::try_from(request.url().path()).map_err(|error| invalid(&error))?,
            };
            let mut request = http::Request::<Body>::try_from(request)?;
            *request.uri_mut() = Uri::from(path);
            let response = gateway.oneshot(request).await.unwrap_or_else(|never| match never {});
            Ok(response.map(|body| Body::wrap_stream(BodyDataStream::new(body))).into())
        }))
    }
}

fn invalid(error: &dyn fmt::Display) -> OpenAIError {
    OpenAIError::InvalidArgument(error.to_string())
}

impl fmt::Debug for OpenAiService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiService").finish_non_exhaustive()
    }
}

/// The future of an [`OpenAiService`]'s response.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Result<Response, OpenAIError>> + Send>>);

impl Future for ResponseFuture {
    type Output = Result<Response, OpenAIError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
