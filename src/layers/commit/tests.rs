use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer as _, Service, ServiceExt as _};

use super::*;
use crate::{
    ErrorKind, Frame, LlmBody,
    body::StreamEvent as E,
    chat::{FinishReason, Message},
    commit::Commit,
    ledger, provider_fn,
};

type Item = Result<Frame, LlmError>;

fn event(event: E) -> Item {
    Ok(Frame::event(event))
}

fn start() -> Item {
    event(E::Start { id: None, model: None })
}

fn ping() -> Item {
    event(E::KeepAlive)
}

fn finish(reason: FinishReason) -> Item {
    event(E::Finish(reason))
}

fn end() -> Item {
    event(E::End)
}

fn broken() -> Item {
    Err(LlmError::new(ErrorKind::Overloaded, "said under a 200"))
}

/// A commit over a stream that gives these items and then hangs.
fn commit(items: impl IntoIterator<Item = Item, IntoIter: Send + 'static>, point: CommitPoint) -> task::Spawn<Commit> {
    task::spawn(Commit::new(LlmBody::from_frames(stream::iter(items).chain(stream::pending())), point, None))
}

#[test]
fn an_answer_without_content_fails_by_its_reason_to_finish() {
    let cases = [
        (None, Some(ErrorKind::EmptyAnswer)),
        (Some(FinishReason::Stop), Some(ErrorKind::EmptyAnswer)),
        (Some(FinishReason::Other("eos".into())), Some(ErrorKind::EmptyAnswer)),
        (Some(FinishReason::Filtered), Some(ErrorKind::ContentPolicy)),
        (Some(FinishReason::Refusal), None),
        (Some(FinishReason::ContextFull), Some(ErrorKind::ContextLength)),
        (Some(FinishReason::ModelError("x".into())), Some(ErrorKind::Malformed)),
        (Some(FinishReason::Length), None),
        (Some(FinishReason::Paused), None),
        (Some(FinishReason::ToolUse), None),
    ];
    for (reason, kind) in cases {
        for point in [CommitPoint::FirstToken, CommitPoint::FirstText, CommitPoint::Complete] {
            let items = [start()].into_iter().chain(reason.clone().map(finish)).chain([end()]);
            let result = assert_ready!(commit(items, point).poll());
            assert_eq!(result.err().map(|error| error.kind()), kind, "{reason:?} {point:?}");
        }
        // A complete answer is judged the same.
        let mut message = Message::assistant("");
        message.finish.clone_from(&reason);
        let leaf =
            provider_fn(move |_| std::future::ready(Ok::<_, LlmError>(LlmResponse::from_message(message.clone()))))
                .inner_commits();
        let service = CommitOnFirstTokenLayer::new().layer(leaf);
        let result = tokio_test::block_on(service.oneshot(LlmRequest::prompt("hello")));
        assert_eq!(result.err().map(|error| error.kind()), kind, "{reason:?} complete");
    }
}

/// A leaf that answers with these items and then hangs.
fn leaf<I>(items: impl Fn() -> I + Clone) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError> + Clone
where
    I: IntoIterator<Item = Item, IntoIter: Send + 'static>,
{
    provider_fn(move |_| {
        let body = LlmBody::from_frames(stream::iter(items()).chain(stream::pending()));
        let response = LlmResponse::new(body).with_model("anthropic", "claude").with_request_id("req_1");
        std::future::ready(Ok::<_, LlmError>(response))
    })
    .inner_commits()
}

#[tokio::test]
async fn the_layer_keeps_what_the_response_says_of_itself() {
    let service = CommitOnFirstTokenLayer::new().layer(leaf(|| [start(), Ok(Frame::text("a"))]));
    let response = service.oneshot(LlmRequest::prompt("hello")).await.unwrap();
    assert_eq!(response.served_by().to_string(), "anthropic (claude, 1 attempt)");
    assert_eq!(response.request_id(), Some("req_1"));
}

#[tokio::test]
async fn an_error_before_the_first_token_names_who_failed() {
    let service = CommitOnFirstTokenLayer::new().layer(leaf(|| [start(), broken()]));
    let error = service.oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
    assert_eq!((error.provider(), error.model()), (Some("anthropic"), Some("claude")));
    assert_eq!(error.request_id(), Some("req_1"));
}

/// Whole or streamed, what was tried before the answer that is none is told with it.
#[tokio::test]
async fn an_empty_answer_tells_what_had_failed_before_it() {
    for whole in [true, false] {
        let leaf = provider_fn(move |_| async move {
            let mut earlier = LlmError::new(ErrorKind::Overloaded, "overloaded").with_model("openai", "gpt");
            ledger::note(&mut earlier, tokio::time::Instant::now());
            let mut response = match whole {
                true => LlmResponse::from_text(""),
                false => LlmResponse::new(LlmBody::from_frames(stream::iter([start(), end()]))),
            };
            response.prepend_attempts(earlier.attempts().to_vec());
            Ok::<_, LlmError>(response.with_model("anthropic", "claude"))
        });
        let service = CommitOnFirstTokenLayer::new().layer(leaf.inner_commits());
        let error = service.oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EmptyAnswer);
        let tried: Vec<_> =
            error.attempts().iter().map(|attempt| (attempt.provider.as_deref(), attempt.failure)).collect();
        let both = [(Some("openai"), Some(ErrorKind::Overloaded)), (Some("anthropic"), Some(ErrorKind::EmptyAnswer))];
        assert_eq!(tried, both, "whole: {whole}");
    }
}

#[tokio::test]
async fn the_layer_lets_complete_answers_and_errors_through() {
    let whole = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("hello")) });
    let response = CommitOnFirstTokenLayer::new().layer(whole).oneshot(LlmRequest::prompt("hello")).await.unwrap();
    assert!(!response.body().arrives_in_frames());
    assert_eq!(response.text().await.unwrap(), "hello");

    let failing = provider_fn(|_| async { Err::<LlmResponse, _>(LlmError::new(ErrorKind::Auth, "no")) });
    let error = CommitOnFirstTokenLayer::new().layer(failing).oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Auth, "no"));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_around_it_covers_the_wait_for_the_first_token() {
    let service = CommitOnFirstTokenLayer::new().layer(leaf(|| [ping(), start(), Ok(Frame::text(""))]));
    let service = crate::TimeoutLayer::new(Duration::from_secs(5)).layer(service);
    let error = service.oneshot(LlmRequest::prompt("hello").with_stream(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[test]
fn a_call_dropped_half_way_drops_the_stream() {
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let gone = Arc::new(AtomicBool::new(false));
    let flag = gone.clone();
    let leaf = provider_fn(move |_| {
        let flag = Flag(flag.clone());
        let frames = stream::iter([start()]).chain(stream::pending()).map(move |frame| {
            let _ = &flag;
            frame
        });
        std::future::ready(Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(frames))))
    });
    let mut call =
        task::spawn(CommitOnFirstTokenLayer::new().layer(leaf.inner_commits()).oneshot(LlmRequest::prompt("hello")));
    assert_pending!(call.poll());
    assert!(!gone.load(Ordering::SeqCst));
    drop(call);
    assert!(gone.load(Ordering::SeqCst));
}
