use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project::pin_project;
use tower::Service;

use crate::{
    LlmError, LlmRequest, LlmResponse,
    layers::{
        admission::{Outcome, Permit},
        call::Call,
    },
};

/// The future of [`CircuitBreaker`](super::CircuitBreaker).
///
/// Dropping it drops the call; a probe's place is free again in the same moment.
#[pin_project]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    /// `None` for a call that was rejected, and for a last resort that ignores the circuit.
    permit: Option<Permit>,
    slow_after: Option<Duration>,
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    pub(super) fn new(call: Call<S, S::Future>, permit: Option<Permit>, slow_after: Option<Duration>) -> Self {
        Self { call, permit, slow_after }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: Service<LlmRequest, Response = LlmResponse>,
    S::Error: Into<LlmError>,
{
    type Output = Result<LlmResponse, LlmError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.call.poll(cx));
        if let Some(permit) = this.permit.take() {
            // In place, for a response is large.
            conclude(permit, &mut result, *this.slow_after);
        }
        Poll::Ready(result)
    }
}

#[inline]
fn conclude(mut permit: Permit, result: &mut Result<LlmResponse, LlmError>, slow_after: Option<Duration>) {
    match result {
        Ok(response) => {
            // If its first token came in time, how long the rest takes is the answer's own business.
            if let Some(slow_after) = slow_after {
                let begun = &mut permit.ticket_mut().begun;
                *begun = begun.filter(|begun| begun.elapsed() >= slow_after);
            }
            // The verdict is known when the answer has ended.
            response.hold(permit);
        }
        Err(error) => permit.settle(Outcome::Failed(error)),
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
