//! tower-http's layers around the routed paths.

use std::{io::Read, sync::Arc};

use axum::{Router, body::Body, routing::get};
use flate2::read::GzDecoder;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::BodyExt;
use steadfast::BoxLlmService;
use tracing::instrument::WithSubscriber;

use super::{harness::*, logs::Log};
use crate::{
    api::{Catalog, GatewayState, Routes, router},
    http::Handler,
    limits::Settings,
};

/// The gateway's routes, with a path that panics.
async fn routes(settings: Settings) -> Routes {
    let providers = Providers::start().await;
    let catalog = Catalog::Listed(Arc::new(["gpt-4o".into()]));
    let gateway = Arc::new(GatewayState::new(providers.both(), catalog, None, settings));
    let panics = Router::new().route(
        "/panics",
        get(async || -> &'static str {
            let words = "a secret of the prompt".to_owned();
            panic!("{words}")
        }),
    );
    Routes::new(gateway.clone(), router(gateway).merge(panics))
}

async fn ask(routes: &Routes, request: http::request::Builder) -> Response<Body> {
    let connection = routes.connection();
    routes.answer(&connection, request.body(Body::empty()).unwrap()).await
}

async fn bytes(response: Response<Body>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().into()
}

fn id(response: &Response<Body>) -> &str {
    response.headers()["x-request-id"].to_str().unwrap()
}

#[tokio::test]
async fn every_routed_request_has_an_id_and_a_usual_one_of_the_callers_is_kept() {
    let routes = routes(Settings { body: 1_000, ..Settings::default() }).await;
    let long = "i".repeat(129);
    let requests = [
        ("GET", "/v1/models", 200),
        ("GET", "/", 200),
        ("GET", "/nothing", 404),
        ("DELETE", "/v1/models", 405),
        ("GET", "/panics", 500),
    ];
    for (method, path, status) in requests {
        let request = || Request::builder().method(method).uri(path);
        let response = ask(&routes, request()).await;
        assert_eq!(response.status(), status, "{path}");
        let made = id(&response).to_owned();
        assert!(made.len() == 16 && made.bytes().all(|digit| digit.is_ascii_hexdigit()), "{path}: {made}");
        assert_ne!(id(&ask(&routes, request()).await), made, "{path}");
        let kept = ask(&routes, request().header("x-request-id", "of-a-proxy")).await;
        assert_eq!((id(&kept), kept.status().as_u16()), ("of-a-proxy", status), "{path}");
        assert_eq!(id(&ask(&routes, request().header("x-request-id", &long)).await).len(), 16, "{path}");
    }
    let large = Request::post("/v1/messages/count_tokens").header("content-length", "1001");
    let large = ask(&routes, large).await;
    assert_eq!((large.status().as_u16(), id(&large).len()), (413, 16));
}

#[tokio::test]
async fn pages_are_compressed_for_who_takes_it_and_calls_are_not() {
    let routes = routes(Settings::default()).await;
    let page = || Request::get("/").header("accept", "text/html");
    let plain = ask(&routes, page()).await;
    assert!(!plain.headers().contains_key("content-encoding"));
    let plain = bytes(plain).await;
    let packed = ask(&routes, page().header("accept-encoding", "br, gzip")).await;
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let vary: Vec<_> = packed.headers().get_all("vary").iter().collect();
    assert!(vary.contains(&&"accept".parse().unwrap()) && vary.contains(&&"accept-encoding".parse().unwrap()));
    let packed = bytes(packed).await;
    assert!(packed.len() * 2 < plain.len(), "{} of {}", packed.len(), plain.len());
    let mut unpacked = Vec::new();
    GzDecoder::new(&*packed).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
    // The gateway does not compress an answer that fits into a packet.
    let small = ask(&routes, Request::get("/v1/models").header("accept-encoding", "gzip")).await;
    assert!(!small.headers().contains_key("content-encoding"));

    let providers = Providers::saying(&"It rains. ".repeat(1_000)).await;
    let server = Server::start(providers.both(), Settings::default()).await;
    for path in PATHS {
        for stream in [false, true] {
            let answer = server.post(path, &[("accept-encoding", "gzip")], &hello(stream)).await;
            assert_eq!((answer.status, answer.header("content-encoding")), (200, None), "{path}");
            assert!(answer.text().starts_with("It rains."), "{path}");
        }
    }
}

#[tokio::test]
async fn a_handler_that_panics_is_a_500_of_the_callers_dialect_and_the_log_has_its_id() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _here = log_to(subscriber);
    let run = async {
        let routes = routes(Settings::default()).await;
        let request = || Request::get("/panics").header("x-request-id", "of-a-proxy");
        for (request, anthropic) in [(request(), false), (request().header("anthropic-version", "1"), true)] {
            let response = ask(&routes, request).await;
            assert_eq!(response.status(), 500);
            let body = String::from_utf8(bytes(response).await).unwrap();
            let error: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(error["type"] == "error", anthropic, "{body}");
            assert!(error["error"]["message"].as_str().unwrap().contains("panicked"), "{body}");
            assert!(!body.contains("secret"), "{body}");
        }
        assert_eq!(ask(&routes, Request::get("/v1/models")).await.status(), 200);
    };
    run.with_current_subscriber().await;
    let log = log.said();
    assert_eq!(log.matches("request panicked").count(), 2, "{log}");
    assert!(log.contains("request=\"of-a-proxy\"") && !log.contains("secret"), "{log}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_on_a_routed_path_announced_or_not() {
    let routes = routes(Settings { body: 1_000, ..Settings::default() }).await;
    let count = || Request::post("/v1/messages/count_tokens").header("content-type", "application/json");
    let announced = ask(&routes, count().header("content-length", "1001")).await;
    let pieces = stream::iter((0..20).map(|_| Ok::<_, std::convert::Infallible>(" ".repeat(100))));
    let connection = routes.connection();
    let chunked = routes.answer(&connection, count().body(Body::from_stream(pieces)).unwrap()).await;
    for response in [announced, chunked] {
        assert_eq!((response.status().as_u16(), response.headers()["connection"].to_str().unwrap()), (413, "close"));
        let body: serde_json::Value = serde_json::from_slice(&bytes(response).await).unwrap();
        assert_eq!(body["error"]["type"], "request_too_large", "{body}");
        assert!(body["error"]["message"].as_str().unwrap().contains("1000 bytes"), "{body}");
    }
    // Nothing reads the body of a `GET`, and there is none beyond the limit all the same.
    assert_eq!(ask(&routes, Request::get("/v1/models").header("content-length", "1001")).await.status(), 413);
}

#[tokio::test]
async fn the_trace_of_a_routed_request_has_its_path_and_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let _here = log_to(subscriber);
    let run = async {
        let routes = routes(Settings::default()).await;
        let request = Request::get("/v1/models?key=sk-secret")
            .header("authorization", "Bearer sk-secret")
            .header("x-api-key", "sk-secret")
            .header("cookie", "sk-secret")
            .header("x-request-id", "of-a-proxy");
        assert_eq!(ask(&routes, request).await.status(), 200);
    };
    run.with_current_subscriber().await;
    let log = log.said();
    let line = log.lines().find(|line| line.contains("routed request answered")).unwrap_or_else(|| panic!("{log}"));
    for part in ["DEBUG", "method=\"GET\"", "path=\"/v1/models\"", "of-a-proxy", "http_status=200"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!log.contains("sk-secret"), "{log}");
}

#[tokio::test]
async fn a_nested_gateway_has_the_same_layers() {
    let gateway = crate::Gateway::new(BoxLlmService::new(steadfast::providers::Canned::text("hello")));
    let app = Router::new().nest_service("/llm", gateway);
    let request = Request::get("/llm/").header("accept", "text/html").header("accept-encoding", "gzip");
    let response = tower::ServiceExt::oneshot(app, request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!((response.headers()["content-encoding"].to_str().unwrap(), id(&response).len()), ("gzip", 16));
}
