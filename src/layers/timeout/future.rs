use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;

use crate::{
    LlmError, LlmRequest, LlmResponse,
    body::IdleLimits,
    error::{Phase, TimeoutLimit},
    layers::call::Call,
    ledger,
};

/// The future of [`Timeout`](super::Timeout).
///
/// Dropping it drops the call.
#[pin_project]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    /// Made when the call is first pending: an answer that is there at once needs no timer.
    #[pin]
    timer: Option<Sleep>,
    deadline: Option<Instant>,
    begun: Instant,
    limit: (TimeoutLimit, Duration),
    idle: IdleLimits,
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    pub(super) fn new(
        call: Call<S, S::Future>,
        deadline: Option<Instant>,
        begun: Instant,
        limit: (TimeoutLimit, Duration),
        idle: IdleLimits,
    ) -> Self {
        Self { call, timer: None, deadline, begun, limit, idle }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: Service<LlmRequest, Response = LlmResponse>,
    S::Error: Into<LlmError>,
{
    type Output = Result<LlmResponse, LlmError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // The answer before the timer: one that is there wins. A readiness does not: no attempt starts after the
        // deadline.
        let late = this.call.phase() == Phase::Readiness && this.deadline.is_some_and(|at| at <= Instant::now());
        if !late && let Poll::Ready(result) = this.call.as_mut().poll(cx) {
            return Poll::Ready(match result {
                Ok(mut response) => {
                    response.limit_idle(*this.idle);
                    Ok(response)
                }
                Err(mut error) => {
                    ledger::note(&mut error, *this.begun);
                    Err(error)
                }
            });
        }
        let Some(deadline) = *this.deadline else { return Poll::Pending };
        if !late {
            if this.timer.is_none() {
                this.timer.set(Some(sleep_until(deadline)));
            }
            let passed = this.timer.as_pin_mut().is_some_and(|timer| timer.poll(cx).is_ready());
            if !passed {
                return Poll::Pending;
            }
        }
        let (limit, after) = *this.limit;
        let mut error = LlmError::timed_out(limit, this.call.phase(), after);
        this.call.abandon();
        ledger::note(&mut error, *this.begun);
        Poll::Ready(Err(error))
    }
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("timeout::ResponseFuture")
            .field("call", &self.call)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
