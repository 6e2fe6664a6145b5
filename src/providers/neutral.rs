//! Reading the fields of a caller's request, strictly: what is of another type than the dialect says is refused by name.

use serde_json::Value;

#[cfg(feature = "http")]
use crate::translate::{Feature, INVALID_ARGUMENTS, Report};
use crate::{ErrorKind, LlmError};

/// The field is not what it must be.
pub(super) fn bad(field: &str, expected: &str) -> LlmError {
    LlmError::new(ErrorKind::InvalidRequest, format!("{field} must be {expected}"))
}

pub(super) fn text(value: &Value, field: &str) -> Option<String> {
    value.get(field)?.as_str().map(str::to_owned)
}

pub(super) fn list<'a>(value: &'a Value, field: &str) -> Option<&'a [Value]> {
    value.get(field)?.as_array().map(Vec::as_slice)
}

pub(super) fn object<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    value.get(field).filter(|value| value.is_object())
}

pub(super) fn number(value: &Value, field: &str) -> Result<Option<u32>, LlmError> {
    match value.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(number) => {
            // Some languages write `100.0`.
            let whole = number.as_u64().or_else(|| {
                let float = number.as_f64().filter(|float| float.fract() == 0.0 && *float >= 0.0);
                float.map(|float| float as u64)
            });
            let whole = whole.and_then(|number| u32::try_from(number).ok());
            whole.map(Some).ok_or_else(|| bad(field, "a whole number that is not negative"))
        }
    }
}

pub(super) fn floating(value: &Value, field: &str) -> Result<Option<f64>, LlmError> {
    match value.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(number) => number.as_f64().map(Some).ok_or_else(|| bad(field, "a number")),
    }
}

/// A text or a list of texts.
pub(super) fn strings(value: &Value, field: &str) -> Result<Vec<String>, LlmError> {
    match value.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(many)) => {
            let texts = many.iter().map(|text| text.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or_else(|| bad(field, "a text or a list of texts"))
        }
        Some(_) => Err(bad(field, "a text or a list of texts")),
    }
}

/// An id for the `n`th tool call of an answer whose server gives its calls none.
///
/// The answer's own id is in it where there is one, for the calls of a whole conversation must differ. At most 40 letters,
/// digits and underscores, which every provider takes.
#[cfg(feature = "http")]
pub(super) fn call_id(answer: Option<&str>, n: usize) -> String {
    let letters: Vec<char> = answer.unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).collect();
    // The start of an id is often the same for all answers.
    let tail: String = letters[letters.len().saturating_sub(24)..].iter().collect();
    if tail.is_empty() { format!("call_{n}") } else { format!("call_{tail}_{n}") }
}

/// The arguments of a call as the object that the API wants. A model's text that is none goes along under a key, so that
/// nothing is lost.
#[cfg(feature = "http")]
pub(super) fn arguments(text: &str, report: &mut Report) -> Result<Box<serde_json::value::RawValue>, LlmError> {
    // Some models write `null` for a tool that takes nothing.
    let text = if matches!(text.trim(), "" | "null") { "{}" } else { text };
    let object = text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok());
    let raw = match object.flatten() {
        Some(raw) => Ok(raw),
        None => {
            report.say(Feature::Arguments);
            serde_json::value::to_raw_value(&serde_json::json!({ INVALID_ARGUMENTS: text }))
        }
    };
    raw.map_err(|error| LlmError::new(ErrorKind::InvalidRequest, "a tool call cannot be written").with_source(error))
}

/// The arguments of a call that a caller sends back.
pub(super) fn arguments_of(input: Option<&Value>) -> String {
    match input {
        None => "{}".to_owned(),
        Some(input) => crate::translate::invalid_arguments(input).map_or_else(|| input.to_string(), str::to_owned),
    }
}
