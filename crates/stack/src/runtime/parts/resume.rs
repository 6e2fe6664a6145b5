//! Conversations that a provider's account keeps too.
//!
//! A request that continues a kept response carries the whole conversation, which any tier can serve. Beside it, it
//! carries a [`Continuation`]: the shorter form for the one account that keeps the conversation itself. This layer is
//! just outside each tier's leaf, so that each attempt decides again. A tier of that account gets the shorter form. If
//! the account refuses it, since it has lost the conversation or never keeps any, the same attempt goes on with the
//! whole one: the circuit breaker and the retries outside see no failure of the shorter form's.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use pin_project::pin_project;
use steadfast::{ErrorKind, LlmError, LlmRequest, LlmResponse};
use tower::{Layer, Service, ServiceExt};

/// A shorter form of a request for the account that keeps its conversation: an extension of the [`LlmRequest`].
#[derive(Clone, Debug)]
pub struct Continuation {
    /// The account's [fingerprint](crate::StackHandle::account).
    pub account: Arc<str>,
    /// The body with the whole conversation. A layer that changed the content has made another request of it, and the
    /// short form no longer holds.
    pub whole: Bytes,
    /// The body for the account.
    pub body: Bytes,
}

/// Adds [`Resume`] to the leaf of a tier.
#[derive(Clone, Debug)]
pub(crate) struct ResumeLayer {
    account: Option<Arc<str>>,
}

impl ResumeLayer {
    /// Creates the layer for a tier of this account; `None` for a provider that keeps no conversations.
    pub(crate) fn new(account: Option<Arc<str>>) -> Self {
        Self { account }
    }
}

impl<S> Layer<S> for ResumeLayer {
    type Service = Resume<S>;

    fn layer(&self, inner: S) -> Resume<S> {
        Resume { inner, account: self.account.clone() }
    }
}

/// Sends the shorter form of a request to the account that keeps its conversation. See the [module docs](self).
///
/// Clones share nothing but the account's name.
#[derive(Clone, Debug)]
pub(crate) struct Resume<S> {
    inner: S,
    account: Option<Arc<str>>,
}

impl<S> Resume<S> {
    /// Returns the short form of a request, if this account keeps its conversation.
    fn short(&self, request: &LlmRequest) -> Option<LlmRequest> {
        let account = self.account.as_ref()?;
        let continuation = request.extensions().get::<Continuation>().filter(|found| found.account == *account)?;
        let body = request.wire()?.body();
        let is_unchanged = body.as_ptr() == continuation.whole.as_ptr() && body.len() == continuation.whole.len();
        is_unchanged.then(|| request.clone().with_wire_body(continuation.body.clone()).ok())?
    }
}

impl<S> Service<LlmRequest> for Resume<S>
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send + 'static> + Clone + Send + 'static,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResumeFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        let Some(short) = self.short(&request) else { return ResumeFuture::Direct(self.inner.call(request)) };
        let (first, again) = (self.inner.call(short), self.inner.clone());
        ResumeFuture::Resumed(Box::pin(async move {
            match first.await {
                // An account says in many ways that it lacks a conversation; if the request is wrong itself, the whole
                // form fails too.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidRequest) => {
                    let response = again.oneshot(request).await?;
                    Ok(response.with_note(
                        "previous_response_id: the provider lacks the conversation, and got the whole of it",
                    ))
                }
                outcome => outcome,
            }
        }))
    }
}

/// The future of [`Resume`].
#[pin_project(project = ResumeProjection)]
pub(crate) enum ResumeFuture<F> {
    Direct(#[pin] F),
    Resumed(Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>> + Send>>),
}

impl<F: Future<Output = Result<LlmResponse, LlmError>>> Future for ResumeFuture<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            ResumeProjection::Direct(call) => call.poll(cx),
            ResumeProjection::Resumed(call) => call.as_mut().poll(cx),
        }
    }
}

#[cfg(test)]
mod tests;
