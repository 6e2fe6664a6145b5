//! The paths. Queries are ignored: Claude Code asks for `/v1/messages?beta=true`. Those of the models' APIs may come without
//! `/v1`, from clients that have it in their base URL.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, State},
    middleware::{Next, from_fn, from_fn_with_state},
    routing::{get, post},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use serde_json::{Value, json};
use steadfast::{Dialect, ErrorKind, LlmError};
use tokio::time::Instant;
use tower::ServiceExt;

use super::{
    Gateway, catalog, handoff,
    keys::{self, Denial, Key},
    observe::page,
    pipeline::{self, ConnectionContext, immediate},
    records::Record,
    refusal,
};
use crate::http::{Answering, Handler};

/// Who answers a connection's requests.
#[derive(Clone)]
pub(crate) struct Routes {
    gateway: Arc<Gateway>,
    router: Router,
}

impl Routes {
    pub(crate) fn new(gateway: Arc<Gateway>, router: Router) -> Self {
        Self { gateway, router }
    }

    fn routed(&self, request: Request<Body>) -> Answering<'static> {
        let dialect = dialect_of(request.uri().path(), request.headers());
        let method = request.method().clone();
        let routing = self.router.clone().oneshot(request);
        Box::pin(async move {
            let response = routing.await.unwrap_or_else(|never| match never {});
            // The router knows which methods a path takes.
            let allowed = response.headers().get(header::ALLOW);
            match allowed.filter(|_| response.status() == StatusCode::METHOD_NOT_ALLOWED) {
                Some(allowed) => refusal::wrong_method(shortened(&method), allowed, dialect),
                None => response,
            }
        })
    }
}

impl Handler for Routes {
    type Connection = ConnectionContext;

    fn connection(&self) -> ConnectionContext {
        ConnectionContext::of(&self.gateway)
    }

    /// Answers a request. Calls of models, which are nearly all there are, do not go by the router: it would cost as much as
    /// reading them.
    fn answer<'a>(&self, connection: &'a ConnectionContext, mut request: Request<Body>) -> Answering<'a> {
        if is_unversioned(request.uri().path()) {
            add_version(request.uri_mut());
        }
        if let Some(problem) = ambiguity(request.headers()) {
            let dialect = dialect_of(request.uri().path(), request.headers());
            let mut response = refusal::refuse(&LlmError::new(ErrorKind::InvalidRequest, problem), dialect);
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return immediate(response);
        }
        let dialect = match request.uri().path() {
            MESSAGES => Dialect::Anthropic,
            CHAT_COMPLETIONS => Dialect::OpenAi,
            _ => return self.routed(request),
        };
        match *request.method() {
            Method::POST => call(&self.gateway, connection, dialect, request),
            _ => self.routed(request),
        }
    }
}

/// Returns true for a path of the models' APIs without its version: the clients of the AI SDK and LiteLLM have `/v1` in their
/// base URL, and a user may leave it out there.
fn is_unversioned(path: &str) -> bool {
    const PATHS: [&str; 5] = ["/messages", "/messages/count_tokens", "/chat/completions", "/embeddings", "/models"];
    !path.starts_with(VERSION) && (PATHS.contains(&path) || path.starts_with("/models/"))
}

/// Puts the version before a path, so that all that goes by paths sees one.
fn add_version(uri: &mut Uri) {
    let mut parts = uri.clone().into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", PathAndQuery::as_str);
    // Neither fails: what stood there was valid.
    parts.path_and_query = PathAndQuery::from_maybe_shared(format!("{VERSION}{path}")).ok();
    if let Ok(versioned) = Uri::from_parts(parts) {
        *uri = versioned;
    }
}

const VERSION: &str = "/v1";

/// Finds what could be read in two ways in a head that hyper takes.
fn ambiguity(headers: &HeaderMap) -> Option<&'static str> {
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = |encoding: &HeaderValue| encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if headers.get_all(header::HOST).iter().nth(1).is_some() {
        Some("the request has two `Host` headers")
    } else if encodings.next().is_some_and(|first| !is_chunked(first) || encodings.next().is_some()) {
        Some("a body comes in chunks once, and in no other encoding")
    } else {
        None
    }
}

/// The paths for callers, as they are told to who asks for another. What operators and reviewers do stands elsewhere.
pub(crate) const SERVED: [&str; 14] = [
    "POST /v1/messages",
    "POST /v1/messages/count_tokens",
    "POST /v1/chat/completions",
    "GET /v1/models",
    "GET /v1/models/{model}",
    "GET /requests",
    "GET /requests/{id}",
    "GET /handoff/answers/{id}",
    "GET /status",
    "GET /overview",
    "GET /metrics",
    "GET /healthz",
    "GET /readyz",
    "GET /",
];

const MESSAGES: &str = "/v1/messages";
const CHAT_COMPLETIONS: &str = "/v1/chat/completions";

pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    let for_callers = Router::new()
        .route("/v1/messages/count_tokens", post(catalog::count_tokens))
        .route("/v1/models", get(catalog::models))
        .route("/v1/models/{*model}", get(catalog::model))
        .route("/requests", get(requests))
        .route("/admin/keys", get(keys::list))
        .route("/handoff/answers/{id}", get(handoff::answer))
        .route_layer(from_fn(with_rate_limit))
        // A look at one place, for who wants to know why it was refused.
        .route("/requests/{id}", get(request))
        .route_layer(from_fn_with_state(gateway.clone(), with_key));
    for_callers
        .route(MESSAGES, post(messages))
        .route(CHAT_COMPLETIONS, post(chat_completions))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        // Claude Code looks here first, with HEAD.
        .route("/", get(page::front))
        .fallback(unknown_path)
        .with_state(gateway.clone())
        .merge(super::admin::router(gateway.clone()))
        .merge(handoff::router(gateway))
}

/// The dialect of a caller, as far as anybody can tell: by the path, else by the headers that each API wants.
pub(crate) fn dialect_of(path: &str, headers: &HeaderMap) -> Dialect {
    let says = |name: &str| headers.contains_key(name);
    match path {
        _ if path.starts_with("/v1/messages") => Dialect::Anthropic,
        _ if path.starts_with("/v1/chat/") => Dialect::OpenAi,
        _ if ["anthropic-version", "anthropic-beta", "x-api-key"].into_iter().any(says) => Dialect::Anthropic,
        _ => Dialect::OpenAi,
    }
}

/// Lets through whom [`authorize`] does.
async fn with_key(State(gateway): State<Arc<Gateway>>, mut request: Request<Body>, next: Next) -> Response<Body> {
    match authorize(&gateway, &mut request) {
        Ok(()) => next.run(request).await,
        Err(denied) => refusal::deny(denied, dialect_of(request.uri().path(), request.headers())),
    }
}

/// Counts a request by its key's rate, like a call of a model.
async fn with_rate_limit(request: Request<Body>, next: Next) -> Response<Body> {
    let admitted = request.extensions().get::<Arc<Key>>().map_or(Ok(()), |key| key.admit(Instant::now()));
    match admitted {
        Ok(()) => next.run(request).await,
        Err(denied) => refusal::deny(denied, dialect_of(request.uri().path(), request.headers())),
    }
}

/// A caller may come in who shows a key, where there are keys. Where there are none, a page of a foreign site is kept
/// out: a browser on this machine would send its requests here without asking anybody.
fn authorize(gateway: &Gateway, request: &mut Request<Body>) -> Result<(), Denial> {
    if let Some(keys) = &gateway.keys {
        let key = keys.authenticate(request.headers())?;
        request.extensions_mut().insert(key);
    } else if request.headers().get(header::ORIGIN).is_some_and(is_foreign) {
        return Err(Denial::Origin);
    }
    Ok(())
}

/// Whether an `Origin` is anything but this machine.
fn is_foreign(origin: &HeaderValue) -> bool {
    let origin: Option<Uri> = origin.to_str().ok().and_then(|origin| origin.parse().ok());
    let host = origin.as_ref().and_then(Uri::host).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host != "localhost" && !host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

async fn messages(State(gateway): State<Arc<Gateway>>, request: Request<Body>) -> Response<Body> {
    let connection = ConnectionContext::of(&gateway);
    call(&gateway, &connection, Dialect::Anthropic, request).await
}

async fn chat_completions(State(gateway): State<Arc<Gateway>>, request: Request<Body>) -> Response<Body> {
    let connection = ConnectionContext::of(&gateway);
    call(&gateway, &connection, Dialect::OpenAi, request).await
}

/// A call of a model. It asks for the key by itself: as a layer that would cost each call three boxes.
fn call<'a>(
    gateway: &Arc<Gateway>,
    connection: &'a ConnectionContext,
    dialect: Dialect,
    mut request: Request<Body>,
) -> Answering<'a> {
    match authorize(gateway, &mut request) {
        Ok(()) => pipeline::answer(gateway, connection, dialect, request),
        Err(denied) => immediate(refusal::deny(denied, dialect)),
    }
}

/// Whether to send requests here: not once the server has been asked to stop.
/// Ready is who serves: also without a store, which is said, for taking it out of service would mend nothing.
async fn ready(State(gateway): State<Arc<Gateway>>) -> (StatusCode, Cow<'static, str>) {
    if gateway.lifecycle.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".into());
    }
    let troubles: Vec<String> = gateway.catalog.store_troubles().iter().map(ToString::to_string).collect();
    match troubles.is_empty() {
        true => (StatusCode::OK, "ready\n".into()),
        false => (StatusCode::OK, format!("ready, but not all is well: {}\n", troubles.join("; ")).into()),
    }
}

/// How many of the last requests are listed.
const MAX_LISTED: usize = 100;

async fn requests(State(gateway): State<Arc<Gateway>>, key: Option<Extension<Arc<Key>>>) -> Response<Body> {
    let records = gateway.records.newest(MAX_LISTED, |record| may_see(record, key.as_deref()));
    let records: Vec<Value> = records.iter().map(|record| record.json(true)).collect();
    refusal::json(StatusCode::OK, json!({ "requests": records }).to_string())
}

async fn request(
    State(gateway): State<Arc<Gateway>>,
    key: Option<Extension<Arc<Key>>>,
    Path(id): Path<String>,
) -> Response<Body> {
    match gateway.records.find(&id).filter(|record| may_see(record, key.as_deref())) {
        Some(record) => refusal::json(StatusCode::OK, record.json(true).to_string()),
        None => {
            let message = "no such request, or it was too long ago";
            refusal::json(
                StatusCode::NOT_FOUND,
                json!({"error": {"type": "not_found", "message": message}}).to_string(),
            )
        }
    }
}

/// A caller sees its own requests, an administrator everybody's; without keys nobody is anybody.
fn may_see(record: &Record, key: Option<&Arc<Key>>) -> bool {
    key.is_none_or(|key| key.admin || record.is_by(&key.name))
}

async fn unknown_path(
    State(gateway): State<Arc<Gateway>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response<Body> {
    // Never the query, which may hold a key.
    let path: String = uri.path().chars().take(MAX_PATH).collect();
    gateway.unknown_paths.report(shortened(&method), &path);
    refusal::unknown_path(&path, &SERVED, dialect_of(uri.path(), &headers))
}

/// A method as it is repeated: callers may invent some.
fn shortened(method: &Method) -> &str {
    let name = method.as_str();
    &name[..name.len().min(MAX_METHOD)]
}

/// How much of an unknown path is repeated, in characters.
const MAX_PATH: usize = 100;
/// How much of a method, which is ASCII.
const MAX_METHOD: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_pages_are_at_home() {
        for origin in ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:8443"] {
            assert!(!is_foreign(&HeaderValue::from_static(origin)), "{origin}");
        }
        for origin in ["https://example.com", "null", "", "http://localhost.example.com", "http://10.0.0.1", "x y"] {
            assert!(is_foreign(&HeaderValue::from_static(origin)), "{origin}");
        }
    }
}
