//! One feature's gate: who may go in now, who waits, and who is refused.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

use super::{
    adaptive::Aimd,
    estimate,
    layer::Settings,
    rate::{Over, Rates},
    wait::{Charge, Entered, Turn, Wait},
};
use crate::{
    ErrorKind, LlmError, LlmRequest,
    layers::admission::{Gate, Outcome, Permit, Ticket},
    ledger,
};

/// One feature's places, its queue and its rates.
///
/// The places are a semaphore's permits, taken and forgotten here, and given back one by one. So what is free, what
/// is in flight and what is owed always add up:
///
/// `free + in flight = limit + debt`
///
/// The debt is what a lowered limit has yet to take back from calls that were in flight: the next place that comes
/// free, or that would be given to a newcomer, pays it.
pub(super) struct FeatureGate {
    /// `None` for the one that all unnamed features share.
    name: Option<Arc<str>>,
    free: Arc<Semaphore>,
    limit: AtomicUsize,
    debt: AtomicUsize,
    queued: AtomicUsize,
    queue: usize,
    max_wait: Duration,
    rates: Option<Rates>,
    adaptive: Option<Aimd>,
}

/// More than can ever be in flight, and far enough from the semaphore's own end.
const MOST: usize = Semaphore::MAX_PERMITS / 16;

impl FeatureGate {
    pub(super) fn new(name: Option<Arc<str>>, settings: Settings) -> Self {
        let adaptive = settings.adaptive.map(|bounds| Aimd::new(bounds, settings.concurrency));
        let limit = adaptive.as_ref().map_or(settings.concurrency, Aimd::limit).min(MOST);
        Self {
            name,
            free: Arc::new(Semaphore::new(limit)),
            limit: AtomicUsize::new(limit),
            debt: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            queue: settings.queue,
            max_wait: settings.max_wait,
            rates: Rates::new(settings.requests, settings.tokens),
            adaptive,
        }
    }

    pub(super) fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(SeqCst)
    }

    pub(super) fn queued(&self) -> usize {
        self.queued.load(SeqCst)
    }

    /// How many places are taken. Exact while nothing moves.
    pub(super) fn in_flight(&self) -> usize {
        (self.limit() + self.debt.load(SeqCst)).saturating_sub(self.free.available_permits())
    }

    pub(super) fn set_limit(&self, limit: usize) {
        match &self.adaptive {
            Some(adaptive) => {
                adaptive.set(limit);
                self.follow(adaptive);
            }
            None => self.move_limit(limit),
        }
    }

    /// Lets a request in, lines it up, or refuses it.
    pub(super) fn admit(self: &Arc<Self>, request: &LlmRequest) -> Result<Admission, LlmError> {
        let Some(permit) = self.try_place() else { return self.line_up(request).map(Admission::Waits) };
        // The usual case reads no clock.
        let Some(rates) = &self.rates else { return Ok(Admission::Goes(Entered { permit, charge: None })) };
        let now = Instant::now();
        let patience = match self.queue {
            0 => Duration::ZERO,
            _ => self.max_wait.min(request.context().time_left(now).unwrap_or(Duration::MAX)),
        };
        Ok(match self.pace(rates, permit, request, now, patience)? {
            (entered, Duration::ZERO) => Admission::Goes(entered),
            (entered, pause) => Admission::Waits(Wait::for_rates(self.clone(), now, entered, pause)),
        })
    }

    /// A free place. Those who wait come first: while there are any, none is free.
    fn try_place(self: &Arc<Self>) -> Option<Permit> {
        loop {
            self.free.try_acquire().ok()?.forget();
            if !self.pays_debt() {
                return Some(self.permit());
            }
        }
    }

    /// A permit for a place that was taken.
    pub(super) fn permit(self: &Arc<Self>) -> Permit {
        let generation = self.adaptive.as_ref().map_or(0, Aimd::generation);
        Permit::new(self.clone(), Ticket { generation, ..Ticket::default() })
    }

    /// A place in the queue, if there is room and it makes sense to wait.
    fn line_up(self: &Arc<Self>, request: &LlmRequest) -> Result<Wait, LlmError> {
        if self.limit() == 0 || self.queue == 0 || self.max_wait.is_zero() {
            return Err(self.full(request, None));
        }
        let now = Instant::now();
        let deadline = request.context().deadline;
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(self.too_late(request, now));
        }
        let one_more = |queued| (queued < self.queue).then(|| queued + 1);
        if self.queued.fetch_update(SeqCst, SeqCst, one_more).is_err() {
            return Err(self.full(request, None));
        }
        let turn = Turn::new(self.clone(), self.free.clone());
        let until = match (now.checked_add(self.max_wait), deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Ok(Wait::for_turn(self.clone(), now, until, turn))
    }

    /// Leaves the queue.
    pub(super) fn leave_queue(&self) {
        self.queued.fetch_sub(1, SeqCst);
    }

    pub(super) fn rates(&self) -> Option<&Rates> {
        self.rates.as_ref()
    }

    /// Charges the rates for a request that has its place, and says how long it must pause first.
    pub(super) fn pace(
        self: &Arc<Self>,
        rates: &Rates,
        mut permit: Permit,
        request: &LlmRequest,
        now: Instant,
        patience: Duration,
    ) -> Result<(Entered, Duration), LlmError> {
        let tokens = if rates.counts_tokens() { estimate::tokens(request) } else { 0 };
        match rates.take(now, tokens, patience) {
            Ok((pause, charged)) => {
                permit.ticket_mut().reserved = charged;
                let charge = Some(Charge::new(self.clone(), charged));
                Ok((Entered { permit, charge }, pause))
            }
            Err(over) => {
                // Before the numbers in the message are read.
                drop(permit);
                Err(self.over_rate(request, now, &over))
            }
        }
    }

    /// Gives a place back.
    fn release(&self) {
        if !self.pays_debt() {
            self.free.add_permits(1);
        }
    }

    /// Whether a place that was in hand has gone into the debt.
    fn pays_debt(&self) -> bool {
        self.debt.load(SeqCst) > 0 && self.debt.fetch_update(SeqCst, SeqCst, |debt| debt.checked_sub(1)).is_ok()
    }

    /// Moves to another limit. Several at once add up to the last.
    fn move_limit(&self, limit: usize) {
        let limit = limit.min(MOST);
        let before = self.limit.swap(limit, SeqCst);
        if limit < before {
            let lost = before - limit;
            let forgotten = self.free.forget_permits(lost);
            self.debt.fetch_add(lost - forgotten, SeqCst);
        } else {
            let gained = limit - before;
            let debt = self.debt.fetch_update(SeqCst, SeqCst, |debt| Some(debt.saturating_sub(gained)));
            let debt = debt.unwrap_or_else(|debt| debt);
            self.free.add_permits(gained.saturating_sub(debt));
        }
    }

    /// Moves to the limit that the adaptive one has found, whoever else does so too.
    fn follow(&self, adaptive: &Aimd) {
        while self.limit() != adaptive.limit() {
            self.move_limit(adaptive.limit());
        }
    }

    /// Who asks, for an error's message.
    fn whose(&self, request: &LlmRequest) -> String {
        match (&self.name, request.feature_name()) {
            (Some(name), _) => format!("feature {name:?}"),
            (None, Some(name)) => format!("feature {name:?}, under the default limit"),
            (None, None) => "no feature, under the default limit".to_owned(),
        }
    }

    fn numbers(&self) -> String {
        let (in_flight, limit) = (self.in_flight(), self.limit());
        match self.queue {
            0 => format!("{in_flight} in flight (limit {limit})"),
            queue => format!("{in_flight} in flight (limit {limit}), {} queued (limit {queue})", self.queued()),
        }
    }

    /// The refusal of a request that found no place, at once or after it has waited since then.
    pub(super) fn full(&self, request: &LlmRequest, since: Option<Instant>) -> LlmError {
        let whose = self.whose(request);
        let message = match (since, self.limit()) {
            (None, 0) => format!("{whose}: closed (limit 0)"),
            (None, _) => format!("{whose}: {}", self.numbers()),
            (Some(since), _) => format!("{whose}: no place within {:?}, {}", since.elapsed(), self.numbers()),
        };
        refusal(ErrorKind::BulkheadFull, message, since)
    }

    pub(super) fn too_late(&self, request: &LlmRequest, since: Instant) -> LlmError {
        let (whose, waited) = (self.whose(request), since.elapsed());
        let message = format!("{whose}: passed after {waited:?} in the queue, {}", self.numbers());
        refusal(ErrorKind::Deadline, message, Some(since))
    }

    fn over_rate(&self, request: &LlmRequest, now: Instant, over: &Over) -> LlmError {
        let message = format!("{}: over its rate of {}, {}", self.whose(request), over.what, self.numbers());
        let retry_at = over.retry_after.and_then(|after| now.checked_add(after));
        refusal(ErrorKind::BulkheadFull, message, Some(now)).with_retry_at(retry_at)
    }
}

/// An error of this layer, with its own line in the decision record.
fn refusal(kind: ErrorKind, message: String, since: Option<Instant>) -> LlmError {
    let mut error = LlmError::new(kind, message);
    ledger::note(&mut error, since.unwrap_or_else(Instant::now));
    error
}

impl Gate for FeatureGate {
    fn settle(&self, ticket: Ticket, outcome: Outcome<'_>) {
        if let (Outcome::Answered { usage: Some(usage) }, Some(rates)) = (outcome, &self.rates)
            && rates.counts_tokens()
        {
            rates.settle_tokens(Instant::now(), ticket.reserved, usage.total());
        }
        if let Some(adaptive) = &self.adaptive {
            match outcome {
                Outcome::Answered { .. } => adaptive.answered(self.in_flight()),
                Outcome::Failed(error) => adaptive.failed(error.kind(), ticket.generation),
                // Whoever leaves says nothing about the provider.
                Outcome::Dropped => {}
            }
            self.follow(adaptive);
        }
        self.release();
    }
}

impl fmt::Debug for FeatureGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeatureGate")
            .field("name", &self.name)
            .field("in_flight", &self.in_flight())
            .field("limit", &self.limit())
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

/// What a gate does with a request that it does not refuse.
pub(super) enum Admission {
    Goes(Entered),
    Waits(Wait),
}
