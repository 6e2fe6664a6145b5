//! Imports files of other programs unchanged, and calls those that it does not read by their program's name.
//!
//! The file's shape determines its form. Both forms become a [`Config`](super::Config), and overrides from the
//! environment apply to it as usual.
//!
//! # `settings.json` with a `model` block
//!
//! A file with a block named `model`, and no `tiers`. This crate's own blocks (`features`, `alerts`, `listen` and so
//! on) may stand beside it and take precedence over the table below. Other keys (`permissions`, `env`, `hooks` and all
//! others) are ignored.
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
//! | `primaryModel`, `provider`, `fallbackModels` | `tiers` | in this order; each tier is named after its model, with the provider's name before it if two models share a name. A provider is one of ours or a known server, as below |
//! | `timeoutMs` | each tier's `timeout` | the limit of one attempt; a longer one fails over to the next model |
//! | `triggerOnStatusCodes` | `fallback.on_error`, with `own_timeout` added | these statuses, and all that they [cover](super::classifier()), fail over to the next model; so does an attempt that exceeds `timeoutMs`. Nothing else does at the first model |
//! | `retriesBeforeFailover` | `retry.max_attempts`, one more; `retry.retry_timeouts`; `circuit_breaker.consecutive_failures`, one more, of each tier but the last | the retries of a model, after a timeout too, before the next one; after them its circuit opens, if there is a next model |
//! | `primaryRecoveryCheckIntervalMs` | `circuit_breaker.cooldown`, `fallback.recovery_check.every` | the time between checks whether a failed model works again |
//!
//! # A list of providers
//!
//! A file with `providers`, and no `tiers`. All its other blocks (`features`, `alerts` and so on) are this crate's
//! own.
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
//! | `name` | a tier's `provider` and `name` | anthropic, openai, google, gemini, or a server of [the table](steadfast::providers::servers::KnownServer) (groq, ollama): that is an `openai` tier with the server's `base_url` and, unless the file names another one, the usual variable of its key; followed by the model's name if a provider is listed twice |
//! | `priority` | the order of `tiers` | 1 is the primary; equal priorities, and then providers without one, keep the file's order |
//! | `on_error` | `fallback.on_error` | these statuses, and all that they [cover](super::classifier()), fail over to the next provider; nothing else does at the first provider |
//! | `max_retries` | `retry.max_attempts`, one more; `retry.retry_timeouts` | the retries of a provider, after a timeout too, before the next one |
//! | `backoff` | `retry.backoff` | exponential, linear, fixed or constant |
//!
//! # Both forms
//!
//! A failure without a status counts as the one with which a proxy would have answered: a failed connection is 502 or
//! 503, a broken stream or a malformed answer is 502. An overload has one class in all spellings: 429 or 503 in the
//! list covers 529 too, and an overload inside a stream. `timeout` in a list of providers is a timeout of any origin,
//! including a 408 or 504. A local refusal, such as an open circuit, always fails over.
//!
//! `fallback.recovery_check` is `active`: a model that failed is checked for recovery even without callers.
//!
//! If retries are configured, `retry.budget` is 100 % and the total `timeout` is long enough for all attempts at all
//! models, so that the file's numbers hold.
//!
//! Neither form can express the following settings, which prevent lost requests in an outage. This crate's own blocks
//! change them.
//!
//! | here | in words |
//! |---|---|
//! | the last tier's `last_resort` | without another tier, it is called although it has just failed: it may work again by now |
//! | `circuit_breaker: { second_opinion_after: 0 }` | a request that a model rejects (400, 422) goes to the next model before its caller learns of it; the caller gets the rejection only if that model agrees |
//! | `stream: { on_break: restart }` | a stream that breaks restarts at the next model, after a mark to discard the earlier content; the gateway cannot express the mark, so there the stream ends with an error |

mod blocks;
mod foreign;
mod providers;
mod servers;
mod settings;

use std::time::Duration;

use super::{
    suggest::is_typo_of,
    tree::{Entry, Fault, Node, Place, Value},
};
use steadfast::RetryWithJitterLayer;

/// A file's form.
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

    /// Returns a sentence about a file that is another program's, and in none of these forms.
    pub(super) fn foreign(self, tree: &Node) -> Option<String> {
        // A block of its own makes a settings.json this crate's.
        if self == Self::Settings { None } else { foreign::sentence(tree) }
    }

    /// Removes ignored keys, so that nothing in them can be wrong.
    pub(super) fn prune(self, tree: &mut Node) {
        if self == Self::Settings
            && let Value::Map(entries) = &mut tree.value
        {
            let ours = blocks::blocks();
            // A second list of models and a misspelled block stay, so that they are reported.
            let looked_at = |key: &str| matches!(key, "model" | "providers") || is_typo_of(key, ours);
            entries.retain(|entry| looked_at(&entry.key));
        }
    }

    /// Converts the tree into this crate's own form.
    pub(super) fn rewrite(self, tree: Node) -> Result<Node, Fault> {
        let place = tree.place.clone();
        let mut tree = match self {
            Self::Own => return Ok(tree),
            Self::Settings => settings::rewrite(tree)?,
            Self::Providers => providers::rewrite(tree)?,
        };
        // Settings that neither form can express.
        set_default(&mut tree, "circuit_breaker", "second_opinion_after", number(0, &place));
        set_default(&mut tree, "stream", "on_break", Node::text("restart", &place));
        if let Some(last) = last_tier(&mut tree) {
            last.put(Entry::new("last_resort", place.clone(), yes(&place)));
        }
        set_default(&mut tree, "fallback", "recovery_check", Node::block(&place, [("active", yes(&place))]));
        Ok(tree)
    }
}

/// Returns the time in which all tiers can make all their attempts, including the waits between them.
fn whole(tiers: usize, attempts: u16, attempt: Duration) -> Duration {
    let tiers = u32::try_from(tiers).unwrap_or(u32::MAX);
    let asking = attempt.saturating_mul(u32::from(attempts));
    let waiting = RetryWithJitterLayer::MAX_DELAY.saturating_mul(u32::from(attempts.saturating_sub(1)));
    asking.saturating_add(waiting).saturating_mul(tiers.max(1))
}

/// Returns a span of time in the file's spelling.
fn span(time: Duration, place: &Place) -> Node {
    Node::text(format!("{}ms", time.as_millis()), place)
}

fn number(number: impl Into<i64>, place: &Place) -> Node {
    Node::new(Value::Integer(number.into()), place.clone())
}

fn yes(place: &Place) -> Node {
    Node::new(Value::Bool(true), place.clone())
}

/// Returns a unique name: the short one if no other value shares it, or else the long one.
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

/// Sets a key of a block, unless the file has it.
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
