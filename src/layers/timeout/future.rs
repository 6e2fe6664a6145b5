use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;

use super::silence::Watch;
use crate::{
    LlmError, LlmRequest, LlmResponse, LlmService,
    body::IdleLimits,
    error::{Phase, TimeoutLimit},
    layers::{
        alarm::{self, AlarmListener, Wake},
        call::Call,
    },
    ledger,
};

/// The future of [`Timeout`](super::Timeout).
///
/// Dropping it drops the call.
#[pin_project]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    /// Created when the call is first pending: an answer that is there at once needs no timer.
    #[pin]
    timer: Option<Sleep>,
    deadline: Option<Instant>,
    begun: Instant,
    limit: TimeoutLimit,
    idle: IdleLimits,
    /// Of a call that may be left before its limit.
    watch: Option<Box<Watch>>,
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    #[inline]
    pub(super) fn new(
        call: Call<S, S::Future>,
        deadline: Option<Instant>,
        begun: Instant,
        limit: TimeoutLimit,
        idle: IdleLimits,
        watch: Option<Box<Watch>>,
    ) -> Self {
        Self { call, timer: None, deadline, begun, limit, idle, watch }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: LlmService,
{
    type Output = Result<LlmResponse, LlmError>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // True if this poll may be due to the timer: for our own limit, or for one further in. With a timer it is
        // always true, since the layer that asked for it need not be polled in the very poll in which it fires.
        let mut rang = this.timer.is_some();
        loop {
            // The answer before the timer: an answer that is there wins. A readiness does not: no attempt starts
            // after the deadline.
            let late = this.call.phase() == Phase::Readiness && this.deadline.is_some_and(|at| at <= Instant::now());
            if !late {
                let listening = AlarmListener::begin(cx, rang);
                // In place: a response is large to move.
                let mut polled = this.call.as_mut().poll(cx);
                match &mut polled {
                    Poll::Pending => {}
                    Poll::Ready(Ok(response)) => {
                        response.limit_idle(this.idle);
                        if let Some(watch) = this.watch {
                            watch.answered(this.begun.elapsed());
                        }
                        return polled;
                    }
                    Poll::Ready(Err(error)) => {
                        ledger::note(error, *this.begun);
                        this.call.abandon();
                        return polled;
                    }
                }
                let asked = listening.asked();
                drop(listening);
                let deadline = match this.watch {
                    None => *this.deadline,
                    Some(watch) => watch.look().into_iter().chain(*this.deadline).min(),
                };
                let next = match (asked, deadline) {
                    (Some(asked), Some(deadline)) => asked.min(deadline),
                    (Some(next), None) | (None, Some(next)) => next,
                    (None, None) => return Poll::Pending,
                };
                match alarm::request_wake(cx, next) {
                    Wake::Scheduled => return Poll::Pending,
                    Wake::Due => {}
                    Wake::NoTimer => {
                        match this.timer.as_mut().as_pin_mut() {
                            // Keep a timer that is set, even if no one needs its moment any more: one poll too many is
                            // cheap.
                            Some(timer) if timer.deadline() <= next && !timer.is_elapsed() => {}
                            Some(timer) => timer.reset(next),
                            None => this.timer.set(Some(sleep_until(next))),
                        }
                        if let Some(timer) = this.timer.as_mut().as_pin_mut() {
                            ready!(timer.poll(cx));
                        }
                    }
                }
                // The layers further in report first: they know more of what was waiting.
                if asked.is_some() && !rang || deadline.is_none_or(|deadline| Instant::now() < deadline) {
                    rang = true;
                    continue;
                }
                if let Some(watch) = this.watch
                    && this.deadline.is_none_or(|deadline| Instant::now() < deadline)
                {
                    if !watch.leaves(this.call.phase(), Instant::now()) {
                        rang = true;
                        continue;
                    }
                    (*this.deadline, *this.limit) = (Some(Instant::now()), TimeoutLimit::Silence);
                }
            }
            let after =
                this.deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(*this.begun));
            let mut error = LlmError::timed_out(*this.limit, this.call.phase(), after);
            this.call.abandon();
            ledger::note(&mut error, *this.begun);
            return Poll::Ready(Err(error));
        }
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
