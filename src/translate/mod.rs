#![doc = include_str!("translate.md")]
#![cfg_attr(
    not(feature = "http"),
    allow(dead_code, unused_imports, reason = "it is the leaves that translate requests")
)]

mod answer;
pub(crate) mod foreign;
mod ids;
mod request;
mod rules;
#[cfg(test)]
mod tests;

pub use self::{
    answer::{StreamEncoder, Translated, encode_error, encode_message},
    rules::{Fate, RULES, Rule},
};
pub(crate) use self::{
    ids::Target,
    request::{Names, Report, fit, mend},
    rules::Feature,
};

/// Stands for the thought signature that a call of another model does not have; Google documents it for that.
pub(crate) const FOREIGN_CALL: &str = "skip_thought_signature_validator";

/// Asks in words for what a provider has no mode for, or a mode that wants the word.
pub(crate) const ASK_FOR_JSON: &str = "Answer with one JSON value and nothing else.";

/// Under it the arguments of a tool call that are no JSON object go where an object must be.
pub(crate) const INVALID_ARGUMENTS: &str = "invalid_arguments";

/// The text of such arguments, if they are such.
pub(crate) fn invalid_arguments(input: &serde_json::Value) -> Option<&str> {
    let fields = input.as_object().filter(|fields| fields.len() == 1)?;
    fields.get(INVALID_ARGUMENTS)?.as_str()
}

/// What kind of part it is, for a note.
pub(crate) fn kind_of(part: &serde_json::Value) -> String {
    let kind = part.get("type").and_then(serde_json::Value::as_str);
    let first = || part.as_object()?.keys().next().map(String::as_str);
    kind.or_else(first).unwrap_or("unnamed").to_owned()
}
