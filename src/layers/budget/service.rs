use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{BudgetHandle, ResponseFuture, shared::Shared};
use crate::{
    LlmError, LlmRequest, LlmResponse,
    layers::{call::Call, clock},
};

/// Keeps what is spent under its caps. See the [module docs](super).
///
/// Clones share the caps and all that is counted.
#[derive(Clone, Debug)]
pub struct Budget<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Budget<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// A handle to look at what was spent, and to change limits.
    pub fn handle(&self) -> BudgetHandle {
        BudgetHandle::new(self.shared.clone())
    }
}

impl<S> Service<LlmRequest> for Budget<S>
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone,
    S::Error: Into<LlmError>,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: which caps apply is known only with the request.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, mut request: LlmRequest) -> ResponseFuture<S> {
        match self.shared.admit(&mut request, clock::now()) {
            Ok(holds) => ResponseFuture::goes(Call::first(&mut self.inner, request), holds, self.shared.clone()),
            Err(refused) => ResponseFuture::refused(refused, self.shared.clone()),
        }
    }
}
