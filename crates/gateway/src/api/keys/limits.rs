//! The limits of a key or a team: its rate of requests, and a bulkhead of the library for concurrency and tokens per
//! minute. Replicas with a shared store count them together.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use serde_json::{Map, Value, json};
use steadfast::{
    BulkheadHandle, BulkheadLayer, LlmError,
    error::ReachedLimit,
    layers::bulkhead::{self, RateLevel, ReachedRate, SharedRate},
};
use steadfast_stack::TeamLimits;
use steadfast_stores::replicas::{LimitUse, SharedLimit, SharedLimits};
use tokio::time::Instant;

use super::{denial::Denial, entry::KeyEntry};

/// The limits of a key or a team. Clones are the same limits.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnLimits {
    rate: Option<RequestRate>,
    pub(super) calls: Option<CallLimits>,
}

/// Whose limits they are: the name by which replicas find them.
#[derive(Clone, Copy)]
pub(super) enum Owner<'a> {
    Key(&'a str),
    Team(&'a str),
}

impl Owner<'_> {
    fn shared_name(self) -> String {
        match self {
            Self::Key(name) => format!("key {name}"),
            Self::Team(name) => format!("team {name}"),
        }
    }
}

impl OwnLimits {
    /// Creates the limits of an owner. What is unchanged keeps the state that it has `before`.
    pub(super) fn new(said: TeamLimits, owner: Owner<'_>, before: Option<&Self>, shared: &SharedLimits) -> Self {
        let TeamLimits { requests_per_minute, tokens_per_minute, concurrency } = said;
        let in_store = || shared.limit(owner.shared_name());
        let rate = requests_per_minute.map(|per_minute| {
            let known = before.and_then(|limits| limits.rate.as_ref());
            let known = known.filter(|rate| rate.per_minute == per_minute).cloned();
            known.unwrap_or_else(|| RequestRate::new(per_minute, in_store()))
        });
        let known = before.and_then(|limits| limits.calls.as_ref());
        Self { rate, calls: CallLimits::new(concurrency, tokens_per_minute, known, in_store) }
    }

    /// Counts a request against the rate: of a team's, for this key.
    pub(super) fn admit(&self, now: Instant, key: Option<&Arc<str>>) -> Result<(), Denial> {
        self.rate.as_ref().map_or(Ok(()), |rate| rate.take(now, key))
    }

    /// Returns the levels of requests and of tokens per minute, where they have a limit.
    pub(super) fn levels(&self) -> [Option<RateLevel>; 2] {
        let requests = self.rate.as_ref().and_then(|rate| rate.rate.level(Instant::now()));
        [requests, self.calls.as_ref().and_then(CallLimits::tokens)]
    }

    /// Returns the limits, with what is left of them, for a report.
    pub(super) fn report(&self) -> Map<String, Value> {
        let [requests, tokens] = self.levels();
        let calls = self.calls.as_ref();
        let fields = [
            ("requestsPerMinute", json!(self.rate.as_ref().map(|rate| rate.per_minute))),
            ("requestsLeft", json!(requests.map(|level| level.left))),
            ("tokensPerMinute", json!(calls.and_then(|calls| calls.tokens_per_minute))),
            ("tokensLeft", json!(tokens.map(|level| level.left))),
            ("concurrency", json!(calls.and_then(|calls| calls.concurrency))),
            ("inFlight", json!(calls.map(CallLimits::in_flight))),
        ];
        fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    }

    /// Takes a permit for work that calls no model.
    pub(super) fn permit(&self) -> Result<Option<ConcurrencyPermit>, Denial> {
        self.calls.as_ref().map_or(Ok(None), CallLimits::permit)
    }
}

impl From<&KeyEntry> for TeamLimits {
    fn from(entry: &KeyEntry) -> Self {
        let &KeyEntry { requests_per_minute, tokens_per_minute, concurrency, .. } = entry;
        Self { requests_per_minute, tokens_per_minute, concurrency }
    }
}

/// An owner's requests per minute. Clones are the same rate.
#[derive(Clone, Debug)]
struct RequestRate {
    per_minute: NonZeroU32,
    rate: SharedRate,
    shared: SharedLimit,
}

impl RequestRate {
    fn new(per_minute: NonZeroU32, shared: SharedLimit) -> Self {
        let rate = SharedRate::of_requests(per_minute);
        shared.set_rate("requests", Some((rate.clone(), per_minute.get())));
        Self { per_minute, rate, shared }
    }

    fn take(&self, now: Instant, key: Option<&Arc<str>>) -> Result<(), Denial> {
        let taken = self.rate.take(now, key);
        self.shared.touch();
        // A rate above zero always comes back.
        let denial = |reached: ReachedRate| Denial::Rate(reached.retry_after.unwrap_or_default(), self.per_minute);
        taken.map_err(|reached| denial(reached).of_share(reached.is_share))
    }
}

/// An owner's own bulkhead. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct CallLimits {
    concurrency: Option<NonZeroU32>,
    tokens_per_minute: Option<NonZeroU32>,
    /// The limits in the form that a request carries.
    pub(super) layer: BulkheadLayer,
    handle: BulkheadHandle,
    /// The number of operations in flight that call no model.
    other_work: Arc<AtomicUsize>,
    shared: SharedLimit,
}

/// A permit for work that calls no model, released on drop.
#[derive(Debug)]
pub(crate) struct ConcurrencyPermit {
    other_work: Arc<AtomicUsize>,
    _use: LimitUse,
}

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        self.other_work.fetch_sub(1, Relaxed);
    }
}

impl CallLimits {
    /// Creates limits; `None` if it has none. The previous limits' requests in flight, an unchanged rate, and
    /// what other replicas use carry over.
    fn new(
        concurrency: Option<NonZeroU32>,
        tokens_per_minute: Option<NonZeroU32>,
        before: Option<&Self>,
        shared: impl FnOnce() -> SharedLimit,
    ) -> Option<Self> {
        if concurrency.is_none() && tokens_per_minute.is_none() {
            return None;
        }
        let in_flight = concurrency.map_or(usize::MAX, |limit| limit.get().try_into().unwrap_or(usize::MAX));
        let mut limits = bulkhead::Limits::new(in_flight);
        if let Some(tokens) = tokens_per_minute {
            limits = limits.tokens_per_minute(tokens.get());
        }
        let mut layer = BulkheadLayer::new().default_limit(limits);
        if let Some(before) = before {
            layer = layer.state(&before.handle);
        }
        let handle = layer.handle();
        let other_work = before.map(|before| before.other_work.clone()).unwrap_or_default();
        let shared = before.map_or_else(shared, |before| before.shared.clone());
        shared.set_places(concurrency.map(|_| (handle.clone(), in_flight, other_work.clone())));
        let tokens = handle.shared_rates().into_iter().next().zip(tokens_per_minute);
        shared.set_rate("tokens", tokens.map(|((_, rate), per_minute)| (rate, per_minute.get())));
        Some(Self { concurrency, tokens_per_minute, layer, handle, other_work, shared })
    }

    /// Begins a call that may take from the limits.
    pub(super) fn enter(&self) -> LimitUse {
        self.shared.enter()
    }

    /// Returns the number of requests in flight.
    fn in_flight(&self) -> usize {
        self.handle.snapshot().iter().map(|load| load.in_flight).sum()
    }

    /// Returns the level of the tokens per minute, if they have a limit.
    fn tokens(&self) -> Option<RateLevel> {
        let [_, tokens] = self.handle.default_levels();
        tokens
    }

    /// Returns the denial that an error of a call is, with the limit that was reached.
    pub(super) fn denial(&self, error: &LlmError) -> Option<Denial> {
        let is_share = matches!(error.reached_limit(), Some(ReachedLimit::Share(_)));
        let denied = match Denial::of(error)? {
            Denial::Tokens(wait, _) => Denial::Tokens(wait, self.tokens_per_minute),
            Denial::InFlight(_) => Denial::InFlight(self.concurrency),
            _ => return None,
        };
        Some(denied.of_share(is_share))
    }

    /// Takes a permit for work that calls no model.
    fn permit(&self) -> Result<Option<ConcurrencyPermit>, Denial> {
        let Some(limit) = self.concurrency else { return Ok(None) };
        let other_work = self.other_work.fetch_add(1, Relaxed);
        let permit = ConcurrencyPermit { other_work: self.other_work.clone(), _use: self.enter() };
        let taken = other_work.saturating_add(self.in_flight()).saturating_add(self.shared.elsewhere());
        if usize::try_from(limit.get()).is_ok_and(|limit| taken >= limit) {
            return Err(Denial::InFlight(Some(limit)));
        }
        Ok(Some(permit))
    }
}
