use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower::Service;

use super::{
    check::{Answer, Check, Decision},
    held::HeldResponse,
    schema::{Schema, Verdict},
    settings::Work,
};
use crate::{
    ErrorKind, LlmError, LlmRequest, LlmResponse, LlmService,
    call::Call,
    commit::with_origin,
    error::{Phase, TimeoutLimit},
    timer,
    wire::offload,
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
    stage: Stage,
}

/// The work under way for a request.
enum Stage {
    /// A schema that takes long to compile. Nothing was asked yet.
    Compilation(Work<Arc<Schema>>),
    Call(Arc<Schema>),
    Held(Arc<Schema>, HeldResponse),
    /// A check that takes long.
    Verdict(Arc<Schema>, Answer, Work<(Verdict, String)>),
    End,
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    pub(super) fn unchecked(call: Call<S, S::Future>) -> Self {
        Self { call, timer: None, checking: None }
    }

    pub(super) fn checked(call: Call<S, S::Future>, again: S, check: Check, schema: Arc<Schema>) -> Self {
        let checking = SchemaCheck { check, again, stage: Stage::Call(schema) };
        Self { call, timer: None, checking: Some(Box::new(checking)) }
    }

    /// Asks once the schema is compiled.
    pub(super) fn compiling(again: S, check: Check, schema: Work<Arc<Schema>>) -> Self {
        let checking = SchemaCheck { check, again, stage: Stage::Compilation(schema) };
        Self { call: Call::idle(), timer: None, checking: Some(Box::new(checking)) }
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
            let (schema, answer, verdict) = match mem::replace(&mut checking.stage, Stage::End) {
                Stage::Compilation(mut work) => match work.as_mut().poll(cx)? {
                    Poll::Ready(schema) => {
                        let request = checking.check.request().clone();
                        this.call.set(Call::further(checking.again.clone(), request));
                        checking.stage = Stage::Call(schema);
                        continue;
                    }
                    Poll::Pending => {
                        checking.stage = Stage::Compilation(work);
                        return Poll::Pending;
                    }
                },
                Stage::Call(schema) => match this.call.as_mut().poll(cx) {
                    Poll::Ready(Ok(response)) => {
                        // Release the call now: a permit that ends with it must not wait for the stream.
                        this.call.as_mut().abandon();
                        let held = HeldResponse::new(response, checking.check.request());
                        checking.stage = Stage::Held(schema, held);
                        continue;
                    }
                    Poll::Ready(Err(error)) => break (error, None),
                    Poll::Pending => {
                        checking.stage = Stage::Call(schema);
                        // For the first answer, the layer that set the deadline keeps the time.
                        if !checking.check.is_reasked() {
                            return Poll::Pending;
                        }
                        break ready!(checking.poll_deadline(this.call.phase(), this.timer.as_mut(), cx));
                    }
                },
                Stage::Held(schema, mut held) => match held.poll(cx) {
                    Poll::Ready(Ok((response, message))) => {
                        let Some((text, repair)) = checking.check.text(&message) else {
                            return Poll::Ready(Ok(checking.check.answered(response)));
                        };
                        let mut answer = Answer { response, message, text };
                        if schema.is_quick(&answer.text) {
                            let verdict = schema.check(&answer.text, repair);
                            (schema, answer, verdict)
                        } else {
                            let (own, text) = (schema.clone(), mem::take(&mut answer.text));
                            let work = offload(None, move |_| Ok((own.check(&text, repair), text)));
                            checking.stage = Stage::Verdict(schema, answer, Box::pin(work));
                            continue;
                        }
                    }
                    Poll::Ready(Err((error, response))) => break (error, Some(response)),
                    Poll::Pending => {
                        checking.stage = Stage::Held(schema, held);
                        break ready!(checking.poll_deadline(this.call.phase(), this.timer.as_mut(), cx));
                    }
                },
                Stage::Verdict(schema, mut answer, mut work) => match work.as_mut().poll(cx) {
                    Poll::Ready(Ok((verdict, text))) => {
                        answer.text = text;
                        (schema, answer, verdict)
                    }
                    Poll::Ready(Err(error)) => break (error, Some(answer.response)),
                    Poll::Pending => {
                        checking.stage = Stage::Verdict(schema, answer, work);
                        break ready!(checking.poll_deadline(this.call.phase(), this.timer.as_mut(), cx));
                    }
                },
                // The caller polls a future that has ended.
                Stage::End => return Poll::Pending,
            };
            match checking.check.judge(answer, verdict) {
                Decision::Good(response) => return Poll::Ready(Ok(response)),
                Decision::Bad(error) => return Poll::Ready(Err(error)),
                Decision::AskAgain(request) => {
                    this.call.set(Call::further(checking.again.clone(), request));
                    checking.stage = Stage::Call(schema);
                }
            }
        };
        // Release the resources of the call and its answer at once, even if this future is kept.
        checking.stage = Stage::End;
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
        let response = match mem::replace(&mut self.stage, Stage::End) {
            Stage::Held(_, held) => held.into_response(),
            Stage::Verdict(_, answer, _) => answer.response,
            Stage::Compilation(_) | Stage::Call(_) | Stage::End => {
                let error = if phase == Phase::Readiness {
                    let message = "the deadline passed while a second question waited for readiness";
                    LlmError::new(ErrorKind::Deadline, message)
                } else {
                    LlmError::timed_out(TimeoutLimit::Deadline, phase, after)
                };
                return Poll::Ready((error, None));
            }
        };
        let error = LlmError::timed_out(TimeoutLimit::Deadline, Phase::Body, after);
        Poll::Ready((with_origin(error, &response), Some(response)))
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
