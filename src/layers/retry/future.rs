use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower::Service;

use super::{
    Reservation,
    policy::{Progress, ScheduledRetry},
    shared::Shared,
};
use crate::{
    ErrorKind, LlmError, LlmRequest, LlmResponse, LlmService,
    error::Phase,
    internal::sharded::Shard,
    layers::{alarm, call::Call, deadline::Deadline},
    ledger::{self, Ledger, Next},
    timer,
};

/// The future of [`RetryWithJitter`](super::RetryWithJitter).
///
/// Dropping it drops the attempt under way; a retry that was waiting returns its token to the budget.
#[pin_project]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    /// The request as it came, except for the start of the attempt under way.
    request: LlmRequest,
    shared: Arc<Shard<Shared<S>>>,
    /// The state that is needed once the first attempt has failed.
    rest: Option<Box<Rest>>,
}

#[derive(Default)]
struct Rest {
    /// For the first attempt, where no layer further out ends the request at its deadline.
    deadline: Option<Box<Deadline>>,
    /// The timer of the wait before the next attempt, and of the deadline if no timer further out can be asked.
    timer: Option<Pin<Box<Sleep>>>,
    /// True while it waits for the next attempt.
    waiting: bool,
    ledger: Ledger,
    progress: Progress,
    /// The token of the retry under way.
    token: Option<Reservation>,
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    #[inline]
    pub(super) fn new(call: Call<S, S::Future>, request: LlmRequest, shared: Arc<Shard<Shared<S>>>) -> Self {
        Self { call, request, shared, rest: None }
    }

    /// Ends the first attempt at its deadline, which no layer further out does.
    pub(super) fn until(mut self, deadline: Option<Box<Deadline>>) -> Self {
        self.rest = deadline.map(|deadline| Box::new(Rest { deadline: Some(deadline), ..Rest::default() }));
        self
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: LlmService + Clone,
{
    type Output = Result<LlmResponse, LlmError>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.rest.is_some() {
            return self.poll_on(None, cx);
        }
        let mut polled = self.as_mut().project().call.poll(cx);
        if polled.is_pending() && self.request.context().begun.is_some() && matches!(self.call, Call::Calling(_)) {
            return Poll::Pending;
        }
        // The common case returns in place: a response is large to move.
        if !matches!(polled, Poll::Ready(Ok(_))) {
            polled = match polled {
                Poll::Ready(Err(error)) => self.poll_on(Some(Poll::Ready(error)), cx),
                _ => self.poll_on(Some(Poll::Pending), cx),
            };
        }
        polled
    }
}

impl<S> ResponseFuture<S>
where
    S: LlmService + Clone,
{
    /// Handles the rare cases: an attempt that failed or waits for readiness, and all that follows. `polled` is the
    /// result of polling the call, if it has not answered.
    #[cold]
    fn poll_on(
        mut self: Pin<&mut Self>,
        mut polled: Option<Poll<LlmError>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<LlmResponse, LlmError>> {
        loop {
            match self.as_mut().poll_attempt(polled.take(), cx) {
                Poll::Ready(Err(error)) => self.as_mut().schedule_retry(error)?,
                polled => return polled,
            }
        }
    }

    /// Polls the attempt under way, or begins the next one after its wait. `polled` is the result of polling it, if
    /// it was polled before and has not answered.
    #[inline]
    fn poll_attempt(
        self: Pin<&mut Self>,
        polled: Option<Poll<LlmError>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<LlmResponse, LlmError>> {
        let mut this = self.project();
        let deadline = this.request.context().deadline;
        if let Some(rest) = this.rest.as_mut().filter(|rest| rest.waiting) {
            if let Some(timer) = &mut rest.timer {
                ready!(timer::poll(timer.as_mut(), cx));
            }
            rest.waiting = false;
            rest.timer = None;
            let now = Instant::now();
            this.request.context_mut().begun = Some(now);
            // The wait fitted before the deadline when it began, but the machine may have slept since.
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(Err(LlmError::new(
                    ErrorKind::Deadline,
                    "the deadline passed while the request waited for a retry",
                )));
            }
            let context = rest.ledger.context(*this.request.context());
            this.call.set(Call::further(this.shared.spare.fresh(), this.request.with_context(context)));
        }
        let mut polled = match polled {
            Some(polled) => polled.map(Err),
            None => this.call.as_mut().poll(cx),
        };
        match &mut polled {
            Poll::Ready(Ok(response)) => {
                if let Some(mut rest) = this.rest.take() {
                    rest.token.iter_mut().for_each(Reservation::sent);
                    rest.ledger.answered(response);
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let begun = *this.request.context_mut().begun.get_or_insert_with(Instant::now);
                let phase = this.call.phase();
                return poll_deadline(this.rest, deadline, phase, begun, cx).map(Err);
            }
        }
        polled
    }

    /// Takes an attempt's failure, and schedules the next attempt.
    ///
    /// # Errors
    ///
    /// Returns the failure if no attempt follows.
    #[inline]
    fn schedule_retry(self: Pin<&mut Self>, mut error: LlmError) -> Result<(), LlmError> {
        let mut this = self.project();
        // Release the attempt's resources while the next one is waited for, even if this future is kept.
        this.call.as_mut().abandon();
        if this.rest.is_none() && error.kind().is_local() {
            // A layer on this side refused the first attempt: there is nothing to repeat, and no account to keep.
            ledger::note(&mut error, this.request.context().begun.unwrap_or_else(Instant::now));
            return Err(error);
        }
        let rest = this.rest.get_or_insert_default();
        rest.timer = None;
        let now = Instant::now();
        let spent = rest.ledger.spent();
        rest.ledger.failed(&mut error, this.request.context().begun.unwrap_or(now), now);
        let sent = rest.ledger.spent() > spent;
        match rest.token.take() {
            Some(mut token) if sent => token.sent(),
            // Refused on this side: the retry was never made.
            Some(token) => token.refund(),
            None => {}
        }
        // If nothing was sent, there is nothing to repeat.
        let decision = (sent && !error.kind().is_local())
            .then(|| this.shared.policy.decide(&error, &rest.ledger, this.request.context(), rest.progress, now));
        match decision {
            Some(Ok(ScheduledRetry { after, token })) => {
                rest.ledger.next(Next::Retried { after });
                rest.token = Some(token);
                rest.progress.retries = rest.progress.retries.saturating_add(1);
                rest.progress.waited = Some(after);
                if !error.refused().is_empty() {
                    *this.request = this.request.without_parameters(error.refused());
                }
                // The failure is dropped here, and with it the answer's bytes and its cause.
                drop(error);
                rest.waiting = true;
                if !after.is_zero() {
                    rest.timer = Some(Box::pin(sleep(after)));
                }
                return Ok(());
            }
            Some(Err(stop)) => rest.ledger.next(Next::Stopped(stop)),
            None => {}
        }
        mem::take(&mut rest.ledger).give_up(&mut error);
        Err(error)
    }
}

/// Completes with the failure of a pending attempt once the request's deadline has come, if this layer ends the
/// attempt.
#[inline]
fn poll_deadline(
    rest: &mut Option<Box<Rest>>,
    deadline: Option<Instant>,
    phase: Phase,
    begun: Instant,
    cx: &mut Context<'_>,
) -> Poll<LlmError> {
    if phase != Phase::Readiness {
        let Some(rest) = rest else { return Poll::Pending };
        rest.token.iter_mut().for_each(Reservation::sent);
        // A layer further out may end a first attempt without loss.
        if rest.ledger.is_empty() {
            rest.timer = None;
            let Some(deadline) = &mut rest.deadline else { return Poll::Pending };
            return deadline.poll(phase, cx);
        }
    }
    // Not sent yet: no attempt begins after the deadline. This layer ends a later attempt, since a limit further out
    // knows nothing of the earlier ones.
    let Some(deadline) = deadline else { return Poll::Pending };
    ready!(alarm::poll_at(deadline, &mut rest.get_or_insert_default().timer, cx));
    Poll::Ready(LlmError::deadline_passed(phase, deadline.saturating_duration_since(begun)))
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("retry::ResponseFuture")
            .field("call", &self.call)
            .field("waiting", &self.rest.as_ref().is_some_and(|rest| rest.waiting))
            .field("record", &self.rest.as_ref().map(|rest| &rest.ledger))
            .finish_non_exhaustive()
    }
}
