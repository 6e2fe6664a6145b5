use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{
    ResponseFuture,
    ask::{Failover, allot, tier_deadline},
    choose::exclusions,
    core::Core,
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
    core: Arc<ShardedArc<Core<S>>>,
}

steadfast_core::inner_service!(
    Fallback,
    "A change does not reach the service of further calls, which was cloned when the layer was applied."
);

impl<S: Clone> Fallback<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        let core = Core { shared: ShardedArc::new(shared), spare: Spare::new(&inner) };
        Self { inner, core: Arc::new(ShardedArc::new(Arc::new(core))) }
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
        let shared: &Shared = &self.core.shared;
        if let Some(invalid) = &shared.invalid {
            return Some(ResponseFuture::refused(invalid.clone().into()));
        }
        let policy = shared.config.policy(request);
        let excluded = exclusions(&shared.config, request, &policy.terms);
        if shared.is_simple(request, policy) && excluded.is_empty() && request.goes_anywhere() {
            return None;
        }
        Some(match Failover::begin(&self.core.shared.shard(), request, policy, excluded) {
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
        let shared: &Shared = &self.core.shared;
        request.context_mut().prospects.note_acts_on_refusals(shared.acts_on_refusals);
        // A clone, as below.
        if shared.may_act_on_breaks(request.context()) && shared.acts_on_breaks(&request.clone()) {
            request.context_mut().prospects.note_acts_on_breaks();
        }
        if deadline::is_unkept(request.context())
            && let Some(late) = deadline::passed(request.clone().context())
        {
            return ResponseFuture::refused(late);
        }
        shared.config.budget.count(request.context_mut());
        // A clone: the compiler keeps a borrowed value in memory, and copies it wherever it moves.
        if !shared.is_plain(&request)
            && let Some(failing_over) = self.failover(&request.clone())
        {
            return failing_over;
        }
        let after = shared.config.tiers() - 1;
        let tier_deadline = tier_deadline(&shared.config, request.context(), after);
        let mut first = request.clone();
        allot(&shared.config, 0, after, shared.has_models_after, first.context_mut(), tier_deadline);
        let core = self.core.shard();
        ResponseFuture::primary(Call::first(&mut self.inner, first), core, request, tier_deadline)
    }
}

impl<S: Clone> Clone for Fallback<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), core: self.core.clone() }
    }
}

impl<S: fmt::Debug> fmt::Debug for Fallback<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("inner", &self.inner)
            .field("primary", &self.core.shared.config.primary)
            .field("tiers", &self.core.shared.config.tiers)
            .finish_non_exhaustive()
    }
}
