use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project::pin_project;
use tower::Service;

use super::{IdempotencyHandle, ask, key::KeyedInput, settings::Settings};
use crate::{LlmError, LlmRequest, LlmResponse, LlmService, call::Call};

/// A service that answers each key once. See the [module docs](super).
///
/// Clones share the records, and the calls under way.
#[derive(Clone, Debug)]
pub struct Idempotency<S> {
    inner: S,
    settings: Settings,
    handle: IdempotencyHandle,
}

steadfast_core::inner_service!(Idempotency);

impl<S> Idempotency<S> {
    pub(super) fn new(inner: S, settings: Settings, handle: IdempotencyHandle) -> Self {
        Self { inner, settings, handle }
    }

    /// Returns a handle that watches the calls, and ends them.
    pub fn handle(&self) -> IdempotencyHandle {
        self.handle.clone()
    }
}

impl<S> Service<LlmRequest> for Idempotency<S>
where
    S: LlmService + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: only the request decides whether the inner service is needed.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> ResponseFuture<S> {
        match KeyedInput::of(&request, self.settings.derive) {
            None => ResponseFuture { call: Call::first(&mut self.inner, request), keyed: None },
            Some(same) => {
                // A fresh clone was never polled, so that it reserves nothing.
                let (service, settings, handle) = (self.inner.clone(), self.settings, self.handle.clone());
                let asks = ask::answer_under_key(same, service, request, settings, handle);
                ResponseFuture { call: Call::idle(), keyed: Some(Box::pin(asks)) }
            }
        }
    }
}

/// The future of [`Idempotency`].
///
/// Dropping it drops the call of a request without a key. A call under a key goes on: see the [module docs](super).
#[pin_project]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    keyed: Option<Asking>,
}

type Asking = Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>;

impl<S> Future for ResponseFuture<S>
where
    S: LlmService,
{
    type Output = Result<LlmResponse, LlmError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(keyed) = this.keyed {
            return keyed.as_mut().poll(cx);
        }
        let polled = this.call.as_mut().poll(cx);
        if let Poll::Ready(Err(_)) = polled {
            this.call.abandon();
        }
        polled
    }
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("idempotency::ResponseFuture")
            .field("call", &self.call)
            .field("keyed", &self.keyed.is_some())
            .finish_non_exhaustive()
    }
}
