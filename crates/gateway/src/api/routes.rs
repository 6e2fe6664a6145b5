//! The paths. Those of models ignore queries: Claude Code calls `/v1/messages?beta=true`, Azure's clients send
//! `api-version`. A list's filter is a query that is read.
//! Other addresses of the same paths become these in [`addresses`].

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, State},
    middleware::{Next, from_fn_with_state},
    routing::{get, post},
};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use serde_json::{Value, json};
use steadfast::{Dialect, ErrorKind, LlmError};
use tokio::time::Instant;
use tower::ServiceExt;

use super::{
    GatewayState, addresses,
    admin::wrong,
    catalog, conversation, cors,
    gemini::{self, PathCall},
    handoff,
    inbound::BodyError,
    keys::{self, Denial, Key},
    lane,
    layers::{self, BodyTooLarge},
    objects::{self, ObjectCall},
    observe::page,
    panic::{self, Panic},
    pipeline::{self, Compaction, ConnectionContext, immediate},
    protection,
    records::{Record, RecordFilter},
    refusal, stored_responses,
};
use crate::http::{Answering, Handler};

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

    /// Answers a request. Calls of models, nearly all requests, bypass the router, which would cost as much as reading
    /// them.
    fn dispatch<'a>(&self, connection: &'a ConnectionContext, request: Request<Body>) -> Answering<'a> {
        let path = request.uri().path();
        let dialect = match dialect_of_calls(path) {
            None if path == COMPACT => Some(Dialect::Responses),
            None if gemini::asks_model(path) => Some(Dialect::Gemini),
            fixed => fixed,
        };
        let Some(dialect) = dialect else {
            if let Some(call) = ObjectCall::at(path, request.headers()).filter(|_| self.gateway.catalog.is_stack()) {
                let dialect = call.dialect();
                let answer = |request| objects::answer(&self.gateway, connection, call, request);
                return beside(&self.gateway, dialect, request, answer);
            }
            return match lane::call_at(&self.gateway, request.method(), path, request.headers()) {
                Some(call) => {
                    let dialect = call.dialect();
                    let answer = |request| lane::answer(&self.gateway, connection, call, request);
                    beside(&self.gateway, dialect, request, answer)
                }
                None => self.routed(request),
            };
        };
        match *request.method() {
            Method::POST => call(&self.gateway, connection, dialect, request),
            _ => self.routed(request),
        }
    }

    fn routed(&self, request: Request<Body>) -> Answering<'static> {
        let dialect = dialect_of(request.uri().path(), request.headers());
        let method = request.method().clone();
        let is_socket = dialect == Dialect::Responses && stored_responses::is_websocket(request.headers());
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
            } else if is_socket && allowed.is_some() {
                stored_responses::refuse_websocket()
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
        addresses::normalize(&mut request);
        if let Some(problem) = ambiguity(request.headers()) {
            let dialect = dialect_of(request.uri().path(), request.headers());
            let mut response = refusal::refuse(&LlmError::new(ErrorKind::InvalidRequest, problem), dialect);
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return immediate(response);
        }
        if self.gateway.is_foreign_host(&request) {
            let dialect = dialect_of(request.uri().path(), request.headers());
            return immediate(pipeline::deny_at_door(&self.gateway, &Denial::Host, None, dialect));
        }
        if self.gateway.is_listed(request.headers()) {
            let routes = self.clone();
            return cors::answer(request, move |request| routes.dispatch(connection, request));
        }
        self.dispatch(connection, request)
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

/// The paths for callers, as an unknown path's error lists them. The guide documents those for operators and reviewers.
pub(crate) const SERVED: [&str; 24] = [
    "POST /v1/messages",
    "POST /v1/messages/count_tokens",
    "POST /v1/chat/completions",
    "POST /v1/responses",
    "POST /v1/responses/compact",
    "POST /v1/responses/input_tokens",
    "POST /v1beta/models/{model}:generateContent",
    "POST /v1beta/models/{model}:streamGenerateContent",
    "POST /v1beta/models/{model}:countTokens",
    "GET /v1beta/models",
    "GET /v1beta/models/{model}",
    "GET /v1/models",
    "GET /v1/models/{model}",
    "POST /openai/deployments/{model}/chat/completions",
    "POST /openai/v1/chat/completions",
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
const COUNT_TOKENS: &str = "/v1/messages/count_tokens";
const CHAT_COMPLETIONS: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const COMPACT: &str = "/v1/responses/compact";
const INPUT_TOKENS: &str = "/v1/responses/input_tokens";

/// The endings by which a request to any base URL is known, and the path of each. Azure and compatible servers have
/// OpenAI's APIs under many paths. Anthropic's endings include the version, since other APIs have messages too.
const ENDINGS: [(&str, &str); 6] = [
    ("/chat/completions", CHAT_COMPLETIONS),
    ("/responses", RESPONSES),
    ("/responses/compact", COMPACT),
    ("/responses/input_tokens", INPUT_TOKENS),
    (MESSAGES, MESSAGES),
    (COUNT_TOKENS, COUNT_TOKENS),
];

/// Returns the path of a request's ending.
pub(super) fn path_by_ending(path: &str) -> Option<&'static str> {
    ENDINGS.into_iter().find(|(ending, _)| path.ends_with(ending)).map(|(_, served)| served)
}

/// Returns the dialect of a path that asks models for answers.
pub(super) fn dialect_of_calls(path: &str) -> Option<Dialect> {
    match path {
        MESSAGES => Some(Dialect::Anthropic),
        CHAT_COMPLETIONS => Some(Dialect::OpenAi),
        RESPONSES => Some(Dialect::Responses),
        _ => None,
    }
}

/// Returns the path of this API that a request to any base URL is meant for, if there is one. Of a query it keeps that
/// of a call of Gemini's, which says the form of a stream.
pub(super) fn path_of(method: &Method, address: &str) -> Option<PathAndQuery> {
    let path = address.split_once('?').map_or(address, |(path, _)| path);
    if let Some(served) = path_by_ending(path) {
        return Some(PathAndQuery::from_static(served));
    }
    if method == Method::POST {
        let found = path.match_indices(IN_MODELS).map(|(at, models)| at + models.len());
        // A name may have this word in it: the first is the path's.
        let at = found.into_iter().find(|at| gemini::call_of(&path[*at..]).is_some())?;
        return PathAndQuery::try_from(format!("{}{IN_MODELS}{}", gemini::VERSIONS[0], &address[at..])).ok();
    }
    let at = path.rfind("/models")?;
    let model = &path[at + "/models".len()..];
    let is_list = model.is_empty() || model.starts_with('/');
    let version = gemini::VERSIONS.into_iter().find(|version| path[..at].ends_with(version)).unwrap_or(VERSION);
    is_list.then(|| PathAndQuery::try_from(format!("{version}/models{model}")).ok())?
}

const VERSION: &str = "/v1";
const IN_MODELS: &str = "/models/";

pub(crate) fn router(gateway: Arc<GatewayState>) -> Router {
    let mut for_callers = Router::new();
    for version in gemini::VERSIONS {
        for_callers = for_callers
            .route(&format!("{version}/models"), get(catalog::models))
            .route(&format!("{version}/models/{{*model}}"), get(catalog::model));
    }
    let for_callers = for_callers
        .route(COUNT_TOKENS, post(catalog::count_tokens))
        .route(INPUT_TOKENS, post(catalog::input_tokens))
        .route("/v1/responses/{id}", get(conversation::retrieve).delete(conversation::delete))
        .route("/v1/responses/{id}/input_items", get(conversation::input_items))
        .route("/v1/responses/{id}/cancel", post(conversation::cancel))
        .route("/requests", get(requests))
        .route("/admin/keys", get(keys::list))
        .route("/handoff/answers/{id}", get(handoff::answer))
        .route_layer(from_fn_with_state(gateway.clone(), with_rate_limit))
        // A lookup of one record does not count, so that a caller can see why it was refused.
        .route("/requests/{id}", get(request))
        .route_layer(from_fn_with_state(gateway.clone(), with_key));
    // Behind those layers: a call checks its key itself.
    for_callers
        .route("/v1beta/models/{*model}", post(model_method))
        .route("/v1alpha/models/{*model}", post(model_method))
        .route("/v1/models/{*model}", post(model_method))
        .route(MESSAGES, post(messages))
        .route(CHAT_COMPLETIONS, post(chat_completions))
        .route(RESPONSES, post(responses))
        .route(COMPACT, post(responses))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        // Claude Code's first request, with HEAD.
        .route("/", get(page::front))
        .fallback(unknown_path)
        .with_state(gateway.clone())
        .merge(super::admin::router(gateway.clone()))
        .merge(handoff::router(gateway))
}

/// Returns a caller's dialect: by the path, else by the headers that each API requires.
pub(crate) fn dialect_of(path: &str, headers: &HeaderMap) -> Dialect {
    let says = |name: &str| headers.contains_key(name);
    match path {
        _ if path.starts_with("/v1/messages") => Dialect::Anthropic,
        _ if path.starts_with("/v1/chat/") => Dialect::OpenAi,
        _ if path == RESPONSES || path.starts_with("/v1/responses/") => Dialect::Responses,
        _ if gemini::is_path(path) => Dialect::Gemini,
        _ if ["anthropic-version", "anthropic-beta", "x-api-key"].into_iter().any(says) => Dialect::Anthropic,
        // Anthropic's clients for Bedrock and Vertex, which send none of these headers.
        _ if path.starts_with("/model/") || path.contains("/publishers/anthropic/") => Dialect::Anthropic,
        _ if gemini::has_headers(headers) => Dialect::Gemini,
        _ => Dialect::OpenAi,
    }
}

/// Lets through the callers that [`authorize`] admits.
async fn with_key(State(gateway): State<Arc<GatewayState>>, mut request: Request<Body>, next: Next) -> Response<Body> {
    match authorize(&gateway, &mut request) {
        Ok(()) => next.run(request).await,
        Err(denied) => {
            pipeline::deny_at_door(&gateway, &denied, None, dialect_of(request.uri().path(), request.headers()))
        }
    }
}

/// Counts a request against its key's rate, like a call of a model.
async fn with_rate_limit(
    State(gateway): State<Arc<GatewayState>>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    let key = request.extensions().get::<Arc<Key>>();
    match key.map_or(Ok(()), |key| key.admit(Instant::now())) {
        Ok(()) => next.run(request).await,
        Err(denied) => {
            pipeline::deny_at_door(&gateway, &denied, key, dialect_of(request.uri().path(), request.headers()))
        }
    }
}

/// Admits a caller with a key, if the gateway has keys. Without keys it refuses foreign web pages: a browser on this
/// machine would send their requests without asking its user.
fn authorize(gateway: &GatewayState, request: &mut Request<Body>) -> Result<(), Denial> {
    if let Some(keys) = &gateway.keys {
        // Only Google's clients have a key in the query.
        let in_query = gemini::is_path(request.uri().path()).then(|| gemini::key_in(request.uri())).flatten();
        let key = keys.authenticate(request.headers(), in_query.as_deref())?;
        request.extensions_mut().insert(key);
    } else if !gateway.any_origin
        && request.headers().get(header::ORIGIN).is_some_and(is_foreign)
        && !gateway.is_listed(request.headers())
    {
        return Err(Denial::Origin);
    }
    Ok(())
}

/// Returns whether an `Origin` is anything but this machine.
fn is_foreign(origin: &HeaderValue) -> bool {
    let origin: Option<Uri> = origin.to_str().ok().and_then(|origin| origin.parse().ok());
    let host = origin.as_ref().and_then(Uri::host).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host != "localhost" && !host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

async fn messages(State(gateway): State<Arc<GatewayState>>, request: Request<Body>) -> Response<Body> {
    let connection = ConnectionContext::of(&gateway);
    call(&gateway, &connection, Dialect::Anthropic, request).await
}

async fn chat_completions(State(gateway): State<Arc<GatewayState>>, request: Request<Body>) -> Response<Body> {
    let connection = ConnectionContext::of(&gateway);
    call(&gateway, &connection, Dialect::OpenAi, request).await
}

async fn responses(State(gateway): State<Arc<GatewayState>>, request: Request<Body>) -> Response<Body> {
    let connection = ConnectionContext::of(&gateway);
    call(&gateway, &connection, Dialect::Responses, request).await
}

/// Calls a model. Checks the key itself: as a layer that would cost each call three boxes.
fn call<'a>(
    gateway: &Arc<GatewayState>,
    connection: &'a ConnectionContext,
    dialect: Dialect,
    mut request: Request<Body>,
) -> Answering<'a> {
    if request.uri().path() == COMPACT {
        request.extensions_mut().insert(Compaction);
    }
    let path = (dialect == Dialect::Gemini).then(|| PathCall::at(request.uri())).flatten();
    let is_array = path.as_ref().is_some_and(|path| path.is_array);
    if let Some(path) = path {
        request.extensions_mut().insert(path);
    }
    let begun = panic::catch(|| match authorize(gateway, &mut request) {
        Ok(()) => pipeline::answer(gateway, connection, dialect, request),
        Err(denied) => immediate(pipeline::deny_at_door(gateway, &denied, None, dialect)),
    });
    let answering = begun.unwrap_or_else(|panic| {
        panic.log(None);
        immediate(refusal::refuse(&Panic::error(), dialect))
    });
    if is_array { Box::pin(answering.then(gemini::error_in_array)) } else { answering }
}

/// Makes a call that is no conversation. Checks the key itself, as [`call`] does.
fn beside<'a>(
    gateway: &GatewayState,
    dialect: Dialect,
    mut request: Request<Body>,
    answer: impl FnOnce(Request<Body>) -> Answering<'a>,
) -> Answering<'a> {
    let begun = panic::catch(|| match authorize(gateway, &mut request) {
        Ok(()) => answer(request),
        Err(denied) => immediate(pipeline::deny_at_door(gateway, &denied, None, dialect)),
    });
    begun.unwrap_or_else(|panic| {
        panic.log(None);
        immediate(refusal::refuse(&Panic::error(), dialect))
    })
}

/// Answers a `POST` to a model's path, which is a call of Gemini's.
async fn model_method(State(gateway): State<Arc<GatewayState>>, mut request: Request<Body>) -> Response<Body> {
    match gemini::call_at(request.uri().path()) {
        Some((_, gemini::Method::CountTokens)) => {
            let admitted = authorize(&gateway, &mut request);
            let key = request.extensions().get::<Arc<Key>>().cloned();
            let rate = || key.as_ref().map_or(Ok(()), |key| key.admit(Instant::now()));
            match admitted.and_then(|()| rate()) {
                Ok(()) => catalog::gemini_tokens(&gateway, key, request).await,
                Err(denied) => pipeline::deny_at_door(&gateway, &denied, key.as_ref(), Dialect::Gemini),
            }
        }
        Some(_) => {
            let connection = ConnectionContext::of(&gateway);
            call(&gateway, &connection, Dialect::Gemini, request).await
        }
        None => {
            let (head, _) = request.into_parts();
            unknown_path(State(gateway), head.method, head.uri, head.headers).await
        }
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
    let troubles: Vec<String> = gateway.catalog.store_troubles().iter().map(ToString::to_string).collect();
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
    let is_others = |key: &Key| !key.admin && filter.key.as_deref().is_some_and(|name| *name != *key.name);
    if let Some(Extension(key)) = key.as_ref().filter(|key| is_others(key)) {
        return pipeline::deny_at_door(&gateway, &Denial::NotAdmin("/requests".into()), Some(key), Dialect::OpenAi);
    }
    let wanted = |record: &Record| may_see(record, key.as_deref()) && record.matches(&filter);
    let records = gateway.records.newest(filter.limit, wanted);
    let records: Vec<Value> = records.iter().map(|record| record.json(true)).collect();
    refusal::json(StatusCode::OK, json!({ "requests": records }).to_string())
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
    key.is_none_or(|key| key.admin || record.is_by(&key.name))
}

async fn unknown_path(
    State(gateway): State<Arc<GatewayState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response<Body> {
    // Without the query, which may hold a key.
    let path: String = uri.path().chars().take(MAX_PATH).collect();
    gateway.unknown_paths.report(shortened(&method), &path);
    let of_objects = objects::SERVED.into_iter().filter(|_| gateway.catalog.is_stack());
    let served: Vec<&str> = SERVED.into_iter().chain(lane::served(&gateway)).chain(of_objects).collect();
    let needs_lane = method == Method::POST && !gateway.catalog.has_lane() && lane::is_of_lane(uri.path());
    let why = if needs_lane { " without `lane` in its file" } else { "" };
    refusal::unknown_path(&path, why, &served, dialect_of(uri.path(), &headers))
}

/// Returns a method's beginning, for messages: callers may invent long ones.
pub(super) fn shortened(method: &Method) -> &str {
    let name = method.as_str();
    &name[..name.len().min(MAX_METHOD)]
}

/// The longest part of an unknown path in messages, in characters.
const MAX_PATH: usize = 100;
/// The longest part of a method, in ASCII characters.
const MAX_METHOD: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_to_any_base_url_has_its_path() {
        let get = Method::GET;
        for (method, path, served) in [
            (Method::POST, "/v1/chat/completions", Some(CHAT_COMPLETIONS)),
            (Method::POST, "/openai/deployments/gpt/chat/completions", Some(CHAT_COMPLETIONS)),
            (Method::POST, "/anthropic/v1/messages", Some(MESSAGES)),
            (Method::POST, "/v1/messages/count_tokens", Some(COUNT_TOKENS)),
            (Method::POST, "/v1/threads/7/messages", None),
            (Method::POST, "/openai/v1/responses", Some(RESPONSES)),
            (Method::POST, "/v1/responses/input_tokens", Some(INPUT_TOKENS)),
            (Method::POST, "/openai/v1/responses/compact", Some(COMPACT)),
            (get.clone(), "/v1/responses/resp_1", None),
            (Method::POST, "/v1/embeddings", None),
            (
                Method::POST,
                "/v1beta/models/gemini-2.5-pro:generateContent",
                Some("/v1beta/models/gemini-2.5-pro:generateContent"),
            ),
            (
                Method::POST,
                "/google/v1/models/g:streamGenerateContent?alt=sse&key=k",
                Some("/v1beta/models/g:streamGenerateContent?alt=sse&key=k"),
            ),
            (
                Method::POST,
                "/v1alpha/models/meta/models/l:8b:countTokens",
                Some("/v1beta/models/meta/models/l:8b:countTokens"),
            ),
            (
                Method::POST,
                "/v1beta/models/a%2Fb%3A1:generateContent",
                Some("/v1beta/models/a%2Fb%3A1:generateContent"),
            ),
            (Method::POST, "/v1beta/models/g:embedContent", None),
            (Method::POST, "/v1beta/models/:generateContent", None),
            (Method::POST, "/v1/models", None),
            (get.clone(), "/v1beta/models/g:generateContent", Some("/v1beta/models/g:generateContent")),
            (get.clone(), "/x/v1beta/models?key=k", Some("/v1beta/models")),
            (get.clone(), "/api/models", Some("/v1/models")),
            (get.clone(), "/v1/models/ft:gpt-4o:acme::9xYz", Some("/v1/models/ft:gpt-4o:acme::9xYz")),
            (get.clone(), "/v1/models/meta/llama-3", Some("/v1/models/meta/llama-3")),
            (get.clone(), "/v1/modelsets", None),
            (get, "/", None),
        ] {
            assert_eq!(path_of(&method, path).as_ref().map(PathAndQuery::as_str), served, "{method} {path}");
        }
    }

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
