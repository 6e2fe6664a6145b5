//! The other direction: an async-openai client as a tier of a stack.

use std::sync::Arc;

use async_openai::{Client, config::Config, error::OpenAIError};
use futures_util::TryStreamExt;
use steadfast::{
    BoxLlmService, Dialect, ErrorKind, LlmError, LlmRequest, LlmResponse, provider_fn,
    providers::codec::{Codec, Exchange},
};

/// Returns a tier of a stack that calls this model through a client: its configuration, its API base, its HTTP client.
///
/// Use it for a server that the program has a client for already. It carries what async-openai's types of chat
/// completions carry; a request with more fails with [`UnsupportedFeature`](ErrorKind::UnsupportedFeature), so that a
/// fallback goes on to another tier. A stream that ends without its end mark is an error.
///
/// Switch off the client's own retries, which multiply the stack's: give it an HTTP service of the program's own
/// ([`Client::with_http_service`]), which async-openai asks once.
///
/// ```
/// use async_openai::{Client, config::OpenAIConfig};
/// use steadfast::{FallbackLayer, LlmRequest, providers::Simulated};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), tower::BoxError> {
/// # let house = steadfast_async_openai::service(Simulated::new("large").reply("It rains."));
/// let client = Client::with_config(OpenAIConfig::new().with_api_base("http://llm.house.example/v1"));
/// # let client = client.with_http_service(house);
/// let llm = ServiceBuilder::new()
///     .layer(FallbackLayer::new("house").tier("claude", Simulated::new("claude-sonnet-4-5")))
///     .service(steadfast_async_openai::leaf(client, "large"));
///
/// let answer = llm.oneshot(LlmRequest::prompt("How is the weather?")).await?;
/// assert_eq!(answer.text().await?, "It rains.");
/// # Ok(()) }
/// ```
pub fn leaf<C>(client: Client<C>, model: impl Into<Arc<str>>) -> BoxLlmService
where
    C: Config + Clone + 'static,
{
    let codec = Codec::new(Dialect::OpenAi).model(model);
    BoxLlmService::new(provider_fn(move |request| answer(codec.clone(), client.clone(), request)))
}

async fn answer<C: Config>(codec: Codec, client: Client<C>, request: LlmRequest) -> Result<LlmResponse, LlmError> {
    let exchange = codec.encode(&request).await?;
    let of_call = exchange.clone();
    let failed = move |error| failure(&of_call, error);
    if request.is_stream() {
        let chunks = client.chat().create_stream(exchange.json()?).await.map_err(&failed)?;
        exchange.stream_json(chunks.map_err(failed)).await
    } else {
        exchange.answer_json(&client.chat().create(exchange.json()?).await.map_err(failed)?)
    }
}

/// Returns the failed call that an error of a client's stands for, with the provider and the model of the call.
fn failure(exchange: &Exchange, error: OpenAIError) -> LlmError {
    match error {
        OpenAIError::ApiError(error) => exchange.error_json(error.status_code, &error.api_error),
        // An error in place of an answer, or one that its types cannot hold: its words quote the answer.
        OpenAIError::JSONDeserialize(_, body) => exchange.answer(body).err().unwrap_or_else(malformed),
        other => exchange.unanswered(llm_error(other)),
    }
}

/// Returns the failed call that an error of async-openai's stands for.
///
/// | async-openai's error | [`ErrorKind`] |
/// |---|---|
/// | `ApiError` | by status, code and type, as a leaf of steadfast's own has it |
/// | `Reqwest` | of [`steadfast_reqwest::llm_error`]: `Connect`, `Timeout`, `StreamBroken` or `Malformed` |
/// | `StreamError` | `StreamBroken` |
/// | `InvalidArgument` | `InvalidRequest` |
/// | any other | `Malformed` |
///
/// The message has neither a URL nor a part of an answer.
///
/// ```
/// use steadfast::ErrorKind;
///
/// let error = steadfast_async_openai::llm_error(async_openai::error::OpenAIError::InvalidArgument("n".into()));
/// assert_eq!(error.kind(), ErrorKind::InvalidRequest);
/// ```
pub fn llm_error(error: OpenAIError) -> LlmError {
    match error {
        OpenAIError::ApiError(error) => Codec::new(Dialect::OpenAi).error_json(error.status_code, &error.api_error),
        OpenAIError::Reqwest(error) => steadfast_reqwest::llm_error(error),
        OpenAIError::StreamError(_) => LlmError::new(ErrorKind::StreamBroken, "async-openai's stream broke"),
        OpenAIError::InvalidArgument(what) => LlmError::new(ErrorKind::InvalidRequest, what),
        _ => malformed(),
    }
}

fn malformed() -> LlmError {
    LlmError::new(ErrorKind::Malformed, "async-openai cannot read the answer")
}
