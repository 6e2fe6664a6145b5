//! The rivals' stacks, set up as their documentation says.

use std::{
    future::{Ready, ready},
    time::Duration,
};

use tower::{BoxError, Layer, Service, ServiceBuilder, retry::Policy};
use tower_resilience::{
    bulkhead::BulkheadLayer, circuitbreaker::CircuitBreakerLayer, fallback::FallbackLayer, retry::RetryLayer,
    timelimiter::TimeLimiterLayer,
};

use crate::subject::{Answers, Subject};

/// Room for every call that a benchmark has in flight.
pub const PLACES: usize = 64;
/// Longer than any call here takes.
pub const TOTAL: Duration = Duration::from_secs(90);

/// Three attempts, whatever the error: the simplest policy that tower's retry takes.
#[derive(Clone, Debug)]
pub struct Attempts(usize);

impl<Q: Clone, A, E> Policy<Q, A, E> for Attempts {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Q, result: &mut Result<A, E>) -> Option<Ready<()>> {
        if result.is_ok() || self.0 == 0 {
            return None;
        }
        self.0 -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Q) -> Option<Q> {
        Some(request.clone())
    }
}

/// tower's own timeout, concurrency limit and retry.
pub fn tower_three<K, S>(
    inner: S,
) -> impl Service<K::Request, Response = K::Answer, Error = BoxError, Future: Send> + Clone + Send + 'static
where
    K: Subject,
    S: Service<K::Request, Response = K::Answer, Error = K::Error, Future: Send> + Clone + Send + 'static,
{
    ServiceBuilder::new().timeout(TOTAL).concurrency_limit(PLACES).retry(Attempts(2)).service(inner)
}

/// Five of tower's layers that do nothing but convert an error, here into itself: what five levels cost of themselves.
pub fn nothing_five<K, S>(
    inner: S,
) -> impl Service<K::Request, Response = K::Answer, Error = K::Error, Future: Send> + Clone + Send + 'static
where
    K: Subject,
    S: Service<K::Request, Response = K::Answer, Error = K::Error, Future: Send> + Clone + Send + 'static,
{
    let same = std::convert::identity::<K::Error>;
    let layers = ServiceBuilder::new().map_err(same).map_err(same).map_err(same).map_err(same).map_err(same);
    layers.service(inner)
}

/// tower-resilience's five, in the order that its composition guide recommends for clients:
/// fallback, time limit, retry, circuit breaker, bulkhead.
pub fn resilience_five<K, S>(
    inner: S,
) -> impl Service<K::Request, Response = K::Answer, Error: Send + 'static, Future: Send> + Clone + Send + 'static
where
    K: Subject,
    S: Service<K::Request, Response = K::Answer, Error = K::Error, Future: Send> + Clone + Send + 'static,
{
    let inner = BulkheadLayer::builder().max_concurrent_calls(PLACES).build().expect("a valid bulkhead").layer(inner);
    let inner = breaker().layer(inner);
    let inner = RetryLayer::builder().max_attempts(3).exponential_backoff(Duration::from_secs(1)).build().layer(inner);
    let inner = TimeLimiterLayer::builder().timeout_duration(TOTAL).build().layer(inner);
    FallbackLayer::tower_service(Answers::<K>::new()).layer(inner)
}

/// tower-resilience's breaker as it stands, but for a trip on five failures in a row, which is our default too.
pub fn breaker() -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder()
        .consecutive_failures(5)
        .wait_duration_in_open(Duration::from_secs(3600))
        .build()
        .expect("a valid breaker")
}

/// tower-resilience's breaker with its default window of the last 100 calls.
pub fn windowed_breaker() -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder().wait_duration_in_open(Duration::from_secs(3600)).build().expect("a valid breaker")
}
