//! Common parts of the dialects' encoders and decoders of tool calls: ids, and arguments that need not be JSON.

use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};

use crate::{
    ErrorKind, LlmError, surrogates,
    translate::{Feature, Report},
    wire::tool_calls::INVALID_ARGUMENTS,
};

/// Returns an id for the `n`th tool call of an answer whose server gives none.
///
/// It contains the answer's own id, if there is one, because the calls of a whole conversation must differ. It has at
/// most 40 letters, digits and underscores, which every provider takes.
pub(super) fn call_id(answer: Option<&str>, n: usize) -> String {
    let letters: Vec<char> = answer.unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).collect();
    // The start of an id is often the same for all answers.
    let tail: String = letters[letters.len().saturating_sub(24)..].iter().collect();
    if tail.is_empty() { format!("call_{n}") } else { format!("call_{tail}_{n}") }
}

/// Returns true if an id has the form of those that stand for none.
pub(super) fn is_made_id(id: &str) -> bool {
    let number = id.strip_prefix("call_").map(|rest| rest.rsplit_once('_').map_or(rest, |(_, number)| number));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns the arguments of a call as the object that the API requires. A model's text that is none goes under a key,
/// so that nothing is lost.
pub(super) fn arguments(text: &str, report: &mut Report) -> Result<Box<RawValue>, LlmError> {
    // Some models write `null` for a tool without arguments.
    let text = if matches!(text.trim(), "" | "null") { "{}" } else { text };
    // A model may write half of a character as an escape of its own.
    let whole = surrogates::mended(text.as_bytes());
    let object = text.trim_start().starts_with('{').then(|| serde_json::from_slice(&whole).ok());
    let raw = match object.flatten() {
        Some(raw) => Ok(raw),
        None => {
            report.record(Feature::Arguments);
            to_raw_value(&json!({ INVALID_ARGUMENTS: text }))
        }
    };
    raw.map_err(|error| LlmError::new(ErrorKind::InvalidRequest, "a tool call cannot be written").with_source(error))
}
