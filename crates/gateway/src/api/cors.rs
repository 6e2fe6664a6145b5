//! Web pages of the origins that `gateway.cors` lists: they may call every path and read its answers.
//!
//! The layer is around one request, and only if its `Origin` is listed. So an `OPTIONS` of anyone else is a method that
//! the path does not take, and a call without an `Origin` pays a look at its headers.
//!
//! No answer allows a browser's own credentials: a page sends a key in `Authorization` or `x-api-key`, like any caller.

use std::{convert::Infallible, sync::LazyLock, time::Duration};

use axum::body::Body;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use tower::{Layer, Service, service_fn};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer, ExposeHeaders};

use super::GatewayState;
use crate::http::Answering;

/// Answers preflights, and permits the page to read the answers to its requests.
///
/// Any header may be sent: a key, an option, an SDK's own. Any may be read: none has a secret.
static LAYER: LazyLock<CorsLayer> = LazyLock::new(|| {
    CorsLayer::new()
        .allow_origin(AllowOrigin::mirror_request())
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(ExposeHeaders::any())
        .max_age(MAX_AGE)
});

/// The time for which a browser remembers a preflight's answer. A reload that removes an origin holds after it.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);

impl GatewayState {
    /// Returns whether a request comes from a page of a listed origin.
    pub(crate) fn is_listed(&self, headers: &HeaderMap) -> bool {
        let is_listed = |origin: &HeaderValue| self.lifecycle.current.load().cors.contains(origin);
        headers.get(header::ORIGIN).is_some_and(is_listed)
    }
}

/// Answers a request from a page of a listed origin.
pub(crate) fn answer<'a, D>(request: Request<Body>, mut dispatch: D) -> Answering<'a>
where
    D: FnMut(Request<Body>) -> Answering<'a>,
{
    let inner = service_fn(move |request| dispatch(request).map(Ok::<_, Infallible>));
    Box::pin(LAYER.layer(inner).call(request).map(|answered| answered.unwrap_or_else(|never| match never {})))
}
