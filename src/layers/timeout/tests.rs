mod asleep;
mod silence;

use std::{
    error::Error as _,
    future::{Ready, ready},
    task::{Context, Poll, Waker},
};

use futures_util::{StreamExt as _, stream};
use tokio::time::{Duration, Instant, advance, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt as _, limit::ConcurrencyLimitLayer};

use super::*;
use crate::{
    ErrorKind, FallbackLayer, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent,
    chat::{Chat, Effort, Message, Thinking},
    error::{Phase, TimeoutLimit},
    layers::{
        fallback::{FeaturePolicy, StreamBreak},
        testing::Strict,
    },
    provider_fn,
};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn asked() -> LlmRequest {
    LlmRequest::prompt("hello")
}

fn limited<S>(seconds: u64, inner: S) -> Timeout<S> {
    TimeoutLayer::new(secs(seconds)).layer(inner)
}

async fn fails<S: Service<LlmRequest, Response = LlmResponse, Error = LlmError>>(service: S) -> LlmError {
    service.oneshot(asked()).await.unwrap_err()
}

fn fired(error: &LlmError) -> (TimeoutLimit, Phase, Duration) {
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let timed_out = error.timeout().expect("a limit of ours fired");
    (timed_out.limit, timed_out.phase, timed_out.after)
}

/// A service that is never ready.
#[derive(Clone, Debug)]
struct Unready;

impl Service<LlmRequest> for Unready {
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = Ready<Result<LlmResponse, LlmError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Pending
    }

    fn call(&mut self, _: LlmRequest) -> Self::Future {
        panic!("called without readiness")
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_pending_until_the_limit_and_fails_at_it() {
    let mut service = limited(10, Strict::new().takes(secs(60)));
    let mut call = task::spawn(service.call(asked()));
    assert_pending!(call.poll());
    advance(secs(10) - Duration::from_millis(1)).await;
    assert_pending!(call.poll());
    advance(Duration::from_millis(1)).await;
    assert!(call.is_woken());
    let error = assert_ready!(call.poll()).unwrap_err();
    assert_eq!(fired(&error), (TimeoutLimit::Total, Phase::Answer, secs(10)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_time_arrives_untouched() {
    let strict = Strict::new().takes(secs(5));
    let response = limited(10, strict.clone()).oneshot(asked().with_feature("chat")).await.unwrap();
    assert_eq!(strict.seen()[0].feature(), Some("chat"));
    assert!(response.attempts().is_empty());
    assert_eq!(response.text().await.unwrap(), "hello");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_wins_over_the_timer() {
    assert!(limited(10, Strict::new().takes(secs(10))).oneshot(asked()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_call_is_dropped_at_the_timeout_and_with_the_future() {
    let strict = Strict::new().takes(secs(60));
    let mut service = limited(10, strict.clone());
    let mut call = task::spawn(service.call(asked()));
    assert_pending!(call.poll());
    assert_eq!(strict.running(), 1);
    advance(secs(10)).await;
    assert!(assert_ready!(call.poll()).is_err());
    assert_eq!(strict.running(), 0, "though the future is still here");

    let call = service.call(asked());
    assert_eq!(strict.running(), 1);
    drop(call);
    assert_eq!(strict.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_first_token_limit_is_for_streams_only() {
    let layer = TimeoutLayer::new(secs(60)).first_token(secs(5));
    let service = layer.layer(Strict::new().takes(secs(30)));
    assert!(service.clone().oneshot(asked()).await.is_ok());
    let error = service.oneshot(asked().with_stream(true)).await.unwrap_err();
    assert_eq!(fired(&error), (TimeoutLimit::FirstToken, Phase::Answer, secs(5)));
}

#[tokio::test(start_paused = true)]
async fn a_first_token_limit_beyond_the_total_changes_nothing() {
    let service = TimeoutLayer::new(secs(5)).first_token(secs(60)).layer(Strict::new().takes(secs(30)));
    let error = service.oneshot(asked().with_stream(true)).await.unwrap_err();
    assert_eq!(fired(&error), (TimeoutLimit::Total, Phase::Answer, secs(5)));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_asks_to_reason_has_a_limit_of_its_own() {
    let thoughtful = || asked_to_reason(true).with_stream(true);
    let layer = TimeoutLayer::new(secs(30)).first_token(secs(10)).thinking(secs(50));
    let service = layer.layer(Strict::new().takes(secs(40)));
    assert!(service.clone().oneshot(thoughtful()).await.is_ok());
    for (request, limit, after) in [
        (asked_to_reason(false).with_stream(true), TimeoutLimit::FirstToken, 10),
        (asked_to_reason(true), TimeoutLimit::Total, 30),
    ] {
        let error = service.clone().oneshot(request).await.unwrap_err();
        assert_eq!(fired(&error), (limit, Phase::Answer, secs(after)));
    }
    let error = layer.layer(Strict::new().takes(secs(60))).oneshot(thoughtful()).await.unwrap_err();
    assert_eq!(fired(&error), (TimeoutLimit::FirstToken, Phase::Answer, secs(50)));
}

/// 128,000 tokens in an hour, as Anthropic's SDKs expect.
#[tokio::test(start_paused = true)]
async fn a_long_whole_answer_has_the_time_that_it_takes() {
    let most = |tokens| asked().with_max_tokens(tokens);
    for (request, limit) in [
        (asked(), 10_000),
        (most(100), 10_000),
        (most(1_000), 28_125),
        (most(8_000), 225_000),
        (most(64_000), 300_000),
        (most(u32::MAX), 300_000),
        (asked_to_reason(true), 300_000),
        (most(8_000).with_stream(true), 10_000),
    ] {
        let layer = TimeoutLayer::new(secs(10)).long_answers(secs(300));
        let error = layer.layer(Strict::new().takes(secs(1_000))).oneshot(request).await.unwrap_err();
        assert_eq!(fired(&error), (TimeoutLimit::Total, Phase::Answer, Duration::from_millis(limit)));
    }
}

fn asked_to_reason(asks: bool) -> LlmRequest {
    let mut chat = Chat::new([Message::user("hello")]);
    chat.thinking = Some(if asks { Thinking::Effort(Effort::High) } else { Thinking::Off });
    LlmRequest::from(chat)
}

#[tokio::test(start_paused = true)]
async fn the_nearest_of_limit_and_deadline_wins_and_the_error_names_it() {
    let service = limited(30, Strict::new().takes(secs(60)));
    let begun = Instant::now();
    let error = service.clone().oneshot(asked().with_timeout(secs(7))).await.unwrap_err();
    assert_eq!(fired(&error), (TimeoutLimit::Deadline, Phase::Answer, secs(7)));
    assert_eq!(begun.elapsed(), secs(7));
    let error = service.oneshot(asked().with_timeout(secs(90))).await.unwrap_err();
    assert_eq!(fired(&error), (TimeoutLimit::Total, Phase::Answer, secs(30)));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_readiness_counts_and_the_error_says_so() {
    let begun = Instant::now();
    let error = fails(limited(10, Unready)).await;
    assert_eq!(fired(&error), (TimeoutLimit::Total, Phase::Readiness, secs(10)));
    assert_eq!(begun.elapsed(), secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_a_queue_is_taken_from_the_answers_time() {
    let strict = Strict::new().takes(secs(8));
    let queue = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).service(strict.clone());
    let mut service = limited(10, queue);
    let (first, second) = (service.call(asked()), service.call(asked()));
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_ok());
    assert_eq!(fired(&second.unwrap_err()), (TimeoutLimit::Total, Phase::Answer, secs(10)));
    assert_eq!((strict.calls(), strict.running()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_readiness_that_comes_at_the_deadline_starts_no_attempt() {
    let strict = Strict::new().takes(secs(10));
    let queue = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).service(strict.clone());
    let mut service = limited(10, queue);
    let mut first = task::spawn(service.call(asked()));
    let mut second = task::spawn(service.call(asked()));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    advance(secs(10)).await;
    assert!(assert_ready!(first.poll()).is_ok());
    drop(first);
    let error = assert_ready!(second.poll()).unwrap_err();
    assert_eq!(fired(&error), (TimeoutLimit::Total, Phase::Readiness, secs(10)));
    assert_eq!(strict.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_starts_after_the_deadline() {
    let strict = Strict::new();
    let request = asked().with_timeout(secs(5));
    advance(secs(6)).await;
    let error = limited(30, strict.clone()).oneshot(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert_eq!((strict.calls(), strict.polled_ready()), (0, 0));
    assert!(error.attempts()[0].is_local(), "a refusal on this side costs no attempt");
}

#[tokio::test(start_paused = true)]
async fn the_inner_request_knows_the_deadline() {
    let strict = Strict::new();
    let now = Instant::now();
    limited(30, strict.clone()).oneshot(asked()).await.unwrap();
    limited(30, strict.clone()).oneshot(asked().with_timeout(secs(7))).await.unwrap();
    limited(90, limited(30, strict.clone())).oneshot(asked()).await.unwrap();
    TimeoutLayer::new(Duration::MAX).layer(strict.clone()).oneshot(asked()).await.unwrap();
    let deadlines: Vec<_> = strict.seen().iter().map(|request| request.context().deadline).collect();
    assert_eq!(deadlines, [Some(now + secs(30)), Some(now + secs(7)), Some(now + secs(30)), None]);
}

#[tokio::test(start_paused = true)]
async fn no_time_at_all_refuses_what_is_not_there_at_once() {
    assert!(limited(0, Strict::new()).oneshot(asked()).await.is_ok());
    assert!(limited(0, limited(0, Strict::new())).oneshot(asked()).await.is_ok());
    let begun = Instant::now();
    let error = fails(limited(0, Strict::new().takes(Duration::from_millis(1)))).await;
    assert_eq!(fired(&error), (TimeoutLimit::Total, Phase::Answer, Duration::ZERO));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let strict = Strict::new().pending(1);
    assert_eq!(fired(&fails(limited(0, strict.clone())).await).1, Phase::Readiness);
    assert_eq!(strict.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_longest_duration_is_no_limit() {
    let year = secs(365 * 24 * 3600);
    let service = TimeoutLayer::new(Duration::MAX).first_token(Duration::MAX).layer(Strict::new().takes(year));
    assert!(service.clone().oneshot(asked().with_stream(true)).await.is_ok());
    let error = service.oneshot(asked().with_timeout(secs(3))).await.unwrap_err();
    assert_eq!(fired(&error), (TimeoutLimit::Deadline, Phase::Answer, secs(3)));
}

#[tokio::test(start_paused = true)]
async fn the_record_has_one_attempt_with_its_duration() {
    let begun = Instant::now();
    let error = fails(limited(10, Strict::new().takes(secs(60)))).await;
    let [attempt] = error.attempts() else { panic!("{:?}", error.attempts()) };
    assert_eq!((attempt.begun, attempt.took), (begun, secs(10)));
    assert_eq!(attempt.failure, Some(ErrorKind::Timeout));
    assert_eq!(attempt.message, "the limit of 10s passed waiting for the answer");
    assert!(!attempt.is_local());
}

#[tokio::test(start_paused = true)]
async fn an_inner_error_passes_with_its_source_and_is_recorded_once() {
    let inner = LlmError::new(ErrorKind::Connect, "no route").with_source("the cause").with_model("openai", "gpt");
    let strict = Strict::new().takes(secs(2)).fails(1, inner);
    let error = fails(limited(90, limited(30, strict))).await;
    assert_eq!((error.kind(), error.message(), error.provider()), (ErrorKind::Connect, "no route", Some("openai")));
    assert_eq!(error.source().unwrap().to_string(), "the cause");
    assert_eq!(error.attempts().len(), 1);
    assert_eq!(error.attempts()[0].took, secs(2));
}

#[tokio::test(start_paused = true)]
async fn of_two_timeouts_at_the_same_moment_the_inner_speaks() {
    let error = fails(limited(30, limited(40, Strict::new().takes(secs(60))))).await;
    assert_eq!(fired(&error), (TimeoutLimit::Deadline, Phase::Answer, secs(30)), "the outer one would say Total");
    assert_eq!(error.attempts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clone_carries_no_readiness_and_its_poll_reserves_nothing() {
    let strict = Strict::new();
    let mut service = limited(10, strict.clone());
    assert!(service.ready().await.is_ok());
    assert_eq!(strict.polled_ready(), 0);
    let mut clone = service.clone();
    // `Strict` panics on a call without a readiness of its own.
    clone.call(asked()).await.unwrap();
    service.call(asked()).await.unwrap();
    assert_eq!(strict.polled_ready(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_readiness_is_the_calls_error() {
    let mut service = limited(10, Strict::new().fails_readiness(1));
    let error = service.call(asked()).await.unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "readiness failed");
    assert!(service.call(asked()).await.is_ok());
}

#[test]
fn the_healthy_path_allocates_nothing_and_makes_no_timer() {
    let leaf = provider_fn(|_| ready(Ok::<_, LlmError>(LlmResponse::from_text("hello"))));
    let mut service = limited(90, TimeoutLayer::new(secs(30)).first_token(secs(5)).layer(leaf));
    let (one, two) = (asked().with_stream(true), asked());
    // There is no runtime here: a timer would panic.
    let measured = allocation_counter::measure(|| {
        for request in [one, two] {
            let call = std::pin::pin!(service.call(request));
            assert!(call.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
    });
    assert_eq!(measured.count_total, 0);
}

/// A leaf whose stream sends one word and falls silent.
fn stalling() -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone {
    provider_fn(|_| {
        let frames = stream::iter([Ok(Frame::text("a"))]).chain(stream::pending());
        ready(Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(frames))))
    })
}

#[tokio::test(start_paused = true)]
async fn the_idle_limits_of_both_apply_and_the_nearest_wins() {
    for (outer, inner) in [(50, 10), (10, 50)] {
        let inner = TimeoutLayer::new(secs(30)).idle(secs(inner)).layer(stalling());
        let service = TimeoutLayer::new(secs(90)).idle(secs(outer)).layer(inner);
        let begun = Instant::now();
        let error = service.oneshot(asked().with_stream(true)).await.unwrap().collect().await.unwrap_err();
        assert_eq!(fired(&error), (TimeoutLimit::ByteIdle, Phase::Body, secs(10)));
        assert_eq!(begun.elapsed(), secs(10));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_falls_silent_for_a_minute_at_most_by_default_and_longer_where_nobody_acts_on_it() {
    let begun = Instant::now();
    let response = limited(5, stalling()).oneshot(asked().with_stream(true)).await.unwrap();
    let error = response.collect().await.unwrap_err();
    assert_eq!((fired(&error).0, begun.elapsed()), (TimeoutLimit::ByteIdle, secs(60)));
    let patient = || TimeoutLayer::new(secs(5)).patient(Duration::MAX).layer(stalling());
    let impatient = || limited(5, stalling());
    for (policy, alone) in
        [(StreamBreak::Fail, 300), (StreamBreak::Restart, 60), (StreamBreak::Continue, 60), (StreamBreak::Buffer, 60)]
    {
        // By the file, and by the request; alone, and before another tier.
        for (own, is_alone) in [(false, true), (true, true), (false, false), (true, false)] {
            let of_file = if own { StreamBreak::Fail } else { policy };
            let layer = FallbackLayer::new("a").default_policy(FeaturePolicy::new().stream_break(of_file));
            let layer = if is_alone { layer } else { layer.tier("b", Strict::new()) };
            let request = asked().with_stream(true);
            let request = if own { policy.for_request(request) } else { request };
            let after = if is_alone { alone } else { 60 };
            for leaf in [patient(), impatient()] {
                let begun = Instant::now();
                if let Ok(answer) = layer.layer(leaf).oneshot(request.clone()).await {
                    let _ = answer.collect().await;
                }
                assert_eq!(begun.elapsed(), secs(after), "{policy:?}, own {own}, alone {is_alone}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_flows_may_take_as_long_as_it_likes() {
    let leaf = provider_fn(|_| {
        let frames = stream::iter(0..100).then(|_| async {
            sleep(secs(4)).await;
            Ok(Frame::text("a"))
        });
        let frames = frames.chain(stream::iter([Ok(Frame::event(StreamEvent::End))]));
        ready(Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(frames))))
    });
    let service = TimeoutLayer::new(secs(10)).idle(secs(5)).progress(secs(5), secs(5)).layer(leaf);
    let text = service.oneshot(asked().with_stream(true)).await.unwrap().text().await.unwrap();
    assert_eq!(text.len(), 100);
}

/// The caller of a whole answer sees nothing of one that goes on and on.
#[tokio::test(start_paused = true)]
async fn a_whole_answer_that_comes_in_frames_has_to_be_there_by_the_nearest_deadline() {
    for (outer, inner, limit) in [(50, 10, TimeoutLimit::Total), (10, 50, TimeoutLimit::Deadline)] {
        for event in [StreamEvent::Text { index: 0, text: "a".into() }, StreamEvent::KeepAlive, StreamEvent::Other] {
            let leaf = provider_fn(move |_| {
                let event = event.clone();
                let frames = stream::repeat(event).then(|event| async {
                    sleep(secs(1)).await;
                    Ok(Frame::event(event))
                });
                ready(Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(frames))))
            });
            let service = TimeoutLayer::new(secs(outer)).layer(TimeoutLayer::new(secs(inner)).layer(leaf));
            let begun = Instant::now();
            let error = match service.oneshot(asked()).await {
                Ok(response) => response.collect().await.unwrap_err(),
                // Without content there is no answer before it.
                Err(error) => error,
            };
            let (which, _, after) = fired(&error);
            assert_eq!((which, after, begun.elapsed()), (limit, secs(10), secs(10)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn towers_own_layers_fit_on_both_sides() {
    let inner = ServiceBuilder::new().timeout(secs(3)).service(Strict::new().takes(secs(60)));
    let service = ServiceBuilder::new().load_shed().concurrency_limit(1).service(limited(10, inner));
    let error: BoxError = service.oneshot(asked()).await.map(|_| ()).unwrap_err();
    let error = LlmError::from(error);
    assert_eq!((error.kind(), error.timeout()), (ErrorKind::Timeout, None));
    assert_eq!(error.attempts().len(), 1);
}

#[test]
fn it_is_send_and_static_when_its_leaf_is() {
    fn assert_parts<T: Send + Sync + Clone + std::fmt::Debug + 'static>(_: &T) {}
    fn assert_future<T: Send + 'static>(_: T) {}
    assert_parts(&TimeoutLayer::new(secs(1)));
    let service = limited(1, Strict::new());
    assert_parts(&service);
    assert_future(service.clone().call(asked()));
    // No local leaf needs to be `Send`.
    let local = std::rc::Rc::new(());
    let leaf = provider_fn(move |_| {
        let local = local.clone();
        async move {
            drop(local);
            Ok::<_, LlmError>(LlmResponse::from_text("hello"))
        }
    });
    drop(limited(1, leaf).call(asked()));
}
