//! steadfast's layers, with their defaults.

use std::time::Duration;

use steadfast::{
    BalanceLayer, BulkheadLayer, CircuitBreakerLayer, ErrorKind, FallbackLayer, HedgeLayer, LlmError, LlmRequest,
    LlmResponse, RetryBudget, RetryWithJitterLayer, TimeoutLayer,
    layers::{
        balance::{Deployment, Deployments},
        circuit_breaker::Window,
        retry::Backoff,
    },
};
use tower::{Layer, Service, ServiceBuilder};

use crate::{
    rivals::{PLACES, TOTAL},
    subject::{Answers, Subject},
};

/// The types that steadfast's layers carry.
#[derive(Debug)]
pub enum Llm {}

impl Subject for Llm {
    type Request = LlmRequest;
    type Answer = LlmResponse;
    type Error = LlmError;

    fn request() -> LlmRequest {
        LlmRequest::prompt("Explain closures.").with_feature("chat")
    }

    fn answer() -> LlmResponse {
        LlmResponse::from_text("A function and the variables that it refers to.")
    }

    fn error() -> LlmError {
        LlmError::new(ErrorKind::Server, "the service failed")
    }
}

/// The five in the recommended order: timeout, bulkhead, fallback with one tier behind the primary, retry, breaker.
pub fn five<S>(
    inner: S,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static,
{
    five_with_places(PLACES, inner)
}

/// The five with room for so many calls at once.
pub fn five_with_places<S>(
    places: usize,
    inner: S,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static,
{
    five_with(places, breaker(), inner)
}

/// The five when the primary's circuit is open, so that the tier behind it serves.
pub fn five_past_an_open_circuit<S>(
    inner: S,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static,
{
    let breaker = breaker();
    breaker.handle().force_open();
    five_with(PLACES, breaker, inner)
}

fn five_with<S>(
    places: usize,
    breaker: CircuitBreakerLayer,
    inner: S,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static,
{
    ServiceBuilder::new()
        .layer(TimeoutLayer::new(TOTAL))
        .layer(BulkheadLayer::new().feature("chat", places))
        .layer(FallbackLayer::new("primary").tier("backup", Answers::<Llm>::new()))
        .layer(RetryWithJitterLayer::new())
        .layer(breaker)
        .service(inner)
}

/// The first three of tower's kind: timeout, bulkhead, retry.
pub fn three<S>(
    inner: S,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static,
{
    ServiceBuilder::new()
        .layer(TimeoutLayer::new(TOTAL))
        .layer(BulkheadLayer::new().feature("chat", PLACES))
        .layer(RetryWithJitterLayer::new())
        .service(inner)
}

pub fn breaker() -> CircuitBreakerLayer {
    CircuitBreakerLayer::new("primary").cooldown(Duration::from_secs(3600))
}

/// A share of failures over the last so many calls.
pub fn count_window(calls: u32) -> CircuitBreakerLayer {
    breaker().failure_rate(0.5, Window::last_calls(calls))
}

pub fn bulkhead<S>(places: usize, inner: S) -> steadfast::Bulkhead<S> {
    BulkheadLayer::new().feature("chat", places).layer(inner)
}

/// So many equal deployments.
pub fn balance<S: Clone>(size: usize, inner: S) -> steadfast::Balance<S> {
    let deployments = (0..size).map(|nth| Deployment::new(format!("deployment {nth}"), inner.clone()));
    BalanceLayer::new().layer(Deployments::new(deployments).expect("there are some, and each has its name"))
}

pub fn retry<S: Clone>(inner: S) -> steadfast::RetryWithJitter<S> {
    RetryWithJitterLayer::new().layer(inner)
}

pub fn timeout<S>(inner: S) -> steadfast::Timeout<S> {
    TimeoutLayer::new(TOTAL).layer(inner)
}

pub fn fallback<S: Clone>(inner: S) -> steadfast::Fallback<S> {
    FallbackLayer::new("primary").tier("backup", Answers::<Llm>::new()).layer(inner)
}

/// A second call to the same service after this time. One for each first one is allowed: what is asked here is when it
/// is begun.
pub fn hedge<S: Clone>(delay: Duration, inner: S) -> steadfast::Hedge<S> {
    HedgeLayer::new("primary").after(delay).extra(1.0).layer(inner)
}

/// Retry beneath a bulkhead and a timeout, and nothing that opens: so that it retries until the deadline.
pub fn retrying<S>(
    places: usize,
    inner: S,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static,
{
    let retry = RetryWithJitterLayer::new()
        .max_attempts(u16::MAX)
        .budget(RetryBudget::unlimited())
        .schedule(ErrorKind::Overloaded, Backoff::fixed(Duration::from_millis(20)));
    ServiceBuilder::new()
        .layer(TimeoutLayer::new(TOTAL))
        .layer(BulkheadLayer::new().feature("chat", places))
        .layer(retry)
        .service(inner)
}
