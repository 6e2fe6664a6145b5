//! The stack: one for each model, one for the application.

use std::time::Duration;

use futures_util::stream;
use steadfast::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, FallbackLayer, LlmBody, LlmError, LlmRequest, LlmResponse,
    RetryWithJitterLayer, TimeoutLayer, provider_fn, providers::Canned,
};
use tower::{Service, ServiceBuilder};

/// A stack around `primary`, and the bulkhead's layer, whose handle shows how many requests are under way.
pub(crate) fn stack<S>(primary: S, bulkhead: &BulkheadLayer) -> BoxLlmService
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    BoxLlmService::new(
        ServiceBuilder::new()
            .layer(TimeoutLayer::new(Duration::from_secs(90)))
            .layer(bulkhead.clone())
            .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("Please try again in a minute.")))
            .layer(RetryWithJitterLayer::new())
            .layer(CircuitBreakerLayer::new("sonnet"))
            .layer(TimeoutLayer::new(Duration::from_secs(30)))
            .service(primary),
    )
}

/// The stack around a stand-in for `Anthropic::from_env()?.model("claude-sonnet-4-5")`, which has one answer.
pub(crate) fn demo() -> BoxLlmService {
    stack(provider_fn(|_| async { Ok(answer()) }), &BulkheadLayer::new().feature("chat", 20))
}

/// A streamed answer of three pieces. A caller who did not ask for a stream collects it.
pub(crate) fn answer() -> LlmResponse {
    let texts = ["A closure ", "is a function ", "that remembers."].map(|text| Ok(text.to_owned()));
    LlmResponse::new(LlmBody::from_text_stream(stream::iter(texts)))
}
