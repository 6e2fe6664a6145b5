use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project::{pin_project, pinned_drop};
use tokio::time::Instant;
use tower::Service;

use crate::{
    LlmError, LlmRequest, LlmResponse, LlmService,
    body::admission::{Outcome, Permit},
    error::{Phase, TimeoutLimit},
    layers::{call::Call, deadline::Deadline, hedge_loss},
};

/// The future of [`CircuitBreaker`](super::CircuitBreaker).
///
/// Dropping it drops the call; a probe's place is free again in the same moment. If a timeout or a fallback further
/// out drops it because its time has run out, the call counts as one that timed out. So does one that a
/// [hedge](crate::Hedge) gives up because of the tier's silence. Dropped before that, its caller has left.
#[pin_project(PinnedDrop)]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    /// Empty for a call that was rejected, and for a last resort that ignores the circuit.
    permit: Permit,
    time: Time,
    /// Set if no layer further out ends the request at its deadline.
    deadline: Option<Box<Deadline>>,
}

/// The time limits of a call, as far as they are known.
#[derive(Clone, Copy, Default)]
pub(super) struct Time {
    begun: Option<Instant>,
    deadline: Option<Instant>,
}

impl Time {
    #[inline]
    pub(super) fn of(request: &LlmRequest) -> Self {
        let context = request.context();
        Self { begun: context.begun, deadline: context.deadline }
    }

    /// Returns how long a call that is dropped now had, if its time has run out.
    fn ran_out(self) -> Option<Duration> {
        let deadline = self.deadline.filter(|deadline| *deadline <= Instant::now())?;
        Some(self.begun.map_or(Duration::MAX, |begun| deadline.saturating_duration_since(begun)))
    }
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    #[inline]
    pub(super) fn new(call: Call<S, S::Future>, permit: Permit, time: Time) -> Self {
        Self { call, permit, time, deadline: None }
    }

    /// Ends the call at its deadline, which no layer further out does.
    pub(super) fn until(mut self, deadline: Option<Box<Deadline>>) -> Self {
        self.deadline = deadline;
        self
    }

    pub(super) fn rejected(refusal: LlmError) -> Self {
        Self { call: Call::failed(refusal), permit: Permit::default(), time: Time::default(), deadline: None }
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
        let mut polled = this.call.as_mut().poll(cx);
        if polled.is_pending()
            && let Some(deadline) = this.deadline
        {
            polled = deadline.poll(this.call.phase(), cx).map(Err);
        }
        // All in place: a response is large to move.
        let Poll::Ready(result) = &mut polled else { return Poll::Pending };
        match result {
            Ok(response) => {
                this.permit.begins();
                // The verdict is known when the answer has ended.
                response.hold_permit(this.permit);
            }
            Err(error) => {
                this.call.abandon();
                this.permit.fail(error);
            }
        }
        polled
    }
}

#[pinned_drop]
impl<S: Service<LlmRequest>> PinnedDrop for ResponseFuture<S> {
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.permit.is_held() {
            let phase = this.call.phase();
            // Release the call before its place is free for the next probe.
            this.call.as_mut().abandon();
            leave(this.permit, phase, *this.time);
        }
    }
}

/// Settles a call that is dropped while it runs.
#[cold]
fn leave(permit: &mut Permit, phase: Phase, time: Time) {
    // A hedge that stops waiting is a limit like any other, and not a caller's impatience.
    let silent = || hedge_loss::is_silent().then(|| time.begun.map_or(Duration::MAX, |begun| begun.elapsed()));
    let limit = time.ran_out().map(|had| (TimeoutLimit::Deadline, had));
    match limit.or_else(|| silent().map(|had| (TimeoutLimit::Total, had))) {
        Some((limit, had)) => {
            let now = Instant::now();
            let error = LlmError::timed_out(limit, phase, had).noticed_at(time.deadline.unwrap_or(now), now);
            permit.settle(Outcome::Failed(&error));
        }
        // Nothing was sent, whichever side left.
        None if phase == Phase::Readiness => {
            permit.settle(Outcome::Failed(&LlmError::deadline_passed(phase, Duration::ZERO)))
        }
        None => permit.settle(Outcome::Dropped),
    }
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("circuit_breaker::ResponseFuture")
            .field("call", &self.call)
            .field("permit", &self.permit)
            .finish_non_exhaustive()
    }
}
