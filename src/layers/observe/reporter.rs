//! The content of a request's event, and its assembly.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::time::Instant;

use super::under_way::{Stream, UnderWay};
use crate::{
    Attempt, CacheOrigin, ErrorKind, Event, Events, LlmError, LlmRequest, LlmResponse,
    body::admission::{Gate, Outcome, Permit, SoFar, Ticket},
    chat::Usage,
    events::{Account, Accountant, CachedAnswer, Caller, RequestEnded, RequestOutcome},
    internal::sharded::Shard,
    ledger,
    prices::{Price, PriceTable, Usd},
    request::CallerPart,
};

/// The channel and the prices of the reports.
#[derive(Debug)]
pub(super) struct Reporter {
    events: Events,
    prices: PriceTable,
    accountant: Option<Arc<dyn Accountant>>,
    streams: UnderWay,
}

impl Reporter {
    pub(super) fn new(events: Events, prices: PriceTable, accountant: Option<Arc<dyn Accountant>>) -> Self {
        Self { events, prices, accountant, streams: UnderWay::default() }
    }

    /// Returns true if anybody is to hear of a request's end.
    #[inline]
    pub(super) fn is_heard(&self) -> bool {
        self.accountant.is_some() || self.events.has_subscribers()
    }

    /// Opens a request's account, if there is an accountant.
    #[inline]
    pub(super) fn open(&self, request: &LlmRequest) -> Option<Box<dyn Account>> {
        self.accountant.as_ref().map(|accountant| accountant.open(request))
    }

    fn send(&self, account: Option<Box<dyn Account>>, ended: RequestEnded) {
        if let Some(account) = account {
            account.close(&ended);
        }
        self.events.send(Event::RequestEnded(ended));
    }

    /// Returns what a cached answer saved, at the price of its model that holds at any provider.
    #[inline]
    fn saved(&self, model: Option<&Arc<str>>, used: Option<&Usage>) -> Option<Usd> {
        self.prices.cost(None, model?, used?)
    }
}

/// A request before its response.
pub(super) struct Watch {
    reporter: Arc<Shard<Reporter>>,
    /// The request as it came: what the event says of it is read when it is known which event that is.
    caller: Arc<CallerPart>,
    account: Option<Box<dyn Account>>,
    begun: Instant,
}

impl Watch {
    #[inline]
    pub(super) fn new(reporter: Arc<Shard<Reporter>>, request: &LlmRequest, begun: Instant) -> Self {
        let account = reporter.open(request);
        Self { reporter, caller: request.caller_part(), account, begun }
    }

    /// Returns the caller's names, if there are any.
    fn caller(&self) -> Option<Arc<Caller>> {
        let (key, team, session) = (self.caller.key(), self.caller.team(), self.caller.session());
        let is_named = key.or(team).or(session).is_some();
        is_named.then(|| Arc::new(Caller { key: key.cloned(), team: team.cloned(), session: session.cloned() }))
    }

    /// Takes the response. A stream is reported when it has ended.
    // Compiled here once: where it is inlined, the event is made elsewhere, and copied into the queue.
    #[inline(never)]
    pub(super) fn answered(self, response: &mut LlmResponse) {
        let now = Instant::now();
        let (provider, model) = response.names();
        let attempts = response.attempts();
        let took = now.saturating_duration_since(self.begun);
        let (tier, chain) = (response.tier(), response.chain().cloned());
        // A cached answer was paid for before.
        let cached = response.cached();
        let (used, free) = (response.usage(), cached.is_some());
        let usage = used.filter(|_| !free);
        let cost = usage.and_then(|usage| self.reporter.prices.cost_of(response.priced_names(), &usage));
        let served_model = response.served_model();
        let cached = cached.map(|CacheOrigin { reason: why, age, .. }| {
            Box::new(CachedAnswer { why, age, saved: self.reporter.saved(model.as_ref(), used.as_ref()) })
        });
        let cost_without_route = without_route(response.price_without_route(), usage.as_ref());
        let stream = response.body().arrives_in_frames();
        let (failures, served_in) = (failures(attempts, tier.as_ref()), served_in(attempts, took, now));
        let (route, degraded) = (response.shared_route(), response.degraded());
        let task = response.task_id().map(|task| Arc::new(task.to_owned()));
        let (request_id, feature) = (self.caller.id.clone(), self.caller.feature.clone());
        let caller = self.caller();
        let status = self.caller.status_of.map(|_| StatusCode::OK);
        let possible_repeat = response.is_possible_repeat();
        let ended = || RequestEnded {
            request_id,
            status,
            task,
            feature,
            caller,
            failures,
            chain,
            tier,
            provider,
            model,
            served_model,
            route,
            outcome: RequestOutcome::Answered,
            stream,
            possible_repeat,
            degraded,
            first_token: took,
            served_in,
            took,
            usage,
            cost,
            cost_without_route,
            delivered: None,
            cached,
            at: now,
        };
        if !stream
            && self.account.is_none()
            && let Some(place) = self.reporter.events.place()
        {
            // Made in the queue: made here first, it would be copied.
            return place.put(Event::RequestEnded(ended()));
        }
        let event = ended();
        if !stream {
            return self.reporter.send(self.account, event);
        }
        let without_route = response.price_without_route().copied();
        let generation =
            self.reporter.streams.keep(Stream { begun: self.begun, account: self.account, event, without_route });
        // A caller who leaves the stream has used its prompt.
        let ticket = Ticket { generation, prompt: self.caller.glanced_prompt(), ..Ticket::default() };
        response.hold_permit(&mut Permit::new(self.reporter, ticket));
    }

    /// Reports that there is no response.
    #[cold]
    pub(super) fn failed(self, error: &mut LlmError) {
        ledger::note(error, self.begun);
        let (repeat, status) = (error.is_possible_repeat(), self.caller.status_of.map(|of| of(error)));
        let (chain, failures) = (error.chain().cloned(), failures(error.attempts(), None));
        self.unanswered(RequestOutcome::Failed(error.kind()), status, chain, failures, repeat);
    }

    /// Reports that the caller has left.
    #[cold]
    pub(super) fn abandoned(self) {
        self.unanswered(RequestOutcome::Abandoned, None, None, None, false);
    }

    /// Reports that the call has panicked.
    #[cold]
    pub(super) fn panicked(self) {
        let mut error = LlmError::new(ErrorKind::Other, "the call panicked");
        self.failed(&mut error);
    }

    fn unanswered(
        self,
        outcome: RequestOutcome,
        status: Option<StatusCode>,
        chain: Option<Arc<str>>,
        failures: Option<Arc<[Attempt]>>,
        possible_repeat: bool,
    ) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.begun);
        let ended = RequestEnded {
            request_id: self.caller.id.clone(),
            status,
            task: None,
            feature: self.caller.feature.clone(),
            caller: self.caller(),
            chain,
            tier: None,
            provider: None,
            model: None,
            served_model: None,
            route: None,
            outcome,
            failures,
            stream: false,
            possible_repeat,
            degraded: None,
            first_token: took,
            served_in: Duration::ZERO,
            took,
            usage: None,
            cost: None,
            cost_without_route: None,
            delivered: None,
            cached: None,
            at: now,
        };
        self.reporter.send(self.account, ended);
    }
}

impl Gate for Reporter {
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        self.settle_with(ticket, outcome, &SoFar::default);
    }

    /// A stream has ended. The ticket's generation is its number.
    fn settle_with<'a>(&self, ticket: &Ticket, outcome: Outcome<'_>, so_far: &dyn Fn() -> SoFar<'a>) {
        let Some(Stream { begun, account, event, without_route }) = self.streams.take(ticket.generation) else {
            return;
        };
        let (now, so_far) = (Instant::now(), so_far());
        let mut ended = RequestEnded { took: now.saturating_duration_since(begun), at: now, ..event };
        let reported = so_far.usage.copied().or(ended.usage);
        let used = match outcome {
            Outcome::Answered => reported,
            // The provider has reported only some of the tokens, or none.
            Outcome::Failed(_) | Outcome::Dropped => {
                Some(so_far.used(ticket.prompt)).filter(|used| *used != Usage::default())
            }
        };
        let free = ended.cached.is_some();
        ended.usage = used.filter(|_| !free);
        if let Some(cached) = &mut ended.cached {
            cached.saved = self.saved(ended.model.as_ref(), used.as_ref());
        }
        ended.cost = ended.usage.and_then(|usage| self.prices.cost_of(ended.priced_names(), &usage));
        ended.cost_without_route = self::without_route(without_route.as_ref(), ended.usage.as_ref());
        ended.outcome = match outcome {
            Outcome::Answered => RequestOutcome::Answered,
            Outcome::Failed(error) => RequestOutcome::Broken(error.kind()),
            Outcome::Dropped => RequestOutcome::Abandoned,
        };
        // A stream that its caller dropped gets no list, which would be an allocation: callers drop streams on healthy
        // days too.
        if let RequestOutcome::Broken(_) = ended.outcome {
            ended.delivered = Some(Arc::new(so_far.delivered));
        }
        self.send(account, ended);
    }
}

/// Returns the cost of the same tokens at the model whose place a route took.
#[inline]
fn without_route(price: Option<&Price>, usage: Option<&Usage>) -> Option<Usd> {
    Some(price?.cost(usage?))
}

/// Returns the failed attempts, without the providers' messages, which may quote the request. An attempt that names
/// no tier was made on the way to the tier that served.
#[inline]
fn failures(attempts: &[Attempt], served: Option<&Arc<str>>) -> Option<Arc<[Attempt]>> {
    attempts.iter().any(came_to_nothing).then(|| copied(attempts, served))
}

fn came_to_nothing(attempt: &Attempt) -> bool {
    attempt.failure.is_some() || attempt.is_wasted()
}

#[cold]
fn copied(attempts: &[Attempt], served: Option<&Arc<str>>) -> Arc<[Attempt]> {
    let described =
        |attempt: &Attempt| Attempt { tier: attempt.tier.as_ref().or(served).cloned(), ..attempt.to_public() };
    let first = attempts.iter().take_while(|attempt| came_to_nothing(attempt)).count();
    let (failed, rest) = attempts.split_at(first);
    match rest.iter().any(came_to_nothing) {
        // Nearly always. With a known length, `collect` writes the attempts in place.
        false => failed.iter().map(described).collect(),
        true => attempts.iter().filter(|attempt| came_to_nothing(attempt)).map(described).collect(),
    }
}

/// Returns how long the attempt that served took: the time since the last failure and the wait after it.
#[inline]
fn served_in(attempts: &[Attempt], took: Duration, now: Instant) -> Duration {
    if attempts.is_empty() { took } else { since_the_last(attempts, took, now) }
}

#[cold]
fn since_the_last(attempts: &[Attempt], took: Duration, now: Instant) -> Duration {
    ledger::last_end(attempts).map_or(took, |over| now.saturating_duration_since(over))
}
