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
        let result = ready!(this.call.poll(cx));
        let permit = this.permit.take();
        Poll::Ready(match result {
            Ok(mut response) => {
                if let Some(mut permit) = permit {
                    // Its first token came in time. How long the rest takes is the answer's own business.
                    let begun = &mut permit.ticket_mut().begun;
                    if begun.zip(*this.slow_after).is_some_and(|(begun, slow_after)| begun.elapsed() < slow_after) {
                        *begun = None;
                    }
                    // The verdict is known when the answer has ended.
                    response.hold(permit);
                }
                Ok(response)
            }
            Err(error) => {
                if let Some(permit) = permit {
                    permit.settle(Outcome::Failed(&error));
                }
                Err(error)
            }
        })
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
