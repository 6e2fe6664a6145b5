//! The response object of a response in the background, before its answer and in its place.

use serde_json::{Value, json};
use steadfast::{
    Dialect, LlmError, LlmRequest,
    chat::Message,
    translate::{RequestEcho, encode_answer},
};

use crate::api::conversation::json::Fields;

/// Returns the object of a response to this request that has begun.
///
/// # Errors
///
/// The request is none of the API.
pub(super) fn first(request: &LlmRequest) -> Result<String, LlmError> {
    let echo = RequestEcho::of(request.chat()?);
    let mut empty = Message::assistant("");
    empty.model = request.model().map(str::to_owned);
    let body = encode_answer(&empty, Dialect::Responses, &echo).body;
    let object = String::from_utf8(body.to_vec()).unwrap_or_default();
    let begun = [
        ("status", "\"in_progress\""),
        ("background", "true"),
        ("output", "[]"),
        ("usage", "null"),
        ("completed_at", "null"),
    ];
    Ok(Fields::read(&object).map(|fields| fields.with(&[], &begun)).unwrap_or(object))
}

/// Returns an object with the status of a response that is not there.
pub(super) fn with_status(object: &str, status: &str) -> String {
    with(object, status, &Value::Null)
}

/// Returns an object as one that failed for this reason.
pub(super) fn failed(object: &str, code: &str, message: &str) -> String {
    with(object, "failed", &json!({"code": code, "message": message}))
}

/// Returns an object as its caller cancelled it.
pub(crate) fn cancelled(object: &str) -> String {
    with_status(object, "cancelled")
}

/// Returns whether an object is one that its caller cancelled.
pub(super) fn is_cancelled(object: &str) -> bool {
    Fields::read(object).is_some_and(|fields| fields.has("status", "\"cancelled\""))
}

/// Returns an object whose gateway has stopped before its end.
pub(crate) fn lost(object: &str) -> String {
    let message = "the gateway that made this response has stopped before its end; the same request may be sent again";
    failed(object, "server_error", message)
}

/// Returns an object as one of a response in the background.
pub(crate) fn in_background(object: String) -> String {
    Fields::read(&object).map(|fields| fields.with(&[], &[("background", "true")])).unwrap_or(object)
}

/// Returns whether an object is of a response in the background.
pub(crate) fn is_in_background(object: &str) -> bool {
    Fields::read(object).is_some_and(|fields| fields.has("background", "true"))
}

fn with(object: &str, status: &str, error: &Value) -> String {
    let (status, error) = (json!(status).to_string(), error.to_string());
    let fields = Fields::read(object).map(|fields| fields.with(&[], &[("status", &status), ("error", &error)]));
    fields.unwrap_or_default()
}
