//! The paths of the Responses API besides the call of a model: their refusals.
//!
//! A gateway that keeps no responses knows none by an id. A client gets OpenAI's own error for an unknown one.

use axum::{body::Body, extract::Path};
use http::{Response, StatusCode};
use steadfast::{ErrorKind, LlmError};

use super::refusal;

/// Refuses to look up, delete or cancel a response.
pub(crate) async fn unknown(Path(id): Path<String>) -> Response<Body> {
    let id: String = id.chars().take(MAX_ID).collect();
    refusal::of_responses(StatusCode::NOT_FOUND, None, &format!("Response with id '{id}' not found."))
}

/// The longest id in messages, in characters.
const MAX_ID: usize = 100;

/// Returns the error for a conversation that no tier compacts.
pub(crate) fn no_compaction() -> LlmError {
    let message = "/v1/responses/compact: no tier of this gateway has it; send the conversation to /v1/responses";
    LlmError::new(ErrorKind::UnsupportedFeature, message).with_code("unsupported_path")
}

/// Returns the error for a response in the background at a gateway that keeps none.
pub(crate) fn no_background() -> LlmError {
    let message = "`background`: this gateway keeps no responses (`responses: { keep: .. }`), and answers in the \
                   request itself; leave `background` out, and set `stream` for a long answer";
    LlmError::new(ErrorKind::InvalidRequest, message)
}
