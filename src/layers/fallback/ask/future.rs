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
    continuation::Continuation,
    failover::{Failover, Step},
    restart::Restart,
};
use crate::{
    CommitPoint, LlmBody, LlmError, LlmRequest, LlmResponse, LlmService,
    commit::{Commit, broken},
    error::Phase,
    internal::sharded::Shard,
    layers::{
        alarm::{self, Wake},
        call::{BoxedCall, Call},
        fallback::{
            choose::{AllOpen, StreamBreak},
            core::Core,
            serve::ShortWait,
        },
    },
    timer,
};

/// The future of [`Fallback`](crate::Fallback).
///
/// Dropping it drops the call to the current tier.
#[pin_project]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    state: State<S, S::Future>,
    /// The time limit of the current tier.
    tier_deadline: Option<Instant>,
    /// Set if the primary is asked first, until it fails, makes the request wait or answers otherwise than plainly.
    first: Option<First<S>>,
    /// The rarely needed state, set from then on.
    rest: Option<Box<Rest<S>>>,
}

/// The parts of which the rarely needed state is made.
struct First<S> {
    core: Arc<Shard<Core<S>>>,
    /// The request as it came.
    request: LlmRequest,
}

/// The way to the primary.
enum Primary<S> {
    /// A service of the request's own.
    Own(S),
    /// A fresh one on demand.
    Spare(Arc<Shard<Core<S>>>),
}

impl<S: Clone> Primary<S> {
    fn fresh(&self) -> S {
        match self {
            Self::Own(primary) => primary.clone(),
            Self::Spare(core) => core.spare.fresh(),
        }
    }
}

struct Rest<S> {
    failover: Failover,
    /// The primary, which may have to be called later than first.
    primary: Primary<S>,
    waits_since: Option<Instant>,
    /// Held by a request that waits although it need not.
    short_wait: Option<ShortWait>,
    /// The timer of the tier's limit, if no timer further out can be asked, and of the wait until a probe.
    timer: Option<Pin<Box<Sleep>>>,
}

// Two variants and no more, as in `Call`.
#[pin_project(project = StateProjection)]
enum State<S, F> {
    Primary(#[pin] Call<S, F>),
    LaterStage(LaterStage),
}

/// The further stages, after a primary that does not simply answer.
enum LaterStage {
    Tier(BoxedCall),
    /// The answer is held back until it is whole.
    Buffering(Box<(LlmResponse, Commit)>),
    /// No tier works: every circuit is open, or the request waits for a rate limit.
    Waiting(LlmError),
    /// No tier can carry the request.
    Refused(Option<LlmError>),
    /// Nothing is under way.
    Done,
}

impl<S> ResponseFuture<S>
where
    S: LlmService + Clone,
{
    /// Creates the future of a request that goes to the primary first, with all tiers after it.
    #[inline]
    pub(crate) fn primary(
        call: Call<S, S::Future>,
        core: Arc<Shard<Core<S>>>,
        request: LlmRequest,
        tier_deadline: Option<Instant>,
    ) -> Self {
        Self { state: State::Primary(call), tier_deadline, first: Some(First { core, request }), rest: None }
    }

    /// Creates the future of a request that no tier can carry.
    pub(crate) fn refused(error: LlmError) -> Self {
        let state = State::LaterStage(LaterStage::Refused(Some(error)));
        Self { state, tier_deadline: None, first: None, rest: None }
    }

    /// Creates the future of a request whose chain is not that simple.
    pub(crate) fn failing_over(failover: Failover, primary: S) -> Self {
        let (request, tier_deadline) = failover.request();
        let state = match failover.tier() {
            Some(tier) => State::LaterStage(LaterStage::Tier(BoxedCall::elsewhere(tier.fresh(), request))),
            None => State::Primary(Call::further(primary.clone(), request)),
        };
        let rest = Rest { failover, primary: Primary::Own(primary), waits_since: None, short_wait: None, timer: None };
        Self { state, tier_deadline, first: None, rest: Some(Box::new(rest)) }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: LlmService + Clone,
{
    type Output = Result<LlmResponse, LlmError>;

    /// # Panics
    ///
    /// Panics if polled after it was ready.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        let (StateProjection::Primary(call), Some(First { core, request })) = (this.state.project(), &*this.first)
        else {
            return self.poll_on(None, cx);
        };
        let mut polled = call.poll(cx);
        let usual = match &mut polled {
            Poll::Ready(Ok(response)) if core.shared.takes(request, response) => {
                core.shared.primary_answered(request, response);
                if request.is_explained() {
                    core.shared.explain_primary(request, response);
                }
                true
            }
            Poll::Ready(_) => false,
            // The tier has a time limit of its own only while others come before or after it.
            Poll::Pending
                if this
                    .tier_deadline
                    .is_none_or(|tier_deadline| alarm::request_wake(cx, tier_deadline) == Wake::Scheduled) =>
            {
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
    S: LlmService + Clone,
{
    /// Handles the rare cases: a primary that failed, a tier after it, an answer that is not returned as it is.
    /// `polled` is the result of polling the primary.
    #[cold]
    fn poll_on(
        mut self: Pin<&mut Self>,
        mut polled: Option<Poll<Result<LlmResponse, LlmError>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<LlmResponse, LlmError>> {
        loop {
            let mut this = self.as_mut().project();
            let polled = match this.state.as_mut().project() {
                StateProjection::Primary(call) => polled.take().unwrap_or_else(|| call.poll(cx)),
                StateProjection::LaterStage(LaterStage::Tier(call)) => Pin::new(call).poll(cx),
                StateProjection::LaterStage(LaterStage::Buffering(held)) => match Pin::new(&mut held.1).poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(body)) => {
                        let mut response = std::mem::replace(&mut held.0, LlmResponse::from_text(""));
                        *response.body_mut() = body;
                        this.state.set(State::done());
                        failing_over(this.first, this.rest).failover.answered(&mut response);
                        return Poll::Ready(Ok(response));
                    }
                },
                StateProjection::LaterStage(LaterStage::Waiting(error)) => {
                    let rest = failing_over(this.first, this.rest);
                    ready!(rest.poll_start_over(error, cx))?;
                    *this.tier_deadline = rest.ask(this.state);
                    continue;
                }
                StateProjection::LaterStage(LaterStage::Refused(error)) => {
                    return Poll::Ready(Err(error.take().expect("polled after it was ready")));
                }
                StateProjection::LaterStage(LaterStage::Done) => panic!("polled after it was ready"),
            };
            let error = match polled {
                Poll::Ready(Ok(mut response)) => {
                    let failover = &mut failing_over(this.first, this.rest).failover;
                    if failover.takes(&response) {
                        failover.answered(&mut response);
                        return Poll::Ready(Ok(response));
                    }
                    match self.as_mut().watch(response) {
                        Some(response) => return Poll::Ready(Ok(response)),
                        None => continue,
                    }
                }
                Poll::Ready(Err(error)) => error,
                Poll::Pending => ready!(self.as_mut().poll_tier_deadline(cx)),
            };
            self.as_mut().fail_over(error)?;
        }
    }

    /// Takes an answer whose stream may break. Returns the response, or `None` if it is held back until it is whole.
    fn watch(self: Pin<&mut Self>, mut response: LlmResponse) -> Option<LlmResponse> {
        let mut this = self.project();
        let failover = &failing_over(this.first, this.rest).failover;
        if failover.stream_break() == StreamBreak::Buffer {
            let body = std::mem::replace(response.body_mut(), LlmBody::from_text(""));
            if !response.attempts().is_empty() {
                // As after a tier that failed: a limit further out knows nothing of the tiers that were tried.
                *this.tier_deadline = this.tier_deadline.or(failover.deadline());
            }
            let commit = Commit::new(body, CommitPoint::Complete, Some(failover.whole_request().clone()));
            this.state.set(State::LaterStage(LaterStage::Buffering(Box::new((response, commit)))));
            return None;
        }
        this.state.set(State::done());
        let mut rest = this.rest.take().expect("it was put there above");
        let goes_on = rest.failover.stream_break() == StreamBreak::Continue;
        rest.failover.answered(&mut response);
        rest.failover.keep_for_body(&response);
        let names = response.names();
        if goes_on {
            let author = (names, response.price().cloned());
            return Some(response.map_body(|body| Continuation::body(body, author, rest.failover)));
        }
        Some(response.map_body(|body| Restart::body(body, names, rest.failover)))
    }

    /// Completes with the failure when the current tier's time limit is over.
    #[inline]
    fn poll_tier_deadline(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LlmError> {
        let this = self.project();
        let Some(tier_deadline) = *this.tier_deadline else { return Poll::Pending };
        let phase = this.state.phase();
        let rest = failing_over(this.first, this.rest);
        ready!(alarm::poll_at(tier_deadline, &mut rest.timer, cx));
        let had = tier_deadline.saturating_duration_since(rest.failover.begun());
        Poll::Ready(LlmError::deadline_passed(phase, had).noticed_at(tier_deadline, Instant::now()))
    }

    /// Takes the current tier's failure. Asks the next tier, or waits until one may work again.
    ///
    /// # Errors
    ///
    /// Returns the request's failure if no tier is left.
    #[inline]
    fn fail_over(self: Pin<&mut Self>, error: LlmError) -> Result<(), LlmError> {
        let mut this = self.project();
        // An answer that broke while it was held back may have cost attempts before it began.
        let error = match this.state.as_mut().project() {
            StateProjection::LaterStage(LaterStage::Buffering(held)) => broken(error, &held.0),
            _ => error,
        };
        // Release the failed call before the next tier is tried, even if this future is kept.
        this.state.set(State::done());
        let rest = failing_over(this.first, this.rest);
        match rest.failover.failed(error) {
            Step::Ask => *this.tier_deadline = rest.ask(this.state),
            Step::GiveUp(error) => match rest.try_again_at(&error) {
                Some(at) => {
                    rest.waits_since.get_or_insert_with(Instant::now);
                    rest.timer = Some(Box::pin(sleep_until(at)));
                    this.state.set(State::LaterStage(LaterStage::Waiting(error)));
                }
                None => {
                    rest.failover.report_all_failed(&error);
                    return Err(error);
                }
            },
        }
        Ok(())
    }
}

impl<S> Rest<S>
where
    S: LlmService + Clone,
{
    /// Calls the current tier, whose time begins in this turn. Returns the time limit.
    // Written where it stays: a state has room for the primary's whole future.
    fn ask(&self, mut state: Pin<&mut State<S, S::Future>>) -> Option<Instant> {
        let (request, tier_deadline) = self.failover.request();
        match self.failover.tier() {
            Some(tier) => {
                let call = BoxedCall::elsewhere_now(tier, request);
                state.set(State::LaterStage(LaterStage::Tier(call)));
            }
            None => state.set(State::Primary(Call::further(self.primary.fresh(), request))),
        }
        tier_deadline
    }

    /// Returns when to try again if no tier works and the request may wait.
    fn try_again_at(&mut self, error: &LlmError) -> Option<Instant> {
        let now = Instant::now();
        let Self { failover, waits_since, .. } = self;
        if let Some(at) = failover.after_rate_limit(error, now) {
            return failover.deadline().is_some_and(|deadline| at < deadline).then_some(at);
        }
        let within = |longest| waits_since.unwrap_or(now).checked_add(longest);
        let (at, latest) = match failover.all_open() {
            AllOpen::Fail => {
                let at = failover.next_probe(error, now)?.max(now.checked_add(SHORT_PAUSE)?);
                (at, failover.deadline().into_iter().chain(within(LONGEST_SHORT_WAIT)).min())
            }
            AllOpen::Wait(longest) => {
                // Again while another request's probe is under way: waiting requests follow the first that succeeds.
                let at = failover.next_probe(error, now)?.max(now.checked_add(LEAST_PAUSE)?);
                (at, failover.deadline().or_else(|| within(longest)))
            }
            AllOpen::Queue(longest) => {
                let latest = failover.deadline().into_iter().chain(within(longest)).min();
                (failover.next_try(error, now)?, latest)
            }
        };
        if at >= latest? {
            return None;
        }
        if failover.all_open() == AllOpen::Fail && self.short_wait.is_none() {
            self.short_wait = Some(self.failover.wait_shortly()?);
        }
        Some(at)
    }

    /// Waits until a tier may work again, and starts over at the first tier. `error` is the failure of the round
    /// before.
    ///
    /// # Errors
    ///
    /// Fails if no tier is left that may be asked.
    fn poll_start_over(&mut self, error: &LlmError, cx: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        if let Some(timer) = &mut self.timer {
            ready!(timer::poll(timer.as_mut(), cx));
        }
        self.timer = None;
        if !self.failover.start_over(error.attempts()) {
            let error = error.clone();
            self.failover.report_all_failed(&error);
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S, F> State<S, F> {
    // Not a constant, for the reason in `Call::idle`.
    #[inline(always)]
    fn done() -> Self {
        Self::LaterStage(LaterStage::Done)
    }

    /// Returns the phase of the current call.
    fn phase(&self) -> Phase {
        match self {
            Self::Primary(call) => call.phase(),
            Self::LaterStage(LaterStage::Tier(call)) => call.phase(),
            _ => Phase::Body,
        }
    }
}

/// Returns the chain's state, created now if it was not needed before.
#[cold]
fn failing_over<'a, S: Clone>(first: &mut Option<First<S>>, rest: &'a mut Option<Box<Rest<S>>>) -> &'a mut Rest<S> {
    rest.get_or_insert_with(|| {
        // Made where it stays: it is large to move.
        let place = Box::new_uninit();
        let First { core, request } = first.take().expect("polled after it was ready");
        let failover = Failover::from_primary(core.shared.shard(), request);
        Box::write(
            place,
            Rest { failover, primary: Primary::Spare(core), waits_since: None, short_wait: None, timer: None },
        )
    })
}

/// The least time for which a request that waits for a probe leaves the circuits alone.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// The wait for a probe of a request that would fail otherwise: shorter than any client's own before it repeats.
const LONGEST_SHORT_WAIT: Duration = Duration::from_secs(1);
/// The least time for which such a request leaves the circuits alone.
const SHORT_PAUSE: Duration = Duration::from_millis(50);

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tier = self.rest.as_ref().map_or(0, |rest| rest.failover.at());
        f.debug_struct("fallback::ResponseFuture").field("tier", &tier).finish_non_exhaustive()
    }
}
