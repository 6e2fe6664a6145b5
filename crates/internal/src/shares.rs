//! Fair shares: how much of a limited resource one key may hold while others want it too.
//!
//! A key's *share* is the limit divided by the number of keys that want the resource: those that hold a part of it, and
//! those that asked for one lately. The rule, for a key that asks for more:
//!
//! 1. Up to its share it gets what is free.
//! 2. Beyond that it gets what the others leave. It leaves free what they have lately used or asked for beyond what
//!    they hold, twice over, within their shares. If it holds something already, that is at least a quarter of
//!    the limit.
//! 3. A key that is alone may take everything.
//!
//! So nothing stays unused but what the second rule leaves free, nobody's work is interrupted, and a key that has
//! taken everything while it was alone gives it back as its work ends. With fewer units than keys the first to ask is
//! served.
//!
//! The rule is one for places, rates, money and memory. A rate has in addition a steady *drain*: its units come back by
//! themselves, to each key at its share of the pace. Times are durations since an origin that the caller keeps.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The time for which a want is remembered at least; twice that at most.
pub const SPAN: Duration = Duration::from_secs(30);
/// The part of the limit that a key beyond its share leaves free at least: one in so many.
const SPARE: u64 = 4;
/// The most keys that are told apart at once. Those beyond are as requests without a key.
const MOST_KEYS: usize = 10_000;

/// The parts of one limited resource that each key holds.
#[derive(Debug, Default)]
pub struct Shares {
    /// The units that come back in a second by themselves.
    drain: f64,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    keys: HashMap<Arc<str>, Account>,
    /// The time at which the present span began.
    begun: Duration,
}

/// A key's part.
#[derive(Debug, Default)]
struct Account {
    held: u64,
    /// The time up to which `held` has drained, and the part of a unit beyond it.
    drained: Duration,
    fraction: f64,
    /// The most that it held or asked for, in the present span and in the one before.
    wants: [u64; 2],
}

/// The state of the whole resource.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// All that there is.
    pub limit: u64,
    /// The part in use, of all keys and of requests without one.
    pub used: u64,
}

/// The answer to a key that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    /// The grant.
    Granted(T),
    /// Nothing is free for anybody, in the words of the resource.
    Full(T),
    /// The key holds its share, and the rest is left to others.
    OverShare,
}

impl Account {
    /// Returns the units that have come back by now, with the part of one.
    fn due(&self, now: Duration, pace: f64) -> f64 {
        now.saturating_sub(self.drained).as_secs_f64() * pace + self.fraction
    }

    /// Returns what it holds now.
    fn held(&self, now: Duration, pace: f64) -> u64 {
        // The cast saturates.
        if pace > 0.0 { self.held.saturating_sub(self.due(now, pace) as u64) } else { self.held }
    }

    fn drain(&mut self, now: Duration, pace: f64) {
        let (due, held) = (self.due(now, pace), self.held(now, pace));
        self.fraction = if held == 0 { 0.0 } else { due.fract() };
        (self.held, self.drained) = (held, self.drained.max(now));
    }

    fn want(&self, held: u64) -> u64 {
        self.wants[0].max(self.wants[1]).max(held)
    }
}

impl Ledger {
    /// Begins another span if the last one is over, and forgets keys that want nothing.
    fn turn(&mut self, now: Duration, drain: f64) {
        let spans = now.saturating_sub(self.begun).as_nanos() / SPAN.as_nanos();
        if spans == 0 {
            return;
        }
        self.begun += SPAN * u32::try_from(spans).unwrap_or(u32::MAX);
        let pace = self.pace(drain);
        for account in self.keys.values_mut() {
            account.drain(now, pace);
            let last = if spans == 1 { account.wants[0] } else { 0 };
            account.wants = [0, last];
        }
        self.keys.retain(|_, account| account.held > 0 || account.wants[1] > 0);
    }

    fn pace(&self, drain: f64) -> f64 {
        drain / self.keys.len().max(1) as f64
    }

    /// Returns true if a key that holds `held` may take `amount` more.
    fn is_fair(&self, key: &str, held: u64, amount: u64, level: Level, now: Duration, pace: f64) -> bool {
        let keys = self.keys.len() as u64;
        if keys <= 1 {
            return true;
        }
        let share = (level.limit / keys).max(1);
        if held.saturating_add(amount) <= share {
            return true;
        }
        // An amount that does not fit is refused for that.
        let Some(free) = level.limit.checked_sub(level.used).and_then(|free| free.checked_sub(amount)) else {
            return true;
        };
        if held > 0 && free < level.limit.div_ceil(SPARE) {
            return false;
        }
        let mut wanted = 0u64;
        for (name, account) in &self.keys {
            if **name != *key {
                let held = account.held(now, pace);
                let want = account.want(held).saturating_mul(2).min(share);
                wanted = wanted.saturating_add(want.saturating_sub(held));
                if wanted > free {
                    return false;
                }
            }
        }
        true
    }
}

impl Shares {
    /// Creates the shares of a resource whose units come back when they are given back.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates the shares of a rate: so many units come back in a second.
    pub fn of_rate(per_second: f64) -> Self {
        Self { drain: per_second, ledger: Mutex::default() }
    }

    /// Takes an amount for a key, if that is fair and the resource grants it. `level` and `grant` run under the lock of
    /// the shares, so that both see the same moment.
    pub fn take<T>(
        &self,
        key: &Arc<str>,
        amount: u64,
        now: Duration,
        level: impl FnOnce() -> Level,
        grant: impl FnOnce() -> Result<T, T>,
    ) -> Verdict<T> {
        let mut ledger = self.ledger();
        ledger.turn(now, self.drain);
        if !ledger.keys.contains_key(&**key) {
            if ledger.keys.len() >= MOST_KEYS {
                drop(ledger);
                return grant().map_or_else(Verdict::Full, Verdict::Granted);
            }
            ledger.keys.insert(key.clone(), Account { drained: now, ..Account::default() });
        }
        let (pace, level) = (ledger.pace(self.drain), level());
        let held = ledger.keys.get_mut(&**key).map_or(0, |account| {
            if self.drain > 0.0 {
                account.drain(now, pace);
                // Nobody has used more than all of it.
                account.held = account.held.min(level.used);
            }
            account.held
        });
        let verdict = match ledger.is_fair(key, held, amount, level, now, pace) {
            false => Verdict::OverShare,
            true => grant().map_or_else(Verdict::Full, Verdict::Granted),
        };
        if let Some(account) = ledger.keys.get_mut(&**key) {
            let asked = held.saturating_add(amount);
            account.wants[0] = account.wants[0].max(asked.min(level.limit));
            if let Verdict::Granted(_) = verdict {
                account.held = asked;
            }
        }
        verdict
    }

    // No loom model has shares, and an account of them is whole whoever panics.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an amount back.
    pub fn give(&self, key: &str, amount: u64) {
        self.settle(key, amount, 0);
    }

    /// Replaces an amount that was taken with the one that was used.
    pub fn settle(&self, key: &str, taken: u64, used: u64) {
        if let Some(account) = self.ledger().keys.get_mut(key) {
            account.held = account.held.saturating_add(used).saturating_sub(taken);
        }
    }

    /// Returns the number of keys that want the resource, this one included.
    pub fn wanting(&self, key: &str) -> u64 {
        let ledger = self.ledger();
        ledger.keys.len() as u64 + u64::from(!ledger.keys.contains_key(key))
    }

    /// Returns how much a key holds.
    pub fn held(&self, key: &str) -> u64 {
        self.ledger().keys.get(key).map_or(0, |account| account.held)
    }
}
