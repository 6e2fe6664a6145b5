use std::{
    future::{Ready, ready},
    time::Duration,
};

use http_body_util::Full;
use steadfast::{
    BoxLlmService, BulkheadHandle, BulkheadLayer, ErrorKind, LlmError, LlmRequest, LlmResponse, provider_fn,
    providers::simulated::{Fault, Simulated, SimulatedHandle},
};
use tokio::{net::TcpListener, time::Instant};
use tonic::{
    Code, Request,
    service::Routes,
    transport::{Channel, Server, server::TcpIncoming},
};
use tower::ServiceExt;

use crate::{
    app,
    proto::{Piece, Question, llm_client::LlmClient, llm_server::LlmServer},
    service::Service,
    stack,
};

/// A client whose connection is the service itself, so that the clock may be paused.
type InProcess = LlmClient<LlmServer<Service>>;

fn in_process(llm: BoxLlmService) -> InProcess {
    LlmClient::new(LlmServer::new(Service(llm)))
}

/// The stack around a provider, its handle, and what is under way.
fn application() -> (BoxLlmService, SimulatedHandle, BulkheadHandle) {
    let bulkhead = BulkheadLayer::new().feature("chat", 1);
    let (places, sonnet) = (bulkhead.handle(), Simulated::new("sonnet").reply("Functions that remember."));
    let provider = sonnet.handle();
    (stack::stack(sonnet, bulkhead), provider, places)
}

/// A leaf and nothing else, to see how an error comes out.
fn failing(error: LlmError) -> InProcess {
    let fails = move |_: LlmRequest| -> Ready<Result<LlmResponse, LlmError>> { ready(Err(error.clone())) };
    in_process(BoxLlmService::new(provider_fn(fails)))
}

fn question() -> Question {
    Question { prompt: "Explain closures.".into() }
}

fn piece(text: &str) -> Piece {
    Piece { text: text.into(), restart: false }
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_who_gave_it() {
    let (llm, _, _) = application();
    let answer = in_process(llm).ask(question()).await.unwrap().into_inner();
    assert_eq!(answer.text, "Functions that remember.");
    assert_eq!(answer.served_by, "sonnet (simulated sonnet, 1 attempt)");
    assert!(!answer.degraded);
}

#[tokio::test(start_paused = true)]
async fn a_stream_comes_piece_by_piece() {
    let (llm, _, _) = application();
    let response = in_process(llm).ask_stream(question()).await.unwrap();
    assert_eq!(response.metadata().get("served-by").unwrap(), "sonnet (simulated sonnet, 1 attempt)");
    let mut pieces = response.into_inner();
    for text in ["Functions ", "that ", "remember."] {
        assert_eq!(pieces.message().await.unwrap(), Some(piece(text)));
    }
    assert_eq!(pieces.message().await.unwrap(), None);
}

/// Asks through the nested gateway, for a feature. Returns the status.
async fn ask_the_gateway(app: &Routes, feature: &str) -> u16 {
    let body = r#"{"model": "sonnet", "messages": [{"role": "user", "content": "Explain closures."}]}"#;
    let request = http::Request::post("/llm/v1/chat/completions").header("x-steadfast-feature", feature);
    let response = app.clone().oneshot(request.body(Full::from(body)).unwrap()).await.unwrap();
    response.status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn a_gateway_beside_it_shares_the_places_of_each_feature() {
    let (llm, _, places) = application();
    let app = app(llm);
    assert_eq!(ask_the_gateway(&app, "chat").await, 200);
    // The gRPC service asks for the same feature, which has one place.
    let stream = LlmClient::new(app.clone()).ask_stream(question()).await.unwrap();
    assert_eq!(places.in_flight("chat"), 1);
    assert_eq!(ask_the_gateway(&app, "chat").await, 503);
    assert_eq!(ask_the_gateway(&app, "report").await, 200, "another feature has places of its own");
    drop(stream);
    assert_eq!(ask_the_gateway(&app, "chat").await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_does_not_end_well() {
    let (llm, provider, _) = application();
    provider.fail(Fault::CutAfter(1));
    let mut pieces = in_process(llm).ask_stream(question()).await.unwrap().into_inner();
    assert_eq!(pieces.message().await.unwrap(), Some(piece("Functions ")));
    let status = pieces.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "stream_broken"));
}

#[tokio::test(start_paused = true)]
async fn a_place_is_held_while_a_stream_runs_and_freed_when_its_reader_leaves() {
    let (llm, _, places) = application();
    let mut client = in_process(llm);
    let stream = client.ask_stream(question()).await.unwrap();
    assert_eq!(places.in_flight("chat"), 1);
    assert_eq!(client.ask(question()).await.unwrap_err().code(), Code::ResourceExhausted);
    drop(stream);
    assert_eq!(places.in_flight("chat"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_hangs_leaves_time_for_the_next_before_the_callers_deadline() {
    let (llm, provider, _) = application();
    provider.fail(Fault::Hang);
    let mut client = in_process(llm);
    let started = Instant::now();
    let mut request = Request::new(question());
    request.set_timeout(Duration::from_secs(8));
    let answer = client.ask(request).await.unwrap().into_inner();
    assert_eq!(answer.text, "Please try again in a minute.");
    assert!(answer.degraded);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_error_has_its_code() {
    for (kind, code) in [
        (ErrorKind::RateLimited, Code::ResourceExhausted),
        (ErrorKind::BulkheadFull, Code::ResourceExhausted),
        (ErrorKind::Timeout, Code::DeadlineExceeded),
        (ErrorKind::InvalidRequest, Code::InvalidArgument),
        (ErrorKind::ContextLength, Code::InvalidArgument),
        (ErrorKind::CircuitOpen, Code::Unavailable),
        (ErrorKind::Auth, Code::Unavailable),
    ] {
        let mut client = failing(LlmError::new(kind, "secret detail"));
        for status in [client.ask(question()).await.unwrap_err(), client.ask_stream(question()).await.unwrap_err()] {
            assert_eq!((status.code(), status.message()), (code, kind.name()));
            assert!(status.metadata().get("grpc-retry-pushback-ms").is_none(), "{kind}: nobody knows when");
        }
    }
    let error = LlmError::new(ErrorKind::Overloaded, "Overloaded").with_retry_after(Duration::from_secs(60));
    let status = failing(error).ask(question()).await.unwrap_err();
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "60000");
}

#[tokio::test]
async fn the_same_over_a_connection_in_an_outage() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (llm, provider, _) = application();
    // In a minute nothing is to be had from it, so nobody waits for it.
    provider.fail(Fault::RateLimited { retry_after: Some(Duration::from_secs(60)) });
    let server = Server::builder().add_service(LlmServer::new(Service(llm)));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = LlmClient::new(channel);
    for _ in 0..20 {
        let answer = client.ask(question()).await.unwrap().into_inner();
        assert_eq!((answer.text.as_str(), answer.degraded), ("Please try again in a minute.", true));
    }
    let mut pieces = client.ask_stream(question()).await.unwrap().into_inner();
    assert_eq!(pieces.message().await.unwrap(), Some(piece("Please try again in a minute.")));
    assert_eq!(pieces.message().await.unwrap(), None);
}
