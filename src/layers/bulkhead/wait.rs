//! A request between its admission and its call: its charges, and its wait.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::gate::FeatureGate;
use crate::{LlmError, LlmRequest, body::admission::Permit, timer};

/// A request's wait: for its turn, then for the rates.
pub(super) struct Wait {
    gate: Arc<FeatureGate>,
    since: Instant,
    /// The time at which it gives up; `None` for never.
    until: Option<Instant>,
    stage: Stage,
    timer: Option<Pin<Box<Sleep>>>,
}

enum Stage {
    Queued(Waiter),
    /// Has its place, and has yet to ask the rates.
    Placed(Option<Permit>),
    /// Has its place and its rates, and pauses until the rates allow it.
    Paced(Option<Permit>, Option<Instant>),
}

impl Wait {
    /// Waits for its turn, and gives up at `until`.
    pub(super) fn for_turn(gate: Arc<FeatureGate>, since: Instant, until: Option<Instant>, turn: Waiter) -> Self {
        Self { gate, since, until, stage: Stage::Queued(turn), timer: None }
    }

    /// Was about to wait when a place came free.
    pub(super) fn for_call(gate: Arc<FeatureGate>, since: Instant, until: Option<Instant>, permit: Permit) -> Self {
        Self { gate, since, until, stage: Stage::Placed(Some(permit)), timer: None }
    }

    /// Has its place, and pauses so long until the rates allow it.
    pub(super) fn for_rates(gate: Arc<FeatureGate>, now: Instant, permit: Permit, pause: Duration) -> Self {
        let stage = Stage::Paced(Some(permit), now.checked_add(pause));
        Self { gate, since: now, until: None, stage, timer: None }
    }

    /// Completes once the request may be sent or is refused. It must not be polled after that.
    pub(super) fn poll(&mut self, request: &LlmRequest, cx: &mut Context<'_>) -> Poll<Result<Permit, LlmError>> {
        loop {
            match &mut self.stage {
                Stage::Queued(turn) => match turn.poll(cx) {
                    Poll::Ready(permit) => self.stage = Stage::Placed(Some(permit)),
                    // A free place wins over an elapsed wait.
                    Poll::Pending => {
                        let Some(until) = self.until else { return Poll::Pending };
                        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
                        ready!(timer::poll(timer.as_mut(), cx));
                        let late = request.context().deadline.is_some_and(|deadline| deadline <= until);
                        return Poll::Ready(Err(match late {
                            true => self.gate.too_late(request, self.since),
                            false => self.gate.no_place(request, self.since),
                        }));
                    }
                },
                Stage::Placed(permit) => {
                    let permit = permit.take().expect("a wait is polled no more once it is over");
                    let Some(rates) = self.gate.rates() else {
                        return Poll::Ready(Ok(permit));
                    };
                    let now = Instant::now();
                    let patience = self.until.map_or(Duration::MAX, |until| until.saturating_duration_since(now));
                    let (permit, pause) = self.gate.pace(rates, permit, request, now, patience)?;
                    if pause.is_zero() {
                        return Poll::Ready(Ok(permit));
                    }
                    self.stage = Stage::Paced(Some(permit), now.checked_add(pause));
                    self.timer = None;
                }
                Stage::Paced(permit, at) => {
                    // A moment beyond the clock never comes.
                    let Some(at) = *at else { return Poll::Pending };
                    let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
                    ready!(timer::poll(timer.as_mut(), cx));
                    return Poll::Ready(Ok(permit.take().expect("a wait is polled no more once it is over")));
                }
            }
        }
    }

    /// Returns the name of the stage that it waits in.
    pub(super) fn stage(&self) -> &'static str {
        match self.stage {
            Stage::Queued(_) => "Queued",
            Stage::Placed(_) => "Placed",
            Stage::Paced(..) => "Paced",
        }
    }
}

/// A position in the queue. Dropping it leaves the queue, and passes on a place that has just been given to it.
pub(super) struct Waiter {
    gate: Arc<FeatureGate>,
    /// `None` once the place is there.
    ticket: Option<u64>,
    key: Option<Arc<str>>,
}

impl Waiter {
    pub(super) fn new(gate: Arc<FeatureGate>, ticket: u64, key: Option<Arc<str>>) -> Self {
        Self { gate, ticket: Some(ticket), key }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Permit> {
        let ticket = self.ticket.expect("a turn is polled no more once it has come");
        let semaphore = self.gate.semaphore();
        ready!(semaphore.poll_acquired(self.key.as_ref(), ticket, cx));
        self.ticket = None;
        let hold = self.key.clone().map(|key| semaphore.hold(key));
        Poll::Ready(self.gate.clone().into_permit(hold))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.gate.semaphore().leave(self.key.as_ref(), ticket);
        }
    }
}
