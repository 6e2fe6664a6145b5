//! `GET /admin/keys`: the keys and their spending, for administrators only.

use std::sync::Arc;

use axum::{Extension, body::Body, extract::State};
use http::Response;
use serde_json::{Value, json};
use steadfast::{Dialect, layers::budget::CapSpend};
use steadfast_stack::StackHandle;
use tokio::time::Instant;

use super::{Denial, Key, cap_name};
use crate::{
    api::{GatewayState, admin::ok, pipeline::deny_at_door},
    wall_clock,
};

pub(crate) async fn list(State(gateway): State<Arc<GatewayState>>, key: Option<Extension<Arc<Key>>>) -> Response<Body> {
    let key = key.map(|Extension(key)| key);
    let Some(keys) = gateway.keys.as_ref().filter(|_| key.as_ref().is_some_and(|key| key.admin)) else {
        return deny_at_door(&gateway, &Denial::NotAdmin("/admin/keys".into()), key.as_ref(), Dialect::OpenAi);
    };
    let spent = keys.stack.as_ref().map(Spending::of).unwrap_or_default();
    let keys: Vec<Value> = keys.current.load().list.iter().map(|key| entry(key, &spent)).collect();
    ok(&json!({ "keys": keys }))
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
