use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project::{pin_project, pinned_drop};
use tower::Service;

use super::wait::Wait;
use crate::{
    ErrorKind, LlmError, LlmRequest, LlmResponse, LlmService,
    body::admission::{Charge, Outcome, Permit},
    layers::{call::Call, deadline::Deadline},
};

/// The future of [`Bulkhead`](super::Bulkhead).
///
/// Dropping it gives its place back, in flight or in the queue.
#[pin_project(PinnedDrop)]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    /// The place, from admission until the response takes it along.
    permit: Permit,
    /// The state that few calls need.
    rest: Option<Box<Rest<S>>>,
}

struct Rest<S> {
    /// Set before the call, if there was no place at once.
    waiting: Option<WaitingCall<S>>,
    /// Set if no layer further out ends the request at its deadline.
    deadline: Option<Box<Deadline>>,
}

struct WaitingCall<S> {
    wait: Box<Wait>,
    service: S,
    request: LlmRequest,
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    #[inline]
    pub(super) fn goes(call: Call<S, S::Future>, permit: Permit) -> Self {
        Self { call, permit, rest: None }
    }

    pub(super) fn waits(wait: Box<Wait>, service: S, request: LlmRequest) -> Self {
        let rest = Rest { waiting: Some(WaitingCall { wait, service, request }), deadline: None };
        Self { call: Call::idle(), permit: Permit::default(), rest: Some(Box::new(rest)) }
    }

    /// Ends the call at its deadline, which no layer further out does.
    pub(super) fn until(mut self, deadline: Option<Box<Deadline>>) -> Self {
        let waiting = self.rest.take().and_then(|rest| rest.waiting);
        self.rest = Some(Box::new(Rest { waiting, deadline }));
        self
    }

    fn waiting(&self) -> Option<&WaitingCall<S>> {
        self.rest.as_ref()?.waiting.as_ref()
    }

    pub(super) fn refused(error: LlmError) -> Self {
        Self { call: Call::failed(error), permit: Permit::default(), rest: None }
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
        if let Some(rest) = this.rest
            && let Some(waiting) = &mut rest.waiting
        {
            let entered = ready!(waiting.wait.poll(&waiting.request, cx));
            // Release the wait's resources after any outcome.
            let Some(waiting) = rest.waiting.take() else { unreachable!("it was there three lines above") };
            *this.permit = entered?;
            this.call.set(Call::further(waiting.service, waiting.request));
        }
        // Change the response in place: it moves often enough on its way up.
        let mut polled = this.call.as_mut().poll(cx);
        if polled.is_pending()
            && let Some(deadline) = this.rest.as_mut().and_then(|rest| rest.deadline.as_mut())
        {
            polled = deadline.poll(this.call.phase(), cx).map(Err);
        }
        let Poll::Ready(result) = &mut polled else { return Poll::Pending };
        match result {
            Ok(response) => {
                this.permit.ticket_mut().charge = Charge::Stays;
                response.hold_permit(this.permit);
            }
            // Settle the place now, and not when the caller drops this future.
            Err(error) => {
                this.call.abandon();
                // The provider has counted every request that was sent, with any outcome.
                let ticket = this.permit.ticket_mut();
                if ticket.charge == Charge::Returns && !is_unsent(error) {
                    ticket.charge = Charge::Stays;
                }
                this.permit.settle(Outcome::Failed(error));
            }
        }
        polled
    }
}

/// Returns whether the provider has not seen a request that failed like this: in none of its attempts, if they are
/// recorded.
fn is_unsent(error: &LlmError) -> bool {
    match error.attempts() {
        [] => error.is_unsent() || error.kind() == ErrorKind::Connect,
        steps => steps.iter().all(|step| step.is_local() || step.failure == Some(ErrorKind::Connect)),
    }
}

#[pinned_drop]
impl<S: Service<LlmRequest>> PinnedDrop for ResponseFuture<S> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        let ticket = this.permit.ticket_mut();
        if ticket.charge == Charge::Returns && matches!(*this.call, Call::Calling(_)) {
            ticket.charge = Charge::Stays;
        }
    }
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("bulkhead::ResponseFuture")
            .field("waiting", &self.waiting().map(|waiting| waiting.wait.stage()))
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}
