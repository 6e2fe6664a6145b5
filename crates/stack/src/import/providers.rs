//! The import of a list of providers.

use serde::{Deserialize, de::IgnoredAny};

use super::{
    name, number,
    servers::{self, ProviderName},
    set_default, span, whole, yes,
};
use crate::{
    Growth, OnError, Timeout,
    tree::{self, Entry, Fault, Node, Value},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "read for their errors: the schema says what they mean")]
struct ProviderEntry {
    name: ProviderName,
    model: String,
    priority: Option<i64>,
    api_key: Option<IgnoredAny>,
    base_url: Option<IgnoredAny>,
    timeout: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(dead_code, reason = "read for their errors: the schema says what they mean")]
struct Fallback {
    on_error: Option<Vec<OnError>>,
    max_retries: Option<u16>,
    backoff: Option<Growth>,
}

pub(super) fn rewrite(mut tree: Node) -> Result<Node, Fault> {
    let Some(Entry { value: mut list, key_place, .. }) = tree.take("providers") else { return Ok(tree) };
    let read: Vec<ProviderEntry> = tree::read(&list)?;
    let place = list.place.clone();
    let mut items: Vec<(Option<i64>, Node)> = match &mut list.value {
        Value::List(items) => read.iter().map(|listed| listed.priority).zip(items.drain(..)).collect(),
        _ => Vec::new(),
    };
    // A stable sort: equal priorities keep the file's order, and items without one come last.
    items.sort_by_key(|(priority, _)| (priority.is_none(), *priority));
    let words: Vec<(String, String)> =
        items.iter().map(|(_, item)| (word(item, "name"), word(item, "model"))).collect();
    let names: Vec<&str> = words.iter().map(|(name, _)| name.as_str()).collect();
    let mut tiers = Vec::with_capacity(items.len());
    for ((_, mut item), (provider, model)) in items.into_iter().zip(&words) {
        item.take("priority");
        if let Some(Entry { value, key_place, .. }) = item.take("name") {
            let name = name(provider, &names, format!("{provider}/{model}"));
            item.put(Entry::new("name", key_place.clone(), Node::text(name, &value.place)));
            item.put(Entry::new("provider", key_place, value));
        }
        servers::resolve(&mut item);
        tiers.push(item);
    }
    let count = tiers.len();
    tree.put(Entry::new("tiers", key_place, Node::new(Value::List(tiers), place)));

    let Some(Entry { value: mut block, .. }) = tree.take("fallback") else { return Ok(tree) };
    let read: Fallback = tree::read(&block)?;
    let mut rule = |key: &str| block.take(key).map(|entry| entry.value);
    if let Some(errors) = rule("on_error") {
        set_default(&mut tree, "fallback", "on_error", errors);
    }
    if let (Some(node), Some(retries)) = (rule("max_retries"), read.max_retries) {
        let (attempts, place) = (retries.saturating_add(1), &node.place);
        set_default(&mut tree, "retry", "max_attempts", number(attempts, place));
        set_default(&mut tree, "retry", "retry_timeouts", yes(place));
        set_default(&mut tree, "retry", "budget", number(1, place));
        if tree.get("timeout").is_none() {
            let whole = whole(count, attempts, Timeout::ATTEMPT);
            tree.put(Entry::new("timeout", place.clone(), span(whole, place)));
        }
    }
    // The default is exponential, with a schedule for each kind of failure.
    if let Some(backoff) = rule("backoff")
        && read.backoff != Some(Growth::Exponential)
    {
        set_default(&mut tree, "retry", "backoff", backoff);
    }
    Ok(tree)
}

fn word(item: &Node, key: &str) -> String {
    match item.get(key).map(|node| &node.value) {
        Some(Value::Text(text) | Value::Untyped(text)) => text.clone(),
        _ => String::new(),
    }
}
