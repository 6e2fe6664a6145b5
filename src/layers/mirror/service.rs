use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{ResponseFuture, settings::Settings, shadow};
use crate::{
    LlmError, LlmRequest, LlmResponse, LlmService,
    layers::{call::Call, clock},
};

/// A service that also sends a share of the requests to a candidate, and compares the answers. See the [module
/// docs](super).
///
/// Clones share the candidate and the places for its calls.
#[derive(Clone)]
pub struct Mirror<S> {
    inner: S,
    settings: Arc<Settings>,
}

steadfast_core::inner_service!(Mirror);

impl<S> Mirror<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }
}

impl<S> Mirror<S>
where
    S: LlmService + Clone,
{
    #[cold]
    fn mirrored(&mut self, request: LlmRequest) -> ResponseFuture<S> {
        let begun = clock::now();
        let copy = request.clone();
        // Start the caller's own call first.
        let call = Call::first(&mut self.inner, request);
        ResponseFuture::new(call, shadow::begin(&self.settings, copy, begun))
    }
}

impl<S> Service<LlmRequest> for Mirror<S>
where
    S: LlmService + Clone,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: the future waits for the inner service, and the task for the candidate.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: LlmRequest) -> ResponseFuture<S> {
        if self.settings.choice.takes(&request) {
            return self.mirrored(request);
        }
        ResponseFuture::new(Call::first(&mut self.inner, request), None)
    }
}

impl<S: fmt::Debug> fmt::Debug for Mirror<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror").field("inner", &self.inner).field("settings", &self.settings).finish()
    }
}
