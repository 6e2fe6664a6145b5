use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{ResponseFuture, check::Check, layer::Settings};
use crate::{LlmError, LlmRequest, LlmResponse, LlmService, layers::call::Call};

/// A service that returns only answers of the requested shape. See the [module docs](super).
///
/// Clones share the compiled schemas.
#[derive(Clone, Debug)]
pub struct Validate<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> Validate<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }
}

impl<S> Service<LlmRequest> for Validate<S>
where
    S: LlmService + Clone,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: the future waits for the inner service.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> ResponseFuture<S> {
        match self.settings.schema(&request) {
            Ok(None) => ResponseFuture::unchecked(Call::first(&mut self.inner, request)),
            Ok(Some(schema)) => {
                let check = Check::new(request.clone(), schema, self.settings.clone());
                // A fresh clone was never polled, so that it reserves nothing.
                let again = self.inner.clone();
                ResponseFuture::checked(Call::first(&mut self.inner, request), again, check)
            }
            Err(error) => ResponseFuture::unchecked(Call::failed(error)),
        }
    }
}
