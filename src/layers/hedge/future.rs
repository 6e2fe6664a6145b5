use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;

use super::{race::Race, service::Shared};
use crate::{
    ErrorKind, LlmError, LlmRequest, LlmResponse, LlmService,
    error::Phase,
    layers::{
        alarm::{self, Wake},
        call::Call,
        deadline::Deadline,
        hedge_loss::HedgeLoss,
        totals::count,
    },
    ledger::Ledger,
    timer,
};

/// The future of [`Hedge`](super::Hedge).
///
/// Dropping it drops both calls; a second call that was not sent returns its tokens.
#[pin_project]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    /// Used if no timer further out can be asked. In place, so that a call that merely waits allocates nothing.
    #[pin]
    timer: Option<Sleep>,
    shared: Arc<Shared<S>>,
    /// Set for a request that may have a second call.
    first: Option<FirstCall>,
    race: Option<Box<Race<S>>>,
    /// Set if no layer further out ends the request at its deadline. A race keeps the deadline itself, for both of its
    /// calls.
    deadline: Option<Box<Deadline>>,
}

/// The facts about a request whose first call is under way.
pub(super) struct FirstCall {
    /// The request as it came.
    pub(super) request: LlmRequest,
    pub(super) begun: Instant,
    /// The time at which the second call is due.
    pub(super) at: Option<Instant>,
    /// The number of answers that the service had given before.
    pub(super) answers: u64,
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    #[inline]
    pub(super) fn new(call: Call<S, S::Future>, shared: Arc<Shared<S>>, first: Option<FirstCall>) -> Self {
        Self { call, timer: None, shared, first, race: None, deadline: None }
    }

    /// Ends the first call at its deadline, which no layer further out does.
    pub(super) fn until(mut self, deadline: Option<Box<Deadline>>) -> Self {
        self.deadline = deadline;
        self
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: LlmService + Clone,
{
    type Output = Result<LlmResponse, LlmError>;

    /// # Panics
    ///
    /// Panics if polled after it was ready.
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.race.is_some() {
            return self.poll_on(None, cx);
        }
        let mut this = self.as_mut().project();
        let mut polled = this.call.as_mut().poll(cx);
        let usual = match &mut polled {
            Poll::Ready(Ok(response)) => {
                this.shared.first_answered(this.first.as_ref(), response);
                true
            }
            Poll::Ready(Err(_)) => false,
            Poll::Pending => match this.first.as_ref().and_then(|first| first.at) {
                None => true,
                Some(at) => alarm::request_wake(cx, at) == Wake::Scheduled,
            },
        };
        if usual
            && polled.is_pending()
            && let Some(deadline) = this.deadline
            && let Poll::Ready(late) = deadline.poll(this.call.phase(), cx)
        {
            return self.poll_on(Some(Poll::Ready(Err(late))), cx);
        }
        // The common case returns in place: a response is large to move.
        if !usual {
            polled = self.poll_on(Some(polled), cx);
        }
        polled
    }
}

impl<S> ResponseFuture<S>
where
    S: LlmService + Clone,
{
    /// Handles the rare cases: a first call that failed or is late, and all that follows. `polled` is the result of
    /// polling it.
    #[cold]
    fn poll_on(
        self: Pin<&mut Self>,
        mut polled: Option<Poll<Result<LlmResponse, LlmError>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<LlmResponse, LlmError>> {
        let this = self.project();
        let Some(first) = this.first else {
            if let Some(Poll::Ready(Err(_))) = polled {
                this.call.abandon();
            }
            return polled.unwrap_or(Poll::Pending);
        };
        let mut calls = HedgedCalls {
            call: this.call,
            timer: this.timer,
            shared: this.shared,
            first,
            race: this.race,
            deadline: this.deadline,
        };
        // True if the deadline has passed. This layer ends both calls then, since the layer that set the deadline
        // knows of neither.
        let mut late = false;
        loop {
            // The first before the second: of two answers at once, the first one wins.
            if calls.race.as_ref().is_none_or(|race| !race.first_failed()) {
                let result = calls.poll_first(polled.take(), late, cx);
                if result.is_ready() {
                    return result;
                }
            }
            if calls.race.is_none()
                && let Err(error) = ready!(calls.poll_begin(cx))
            {
                polled = Some(Poll::Ready(Err(error)));
                continue;
            }
            let result = calls.poll_second(late, cx);
            if result.is_ready() {
                return result;
            }
            let Some(deadline) = calls.first.request.context().deadline else { return Poll::Pending };
            ready!(poll_at(calls.timer.as_mut(), deadline, cx));
            late = true;
        }
    }
}

/// The parts of a future whose request may have a second call.
struct HedgedCalls<'a, S: Service<LlmRequest>> {
    call: Pin<&'a mut Call<S, S::Future>>,
    timer: Pin<&'a mut Option<Sleep>>,
    shared: &'a Shared<S>,
    first: &'a mut FirstCall,
    race: &'a mut Option<Box<Race<S>>>,
    deadline: &'a mut Option<Box<Deadline>>,
}

impl<S> HedgedCalls<'_, S>
where
    S: LlmService + Clone,
{
    /// Polls the first call. Completes with the request's result; pending if it depends on a second call.
    #[inline]
    fn poll_first(
        &mut self,
        polled: Option<Poll<Result<LlmResponse, LlmError>>>,
        late: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<LlmResponse, LlmError>> {
        let polled = match late {
            true => Poll::Ready(Err(timed_out(self.call.phase(), self.first, self.first.begun))),
            false => polled.unwrap_or_else(|| self.call.as_mut().poll(cx)),
        };
        match polled {
            Poll::Ready(Ok(mut response)) => {
                self.shared.first_answered(Some(self.first), &mut response);
                if let Some(race) = self.race.take() {
                    race.answers_first(&mut response);
                }
                return Poll::Ready(Ok(response));
            }
            Poll::Ready(Err(error)) => {
                // Release the call's resources while the other one is waited for.
                self.call.as_mut().abandon();
                if error.kind() == ErrorKind::Timeout {
                    self.shared.first_given_up(self.first);
                }
                match self.race {
                    None => *self.race = Some(self.shared.follow(self.first, error)?),
                    Some(race) => {
                        if let Some(error) = race.fails_first(self.first, error) {
                            return Poll::Ready(Err(error));
                        }
                    }
                }
            }
            Poll::Pending => {}
        }
        Poll::Pending
    }

    /// Begins the second call when it is due. If no budget allows one, the first call goes on alone: then this
    /// completes with the failure at the deadline.
    #[inline]
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        let Some(at) = self.first.at else { return Poll::Pending };
        ready!(poll_at(self.timer.as_mut(), at, cx));
        self.first.at = None;
        match Race::begin(self.shared, self.first, Ledger::default(), Instant::now()) {
            Ok(race) => {
                *self.race = Some(Box::new(race));
                Poll::Ready(Ok(()))
            }
            Err(_) => {
                let Some(deadline) = self.deadline else { return Poll::Pending };
                deadline.poll(self.call.phase(), cx).map(Err)
            }
        }
    }

    /// Polls the second call, once it was begun. Completes with the request's result; pending if it depends on the
    /// first call.
    #[inline]
    fn poll_second(&mut self, late: bool, cx: &mut Context<'_>) -> Poll<Result<LlmResponse, LlmError>> {
        let Some(race) = self.race else { return Poll::Pending };
        let polled = match race.second() {
            Some((phase, begun)) if late => Poll::Ready(Err(timed_out(phase, self.first, begun))),
            _ => race.poll_second(cx),
        };
        match polled {
            Poll::Ready(Ok(mut response)) => {
                let was_sent = self.call.phase() != Phase::Readiness && !race.first_failed();
                if !race.first_failed() {
                    self.shared.first_given_up(self.first);
                    let loss = self.shared.is_silent_since(self.first).then(HedgeLoss::begin);
                    self.call.as_mut().abandon();
                    drop(loss);
                }
                if let Some(race) = self.race.take() {
                    race.answers_second(self.first, was_sent, &mut response);
                }
                Poll::Ready(Ok(response))
            }
            Poll::Ready(Err(error)) => {
                let is_first_sent = self.call.phase() != Phase::Readiness;
                let Some(error) = race.fails_second(self.first, is_first_sent, error) else { return Poll::Pending };
                self.call.as_mut().abandon();
                Poll::Ready(Err(error))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S> Shared<S>
where
    S: LlmService + Clone,
{
    /// Takes the first call's answer.
    #[inline]
    fn first_answered(&self, first: Option<&FirstCall>, response: &mut LlmResponse) {
        response.name_tier(&self.settings.tier);
        if let Some(first) = first {
            count(&self.state.counts.answers);
            self.state.observed(first.request.is_stream()).answered(first.begun, &self.settings);
        }
    }

    /// Records that the first call did not answer in its time.
    fn first_given_up(&self, first: &FirstCall) {
        self.state.observed(first.request.is_stream()).given_up(first.begun, &self.settings);
    }

    /// Returns whether the first service has answered no request since this call began, so that it is not merely
    /// slow.
    fn is_silent_since(&self, first: &FirstCall) -> bool {
        // If both calls went to one service, the second has just shown that the service works.
        !self.settings.is_same() && self.state.counts.answers.load(Relaxed) == first.answers
    }

    /// Begins the second call after a first that failed.
    ///
    /// # Errors
    ///
    /// Returns the failure if no second call is made for it.
    fn follow(&self, first: &FirstCall, mut error: LlmError) -> Result<Box<Race<S>>, LlmError> {
        let now = Instant::now();
        if !self.settings.begins_after(&error, now) {
            return Err(error);
        }
        let mut ledger = Ledger::default();
        ledger.failed(&mut error, first.begun, now);
        ledger.name_tier(0, self.settings.tier.value());
        match Race::begin(self, first, ledger, now) {
            Ok(mut race) => {
                race.began_after(error);
                Ok(Box::new(race))
            }
            Err(ledger) => {
                ledger.give_up(&mut error);
                Err(error)
            }
        }
    }
}

/// Returns the failure of a call that has reached the request's deadline.
fn timed_out(phase: Phase, first: &FirstCall, begun: Instant) -> LlmError {
    let deadline = first.request.context().deadline;
    let had = deadline.map_or(std::time::Duration::ZERO, |deadline| deadline.saturating_duration_since(begun));
    LlmError::deadline_passed(phase, had)
}

/// Completes at that moment.
fn poll_at(mut timer: Pin<&mut Option<Sleep>>, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
    match alarm::request_wake(cx, at) {
        Wake::Scheduled => return Poll::Pending,
        Wake::Due => return Poll::Ready(()),
        Wake::NoTimer => {}
    }
    match timer.as_mut().as_pin_mut() {
        Some(timer) if timer.deadline() == at => {}
        Some(timer) => timer.reset(at),
        None => timer.set(Some(sleep_until(at))),
    }
    timer.as_pin_mut().map_or(Poll::Pending, |timer| timer::poll(timer, cx))
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("hedge::ResponseFuture")
            .field("call", &self.call)
            .field("hedged", &self.race.is_some())
            .finish_non_exhaustive()
    }
}
