use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{ResponseFuture, policy::Policy};
use crate::{LlmError, LlmRequest, LlmResponse, layers::call::Call};

/// Repeats calls that failed in passing. See the [module docs](super).
///
/// Clones share the retry budget and the source of randomness; the attempts are counted for each request.
#[derive(Clone, Debug)]
pub struct RetryWithJitter<S> {
    inner: S,
    policy: Arc<Policy>,
}

impl<S> RetryWithJitter<S> {
    pub(super) fn new(inner: S, policy: Arc<Policy>) -> Self {
        Self { inner, policy }
    }
}

impl<S> Service<LlmRequest> for RetryWithJitter<S>
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone,
    S::Error: Into<LlmError>,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: each attempt waits for the inner service by itself.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: LlmRequest) -> ResponseFuture<S> {
        let budget = &self.policy.budget;
        let context = request.context_mut();
        if context.counted_in != budget.id() {
            context.counted_in = budget.id();
            budget.deposit();
        }
        let again = (self.inner.clone(), request.clone());
        ResponseFuture::new(Call::first(&mut self.inner, request), again, self.policy.clone())
    }
}
