//! failsafe's and recloser's breakers, which are no tower services, as services.

use std::task::{Context, Poll};

use failsafe::{Config, backoff, failure_policy};
use recloser::{AsyncRecloser, Recloser};
use tower::Service;

use super::LONG;

#[derive(Clone)]
pub struct Reclosed<S> {
    pub inner: S,
    pub breaker: AsyncRecloser,
}

impl<S, R> Service<R> for Reclosed<S>
where
    S: Service<R>,
{
    type Response = S::Response;
    type Error = recloser::Error<S::Error>;
    type Future = recloser::RecloserFuture<S::Future, recloser::AnyError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(recloser::Error::Inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.breaker.call(self.inner.call(request))
    }
}

#[derive(Clone)]
pub struct Failsafe<S, B> {
    pub inner: S,
    pub breaker: B,
}

impl<S, B, R> Service<R> for Failsafe<S, B>
where
    S: Service<R>,
    B: failsafe::futures::CircuitBreaker,
{
    type Response = S::Response;
    type Error = failsafe::Error<S::Error>;
    type Future = failsafe::futures::ResponseFuture<S::Future, B::FailurePolicy, B::Instrument, failsafe::Any>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(failsafe::Error::Inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.breaker.call(self.inner.call(request))
    }
}

/// Its default: half of the last hundred calls.
pub fn recloser<S>(inner: S) -> Reclosed<S> {
    let breaker = Recloser::custom().open_wait(LONG).build();
    Reclosed { inner, breaker: AsyncRecloser::from(breaker) }
}

/// A share of failures over the last so many calls.
pub fn recloser_window<S>(calls: usize, inner: S) -> Reclosed<S> {
    let breaker = Recloser::custom().closed_len(calls).open_wait(LONG).build();
    Reclosed { inner, breaker: AsyncRecloser::from(breaker) }
}

pub fn failsafe<S>(inner: S) -> Failsafe<S, impl failsafe::futures::CircuitBreaker + Clone + Send + Sync> {
    let policy = failure_policy::consecutive_failures(5, backoff::constant(LONG));
    Failsafe { inner, breaker: Config::new().failure_policy(policy).build() }
}
