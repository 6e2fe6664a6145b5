//! tower-http's layers around every path, from outside to inside.

use std::{any::Any, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    http::{HeaderName, HeaderValue, Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::CompressionLayer,
    cors::CorsLayer,
    limit::RequestBodyLimitLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    sensitive_headers::SetSensitiveRequestHeadersLayer,
    timeout::TimeoutLayer,
    trace::{DefaultOnFailure, DefaultOnResponse, TraceLayer},
};
use tracing::{Level, Span};

/// The origin of the pages that call this service.
const PAGE: HeaderValue = HeaderValue::from_static("https://chat.example.com");
/// A little over the stack's own limit of 90 s, which has an answer ready. It covers the time until the head, so that
/// a stream lasts as long as it likes.
const TIMEOUT: Duration = Duration::from_secs(95);
/// The longest body, in bytes.
pub(crate) const MAX_BODY: usize = 64 << 10;

pub(crate) fn around(app: Router) -> Router {
    let trace = TraceLayer::new_for_http()
        .make_span_with(span)
        .on_response(DefaultOnResponse::new().level(Level::INFO))
        // The stack's events say more of a failure.
        .on_failure(DefaultOnFailure::new().level(Level::WARN));
    let cors = CorsLayer::new()
        .allow_origin(PAGE)
        .allow_methods([Method::POST])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION]);
    let layers = ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION, header::COOKIE]))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(trace)
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(cors)
        .layer(CatchPanicLayer::custom(panicked))
        // By default it leaves streams of events alone.
        .layer(CompressionLayer::new())
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, TIMEOUT));
    // By itself: the body of its answer has no default, which the timeout's answer needs.
    app.layer(RequestBodyLimitLayer::new(MAX_BODY)).layer(layers)
}

/// Names a request by its path and its id. The query may hold what no log should.
fn span(request: &Request<Body>) -> Span {
    let id = request.headers().get(HeaderName::from_static("x-request-id"));
    tracing::info_span!("request", method = %request.method(), path = request.uri().path(), ?id)
}

/// Answers a request that panicked. The message stays here: it may repeat a prompt.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("request panicked");
    (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "error": "internal" }))).into_response()
}
