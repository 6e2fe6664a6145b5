//! seatbelt's layers, as tower services, on a clock of tokio's.

use std::time::Duration;

use seatbelt::{
    RecoveryInfo, ResilienceContext,
    breaker::{Breaker, BreakerId, HalfOpenMode},
    fallback::Fallback,
    hedging::Hedging,
    retry::Retry,
    timeout::Timeout,
};
use tick::Clock;
use tower::{Layer, Service};

use super::{LONG, TOTAL};
use crate::subject::Subject;

pub type Context<K> = ResilienceContext<<K as Subject>::Request, Result<<K as Subject>::Answer, <K as Subject>::Error>>;

/// The bounds of its layers on the service that they wrap.
pub trait Wrapped<K: Subject>:
    Service<K::Request, Response = K::Answer, Error = K::Error, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<K, S> Wrapped<K> for S
where
    K: Subject,
    S: Service<K::Request, Response = K::Answer, Error = K::Error, Future: Send> + Clone + Send + Sync + 'static,
{
}

/// Needs the context of a tokio runtime, on which the clock's timers are driven.
pub fn context<K: Subject>() -> Context<K> {
    ResilienceContext::new(Clock::new_tokio())
}

/// Whatever is an error is worth another try.
pub fn recovery<A, E>(result: &Result<A, E>) -> RecoveryInfo {
    if result.is_ok() { RecoveryInfo::never() } else { RecoveryInfo::retry() }
}

/// The breaker opens on a share of failures, of at least so many calls within 30 s: the nearest to five in a row.
pub fn breaker<K, S>(context: &Context<K>, inner: S) -> Breaker<K::Request, Result<K::Answer, K::Error>, S>
where
    K: Subject,
    S: Wrapped<K>,
{
    Breaker::layer("breaker", context)
        .recovery_with(|result, _| recovery(result))
        .rejected_input_error(|_, _| K::error())
        .min_throughput(5)
        .break_duration(LONG)
        .half_open_mode(HalfOpenMode::quick())
        .layer(inner)
}

/// A breaker for each of these keys.
pub fn keyed_breaker<K, S>(
    context: &Context<K>,
    key: impl Fn(&K::Request) -> BreakerId + Send + Sync + 'static,
    inner: S,
) -> Breaker<K::Request, Result<K::Answer, K::Error>, S>
where
    K: Subject,
    S: Wrapped<K>,
{
    Breaker::layer("breaker", context)
        .recovery_with(|result, _| recovery(result))
        .rejected_input_error(|_, _| K::error())
        .breaker_id(key)
        .layer(inner)
}

pub fn retry<K, S>(context: &Context<K>, inner: S) -> Retry<K::Request, Result<K::Answer, K::Error>, S>
where
    K: Subject,
    S: Wrapped<K>,
{
    Retry::layer("retry", context)
        .clone_input()
        .recovery_with(|result, _| recovery(result))
        .max_retry_attempts(2)
        .base_delay(Duration::from_secs(1))
        .layer(inner)
}

/// One that waits no time worth the name.
pub fn quick_retry<K, S>(context: &Context<K>, inner: S) -> Retry<K::Request, Result<K::Answer, K::Error>, S>
where
    K: Subject,
    S: Wrapped<K>,
{
    Retry::layer("retry", context)
        .clone_input()
        .recovery_with(|result, _| recovery(result))
        .base_delay(Duration::from_millis(1))
        .layer(inner)
}

pub fn hedging<K, S>(
    context: &Context<K>,
    delay: Duration,
    inner: S,
) -> Hedging<K::Request, Result<K::Answer, K::Error>, S>
where
    K: Subject,
    S: Wrapped<K>,
{
    Hedging::layer("hedging", context)
        .clone_input()
        .recovery_with(|result, _| recovery(result))
        .hedging_delay(delay)
        .layer(inner)
}

pub fn timeout<K, S>(context: &Context<K>, inner: S) -> Timeout<K::Request, Result<K::Answer, K::Error>, S>
where
    K: Subject,
    S: Wrapped<K>,
{
    Timeout::layer("timeout", context).timeout(TOTAL).timeout_error(|_| K::error()).layer(inner)
}

pub fn fallback<K, S>(context: &Context<K>, inner: S) -> Fallback<K::Request, Result<K::Answer, K::Error>, S>
where
    K: Subject,
    S: Wrapped<K>,
{
    Fallback::layer("fallback", context)
        .should_fallback(|result: &Result<_, _>| result.is_err())
        .fallback(|_, _| Ok(K::answer()))
        .layer(inner)
}

/// Its four in the order that its documentation recommends: fallback, retry, breaker, timeout. It has no bulkhead.
pub fn four<K, S>(inner: S) -> impl Wrapped<K>
where
    K: Subject,
    S: Wrapped<K>,
{
    let context = context::<K>();
    let inner = breaker::<K, _>(&context, timeout::<K, _>(&context, inner));
    fallback::<K, _>(&context, retry::<K, _>(&context, inner))
}
