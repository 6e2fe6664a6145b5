use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use tower::Service;

use super::{
    ResponseFuture,
    future::FirstCall,
    settings::{SecondTarget, Settings},
    state::State,
};
use crate::{
    LlmError, LlmRequest, LlmResponse, LlmService,
    layers::{
        call::{Call, Spare},
        clock::Reading,
        deadline::{self, Deadline},
        totals::count,
    },
};

/// A service that sends a second call if the first is late. See the [module docs](super).
///
/// Clones share the observed times, the share of extra calls and the totals.
pub struct Hedge<S> {
    inner: S,
    shared: Arc<Shared<S>>,
}

steadfast_core::inner_service!(
    Hedge,
    "A change does not reach the service of further calls, which was cloned when the layer was applied."
);

/// The state that all clones and their futures share.
pub(super) struct Shared<S> {
    pub(super) settings: Arc<Settings>,
    pub(super) state: Arc<State>,
    /// `None` if second calls go to another tier.
    pub(super) spare: Option<Spare<S>>,
}

impl<S: Clone> Hedge<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>, state: Arc<State>) -> Self {
        let spare = matches!(settings.second, SecondTarget::Same).then(|| Spare::new(&inner));
        Self { inner, shared: Arc::new(Shared { settings, state, spare }) }
    }
}

impl<S> Service<LlmRequest> for Hedge<S>
where
    S: LlmService + Clone,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: each call waits for its service by itself.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, mut request: LlmRequest) -> ResponseFuture<S> {
        if deadline::is_unkept(request.context()) {
            return self.call_in_time(request.clone());
        }
        let shared = self.shared.clone();
        let Shared { settings, state, .. } = &*shared;
        settings.budget.count(request.context_mut());
        let (now, _reading) = Reading::pass_on();
        let first = if settings.may_hedge(&request) {
            settings.extra.deposit();
            let counts = &state.counts;
            count(&counts.calls);
            let kept = request.clone();
            // Reserve one attempt for the second call.
            let context = request.context_mut();
            context.attempts_left -= 1;
            let delay = state.observed(kept.is_stream()).delay(settings);
            let at = delay.and_then(|delay| now.checked_add(delay));
            let at = at.filter(|at| context.deadline.is_none_or(|deadline| *at < deadline));
            Some(FirstCall { request: kept, begun: now, at, answers: counts.answers.load(Relaxed) })
        } else {
            None
        };
        ResponseFuture::new(Call::first(&mut self.inner, request), shared, first)
    }
}

impl<S> Hedge<S>
where
    S: LlmService + Clone,
{
    /// A call that ends at its deadline. A race goes by the deadline itself, for both of its calls.
    #[cold]
    fn call_in_time(&mut self, mut request: LlmRequest) -> ResponseFuture<S> {
        match Deadline::keep(&mut request) {
            Ok(deadline) => self.call(request).until(deadline),
            Err(late) => ResponseFuture::new(Call::failed(late), self.shared.clone(), None),
        }
    }
}

impl<S: Clone> Clone for Hedge<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: self.shared.clone() }
    }
}

impl<S: fmt::Debug> fmt::Debug for Hedge<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge").field("inner", &self.inner).field("settings", &self.shared.settings).finish()
    }
}
