//! An old answer is better than none.

use std::time::Duration;

use steadfast::{CacheLayer, CacheReason, Degradation, DegradedReason, ErrorKind, LlmRequest, TimeoutLayer};
use tokio::time::{Instant, advance};
use tower::{Layer, ServiceBuilder};

use crate::cache::provider::{Provider, call, text};

const SECOND: Duration = Duration::from_secs(1);

fn ask() -> LlmRequest {
    LlmRequest::prompt("hello")
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_is_given_while_there_is_no_other_and_says_so() {
    let provider = Provider::new();
    let layer = CacheLayer::new().ttl(SECOND * 60).stale_for(SECOND * 600);
    let llm = layer.layer(provider.service());
    text(&llm, ask()).await;
    advance(SECOND * 100).await;

    provider.is_down(Some(ErrorKind::CircuitOpen));
    let stale = call(&llm, ask()).await.unwrap();
    assert_eq!(stale.degraded(), Some(Degradation::new(4, DegradedReason::Failure(ErrorKind::CircuitOpen))));
    let cached = stale.cached().unwrap();
    assert_eq!((cached.reason, cached.age), (CacheReason::Stale, SECOND * 100));
    assert_eq!(stale.notes(), ["cache: a kept answer, 100 s old (level 4, cached only)"]);
    assert_eq!(stale.text().await.unwrap(), "answer 1");
    assert_eq!(layer.handle().stats().stale, 1);

    provider.is_down(None);
    assert_eq!(text(&llm, ask()).await, "answer 3", "it was only given in place of one");
    provider.is_down(Some(ErrorKind::Server));
    advance(SECOND * 661).await;
    assert_eq!(call(&llm, ask()).await.unwrap_err().kind(), ErrorKind::Server, "too old for that too");
}

#[tokio::test(start_paused = true)]
async fn a_mistake_of_the_caller_stays_an_error() {
    for kind in [ErrorKind::InvalidRequest, ErrorKind::ContextLength, ErrorKind::ContentPolicy, ErrorKind::Refusal] {
        let provider = Provider::new();
        let llm = CacheLayer::new().ttl(SECOND).layer(provider.service());
        text(&llm, ask()).await;
        advance(SECOND).await;
        provider.is_down(Some(kind));
        assert_eq!(call(&llm, ask()).await.unwrap_err().kind(), kind);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_wants_no_such_answer_gets_the_error() {
    let provider = Provider::new();
    let llm = CacheLayer::new().ttl(SECOND).layer(provider.service());
    text(&llm, ask()).await;
    advance(SECOND).await;
    provider.is_down(Some(ErrorKind::Server));
    for level in 1..4 {
        assert_eq!(call(&llm, ask().with_worst_level(level)).await.unwrap_err().kind(), ErrorKind::Server);
    }
    assert_eq!(text(&llm, ask().with_worst_level(4)).await, "answer 1");
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_is_given_when_the_time_is_over_too() {
    let provider = Provider::new();
    let layer = CacheLayer::new().ttl(SECOND);
    text(&layer.layer(provider.service()), ask()).await;
    advance(SECOND).await;
    let hangs = Provider::new().takes(SECOND * 3600);
    let stack = ServiceBuilder::new().layer(TimeoutLayer::new(SECOND * 30)).layer(layer).service(hangs.service());
    let begun = Instant::now();
    let response = call(&stack, ask()).await.unwrap();
    assert_eq!((response.cached().unwrap().reason, begun.elapsed()), (CacheReason::Stale, SECOND * 30));
    assert_eq!(hangs.running(), 0, "the call was dropped");
    let error = call(&stack, LlmRequest::prompt("another")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_zero_keeps_answers_for_outages_only() {
    let provider = Provider::new();
    let llm = CacheLayer::new().ttl(Duration::ZERO).layer(provider.service());
    assert_eq!((text(&llm, ask()).await, text(&llm, ask()).await), ("answer 1".into(), "answer 2".into()));
    provider.is_down(Some(ErrorKind::Overloaded));
    assert_eq!(text(&llm, ask()).await, "answer 2");
}
