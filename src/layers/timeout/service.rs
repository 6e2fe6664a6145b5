use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tower::Service;

use super::{
    ResponseFuture,
    layer::{Limits, Patience},
    silence::{Silence, Watch},
};
use crate::{
    ErrorKind, LlmError, LlmRequest, LlmResponse, LlmService,
    error::TimeoutLimit,
    layers::{call::Call, clock::Reading},
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
    /// True if all requests have the same limit, and none is watched.
    is_plain: bool,
}

steadfast_core::inner_service!(Timeout);

impl<S> Timeout<S> {
    pub(super) fn new(inner: S, limits: Limits, silence: Option<Arc<Silence>>) -> Self {
        let is_patient = limits.patience != Patience::default();
        let for_all = limits.first_token.or(limits.thinking).or(limits.long_answers).is_none();
        let is_plain = for_all && silence.is_none() && !is_patient;
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
    fn call(&mut self, mut request: LlmRequest) -> ResponseFuture<S> {
        let (now, _reading) = Reading::pass_on();
        let (limit, after, watch) = match self.is_plain {
            // The time of an upload is its sender's: no provider is to pay for it.
            _ if request.is_upload() => (TimeoutLimit::Deadline, Duration::MAX, None),
            true => (TimeoutLimit::Total, self.limits.total, None),
            false => self.limit_for(request.clone(), now),
        };
        let context = request.context_mut();
        let own = now.checked_add(after);
        let (limit, deadline) = match (context.deadline, own) {
            (Some(outer), Some(own)) if outer < own => (TimeoutLimit::Deadline, Some(outer)),
            (Some(outer), None) => (TimeoutLimit::Deadline, Some(outer)),
            _ => (limit, own),
        };
        context.deadline = deadline;
        let by_caller = context.prospects.keep_deadline(limit == TimeoutLimit::Deadline);
        let prospects = context.prospects;
        context.begun.get_or_insert(now);
        if limit == TimeoutLimit::Deadline && deadline.is_some_and(|at| at < now) {
            let passed = LlmError::new(ErrorKind::Deadline, "the deadline had passed before the call");
            return ResponseFuture::new(
                Call::failed(passed),
                deadline,
                now,
                (limit, by_caller),
                (self.limits.idle, prospects, false),
                None,
            );
        }
        let is_whole = request.awaits_whole_answer();
        let call = Call::first(&mut self.inner, request);
        ResponseFuture::new(call, deadline, now, (limit, by_caller), (self.limits.idle, prospects, is_whole), watch)
    }
}

impl<S> Timeout<S> {
    /// Returns the limit of a request, and its watch if it may be left before.
    #[cold]
    fn limit_for(&self, request: LlmRequest, now: Instant) -> (TimeoutLimit, Duration, Option<Box<Watch>>) {
        let Limits { total, first_token, thinking, long_answers, patience, .. } = self.limits;
        let total = match long_answers {
            Some(most) if !request.is_stream() => total.max(most.min(time_to_write(&request))),
            _ => total,
        };
        let patience = if request.is_stream() { patience.streams } else { patience.whole };
        let context = request.context();
        // A limit here would only buy the same answer again. Without any deadline there must be one.
        let is_last = context.prospects.is_nothing_left();
        let patience = patience.filter(|limit| is_last && (context.deadline.is_some() || *limit < Duration::MAX));
        let (limit, after) = match (patience, thinking, first_token) {
            (Some(limit), ..) => (TimeoutLimit::Total, limit),
            (_, Some(first), _) if request.is_stream() && request.asks_to_reason() => (TimeoutLimit::FirstToken, first),
            (_, _, Some(first)) if first < total && request.is_stream() => (TimeoutLimit::FirstToken, first),
            _ => (TimeoutLimit::Total, total),
        };
        // A model's silence matters only if the request can go to another model.
        let silence = self.silence.as_ref().filter(|_| request.context().prospects.can_go_on());
        (limit, after, silence.map(|silence| Box::new(silence.watch(&request, now))))
    }
}

/// Returns the longest time that a healthy model takes for a whole answer to this request.
fn time_to_write(request: &LlmRequest) -> Duration {
    let tokens = request.glanced_work().and_then(|tokens| u32::try_from(tokens).ok());
    tokens.map_or(Duration::MAX, |tokens| A_TOKEN.saturating_mul(tokens))
}

/// Anthropic's SDKs expect 128,000 tokens in an hour (`calculate_nonstreaming_timeout`).
const A_TOKEN: Duration = Duration::from_nanos(3_600_000_000_000 / 128_000);
