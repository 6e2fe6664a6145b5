//! tower's own layers.

use std::{
    future::{Ready, ready},
    time::Duration,
};

use tower::{
    BoxError, Service, ServiceBuilder,
    balance::p2c::Balance,
    discover::ServiceList,
    hedge::{self, Hedge},
    limit::ConcurrencyLimit,
    load::{CompleteOnResponse, PeakEwma},
    retry::{Policy, Retry},
};

use super::{PLACES, TOTAL};
use crate::subject::Subject;

/// Three attempts, whatever the error: the simplest policy that tower's retry takes.
#[derive(Clone, Debug)]
pub struct Attempts(pub usize);

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
pub fn three<K, S>(
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

pub fn timeout<K, S>(
    inner: S,
) -> impl Service<K::Request, Response = K::Answer, Error = BoxError, Future: Send> + Clone + Send + 'static
where
    K: Subject,
    S: Service<K::Request, Response = K::Answer, Error = K::Error, Future: Send> + Clone + Send + 'static,
{
    ServiceBuilder::new().timeout(TOTAL).service(inner)
}

pub fn limit<S>(places: usize, inner: S) -> ConcurrencyLimit<S> {
    ConcurrencyLimit::new(inner, places)
}

pub fn retry<S: Clone>(inner: S) -> Retry<Attempts, S> {
    Retry::new(Attempts(2), inner)
}

/// Whatever is asked may be asked twice.
#[derive(Clone, Debug)]
pub struct Again;

impl<Q: Clone> hedge::Policy<Q> for Again {
    fn clone_request(&self, request: &Q) -> Option<Q> {
        Some(request.clone())
    }

    fn can_retry(&self, _: &Q) -> bool {
        true
    }
}

/// The 95th percentile of the last minute, and no second call before it is known.
pub fn hedge<K, S>(inner: S) -> impl Service<K::Request, Response = K::Answer, Error = BoxError> + 'static
where
    K: Subject,
    S: Service<K::Request, Response = K::Answer, Error = K::Error> + Clone + 'static,
{
    Hedge::new(inner, Again, u64::MAX, 0.95, Duration::from_secs(60))
}

/// The power of two choices over so many equal services, by tower's peak EWMA with its documented settings.
pub fn balance<K, S>(
    size: usize,
    inner: S,
) -> impl Service<K::Request, Response = K::Answer, Error = BoxError> + 'static
where
    K: Subject,
    S: Service<K::Request, Response = K::Answer, Error = K::Error, Future: Send> + Clone + Send + 'static,
{
    let measured = |_| PeakEwma::new(inner.clone(), Duration::from_secs(1), 10e9, CompleteOnResponse::default());
    let services: Vec<_> = (0..size).map(measured).collect();
    Balance::new(ServiceList::new::<K::Request>(services))
}
