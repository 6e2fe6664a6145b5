//! The answers that the cache keeps, and for how long.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use steadfast::{
    CacheHandle, CacheLayer, CacheReason, Degradation, DegradedReason, ErrorKind, Event, Events, LlmRequest,
    LlmResponse, ObserveLayer,
    chat::{FinishReason, Message, Part},
    layers::cache::{Answer, AnswerStore, CacheControl, CacheKey, StoreLookup},
    prices::Usd,
    provider_fn,
    providers::CachedAnswers,
};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, ServiceBuilder};

use crate::cache::provider::{Provider, call, text};

fn ask() -> LlmRequest {
    LlmRequest::prompt("What is a closure?")
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_same_question_is_answered_from_memory_until_its_time_is_over() {
    let provider = Provider::new();
    let layer = CacheLayer::new().ttl(SECOND * 60);
    let llm = layer.layer(provider.service());
    assert_eq!(text(&llm, ask()).await, "answer 1");
    advance(SECOND * 59).await;

    let again = call(&llm, ask()).await.unwrap();
    let cached = again.cached().unwrap();
    assert_eq!((cached.reason, cached.age), (CacheReason::Fresh, SECOND * 59));
    assert_eq!(again.served_by().to_string(), "cached (gpt-4o, 1 attempt)");
    assert_eq!((again.cost(), again.degraded(), again.request_id()), (Some(Usd::ZERO), None, None));
    assert_eq!(again.body().wire().unwrap().1, "{\"answer\":1}", "the provider's own bytes");
    assert_eq!(again.text().await.unwrap(), "answer 1");

    advance(SECOND).await;
    assert_eq!(text(&llm, ask()).await, "answer 2");
    assert_eq!(text(&llm, ask()).await, "answer 2");
    let stats = layer.handle().stats();
    assert_eq!((stats.hits, stats.misses, stats.kept, provider.calls()), (2, 2, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn the_cache_does_not_keep_a_persons_answer() {
    let person = provider_fn(|_| async {
        Ok::<_, steadfast::LlmError>(LlmResponse::from_text("I have looked into your account.").with_task_id("task_1"))
    });
    let layer = CacheLayer::new();
    let llm = layer.layer(person);
    for _ in 0..2 {
        let answer = call(&llm, ask()).await.unwrap();
        assert_eq!((answer.task_id(), answer.cached()), (Some("task_1"), None));
    }
    assert_eq!(layer.handle().stats().kept, 0);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_in_bytes() {
    let provider = Provider::new();
    let handle = CacheHandle::new(64 * 1024);
    let llm = CacheLayer::over(&handle).layer(provider.service());
    for number in 0..2000 {
        text(&llm, LlmRequest::prompt(format!("question {number}"))).await;
        assert!(handle.bytes() <= 64 * 1024, "{handle:?}");
    }
    assert!(handle.len() > 20 && handle.len() < 1000, "{handle:?}");
    handle.clear();
    assert_eq!((handle.len(), handle.bytes(), handle.is_empty()), (0, 0, true));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_goes_through_and_is_not_kept() {
    let provider = Provider::new().frames(2000);
    let layer = CacheLayer::new().max_answer(4096);
    let llm = layer.layer(provider.service());
    for call in 1..3 {
        let said = text(&llm, ask().with_stream(true)).await;
        assert!(said.ends_with(&format!("1999 of {call}")), "{said}");
    }
    assert_eq!(layer.handle().len(), 0);

    let large = provider_fn(|_| async { Ok::<_, steadfast::LlmError>(LlmResponse::from_text("x".repeat(5000))) });
    assert_eq!(text(&layer.layer(large), ask()).await.len(), 5000);
    assert_eq!(layer.handle().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_whole_answer_is_not_kept() {
    for finish in [
        FinishReason::Length,
        FinishReason::Filtered,
        FinishReason::Refusal,
        FinishReason::Paused,
        FinishReason::ContextFull,
    ] {
        for stream in [false, true] {
            let provider = Provider::new().finish(finish.clone());
            let llm = CacheLayer::new().layer(provider.service());
            text(&llm, ask().with_stream(stream)).await;
            text(&llm, ask().with_stream(stream)).await;
            assert_eq!(provider.calls(), 2, "{finish:?} {stream}");
        }
    }
    let mut declined = Message::assistant("");
    declined.content = vec![Part::Refusal("I would rather not.".into())];
    let layer = CacheLayer::new();
    let answers = [
        LlmResponse::from_message(declined),
        LlmResponse::from_text("later").with_degraded(Degradation::new(5, DegradedReason::Order)),
        LlmResponse::from_text(""),
    ];
    for answer in answers {
        let message = answer.body().message().unwrap().into_owned();
        let degraded = answer.degraded();
        let leaf = provider_fn(move |_| {
            let response = LlmResponse::from_message(message.clone());
            std::future::ready(Ok::<_, steadfast::LlmError>(match degraded {
                Some(degraded) => response.with_degraded(degraded),
                None => response,
            }))
        })
        .inner_commits();
        call(&layer.layer(leaf), ask()).await.unwrap();
        assert_eq!(layer.handle().len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tools_call_is_kept_like_any_other_answer() {
    let provider = Provider::new().finish(FinishReason::ToolUse);
    let llm = CacheLayer::new().layer(provider.service());
    assert_eq!((text(&llm, ask()).await, text(&llm, ask()).await), ("answer 1".into(), "answer 1".into()));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_not_kept() {
    let provider = Provider::new();
    provider.fails(ErrorKind::Server);
    let llm = CacheLayer::new().layer(provider.service());
    assert_eq!(call(&llm, ask()).await.unwrap_err().kind(), ErrorKind::Server);
    assert_eq!(text(&llm, ask()).await, "answer 2");
    let broken = Provider::new().breaks();
    let llm = CacheLayer::new().layer(broken.service());
    for _ in 0..2 {
        let response = call(&llm, ask().with_stream(true)).await.unwrap();
        assert_eq!(response.text().await.unwrap_err().kind(), ErrorKind::StreamBroken);
    }
    assert_eq!(broken.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_can_ask_for_a_new_answer_or_for_nothing_to_be_kept() {
    let provider = Provider::new();
    let llm = CacheLayer::new().layer(provider.service());
    assert_eq!(text(&llm, ask().with_extension(CacheControl::NoStore)).await, "answer 1");
    assert_eq!(text(&llm, ask()).await, "answer 2");
    assert_eq!(text(&llm, ask().with_extension(CacheControl::NoStore)).await, "answer 3");
    assert_eq!(text(&llm, ask().with_extension(CacheControl::NoCache)).await, "answer 4");
    assert_eq!(text(&llm, ask()).await, "answer 4", "the new one took the old one's place");
}

#[tokio::test(start_paused = true)]
async fn one_features_answers_can_be_forgotten() {
    let provider = Provider::new();
    let layer = CacheLayer::new();
    let llm = layer.layer(provider.service());
    for feature in ["chat", "summary"] {
        text(&llm, ask().with_feature(feature)).await;
    }
    layer.handle().invalidate("chat");
    assert_eq!(layer.handle().len(), 1);
    assert_eq!(text(&llm, ask().with_feature("chat")).await, "answer 3");
    assert_eq!(text(&llm, ask().with_feature("summary")).await, "answer 2");
}

#[tokio::test(start_paused = true)]
async fn layers_over_one_handle_answer_from_each_others() {
    let (provider, handle) = (Provider::new(), CacheHandle::default());
    let (one, two) = (CacheLayer::over(&handle), CacheLayer::over(&handle));
    assert_eq!(text(&one.layer(provider.service()), ask()).await, "answer 1");
    assert_eq!(text(&two.layer(provider.service()), ask()).await, "answer 1");
}

#[tokio::test(start_paused = true)]
async fn the_event_of_a_kept_answer_has_no_tokens_and_no_cost() {
    for stream in [false, true] {
        let (provider, events) = (Provider::new(), Events::new());
        let mut heard = events.subscribe();
        let llm =
            ServiceBuilder::new().layer(ObserveLayer::new(events)).layer(CacheLayer::new()).service(provider.service());
        for (provider, tokens) in [("openai", Some(20)), ("cached", None)] {
            text(&llm, ask().with_stream(stream)).await;
            let Ok(Event::RequestEnded(told)) = heard.try_recv() else { panic!("nothing was told") };
            assert_eq!(told.provider.as_deref(), Some(provider));
            assert_eq!((told.usage.map(|usage| usage.total()), told.cost.is_some()), (tokens, tokens.is_some()));
        }
    }
}

/// Answers in a store of its own, which takes its time.
#[derive(Clone, Default)]
struct FarAway(Arc<Mutex<HashMap<CacheKey, Arc<Answer>>>>);

impl AnswerStore for FarAway {
    fn get(&self, key: &CacheKey) -> StoreLookup {
        let (store, key) = (self.clone(), *key);
        StoreLookup::Pending(Box::pin(async move {
            sleep(SECOND).await;
            store.0.lock().unwrap().get(&key).cloned()
        }))
    }

    fn put(&self, key: CacheKey, answer: Arc<Answer>) {
        self.0.lock().unwrap().insert(key, answer);
    }

    fn retain(&self, stays: &dyn Fn(&Answer) -> bool) {
        self.0.lock().unwrap().retain(|_, answer| stays(answer));
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn bytes(&self) -> u64 {
        0
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_of_your_own_may_be_far_away() {
    let provider = Provider::new().takes(SECOND * 5);
    let layer = CacheLayer::over(&CacheHandle::over(FarAway::default())).ttl(SECOND * 60);
    let llm = layer.layer(provider.service());
    let begun = Instant::now();
    let (one, two) = tokio::join!(text(&llm, ask()), text(&llm, ask()));
    assert_eq!((one.as_str(), two.as_str(), begun.elapsed()), ("answer 1", "answer 1", SECOND * 6));
    assert_eq!(text(&llm, ask()).await, "answer 1");
    assert_eq!(begun.elapsed(), SECOND * 7);

    advance(SECOND * 60).await;
    provider.is_down(Some(ErrorKind::Server));
    assert_eq!(call(&llm, ask()).await.unwrap().cached().unwrap().reason, CacheReason::Stale);
    assert_eq!(text(&CachedAnswers::new(&layer), ask()).await, "answer 1");
    let mut left = tokio_test::task::spawn(call(&llm, LlmRequest::prompt("another")));
    assert!(left.poll().is_pending());
    drop(left);
    assert_eq!(provider.running(), 0);
}
