//! tower-http's layers around the routed paths: pages, status, metrics, records, models, orders and tasks.
//!
//! A call of a model passes neither the router nor these layers: they cost as much as reading the call. The reception
//! has its own of what a call needs: the id of its record, a line for a failure, the body's limits, [`super::panic`].
//! Nothing compresses its answer: a model takes seconds to write a few kilobytes, and a provider's bytes pass
//! unchanged.
//!
//! From outside to inside:
//!
//! | layer | effect |
//! |---|---|
//! | `SetSensitiveRequestHeaders` | no `Debug` of a request shows a key or a cookie |
//! | `SetRequestId`, `PropagateRequestId` | `x-request-id`: the caller's, if it is of usual length, or a new one. `x-steadfast-request-id` is the id of a call's record, which these paths have not |
//! | `Trace` | a span with the method, the path and the id, and a line for the response, all at the level `debug`; without the query, which may hold a key |
//! | `Compression` | gzip for what is worth it; no stream of events passes here |
//! | `CatchPanic` | a panic is a 500 |
//! | `RequestBodyLimit` | no handler reads more than `gateway.max_body` |

use std::{any::Any, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    middleware::{Next, from_fn_with_state},
};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_http::{
    CompressionLevel,
    body::Limited,
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer, Predicate,
        predicate::{NotForContentType, SizeAbove},
    },
    limit::RequestBodyLimit,
    request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    sensitive_headers::SetSensitiveRequestHeadersLayer,
    trace::TraceLayer,
};
use tracing::{Span, debug_span};

use super::{GatewayState, panic::Panic, paths::shortened};

/// Puts the layers around the paths.
pub(crate) fn around(router: Router, gateway: Arc<GatewayState>) -> Router {
    let trace = TraceLayer::new_for_http()
        .make_span_with(span)
        .on_request(())
        .on_response(|response: &Response<_>, took: Duration, _: &Span| {
            tracing::debug!(http_status = response.status().as_u16(), ?took, "routed request answered");
        })
        .on_body_chunk(())
        .on_eos(())
        .on_failure(());
    let is_worth_it = SizeAbove::new(MIN_COMPRESSED).and(NotForContentType::SSE);
    let layers = ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::new(SECRETS))
        .map_request(without_long_id)
        .layer(SetRequestIdLayer::new(REQUEST_ID, RandomId))
        .layer(trace)
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        // The threads that serve requests compress: speed comes before size.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(is_worth_it))
        .layer(CatchPanicLayer::custom(|payload: Box<dyn Any + Send>| {
            marked(StatusCode::INTERNAL_SERVER_ERROR, Panic::new(&*payload))
        }))
        .layer(from_fn_with_state(gateway, with_body_limit));
    router.layer(layers)
}

fn span(request: &Request<Body>) -> Span {
    let path: String = request.uri().path().chars().take(MAX_PATH).collect();
    let id = request.headers().get(REQUEST_ID);
    debug_span!("routed", method = shortened(request.method()), path, ?id)
}

/// Returns a response that stands for one in the caller's dialect.
fn marked(status: StatusCode, mark: impl Clone + Send + Sync + 'static) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.extensions_mut().insert(mark);
    response
}

/// Marks a response to a request whose body is announced as larger than the limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyTooLarge;

/// Limits a body by the setting of the last reload.
async fn with_body_limit(
    State(gateway): State<Arc<GatewayState>>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let limit = gateway.lifecycle.current.load().body;
    let inner = service_fn(move |request: Request<Limited<Body>>| {
        next.clone().run(request.map(Body::new)).map(Ok::<_, Infallible>)
    });
    let (head, body) = match RequestBodyLimit::new(inner, limit).oneshot(request).await {
        Ok(response) => response.into_parts(),
        Err(never) => match never {},
    };
    // The layer's own response is plain text, and every 413 of a handler is JSON.
    let is_json = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    match head.status {
        StatusCode::PAYLOAD_TOO_LARGE if !is_json => marked(head.status, BodyTooLarge),
        _ => Response::from_parts(head, Body::new(body)),
    }
}

/// Returns the id of a response's request.
pub(crate) fn id_of(response: &Response<Body>) -> Option<&str> {
    response.headers().get(REQUEST_ID)?.to_str().ok()
}

/// Gives a response the id of another, in whose place it goes out.
pub(crate) fn with_id_of(replaced: &Response<Body>, mut response: Response<Body>) -> Response<Body> {
    if let Some(id) = replaced.headers().get(REQUEST_ID) {
        response.headers_mut().insert(REQUEST_ID, id.clone());
    }
    response
}

/// Removes a caller's id that is too long to be repeated and logged.
fn without_long_id(mut request: Request<Body>) -> Request<Body> {
    if request.headers().get(REQUEST_ID).is_some_and(|id| id.is_empty() || id.len() > MAX_ID) {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

/// Makes ids of 16 random digits in base 16.
#[derive(Clone, Copy, Debug)]
struct RandomId;

impl MakeRequestId for RandomId {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        HeaderValue::try_from(format!("{:016x}", fastrand::u64(..))).ok().map(RequestId::new)
    }
}

/// The id of a request on a routed path, as proxies and most servers name it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id of a caller, in bytes.
const MAX_ID: usize = 128;
/// The longest part of a path in a span, in characters.
const MAX_PATH: usize = 100;
/// The size from which a response is compressed, in bytes: less fits into one packet.
const MIN_COMPRESSED: u16 = 1400;

/// The headers with secrets: the callers' keys in all their places, and cookies, which a proxy may have set.
const SECRETS: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("cf-access-client-secret"),
];
