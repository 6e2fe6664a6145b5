use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;

use super::{
    AllOpen, StreamBreak,
    restart::Restart,
    walk::{Step, Walk},
};
use crate::{
    BoxLlmService, CommitPoint, LlmBody, LlmError, LlmRequest, LlmResponse, commit::Commit, error::TimeoutLimit,
    layers::call::Call,
};

/// A call to a tier after the primary.
pub(super) type TierCall = Call<BoxLlmService, <BoxLlmService as Service<LlmRequest>>::Future>;

/// The future of [`Fallback`](super::Fallback).
///
/// Dropping it drops the call to the tier that is being asked.
#[pin_project]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    state: State<S, S::Future>,
    /// For the slice of time that the tier has, or for the wait until a probe. Made when first needed.
    #[pin]
    timer: Option<Sleep>,
    walk: Option<Walk>,
    /// The primary, where it may have to be called later than first.
    primary: Option<S>,
    waited: bool,
}

#[pin_project(project = StateProjection)]
enum State<S, F> {
    Primary(#[pin] Call<S, F>),
    Tier(#[pin] TierCall),
    /// Holding the answer back until it is whole.
    Buffering(Option<LlmResponse>, Commit),
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
    pub(super) fn primary(call: Call<S, S::Future>, walk: Walk, again: Option<S>) -> Self {
        Self { state: State::Primary(call), timer: None, walk: Some(walk), primary: again, waited: false }
    }

    /// A request that no tier can carry.
    pub(super) fn refused(error: LlmError) -> Self {
        Self { state: State::Refused(Some(error)), timer: None, walk: None, primary: None, waited: false }
    }

    /// A request that begins at a tier after the primary.
    pub(super) fn elsewhere(walk: Walk, primary: S) -> Self {
        let mut primary = Some(primary);
        Self { state: ask(&walk, &mut primary), timer: None, walk: Some(walk), primary, waited: false }
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
    /// When polled after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let StateProjection::Refused(error) = this.state.as_mut().project() {
            return Poll::Ready(Err(error.take().expect("polled after it was ready")));
        }
        loop {
            let walk = this.walk.as_mut().expect("polled after it was ready");
            let polled = match this.state.as_mut().project() {
                StateProjection::Primary(call) => call.poll(cx),
                StateProjection::Tier(call) => call.poll(cx),
                StateProjection::Buffering(response, commit) => match Pin::new(commit).poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(body)) => {
                        let response = response.take().expect("there is one for as long as its body is held back");
                        return Poll::Ready(Ok(walk.answered(response.map_body(|_| body))));
                    }
                },
                StateProjection::Waiting(error) => {
                    let timer = this.timer.as_mut().as_pin_mut().expect("it was set with the state");
                    std::task::ready!(timer.poll(cx));
                    this.timer.set(None);
                    walk.start_over(error.attempts());
                    let state = ask(walk, this.primary);
                    this.state.set(state);
                    continue;
                }
                StateProjection::Refused(_) | StateProjection::Done => unreachable!("the walk is over then"),
            };
            let error = match polled {
                Poll::Ready(Ok(response)) => match walk.shared().config.stream_break {
                    StreamBreak::Buffer if response.body().is_stream() => {
                        let mut response = response;
                        let body = std::mem::replace(response.body_mut(), LlmBody::from_text(""));
                        this.state.set(State::Buffering(Some(response), Commit::new(body, CommitPoint::Complete)));
                        continue;
                    }
                    StreamBreak::Restart if response.body().is_stream() => {
                        let response = walk.answered(response);
                        walk.keep_for_body(&response);
                        let walk = this.walk.take().expect("it was there at the start of the loop");
                        return Poll::Ready(Ok(response.map_body(|body| Restart::body(body, walk))));
                    }
                    _ => return Poll::Ready(Ok(walk.answered(response))),
                },
                Poll::Ready(Err(error)) => error,
                // The tier has a slice of the time only while others come after it.
                Poll::Pending => {
                    let Some(slice) = walk.slice() else { return Poll::Pending };
                    match this.timer.as_mut().as_pin_mut() {
                        Some(timer) if timer.deadline() == slice => {}
                        Some(timer) => timer.reset(slice),
                        None => this.timer.set(Some(sleep_until(slice))),
                    }
                    let timer = this.timer.as_mut().as_pin_mut().expect("it was set a line above");
                    std::task::ready!(timer.poll(cx));
                    let phase = match this.state.as_mut().project() {
                        StateProjection::Primary(call) => call.phase(),
                        StateProjection::Tier(call) => call.phase(),
                        _ => crate::error::Phase::Body,
                    };
                    let after = slice.saturating_duration_since(walk.begun());
                    LlmError::timed_out(TimeoutLimit::Deadline, phase, after)
                }
            };
            // What is tried next holds nothing of what failed.
            match walk.failed(error) {
                Step::Ask => {
                    let state = ask(walk, this.primary);
                    this.state.set(state);
                }
                Step::GiveUp(error) => match probe_at(walk, &error, *this.waited) {
                    Some(at) if this.primary.is_some() => {
                        *this.waited = true;
                        this.timer.set(Some(sleep_until(at)));
                        this.state.set(State::Waiting(error));
                    }
                    _ => {
                        // At once, even if the future is kept: what the call held is free.
                        this.state.set(State::Done);
                        *this.walk = None;
                        return Poll::Ready(Err(error));
                    }
                },
            }
        }
    }
}

/// Calls the tier that the walk is at.
fn ask<S>(walk: &Walk, primary: &mut Option<S>) -> State<S, S::Future>
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone,
    S::Error: Into<LlmError>,
{
    match (walk.service(), primary) {
        (Some(service), _) => State::Tier(Call::further(service, walk.request())),
        (None, Some(primary)) => State::Primary(Call::further(primary.clone(), walk.request())),
        (None, None) => unreachable!("the primary is kept wherever the walk may come to it later"),
    }
}

/// When every circuit is open, the moment to try again, if the request may wait for it.
fn probe_at(walk: &Walk, error: &LlmError, waited: bool) -> Option<Instant> {
    let AllOpen::Wait(longest) = walk.shared().config.all_open else { return None };
    let at = walk.earliest_probe(error).filter(|_| !waited)?;
    let latest = walk.deadline().or_else(|| Instant::now().checked_add(longest))?;
    (at < latest).then_some(at)
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("fallback::ResponseFuture")
            .field("tier", &self.walk.as_ref().map(Walk::at))
            .finish_non_exhaustive()
    }
}
