//! The history for the status page: each tier's last hour by the minute, and its cost since the start.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde::Serialize;
use steadfast::{
    Event,
    events::{RequestEnded, RequestOutcome, Subscriber},
    prices::Usd,
};
use tokio::time::Instant;

use crate::lock::lock;

/// The number of minutes that are kept.
const MINUTES: usize = 60;
/// The largest number of tiers: more than any configuration has.
const TIERS: usize = 64;

/// A subscriber of the events. Clones share the history.
#[derive(Clone, Debug)]
pub(super) struct Ledger(Arc<Mutex<History>>);

#[derive(Debug)]
struct History {
    start: Instant,
    tiers: BTreeMap<Arc<str>, Tier>,
}

#[derive(Debug)]
struct Tier {
    cost: Usd,
    minutes: Box<[Minute; MINUTES]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    /// The minute's number since the start.
    number: u64,
    calls: u32,
    failures: u32,
    answers: u32,
    took: Duration,
}

/// A tier's history, for the page.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TierHistory {
    tier: String,
    /// The cost since the start, in US dollars.
    cost_dollars: f64,
    /// The calls by the minute, the current one last.
    calls: Vec<u32>,
    failures: Vec<u32>,
    /// The mean latency; `None` for a minute without answers.
    latency_ms: Vec<Option<f64>>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(History { start: Instant::now(), tiers: BTreeMap::new() })))
    }

    pub(super) fn tiers(&self) -> Vec<TierHistory> {
        let history = self.lock();
        let now = history.minute(Instant::now());
        history.tiers.iter().map(|(name, tier)| tier.history(name, now)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        lock(&self.0)
    }
}

impl Subscriber for Ledger {
    fn event(&mut self, event: &Event) {
        if let Event::RequestEnded(ended) = event {
            self.lock().request(ended);
        }
    }
}

impl History {
    fn minute(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_secs() / 60
    }

    fn request(&mut self, ended: &RequestEnded) {
        let number = self.minute(ended.at);
        for step in ended.failures.as_deref().unwrap_or_default() {
            if step.is_wasted()
                && let Some(minute) = self.tier(step.tier.as_ref()).map(|tier| tier.minute(number))
            {
                minute.count_call(step.is_tiers_failure(), None);
            }
        }
        if !ended.is_served() {
            return;
        }
        let Some(tier) = self.tier(ended.tier.as_ref()) else { return };
        tier.cost = tier.cost + ended.cost.unwrap_or_default();
        tier.minute(number).count_call(matches!(ended.outcome, RequestOutcome::Broken(_)), Some(ended.served_in));
    }

    fn tier(&mut self, name: Option<&Arc<str>>) -> Option<&mut Tier> {
        let name = name?;
        if !self.tiers.contains_key(name) && self.tiers.len() == TIERS {
            return None;
        }
        let new = || Tier { cost: Usd::ZERO, minutes: Box::new([Minute::default(); MINUTES]) };
        Some(self.tiers.entry(name.clone()).or_insert_with(new))
    }
}

impl Tier {
    fn minute(&mut self, number: u64) -> &mut Minute {
        let minute = &mut self.minutes[(number % MINUTES as u64) as usize];
        if minute.number < number {
            *minute = Minute { number, ..Minute::default() };
        }
        minute
    }

    fn history(&self, name: &Arc<str>, now: u64) -> TierHistory {
        let oldest = (now + 1).saturating_sub(MINUTES as u64);
        // The minutes before the start are empty.
        let before = (MINUTES as u64 - 1).saturating_sub(now) as usize;
        let nothing = std::iter::repeat_n(Minute::default(), before);
        let known = (oldest..=now).map(|number| {
            let minute = self.minutes[(number % MINUTES as u64) as usize];
            if minute.number == number { minute } else { Minute::default() }
        });
        let minutes: Vec<Minute> = nothing.chain(known).collect();
        TierHistory {
            tier: name.to_string(),
            cost_dollars: self.cost.dollars(),
            calls: minutes.iter().map(|minute| minute.calls).collect(),
            failures: minutes.iter().map(|minute| minute.failures).collect(),
            latency_ms: minutes.iter().map(Minute::mean).collect(),
        }
    }
}

impl Minute {
    fn count_call(&mut self, failed: bool, answered: Option<Duration>) {
        self.calls = self.calls.saturating_add(1);
        self.failures = self.failures.saturating_add(u32::from(failed));
        if let Some(took) = answered {
            self.answers = self.answers.saturating_add(1);
            self.took = self.took.saturating_add(took);
        }
    }

    fn mean(&self) -> Option<f64> {
        (self.answers > 0).then(|| self.took.as_secs_f64() * 1e3 / f64::from(self.answers))
    }
}
