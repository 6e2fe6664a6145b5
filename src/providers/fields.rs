//! Reading the fields of a caller's request, strictly: what is of another type than the dialect says is refused by name.

use serde_json::Value;

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
