use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{
    ResponseFuture,
    reporter::{Reporter, Watch},
};
use crate::{
    LlmError, LlmRequest, LlmResponse, LlmService,
    internal::sharded::ShardedArc,
    layers::{call::Call, clock::Reading},
};

/// A service that reports each request's end. See the [module docs](super).
///
/// Clones send to the same channel.
pub struct Observe<S> {
    inner: S,
    pub(super) reporter: Arc<ShardedArc<Reporter>>,
}

steadfast_core::inner_service!(Observe);

impl<S> Observe<S> {
    pub(super) fn new(inner: S, reporter: Arc<ShardedArc<Reporter>>) -> Self {
        Self { inner, reporter }
    }
}

impl<S> Service<LlmRequest> for Observe<S>
where
    S: LlmService + Clone,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: the time that the inner service takes to become ready is part of the report.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, mut request: LlmRequest) -> ResponseFuture<S> {
        // Take the reading with or without a subscriber: an inner layer that would read the clock uses it.
        let (begun, _reading) = Reading::pass_on();
        request.context_mut().begun.get_or_insert(begun);
        let watch = self.reporter.is_heard().then(|| Watch::new(self.reporter.shard(), &request, begun));
        ResponseFuture::new(Call::first(&mut self.inner, request), watch)
    }
}

impl<S: Clone> Clone for Observe<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), reporter: self.reporter.clone() }
    }
}

impl<S: fmt::Debug> fmt::Debug for Observe<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observe").field("inner", &self.inner).field("reporter", self.reporter.value()).finish()
    }
}
