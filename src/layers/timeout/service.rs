use std::task::{Context, Poll};

use tower::Service;

use super::{ResponseFuture, layer::Limits};
use crate::{
    ErrorKind, LlmError, LlmRequest, LlmResponse,
    error::TimeoutLimit,
    layers::{call::Call, clock},
};

/// Bounds the time until the response, and the silences of its body. See the [module docs](super).
///
/// Clones share nothing: each call has a clock of its own.
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
    limits: Limits,
}

impl<S> Timeout<S> {
    pub(super) fn new(inner: S, limits: Limits) -> Self {
        Self { inner, limits }
    }
}

impl<S> Service<LlmRequest> for Timeout<S>
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone,
    S::Error: Into<LlmError>,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ResponseFuture<S>;

    /// Always ready: waiting for the inner service is part of what the limit covers.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, mut request: LlmRequest) -> ResponseFuture<S> {
        let now = clock::now();
        let (limit, after) = match self.limits.first_token {
            Some(first) if first < self.limits.total && request.is_stream() => (TimeoutLimit::FirstToken, first),
            _ => (TimeoutLimit::Total, self.limits.total),
        };
        let context = request.context_mut();
        let own = now.checked_add(after);
        let (limit, after) = match (context.deadline, own) {
            (Some(outer), Some(own)) if outer < own => (TimeoutLimit::Deadline, outer.saturating_duration_since(now)),
            (Some(outer), None) => (TimeoutLimit::Deadline, outer.saturating_duration_since(now)),
            _ => (limit, after),
        };
        context.limit_deadline(own);
        context.begun.get_or_insert(now);
        let deadline = context.deadline;
        let call = if deadline.is_some_and(|at| at < now) {
            Call::Failed(LlmError::new(ErrorKind::Deadline, "the deadline had passed before the call"))
        } else {
            clock::with(now, || Call::first(&mut self.inner, request))
        };
        ResponseFuture::new(call, deadline, now, (limit, after), self.limits.idle)
    }
}
