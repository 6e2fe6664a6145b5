//! Tests that the verdict on a stream falls at its end, exactly once.

use futures_util::{StreamExt as _, stream};
use tower::{Layer as _, Service as _, ServiceExt as _};

use super::*;
use crate::{Frame, LlmBody, body::StreamEvent, events::CircuitState, provider_fn};

type Frames = Vec<Result<Frame, LlmError>>;

fn token() -> Result<Frame, LlmError> {
    Ok(Frame::text("hello"))
}

fn end() -> Result<Frame, LlmError> {
    Ok(Frame::event(StreamEvent::End))
}

/// A breaker that opens at the first failure, over a leaf that streams these frames; without an end it stalls.
fn streaming(frames: fn() -> Frames, stalls: bool) -> (impl Fn() -> Calling, CircuitBreakerHandle) {
    let layer = CircuitBreakerLayer::new("sonnet").consecutive_failures(1);
    let handle = layer.handle();
    let leaf = provider_fn(move |_| async move {
        let frames = stream::iter(frames());
        let body = match stalls {
            true => LlmBody::from_frames(frames.chain(stream::pending())),
            false => LlmBody::from_frames(frames),
        };
        Ok::<_, LlmError>(LlmResponse::new(body))
    });
    let service = layer.layer(leaf);
    let call = move || -> Calling { Box::pin(service.clone().oneshot(LlmRequest::prompt("x").with_stream(true))) };
    (call, handle)
}

type Calling = std::pin::Pin<Box<dyn Future<Output = Result<LlmResponse, LlmError>>>>;

#[tokio::test(start_paused = true)]
async fn stream_with_an_error_in_it_is_one_failure() {
    let (call, handle) = streaming(|| vec![token(), Err(error(ErrorKind::Overloaded)), token()], false);
    let mut body = call().await.expect("begins well").into_body();
    body.frame().await.expect("a frame").expect("a token");
    assert_eq!(handle.state(), CircuitState::Closed, "undecided");
    body.frame().await.expect("a frame").expect_err("the error");
    assert_eq!(handle.state(), CircuitState::Open);
    let reopens = handle.earliest_probe();
    tokio::time::advance(SECOND).await;
    assert!(body.frame().await.is_none());
    drop(body);
    assert_eq!(handle.earliest_probe(), reopens);
}

#[tokio::test(start_paused = true)]
async fn stream_without_its_end_mark_is_one_failure() {
    let (call, handle) = streaming(|| vec![token(), token()], false);
    let broken = call().await.expect("begins well").text().await.expect_err("cut");
    assert_eq!(broken.kind(), ErrorKind::StreamBroken);
    assert_eq!(handle.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn streaming_probe_holds_its_place_and_decides_at_its_end() {
    let layer = CircuitBreakerLayer::new("sonnet").consecutive_failures(1);
    let handle = layer.handle();
    let mut calls = 0;
    let leaf = move |_| {
        calls += 1;
        let first = calls == 1;
        async move {
            if first {
                return Err(server());
            }
            Ok(LlmResponse::new(LlmBody::from_frames(stream::iter([token(), token(), end()]))))
        }
    };
    let mut service = layer.layer(provider_fn(leaf));
    let mut ask = || service.call(LlmRequest::prompt("x").with_stream(true));
    ask().await.expect_err("opens it");
    tokio::time::advance(COOLDOWN).await;

    // Dropped before it is polled, after its response, and in the middle of its stream: each frees the place at
    // once.
    drop(ask());
    let response = ask().await.expect("a probe");
    assert_eq!(ask().await.expect_err("one at a time").kind(), ErrorKind::CircuitOpen);
    drop(response);
    let mut body = ask().await.expect("a probe").into_body();
    body.frame().await.expect("a frame").expect("a token");
    assert_eq!(ask().await.expect_err("one at a time").kind(), ErrorKind::CircuitOpen);
    drop(body);
    assert_eq!(handle.state(), CircuitState::HalfOpen);

    let mut body = ask().await.expect("a probe").into_body();
    body.frame().await.expect("a frame").expect("a token");
    body.frame().await.expect("a frame").expect("a token");
    assert_eq!(handle.state(), CircuitState::HalfOpen);
    body.frame().await.expect("a frame").expect("the end");
    assert_eq!(handle.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn reader_who_leaves_says_nothing() {
    let (call, handle) = streaming(|| vec![token()], true);
    for _ in 0..100 {
        let mut body = call().await.expect("begins well").into_body();
        body.frame().await.expect("a frame").expect("a token");
    }
    assert_eq!((handle.state(), handle.consecutive_failures()), (CircuitState::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn slow_call_is_slow_to_its_first_token_and_not_to_its_last() {
    let window = crate::layers::circuit_breaker::Window::last_calls(4).minimum_calls(4);
    for (before_response, expected) in [(0, CircuitState::Closed), (10, CircuitState::Open)] {
        let layer = CircuitBreakerLayer::new("sonnet").slow_calls(10 * SECOND, 1.0, window);
        let handle = layer.handle();
        let leaf = provider_fn(move |_| async move {
            tokio::time::sleep(before_response * SECOND).await;
            let slow_rest = stream::once(async {
                tokio::time::sleep(100 * SECOND).await;
                end()
            });
            Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(stream::iter([token()]).chain(slow_rest))))
        });
        let service = layer.layer(leaf);
        for _ in 0..4 {
            let response = service.clone().oneshot(LlmRequest::prompt("x").with_stream(true)).await.expect("an answer");
            response.text().await.expect("whole");
        }
        assert_eq!(handle.state(), expected);
    }
}
