use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode, header},
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use steadfast::{
    BoxLlmService, BulkheadHandle, BulkheadLayer, ErrorKind, LlmError, LlmRequest, LlmResponse, provider_fn,
    providers::simulated::{Fault, Simulated, SimulatedHandle},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

use crate::{app, stack};

/// The whole application around a provider, its handle, and what is under way.
fn application() -> (Router, SimulatedHandle, BulkheadHandle) {
    let bulkhead = BulkheadLayer::new().feature("chat", 1);
    let (places, sonnet) = (bulkhead.handle(), Simulated::new("sonnet").reply("Functions that remember."));
    let provider = sonnet.handle();
    (app(stack::stack(sonnet, bulkhead)), provider, places)
}

/// The application around a leaf and nothing else, to see how an error comes out.
fn failing(error: LlmError) -> Router {
    app(BoxLlmService::new(provider_fn(move |_: LlmRequest| std::future::ready(Err(error.clone())))))
}

fn ask(path: &str, prompt: &str) -> Request<Body> {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    request.body(json!({ "prompt": prompt }).to_string().into()).unwrap()
}

async fn post(app: &Router, path: &str) -> Response<Body> {
    let answer: Result<_, Infallible> = app.clone().oneshot(ask(path, "Explain closures.")).await;
    answer.unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_who_gave_it() {
    let (app, _, _) = application();
    let answer: Value = serde_json::from_str(&text(post(&app, "/ask").await).await).unwrap();
    assert_eq!(answer["served_by"], "sonnet (simulated sonnet, 1 attempt)");
    assert_eq!(answer["degraded"], false);
    assert_eq!(answer["text"], "Functions that remember.");
}

#[tokio::test(start_paused = true)]
async fn in_an_outage_the_fallback_answers_and_the_page_is_told() {
    let (app, provider, _) = application();
    provider.fail(Fault::ServerError);
    for _ in 0..20 {
        let response = post(&app, "/ask").await;
        assert_eq!(response.status(), StatusCode::OK);
        let answer: Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(answer["degraded"], true);
        assert_eq!(answer["text"], "Please try again in a minute.");
    }
    let stream = text(post(&app, "/stream").await).await;
    assert!(stream.contains("data: canned"), "{stream}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_comes_piece_by_piece_and_ends_with_a_mark() {
    let (app, _, _) = application();
    let response = post(&app, "/stream").await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let events = [
        "event: served_by\ndata: sonnet (simulated sonnet, 1 attempt)\n\n",
        "event: text\ndata: \"Functions \"\n\n",
        "event: text\ndata: \"that \"\n\n",
        "event: text\ndata: \"remember.\"\n\n",
        "event: end\ndata: \"\"\n\n",
    ];
    assert_eq!(text(response).await, events.concat());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_tells_the_page() {
    let (app, provider, _) = application();
    provider.fail(Fault::CutAfter(1));
    let stream = text(post(&app, "/stream").await).await;
    assert!(stream.contains("event: text\ndata: \"Functions \"\n\n"), "{stream}");
    assert!(stream.ends_with("event: error\ndata: \"stream_broken\"\n\n"), "{stream}");
}

#[tokio::test(start_paused = true)]
async fn a_place_is_held_while_a_stream_runs_and_freed_when_its_reader_leaves() {
    let (app, _, places) = application();
    let stream = post(&app, "/stream").await;
    assert_eq!(places.in_flight("chat"), 1);

    let refused = post(&app, "/ask").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(text(refused).await, r#"{"error":"bulkhead_full"}"#);

    drop(stream);
    assert_eq!(places.in_flight("chat"), 0);
    assert_eq!(post(&app, "/ask").await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_error_has_its_status() {
    for (kind, status) in [
        (ErrorKind::RateLimited, 429),
        (ErrorKind::BulkheadFull, 429),
        (ErrorKind::Timeout, 504),
        (ErrorKind::InvalidRequest, 400),
        (ErrorKind::ContextLength, 400),
        (ErrorKind::CircuitOpen, 503),
        (ErrorKind::Auth, 503),
        (ErrorKind::Server, 503),
    ] {
        let app = failing(LlmError::new(kind, "secret detail"));
        for path in ["/ask", "/stream"] {
            let response = post(&app, path).await;
            assert_eq!(response.status().as_u16(), status, "{kind} at {path}");
            assert!(!response.headers().contains_key(header::RETRY_AFTER), "{kind}: nobody knows when");
            assert_eq!(text(response).await, json!({ "error": kind.name() }).to_string());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_told_and_never_too_early() {
    let error = LlmError::new(ErrorKind::RateLimited, "").with_retry_after(Duration::from_millis(1500));
    let response = post(&failing(error), "/ask").await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()[header::RETRY_AFTER], "2");
}

#[tokio::test(start_paused = true)]
async fn every_answer_has_the_id_of_its_request_and_a_page_may_read_it() {
    let (app, _, _) = application();
    let preflight = Request::options("/ask")
        .header(header::ORIGIN, "https://chat.example.com")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST");
    let allowed = app.clone().oneshot(preflight.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(allowed.status(), StatusCode::OK);
    assert_eq!(allowed.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://chat.example.com");

    let mut request = ask("/ask", "Explain closures.");
    request.headers_mut().insert("x-request-id", "of-a-proxy".parse().unwrap());
    assert_eq!(app.clone().oneshot(request).await.unwrap().headers()["x-request-id"], "of-a-proxy");
    assert_eq!(post(&app, "/ask").await.headers()["x-request-id"].len(), 36, "a new one");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_compressed_and_a_stream_is_not() {
    let (app, _, _) = application();
    for (path, packed) in [("/ask", true), ("/stream", false)] {
        let mut request = ask(path, "Explain closures.");
        request.headers_mut().insert(header::ACCEPT_ENCODING, "gzip".parse().unwrap());
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers().contains_key(header::CONTENT_ENCODING), packed, "{path}");
        if packed {
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let answer: Value = serde_json::from_reader(flate2::read::GzDecoder::new(&*body)).unwrap();
            assert_eq!(answer["text"], "Functions that remember.");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_a_panic_and_a_call_without_end_have_their_status() {
    let (app_of_model, provider, _) = application();
    let long = "words ".repeat(crate::layers::MAX_BODY / 6);
    assert_eq!(app_of_model.oneshot(ask("/ask", &long)).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(provider.stats().calls, 0);

    let panics = provider_fn(async |_: LlmRequest| -> Result<LlmResponse, LlmError> { panic!("a leaf's own bug") });
    let response = post(&app(BoxLlmService::new(panics)), "/ask").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(text(response).await, r#"{"error":"internal"}"#);

    // A stack without limits of its own.
    let silent = provider_fn(async |_: LlmRequest| std::future::pending::<Result<LlmResponse, LlmError>>().await);
    assert_eq!(post(&app(BoxLlmService::new(silent)), "/ask").await.status(), StatusCode::GATEWAY_TIMEOUT);
}

#[tokio::test]
async fn the_same_over_a_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (app, provider, _) = application();
    // In a minute nothing is to be had from it, so nobody waits for it.
    provider.fail(Fault::RateLimited { retry_after: Some(Duration::from_secs(60)) });
    tokio::spawn(async move { axum::serve(listener, app).await });

    let body = r#"{"prompt": "Explain closures."}"#;
    let request = format!(
        "POST /ask HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    connection.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.contains("Please try again in a minute."), "{response}");
}
