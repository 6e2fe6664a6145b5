use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project::{pin_project, pinned_drop};
use tower::Service;

use super::reporter::Watch;
use crate::{LlmError, LlmRequest, LlmResponse, LlmService, layers::call::Call};

/// The future of [`Observe`](super::Observe).
///
/// Dropping it before it was ready drops the call, and reports the request as abandoned.
#[pin_project(PinnedDrop)]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    /// Held until the response is there; `None` if there is no subscriber.
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

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // Change the response in place: it moves often enough on its way up.
        let unwinding = ReportPanic(this.watch);
        let mut polled = this.call.as_mut().poll(cx);
        mem::forget(unwinding);
        let Poll::Ready(result) = &mut polled else { return Poll::Pending };
        if result.is_err() {
            this.call.abandon();
        }
        if let Some(watch) = this.watch.take() {
            match result {
                Ok(response) => watch.answered(response),
                Err(error) => watch.failed(error),
            }
        }
        polled
    }
}

/// Reports a panic of the call as it unwinds. Whoever catches it may drop the future later, as if its caller had left.
struct ReportPanic<'a>(&'a mut Option<Watch>);

impl Drop for ReportPanic<'_> {
    fn drop(&mut self) {
        if let Some(watch) = self.0.take() {
            watch.panicked();
        }
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
        f.debug_struct("observe::ResponseFuture").field("call", &self.call).finish_non_exhaustive()
    }
}
