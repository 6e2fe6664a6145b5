use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower::Service;

use super::{
    ResponseFuture,
    layer::Limits,
    silence::{Silence, Watch},
};
use crate::{
    ErrorKind, LlmError, LlmRequest, LlmResponse, LlmService,
    error::TimeoutLimit,
    layers::{
        call::Call,
        clock::{self, Reading},
    },
};

/// A service that bounds the time until the response, and the silences of its body. See the [module docs](super).
///
/// Clones share the usual times of an [adaptive](super::TimeoutLayer::adaptive) layer, and nothing else: each call
/// has a clock of its own.
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
    limits: Limits,
    silence: Option<Arc<Silence>>,
    /// Whether all requests have the same limit, and none is watched.
    is_plain: bool,
}

impl<S> Timeout<S> {
    pub(super) fn new(inner: S, limits: Limits, silence: Option<Arc<Silence>>) -> Self {
        let is_plain = limits.first_token.is_none() && silence.is_none();
        Self { inner, limits, silence, is_plain }
    }
}

impl<S> Service<LlmRequest> for Timeout<S>
where
    S: LlmService + Clone,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: the limit covers the wait for the inner service.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: LlmRequest) -> ResponseFuture<S> {
        if self.is_plain {
            return self.begin(request, TimeoutLimit::Total, self.limits.total, None);
        }
        self.call_by_request(request.clone())
    }
}

impl<S> Timeout<S>
where
    S: LlmService + Clone,
{
    /// A call whose limit depends on its request.
    #[inline(never)]
    fn call_by_request(&mut self, request: LlmRequest) -> ResponseFuture<S> {
        let (limit, after) = match self.limits.first_token {
            Some(first) if first < self.limits.total && request.is_stream() => (TimeoutLimit::FirstToken, first),
            _ => (TimeoutLimit::Total, self.limits.total),
        };
        // Only with another model to go to.
        let silence = self.silence.as_ref().filter(|_| request.context().prospects.can_go_on());
        let watch = silence.map(|silence| Box::new(silence.watch(&request, clock::now())));
        self.begin(request, limit, after, watch)
    }

    #[inline(always)]
    fn begin(
        &mut self,
        mut request: LlmRequest,
        limit: TimeoutLimit,
        after: Duration,
        watch: Option<Box<Watch>>,
    ) -> ResponseFuture<S> {
        let (now, _reading) = Reading::pass_on();
        let context = request.context_mut();
        let own = now.checked_add(after);
        let (limit, deadline) = match (context.deadline, own) {
            (Some(outer), Some(own)) if outer < own => (TimeoutLimit::Deadline, Some(outer)),
            (Some(outer), None) => (TimeoutLimit::Deadline, Some(outer)),
            _ => (limit, own),
        };
        context.deadline = deadline;
        context.prospects.note_leaves_deadline(false);
        context.begun.get_or_insert(now);
        if limit == TimeoutLimit::Deadline && deadline.is_some_and(|at| at < now) {
            let passed = LlmError::new(ErrorKind::Deadline, "the deadline had passed before the call");
            return ResponseFuture::new(Call::failed(passed), deadline, now, limit, self.limits.idle, None);
        }
        ResponseFuture::new(Call::first(&mut self.inner, request), deadline, now, limit, self.limits.idle, watch)
    }
}
