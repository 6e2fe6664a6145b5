//! What is told, and how it is put together.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::time::Instant;

use super::under_way::{Stream, UnderWay};
use crate::{
    Attempt, Cached, Event, Events, LlmError, LlmRequest, LlmResponse,
    chat::Usage,
    events::{CachedAnswer, RequestEnded, RequestOutcome},
    layers::{
        admission::{Gate, Outcome, Permit, SoFar, Ticket},
        estimate,
        lanes::Lane,
    },
    ledger,
    prices::{Price, PriceTable, Usd},
};

/// Where the requests are told.
#[derive(Debug)]
pub(super) struct Told {
    events: Events,
    prices: PriceTable,
    streams: UnderWay,
}

impl Told {
    pub(super) fn new(events: Events, prices: PriceTable) -> Self {
        Self { events, prices, streams: UnderWay::default() }
    }

    #[inline]
    pub(super) fn is_heard(&self) -> bool {
        self.events.is_heard()
    }

    fn tell(&self, ended: RequestEnded) {
        self.events.send(Event::RequestEnded(ended));
    }

    #[inline]
    fn cost(&self, provider: Option<&Arc<str>>, model: Option<&Arc<str>>, usage: Option<&Usage>) -> Option<Usd> {
        self.prices.cost(provider.map(|name| &**name), model?, usage?)
    }
}

/// A request before its response.
pub(super) struct Watch {
    told: Arc<Lane<Told>>,
    feature: Option<Arc<str>>,
    request_id: Option<Arc<str>>,
    status_of: Option<fn(&LlmError) -> StatusCode>,
    begun: Instant,
    /// The tokens of its prompt, about.
    prompt: u32,
}

impl Watch {
    #[inline]
    pub(super) fn new(told: Arc<Lane<Told>>, request: &LlmRequest, begun: Instant) -> Self {
        Self {
            told,
            feature: request.feature_kept(),
            request_id: request.id_kept(),
            status_of: request.status_known(),
            begun,
            prompt: estimate::glance(request),
        }
    }

    /// The response is there. A stream is told when it has ended.
    #[inline]
    pub(super) fn answered(self, response: &mut LlmResponse) {
        let now = Instant::now();
        let (provider, model) = response.names();
        let attempts = response.attempts();
        let took = now.saturating_duration_since(self.begun);
        let tier = response.tier();
        // What comes from a cache has been paid for.
        let cached = response.cached();
        let (used, free) = (response.usage(), cached.is_some());
        let usage = used.filter(|_| !free);
        let cost = self.told.cost(provider.as_ref(), model.as_ref(), usage.as_ref());
        let cached = cached.map(|Cached { why, age, .. }| {
            Box::new(CachedAnswer { why, age, saved: self.told.cost(None, model.as_ref(), used.as_ref()) })
        });
        let cost_without_route = without_route(response.price_without_route(), usage.as_ref());
        let stream = response.body().arrives_in_frames();
        let (failures, served_in) = (failures(attempts, tier.as_ref()), served_in(attempts, took, now));
        let (route, degraded) = (response.route_kept(), response.degraded());
        let ended = {
            // Before it is made, for it is made there.
            let queue = if stream { None } else { self.told.events.only_queue() };
            let ended = RequestEnded {
                request_id: self.request_id,
                status: self.status_of.map(|_| StatusCode::OK),
                task: response.task_id().map(|task| Arc::new(task.to_owned())),
                feature: self.feature,
                failures,
                tier,
                provider,
                model,
                route,
                outcome: RequestOutcome::Answered,
                stream,
                possible_repeat: response.is_possible_repeat(),
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
            if let Some(queue) = queue {
                return queue.put(Event::RequestEnded(ended));
            }
            ended
        };
        if !stream {
            return self.told.tell(ended);
        }
        let without_route = response.price_without_route().copied();
        let generation = self.told.streams.keep(Stream { begun: self.begun, told: ended, without_route });
        let ticket = Ticket { generation, prompt: self.prompt, ..Ticket::default() };
        response.hold(&mut Permit::new(self.told, ticket));
    }

    /// There will be no response.
    #[cold]
    pub(super) fn failed(self, error: &mut LlmError) {
        ledger::note(error, self.begun);
        let (repeat, status) = (error.is_possible_repeat(), self.status_of.map(|of| of(error)));
        self.unanswered(RequestOutcome::Failed(error.kind()), status, failures(error.attempts(), None), repeat);
    }

    /// The caller has left.
    #[cold]
    pub(super) fn abandoned(self) {
        self.unanswered(RequestOutcome::Abandoned, None, None, false);
    }

    fn unanswered(
        self,
        outcome: RequestOutcome,
        status: Option<StatusCode>,
        failures: Option<Arc<[Attempt]>>,
        possible_repeat: bool,
    ) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.begun);
        let ended = RequestEnded {
            request_id: self.request_id,
            status,
            task: None,
            feature: self.feature,
            tier: None,
            provider: None,
            model: None,
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
        self.told.tell(ended);
    }
}

impl Gate for Told {
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        self.settle_with(ticket, outcome, &SoFar::default);
    }

    /// A stream has ended. The ticket's generation is its number.
    fn settle_with<'a>(&self, ticket: &Ticket, outcome: Outcome<'_>, so_far: &dyn Fn() -> SoFar<'a>) {
        let Some(Stream { begun, told, without_route }) = self.streams.take(ticket.generation) else { return };
        let (now, so_far) = (Instant::now(), so_far());
        let mut ended = RequestEnded { took: now.saturating_duration_since(begun), at: now, ..told };
        let told = so_far.usage.copied().or(ended.usage);
        let used = match outcome {
            Outcome::Answered => told,
            // The provider has not told all, or nothing.
            Outcome::Failed(_) | Outcome::Dropped => {
                Some(so_far.used(ticket.prompt)).filter(|used| *used != Usage::default())
            }
        };
        let free = ended.cached.is_some();
        ended.usage = used.filter(|_| !free);
        if let Some(cached) = &mut ended.cached {
            cached.saved = self.cost(None, ended.model.as_ref(), used.as_ref());
        }
        ended.cost = self.cost(ended.provider.as_ref(), ended.model.as_ref(), ended.usage.as_ref());
        ended.cost_without_route = self::without_route(without_route.as_ref(), ended.usage.as_ref());
        ended.outcome = match outcome {
            Outcome::Answered => RequestOutcome::Answered,
            Outcome::Failed(error) => RequestOutcome::Broken(error.kind()),
            Outcome::Dropped => RequestOutcome::Abandoned,
        };
        // Not of one that was left, which happens on healthy days: it would be an allocation.
        if let RequestOutcome::Broken(_) = ended.outcome {
            ended.delivered = Some(Arc::new(so_far.delivered));
        }
        self.tell(ended);
    }
}

/// What the same tokens would have cost at the model whose place a route took.
#[inline]
fn without_route(price: Option<&Price>, usage: Option<&Usage>) -> Option<Usd> {
    Some(price?.cost(usage?))
}

/// The steps that failed, without what the providers said: that may quote the request. Those that name no tier were made
/// on the way to the one that served.
#[inline]
fn failures(attempts: &[Attempt], served: Option<&Arc<str>>) -> Option<Arc<[Attempt]>> {
    if attempts.is_empty() {
        return None;
    }
    copied(attempts, served)
}

#[cold]
fn copied(attempts: &[Attempt], served: Option<&Arc<str>>) -> Option<Arc<[Attempt]>> {
    let came_to_nothing = |attempt: &&Attempt| attempt.failure.is_some() || attempt.is_wasted();
    let told =
        |attempt: &Attempt| Attempt { tier: attempt.tier.as_ref().or(served).cloned(), ..attempt.without_message() };
    let failed: Arc<[Attempt]> = match attempts.iter().all(|attempt| came_to_nothing(&attempt)) {
        // Nearly always: of a number that is known, they are written where they stay.
        true => attempts.iter().map(told).collect(),
        false => attempts.iter().filter(came_to_nothing).map(told).collect(),
    };
    (!failed.is_empty()).then_some(failed)
}

/// How long the attempt that served took: since the last failure, and the wait after it, were over.
#[inline]
fn served_in(attempts: &[Attempt], took: Duration, now: Instant) -> Duration {
    if attempts.is_empty() { took } else { since_the_last(attempts, took, now) }
}

#[cold]
fn since_the_last(attempts: &[Attempt], took: Duration, now: Instant) -> Duration {
    ledger::over(attempts).map_or(took, |over| now.saturating_duration_since(over))
}
