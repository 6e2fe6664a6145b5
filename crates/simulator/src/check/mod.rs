//! The real providers' checks of a request before any model sees it: fields, roles, order, ids, pairs of tool calls and
//! results, signatures, keywords of schemas; and the differences between models (`claude.rs`, `gpt.rs`,
//! `generation.rs`) and vendors (`thoughts.rs`). The texts are theirs, as recorded or as reported in their users'
//! issues.
//!
//! Everything comes from the providers' documentation and answers, and nothing from the translation or its tables: this
//! module judges those.

mod anthropic;
mod claude;
mod gemini;
mod generation;
mod gpt;
mod openai;
mod responses;
mod schema;
mod thoughts;

use std::collections::BTreeSet;

use serde_json::Value;

use super::refusal::Refusal;
use steadfast::Dialect;

/// Checks the body of a request like the dialect's own provider, for this model. For an unknown model only the refusals
/// common to all models apply.
///
/// The server checks every request; a test may call this function directly.
///
/// # Errors
///
/// The mistake, in the provider's words.
///
/// ```
/// use serde_json::json;
/// use steadfast::Dialect;
/// use steadfast_simulator::check;
///
/// let body = json!({"model": "m", "messages": [{"role": "tool", "tool_call_id": "a", "content": "4"}]});
/// let error = check(Dialect::OpenAi, "m", &body).unwrap_err();
/// assert!(error.contains("must be a response to a preceeding message with 'tool_calls'"));
///
/// let body = json!({"messages": [{"role": "user", "content": "?"}], "temperature": 0.5});
/// assert!(check(Dialect::OpenAi, "gpt-4o", &body).is_ok());
/// let error = check(Dialect::OpenAi, "gpt-5", &body).unwrap_err();
/// assert!(error.starts_with("Unsupported value: 'temperature' does not support 0.5 with this model."));
/// ```
pub fn check(dialect: Dialect, model: &str, body: &Value) -> Result<(), String> {
    examine(dialect, model, body).map_err(|refusal| match refusal {
        Refusal::Invalid { message, .. } => message,
        other => format!("{other:?}"),
    })
}

pub(super) fn examine(dialect: Dialect, model: &str, body: &Value) -> Result<(), Refusal> {
    match dialect {
        Dialect::Anthropic => anthropic::examine(body).and_then(|()| claude::examine(model, body)),
        Dialect::OpenAi => {
            openai::examine(body).and_then(|()| gpt::examine(model, body)).and_then(|()| thoughts::examine(model, body))
        }
        Dialect::Responses => responses::examine(body).and_then(|()| gpt::examine_responses(model, body)),
        Dialect::Gemini => gemini::examine(model, body).and_then(|()| generation::examine(model, body)),
    }
}

type CheckResult = Result<(), Refusal>;

fn wrong(field: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::invalid(field, message)
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Returns true for a name of letters, digits, `_` and `-`, up to `longest` characters.
fn is_plain(name: &str, longest: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !name.is_empty() && name.len() <= longest && name.bytes().all(plain)
}

/// Returns true if a signature can be one: base64, in either alphabet.
fn is_base64(token: &str) -> bool {
    !token.is_empty()
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'='))
}

fn unknown<'a>(value: &'a Value, known: &[&str]) -> Option<&'a str> {
    value.as_object()?.keys().map(String::as_str).find(|name| !known.contains(name))
}

fn all_differ<'a>(names: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = BTreeSet::new();
    names.into_iter().all(|name| seen.insert(name))
}

#[cfg(test)]
mod tests;
