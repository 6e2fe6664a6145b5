use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;

use super::{Rule, plan::Plan};
use crate::{
    DegradedReason, LlmError, LlmRequest, LlmResponse, LlmService,
    classify::Failover,
    error::{Phase, TimeoutLimit},
    layers::{
        call::{BoxedCall, Call},
        clock,
    },
    ledger::{Ledger, Next, Stop},
    request::BEST_LEVEL,
    timer,
};

/// The future of [`Route`](super::Route).
///
/// Dropping it drops the call under way.
#[pin_project]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    state: State<S, S::Future>,
    /// Set for a request that a rule has taken.
    routed: Option<Box<RouteState<S>>>,
}

#[pin_project(project = StateProjection)]
enum State<S, F> {
    Default(#[pin] Call<S, F>),
    Cheap(Pin<Box<BoxedCall>>),
    Done,
}

struct RouteState<S> {
    plan: Arc<Plan>,
    rule: usize,
    /// The default chain, until it is called.
    inner: Option<S>,
    /// The request as it came.
    request: LlmRequest,
    /// The time at which the current chain was called.
    begun: Instant,
    /// The time limit of the current chain.
    limit: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    ledger: Ledger,
}

impl<S> ResponseFuture<S>
where
    S: LlmService,
{
    #[inline]
    pub(super) fn default_chain(call: Call<S, S::Future>) -> Self {
        Self { state: State::Default(call), routed: None }
    }

    pub(super) fn routed(plan: Arc<Plan>, rule: usize, inner: S, request: LlmRequest) -> Self {
        let begun = clock::now();
        let mut context = *request.context();
        let mut limit = None;
        // A default chain that is never called needs no time.
        if !request.is_first_tier_only() {
            let left = context.time_left(begun);
            let reserve = plan.reserve_for_default;
            limit = context.deadline.zip(left).and_then(|(at, left)| at.checked_sub(reserve.min(left / 2)));
            context.deadline = limit.or(context.deadline);
            context.tiers_left = context.tiers_left.saturating_add(1);
            // One attempt stays for the default chain.
            context.attempts_left = context.attempts_left.saturating_sub(1).max(1);
        }
        let call = BoxedCall::elsewhere(plan.routes[rule].1.clone(), request.with_context(context));
        let ledger = Ledger::default();
        let routed = RouteState { plan, rule, inner: Some(inner), request, begun, limit, timer: None, ledger };
        Self { state: State::Cheap(Box::pin(call)), routed: Some(Box::new(routed)) }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: LlmService,
{
    type Output = Result<LlmResponse, LlmError>;

    /// # Panics
    ///
    /// Panics if polled after it was ready.
    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Default(mut call) => {
                    let mut polled = call.as_mut().poll(cx);
                    if let Some(routed) = this.routed {
                        if polled.is_pending() {
                            // A limit further out knows nothing of the chain that failed.
                            polled = routed.poll_limit(call.phase(), cx).map(Err);
                        }
                        if let Poll::Ready(result) = &mut polled {
                            routed.tell(result);
                        }
                    }
                    if let Poll::Ready(Err(_)) = &polled {
                        call.abandon();
                    }
                    return polled;
                }
                StateProjection::Cheap(call) => {
                    let Some(routed) = this.routed else { unreachable!("the cheap chain is asked by a rule") };
                    let error = match call.as_mut().poll(cx) {
                        Poll::Ready(Ok(mut response)) => {
                            this.state.set(State::Done);
                            response.degrade(BEST_LEVEL, || DegradedReason::Route);
                            response.set_route(&routed.rule().name, routed.plan.instead_of);
                            return Poll::Ready(Ok(response));
                        }
                        Poll::Ready(Err(error)) => error,
                        Poll::Pending => ready!(routed.poll_limit(call.phase(), cx)),
                    };
                    // Drop the failed call first: the default chain must not wait for its permits.
                    this.state.set(State::Done);
                    let call = routed.failed(error)?;
                    this.state.set(State::Default(call));
                }
                StateProjection::Done => panic!("polled after it was ready"),
            }
        }
    }
}

impl<S> RouteState<S> {
    fn rule(&self) -> &Rule {
        &self.plan.routes[self.rule].0
    }

    /// Completes with the failure when the current chain's time is over.
    fn poll_limit(&mut self, phase: Phase, cx: &mut Context<'_>) -> Poll<LlmError> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(limit)));
        ready!(timer::poll(timer.as_mut(), cx));
        Poll::Ready(LlmError::timed_out(TimeoutLimit::Deadline, phase, self.begun.elapsed()))
    }

    /// Adds the record of both chains to the default chain's result.
    fn tell(&mut self, result: &mut Result<LlmResponse, LlmError>) {
        let mut ledger = std::mem::take(&mut self.ledger);
        match result {
            Ok(response) => ledger.answered(response),
            Err(error) => {
                ledger.failed(error, self.begun, Instant::now());
                ledger.give_up(error);
            }
        }
    }
}

impl<S> RouteState<S>
where
    S: LlmService,
{
    /// Takes the cheap chain's failure: calls the default chain, if another chain can help.
    #[cold]
    fn failed(&mut self, mut error: LlmError) -> Result<Call<S, S::Future>, LlmError> {
        let class = self.plan.classifier.classify(&error);
        let name = self.rule().name.clone();
        let now = Instant::now();
        self.ledger.failed(&mut error, self.begun, now);
        self.ledger.name_tier(0, &name);
        let first = *self.request.context();
        let stop = match class.failover {
            Failover::No | Failover::IfRouted => Some(Stop::Kind),
            _ if self.request.is_first_tier_only() => Some(Stop::Policy),
            // One model of the cheap chain has given it.
            Failover::SecondOpinion if self.ledger.spent() > 1 => Some(Stop::Kind),
            _ if self.ledger.spent() >= first.attempts_left => Some(Stop::Attempts),
            _ if first.deadline.is_some_and(|deadline| deadline <= now) => Some(Stop::Deadline),
            Failover::Yes | Failover::LargerWindow | Failover::AfterAnother | Failover::SecondOpinion => None,
        };
        match (stop, self.inner.take()) {
            (None, Some(inner)) => {
                self.ledger.next(Next::FailedOver);
                (self.begun, self.limit, self.timer) = (now, first.deadline, None);
                let mut context = self.ledger.context(first);
                context.begun = Some(now);
                Ok(Call::further(inner, self.request.with_context(context)))
            }
            (stop, _) => {
                self.ledger.next(Next::Stopped(stop.unwrap_or(Stop::LastTier)));
                std::mem::take(&mut self.ledger).give_up(&mut error);
                Err(error)
            }
        }
    }
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = self.routed.as_ref().map(|routed| &routed.rule().name);
        f.debug_struct("route::ResponseFuture").field("rule", &rule).finish_non_exhaustive()
    }
}
