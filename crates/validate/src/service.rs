use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{
    ResponseFuture,
    check::Check,
    settings::{Lookup, Settings},
};
use crate::{LlmError, LlmRequest, LlmResponse, LlmService, call::Call};

/// A service that returns only answers of the requested shape. See the [module docs](super).
///
/// Clones share the compiled schemas.
#[derive(Clone, Debug)]
pub struct Validate<S> {
    inner: S,
    settings: Arc<Settings>,
}

steadfast_core::inner_service!(Validate);

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
        let lookup = match self.settings.schema(&request) {
            Ok(Some(lookup)) => lookup,
            Ok(None) => return ResponseFuture::unchecked(Call::first(&mut self.inner, request)),
            Err(error) => return ResponseFuture::unchecked(Call::failed(error)),
        };
        let check = Check::new(request.clone(), self.settings.clone());
        // A fresh clone was never polled, so that it reserves nothing.
        let again = self.inner.clone();
        match lookup {
            Lookup::Found(schema) => {
                ResponseFuture::checked(Call::first(&mut self.inner, request), again, check, schema)
            }
            Lookup::Compilation(work) => ResponseFuture::compiling(again, check, work),
        }
    }
}
