//! tower-resilience's layers.

use std::time::Duration;

use tower::{Layer, Service};
use tower_resilience::{
    bulkhead::{Bulkhead, BulkheadLayer},
    circuitbreaker::{CircuitBreakerLayer, SlidingWindowType},
    fallback::FallbackLayer,
    retry::RetryLayer,
    timelimiter::TimeLimiterLayer,
};

use super::{LONG, PLACES, TOTAL};
use crate::subject::{Answers, Subject};

/// tower-resilience's five, in the order that its composition guide recommends for clients:
/// fallback, time limit, retry, circuit breaker, bulkhead.
pub fn five<K, S>(
    inner: S,
) -> impl Service<K::Request, Response = K::Answer, Error: Send + 'static, Future: Send> + Clone + Send + 'static
where
    K: Subject,
    S: Service<K::Request, Response = K::Answer, Error = K::Error, Future: Send> + Clone + Send + 'static,
{
    let inner = breaker().layer(bulkhead(PLACES, inner));
    let inner = RetryLayer::builder().max_attempts(3).exponential_backoff(Duration::from_secs(1)).build().layer(inner);
    let inner = TimeLimiterLayer::builder().timeout_duration(TOTAL).build().layer(inner);
    FallbackLayer::tower_service(Answers::<K>::new()).layer(inner)
}

/// tower-resilience's breaker as it stands, but for a trip on five failures in a row, which is our default too.
pub fn breaker() -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder().consecutive_failures(5).wait_duration_in_open(LONG).build().expect("a valid breaker")
}

/// Its default failure model: a rate over the last `size` calls.
pub fn count_window(size: usize) -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder()
        .sliding_window_size(size)
        .wait_duration_in_open(LONG)
        .build()
        .expect("a valid breaker")
}

/// A rate over an hour, so that a benchmark's calls are all within it.
pub fn time_window() -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder()
        .sliding_window_type(SlidingWindowType::TimeBased)
        .sliding_window_duration(LONG)
        .wait_duration_in_open(LONG)
        .build()
        .expect("a valid breaker")
}

pub fn bulkhead<S>(places: usize, inner: S) -> Bulkhead<S> {
    BulkheadLayer::builder().max_concurrent_calls(places).build().expect("a valid bulkhead").layer(inner)
}

/// One that refuses what finds no place.
pub fn refusing_bulkhead<S>(places: usize, inner: S) -> Bulkhead<S> {
    let layer = BulkheadLayer::builder().max_concurrent_calls(places).reject_when_full().build();
    layer.expect("a valid bulkhead").layer(inner)
}

pub fn retry<K, S>(
    inner: S,
) -> impl Service<K::Request, Response = K::Answer, Error: Send, Future: Send> + Clone + Send + 'static
where
    K: Subject,
    S: Service<K::Request, Response = K::Answer, Error = K::Error, Future: Send> + Clone + Send + 'static,
{
    RetryLayer::builder().max_attempts(3).exponential_backoff(Duration::from_secs(1)).build().layer(inner)
}

pub fn timeout<K, S>(
    inner: S,
) -> impl Service<K::Request, Response = K::Answer, Error: Send, Future: Send> + Clone + Send + 'static
where
    K: Subject,
    S: Service<K::Request, Response = K::Answer, Error = K::Error, Future: Send> + Clone + Send + 'static,
{
    TimeLimiterLayer::builder().timeout_duration(TOTAL).build().layer(inner)
}

pub fn fallback<K, S>(
    inner: S,
) -> impl Service<K::Request, Response = K::Answer, Error: Send, Future: Send> + Clone + Send + 'static
where
    K: Subject,
    S: Service<K::Request, Response = K::Answer, Error = K::Error, Future: Send> + Clone + Send + 'static,
{
    FallbackLayer::tower_service(Answers::<K>::new()).layer(inner)
}
