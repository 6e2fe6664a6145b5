//! Fair shares of what several keys want at once: places, rates and money.
//!
//! [`internal::shares`](crate::internal::shares) has the rule. Here it gets tokio's clock, and a [`Hold`] that gives
//! its part back wherever a request ends.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use std::time::Duration;

use tokio::time::Instant;

use crate::internal::shares;
pub(crate) use crate::internal::shares::{Level, Verdict};

/// The wait before a key that was refused for its share may ask again: others' work ends all the time.
pub(crate) const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The parts of one resource that each key holds.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    shares: shares::Shares,
    /// The first reading of the clock. Shares that are made outside of a runtime thus follow the clock of the runtime
    /// that uses them.
    origin: OnceLock<Instant>,
}

impl Shares {
    /// Creates the shares of a rate: so many units come back in a second.
    pub(crate) fn of_rate(per_second: f64) -> Self {
        Self { shares: shares::Shares::of_rate(per_second), origin: OnceLock::new() }
    }

    /// Takes an amount for a key by [`shares::Shares::take`].
    pub(crate) fn take<T>(
        &self,
        key: &Arc<str>,
        amount: u64,
        now: Instant,
        level: impl FnOnce() -> Level,
        grant: impl FnOnce() -> Result<T, T>,
    ) -> Verdict<T> {
        let since = now.saturating_duration_since(*self.origin.get_or_init(|| now));
        self.shares.take(key, amount, since, level, grant)
    }

    /// Gives an amount back.
    pub(crate) fn give(&self, key: &str, amount: u64) {
        self.shares.give(key, amount);
    }

    /// Replaces an amount that was taken with the one that was used.
    pub(crate) fn settle(&self, key: &str, taken: u64, used: u64) {
        self.shares.settle(key, taken, used);
    }

    /// Returns the number of keys that want the resource, this one included.
    pub(crate) fn wanting(&self, key: &str) -> u64 {
        self.shares.wanting(key)
    }

    /// Returns how much a key holds.
    pub(crate) fn held(&self, key: &str) -> u64 {
        self.shares.held(key)
    }
}

/// A key's part of a resource, given back once.
#[derive(Debug)]
pub(crate) struct Hold {
    shares: Arc<Shares>,
    key: Arc<str>,
    amount: AtomicU64,
}

impl Hold {
    /// Creates a hold of an amount that the shares have counted.
    pub(crate) fn new(shares: Arc<Shares>, key: Arc<str>, amount: u64) -> Self {
        Self { shares, key, amount: AtomicU64::new(amount) }
    }

    pub(crate) fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// Leaves the part with its key, for another hold.
    pub(crate) fn keep(self) {
        self.amount.store(0, Relaxed);
    }

    /// Gives the part back. Only the first call has an effect.
    pub(crate) fn give_back(&self) {
        let amount = self.amount.swap(0, Relaxed);
        if amount > 0 {
            self.shares.give(&self.key, amount);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests;
