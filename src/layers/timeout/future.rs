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

use super::{layer::idle_limits, silence::Watch};
use crate::{
    LlmError, LlmRequest, LlmResponse, LlmService,
    body::{BodyDeadline, IdleLimits},
    error::{Phase, TimeoutLimit},
    layers::{
        alarm::{self, AlarmListener, Wake},
        call::Call,
    },
    ledger,
    request::Prospects,
    timer,
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
    /// True if it is the caller's.
    by_caller: bool,
    /// The limits on silence that were set.
    idle: IdleLimits,
    prospects: Prospects,
    /// True if the caller waits for the whole answer.
    is_whole: bool,
    /// Of a call that may be left before its limit.
    watch: Option<Box<Watch>>,
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    #[inline]
    pub(super) fn new(
        call: Call<S, S::Future>,
        deadline: Option<Instant>,
        begun: Instant,
        (limit, by_caller): (TimeoutLimit, bool),
        (idle, prospects, is_whole): (IdleLimits, Prospects, bool),
        watch: Option<Box<Watch>>,
    ) -> Self {
        Self { call, timer: None, deadline, begun, limit, by_caller, idle, prospects, is_whole, watch }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: LlmService,
{
    type Output = Result<LlmResponse, LlmError>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // True if this poll may be due to the timer: for our own limit, or for one further in. With a timer it is
        // always true, since the layer that asked for it need not be polled in the very poll in which it fires.
        let mut rang = self.timer.is_some();
        loop {
            let mut this = self.as_mut().project();
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
                        if response.body().arrives_in_frames() {
                            let body = response.body_mut();
                            body.limit_idle(&idle_limits(*this.idle, *this.prospects, *this.is_whole));
                            if *this.is_whole
                                && let Some(at) = *this.deadline
                            {
                                let after = at.saturating_duration_since(*this.begun);
                                let (limit, by_caller) = (*this.limit, *this.by_caller);
                                body.end_at(BodyDeadline { at, limit, after, by_caller });
                            }
                        }
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
                if !ready!(self.as_mut().poll_limit(asked, rang, cx)) {
                    rang = true;
                    continue;
                }
            }
            return Poll::Ready(Err(self.expire()));
        }
    }
}

impl<S> ResponseFuture<S>
where
    S: LlmService,
{
    /// Completes at the earlier of the call's limit and `asked`, the time that a layer further in requested.
    /// Returns true if the limit ends the call, and false if the call is to be polled again.
    // Always inlined, as `poll` itself: each call that waits comes here.
    #[inline(always)]
    fn poll_limit(self: Pin<&mut Self>, asked: Option<Instant>, rang: bool, cx: &mut Context<'_>) -> Poll<bool> {
        let this = self.project();
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
            Wake::NoTimer => ready!(poll_timer(this.timer, next, cx)),
        }
        // The layers further in report first: they know more of what was waiting.
        if asked.is_some() && !rang || deadline.is_none_or(|deadline| Instant::now() < deadline) {
            return Poll::Ready(false);
        }
        if let Some(watch) = this.watch
            && this.deadline.is_none_or(|deadline| Instant::now() < deadline)
        {
            if !watch.leaves(this.call.phase(), Instant::now()) {
                return Poll::Ready(false);
            }
            (*this.deadline, *this.limit) = (Some(Instant::now()), TimeoutLimit::Silence);
        }
        Poll::Ready(true)
    }

    /// Ends the call at its limit. Returns the failure.
    #[cold]
    fn expire(self: Pin<&mut Self>) -> LlmError {
        let this = self.project();
        let after = this.deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(*this.begun));
        let mut error = LlmError::timed_out(*this.limit, this.call.phase(), after);
        if *this.by_caller {
            error.note_callers_deadline();
        }
        this.call.abandon();
        if let Some(deadline) = *this.deadline {
            error = error.noticed_at(deadline, Instant::now());
        }
        ledger::note(&mut error, *this.begun);
        error
    }
}

/// Completes at that moment, or earlier if the timer was set for an earlier one.
#[inline(always)]
fn poll_timer(mut timer: Pin<&mut Option<Sleep>>, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
    match timer.as_mut().as_pin_mut() {
        // A timer that was set stays, even if its moment is no longer needed: one poll too many is cheap.
        Some(timer) if timer.deadline() <= at && !timer.is_elapsed() => {}
        Some(timer) => timer.reset(at),
        None => timer.set(Some(sleep_until(at))),
    }
    timer.as_pin_mut().map_or(Poll::Ready(()), |timer| timer::poll(timer, cx))
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("timeout::ResponseFuture")
            .field("call", &self.call)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
