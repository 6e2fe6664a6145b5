use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower::Service;

use super::{
    check::{Check, Decision},
    held::HeldResponse,
};
use crate::{
    ErrorKind, LlmError, LlmRequest, LlmResponse, LlmService,
    commit::with_origin,
    error::{Phase, TimeoutLimit},
    layers::call::Call,
    timer,
};

/// The future of [`Validate`](super::Validate).
///
/// Dropping it drops the call, or the answer that is being held back.
#[pin_project]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    /// Runs to the deadline while an answer is held back or asked for again.
    #[pin]
    timer: Option<Sleep>,
    /// Set only if the request has a schema.
    checking: Option<Box<SchemaCheck<S>>>,
}

struct SchemaCheck<S> {
    check: Check,
    /// A clone that was never polled, for asking again.
    again: S,
    held: Option<HeldResponse>,
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    pub(super) fn unchecked(call: Call<S, S::Future>) -> Self {
        Self { call, timer: None, checking: None }
    }

    pub(super) fn checked(call: Call<S, S::Future>, again: S, check: Check) -> Self {
        Self { call, timer: None, checking: Some(Box::new(SchemaCheck { check, again, held: None })) }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: LlmService + Clone,
{
    type Output = Result<LlmResponse, LlmError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(checking) = this.checking.as_deref_mut() else {
            let polled = this.call.as_mut().poll(cx);
            if let Poll::Ready(Err(_)) = polled {
                this.call.abandon();
            }
            return polled;
        };
        let failed = loop {
            // The answer before the timer: an answer that is there wins.
            let polled = match &mut checking.held {
                Some(held) => held.poll(cx).map_err(|(error, response)| (error, Some(response))),
                None => match this.call.as_mut().poll(cx) {
                    Poll::Ready(Ok(response)) => {
                        // Release the call now: a permit that ends with it must not wait for the stream.
                        this.call.as_mut().abandon();
                        checking.held = Some(HeldResponse::new(response, checking.check.request()));
                        continue;
                    }
                    Poll::Ready(Err(error)) => Poll::Ready(Err((error, None))),
                    // For the first answer, the layer that set the deadline keeps the time.
                    Poll::Pending if !checking.check.is_reasked() => return Poll::Pending,
                    Poll::Pending => Poll::Pending,
                },
            };
            match polled {
                Poll::Ready(Ok((response, message))) => {
                    checking.held = None;
                    match checking.check.judge(response, message) {
                        Decision::Good(response) => return Poll::Ready(Ok(response)),
                        Decision::Bad(error) => return Poll::Ready(Err(error)),
                        Decision::AskAgain(request) => this.call.set(Call::further(checking.again.clone(), request)),
                    }
                }
                Poll::Ready(Err(failed)) => break failed,
                Poll::Pending => break ready!(checking.poll_deadline(this.call.phase(), this.timer.as_mut(), cx)),
            }
        };
        // Release the resources of the call and its answer at once, even if this future is kept.
        checking.held = None;
        this.call.as_mut().abandon();
        this.timer.set(None);
        let (error, response) = failed;
        Poll::Ready(Err(checking.check.failed(error, response)))
    }
}

impl<S> SchemaCheck<S> {
    /// Completes at the deadline: with the failure, and with the answer that was held back, if there was one.
    #[inline]
    fn poll_deadline(
        &mut self,
        phase: Phase,
        mut timer: Pin<&mut Option<Sleep>>,
        cx: &mut Context<'_>,
    ) -> Poll<(LlmError, Option<LlmResponse>)> {
        let Some(deadline) = self.check.deadline() else { return Poll::Pending };
        if timer.is_none() {
            timer.set(Some(sleep_until(deadline)));
        }
        if let Some(timer) = timer.as_pin_mut() {
            ready!(timer::poll(timer, cx));
        }
        let after = deadline.saturating_duration_since(self.check.begun());
        let error = match (self.held.is_some(), phase) {
            (true, _) => LlmError::timed_out(TimeoutLimit::Deadline, Phase::Body, after),
            (false, Phase::Readiness) => {
                LlmError::new(ErrorKind::Deadline, "the deadline passed while a second question waited for readiness")
            }
            (false, phase) => LlmError::timed_out(TimeoutLimit::Deadline, phase, after),
        };
        Poll::Ready(match self.held.take().map(HeldResponse::into_response) {
            Some(response) => (with_origin(error, &response), Some(response)),
            None => (error, None),
        })
    }
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("validate::ResponseFuture")
            .field("call", &self.call)
            .field("checks", &self.checking.is_some())
            .finish_non_exhaustive()
    }
}
