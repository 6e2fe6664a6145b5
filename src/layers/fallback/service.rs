use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{
    ResponseFuture, exclusion,
    failover::{self, Failover},
    shared::Shared,
};
use crate::{
    LlmError, LlmRequest, LlmResponse, LlmService,
    internal::sharded::ShardedArc,
    layers::{
        call::{Call, Spare},
        clock::Reading,
        deadline,
    },
};

/// A service that asks other tiers if the primary cannot answer. See the [module docs](super).
///
/// Clones are the same fallback.
pub struct Fallback<S> {
    inner: S,
    shared: Arc<ShardedArc<Shared>>,
    /// The primary once more, for a request that comes back to it after a rate limit.
    spare: Arc<Spare<S>>,
}

impl<S: Clone> Fallback<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        let spare = Arc::new(Spare::new(&inner));
        Self { inner, shared: Arc::new(ShardedArc::new(shared)), spare }
    }
}

impl<S> Fallback<S>
where
    S: LlmService + Clone,
{
    /// Returns the future of a request that does not simply go to the primary, with all tiers after it; `None` if
    /// it does.
    #[inline(never)]
    fn failover(&self, request: &LlmRequest) -> Option<ResponseFuture<S>> {
        let shared: &Shared = &self.shared;
        let policy = shared.policy(request);
        let excluded = exclusion::exclusions(shared, request, &policy.terms);
        if shared.is_simple(request, policy) && excluded.is_empty() && request.goes_anywhere() {
            return None;
        }
        Some(match Failover::begin(&self.shared.shard(), request, policy, excluded) {
            Ok(failover) => ResponseFuture::failing_over(failover, self.inner.clone()),
            Err(error) => ResponseFuture::refused(error),
        })
    }
}

impl<S> Service<LlmRequest> for Fallback<S>
where
    S: LlmService + Clone,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: a tier is made ready when it is its turn.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, mut request: LlmRequest) -> ResponseFuture<S> {
        // The request's time begins here: it may have waited since it entered a layer further out.
        let (now, _reading) = Reading::pass_on();
        request.context_mut().begun = Some(now);
        request.context_mut().prospects.note_acts_on_refusals(self.shared.acts_on_refusals);
        if deadline::is_unkept(request.context())
            && let Some(late) = deadline::passed(request.clone().context())
        {
            return ResponseFuture::refused(late);
        }
        self.shared.config.budget.count(request.context_mut());
        // A clone: the compiler keeps a borrowed value in memory, and copies it wherever it moves.
        if !self.shared.is_plain(&request)
            && let Some(failing_over) = self.failover(&request.clone())
        {
            return failing_over;
        }
        let shared = self.shared.shard();
        let after = shared.tiers() - 1;
        let tier_deadline = failover::tier_deadline(&shared, request.context(), after);
        let mut first = request.clone();
        failover::allot(&shared, 0, after, shared.has_models_after, first.context_mut(), tier_deadline);
        let spare = request.waits_for_rate_limits().then(|| self.spare.clone());
        ResponseFuture::primary(Call::first(&mut self.inner, first), shared, request, tier_deadline, spare)
    }
}

impl<S: Clone> Clone for Fallback<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: self.shared.clone(), spare: self.spare.clone() }
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
