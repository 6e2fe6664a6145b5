//! The router: the handlers of all paths but those of calls, which [`reception`](super::reception) answers.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, State},
    middleware::{Next, from_fn_with_state},
    routing::{get, post},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use serde_json::{Value, json};
use steadfast::{Dialect, ErrorKind, LlmError};
use tokio::time::Instant;
use tower::ServiceExt;

use super::{
    GatewayState,
    admin::{self, wrong},
    body_error::BodyError,
    connection::ConnectionContext,
    conversation, cors, door, handoff,
    keys::{Denial, Key},
    layers::{self, BodyTooLarge},
    limit_heads, models,
    observe::page,
    own_key::own_key,
    panic::Panic,
    paths::{
        self,
        addresses::{self, Deployment},
        dialect_of, gemini,
        lane::LaneCall,
        shortened,
    },
    protection,
    reception::{self, Kind},
    records::{Record, RecordFilter},
    refusal, socket, token_counts,
};
use crate::http::{Answering, Handler, immediate};

/// The handler of all requests.
#[derive(Clone)]
pub(crate) struct Routes {
    gateway: Arc<GatewayState>,
    router: Router,
}

impl Routes {
    pub(crate) fn new(gateway: Arc<GatewayState>, router: Router) -> Self {
        let router = layers::around(router, gateway.clone());
        Self { gateway, router }
    }

    /// Answers a request. Calls, nearly all requests, bypass the router, which would cost as much as reading them.
    fn dispatch<'a>(
        &self,
        connection: &'a ConnectionContext,
        deployment: Option<Deployment>,
        request: Request<Body>,
    ) -> Answering<'a> {
        match Kind::of(&self.gateway.catalog, &request, deployment) {
            Some(kind) => reception::receive(&self.gateway, connection, kind, request),
            None => self.routed(request),
        }
    }

    fn routed(&self, request: Request<Body>) -> Answering<'static> {
        let dialect = dialect_of(request.uri().path(), request.headers());
        let is_responses = request.uri().path() == paths::RESPONSES && request.method() == Method::GET;
        if is_responses && socket::is_wanted(request.headers()) {
            return immediate(socket::open(&self.gateway, &request));
        }
        let method = request.method().clone();
        let gateway = self.gateway.clone();
        let routing = self.router.clone().oneshot(request);
        Box::pin(async move {
            let response = routing.await.unwrap_or_else(|never| match never {});
            // The router knows the methods of a path, and its layers neither dialects nor settings.
            let allowed = response.headers().get(header::ALLOW);
            let own = if let Some(panic) = response.extensions().get::<Panic>() {
                panic.log(layers::id_of(&response));
                refusal::refuse(&Panic::error(), dialect)
            } else if response.extensions().get::<BodyTooLarge>().is_some() {
                refusal::body_error(BodyError::TooLarge, &gateway.lifecycle.current.load(), dialect)
            } else if let Some(allowed) = allowed.filter(|_| response.status() == StatusCode::METHOD_NOT_ALLOWED) {
                refusal::wrong_method(shortened(&method), allowed, dialect)
            } else {
                return response;
            };
            layers::with_id_of(&response, own)
        })
    }
}

impl Handler for Routes {
    type Connection = ConnectionContext;

    fn connection(&self) -> ConnectionContext {
        ConnectionContext::of(&self.gateway)
    }

    fn answer<'a>(&self, connection: &'a ConnectionContext, mut request: Request<Body>) -> Answering<'a> {
        let deployment = addresses::normalize(request.uri_mut());
        if let Some(problem) = ambiguity(request.headers()) {
            let dialect = dialect_of(request.uri().path(), request.headers());
            let mut response = refusal::refuse(&LlmError::new(ErrorKind::InvalidRequest, problem), dialect);
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return immediate(response);
        }
        if self.gateway.is_foreign_host(&request) {
            let dialect = dialect_of(request.uri().path(), request.headers());
            return immediate(door::deny(&self.gateway, &Denial::Host, None, dialect));
        }
        if self.gateway.is_listed(request.headers()) {
            let routes = self.clone();
            return cors::answer(request, move |request| routes.dispatch(connection, deployment.clone(), request));
        }
        self.dispatch(connection, deployment, request)
    }

    fn finish(&self, response: &mut Response<Body>) {
        protection::protect(response);
    }
}

/// Returns the ambiguity of a head that hyper accepts.
fn ambiguity(headers: &HeaderMap) -> Option<&'static str> {
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = |encoding: &HeaderValue| encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if headers.get_all(header::HOST).iter().nth(1).is_some() {
        Some("the request has two `Host` headers")
    } else if encodings.next().is_some_and(|first| !is_chunked(first) || encodings.next().is_some()) {
        Some("`Transfer-Encoding` must be `chunked`, and occur once")
    } else {
        None
    }
}
pub(crate) fn router(gateway: Arc<GatewayState>) -> Router {
    let mut for_callers = Router::new();
    for version in gemini::VERSIONS {
        for_callers = for_callers
            .route(&format!("{version}/models"), get(models::models))
            .route(&format!("{version}/models/{{*model}}"), get(models::model));
    }
    let for_callers = for_callers
        .route(paths::COUNT_TOKENS, post(token_counts::count_tokens))
        .route(paths::INPUT_TOKENS, post(token_counts::input_tokens))
        .route("/v1/responses/{id}", get(conversation::retrieve).delete(conversation::delete))
        .route("/v1/responses/{id}/input_items", get(conversation::input_items))
        .route("/v1/responses/{id}/cancel", post(conversation::cancel))
        .route("/requests", get(requests))
        .route("/admin/keys", get(admin::keys))
        .route("/handoff/answers/{id}", get(handoff::answer))
        .route_layer(from_fn_with_state(gateway.clone(), with_rate_limit))
        // Neither a lookup of one record nor of the key counts, so that a caller can see why it was refused.
        .route("/requests/{id}", get(request))
        .route("/v1/key", get(own_key))
        .route_layer(from_fn_with_state(gateway.clone(), with_key));
    // Behind those layers: a call checks its key itself.
    for_callers
        .route("/v1beta/models/{*model}", post(model_method))
        .route("/v1alpha/models/{*model}", post(model_method))
        .route("/v1/models/{*model}", post(model_method))
        .route(paths::MESSAGES, post(call))
        .route(paths::CHAT_COMPLETIONS, post(call))
        .route(paths::RESPONSES, post(call))
        .route(paths::COMPACT, post(call))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        // Claude Code's first request, with HEAD.
        .route("/", get(page::front))
        .fallback(unknown_path)
        .with_state(gateway.clone())
        .merge(admin::router(gateway.clone()))
        .merge(handoff::router(gateway))
}

/// Lets through the callers that [`door::authorize`] admits.
async fn with_key(State(gateway): State<Arc<GatewayState>>, mut request: Request<Body>, next: Next) -> Response<Body> {
    match door::authorize(&gateway, request.uri(), request.headers()) {
        Ok(key) => {
            if let Some(key) = key {
                request.extensions_mut().insert(key);
            }
            next.run(request).await
        }
        Err(denied) => door::deny(&gateway, &denied, None, dialect_of(request.uri().path(), request.headers())),
    }
}

/// Counts a request against its key's rate, like a call of a model, and tells what is left.
async fn with_rate_limit(
    State(gateway): State<Arc<GatewayState>>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let dialect = dialect_of(request.uri().path(), request.headers());
    let key = request.extensions().get::<Arc<Key>>().cloned();
    if let Err(denied) = key.as_ref().map_or(Ok(()), |key| key.admit(Instant::now())) {
        return door::deny(&gateway, &denied, key.as_ref(), dialect);
    }
    let mut response = next.run(request).await;
    limit_heads::write(&door::allowance(&gateway, key.as_ref(), None), None, dialect, response.headers_mut());
    response
}

/// Answers a call that came through the router.
async fn call(State(gateway): State<Arc<GatewayState>>, request: Request<Body>) -> Response<Body> {
    let connection = ConnectionContext::of(&gateway);
    match Kind::of(&gateway.catalog, &request, None) {
        Some(kind) => reception::receive(&gateway, &connection, kind, request).await,
        None => unknown(&gateway, request.method(), request.uri(), request.headers()),
    }
}

/// Answers a `POST` to a model's path: a count of tokens, or a call of Gemini's.
async fn model_method(State(gateway): State<Arc<GatewayState>>, request: Request<Body>) -> Response<Body> {
    if !matches!(gemini::call_at(request.uri().path()), Some((_, gemini::Method::CountTokens))) {
        return call(State(gateway), request).await;
    }
    let admitted = door::authorize(&gateway, request.uri(), request.headers());
    let admitted = admitted.map_err(|denied| (denied, None)).and_then(|key| {
        let counted = key.as_ref().map_or(Ok(()), |key| key.admit(Instant::now()));
        counted.map(|()| key.clone()).map_err(|denied| (denied, key))
    });
    match admitted {
        Ok(key) => token_counts::gemini_tokens(&gateway, key, request).await,
        Err((denied, key)) => door::deny(&gateway, &denied, key.as_ref(), Dialect::Gemini),
    }
}

/// Answers whether to send requests here: not once the server is asked to stop, nor while the first tier's key or model
/// is refused and no tier has ever answered. So a roll-out with a wrong key stops at its first replica. A gateway that
/// serves is ready, even without a store; the body reports that, since taking it out of service would not help.
async fn ready(State(gateway): State<Arc<GatewayState>>) -> (StatusCode, Cow<'static, str>) {
    if gateway.lifecycle.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".into());
    }
    if !gateway.catalog.is_ready() {
        let why = "the first tier's key or model is refused, and no tier has ever answered; see /status\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why.into());
    }
    if let Some(missing) = gateway.keys.as_ref().and_then(|keys| keys.missing()) {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n").into());
    }
    let mut troubles: Vec<String> = gateway.catalog.store_troubles().iter().map(ToString::to_string).collect();
    troubles.extend(gateway.keys.iter().flat_map(|keys| keys.troubles()));
    match troubles.is_empty() {
        true => (StatusCode::OK, "ready\n".into()),
        false => (StatusCode::OK, format!("ready, but not all is well: {}\n", troubles.join("; ")).into()),
    }
}

async fn requests(
    State(gateway): State<Arc<GatewayState>>,
    key: Option<Extension<Arc<Key>>>,
    uri: Uri,
) -> Response<Body> {
    let filter = match RecordFilter::of(&uri) {
        Ok(filter) => filter,
        Err(problem) => return wrong(problem),
    };
    // An empty list would say that the other key has made no request.
    let is_others = |key: &Key| !key.is_admin() && filter.key.as_deref().is_some_and(|name| *name != *key.name);
    if let Some(Extension(key)) = key.as_ref().filter(|key| is_others(key)) {
        return door::deny(&gateway, &Denial::NotAdmin("/requests".into()), Some(key), Dialect::OpenAi);
    }
    let wanted = |record: &Record| may_see(record, key.as_deref()) && record.matches(&filter);
    let records = gateway.records.newest(filter.limit, wanted);
    let records: Vec<Value> = records.iter().map(|record| record.json(true)).collect();
    refusal::json(StatusCode::OK, json!({ "requests": records, "kept": gateway.records.room() }).to_string())
}

async fn request(
    State(gateway): State<Arc<GatewayState>>,
    key: Option<Extension<Arc<Key>>>,
    Path(id): Path<String>,
) -> Response<Body> {
    match gateway.records.find(&id).filter(|record| may_see(record, key.as_deref())) {
        Some(record) => refusal::json(StatusCode::OK, record.json(true).to_string()),
        None => {
            let message = "unknown request, or its record is no longer kept";
            refusal::json(
                StatusCode::NOT_FOUND,
                json!({"error": {"type": "not_found", "message": message}}).to_string(),
            )
        }
    }
}

/// Returns whether the key may see a record: a caller its own, an administrator all. Without keys, all callers are the
/// same.
fn may_see(record: &Record, key: Option<&Arc<Key>>) -> bool {
    key.is_none_or(|key| key.is_admin() || record.is_by(&key.name))
}

async fn unknown_path(State(gateway): State<Arc<GatewayState>>, request: Request<Body>) -> Response<Body> {
    unknown(&gateway, request.method(), request.uri(), request.headers())
}

/// Returns the response to a path that nobody serves.
fn unknown(gateway: &GatewayState, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response<Body> {
    // Without the query, which may hold a key.
    let path: String = uri.path().chars().take(paths::MAX_PATH).collect();
    gateway.unknown_paths.report(shortened(method), &path);
    let of_objects = paths::objects::SERVED.into_iter().filter(|_| gateway.catalog.is_stack());
    let of_lane = paths::lane::SERVED.into_iter().filter(|_| gateway.catalog.has_lane());
    let served: Vec<&str> = paths::SERVED.into_iter().chain(of_lane).chain(of_objects).collect();
    let needs_lane = method == Method::POST && !gateway.catalog.has_lane() && LaneCall::known(uri.path()).is_some();
    let why = if needs_lane { " without `lane` in its file" } else { "" };
    refusal::unknown_path(&path, why, &served, dialect_of(uri.path(), headers))
}
