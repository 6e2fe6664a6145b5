use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{BudgetHandle, ResponseFuture, shared::Shared};
use crate::{
    LlmError, LlmRequest, LlmResponse, LlmService,
    layers::{call::Call, clock, draft::View},
};

/// A service that keeps spending under its caps. See the [module docs](super).
///
/// Clones share the caps and all amounts.
#[derive(Clone, Debug)]
pub struct Budget<S> {
    inner: S,
    shared: Arc<Shared>,
}

steadfast_core::inner_service!(Budget);

impl<S> Budget<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// Returns a handle to read the amounts, and to change limits.
    pub fn handle(&self) -> BudgetHandle {
        BudgetHandle::new(View::Settled(self.shared.clone()))
    }
}

impl<S> Service<LlmRequest> for Budget<S>
where
    S: LlmService + Clone,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: only the request decides which caps apply.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, mut request: LlmRequest) -> ResponseFuture<S> {
        match self.shared.admit(&mut request, clock::now()) {
            Ok(reservation) => {
                ResponseFuture::goes(Call::first(&mut self.inner, request), reservation, self.shared.clone())
            }
            Err(refused) => ResponseFuture::refused(refused, self.shared.clone()),
        }
    }
}
