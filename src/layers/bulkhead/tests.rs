use std::{convert::Infallible, fmt::Debug, time::Duration};

use futures_util::stream;
use tokio::{sync::mpsc, time::Instant};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceExt};

use super::*;
use crate::{
    ErrorKind, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent,
    chat::{Chat, Message, Usage},
    layers::testing::Strict,
    provider_fn,
};

mod caller;
mod limits;
mod places;
mod queue;
mod rates;
mod shared_state;
mod shares;

const SECOND: Duration = Duration::from_secs(1);

fn ask(feature: &str) -> LlmRequest {
    LlmRequest::prompt("hello").with_feature(feature)
}

/// A leaf that never answers.
#[derive(Clone, Debug)]
struct Silent;

impl Service<LlmRequest> for Silent {
    type Response = LlmResponse;
    type Error = Infallible;
    type Future = std::future::Pending<Result<LlmResponse, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: LlmRequest) -> Self::Future {
        std::future::pending()
    }
}

/// A streamed answer, and the sender of its frames.
fn streamed() -> (LlmResponse, mpsc::UnboundedSender<Result<Frame, LlmError>>) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let frames = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (LlmResponse::new(LlmBody::from_frames(frames)), sender)
}

#[test]
fn all_types_are_what_a_layer_needs() {
    fn check<T: Send + Sync + Clone + Debug + 'static>(_: &T) {}
    fn check_future<T: Send + Debug>(_: &T) {}
    let layer = BulkheadLayer::default();
    let mut service = layer.layer(Strict::new());
    check(&layer);
    check(&service);
    check(&service.handle());
    check(&Limits::new(1));
    check_future(&service.call(ask("chat")));
}

#[tokio::test(start_paused = true)]
async fn request_and_response_pass_untouched() {
    let leaf = Strict::new();
    let mut llm = BulkheadLayer::new().feature("chat", 1).layer(leaf.clone());
    let request = ask("chat").with_session("s").with_idempotency_key("k").with_timeout(SECOND);
    let deadline = request.context().deadline;
    let response = llm.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "hello");
    let seen = leaf.seen().remove(0);
    assert_eq!((seen.session(), seen.idempotency_key()), (Some("s"), Some("k")));
    assert_eq!(seen.context().deadline, deadline);
}

#[tokio::test(start_paused = true)]
async fn an_inner_error_arrives_whole() {
    let failure = LlmError::new(ErrorKind::Server, "it broke").with_source("the cause");
    let llm = BulkheadLayer::new().layer(Strict::new().fails(1, failure));
    let error = llm.oneshot(ask("chat")).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Server, "it broke"));
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the cause");
}

#[tokio::test(start_paused = true)]
async fn a_pending_or_failing_readiness_is_the_calls_own() {
    let layer = BulkheadLayer::new().feature("chat", Limits::new(1).queue(1));
    let mut llm = layer.layer(Strict::new().pending(3).fails_readiness(1).takes(SECOND));
    assert!(llm.ready().await.is_ok(), "its own readiness reserves nothing");
    assert_eq!(llm.call(ask("chat")).await.unwrap_err().kind(), ErrorKind::Other);
    assert_eq!(layer.handle().in_flight("chat"), 0);
    let (one, two) = (llm.call(ask("chat")), llm.call(ask("chat")));
    assert!(one.await.is_ok() && two.await.is_ok(), "pending is passed on, and wakes");
}

/// Makes 50 calls over a second's work, all at once.
#[tokio::test(start_paused = true)]
async fn concurrent_calls_are_not_serialised() {
    let mut llm = BulkheadLayer::new().feature("chat", 50).layer(Strict::new().takes(SECOND));
    let begun = Instant::now();
    let calls: Vec<_> = (0..50).map(|_| tokio::spawn(llm.call(ask("chat")))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(begun.elapsed(), SECOND);
}

#[test]
fn a_call_that_finds_its_place_allocates_nothing() {
    let ready = std::task::Waker::noop();
    let leaf = provider_fn(|_| async { Ok::<_, Infallible>(LlmResponse::from_text("hello")) });
    let mut llm = BulkheadLayer::new().feature("chat", Limits::new(4).queue(8)).feature("summary", 2).layer(leaf);
    for request in [ask("chat"), ask("other"), LlmRequest::prompt("hello")] {
        let measured = allocation_counter::measure(|| {
            for _ in 0..100 {
                let mut call = std::pin::pin!(llm.call(request.clone()));
                let polled = call.as_mut().poll(&mut std::task::Context::from_waker(ready));
                assert!(polled.is_ready());
            }
        });
        assert_eq!(measured.count_total, 0);
    }
}

#[test]
fn debug_shows_counts_and_no_prompt() {
    let mut llm = BulkheadLayer::new().feature("chat", Limits::new(1).queue(1)).layer(Silent);
    let (one, two) = (llm.call(LlmRequest::prompt("secret").with_feature("chat")), llm.call(ask("chat")));
    let shown = format!("{one:?} {two:?} {llm:?} {:?}", llm.handle());
    assert!(shown.contains("Queued") && shown.contains("in_flight: 1"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}
