use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{ResponseFuture, policy::Policy, shared::Shared};
use crate::{
    LlmError, LlmRequest, LlmResponse, LlmService,
    internal::sharded::ShardedArc,
    layers::{
        call::{Call, Spare},
        deadline::{self, Deadline},
    },
};

/// A service that repeats calls after transient failures. See the [module docs](super).
///
/// Clones share the retry budget and the source of randomness; the attempts are counted for each request.
pub struct RetryWithJitter<S> {
    inner: S,
    shared: Arc<ShardedArc<Shared<S>>>,
}

steadfast_core::inner_service!(
    RetryWithJitter,
    "A change does not reach the service of further calls, which was cloned when the layer was applied."
);

impl<S: Clone> RetryWithJitter<S> {
    pub(super) fn new(inner: S, policy: Policy) -> Self {
        let shared = Shared { policy, spare: Spare::new(&inner) };
        Self { inner, shared: Arc::new(ShardedArc::new(Arc::new(shared))) }
    }
}

impl<S> Service<LlmRequest> for RetryWithJitter<S>
where
    S: LlmService + Clone,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: each attempt waits for the inner service by itself.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, mut request: LlmRequest) -> ResponseFuture<S> {
        if deadline::is_unkept(request.context()) {
            return self.call_in_time(request.clone());
        }
        let shared = self.shared.shard();
        shared.policy.budget.count(request.context_mut());
        request.context_mut().prospects.note_acts_on_refusals(shared.policy.acts_on_refusals);
        let first = request.clone();
        ResponseFuture::new(Call::first(&mut self.inner, first), request, shared)
    }
}

impl<S> RetryWithJitter<S>
where
    S: LlmService + Clone,
{
    /// A call whose first attempt ends at its deadline, too.
    #[cold]
    fn call_in_time(&mut self, mut request: LlmRequest) -> ResponseFuture<S> {
        match Deadline::keep(&mut request) {
            Ok(deadline) => self.call(request).until(deadline),
            Err(late) => ResponseFuture::new(Call::failed(late), request, self.shared.shard()),
        }
    }
}

impl<S: Clone> Clone for RetryWithJitter<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: self.shared.clone() }
    }
}

impl<S: fmt::Debug> fmt::Debug for RetryWithJitter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryWithJitter").field("inner", &self.inner).field("policy", &self.shared.policy).finish()
    }
}
