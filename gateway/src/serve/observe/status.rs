//! `GET /status`: who serves now, and how it has gone of late.

use axum::{Router, body::Body, extract::State, routing::get};
use http::{HeaderValue, Response, StatusCode, header};
use steadfast::StackHandle;

use crate::serve::refusal;

pub(super) fn router(stack: StackHandle) -> Router {
    Router::new().route("/status", get(status)).with_state(stack)
}

async fn status(State(stack): State<StackHandle>) -> Response<Body> {
    let (code, body) = match serde_json::to_string(&stack.status()) {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, serde_json::json!({"error": error.to_string()}).to_string()),
    };
    let mut response = refusal::json(code, body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A badge on somebody's own page asks from there. Nothing is changed here, and nothing told that needs a key.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
