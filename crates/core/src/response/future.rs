use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crate::{LlmError, LlmResponse};

/// The future of a leaf: it resolves at the commit point of a stream, or with the whole answer.
///
/// Boxed, with a name. Dropping it ends its work; a task that is already stored remains.
#[doc(hidden)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>);

impl ResponseFuture {
    /// Boxes a future.
    pub fn new(future: impl Future<Output = Result<LlmResponse, LlmError>> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for ResponseFuture {
    type Output = Result<LlmResponse, LlmError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
