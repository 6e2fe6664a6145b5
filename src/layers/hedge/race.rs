//! The second call of a request, and the accounts of both.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use pin_project::pin_project;
use tokio::time::Instant;
use tower::Service;

use super::{
    future::FirstCall,
    service::Shared,
    settings::{SecondTarget, Settings},
    state::State,
};
use crate::{
    Event, LlmError, LlmRequest, LlmResponse, LlmService,
    error::Phase,
    layers::{
        call::{BoxedCall, Call},
        retry::Reservation,
        totals::count,
    },
    ledger::{self, Ledger, Next},
};

/// The state of a request once its second call was begun.
pub(super) struct Race<S: Service<LlmRequest>> {
    /// The second call, until it has failed.
    second: Option<BoxedSecond<S>>,
    started: StartedCall,
    ledger: Ledger,
    /// The failure of the first call to fail, while the other goes on.
    failed: Option<LlmError>,
    /// True if the failed one is the first call.
    first_failed: bool,
}

type BoxedSecond<S> = Pin<Box<SecondCall<S, <S as Service<LlmRequest>>::Future>>>;

#[pin_project(project = SecondProjection)]
enum SecondCall<S, F> {
    Same(#[pin] Call<S, F>),
    Tier(#[pin] BoxedCall),
}

/// A second call in the totals. Dropping it reports it.
struct StartedCall {
    settings: Arc<Settings>,
    state: Arc<State>,
    /// The time at which the request came, and at which its second call was begun.
    came: Instant,
    begun: Instant,
    /// The tokens of the layer's share and of the retry budget.
    tokens: Option<[Reservation; 2]>,
    sent: bool,
    won: bool,
}

impl<S> Race<S>
where
    S: LlmService + Clone,
{
    /// Begins the second call of a request, if its budgets allow. The ledger has the first call's failure, if it
    /// failed.
    ///
    /// # Errors
    ///
    /// Returns the ledger if no second call is made.
    pub(super) fn begin(shared: &Shared<S>, first: &FirstCall, ledger: Ledger, now: Instant) -> Result<Self, Ledger> {
        let settings = &shared.settings;
        let mut context = *first.request.context();
        let first_failed = !ledger.is_empty();
        if first_failed {
            context = ledger.context(context);
        } else {
            // The first call keeps all other attempts that are left.
            context.attempts_made = context.attempts_made.saturating_add(1);
            context.attempts_left = 1;
        }
        let may = || settings.at_last.as_ref().is_none_or(|may| may(&first.request));
        if context.attempts_left == 0 || context.deadline.is_some_and(|deadline| deadline <= now) || !may() {
            return Err(ledger);
        }
        // Last, so that only a call that will be made takes tokens.
        let tokens = settings.extra.reserve(now).and_then(|share| Some([share, settings.budget.reserve(now)?]));
        if tokens.is_none() {
            count(&shared.state.counts.unaffordable);
            return Err(ledger);
        }
        context.begun = Some(now);
        let request = first.request.with_context(context);
        let second = match (&settings.second, &shared.spare) {
            (SecondTarget::Tier { service, .. }, _) => SecondCall::Tier(BoxedCall::elsewhere(service.clone(), request)),
            (SecondTarget::Same, Some(spare)) => SecondCall::Same(Call::further(spare.fresh(), request)),
            (SecondTarget::Same, None) => unreachable!("it is kept where second calls go to the same service"),
        };
        let (settings, state) = (settings.clone(), shared.state.clone());
        let started = StartedCall { settings, state, came: first.begun, begun: now, tokens, sent: false, won: false };
        Ok(Self { second: Some(Box::pin(second)), started, ledger, failed: None, first_failed })
    }

    /// Keeps the failure with which a race began.
    pub(super) fn began_after(&mut self, error: LlmError) {
        self.ledger.next(Next::Hedged);
        self.failed = Some(error);
    }

    pub(super) fn first_failed(&self) -> bool {
        self.first_failed
    }

    /// Polls the second call; pending if it has failed before.
    pub(super) fn poll_second(&mut self, cx: &mut Context<'_>) -> Poll<Result<LlmResponse, LlmError>> {
        let Some(second) = &mut self.second else { return Poll::Pending };
        let polled = second.as_mut().poll(cx);
        if polled.is_pending() && second.phase() != Phase::Readiness {
            self.started.sent();
        }
        polled
    }

    /// Returns the second call's phase and start, or `None` if it has failed.
    pub(super) fn second(&self) -> Option<(Phase, Instant)> {
        Some((self.second.as_ref()?.phase(), self.started.begun))
    }

    /// Takes the first call's failure. Returns the error if it ends the request.
    pub(super) fn fails_first(&mut self, first: &FirstCall, mut error: LlmError) -> Option<LlmError> {
        let settings = self.started.settings.clone();
        let before = self.ledger.len();
        self.ledger.failed(&mut error, first.begun, Instant::now());
        self.ledger.name_tier(before, settings.tier.value());
        self.first_failed = true;
        if self.second.is_none() {
            let other = self.failed.take();
            return Some(self.both_failed(error, other));
        }
        if settings.ends_both(&error) {
            self.cancel_second();
            self.end(&mut error);
            return Some(error);
        }
        self.began_after(error);
        None
    }

    /// Takes the second call's failure. Returns the error if it ends the request.
    pub(super) fn fails_second(
        &mut self,
        first: &FirstCall,
        is_first_sent: bool,
        mut error: LlmError,
    ) -> Option<LlmError> {
        self.second = None;
        let settings = self.started.settings.clone();
        let (before, spent) = (self.ledger.len(), self.ledger.spent());
        self.ledger.failed(&mut error, self.started.begun, Instant::now());
        self.ledger.name_tier(before, settings.to().value());
        if self.ledger.spent() > spent {
            self.started.sent();
        } else {
            self.started.refund();
        }
        if self.first_failed {
            // With one service the newest failure is the most current; with two tiers the first tier's failure leads.
            return Some(match self.failed.take() {
                Some(firsts) if !settings.is_same() => self.both_failed(firsts, Some(error)),
                other => self.both_failed(error, other),
            });
        }
        // The first tier may accept a request that another tier calls invalid.
        if settings.is_same() && settings.ends_both(&error) {
            if is_first_sent {
                self.ledger.push(ledger::cancelled(settings.tier.value(), first.begun));
            }
            self.end(&mut error);
            return Some(error);
        }
        self.began_after(error);
        None
    }

    /// Takes the first call's answer.
    pub(super) fn answers_first(mut self, response: &mut LlmResponse) {
        self.cancel_second();
        self.ledger.answered(response);
    }

    /// Takes the second call's answer. `is_first_sent` is true if the first was under way until now.
    pub(super) fn answers_second(mut self, first: &FirstCall, is_first_sent: bool, response: &mut LlmResponse) {
        self.started.sent();
        self.started.won = true;
        count(&self.started.state.counts.won);
        if is_first_sent {
            self.ledger.push(ledger::cancelled(self.started.settings.tier.value(), first.begun));
        }
        response.name_tier(self.started.settings.to());
        response.set_hedged();
        self.ledger.answered(response);
    }

    /// Cancels the second call, if it is under way.
    fn cancel_second(&mut self) {
        let Some(second) = self.second.take() else { return };
        drop(second);
        if self.started.sent {
            self.ledger.push(ledger::cancelled(self.started.settings.to().value(), self.started.begun));
        }
    }

    /// Returns one error for both.
    fn both_failed(&mut self, mut lead: LlmError, other: Option<LlmError>) -> LlmError {
        if !self.started.settings.is_same() {
            let earliest = [lead.retry_at(), other.and_then(|other| other.retry_at())].into_iter().flatten().min();
            lead = lead.with_retry_at(earliest);
        }
        self.end(&mut lead);
        lead
    }

    fn end(&mut self, error: &mut LlmError) {
        std::mem::take(&mut self.ledger).give_up(error);
    }
}

impl<S, F> SecondCall<S, F> {
    fn phase(&self) -> Phase {
        match self {
            Self::Same(call) => call.phase(),
            Self::Tier(call) => call.phase(),
        }
    }
}

impl<S> SecondCall<S, S::Future>
where
    S: LlmService,
{
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<LlmResponse, LlmError>> {
        match self.project() {
            SecondProjection::Same(call) => call.poll(cx),
            SecondProjection::Tier(call) => call.poll(cx),
        }
    }
}

impl StartedCall {
    /// Spends its tokens: the call was sent, whatever its outcome.
    fn sent(&mut self) {
        if self.sent {
            return;
        }
        self.sent = true;
        count(&self.state.counts.sent);
        self.tokens.iter_mut().flatten().for_each(Reservation::sent);
    }

    /// Returns its tokens: a layer on this side refused the call, so it was never made.
    fn refund(&mut self) {
        if std::mem::take(&mut self.sent) {
            self.state.counts.sent.fetch_sub(1, Relaxed);
        }
        self.tokens.take().into_iter().flatten().for_each(Reservation::refund);
    }
}

impl Drop for StartedCall {
    fn drop(&mut self) {
        let Some(events) = self.settings.events.as_ref().filter(|_| self.sent) else { return };
        events.send_with(|| Event::Hedged {
            tier: self.settings.tier.value().clone(),
            to: self.settings.to().value().clone(),
            won: self.won,
            after: self.begun.saturating_duration_since(self.came),
            at: Instant::now(),
        });
    }
}
