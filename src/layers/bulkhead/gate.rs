//! One feature's gate: it admits requests, queues them or refuses them.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    adaptive::Aimd,
    rate::{Over, Rates},
    semaphore::{Acquire, ResizableSemaphore},
    settings::Settings,
    wait::{Wait, Waiter},
};
use crate::{
    ErrorKind, LlmError, LlmRequest,
    body::admission::{Charge, Gate, Outcome, Permit, SoFar, Ticket},
    error::{ReachedLimit, Rest},
    layers::{
        clock,
        shares::{AGAIN_AFTER, Hold, Verdict},
    },
    ledger,
};

/// One feature's places, its queue and its rates.
pub(super) struct FeatureGate {
    /// `None` for the gate that all unnamed features share.
    name: Option<Arc<str>>,
    /// The beginning of a refusal's message. The gate without a name adds the request's feature, if that has one.
    title: Arc<str>,
    /// The settings that it was created with.
    settings: Settings,
    /// Shared by all gates of one name.
    semaphore: Arc<ResizableSemaphore>,
    queue: usize,
    max_wait: Duration,
    rates: Option<Arc<Rates>>,
    adaptive: Option<Arc<Aimd>>,
}

impl FeatureGate {
    /// Creates a gate, possibly over places where calls of an earlier one are still in flight.
    pub(super) fn new(name: Option<Arc<str>>, settings: Settings, semaphore: Option<Arc<ResizableSemaphore>>) -> Self {
        let adaptive = settings.adaptive.map(|bounds| Arc::new(Aimd::new(bounds, settings.concurrency)));
        let limit = adaptive.as_ref().map_or(settings.concurrency, |adaptive| adaptive.limit());
        let queue = settings.queue();
        let semaphore = match semaphore {
            Some(semaphore) => {
                semaphore.set_queue_limit(queue);
                semaphore.set_limit(limit);
                semaphore
            }
            None => Arc::new(ResizableSemaphore::new(limit, queue)),
        };
        Self {
            title: match &name {
                Some(name) => format!("feature {name:?}: ").into(),
                None => "no feature, under the default limit: ".into(),
            },
            name,
            settings,
            semaphore,
            queue,
            max_wait: settings.max_wait,
            rates: Rates::new(settings.requests, settings.tokens).map(Arc::new),
            adaptive,
        }
    }

    /// Returns a gate with other settings over the same places: requests in flight and waiters count in both, and a
    /// limit that was set by hand stays if the settings' own has not changed. Rates and an adaptive limit are shared if
    /// their settings are the same, and otherwise start new.
    pub(super) fn with_settings(self: &Arc<Self>, settings: Settings) -> Arc<Self> {
        if settings == self.settings {
            return self.clone();
        }
        let known = &self.settings;
        let same_rates = (settings.requests, settings.tokens) == (known.requests, known.tokens);
        let rates = match &self.rates {
            Some(rates) if same_rates => Some(rates.clone()),
            _ => Rates::new(settings.requests, settings.tokens).map(Arc::new),
        };
        let adaptive = match &self.adaptive {
            Some(adaptive) if settings.adaptive == known.adaptive => Some(adaptive.clone()),
            before => {
                // Calls that end at the earlier gate no longer move the shared limit.
                before.iter().for_each(|adaptive| adaptive.retire());
                settings.adaptive.map(|bounds| Arc::new(Aimd::new(bounds, settings.concurrency)))
            }
        };
        let queue = settings.queue();
        let gate = Self {
            name: self.name.clone(),
            title: self.title.clone(),
            settings,
            semaphore: self.semaphore.clone(),
            queue,
            max_wait: settings.max_wait,
            rates,
            adaptive,
        };
        gate.semaphore.set_queue_limit(queue);
        if (settings.concurrency, settings.adaptive) != (known.concurrency, known.adaptive) {
            gate.set_limit(settings.concurrency);
        }
        Arc::new(gate)
    }

    pub(super) fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    pub(super) fn shared_semaphore(&self) -> &Arc<ResizableSemaphore> {
        &self.semaphore
    }

    pub(super) fn semaphore(&self) -> &ResizableSemaphore {
        &self.semaphore
    }

    pub(super) fn rates(&self) -> Option<&Rates> {
        self.rates.as_deref()
    }

    pub(super) fn shared_rates(&self) -> Option<&Arc<Rates>> {
        self.rates.as_ref()
    }

    pub(super) fn set_limit(&self, limit: usize) {
        match &self.adaptive {
            Some(adaptive) if !adaptive.is_retired() => {
                adaptive.set(limit);
                self.follow(adaptive);
            }
            _ => self.semaphore.set_limit(limit),
        }
    }

    /// Takes a place for a call in the common case: one is free, and there are no rates. It reads no clock.
    #[inline]
    pub(super) fn try_enter(&self) -> Option<Ticket> {
        if self.rates.is_some() {
            return None;
        }
        self.semaphore.try_take().then(|| self.ticket())
    }

    /// Admits a request, queues it, or refuses it.
    #[cold]
    pub(super) fn admit(self: &Arc<Self>, request: &LlmRequest) -> Result<Admission, LlmError> {
        let hold = match request.key() {
            None if self.semaphore.try_take() => None,
            None => return self.line_up(request, false),
            Some(key) => match self.semaphore.try_take_for(key, clock::now()) {
                Verdict::Granted(hold) => hold,
                verdict => return self.line_up(request, matches!(verdict, Verdict::OverShare)),
            },
        };
        let permit = self.clone().into_permit(hold);
        let Some(rates) = &self.rates else { return Ok(Admission::Goes(permit)) };
        let now = Instant::now();
        let patience = match self.queue {
            0 => Duration::ZERO,
            _ => self.max_wait.min(request.context().time_left(now).unwrap_or(Duration::MAX)),
        };
        Ok(match self.pace(rates, permit, request, now, patience)? {
            (permit, Duration::ZERO) => Admission::Goes(permit),
            (permit, pause) => Admission::Waits(Box::new(Wait::for_rates(self.clone(), now, permit, pause))),
        })
    }

    /// Returns a permit for a place that was taken.
    #[inline]
    pub(super) fn into_permit(self: Arc<Self>, hold: Option<Hold>) -> Permit {
        let ticket = self.ticket();
        match hold {
            None => Permit::new(self, ticket),
            Some(hold) => Permit::new(Arc::new(HeldPlace { gate: self, hold }), ticket),
        }
    }

    #[inline]
    fn ticket(&self) -> Ticket {
        let generation = self.adaptive.as_ref().map_or(0, |adaptive| adaptive.generation());
        Ticket { generation, ..Ticket::default() }
    }

    /// Takes a position in the queue, if there is room and the wait can end in time.
    fn line_up(self: &Arc<Self>, request: &LlmRequest, over_share: bool) -> Result<Admission, LlmError> {
        let now = clock::now();
        if self.queue == 0 || self.semaphore.counts().limit() == 0 {
            let greedy = if over_share { request.key() } else { None };
            return Err(match greedy {
                Some(key) => self.over_share(request, key, "places", now),
                None => self.full(request, now),
            });
        }
        let deadline = request.context().deadline;
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(self.too_late(request, now));
        }
        let until = match (now.checked_add(self.max_wait), deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        // The request takes its position here, and not when its future is first polled.
        let key = request.key();
        let wait = match self.semaphore.acquire(key, now) {
            Acquire::Full => return Err(self.full(request, now)),
            Acquire::OverShare => {
                return Err(self.over_share(request, key.map_or("", |key| key), "queue", now));
            }
            Acquire::Queued(ticket) => {
                Wait::for_turn(self.clone(), now, until, Waiter::new(self.clone(), ticket, key.cloned()))
            }
            Acquire::Acquired(hold) => Wait::for_call(self.clone(), now, until, self.clone().into_permit(hold)),
        };
        Ok(Admission::Waits(Box::new(wait)))
    }

    /// Charges the rates for a request that has its place, and returns how long it must pause first. Until it is
    /// sent, the charge is taken back with the place.
    pub(super) fn pace(
        self: &Arc<Self>,
        rates: &Rates,
        mut permit: Permit,
        request: &LlmRequest,
        now: Instant,
        patience: Duration,
    ) -> Result<(Permit, Duration), LlmError> {
        let (prompt, tokens) = if rates.counts_tokens() { request.estimated_tokens() } else { (0, 0) };
        match rates.take(now, tokens, patience, request.key()) {
            Ok((pause, charged)) => {
                let ticket = permit.ticket_mut();
                (ticket.reserved, ticket.prompt, ticket.charge) = (charged, prompt, Charge::Returns);
                Ok((permit, pause))
            }
            Err(over) => {
                // Drop the permit before the message reads the numbers.
                drop(permit);
                Err(self.over_rate(request, now, &over))
            }
        }
    }

    /// Applies the limit that the adaptive one has found, even if other calls do so at the same time.
    fn follow(&self, adaptive: &Aimd) {
        while self.semaphore.counts().limit() != adaptive.limit() {
            self.semaphore.set_limit(adaptive.limit());
        }
    }

    /// Reports a call's end to the rates and to the adaptive limit.
    fn learn<'a>(
        &self,
        key: Option<&str>,
        ticket: &Ticket,
        outcome: Outcome<'_>,
        so_far: Option<&dyn Fn() -> SoFar<'a>>,
    ) {
        match (&self.rates, ticket.charge, so_far) {
            (Some(rates), Charge::Returns, _) => rates.refund(ticket.reserved, key),
            // A caller that left early has also used the tokens that came.
            (Some(rates), Charge::Stays, Some(so_far)) if rates.counts_tokens() => {
                let used = so_far().used(ticket.prompt).total();
                rates.settle_tokens(Instant::now(), ticket.reserved, used, key);
            }
            // The provider has counted the request, and not an answer that it refused to give.
            (Some(rates), Charge::Stays, None) if matches!(outcome, Outcome::Failed(error) if is_refused(error)) => {
                let used = ticket.reserved.min(ticket.prompt);
                rates.settle_tokens(Instant::now(), ticket.reserved, used.into(), key);
            }
            _ => {}
        }
        if let Some(adaptive) = self.adaptive.as_ref().filter(|adaptive| !adaptive.is_retired()) {
            match outcome {
                Outcome::Answered => adaptive.answered(self.semaphore.counts().taken()),
                Outcome::Failed(error) => adaptive.failed(error.kind(), ticket.generation),
                // A caller that leaves shows nothing about the provider.
                Outcome::Dropped => {}
            }
            self.follow(adaptive);
        }
    }

    /// Returns the refusal of a request that found no place at once. Its message is written when somebody reads it.
    fn full(&self, request: &LlmRequest, now: Instant) -> LlmError {
        let feature = if self.name.is_none() { request.shared_feature() } else { None };
        let (subject, write): (_, fn(&str, _) -> _) = match feature {
            Some(feature) => (feature, |feature, load| under_default_limit(feature) + &Load(load).to_string()),
            None => (self.title.clone(), |title, load| format!("{title}{}", Load(load))),
        };
        let mut error = LlmError::with_parts(ErrorKind::BulkheadFull, subject, Rest::Numbers(self.load().0, write));
        error.reach(ReachedLimit::Concurrency);
        error.note(now, || now);
        error
    }

    /// Returns the error of a request that is not admitted for this reason. `since` is the moment from which it has
    /// waited.
    fn refusal(&self, kind: ErrorKind, request: &LlmRequest, reason: fmt::Arguments<'_>, since: Instant) -> LlmError {
        let title = match (&self.name, request.feature()) {
            (None, Some(feature)) => Cow::Owned(under_default_limit(feature)),
            _ => Cow::Borrowed(&*self.title),
        };
        let mut error = LlmError::new(kind, format!("{title}{reason}{}", self.load()));
        ledger::note(&mut error, since);
        error
    }

    fn load(&self) -> Load {
        let now = self.semaphore.counts();
        Load([now.taken(), now.limit(), now.waiting(), self.queue])
    }

    /// Returns the refusal of a request that found no place since then.
    pub(super) fn no_place(&self, request: &LlmRequest, since: Instant) -> LlmError {
        let reason = format_args!("no place within {:?}, ", since.elapsed());
        let mut error = self.refusal(ErrorKind::BulkheadFull, request, reason, since);
        error.reach(ReachedLimit::Concurrency);
        error
    }

    pub(super) fn too_late(&self, request: &LlmRequest, since: Instant) -> LlmError {
        let reason = format_args!("passed after {:?} in the queue, ", since.elapsed());
        self.refusal(ErrorKind::Deadline, request, reason, since)
    }

    /// Returns the refusal of a key that holds its share of the places or of the queue.
    fn over_share(&self, request: &LlmRequest, key: &str, what: &str, now: Instant) -> LlmError {
        let held = self.semaphore.held(key);
        let reason = format_args!("other keys want the rest of the {what}, {held} in flight of the key {key:?}, ");
        let mut error =
            self.refusal(ErrorKind::BulkheadFull, request, reason, now).with_retry_at(now.checked_add(AGAIN_AFTER));
        error.reach(ReachedLimit::Share(Box::new(ReachedLimit::Concurrency)));
        error
    }

    fn over_rate(&self, request: &LlmRequest, now: Instant, over: &Over) -> LlmError {
        let retry_at = over.retry_after.and_then(|after| now.checked_add(after));
        let whose = if over.of_share { "other keys want the rest of the" } else { "over its" };
        let reason = format_args!("{whose} rate of {}, ", over.what);
        let mut error = self.refusal(ErrorKind::BulkheadFull, request, reason, now).with_retry_at(retry_at);
        let limit = if over.of_tokens { ReachedLimit::Tokens } else { ReachedLimit::Requests };
        error.reach(if over.of_share { ReachedLimit::Share(Box::new(limit)) } else { limit });
        error
    }
}

/// Returns the beginning of the message for a feature that the layer does not name.
fn under_default_limit(feature: &str) -> String {
    format!("feature {feature:?}, under the default limit: ")
}

/// A gate's requests in flight and its limit, its waiters and their limit.
struct Load([usize; 4]);

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [_, 0, ..] => f.write_str("closed (limit 0)"),
            [in_flight, limit, _, 0] => write!(f, "{in_flight} in flight (limit {limit})"),
            [in_flight, limit, queued, queue] => {
                write!(f, "{in_flight} in flight (limit {limit}), {queued} queued (limit {queue})")
            }
        }
    }
}

/// Returns whether the provider refused the request itself, and wrote nothing.
fn is_refused(error: &LlmError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidRequest
            | ErrorKind::UnsupportedFeature
            | ErrorKind::ContextLength
            | ErrorKind::TooLarge
            | ErrorKind::NotFound
            | ErrorKind::Auth
            | ErrorKind::Blocked
    )
}

impl Gate for FeatureGate {
    #[inline]
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        if self.rates.is_some() || self.adaptive.is_some() {
            self.learn(None, ticket, outcome, None);
        }
        self.semaphore.release();
    }

    #[inline]
    fn settle_with<'a>(&self, ticket: &Ticket, outcome: Outcome<'_>, so_far: &dyn Fn() -> SoFar<'a>) {
        if self.rates.is_some() || self.adaptive.is_some() {
            self.learn(None, ticket, outcome, Some(so_far));
        }
        self.semaphore.release();
    }
}

/// A key's place, as a gate.
struct HeldPlace {
    gate: Arc<FeatureGate>,
    hold: Hold,
}

impl HeldPlace {
    fn end<'a>(&self, ticket: &Ticket, outcome: Outcome<'_>, so_far: Option<&dyn Fn() -> SoFar<'a>>) {
        if self.gate.rates.is_some() || self.gate.adaptive.is_some() {
            self.gate.learn(Some(self.hold.key()), ticket, outcome, so_far);
        }
        // Before the place: whoever waits for it is compared with what the key then holds.
        self.hold.give_back();
        self.gate.semaphore.release();
    }
}

impl Gate for HeldPlace {
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        self.end(ticket, outcome, None);
    }

    fn settle_with<'a>(&self, ticket: &Ticket, outcome: Outcome<'_>, so_far: &dyn Fn() -> SoFar<'a>) {
        self.end(ticket, outcome, Some(so_far));
    }
}

impl fmt::Debug for FeatureGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeatureGate")
            .field("name", &self.name)
            .field("counts", &self.semaphore.counts())
            .finish_non_exhaustive()
    }
}

/// The result of admitting a request that is not refused.
pub(super) enum Admission {
    Goes(Permit),
    Waits(Box<Wait>),
}
