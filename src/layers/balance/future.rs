use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project::pin_project;
use tokio::time::Instant;
use tower::Service;

use super::{
    choice::{Choice, Search},
    members::{Member, Members},
    shared::Shared,
    state::{DeploymentState, OutReason},
    time::Time,
};
use crate::{
    ErrorKind, LlmError, LlmRequest, LlmResponse, LlmService,
    body::admission::Permit,
    classify::Failover,
    layers::{call::Call, deadline::Deadline, retry::Reservation},
    ledger::{Attempt, Ledger, Next, Stop},
};

/// The future of [`Balance`](super::Balance).
///
/// Dropping it drops the call and frees its place.
#[pin_project]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    /// The place at the deployment, until the answer's body holds it.
    permit: Permit,
    shared: Arc<Shared<S>>,
    members: Arc<Members<S>>,
    request: LlmRequest,
    /// The deployment that the call went to, and when.
    at: usize,
    begun: Instant,
    failures: Option<Box<Failures>>,
    /// Set if no layer further out ends the request at its deadline.
    deadline: Option<Box<Deadline>>,
}

/// The failures of a request so far.
#[derive(Default)]
struct Failures {
    ledger: Ledger,
    /// The deployments that failed.
    tried: Vec<usize>,
    /// The first failure, of a call that was sent if there is one.
    lead: Option<LlmError>,
    /// The earliest moment at which one of them may work again.
    earliest: Option<Instant>,
    /// The retry budget's token for the call under way.
    token: Option<Reservation>,
}

impl<S> ResponseFuture<S>
where
    S: LlmService + Clone,
{
    /// Sends the request to the deployment that is best for it.
    #[inline]
    pub(super) fn begin(
        shared: Arc<Shared<S>>,
        members: Arc<Members<S>>,
        mut request: LlmRequest,
        now: Instant,
    ) -> Self {
        let search = Search::new(&members, &shared.common, &request, &[], now);
        let Some(Choice { at, permit, last_resort }) = search.choose() else {
            let error = none_serves(&search);
            return Self::failed(shared, members, request, error);
        };
        request.context_mut().begun.get_or_insert(now);
        let mut sent = request.clone();
        let context = sent.context_mut();
        context.last_resort |= last_resort;
        context.prospects.note_can_go_on(members.list.len() > 1);
        let call = Call::first(&mut members.list[at].service.clone(), sent);
        Self { call, permit, shared, members, request, at, begun: now, failures: None, deadline: None }
    }

    /// A request that fails without a call.
    #[cold]
    pub(super) fn failed(
        shared: Arc<Shared<S>>,
        members: Arc<Members<S>>,
        request: LlmRequest,
        error: LlmError,
    ) -> Self {
        let (call, permit, begun) = (Call::failed(error), Permit::default(), Instant::now());
        // No deployment: there is none further, and none to name.
        let at = usize::MAX;
        Self { call, permit, shared, members, request, at, begun, failures: None, deadline: None }
    }

    /// Ends the request at its deadline, which no layer further out does.
    pub(super) fn until(mut self, deadline: Option<Box<Deadline>>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Takes an answer.
    #[inline]
    fn answered(self: Pin<&mut Self>, response: &mut LlmResponse) {
        let this = self.project();
        let state = &this.members.list[*this.at].state;
        let now = Time::new(Instant::now(), this.shared.common.begun);
        state.begins(this.permit, response, now);
        response.hold_permit(this.permit);
        response.name_deployment(&state.name);
        if let Some(failures) = this.failures.take() {
            failures.ledger.answered(response);
        }
    }

    /// Takes the failure of the call, and begins another one at another deployment.
    ///
    /// # Errors
    ///
    /// Returns the request's failure if no further call helps, or may be made.
    #[cold]
    fn fail_over(self: Pin<&mut Self>, mut error: LlmError, is_over: bool) -> Result<(), LlmError> {
        let mut this = self.project();
        let Some(member) = this.members.list.get(*this.at) else { return Err(error) };
        // Release the failed call before another one is made.
        this.call.as_mut().abandon();
        this.permit.fail(&mut error);
        let failures = this.failures.get_or_insert_default();
        let was_sent = failures.record(&mut error, &member.state, *this.begun);
        failures.tried.push(*this.at);
        let class = this.shared.common.settings.classifier.classify(&error);
        // A key that one deployment refuses says nothing about the key of another.
        let may_help = matches!(class.failover, Failover::Yes);
        if is_over || !may_help || this.members.list.len() < 2 {
            // Of this failure the caller must know, whatever happened before.
            let ledger = mem::take(&mut failures.ledger);
            ledger.give_up(&mut error);
            return Err(error);
        }
        failures.lead(error, was_sent);
        let now = Instant::now();
        let context = this.request.context();
        let search = Search::new(this.members, &this.shared.common, this.request, &failures.tried, now);
        let stop = match search.choose() {
            None => Stop::LastDeployment,
            Some(_) if failures.ledger.spent() >= context.attempts_left => Stop::Attempts,
            Some(_) if context.deadline.is_some_and(|deadline| deadline <= now) => Stop::Deadline,
            Some(choice) => match this.shared.common.settings.budget.reserve(now) {
                None => Stop::Budget,
                Some(token) => {
                    failures.ledger.next(Next::Rebalanced);
                    failures.token = Some(token);
                    let mut request = this.request.clone();
                    let context = request.context_mut();
                    failures.ledger.deduct(context);
                    context.begun = Some(now);
                    context.last_resort |= choice.last_resort;
                    context.prospects.note_left_primary();
                    context.prospects.note_can_go_on(failures.tried.len() + 1 < this.members.list.len());
                    let service = this.members.list[choice.at].service.clone();
                    (*this.permit, *this.at, *this.begun) = (choice.permit, choice.at, now);
                    this.call.set(Call::further(service, request));
                    return Ok(());
                }
            },
        };
        let skipped = if stop == Stop::LastDeployment { steps(&search) } else { Vec::new() };
        Err(failures.give_up(stop, skipped))
    }
}

impl Failures {
    /// Records a failure. Returns whether the call was sent.
    fn record(&mut self, error: &mut LlmError, state: &DeploymentState, begun: Instant) -> bool {
        let (before, spent) = (self.ledger.len(), self.ledger.spent());
        self.ledger.failed(error, begun, Instant::now());
        self.ledger.name_deployment(before, state.name.value());
        self.earliest = self.earliest.into_iter().chain(error.retry_at()).min();
        let was_sent = self.ledger.spent() > spent;
        // A call that was refused on this side was never made.
        if let Some(token) = self.token.take().filter(|_| !was_sent) {
            token.refund();
        }
        was_sent
    }

    fn lead(&mut self, error: LlmError, was_sent: bool) {
        if self.lead.as_ref().is_none_or(|lead| lead.is_unsent() && was_sent) {
            self.lead = Some(error);
        }
    }

    /// Returns the request's failure, with the steps that led to it.
    fn give_up(&mut self, stop: Stop, skipped: Vec<Attempt>) -> LlmError {
        self.ledger.next(Next::Stopped(stop));
        self.ledger.insert_before_last(skipped);
        let mut error = self.lead.take().expect("a failure came before this");
        mem::take(&mut self.ledger).give_up(&mut error);
        error.with_retry_at(self.earliest)
    }
}

/// The deployments that an error lists.
const MOST_LISTED: usize = 16;

/// Returns the steps of a record for the deployments that were passed over.
fn steps<S>(search: &Search<'_, S>) -> Vec<Attempt> {
    let step = |(member, reason): (&Member<S>, OutReason)| Attempt {
        tier: None,
        deployment: Some(member.state.name.value().clone()),
        provider: None,
        model: None,
        begun: search.now.instant,
        took: Duration::ZERO,
        failure: Some(reason.kind()),
        status: None,
        message: reason.words().into(),
        retry_after: serves_at(member, search.now).map(|at| at.saturating_duration_since(search.now.instant)),
        timeout: None,
        usage: None,
        next: Next::Skipped,
    };
    search.passed_over().take(MOST_LISTED).map(step).collect()
}

/// Returns when a deployment may serve again, if that is known.
fn serves_at<S>(member: &Member<S>, now: Time) -> Option<Instant> {
    let circuit = member.facts.circuit.as_ref().and_then(|circuit| circuit.earliest_probe());
    [circuit, member.state.closed_until(now)].into_iter().flatten().max().filter(|at| *at > now.instant)
}

/// Returns the failure of a request that no deployment may take.
#[cold]
fn none_serves<S>(search: &Search<'_, S>) -> LlmError {
    let mut message = String::from("no deployment serves");
    let mut kinds = Vec::new();
    for (place, (member, reason)) in search.passed_over().enumerate() {
        kinds.push(reason.kind());
        if place < MOST_LISTED {
            let before = if place == 0 { ": " } else { ", " };
            message.push_str(&format!("{before}{} {}", member.state.name.value(), reason.words()));
        }
    }
    // One that will serve again by itself decides.
    let best = [ErrorKind::CircuitOpen, ErrorKind::BulkheadFull];
    let kind = best.into_iter().find(|kind| kinds.contains(kind)).unwrap_or(ErrorKind::OutOfService);
    let mut error = LlmError::new(kind, message);
    let earliest = search.passed_over().filter_map(|(member, _)| serves_at(member, search.now)).min();
    error.set_attempts(steps(search));
    error.with_retry_at(earliest)
}

impl<S> Future for ResponseFuture<S>
where
    S: LlmService + Clone,
{
    type Output = Result<LlmResponse, LlmError>;

    /// # Panics
    ///
    /// Panics if polled after it was ready.
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut polled = self.as_mut().project().call.poll(cx);
        match &mut polled {
            Poll::Ready(Ok(response)) => self.answered(response),
            Poll::Pending if self.deadline.is_none() => {}
            _ => polled = self.poll_on(polled, cx),
        }
        polled
    }
}

impl<S> ResponseFuture<S>
where
    S: LlmService + Clone,
{
    /// Handles failures, and the request's deadline.
    #[cold]
    fn poll_on(
        mut self: Pin<&mut Self>,
        mut polled: Poll<Result<LlmResponse, LlmError>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<LlmResponse, LlmError>> {
        loop {
            match polled {
                Poll::Ready(Ok(mut response)) => {
                    self.answered(&mut response);
                    return Poll::Ready(Ok(response));
                }
                Poll::Ready(Err(error)) => self.as_mut().fail_over(error, false)?,
                Poll::Pending => {
                    let this = self.as_mut().project();
                    let Some(deadline) = this.deadline else { return Poll::Pending };
                    let late = ready!(deadline.poll(this.call.phase(), cx));
                    self.as_mut().fail_over(late, true)?;
                }
            }
            polled = self.as_mut().project().call.poll(cx);
        }
    }
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let member = self.members.list.get(self.at);
        f.debug_struct("balance::ResponseFuture")
            .field("deployment", &member.map(|member| &member.state.name))
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}
