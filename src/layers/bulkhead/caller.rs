//! A caller's own limits. They apply inside of the layers that outlive callers, so that a call that goes on holds
//! its caller's place.

use std::{
    error, fmt,
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::{Context, Poll},
};

use pin_project::pin_project;
use tower::{Layer, Service, ServiceExt as _, service_fn};

use super::BulkheadLayer;
use crate::{LlmError, LlmRequest, LlmResponse, LlmService, layers::call::Call};

/// A caller's limits, as an [extension](LlmRequest::with_extension) of each of its requests: a [`CallerBulkhead`]
/// enforces them. Clones are the same limits.
#[derive(Clone, Debug)]
pub struct CallerLimits {
    own: Option<BulkheadLayer>,
    shared: Option<BulkheadLayer>,
}

impl CallerLimits {
    /// Creates limits from this layer, which all requests that bring them share.
    pub fn new(limits: BulkheadLayer) -> Self {
        Self { own: Some(limits), shared: None }
    }

    /// Creates limits from this layer, which several callers share: those of a team whose members have none of their
    /// own.
    pub fn shared(limits: BulkheadLayer) -> Self {
        Self { own: None, shared: Some(limits) }
    }

    /// Adds limits that the caller shares with others. A request takes its own first, so that one caller holds no more
    /// of the others' places than it may.
    #[must_use]
    pub fn within(self, shared: BulkheadLayer) -> Self {
        Self { shared: Some(shared), ..self }
    }

    async fn call<S>(self, service: S, request: LlmRequest) -> Result<LlmResponse, LlmError>
    where
        S: LlmService + Clone,
    {
        let Self { own, shared } = self;
        let reached = |is_shared| CallerLimitReached { is_shared };
        let inner = service_fn(move |request| within(shared.clone(), service.clone(), request, reached(true)));
        within(own, inner, request, reached(false)).await
    }
}

/// Calls a service within limits. Their refusals have `reached` as their source.
async fn within<S>(
    limits: Option<BulkheadLayer>,
    service: S,
    request: LlmRequest,
    reached: CallerLimitReached,
) -> Result<LlmResponse, LlmError>
where
    S: LlmService + Clone,
{
    let Some(limits) = limits else { return service.oneshot(request).await.map_err(Into::into) };
    let passed = AtomicBool::new(false);
    let told = &passed;
    let inner = service_fn(move |request| {
        told.store(true, Relaxed);
        service.clone().oneshot(request)
    });
    let answered = limits.layer(inner).oneshot(request).await;
    answered.map_err(|error| if passed.load(Relaxed) { error } else { error.of_callers_limit().with_source(reached) })
}

/// The source of an error by which a caller's limits refuse a request. If a rate refused, the error knows
/// [when](LlmError::retry_after) it would not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerLimitReached {
    is_shared: bool,
}

impl CallerLimitReached {
    /// Returns true if the limit is one that the caller [shares](CallerLimits::within) with others.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }
}

impl fmt::Display for CallerLimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_shared {
            "a limit that the caller shares with others"
        } else {
            "the caller's own limit"
        })
    }
}

impl error::Error for CallerLimitReached {}

/// Applies [`CallerBulkhead`].
#[derive(Clone, Copy, Debug, Default)]
pub struct CallerBulkheadLayer(());

impl CallerBulkheadLayer {
    /// Creates a layer that keeps no state: each caller's is in its [`CallerLimits`].
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for CallerBulkheadLayer {
    type Service = CallerBulkhead<S>;

    fn layer(&self, inner: S) -> CallerBulkhead<S> {
        CallerBulkhead { inner }
    }
}

/// A service that holds requests to the [`CallerLimits`] that they bring; a request without any passes by at no
/// cost.
///
/// Its place is inside of `Idempotency` and `Cache`. A call that goes on without its caller then keeps its caller's
/// place until it ends, and a repeat that only waits for it takes none. Use one in a stack: a second one would
/// count each request twice.
#[derive(Clone, Debug)]
pub struct CallerBulkhead<S> {
    inner: S,
}

impl<S> Service<LlmRequest> for CallerBulkhead<S>
where
    S: LlmService + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = CallerFuture<S>;

    /// Always ready: only the request decides whose limits apply.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: LlmRequest) -> CallerFuture<S> {
        match request.extensions().get::<CallerLimits>() {
            None => CallerFuture { call: Call::first(&mut self.inner, request), limited: None },
            Some(limits) => {
                // A fresh clone was never polled, so that it reserves nothing.
                let limited = limits.clone().call(self.inner.clone(), request);
                CallerFuture { call: Call::idle(), limited: Some(Box::pin(limited)) }
            }
        }
    }
}

/// The future of [`CallerBulkhead`]. Dropping it gives the place back.
#[pin_project]
pub struct CallerFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    limited: Option<Limited>,
}

type Limited = Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>;

impl<S> Future for CallerFuture<S>
where
    S: LlmService,
{
    type Output = Result<LlmResponse, LlmError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(limited) = this.limited {
            return limited.as_mut().poll(cx);
        }
        let polled = this.call.as_mut().poll(cx);
        if let Poll::Ready(Err(_)) = polled {
            this.call.abandon();
        }
        polled
    }
}

impl<S: Service<LlmRequest>> fmt::Debug for CallerFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("bulkhead::CallerFuture")
            .field("call", &self.call)
            .field("limited", &self.limited.is_some())
            .finish_non_exhaustive()
    }
}
