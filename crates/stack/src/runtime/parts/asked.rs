//! The tier that a request waits for, told to whoever sent it.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use steadfast::{LlmError, LlmRequest, LlmResponse};
use steadfast_internal::sync::{Mutex, lock};
use tokio::time::Instant;
use tower::Service;

/// The tier that a request was sent to last, and when: an extension of the [`LlmRequest`]. It tells where a caller that
/// has left was waiting. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct AskedTier {
    last: Arc<Mutex<Option<Call>>>,
}

/// A tier's name, and the moment at which it was asked.
type Call = (Arc<str>, Instant);

impl AskedTier {
    /// Returns the name of the tier and the moment at which it was asked; `None` before any was.
    pub fn last(&self) -> Option<(Arc<str>, Instant)> {
        lock(&self.last).clone()
    }
}

/// Notes in a request's [`AskedTier`] that it has come to this tier.
#[derive(Clone, Debug)]
pub(crate) struct Asked<S> {
    inner: S,
    tier: Arc<str>,
}

impl<S> Asked<S> {
    pub(crate) fn new(inner: S, tier: Arc<str>) -> Self {
        Self { inner, tier }
    }
}

impl<S> Service<LlmRequest> for Asked<S>
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError>,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: LlmRequest) -> S::Future {
        if let Some(asked) = request.extensions().get::<AskedTier>() {
            *lock(&asked.last) = Some((self.tier.clone(), Instant::now()));
        }
        self.inner.call(request)
    }
}
