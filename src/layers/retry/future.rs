use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tower::Service;

use super::{
    budget::Reservation,
    policy::{Policy, Progress, Scheduled},
};
use crate::{
    ErrorKind, LlmError, LlmRequest, LlmResponse,
    error::{Phase, TimeoutLimit},
    layers::call::Call,
    ledger::{Ledger, Next},
};

/// The future of [`RetryWithJitter`](super::RetryWithJitter).
///
/// Dropping it drops the attempt that is under way; a retry that was waiting gives its token back to the budget.
#[pin_project]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    /// The attempt under way; nothing of it is left while the next one is waited for.
    #[pin]
    call: Call<S, S::Future>,
    /// Runs while a retry is waited for; else to the deadline, while the service is not ready or after a failure.
    #[pin]
    timer: Option<Sleep>,
    waiting: bool,
    /// For further attempts: a clone that was never polled, and the request as it came.
    inner: S,
    request: LlmRequest,
    policy: Arc<Policy>,
    /// When the attempt began. Read when it is first pending: an answer that is there at once needs no clock.
    begun: Option<Instant>,
    ledger: Ledger,
    progress: Progress,
    /// What the attempt under way, a retry, took from the budget.
    token: Option<Reservation>,
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    pub(super) fn new(call: Call<S, S::Future>, (inner, request): (S, LlmRequest), policy: Arc<Policy>) -> Self {
        let context = request.context();
        let begun = match context.attempts_made {
            0 => context.begun,
            // Another tier has failed before, so this is not the path that must not look at the clock.
            _ => Some(Instant::now()),
        };
        Self {
            call,
            timer: None,
            waiting: false,
            inner,
            request,
            policy,
            begun,
            ledger: Ledger::default(),
            progress: Progress::default(),
            token: None,
        }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone,
    S::Error: Into<LlmError>,
{
    type Output = Result<LlmResponse, LlmError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let mut error = 'attempt: {
                let deadline = this.request.context().deadline;
                if *this.waiting {
                    if let Some(timer) = this.timer.as_mut().as_pin_mut() {
                        ready!(timer.poll(cx));
                    }
                    *this.waiting = false;
                    this.timer.set(None);
                    let now = Instant::now();
                    *this.begun = Some(now);
                    // The wait fitted before the deadline when it began; a machine that slept knows nothing of that.
                    if deadline.is_some_and(|deadline| deadline <= now) {
                        break 'attempt LlmError::new(ErrorKind::Deadline, "it passed while a retry was waited for");
                    }
                    let context = this.ledger.context(*this.request.context());
                    this.call.set(Call::further(this.inner.clone(), this.request.with_context(context)));
                }
                match this.call.as_mut().poll(cx) {
                    Poll::Ready(Ok(mut response)) => {
                        if let Some(token) = this.token {
                            token.sent();
                        }
                        mem::take(this.ledger).answered(&mut response);
                        return Poll::Ready(Ok(response));
                    }
                    Poll::Ready(Err(error)) => break 'attempt error,
                    Poll::Pending => {}
                }
                this.begun.get_or_insert_with(Instant::now);
                let phase = this.call.phase();
                if phase != Phase::Readiness {
                    if let Some(token) = this.token {
                        token.sent();
                    }
                    // Nothing is lost if whoever set the deadline ends a first attempt.
                    if this.ledger.len() == 0 {
                        if this.timer.is_some() {
                            this.timer.set(None);
                        }
                        return Poll::Pending;
                    }
                }
                // Not sent yet: no attempt begins after the deadline. A later one is ended here, since a limit further
                // out knows nothing of those before.
                let Some(deadline) = deadline else { return Poll::Pending };
                if this.timer.is_none() {
                    this.timer.set(Some(sleep_until(deadline)));
                }
                if let Some(timer) = this.timer.as_mut().as_pin_mut() {
                    ready!(timer.poll(cx));
                }
                match (phase, *this.begun) {
                    (Phase::Answer, Some(begun)) => {
                        let had = deadline.saturating_duration_since(begun);
                        LlmError::timed_out(TimeoutLimit::Deadline, phase, had)
                    }
                    _ => LlmError::new(ErrorKind::Deadline, "it passed while an attempt waited for readiness"),
                }
            };

            // Nothing of the attempt is held while the next one is waited for, nor by whoever keeps this future.
            this.call.as_mut().abandon();
            this.timer.set(None);
            let now = Instant::now();
            let spent = this.ledger.spent();
            this.ledger.failed(&mut error, this.begun.unwrap_or(now));
            let sent = this.ledger.spent() > spent;
            match this.token.take() {
                Some(mut token) if sent => token.sent(),
                // Refused on this side: the retry was not made, however it looked.
                Some(token) => token.refund(),
                None => {}
            }
            // Where nothing was sent there is nothing to do again.
            let decision = (sent && !error.kind().is_local()).then(|| {
                let context = this.request.context();
                this.policy.decide(&error, this.ledger, context, *this.progress, now)
            });
            match decision {
                Some(Ok(Scheduled { after, token })) => {
                    this.ledger.next(Next::Retried { after });
                    *this.token = Some(token);
                    this.progress.retries = this.progress.retries.saturating_add(1);
                    this.progress.waited = Some(after);
                    // The failure goes here, and with it the answer's bytes and its cause.
                    drop(error);
                    *this.waiting = true;
                    if !after.is_zero() {
                        this.timer.set(Some(sleep(after)));
                    }
                    continue;
                }
                Some(Err(stop)) => this.ledger.next(Next::Stopped(stop)),
                None => {}
            }
            mem::take(this.ledger).give_up(&mut error);
            return Poll::Ready(Err(error));
        }
    }
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("retry::ResponseFuture")
            .field("call", &self.call)
            .field("waiting", &self.waiting)
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}
