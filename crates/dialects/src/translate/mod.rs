#![doc = include_str!("translate.md")]

use std::borrow::Cow;

use crate::{chat::Json, fields};

mod answer;
mod ids;
mod maker;
mod request;
mod rules;
mod seals;
#[cfg(test)]
mod tests;

pub use self::{
    answer::{RequestEcho, StreamEncoder, Translation, encode_answer, encode_error, encode_message},
    ids::{CacheMarks, StandIns, Target, fit_id, id_fits},
    maker::{Maker, TargetAccount},
    request::{Names, OtherNames, Report, Restore, is_plain_name},
    rules::{Fate, RULES, Rule},
    seals::{AccountSeals, SealAccount, SealMemory},
};
pub(crate) use self::{
    ids::{envelope_of_id, mark_call, takes_any_ids},
    request::{
        CONTEXT, Extras, PlacedMarks, Reasoning, Settings, Situation, fit, may_need_mending, mend, settle, stand_in,
        with_stand_ins, without_clearing, without_seals, without_thoughts,
    },
    rules::{Feature, HIDDEN},
    seals::ThoughtText,
};

/// Asks in words for what a provider has no mode for, or a mode that wants the word.
pub(crate) const ASK_FOR_JSON: &str = "Answer with one JSON value and nothing else.";

/// Stands in a tool's result of which all went elsewhere: beside it, or into the turn after it.
pub(crate) const MOVED: &str = "(what the tool gave back is attached)";

/// Returns the kind of a part, for a note.
pub(crate) fn kind_of(part: &Json) -> String {
    let kind = part.get("type").and_then(fields::word).map(Cow::into_owned);
    kind.or_else(|| part.first_name()).unwrap_or_else(|| "unnamed".to_owned())
}
