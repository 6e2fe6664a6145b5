//! The report on all keys and their spending, for administrators.

use serde_json::{Value, json};
use steadfast::{layers::budget::CapSpend, prices::Usd};
use steadfast_internal::{
    hex,
    wall_clock::{self, rfc3339},
};
use steadfast_stack::StackHandle;
use tokio::time::Instant;

use super::{Key, Keys, entry::SecretHash, teams::Teams};
use crate::lock::lock;

impl Keys {
    /// Returns each key: its permissions and limits, what is in flight, and what it has spent. Callers by token follow,
    /// and then stored keys that do not count, with the reasons.
    pub(crate) fn report(&self) -> Value {
        let mut keys: Vec<Value> = self.current.load().list.iter().map(|key| self.report_of(key)).collect();
        keys.extend(self.callers().iter().map(|key| self.report_of(key)));
        let sources = lock(&self.sources);
        keys.extend(
            sources
                .passed_over()
                .map(|(record, problem)| self.entry(&Key::new(record, None, &Teams::default()), Some(problem))),
        );
        json!({ "keys": keys })
    }

    /// Returns the same of the key of this name.
    pub(crate) fn report_on(&self, name: &str) -> Option<Value> {
        let current = self.current.load();
        let key = current.named(name).cloned().or_else(|| self.tokens.as_ref()?.caller(name));
        key.map(|key| self.report_of(&key)).or_else(|| self.report_on_passed_over(name))
    }

    /// Returns the same of the key of this name in the store, after an order for it.
    pub(crate) fn report_on_stored(&self, name: &str) -> Option<Value> {
        self.report_on_passed_over(name).or_else(|| self.report_on(name))
    }

    fn report_on_passed_over(&self, name: &str) -> Option<Value> {
        let sources = lock(&self.sources);
        let (record, problem) = sources.passed_over().find(|(record, _)| *record.entry.name == *name)?;
        Some(self.entry(&Key::new(record, None, &Teams::default()), Some(problem)))
    }

    /// Returns the same of one key that counts.
    pub(crate) fn report_of(&self, key: &Key) -> Value {
        self.entry(key, None)
    }

    /// Returns the entry of a key. A `problem` is the reason for which it does not count.
    fn entry(&self, key: &Key, problem: Option<&str>) -> Value {
        let (entry, now) = (&key.record.entry, Instant::now());
        let spent = |stack: &StackHandle| stack.spend_of_key(&key.name, key.team.as_deref());
        // The name's spending is another key's.
        let spent = self.stack.as_ref().filter(|_| problem.is_none()).map(spent).unwrap_or_default();
        let budgets: Vec<Value> = spent.iter().map(|spend| budget(spend, now)).collect();
        let mut report = key.own.report();
        let more = json!({
            "name": &*key.name,
            "team": key.team.as_deref(),
            "admin": entry.admin,
            "handoff": key.is_reviewer(),
            "features": entry.features,
            "models": entry.models,
            "paused": entry.paused,
            "problem": problem,
            "stored": self.stored.as_ref().is_some_and(|stored| stored.has(&key.record)),
            "secrets": key.record.hashes.iter().map(secret).collect::<Vec<_>>(),
            "expired": entry.expires.is_some_and(|expiry| expiry.is_over(wall_clock::since_1970())),
            "expiresAtMs": entry.expires.map(|expiry| expiry.at.as_secs() * 1000),
            "expires": entry.expires.map(|expiry| rfc3339(expiry.at)),
            "teamLimits": key.of_team().map(|limits| Value::Object(limits.report())),
            "budgets": budgets,
        });
        if let Value::Object(more) = more {
            report.extend(more);
        }
        report.into()
    }
}

/// Returns a secret by the beginning of its hash, which finds it in a file and in the log.
fn secret(hash: &SecretHash) -> Value {
    json!({ "id": hex::encode(&hash.digest[..4]), "until": hash.until.map(rfc3339) })
}

fn budget(spend: &CapSpend, now: Instant) -> Value {
    json!({
        "cap": &*spend.cap,
        "feature": spend.feature.as_deref(),
        "period": spend.period.to_string(),
        "spentDollars": spend.spent.dollars(),
        "reservedDollars": spend.reserved.dollars(),
        "limitDollars": spend.limit.dollars(),
        "leftDollars": left(spend).dollars(),
        "resetsInSeconds": spend.resets_at.saturating_duration_since(now).as_secs(),
    })
}

/// Returns what a request may still spend.
fn left(spend: &CapSpend) -> Usd {
    let taken = spend.spent.nanos().saturating_add(spend.reserved.nanos());
    Usd::from_nanos(spend.limit.nanos().saturating_sub(taken))
}
