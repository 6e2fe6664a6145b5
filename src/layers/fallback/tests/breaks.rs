//! Tests of an answer that breaks: its failure, a restart, or another tier before any of it was read.

use super::*;

/// A leaf that streams two texts and then breaks.
fn breaking() -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync
{
    provider_fn(|_| async {
        let frames = [Ok(Frame::text("half an ")), Err(error(ErrorKind::StreamBroken))];
        Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(stream::iter(frames))))
    })
}

/// A leaf that streams a whole answer.
fn streaming(
    text: &'static str,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync {
    provider_fn(move |_| async move {
        let end = vec![StreamEvent::Finish(FinishReason::Stop), StreamEvent::End];
        let frames = [Ok(Frame::text(text)), Ok(Frame::events_of(end))];
        Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(stream::iter(frames))))
    })
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_fails_by_default() {
    let llm = FallbackLayer::new("a").tier("b", streaming("whole")).layer(breaking());
    let mut response = llm.oneshot(prompt()).await.unwrap();
    assert!(response.body_mut().frame().await.unwrap().is_ok());
    let broken = response.body_mut().frame().await.unwrap().unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::StreamBroken);
    assert!(response.body_mut().frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_restarts_with_a_mark() {
    let layer = FallbackLayer::new("a").tier("b", breaking()).tier("c", streaming("whole"));
    let llm = layer.default_policy(FeaturePolicy::new().stream_break(StreamBreak::Restart)).layer(breaking());
    let mut response = llm.clone().oneshot(prompt()).await.unwrap();
    let mut seen = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        seen.extend(frame.unwrap().events().to_vec());
    }
    let restarted = StreamEvent::Restarted { reason: ErrorKind::StreamBroken };
    let text = |text: &str| StreamEvent::Text { index: 0, text: text.into() };
    let end = [StreamEvent::Finish(FinishReason::Stop), StreamEvent::End];
    let wanted = [text("half an "), restarted.clone(), text("half an "), restarted, text("whole")];
    assert_eq!(seen, wanted.into_iter().chain(end).collect::<Vec<_>>());

    let response = llm.oneshot(prompt()).await.unwrap();
    assert_eq!(response.text().await.unwrap(), "whole", "what came before the mark is discarded");
}

#[tokio::test(start_paused = true)]
async fn a_restart_with_nowhere_to_go_gives_the_error() {
    let layer = FallbackLayer::new("a")
        .tier("b", breaking())
        .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Restart));
    let error = layer.layer(breaking()).oneshot(prompt()).await.unwrap().text().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StreamBroken);
    assert_eq!(error.attempts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_buffered_answer_is_whole_or_comes_from_another_tier() {
    let layer = FallbackLayer::new("a")
        .tier("b", streaming("whole"))
        .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Buffer));
    let response = layer.layer(breaking()).oneshot(prompt()).await.unwrap();
    assert_eq!(tier_of(&response), "b");
    assert_eq!(response.text().await.unwrap(), "whole");
}

#[tokio::test(start_paused = true)]
async fn a_buffered_answer_that_breaks_is_told_with_what_failed_before_it_began() {
    let calls = Arc::new(AtomicUsize::new(0));
    let leaf = provider_fn(move |_| {
        let number = calls.fetch_add(1, Relaxed);
        async move {
            if number == 0 {
                return Err(error(ErrorKind::Server));
            }
            // The first words, and then nothing.
            let frames = stream::iter([Ok(Frame::text("half an "))]).chain(stream::pending());
            Ok(LlmResponse::new(LlmBody::from_frames(frames)).with_model("provider", "model"))
        }
    });
    let tier = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new())
        .layer(TimeoutLayer::new(Duration::from_secs(30)).idle(Duration::from_secs(1)))
        .service(leaf);
    let layer = FallbackLayer::new("a")
        .tier("b", streaming("whole"))
        .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Buffer));
    let response = layer.layer(tier).oneshot(prompt()).await.unwrap();
    let [first, second] = response.attempts() else { panic!("{:?}", response.attempts()) };
    assert_eq!((first.failure, second.failure), (Some(ErrorKind::Server), Some(ErrorKind::Timeout)));
    let Next::Retried { after } = first.next else { panic!("{first:?}") };
    assert_eq!((second.begun, second.next), (first.begun + first.took + after, Next::FailedOver));
    assert_eq!((second.provider.as_deref(), second.took.as_secs()), (Some("provider"), 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_tried_before_a_buffered_answer_broke_stays_on_record_and_is_spent() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    // Fails, then breaks off, then falls silent in the middle, and so on.
    let flaky = provider_fn(move |_| {
        let call = seen.fetch_add(1, Relaxed);
        async move {
            let frames = stream::iter([Ok(Frame::text("half an "))]);
            match call % 4 {
                1 => Ok(LlmResponse::new(LlmBody::from_frames(
                    frames.chain(stream::iter([Err(error(ErrorKind::StreamBroken))])),
                ))),
                3 => Ok(LlmResponse::new(LlmBody::from_frames(frames.chain(stream::pending())))),
                _ => Err(error(ErrorKind::Server)),
            }
        }
    });
    let retried = || RetryWithJitterLayer::new().seed(1).layer(flaky.clone());
    let layer = FallbackLayer::new("a")
        .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Buffer))
        .tier("b", retried());
    let llm = TimeoutLayer::new(Duration::from_secs(40)).layer(layer.layer(retried()));
    let failed = llm.clone().oneshot(prompt().with_stream(true)).await.unwrap_err();
    let record: Vec<_> = failed.attempts().iter().map(|step| (step.tier.as_deref(), step.failure)).collect();
    let (server, a, b) = (Some(ErrorKind::Server), Some("a"), Some("b"));
    let (broken, silent) = (Some(ErrorKind::StreamBroken), Some(ErrorKind::Timeout));
    assert_eq!(record, [(a, server), (a, broken), (b, server), (b, silent)]);

    calls.store(0, Relaxed);
    let failed = llm.oneshot(prompt().with_stream(true).with_max_attempts(2)).await.unwrap_err();
    assert_eq!((failed.attempts().len(), calls.load(Relaxed)), (2, 2), "they count against the request's attempts");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_broke_after_a_retry_began_when_the_retry_did() {
    for on_break in [StreamBreak::Restart, StreamBreak::Buffer] {
        let calls = Arc::new(AtomicUsize::new(0));
        let leaf = provider_fn(move |_| {
            let first = calls.fetch_add(1, Relaxed) == 0;
            async move {
                if first {
                    return Err(error(ErrorKind::Server));
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                let frames = [Ok(Frame::text("half an ")), Err(error(ErrorKind::StreamBroken))];
                Ok(LlmResponse::new(LlmBody::from_frames(stream::iter(frames))))
            }
        });
        let retried = RetryWithJitterLayer::new().seed(1).layer(leaf);
        let layer = FallbackLayer::new("a").tier("b", Strict::new().fails(1, error(ErrorKind::Server)));
        let llm = layer.default_policy(FeaturePolicy::new().stream_break(on_break)).layer(retried);
        let broken = match llm.oneshot(prompt()).await {
            Ok(response) => response.text().await.unwrap_err(),
            Err(error) => error,
        };
        let [failed, broke, _] = broken.attempts() else { panic!("{on_break:?}: {:?}", broken.attempts()) };
        let Next::Retried { after } = failed.next else { panic!("{failed:?}") };
        assert_eq!(broke.failure, Some(ErrorKind::StreamBroken));
        assert_eq!(broke.begun, failed.begun + failed.took + after, "{on_break:?}");
    }
}
