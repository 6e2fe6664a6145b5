use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{ResponseFuture, Rule, plan::Plan};
use crate::{LlmError, LlmRequest, LlmResponse, LlmService, layers::call::Call};

/// A service that sends simple requests to a cheaper chain. See the [module docs](super).
///
/// Clones share the rules and their services.
#[derive(Clone)]
pub struct Route<S> {
    inner: S,
    plan: Arc<Plan>,
}

steadfast_core::inner_service!(Route);

impl<S> Route<S> {
    pub(super) fn new(inner: S, plan: Arc<Plan>) -> Self {
        Self { inner, plan }
    }
}

impl<S> Service<LlmRequest> for Route<S>
where
    S: LlmService + Clone,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: a chain is made ready when it is its turn.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: LlmRequest) -> ResponseFuture<S> {
        // A request for a person is for none of the models, and a compaction is for those of the conversation.
        let is_for_any = !(request.is_human_required() || request.is_compaction() || request.opaque().is_some());
        let rule = self.plan.rules().position(|rule| is_for_any && rule.fits(&request));
        match rule {
            None => ResponseFuture::default_chain(Call::first(&mut self.inner, request)),
            Some(rule) => ResponseFuture::routed(self.plan.clone(), rule, self.inner.clone(), request),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Route<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<&Rule> = self.plan.rules().collect();
        f.debug_struct("Route").field("inner", &self.inner).field("rules", &rules).finish_non_exhaustive()
    }
}
