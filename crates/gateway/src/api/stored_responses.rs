//! The paths of the Responses API besides the call of a model: their refusals.
//!
//! The gateway keeps no responses, so it knows none by an id. A client gets OpenAI's own error for an unknown one.

use axum::{body::Body, extract::Path};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
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

/// Returns the error for a response in the background. The gateway would have to keep it, and its answer has no
/// content.
pub(crate) fn no_background() -> LlmError {
    let message = "`background`: this gateway answers in the request itself; leave `background` out, and set `stream` \
                   for a long answer";
    LlmError::new(ErrorKind::InvalidRequest, message)
}

/// Returns whether a request asks for a WebSocket.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).map_or(&[][..], HeaderValue::as_bytes);
    upgrade.trim_ascii().eq_ignore_ascii_case(b"websocket")
}

/// Refuses a WebSocket. Clients that have a choice turn to HTTP at this status.
pub(crate) fn refuse_websocket() -> Response<Body> {
    const UPGRADE: HeaderName = header::UPGRADE;
    let message = "this gateway has no WebSocket at /v1/responses: use POST, with `stream: true` for events";
    let mut response = refusal::of_responses(StatusCode::UPGRADE_REQUIRED, Some("websocket_not_supported"), message);
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("HTTP/1.1"));
    response
}
