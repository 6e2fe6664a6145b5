//! The gateway as a service in a program of a user's own: nested in axum, called in a test, left in the middle. No
//! socket, and paused time.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use flate2::read::GzDecoder;
use futures_util::{FutureExt, stream};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, ErrorKind, FallbackLayer, LlmError, LlmRequest, LlmResponse,
    RetryWithJitterLayer, TimeoutLayer, provider_fn,
    providers::simulated::{Fault, Simulated, SimulatedHandle},
};
use steadfast_gateway::{Gateway, ResponseBody};
use steadfast_stack::{Config, Format, Stack};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::CompressionLayer,
    cors::{Any, CorsLayer},
    limit::RequestBodyLimitLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    sensitive_headers::SetSensitiveRequestHeadersLayer,
    timeout::TimeoutLayer as HttpTimeoutLayer,
    trace::TraceLayer,
};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const SECOND: Duration = Duration::from_secs(1);

/// A request that both protocols take.
fn hello(path: &str, stream: bool) -> Request<Full<Bytes>> {
    let body = json!({
        "model": "claude-sonnet-4-5",
        "max_tokens": 100,
        "stream": stream,
        "messages": [{"role": "user", "content": "hello"}],
    });
    Request::post(path).header(header::CONTENT_TYPE, "application/json").body(Full::from(body.to_string())).unwrap()
}

/// Sends a request through any service of HTTP, and returns the status and the body.
async fn ask<S, B>(service: &S, request: Request<Full<Bytes>>) -> (StatusCode, String)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible> + Clone,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    let (head, body) = service.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.map_err(Into::into).expect("the body comes to its end");
    (head.status, String::from_utf8(body.to_bytes().into()).unwrap())
}

/// Returns whether a body is a whole answer, or a stream with its protocol's own end.
fn is_whole(body: &str) -> bool {
    body.starts_with('{') && !body.contains("\"error\"")
        || body.contains("event: message_stop")
        || body.trim_end().ends_with("data: [DONE]")
}

/// Two simulated tiers behind the usual layers, and the handle of the first.
fn two_tiers() -> (Gateway, SimulatedHandle) {
    let (sonnet, backup) = (Simulated::new("sonnet").reply("from sonnet"), Simulated::new("gpt-4o").reply("from gpt"));
    let handle = sonnet.handle();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(60 * SECOND))
        .layer(FallbackLayer::new("sonnet").tier("gpt", backup))
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("sonnet"))
        .layer(TimeoutLayer::new(30 * SECOND))
        .service(sonnet);
    (Gateway::new(stack), handle)
}

#[tokio::test(start_paused = true)]
async fn a_router_with_the_gateway_under_a_path_loses_none_of_2000_requests_in_an_outage() {
    let (gateway, sonnet) = two_tiers();
    let app = Router::new().nest_service("/llm", gateway);
    let (mut by_sonnet, mut by_backup) = (0, 0);
    for number in 0..2_000 {
        match number {
            500 => sonnet.fail(Fault::ServerError),
            1_500 => sonnet.heal(),
            _ => {}
        }
        let path = if number % 2 == 0 { CHAT } else { MESSAGES };
        let request = hello(&format!("/llm{path}"), number % 4 < 2).map(Body::new);
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "request {number}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.into()).unwrap();
        assert!(is_whole(&body), "request {number}: {body}");
        by_sonnet += usize::from(body.contains("sonnet"));
        by_backup += usize::from(!body.contains("from sonnet") && body.contains("gpt"));
        sleep(SECOND / 10).await;
    }
    assert!(by_backup >= 900, "served by the second tier: {by_backup}, by the first: {by_sonnet}");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_path_a_wrong_method_and_a_body_that_is_no_json_are_errors_of_the_callers_protocol() {
    let (gateway, sonnet) = two_tiers();
    let get = |path: &str| Request::get(path).body(Full::default()).unwrap();
    let (status, body) = ask(&gateway, get("/v1/nothing")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body.contains("unknown_path") && body.contains("/v1/messages"), "{body}");
    assert_eq!(ask(&gateway, get(CHAT)).await.0, StatusCode::METHOD_NOT_ALLOWED);
    let broken = Request::post(MESSAGES).body(Full::from("{\"model\":")).unwrap();
    let (status, body) = ask(&gateway, broken).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["error"]["type"]), (StatusCode::BAD_REQUEST, &"invalid_request_error".into()));
    assert_eq!(sonnet.stats().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_is_413_and_reaches_no_provider() {
    let sonnet = Simulated::new("sonnet");
    let handle = sonnet.handle();
    let gateway = Gateway::builder(sonnet).max_body(1_000).build();
    assert_eq!(ask(&gateway, hello(CHAT, false)).await.0, StatusCode::OK);
    let large = Request::post(CHAT).body(Full::from(vec![b' '; 2_000])).unwrap();
    let (status, body) = ask(&gateway, large).await;
    assert_eq!((status, handle.stats().calls), (StatusCode::PAYLOAD_TOO_LARGE, 1), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_in_the_process_gets_a_late_errors_status_and_a_slow_stream_without_signs_of_life() {
    for is_in_process in [false, true] {
        let sonnet = Simulated::new("sonnet").latency(60 * SECOND).pace(60 * SECOND).reply("from sonnet");
        let handle = sonnet.handle();
        let builder = Gateway::builder(sonnet);
        let gateway = if is_in_process { builder.in_process().build() } else { builder.build() };

        let (status, body) = ask(&gateway, hello(MESSAGES, true)).await;
        assert_eq!((status, body.contains("event: ping")), (StatusCode::OK, !is_in_process), "{body}");
        assert!(is_whole(&body), "{body}");

        handle.fail(Fault::Overloaded);
        let (status, body) = ask(&gateway, hello(MESSAGES, true)).await;
        assert_eq!(status.is_success(), !is_in_process, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_or_the_body_drops_the_providers_call_and_frees_its_place() {
    let sonnet = Simulated::new("sonnet").latency(10 * SECOND).reply("a long answer of many words").pace(SECOND);
    let handle = sonnet.handle();
    let bulkhead = BulkheadLayer::new().default_limit(1);
    let places = bulkhead.handle();
    let gateway = Gateway::new(ServiceBuilder::new().layer(bulkhead).service(sonnet));
    for stream in [false, true] {
        let mut calling = Box::pin(gateway.clone().oneshot(hello(CHAT, stream)));
        assert!(calling.as_mut().now_or_never().is_none());
        assert_eq!(handle.stats().in_flight, 1);
        drop(calling);
        assert_eq!(handle.stats().in_flight, 0);
    }
    let response: Response<ResponseBody> = gateway.clone().oneshot(hello(CHAT, true)).await.unwrap();
    let mut body = response.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!((handle.stats().in_flight, places.in_flight("default")), (1, 1));
    drop(body);
    assert_eq!((handle.stats().in_flight, places.in_flight("default")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn calls_side_by_side_each_wait_for_their_own_readiness() {
    let sonnet = Simulated::new("sonnet").latency(SECOND);
    let one_at_a_time = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).service(sonnet);
    let gateway = Gateway::new(one_at_a_time);
    let calls = (0..20).map(|_| {
        let gateway = gateway.clone();
        tokio::spawn(async move { ask(&gateway, hello(CHAT, false)).await.0 })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), StatusCode::OK);
    }
}

/// A service that cannot be called.
#[derive(Clone)]
struct NotReady;

impl Service<LlmRequest> for NotReady {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = Ready<Result<LlmResponse, LlmError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Err(LlmError::new(ErrorKind::Overloaded, "the pool is closed")))
    }

    fn call(&mut self, _: LlmRequest) -> Self::Future {
        ready(Err(LlmError::new(ErrorKind::Other, "called without being ready")))
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_its_readiness_is_an_error_with_a_status() {
    for path in [CHAT, MESSAGES] {
        for stream in [false, true] {
            let (status, body) = ask(&Gateway::new(NotReady), hello(path, stream)).await;
            assert!(status.is_server_error(), "{path}: {status} {body}");
            assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].is_object(), "{body}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_stack_of_a_file_brings_its_models_and_its_bulkheads_for_features() {
    let file = "
tiers:
  - { name: sonnet, provider: simulated, simulated: { reply: It rains., latency: 5s } }
features:
  chat: { concurrency: 1, queue: 0 }
models:
  house: { tiers: [sonnet] }
";
    let stack = Stack::from_config(Config::from_str(file, Format::Yaml).unwrap()).unwrap();
    let gateway = Gateway::from(&stack);
    let (status, models) = ask(&gateway, Request::get("/v1/models").body(Full::default()).unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(models.contains("\"house\""), "{models}");
    // Only a name of the file may be asked for.
    assert_eq!(ask(&gateway, hello(CHAT, false)).await.0, StatusCode::NOT_FOUND);
    let chat = || {
        let body = json!({"model": "house", "messages": [{"role": "user", "content": "hello"}]}).to_string();
        Request::post(CHAT).header("x-steadfast-feature", "chat").body(Full::from(body)).unwrap()
    };
    let first = gateway.clone();
    let first = tokio::spawn(async move { ask(&first, chat()).await.0 });
    sleep(SECOND).await;
    let (status, body) = ask(&gateway, chat()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(body.contains("too many requests: feature \\\"chat\\\""), "{body}");
    assert_eq!(first.await.unwrap(), StatusCode::OK);
}

/// A service as tower-http's own examples build one, with the gateway under a path.
fn behind_tower_http(gateway: Gateway) -> Router {
    let secrets: Arc<[HeaderName]> = Arc::new([header::AUTHORIZATION, HeaderName::from_static("x-api-key")]);
    let cors = CorsLayer::new().allow_origin(HeaderValue::from_static("https://app.example.com")).allow_headers(Any);
    let layers = ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::from_shared(secrets))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(TraceLayer::new_for_http())
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(CatchPanicLayer::new())
        .layer(cors)
        .layer(CompressionLayer::new())
        .layer(HttpTimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, 100 * SECOND));
    Router::new().nest_service("/llm", gateway).layer(RequestBodyLimitLayer::new(2_000)).layer(layers)
}

#[tokio::test(start_paused = true)]
async fn behind_tower_http_an_answer_is_compressed_and_an_event_comes_when_it_is_there() {
    let sonnet = Simulated::new("sonnet").reply("one two three").pace(10 * SECOND);
    let app = behind_tower_http(Gateway::builder(sonnet).any_origin().build());
    let ask = async |stream: bool| {
        let mut request = hello(&format!("/llm{CHAT}"), stream).map(Body::new);
        request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        request.headers_mut().insert(header::ORIGIN, HeaderValue::from_static("https://app.example.com"));
        // Its key is the program's business.
        request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer sk-of-the-program"));
        app.clone().oneshot(request).await.unwrap()
    };
    let whole = ask(false).await;
    for (name, value) in [("content-encoding", "gzip"), ("access-control-allow-origin", "https://app.example.com")] {
        assert_eq!(whole.headers()[name], value);
    }
    // A call's own id stays beside the program's.
    let ids = ["x-steadfast-request-id", "x-request-id"].map(|name| whole.headers()[name].to_str().unwrap().to_owned());
    assert!(ids.iter().all(|id| id.starts_with("sf-")), "{ids:?}");
    let packed = whole.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_reader(GzDecoder::new(&*packed)).unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "one two three");

    let stream = ask(true).await;
    assert!(!stream.headers().contains_key("content-encoding"), "{:?}", stream.headers());
    let mut body = stream.into_body();
    let begun = Instant::now();
    let mut seen = String::new();
    while !seen.contains("one") {
        seen += std::str::from_utf8(&body.frame().await.unwrap().unwrap().into_data().unwrap()).unwrap();
    }
    assert!(begun.elapsed() < SECOND && !seen.contains("three"), "{seen}");
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
}

#[tokio::test(start_paused = true)]
async fn behind_tower_http_errors_of_a_call_are_of_its_protocol() {
    let app = behind_tower_http(Gateway::new(Simulated::new("sonnet")));
    // Nothing announces the length, and the limit further out cuts the body off.
    let endless = stream::iter((0..30).map(|_| Ok::<_, Infallible>(" ".repeat(100))));
    let request = Request::post(format!("/llm{MESSAGES}")).body(Body::from_stream(endless)).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let error: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(error["error"]["type"], "request_too_large", "{error}");

    let panics = provider_fn(async |_: LlmRequest| -> Result<LlmResponse, LlmError> { panic!("a leaf's own bug") });
    let app = behind_tower_http(Gateway::new(panics));
    let response = app.oneshot(hello(&format!("/llm{MESSAGES}"), true).map(Body::new)).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let error: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&error["type"], &error["error"]["type"]), (&"error".into(), &"api_error".into()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_page_of_another_origin_is_refused_unless_the_program_checks_it() {
    let foreign = || {
        let mut request = hello(CHAT, false);
        request.headers_mut().insert(header::ORIGIN, "https://example.com".parse().unwrap());
        request
    };
    let sonnet = Simulated::new("sonnet");
    assert_eq!(ask(&Gateway::new(sonnet.clone()), foreign()).await.0, StatusCode::FORBIDDEN);
    assert_eq!(ask(&Gateway::builder(sonnet).any_origin().build(), foreign()).await.0, StatusCode::OK);
}
