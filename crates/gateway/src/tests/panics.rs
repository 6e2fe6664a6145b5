//! A panic anywhere below the gateway is the failure of one request.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use steadfast::{
    BoxLlmService, BulkheadHandle, BulkheadLayer, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent,
    chat::FinishReason,
};
use tokio::time::sleep;
use tower::{Service, ServiceBuilder, ServiceExt};
use tracing::instrument::WithSubscriber;

use super::{harness::*, logs::Log};
use crate::limits::Settings;

/// The code of a service that panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Readiness,
    Call,
    Future,
    /// The first poll of the answer's body.
    Body,
    /// The body's third poll, behind two frames.
    MidStream,
}

const PLACES: [Place; 5] = [Place::Readiness, Place::Call, Place::Future, Place::Body, Place::MidStream];

/// The message of the panics. It stands for a prompt that a message repeats.
const WORDS: &str = "a secret of the prompt";

/// A service that panics once, and answers from then on.
#[derive(Clone)]
struct PanicOnce {
    place: Place,
    after: Duration,
    armed: Arc<AtomicBool>,
}

impl PanicOnce {
    fn at(place: Place) -> Self {
        Self { place, after: Duration::ZERO, armed: Arc::new(AtomicBool::new(true)) }
    }

    fn pass(&self, place: Place) {
        if self.place == place && self.armed.swap(false, SeqCst) {
            let words = WORDS.to_owned();
            panic!("{words}");
        }
    }
}

impl Service<LlmRequest> for PanicOnce {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = BoxFuture<'static, Result<LlmResponse, LlmError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        self.pass(Place::Readiness);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: LlmRequest) -> Self::Future {
        self.pass(Place::Call);
        let service = self.clone();
        Box::pin(async move {
            sleep(service.after).await;
            service.pass(Place::Future);
            let events = [
                StreamEvent::Text { index: 0, text: "It ".to_owned() },
                StreamEvent::Text { index: 0, text: "rains.".to_owned() },
                StreamEvent::Finish(FinishReason::Stop),
                StreamEvent::End,
            ];
            let frames: BoxStream<'static, _> = stream::iter(events.into_iter().enumerate())
                .then(move |(number, event)| {
                    let service = service.clone();
                    async move {
                        // Each comes by itself, as a provider's do.
                        sleep(Duration::from_millis(10)).await;
                        match number {
                            0 => service.pass(Place::Body),
                            2 => service.pass(Place::MidStream),
                            _ => {}
                        }
                        Ok(Frame::event(event))
                    }
                })
                .boxed();
            Ok(LlmResponse::new(LlmBody::from_frames(frames)))
        })
    }
}

/// The service behind a bulkhead of one place.
fn stack(service: PanicOnce) -> (BoxLlmService, BulkheadHandle) {
    let bulkhead = BulkheadLayer::new().default_limit(1);
    let places = bulkhead.handle();
    (BoxLlmService::new(ServiceBuilder::new().layer(bulkhead).service(service)), places)
}

/// Asserts that an answer is the dialect's error for a panic: a 500, or an error event behind a stream's head.
fn assert_failed(answer: &Answer, path: &str, place: Place, stream: bool) {
    let what = format!("{path}, {place:?}, stream: {stream}: {answer:?}");
    assert!(!answer.body.contains("secret") && !format!("{:?}", answer.headers).contains("secret"), "{what}");
    assert!(answer.header("x-steadfast-request-id").is_some_and(|id| id.starts_with("sf-")), "{what}");
    let error = if stream && place == Place::MidStream {
        assert_eq!((answer.status, answer.is_whole()), (200, false), "{what}");
        assert!(answer.text().starts_with("It"), "{what}");
        answer.events().pop().unwrap()
    } else {
        assert_eq!(answer.status, 500, "{what}");
        assert_eq!(answer.header("x-should-retry"), None, "{what}");
        answer.json()
    };
    if error["type"] == "response.failed" {
        assert_eq!((&error["response"]["error"]["code"], path), (&"server_error".into(), RESPONSES), "{what}");
        return;
    }
    let (field, kind) = match path {
        MESSAGES => ("type", "api_error"),
        GEMINI => ("status", "UNKNOWN"),
        _ => ("type", "server_error"),
    };
    assert_eq!(error["error"][field], kind, "{what}");
    assert_eq!(error["type"] == "error", path == MESSAGES, "{what}");
}

/// Asserts that the record of an answer is closed as a failure.
async fn assert_recorded(server: &Server, answer: &Answer, outcome: &str) {
    let id = answer.header("x-steadfast-request-id").unwrap();
    let record = server.get(&format!("/requests/{id}"), &[]).await.json();
    assert_eq!((&record["outcome"], &record["failure"]), (&outcome.into(), &"other".into()), "{record}");
    assert!(record["took_ms"].is_number(), "{record}");
}

#[tokio::test]
async fn a_panic_is_a_500_or_an_error_event_and_the_connection_goes_on() {
    for path in PATHS {
        for place in PLACES {
            for stream in [false, true] {
                let (service, places) = stack(PanicOnce::at(place));
                let server = Server::start(service, Settings::default()).await;
                let mut client = server.connect().await;
                client.post(path, &[], &hello(stream)).await;
                let failed = client.answer().await;
                assert_failed(&failed, path, place, stream);
                assert_eq!(places.in_flight("default"), 0, "{path}, {place:?}");
                // The same connection.
                client.post(path, &[], &hello(stream)).await;
                let answer = client.answer().await;
                assert_eq!((answer.status, answer.text().as_str()), (200, "It rains."), "{path}, {place:?}");
                assert_eq!(answer.is_whole(), stream, "{path}, {place:?}");
                let broken = stream && place == Place::MidStream;
                assert_recorded(&server, &failed, if broken { "broken" } else { "failed" }).await;
            }
        }
    }
}

#[tokio::test]
async fn a_panic_is_a_500_or_an_error_event_through_the_service() {
    for path in PATHS {
        for place in PLACES {
            for stream in [false, true] {
                let (service, places) = stack(PanicOnce::at(place));
                let server = Server::start(service, Settings::default()).await;
                let gateway = crate::Gateway::over(server.gateway.clone());
                let ask = async || {
                    let (path, body) = (&*addressed(path, &hello(stream)), spelled(path, &hello(stream)).to_string());
                    through(gateway.clone(), "POST", path, &typed(path, &[]), body).await
                };
                let failed = ask().await;
                assert_failed(&failed, path, place, stream);
                assert_eq!(places.in_flight("default"), 0, "{path}, {place:?}");
                assert_eq!(ask().await.text(), "It rains.", "{path}, {place:?}");
                let broken = stream && place == Place::MidStream;
                assert_recorded(&server, &failed, if broken { "broken" } else { "failed" }).await;
            }
        }
    }
}

#[tokio::test]
async fn a_panic_behind_the_first_sign_of_life_is_an_error_event() {
    for path in PATHS {
        let late = PanicOnce { after: Duration::from_millis(100), ..PanicOnce::at(Place::Future) };
        let (service, places) = stack(late);
        let settings = Settings { first_sign: Duration::from_millis(5), ..Settings::default() };
        let server = Server::start(service, settings).await;
        let mut client = server.connect().await;
        client.post(path, &[], &hello(true)).await;
        let failed = client.answer().await;
        assert_eq!((failed.status, failed.is_whole()), (200, false), "{failed:?}");
        assert!(failed.error_event()["message"].as_str().unwrap().contains("panicked"), "{failed:?}");
        assert!(!failed.body.contains("secret"), "{failed:?}");
        assert_recorded(&server, &failed, "failed").await;
        assert_eq!(places.in_flight("default"), 0);
        client.post(path, &[], &hello(true)).await;
        assert_eq!(client.answer().await.text(), "It rains.");
    }
}

/// A service that counts how often it was renewed, and keeps what a panic leaves half-changed.
#[derive(Default)]
struct HalfChanged(Mutex<bool>);

impl Clone for HalfChanged {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<LlmRequest> for HalfChanged {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = std::future::Ready<Result<LlmResponse, LlmError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> Self::Future {
        let is_half = std::mem::replace(self.0.get_mut().unwrap(), true);
        assert!(!is_half, "called again after a panic");
        if request.session().is_some() {
            panic!("half-way");
        }
        *self.0.get_mut().unwrap() = false;
        std::future::ready(Ok(LlmResponse::from_text("whole")))
    }
}

#[tokio::test]
async fn a_service_that_panicked_is_not_called_again_on_its_connection() {
    let server = Server::start(BoxLlmService::new(HalfChanged::default()), Settings::default()).await;
    let mut client = server.connect().await;
    client.post(CHAT, &[("x-steadfast-session", "s")], &hello(false)).await;
    assert_eq!(client.answer().await.status, 500);
    for _ in 0..2 {
        client.post(CHAT, &[], &hello(false)).await;
        assert_eq!(client.answer().await.text(), "whole");
    }
}

#[tokio::test]
async fn a_panic_has_a_line_in_the_log_without_its_words() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let run = async {
        let mut ids = Vec::new();
        for place in PLACES {
            for stream in [false, true] {
                let server = Server::start(stack(PanicOnce::at(place)).0, Settings::default()).await;
                let answer = server.post(CHAT, &[], &hello(stream)).await;
                ids.push(answer.header("x-steadfast-request-id").unwrap().to_owned());
            }
        }
        let server = Server::start(BoxLlmService::new(HalfChanged::default()), Settings::default()).await;
        server.post(CHAT, &[("x-steadfast-session", "s")], &hello(false)).await;
        ids
    };
    let _here = log_to(subscriber);
    let ids = run.with_current_subscriber().await;
    let log = log.said();
    for id in &ids {
        let line = log.lines().find(|line| line.contains(id.as_str()) && line.contains("request panicked"));
        assert!(line.is_some_and(|line| line.contains("ERROR")), "{id}: {log}");
    }
    assert!(log.contains("panic=\"half-way\""), "a literal of the program: {log}");
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn a_request_body_that_panics_is_a_500_of_the_nested_gateway() {
    let (service, _) = stack(PanicOnce::at(Place::Body));
    let gateway = crate::Gateway::new(service);
    for path in PATHS {
        let body = axum::body::Body::from_stream(stream::once(async {
            let words = WORDS.to_owned();
            if !words.is_empty() {
                panic!("{words}");
            }
            Ok::<_, LlmError>(words)
        }));
        let request = http::Request::post(path).body(body).unwrap();
        assert_eq!(gateway.clone().oneshot(request).await.unwrap().status(), 500, "{path}");
    }
}

#[tokio::test]
async fn the_memory_of_a_body_and_the_place_of_a_key_are_free_again() {
    for place in PLACES {
        for stream in [false, true] {
            let keys = keys_of(&[entry("one", "sk-one", ", concurrency: 1")]);
            let server = Server::with_keys(stack(PanicOnce::at(place)).0, Some(keys), Settings::default()).await;
            let mut large = hello(stream);
            large["messages"][0]["content"] = "words ".repeat(4_000).into();
            let key = [("x-api-key", "sk-one")];
            let failed = server.post(MESSAGES, &key, &large).await;
            assert!(failed.status == 500 || !failed.is_whole(), "{failed:?}");
            assert_eq!(server.gateway.memory.used(), 0, "{place:?}");
            let answer = server.post(MESSAGES, &key, &large).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "It rains."), "{place:?}");
        }
    }
}
