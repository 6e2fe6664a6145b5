//! Files that users already have, read as they are.
//!
//! Which form a file has is seen by its shape; both become a [`Config`](super::Config), over which the overrides of the
//! environment are laid as over any other.
//!
//! # `settings.json` with a `model` block
//!
//! A file with a block named `model`, and no `tiers`. This crate's own blocks (`features`, `alerts`, `listen` and so on) may stand
//! beside it, and what they say goes before what the table below makes of `model`. Other keys (`permissions`, `env`, `hooks` and
//! whatever else such a file has) are not looked at.
//!
//! ```json
//! { "model": {
//!     "primaryModel": "claude-sonnet-4-5", "provider": "anthropic",
//!     "fallbackModels": [{ "model": "gpt-4o", "provider": "openai" }],
//!     "failover": { "timeoutMs": 30000, "triggerOnStatusCodes": [429, 500, 502, 503], "retriesBeforeFailover": 2,
//!                   "primaryRecoveryCheckIntervalMs": 60000 } } }
//! ```
//!
//! | there | here | in words |
//! |---|---|---|
//! | `primaryModel`, `provider`, `fallbackModels` | `tiers` | in this order; each has the name of its model, with its provider's before it where two are of one name |
//! | `timeoutMs` | each tier's `timeout` | one attempt may take so long; one that takes longer goes on to the next model |
//! | `triggerOnStatusCodes` | `fallback.on_error`, and `own_timeout` with them | these go on to the next model with what they [stand for](super::classifier()), and so does an attempt that took longer than `timeoutMs`; nothing else does, a 504 that is not listed neither |
//! | `retriesBeforeFailover` | `retry.max_attempts`, one more; `retry.retry_timeouts`; each tier's `circuit_breaker.consecutive_failures` but the last one's, one more | a model is asked again so often, after a timeout too, before the next is; then it is left alone, where there is a next |
//! | `primaryRecoveryCheckIntervalMs` | `circuit_breaker.cooldown`, `fallback.recovery_check.every` | so long, and then it is asked whether it is back |
//!
//! # A list of providers
//!
//! A file with `providers`, and no `tiers`. Its other blocks (`features`, `alerts` and so on) are this crate's own.
//!
//! ```yaml
//! providers:
//!   - { name: anthropic, model: claude-sonnet-4-5, priority: 1 }
//!   - { name: openai, model: gpt-4o, priority: 2 }
//!   - { name: google, model: gemini-2.5-pro, priority: 3 }
//! fallback: { on_error: [429, 500, 502, 503, timeout], max_retries: 2, backoff: exponential }
//! ```
//!
//! | there | here | in words |
//! |---|---|---|
//! | `name` | a tier's `provider` and `name` | anthropic, openai, google or gemini; with the model's name after it where a provider is there twice |
//! | `priority` | the order of `tiers` | 1 is the primary; those of one priority, and then those without, in the file's order |
//! | `on_error` | `fallback.on_error` | these go on to the next provider with what they [stand for](super::classifier()), and nothing else does |
//! | `max_retries` | `retry.max_attempts`, one more; `retry.retry_timeouts` | a provider is asked again so often, after a timeout too, before the next is |
//! | `backoff` | `retry.backoff` | exponential, linear, fixed or constant |
//!
//! # Of both
//!
//! A failure that has no status counts as the one that a proxy would have answered with: no connection is 502 or 503, a
//! stream that broke or an answer that is none 502. An overload is one however it is told: 429 or 503 in the list stands for 529
//! too, and for an overload inside of a stream. `timeout` in a list of providers is a timeout of any origin, a 408 or 504 too.
//! What is refused on this side, as by an open circuit, always goes on.
//!
//! `fallback.recovery_check` is `active`: a model that failed is asked whether it is back, also while nobody calls.
//!
//! Where retries are asked for, `retry.budget` is 100 %, and the whole `timeout` is long enough for all attempts at all
//! models, so that what the file says is what happens.
//!
//! Neither form has a word for what follows, and nothing is lost in an outage by it. Blocks of this crate's own change it.
//!
//! | here | in words |
//! |---|---|
//! | the last tier's `last_resort` | where there is no other, it is asked although it has just failed: it may work again by now |
//! | `circuit_breaker: { second_opinion_after: 0 }` | a request that a model calls wrong (400, 422) is put to the next before its caller is told: only where that says so too is it |
//! | `stream: { on_break: restart }` | a stream that breaks begins anew at the next model, behind a mark to discard what came; over the gateway, which cannot tell that, it ends with an error |

mod blocks;
mod providers;
mod settings;

use std::time::Duration;

use super::{
    suggest::is_typo_of,
    tree::{Entry, Fault, Node, Place, Value},
};
use crate::RetryWithJitterLayer;

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// This crate's own.
    Own,
    /// A `settings.json` with a `model` block.
    Settings,
    /// A list of providers.
    Providers,
}

impl Form {
    pub(super) fn of(tree: &Node) -> Self {
        if tree.get("tiers").is_some() {
            Self::Own
        } else if tree.get("model").is_some_and(|model| matches!(model.value, Value::Map(_))) {
            Self::Settings
        } else if tree.get("providers").is_some() {
            Self::Providers
        } else {
            Self::Own
        }
    }

    /// Removes what is not looked at, so that nothing in it can be wrong.
    pub(super) fn prune(self, tree: &mut Node) {
        if self == Self::Settings
            && let Value::Map(entries) = &mut tree.value
        {
            let ours = blocks::blocks();
            // What cannot stand there is kept too, so that it is told of: a second list of models, and a slip.
            let looked_at = |key: &str| matches!(key, "model" | "providers") || is_typo_of(key, ours);
            entries.retain(|entry| looked_at(&entry.key));
        }
    }

    /// The same in this crate's own form.
    pub(super) fn rewrite(self, tree: Node) -> Result<Node, Fault> {
        let place = tree.place.clone();
        let mut tree = match self {
            Self::Own => return Ok(tree),
            Self::Settings => settings::rewrite(tree)?,
            Self::Providers => providers::rewrite(tree)?,
        };
        // What neither form has a word for.
        set_default(&mut tree, "circuit_breaker", "second_opinion_after", number(0, &place));
        set_default(&mut tree, "stream", "on_break", Node::text("restart", &place));
        if let Some(last) = last_tier(&mut tree) {
            last.put(Entry::new("last_resort", place.clone(), yes(&place)));
        }
        set_default(&mut tree, "fallback", "recovery_check", Node::block(&place, [("active", yes(&place))]));
        Ok(tree)
    }
}

/// The time in which all tiers can make all their attempts, with the waits between them.
fn whole(tiers: usize, attempts: u16, attempt: Duration) -> Duration {
    let tiers = u32::try_from(tiers).unwrap_or(u32::MAX);
    let asking = attempt.saturating_mul(u32::from(attempts));
    let waiting = RetryWithJitterLayer::MAX_DELAY.saturating_mul(u32::from(attempts.saturating_sub(1)));
    asking.saturating_add(waiting).saturating_mul(tiers.max(1))
}

/// A span of time as the file writes it.
fn span(time: Duration, place: &Place) -> Node {
    Node::text(format!("{}ms", time.as_millis()), place)
}

fn number(number: impl Into<i64>, place: &Place) -> Node {
    Node::new(Value::Integer(number.into()), place.clone())
}

fn yes(place: &Place) -> Node {
    Node::new(Value::Bool(true), place.clone())
}

/// Names that no two share: the short one where it is the only one of its kind, else the long one.
fn name(short: &str, all: &[&str], long: String) -> String {
    if all.iter().filter(|other| **other == short).count() > 1 { long } else { short.to_owned() }
}

fn last_tier(tree: &mut Node) -> Option<&mut Node> {
    let Value::Map(entries) = &mut tree.value else { return None };
    match &mut entries.iter_mut().find(|entry| entry.key == "tiers")?.value.value {
        Value::List(tiers) => tiers.last_mut(),
        _ => None,
    }
}

/// Sets a key of a block of the file, unless the file has it.
fn set_default(tree: &mut Node, block: &str, key: &str, value: Node) {
    let place = value.place.clone();
    if tree.get(block).is_none_or(|there| matches!(there.value, Value::Null)) {
        tree.take(block);
        tree.put(Entry::new(block, place.clone(), Node::block(&place, [])));
    }
    let Value::Map(entries) = &mut tree.value else { return };
    let there = entries.iter_mut().find(|entry| entry.key == block).map(|entry| &mut entry.value);
    if let Some(there) = there.filter(|there| there.get(key).is_none()) {
        there.put(Entry::new(key, place, value));
    }
}
