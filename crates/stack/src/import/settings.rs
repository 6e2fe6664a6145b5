//! The import of a `settings.json` with a `model` block.

use std::{num::NonZeroU32, time::Duration};

use serde::Deserialize;

use super::{
    name, number,
    servers::{self, ProviderName},
    set_default, span, whole, yes,
};
use crate::{
    OnError, Timeout,
    tree::{self, Entry, Fault, Node, Place, Value},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Models {
    primary_model: String,
    #[allow(dead_code, reason = "read for its errors")]
    provider: ProviderName,
    #[serde(default)]
    fallback_models: Vec<Model>,
    #[serde(default)]
    failover: Failover,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    model: String,
    #[allow(dead_code, reason = "read for its errors")]
    provider: ProviderName,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Failover {
    timeout_ms: Option<u32>,
    trigger_on_status_codes: Option<Vec<OnError>>,
    retries_before_failover: Option<u16>,
    primary_recovery_check_interval_ms: Option<NonZeroU32>,
}

pub(super) fn rewrite(mut tree: Node) -> Result<Node, Fault> {
    let Some(Entry { value: mut block, .. }) = tree.take("model") else { return Ok(tree) };
    let Models { primary_model, fallback_models, failover, .. } = tree::read(&block)?;
    // The typed values are known from here on; the nodes provide their places.
    let mut rules = block.take("failover").map(|entry| entry.value);
    let mut rule = |key: &str| rules.as_mut().and_then(|rules| rules.take(key)).map(|entry| entry.value);
    let (timeout, codes) = (rule("timeoutMs"), rule("triggerOnStatusCodes"));
    let (retries, interval) = (rule("retriesBeforeFailover"), rule("primaryRecoveryCheckIntervalMs"));

    let models = models(&mut block);
    let names: Vec<&str> =
        std::iter::once(&*primary_model).chain(fallback_models.iter().map(|model| &*model.model)).collect();
    let is_said = tree.get("circuit_breaker").is_some_and(|said| said.get("consecutive_failures").is_some());
    let attempt = failover.timeout_ms.map(|ms| Duration::from_millis(ms.into()));
    // Each tier's circuit opens after its retries, so that the next tier takes over. The last tier has no such limit:
    // one request's failures must not close it to all others.
    let alone = retries.as_ref().zip(failover.retries_before_failover);
    let last = names.len() - 1;
    let tiers: Vec<Node> = models
        .into_iter()
        .zip(&names)
        .enumerate()
        .filter_map(|(at, ((model, provider), short))| {
            let (model, provider) = (model?, provider?);
            let name = name(short, &names, format!("{}/{short}", word(&provider)));
            let mut tier = tier(name, model, provider);
            if let (Some(node), Some(attempt)) = (&timeout, attempt) {
                tier.put(Entry::new("timeout", node.place.clone(), span(attempt, &node.place)));
            }
            if let Some((node, retries)) = alone.filter(|_| at < last && !is_said) {
                let failures = number(retries.saturating_add(1), &node.place);
                set_default(&mut tier, "circuit_breaker", "consecutive_failures", failures);
            }
            Some(tier)
        })
        .collect();

    let count = tiers.len();
    tree.put(Entry::new("tiers", block.place.clone(), Node::new(Value::List(tiers), block.place.clone())));
    if let Some(mut codes) = codes {
        if let Value::List(items) = &mut codes.value
            && failover.trigger_on_status_codes.is_some()
        {
            items.push(Node::text("own_timeout", &codes.place));
        }
        set_default(&mut tree, "fallback", "on_error", codes);
    }
    if let (Some(node), Some(retries)) = (retries, failover.retries_before_failover) {
        let attempts = retries.saturating_add(1);
        set_retries(&mut tree, attempts, &node.place);
        if tree.get("timeout").is_none() {
            let whole = whole(count, attempts, attempt.unwrap_or(Timeout::ATTEMPT));
            tree.put(Entry::new("timeout", node.place.clone(), span(whole, &node.place)));
        }
    }
    if let (Some(node), Some(ms)) = (interval, failover.primary_recovery_check_interval_ms) {
        set_recovery_check(&mut tree, Duration::from_millis(ms.get().into()), &node.place);
    }
    Ok(tree)
}

/// Takes the model and the provider of each tier, the primary's first.
fn models(block: &mut Node) -> Vec<(Option<Node>, Option<Node>)> {
    let mut models = vec![(value(block, "primaryModel"), value(block, "provider"))];
    if let Some(Node { value: Value::List(items), .. }) = value(block, "fallbackModels") {
        models.extend(items.into_iter().map(|mut item| (value(&mut item, "model"), value(&mut item, "provider"))));
    }
    models
}

/// Creates a tier's block.
fn tier(name: String, model: Node, provider: Node) -> Node {
    let mut tier = Node::block(&model.place, [("name", Node::text(name, &model.place))]);
    tier.put(Entry::new("model", model.place.clone(), model));
    tier.put(Entry::new("provider", provider.place.clone(), provider));
    servers::resolve(&mut tier);
    tier
}

/// Sets the attempts on a tier. A timeout counts as a failed attempt, and no retry budget limits the attempts.
fn set_retries(tree: &mut Node, attempts: u16, place: &Place) {
    set_default(tree, "retry", "max_attempts", number(attempts, place));
    set_default(tree, "retry", "retry_timeouts", yes(place));
    set_default(tree, "retry", "budget", number(1, place));
}

/// Sets the interval between checks of a failed tier.
fn set_recovery_check(tree: &mut Node, interval: Duration, place: &Place) {
    set_default(tree, "circuit_breaker", "cooldown", span(interval, place));
    let check = Node::block(place, [("every", span(interval, place)), ("active", yes(place))]);
    set_default(tree, "fallback", "recovery_check", check);
}

fn value(block: &mut Node, key: &str) -> Option<Node> {
    block.take(key).map(|entry| entry.value)
}

fn word(node: &Node) -> &str {
    match &node.value {
        Value::Text(text) | Value::Untyped(text) => text,
        _ => "",
    }
}
