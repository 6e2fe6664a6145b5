//! The report on all keys and their spending, for administrators.

use serde_json::{Value, json};
use steadfast::layers::budget::CapSpend;
use steadfast_stack::StackHandle;
use tokio::time::Instant;

use super::{Key, Keys, budget::cap_name};
use crate::wall_clock;

impl Keys {
    /// Returns each key: its permissions and limits, what is in flight, and what it has spent.
    pub(crate) fn report(&self) -> Value {
        let spent = self.stack.as_ref().map(Spending::of).unwrap_or_default();
        let keys: Vec<Value> = self.current.load().list.iter().map(|key| entry(key, &spent)).collect();
        json!({ "keys": keys })
    }
}

/// The spending of all caps, and the configuration's caps of a single key, by the names of cap and key.
#[derive(Default)]
struct Spending {
    caps: Vec<CapSpend>,
    of_one: Vec<(String, String)>,
}

impl Spending {
    fn of(stack: &StackHandle) -> Self {
        let config = stack.config();
        let of_one = config.budgets.iter().filter_map(|budget| Some((budget.name.clone(), budget.key.clone()?)));
        Self { caps: stack.spend(), of_one: of_one.collect() }
    }

    fn counts(&self, spend: &CapSpend, key: &str) -> bool {
        let of_one = |(cap, of): &(String, String)| **cap == *spend.cap && of == key;
        *spend.cap == *cap_name(key) || spend.key.as_deref() == Some(key) || self.of_one.iter().any(of_one)
    }
}

fn entry(key: &Key, spent: &Spending) -> Value {
    let (limits, now) = (key.limits.as_ref(), Instant::now());
    let caps = spent.caps.iter().filter(|spend| spent.counts(spend, &key.name));
    let budgets: Vec<Value> = caps.map(|spend| budget(spend, now)).collect();
    json!({
        "name": &*key.name,
        "team": key.team.as_deref(),
        "admin": key.admin,
        "handoff": key.is_reviewer(),
        "features": key.features.as_deref(),
        "models": key.models.as_deref(),
        "expired": key.is_expired(wall_clock::since_1970()),
        "expiresAtMs": key.expires.map(|expiry| expiry.at.as_secs() * 1000),
        "requestsPerMinute": key.rate.as_ref().map(|rate| rate.per_minute),
        "tokensPerMinute": limits.and_then(|limits| limits.tokens_per_minute),
        "concurrency": limits.and_then(|limits| limits.concurrency),
        "inFlight": limits.map(super::limits::KeyLimits::in_flight),
        "budgets": budgets,
    })
}

fn budget(spend: &CapSpend, now: Instant) -> Value {
    json!({
        "cap": &*spend.cap,
        "spentDollars": spend.spent.dollars(),
        "reservedDollars": spend.reserved.dollars(),
        "limitDollars": spend.limit.dollars(),
        "resetsInSeconds": spend.resets_at.saturating_duration_since(now).as_secs(),
    })
}
