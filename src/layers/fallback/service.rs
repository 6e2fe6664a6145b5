use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{AllOpen, ResponseFuture, shared::Shared, walk::Walk};
use crate::{LlmError, LlmRequest, LlmResponse, layers::call::Call};

/// Asks other tiers when the primary cannot answer. See the [module docs](super).
///
/// Clones are the same fallback.
pub struct Fallback<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Fallback<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl<S> Service<LlmRequest> for Fallback<S>
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone,
    S::Error: Into<LlmError>,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: a tier is made ready when it is its turn.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> ResponseFuture<S> {
        let walk = match Walk::begin(&self.shared, &request) {
            Ok(walk) => walk,
            Err(error) => return ResponseFuture::refused(error),
        };
        if walk.at() != 0 {
            return ResponseFuture::elsewhere(walk, self.inner.clone());
        }
        let again = match self.shared.config.all_open {
            AllOpen::Fail => None,
            AllOpen::Wait(_) => Some(self.inner.clone()),
        };
        ResponseFuture::primary(Call::first(&mut self.inner, walk.request()), walk, again)
    }
}

impl<S: Clone> Clone for Fallback<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: self.shared.clone() }
    }
}

impl<S: fmt::Debug> fmt::Debug for Fallback<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("inner", &self.inner)
            .field("primary", &self.shared.config.primary)
            .field("tiers", &self.shared.config.tiers)
            .finish_non_exhaustive()
    }
}
