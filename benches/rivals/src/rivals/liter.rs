//! liter-llm's layers, which take its own requests and answers only.

use std::{sync::Arc, time::Duration};

use liter_llm::{
    ChatCompletionRequest, ChatCompletionResponse, LiterLlmError,
    tower::{
        CircuitLayer, CircuitService, ExponentialBackoffCircuit, FallbackChainLayer, FallbackLayer, FallbackService,
        FixedDelayHedge, HedgeLayer, HedgeService, InFlightLimitConfig, InFlightLimitLayer, InFlightLimitService,
        types::{LlmRequest, LlmResponse},
    },
};
use tower::{Layer, Service};

use super::{LONG, PLACES};
use crate::subject::{Answers, Subject};

#[derive(Debug)]
pub enum Liter {}

impl Subject for Liter {
    type Request = LlmRequest;
    type Answer = LlmResponse;
    type Error = LiterLlmError;

    fn request() -> LlmRequest {
        LlmRequest::Chat(ChatCompletionRequest { model: "openai/gpt-4o".into(), ..Default::default() })
    }

    fn answer() -> LlmResponse {
        LlmResponse::Chat(ChatCompletionResponse::default())
    }

    fn error() -> LiterLlmError {
        LiterLlmError::ServerError { message: "the service failed".into(), status: 500 }
    }
}

pub type Circuit<S> = CircuitService<ExponentialBackoffCircuit, S>;

pub fn breaker_after<S>(wait: Duration, inner: S) -> Circuit<S> {
    CircuitLayer::new(Arc::new(ExponentialBackoffCircuit::new(5, wait)), "openai").layer(inner)
}

pub fn breaker<S>(inner: S) -> Circuit<S> {
    breaker_after(LONG, inner)
}

pub fn limit<S>(places: usize, inner: S) -> InFlightLimitService<S> {
    let layer = InFlightLimitLayer::new(InFlightLimitConfig { max_in_flight: Some(places) });
    layer.expect("a valid limit").layer(inner)
}

pub fn fallback<S>(inner: S) -> FallbackService<S, Answers<Liter>> {
    fallback_to(Answers::<Liter>::new(), inner)
}

pub fn fallback_to<F: Clone, S>(backup: F, inner: S) -> FallbackService<S, F> {
    FallbackLayer::new(backup).layer(inner)
}

/// A second one after the delay.
pub fn hedge<S>(delay: Duration, inner: S) -> HedgeService<FixedDelayHedge, S> {
    HedgeLayer::new(Arc::new(FixedDelayHedge::new(delay, 2))).layer(inner)
}

/// Its fallback over so many services, all alike.
pub fn chain<S>(
    tiers: usize,
    inner: S,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LiterLlmError, Future: Send> + Clone + Send + 'static
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LiterLlmError, Future: Send> + Clone + Send + Sync + 'static,
{
    FallbackChainLayer::new(vec![inner; tiers]).layer(())
}

/// Fallback, circuit breaker, limit of calls in flight: it has no layers for timeout and retry.
pub fn three<S>(
    inner: S,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LiterLlmError, Future: Send> + Clone + Send + 'static
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LiterLlmError, Future: Send> + Clone + Send + 'static,
{
    fallback(breaker(limit(PLACES, inner)))
}
