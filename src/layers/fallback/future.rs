use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;

use super::{
    AllOpen, StreamBreak,
    restart::Restart,
    shared::Shared,
    walk::{Step, Walk},
};
use crate::{
    CommitPoint, LlmBody, LlmError, LlmRequest, LlmResponse,
    commit::{Commit, broken},
    error::Phase,
    layers::{
        alarm::{self, Alarm},
        call::{BoxedCall, Call},
    },
};

/// The future of [`Fallback`](super::Fallback).
///
/// Dropping it drops the call to the current tier.
#[pin_project]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    state: State<S, S::Future>,
    shared: Arc<Shared>,
    /// The request as it came.
    request: LlmRequest,
    /// The time limit of the current tier.
    slice: Option<Instant>,
    /// The rarely needed state. It is empty while the primary, asked first, has neither failed nor makes the
    /// request wait.
    rest: Option<Box<Rest<S>>>,
}

struct Rest<S> {
    walk: Walk,
    /// The primary, if it may have to be called later than first.
    primary: Option<S>,
    waits_since: Option<Instant>,
    /// The timer of the tier's limit, if no timer further out can be asked, and of the wait until a probe.
    timer: Option<Pin<Box<Sleep>>>,
}

// Two variants and no more, as in `Call`.
#[pin_project(project = StateProjection)]
enum State<S, F> {
    Primary(#[pin] Call<S, F>),
    After(After),
}

/// The further stages, after a primary that does not simply answer.
enum After {
    Tier(Pin<Box<BoxedCall>>),
    /// The answer is held back until it is whole.
    Buffering(Box<(LlmResponse, Commit)>),
    /// Every circuit is open.
    Waiting(LlmError),
    /// No tier can carry the request.
    Refused(Option<LlmError>),
    /// Nothing is under way.
    Done,
}

impl<S> ResponseFuture<S>
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone,
    S::Error: Into<LlmError>,
{
    /// Creates the future of a request that goes to the primary first, with all tiers after it.
    #[inline]
    pub(super) fn primary(
        call: Call<S, S::Future>,
        shared: Arc<Shared>,
        request: LlmRequest,
        slice: Option<Instant>,
    ) -> Self {
        Self { state: State::Primary(call), shared, request, slice, rest: None }
    }

    /// Creates the future of a request that no tier can carry.
    pub(super) fn refused(error: LlmError, shared: Arc<Shared>, request: LlmRequest) -> Self {
        Self { state: State::After(After::Refused(Some(error))), shared, request, slice: None, rest: None }
    }

    /// Creates the future of a request whose chain is not that simple.
    pub(super) fn walking(walk: Walk, primary: S, shared: Arc<Shared>, request: LlmRequest) -> Self {
        let mut primary = Some(primary);
        let (state, slice) = ask(&walk, &mut primary);
        let rest = Rest { walk, primary, waits_since: None, timer: None };
        Self { state, shared, request, slice, rest: Some(Box::new(rest)) }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone,
    S::Error: Into<LlmError>,
{
    type Output = Result<LlmResponse, LlmError>;

    /// # Panics
    ///
    /// Panics if polled after it was ready.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.rest.is_some() {
            return self.poll_on(None, cx);
        }
        let this = self.as_mut().project();
        let StateProjection::Primary(call) = this.state.project() else {
            return self.poll_on(None, cx);
        };
        let mut polled = call.poll(cx);
        let usual = match &mut polled {
            Poll::Ready(Ok(response)) if this.shared.takes(this.request, response) && !this.request.is_explained() => {
                this.shared.primary_answered(this.request, response);
                true
            }
            Poll::Ready(_) => false,
            // The tier has a time limit of its own only while others come before or after it.
            Poll::Pending if this.slice.is_none_or(|slice| alarm::ask(cx, slice) == Alarm::Set) => {
                return Poll::Pending;
            }
            Poll::Pending => false,
        };
        // The common case returns in place: a response is large to move.
        if !usual {
            polled = self.poll_on(Some(polled), cx);
        }
        polled
    }
}

impl<S> ResponseFuture<S>
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone,
    S::Error: Into<LlmError>,
{
    /// Handles the rare cases: a primary that failed, a tier after it, an answer that is not returned as it is.
    /// `polled` is the result of polling the primary.
    #[cold]
    fn poll_on(
        self: Pin<&mut Self>,
        mut polled: Option<Poll<Result<LlmResponse, LlmError>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<LlmResponse, LlmError>> {
        let mut this = self.project();
        loop {
            let polled = match this.state.as_mut().project() {
                StateProjection::Primary(call) => polled.take().unwrap_or_else(|| call.poll(cx)),
                StateProjection::After(After::Tier(call)) => call.as_mut().poll(cx),
                StateProjection::After(After::Buffering(held)) => match Pin::new(&mut held.1).poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(body)) => {
                        let mut response = std::mem::replace(&mut held.0, LlmResponse::from_text(""));
                        *response.body_mut() = body;
                        this.state.set(State::done());
                        walking(this.shared, this.request, this.rest).walk.answered(&mut response);
                        return Poll::Ready(Ok(response));
                    }
                },
                StateProjection::After(After::Waiting(error)) => {
                    let rest = walking(this.shared, this.request, this.rest);
                    if let Some(timer) = &mut rest.timer {
                        ready!(timer.as_mut().poll(cx));
                    }
                    rest.timer = None;
                    if !rest.walk.start_over(error.attempts()) {
                        let error = error.clone();
                        rest.walk.gave_up(&error);
                        return Poll::Ready(Err(error));
                    }
                    let (state, slice) = ask(&rest.walk, &mut rest.primary);
                    *this.slice = slice;
                    this.state.set(state);
                    continue;
                }
                StateProjection::After(After::Refused(error)) => {
                    return Poll::Ready(Err(error.take().expect("polled after it was ready")));
                }
                StateProjection::After(After::Done) => panic!("polled after it was ready"),
            };
            let error = match polled {
                Poll::Ready(Ok(mut response)) => {
                    if !this.shared.takes(this.request, &response) {
                        if this.shared.stream_break(this.request) == StreamBreak::Buffer {
                            let body = std::mem::replace(response.body_mut(), LlmBody::from_text(""));
                            if !response.attempts().is_empty() {
                                // As after a tier that failed: a limit further out knows nothing of the tiers that
                                // were tried.
                                *this.slice = this.slice.or(this.request.context().deadline);
                            }
                            let held = Box::new((
                                response,
                                Commit::new(body, CommitPoint::Complete, Some(this.request.clone())),
                            ));
                            this.state.set(State::After(After::Buffering(held)));
                            continue;
                        }
                        this.state.set(State::done());
                        let mut rest = take_walk(this.shared, this.request, this.rest);
                        rest.walk.answered(&mut response);
                        rest.walk.keep_for_body(&response);
                        let names = response.names();
                        return Poll::Ready(Ok(response.map_body(|body| Restart::body(body, names, rest.walk))));
                    }
                    walking(this.shared, this.request, this.rest).walk.answered(&mut response);
                    return Poll::Ready(Ok(response));
                }
                Poll::Ready(Err(error)) => error,
                Poll::Pending => {
                    let Some(slice) = *this.slice else { return Poll::Pending };
                    let phase = this.state.phase();
                    ready!(poll_slice(slice, phase, || walking(this.shared, this.request, this.rest), cx))
                }
            };
            // An answer that broke while it was held back may have cost attempts before it began.
            let error = match this.state.as_mut().project() {
                StateProjection::After(After::Buffering(held)) => broken(error, &held.0),
                _ => error,
            };
            // Release the failed call before the next tier is tried, even if this future is kept.
            this.state.set(State::done());
            let rest = walking(this.shared, this.request, this.rest);
            match rest.walk.failed(error) {
                Step::Ask => {
                    let (state, slice) = ask(&rest.walk, &mut rest.primary);
                    *this.slice = slice;
                    this.state.set(state);
                }
                Step::GiveUp(error) => match try_again_at(&rest.walk, &error, rest.waits_since) {
                    Some(at) if rest.primary.is_some() => {
                        rest.waits_since.get_or_insert_with(Instant::now);
                        rest.timer = Some(Box::pin(sleep_until(at)));
                        this.state.set(State::After(After::Waiting(error)));
                    }
                    _ => {
                        rest.walk.gave_up(&error);
                        return Poll::Ready(Err(error));
                    }
                },
            }
        }
    }
}

impl<S, F> State<S, F> {
    // No constant, as with `Call::idle`.
    #[inline(always)]
    fn done() -> Self {
        Self::After(After::Done)
    }

    /// Returns the phase of the current call.
    fn phase(&self) -> Phase {
        match self {
            Self::Primary(call) => call.phase(),
            Self::After(After::Tier(call)) => call.phase(),
            _ => Phase::Body,
        }
    }
}

/// Completes with the failure when the tier's time limit is over.
#[inline]
fn poll_slice<'a, S: 'a>(
    slice: Instant,
    phase: Phase,
    rest: impl FnOnce() -> &'a mut Rest<S>,
    cx: &mut Context<'_>,
) -> Poll<LlmError> {
    let rest = rest();
    ready!(alarm::poll_at(slice, &mut rest.timer, cx));
    let had = slice.saturating_duration_since(rest.walk.begun());
    Poll::Ready(LlmError::deadline_passed(phase, had))
}

/// Returns the chain's state, created now if it was not needed before.
#[cold]
fn walking<'a, S>(shared: &Arc<Shared>, request: &LlmRequest, rest: &'a mut Option<Box<Rest<S>>>) -> &'a mut Rest<S> {
    rest.get_or_insert_with(|| {
        let walk = Walk::from_primary(shared.clone(), request.clone());
        Box::new(Rest { walk, primary: None, waits_since: None, timer: None })
    })
}

fn take_walk<S>(shared: &Arc<Shared>, request: &LlmRequest, rest: &mut Option<Box<Rest<S>>>) -> Box<Rest<S>> {
    walking(shared, request, rest);
    rest.take().expect("it was put there a line above")
}

/// Calls the current tier. Returns the call and its time limit.
fn ask<S>(walk: &Walk, primary: &mut Option<S>) -> (State<S, S::Future>, Option<Instant>)
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone,
    S::Error: Into<LlmError>,
{
    let (request, slice) = walk.request();
    let state = match (walk.service(), primary) {
        (Some(service), _) => State::After(After::Tier(Box::pin(Call::further(service, request)))),
        (None, Some(primary)) => State::Primary(Call::further(primary.clone(), request)),
        (None, None) => unreachable!("the primary is kept wherever the walk may come to it later"),
    };
    (state, slice)
}

/// The least time for which a request that waits for a probe leaves the circuits alone.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// Returns when to try again if no tier works and the request may wait.
fn try_again_at(walk: &Walk, error: &LlmError, waits_since: Option<Instant>) -> Option<Instant> {
    let now = Instant::now();
    let (at, latest) = match walk.all_open() {
        AllOpen::Fail => return None,
        AllOpen::Wait(longest) => {
            // Again while another request's probe is under way: waiting requests follow the first that succeeds.
            let at = walk.earliest_probe(error)?.max(now.checked_add(LEAST_PAUSE)?);
            (at, walk.deadline().or_else(|| waits_since.unwrap_or(now).checked_add(longest)))
        }
        AllOpen::Queue(longest) => {
            let latest = waits_since.unwrap_or(now).checked_add(longest);
            (walk.next_try(error, now)?, walk.deadline().into_iter().chain(latest).min())
        }
    };
    (at < latest?).then_some(at)
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tier = self.rest.as_ref().map_or(0, |rest| rest.walk.at());
        f.debug_struct("fallback::ResponseFuture").field("tier", &tier).finish_non_exhaustive()
    }
}
