//! Callers that leave, and deadlines that pass: the call outlives them, and for how long.

use std::{
    future::Future,
    task::{Context, Poll, Waker},
    time::Duration,
};

use steadfast::{ErrorKind, IdempotencyLayer, LlmError, LlmRequest, LlmResponse, TimeoutLayer, provider_fn};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use crate::{
    cache::provider::{Provider, call, text},
    idempotency::{SECOND, ask},
};

#[tokio::test(start_paused = true)]
async fn a_timed_out_calls_late_answer_is_kept_for_the_retry() {
    let provider = Provider::new().takes(10 * SECOND);
    let layer = IdempotencyLayer::new();
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(4 * SECOND))
        .layer(layer.clone())
        .layer(TimeoutLayer::new(30 * SECOND))
        .service(provider.service());
    assert_eq!(call(&llm, ask()).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!((layer.handle().under_way(), provider.running()), (1, 1));
    // The retry waits for the same call, by its own deadline, and the next one has it.
    assert_eq!(call(&llm, ask()).await.unwrap_err().kind(), ErrorKind::Timeout);
    let begun = Instant::now();
    assert_eq!(text(&llm, ask()).await, "answer 1");
    assert_eq!((begun.elapsed(), provider.calls(), layer.handle().under_way()), (2 * SECOND, 1, 0));
    // Nobody waits at all: it is kept all the same.
    let other = || LlmRequest::prompt("hi").with_idempotency_key("k-2");
    assert!(call(&llm, other()).await.is_err());
    sleep(20 * SECOND).await;
    assert_eq!(text(&llm, other()).await, "answer 2");
    assert_eq!((provider.calls(), layer.handle().stats().late), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_left_ends_with_the_grace_and_gives_its_key_back() {
    let provider = Provider::new().takes(1000 * SECOND);
    let layer = IdempotencyLayer::new().grace(30 * SECOND);
    let llm = layer.layer(provider.service());
    let begun = Instant::now();
    let left = tokio::time::timeout(5 * SECOND, call(&llm, ask())).await;
    assert!(left.is_err());
    assert_eq!(provider.running(), 1);
    layer.handle().close().now_or_never_is_pending();
    sleep(SECOND).await;
    assert_eq!((provider.running(), layer.handle().under_way()), (0, 0), "closed at {:?}", begun.elapsed());

    let layer = IdempotencyLayer::new().grace(30 * SECOND);
    let llm = layer.layer(provider.service());
    assert!(tokio::time::timeout(5 * SECOND, call(&llm, ask())).await.is_err());
    sleep(29 * SECOND).await;
    assert_eq!(layer.handle().under_way(), 1);
    sleep(2 * SECOND).await;
    assert_eq!((provider.running(), layer.handle().under_way()), (0, 0));
    // The key is free.
    let waiting = tokio::spawn({
        let llm = llm.clone();
        async move { text(&llm, ask()).await }
    });
    assert_eq!(waiting.await.unwrap(), "answer 3");
}

/// Polls once and forgets: what `close` begins stays begun.
trait Once: Future + Sized {
    fn now_or_never_is_pending(self) {
        let mut this = Box::pin(self);
        assert!(this.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}

impl<F: Future> Once for F {}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_moment_the_caller_leaves_nothing_behind_but_the_answer() {
    for streams in [false, true] {
        for polls in 0..6 {
            let provider = Provider::new().takes(SECOND).pace(SECOND);
            let layer = IdempotencyLayer::new();
            let llm = layer.layer(provider.service());
            let mut future = Box::pin(call(&llm, ask().with_stream(streams)));
            for _ in 0..polls {
                let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                if polled.is_ready() {
                    break;
                }
                sleep(Duration::from_millis(400)).await;
            }
            drop(future);
            sleep(30 * SECOND).await;
            assert_eq!((provider.running(), layer.handle().under_way()), (0, 0), "{streams} {polls}");
            assert_eq!(layer.handle().stats().kept, u64::from(polls > 0), "{streams} {polls}");
            let again = call(&llm, ask().with_stream(streams)).await.unwrap();
            let said = again.text().await.unwrap();
            assert_eq!(said, if streams { "0 of 1, 1 of 1, 2 of 1" } else { "answer 1" });
            assert_eq!(provider.calls(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_makes_no_call() {
    let provider = Provider::new();
    let llm = IdempotencyLayer::new().layer(provider.service());
    let late = ask().with_timeout(SECOND);
    advance(SECOND).await;
    assert_eq!(call(&llm, late).await.unwrap_err().kind(), ErrorKind::Deadline);
    assert_eq!(provider.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_followers_own_deadline_is_its_own() {
    let provider = Provider::new().takes(10 * SECOND);
    let llm = IdempotencyLayer::new().layer(provider.service());
    let begun = Instant::now();
    let (first, hurried) = tokio::join!(text(&llm, ask()), async {
        let error = call(&llm, ask().with_timeout(2 * SECOND)).await.unwrap_err();
        (error.kind(), begun.elapsed())
    });
    assert_eq!((&*first, hurried, provider.calls()), ("answer 1", (ErrorKind::Timeout, 2 * SECOND), 1));
}

#[tokio::test(start_paused = true)]
async fn where_the_first_ran_out_of_its_own_time_a_follower_tries_again() {
    let provider = Provider::new().takes(SECOND);
    provider.fails(ErrorKind::Deadline);
    let llm = IdempotencyLayer::new().layer(provider.service());
    let (first, second) = tokio::join!(call(&llm, ask()), text(&llm, ask()));
    assert_eq!((first.unwrap_err().kind(), &*second), (ErrorKind::Deadline, "answer 2"));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_is_an_error_for_all_who_wait() {
    let leaf = provider_fn(|_| async {
        sleep(SECOND).await;
        assert!(std::hint::black_box(false), "to order");
        Ok::<_, LlmError>(LlmResponse::from_text(""))
    });
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(leaf);
    let (first, second) = tokio::join!(call(&llm, ask()), call(&llm, ask()));
    assert_eq!((first.unwrap_err().kind(), second.unwrap_err().kind()), (ErrorKind::Other, ErrorKind::Other));
    assert_eq!(layer.handle().under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_layer_is_always_ready_and_its_future_waits_for_the_inner_service() {
    #[derive(Clone)]
    struct Never;
    impl Service<LlmRequest> for Never {
        type Response = LlmResponse;
        type Error = LlmError;
        type Future = std::future::Ready<Result<LlmResponse, LlmError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
            Poll::Pending
        }

        fn call(&mut self, _: LlmRequest) -> Self::Future {
            panic!("called without readiness")
        }
    }
    let mut llm = IdempotencyLayer::new().layer(Never);
    for request in [ask(), LlmRequest::prompt("hello")] {
        let future = llm.ready().await.unwrap().call(request.with_timeout(SECOND));
        let ended = tokio::time::timeout(5 * SECOND, future).await;
        assert!(ended.is_err() || ended.unwrap().is_err());
    }
}
