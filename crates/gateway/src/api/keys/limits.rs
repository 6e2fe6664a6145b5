//! A key's limits: its rate of requests, and a bulkhead of the library for concurrency and tokens per minute. Replicas
//! with a shared store count them together.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use steadfast::{
    BulkheadHandle, BulkheadLayer, LlmError,
    layers::bulkhead::{self, CallerLimits, RateLevel, SharedRate},
};
use steadfast_stores::replicas::{LimitUse, SharedLimit, SharedLimits};
use tokio::time::Instant;

use super::denial::Denial;

/// A key's requests per minute. Clones are the same rate.
#[derive(Clone, Debug)]
pub(super) struct RequestRate {
    pub(super) per_minute: NonZeroU32,
    rate: SharedRate,
    shared: SharedLimit,
}

impl RequestRate {
    /// Creates the rate of the key of this name.
    pub(super) fn new(per_minute: NonZeroU32, key: &str, limits: &SharedLimits) -> Self {
        let (rate, shared) = (SharedRate::of_requests(per_minute), limits.limit(shared_name(key)));
        shared.set_rate("requests", Some((rate.clone(), per_minute.get())));
        Self { per_minute, rate, shared }
    }

    /// Takes one request, or returns the time until one is available.
    pub(super) fn take(&self, now: Instant) -> Result<(), Duration> {
        let taken = self.rate.take(now);
        self.shared.touch();
        // A rate above zero always comes back.
        taken.map_err(Option::unwrap_or_default)
    }

    /// Returns its level.
    pub(super) fn level(&self, now: Instant) -> Option<RateLevel> {
        self.rate.level(now)
    }
}

/// Returns the name by which replicas find a key's limits.
pub(super) fn shared_name(key: &str) -> String {
    format!("key {key}")
}

/// A key's own bulkhead. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct KeyLimits {
    pub(super) concurrency: Option<NonZeroU32>,
    pub(super) tokens_per_minute: Option<NonZeroU32>,
    /// The limits in the form that a request carries.
    pub(super) own: CallerLimits,
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

impl KeyLimits {
    /// Creates a key's limits; `None` if it has none. The previous limits' requests in flight, an unchanged rate, and
    /// what other replicas use carry over.
    pub(super) fn new(
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
        Some(Self { concurrency, tokens_per_minute, own: CallerLimits::new(layer), handle, other_work, shared })
    }

    /// Begins a call that may take from the limits.
    pub(super) fn enter(&self) -> LimitUse {
        self.shared.enter()
    }

    /// Returns the number of requests in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.handle.snapshot().iter().map(|load| load.in_flight).sum()
    }

    /// Returns the level of the tokens per minute, if they have a limit.
    pub(super) fn tokens(&self) -> Option<RateLevel> {
        let [_, tokens] = self.handle.default_levels();
        tokens
    }

    /// Returns the denial that an error of a call is, with the limit that was reached.
    pub(super) fn denial(&self, error: &LlmError) -> Option<Denial> {
        match Denial::of(error)? {
            Denial::Tokens(wait, _) => Some(Denial::Tokens(wait, self.tokens_per_minute)),
            Denial::InFlight(_) => Some(Denial::InFlight(self.concurrency)),
            _ => None,
        }
    }

    /// Takes a permit for work that calls no model.
    pub(super) fn permit(&self) -> Result<Option<ConcurrencyPermit>, Denial> {
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
