//! `GET /v1/key`: what a caller's key may do, what it has spent, and when it begins anew.

use std::sync::Arc;

use axum::{Extension, body::Body, extract::State};
use http::{Response, StatusCode};
use serde_json::json;

use super::{
    GatewayState,
    admin::{error, ok},
    keys::Key,
};

/// Shows a caller its own key.
pub(super) async fn own_key(
    State(gateway): State<Arc<GatewayState>>,
    key: Option<Extension<Arc<Key>>>,
) -> Response<Body> {
    let report = key.and_then(|Extension(key)| Some(gateway.keys.as_ref()?.report_of(&key)));
    match report {
        Some(report) => ok(&json!({ "key": report })),
        None => error(StatusCode::NOT_FOUND, "not_found_error", "this gateway has no keys: anyone may call it"),
    }
}
