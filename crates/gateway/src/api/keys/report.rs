//! The report on all keys and their spending, for administrators.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use steadfast::layers::budget::CapSpend;
use steadfast_internal::{hex, wall_clock::rfc3339};
use steadfast_stack::StackHandle;
use tokio::time::Instant;

use super::{Key, Keys, budget::key_of_cap, entry::SecretHash};
use crate::{lock::lock, wall_clock};

impl Keys {
    /// Returns each key: its permissions and limits, what is in flight, and what it has spent.
    pub(crate) fn report(&self) -> Value {
        let facts = self.facts();
        let keys: Vec<Value> = self.current.load().list.iter().map(|key| facts.entry(key)).collect();
        json!({ "keys": keys })
    }

    /// Returns the same of one key.
    pub(crate) fn report_on(&self, name: &str) -> Option<Value> {
        self.current.load().named(name).map(|key| self.facts().entry(key))
    }

    fn facts(&self) -> Facts {
        let in_file = lock(&self.sources).file.iter().map(|record| record.entry.name.clone()).collect();
        Facts { in_file, spent: self.stack.as_ref().map(Spending::of).unwrap_or_default() }
    }
}

/// What a report says beside the keys themselves.
struct Facts {
    in_file: HashSet<Box<str>>,
    spent: Spending,
}

impl Facts {
    fn entry(&self, key: &Key) -> Value {
        let (limits, entry, now) = (key.limits.as_ref(), &key.record.entry, Instant::now());
        let budgets: Vec<Value> = self.spent.of_key(&key.name).map(|spend| budget(spend, now)).collect();
        json!({
            "name": &*key.name,
            "team": key.team.as_deref(),
            "admin": entry.admin,
            "handoff": key.is_reviewer(),
            "features": entry.features,
            "models": entry.models,
            "paused": entry.paused,
            "stored": !self.in_file.contains(&*key.name),
            "secrets": key.record.hashes.iter().map(secret).collect::<Vec<_>>(),
            "expired": entry.expires.is_some_and(|expiry| expiry.is_over(wall_clock::since_1970())),
            "expiresAtMs": entry.expires.map(|expiry| expiry.at.as_secs() * 1000),
            "expires": entry.expires.map(|expiry| rfc3339(expiry.at)),
            "requestsPerMinute": key.requests_per_minute(),
            "tokensPerMinute": entry.tokens_per_minute,
            "concurrency": entry.concurrency,
            "inFlight": limits.map(super::limits::KeyLimits::in_flight),
            "budgets": budgets,
        })
    }
}

/// The spending of all caps, by the keys that they count.
#[derive(Default)]
struct Spending {
    caps: Vec<CapSpend>,
    /// The places of the caps of each key.
    of_key: HashMap<String, Vec<usize>>,
}

impl Spending {
    fn of(stack: &StackHandle) -> Self {
        let config = stack.config();
        let of_one = config.budgets.iter().filter_map(|budget| Some((&*budget.name, &**budget.key.as_ref()?)));
        let of_one: HashMap<&str, &str> = of_one.collect();
        let caps = stack.spend();
        let mut of_key: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, spend) in caps.iter().enumerate() {
            let key =
                spend.key.as_deref().or_else(|| key_of_cap(&spend.cap)).or_else(|| of_one.get(&*spend.cap).copied());
            if let Some(key) = key {
                of_key.entry(key.to_owned()).or_default().push(place);
            }
        }
        Self { caps, of_key }
    }

    fn of_key(&self, key: &str) -> impl Iterator<Item = &CapSpend> {
        self.of_key.get(key).into_iter().flatten().map(|place| &self.caps[*place])
    }
}

/// Returns a secret by the beginning of its hash, which finds it in a file and in the log.
fn secret(hash: &SecretHash) -> Value {
    json!({ "id": hex::encode(&hash.digest[..4]), "until": hash.until.map(rfc3339) })
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
