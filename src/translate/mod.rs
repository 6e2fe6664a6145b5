#![doc = include_str!("translate.md")]
#![cfg_attr(
    not(feature = "http"),
    allow(dead_code, unused_imports, reason = "it is the leaves that translate requests")
)]

use std::borrow::Cow;

use crate::{chat::Json, wire::fields};

mod answer;
pub(crate) mod foreign;
mod ids;
mod request;
mod rules;
#[cfg(test)]
mod tests;

pub use self::{
    answer::{StreamEncoder, Translation, encode_error, encode_message},
    rules::{Fate, RULES, Rule},
};
pub(crate) use self::{
    ids::Target,
    request::{
        Extras, Names, Reasoning, Report, Settings, Situation, fit, may_need_mending, mend, settle, without_thoughts,
    },
    rules::Feature,
};

/// The stand-in for the thought signature that another model's call lacks; Google documents it for that.
pub(crate) const FOREIGN_CALL: &str = "skip_thought_signature_validator";

/// The request in words for a mode that a provider lacks, or that requires the word.
pub(crate) const ASK_FOR_JSON: &str = "Answer with one JSON value and nothing else.";

/// The key for a tool call's arguments that are no JSON object, where an object must be.
pub(crate) const INVALID_ARGUMENTS: &str = "invalid_arguments";

/// The stand-in for a tool's result whose parts all went elsewhere: beside it, or into the turn after it.
pub(crate) const MOVED: &str = "(what the tool gave back is attached)";

/// Returns the kind of a part, for a note.
pub(crate) fn kind_of(part: &Json) -> String {
    let kind = part.get("type").and_then(fields::word).map(Cow::into_owned);
    kind.or_else(|| part.first_name()).unwrap_or_else(|| "unnamed".to_owned())
}
