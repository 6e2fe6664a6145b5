use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{ResponseFuture, future::Time, shared::Shared};
use crate::{
    LlmError, LlmRequest, LlmResponse, LlmService,
    layers::{
        call::Call,
        deadline::{self, Deadline},
    },
};

/// A service that rejects calls to a provider that is down. See the [module docs](super).
///
/// Clones share the circuit, as do all services that one layer makes.
#[derive(Clone, Debug)]
pub struct CircuitBreaker<S> {
    inner: S,
    shared: Arc<Shared>,
}

steadfast_core::inner_service!(CircuitBreaker);

impl<S> CircuitBreaker<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl<S> Service<LlmRequest> for CircuitBreaker<S>
where
    S: LlmService + Clone,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: an open circuit rejects at once, whether or not the inner service is ready.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: LlmRequest) -> ResponseFuture<S> {
        if deadline::is_unkept(request.context()) {
            return self.call_in_time(request.clone()).unwrap_or_else(ResponseFuture::rejected);
        }
        let time = Time::of(&request);
        let Some(permit) = self.shared.free_permit(&request) else {
            return self.call_with_care(request.clone());
        };
        ResponseFuture::new(Call::first(&mut self.inner, request), permit, time)
    }
}

impl<S> CircuitBreaker<S>
where
    S: LlmService + Clone,
{
    /// A call to a circuit that is not in good health.
    #[cold]
    fn call_with_care(&mut self, mut request: LlmRequest) -> ResponseFuture<S> {
        let permit = match self.shared.admit(&mut request) {
            Ok(permit) => permit,
            // Made where it stays: the future is large to move.
            Err(refusal) => return ResponseFuture::rejected(refusal),
        };
        let time = Time::of(&request);
        let unkept = deadline::is_unkept(request.context());
        match if unkept { Deadline::keep(&mut request) } else { Ok(None) } {
            Ok(deadline) => ResponseFuture::new(Call::first(&mut self.inner, request), permit, time).until(deadline),
            Err(late) => ResponseFuture::rejected(late),
        }
    }

    /// A call that ends at its deadline.
    #[cold]
    fn call_in_time(&mut self, mut request: LlmRequest) -> Result<ResponseFuture<S>, LlmError> {
        let deadline = Deadline::keep(&mut request)?;
        Ok(self.call(request).until(deadline))
    }
}
