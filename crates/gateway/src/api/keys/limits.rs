//! A key's limits of concurrency and tokens per minute: the library's bulkhead, one for each key.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use steadfast::{
    BulkheadHandle, BulkheadLayer, LlmError,
    layers::bulkhead::{self, CallerLimits, RateLevel},
};

use super::denial::Denial;

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
}

/// A permit for work that calls no model, released on drop.
#[derive(Debug)]
pub(crate) struct ConcurrencyPermit(Arc<AtomicUsize>);

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl KeyLimits {
    /// Creates a key's limits; `None` if it has none. The previous limits' requests in flight, and an unchanged rate,
    /// carry over.
    pub(super) fn new(
        concurrency: Option<NonZeroU32>,
        tokens_per_minute: Option<NonZeroU32>,
        before: Option<&Self>,
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
        Some(Self { concurrency, tokens_per_minute, own: CallerLimits::new(layer), handle, other_work })
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
        let permit = ConcurrencyPermit(self.other_work.clone());
        let taken = other_work.saturating_add(self.in_flight());
        if usize::try_from(limit.get()).is_ok_and(|limit| taken >= limit) {
            return Err(Denial::InFlight(Some(limit)));
        }
        Ok(Some(permit))
    }
}
