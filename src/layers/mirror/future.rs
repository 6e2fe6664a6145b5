use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project::{pin_project, pinned_drop};
use tower::Service;

use super::primary::Watch;
use crate::{LlmError, LlmRequest, LlmResponse, LlmService, layers::call::Call};

/// The future of [`Mirror`](super::Mirror).
///
/// Dropping it before it was ready drops the call. The candidate's call goes on, and the comparison reports that
/// the caller left.
#[pin_project(PinnedDrop)]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    /// Held until the response is there; `None` if the request is not mirrored.
    watch: Option<Watch>,
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    #[inline]
    pub(super) fn new(call: Call<S, S::Future>, watch: Option<Watch>) -> Self {
        Self { call, watch }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: LlmService,
{
    type Output = Result<LlmResponse, LlmError>;

    /// # Panics
    ///
    /// Panics if polled after it was ready.
    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut result = ready!(this.call.as_mut().poll(cx));
        if result.is_err() {
            this.call.abandon();
        }
        if let Some(watch) = this.watch.take() {
            match &mut result {
                Ok(response) => watch.answered(response),
                Err(error) => watch.failed(error),
            }
        }
        Poll::Ready(result)
    }
}

#[pinned_drop]
impl<S: Service<LlmRequest>> PinnedDrop for ResponseFuture<S> {
    #[inline]
    fn drop(self: Pin<&mut Self>) {
        if let Some(watch) = self.project().watch.take() {
            watch.abandoned();
        }
    }
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("mirror::ResponseFuture").field("call", &self.call).finish_non_exhaustive()
    }
}
