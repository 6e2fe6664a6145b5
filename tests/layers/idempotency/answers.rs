//! The answers that a repeat gets, and the requests that are refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::UNIX_EPOCH,
};

use steadfast::{
    BudgetLayer, CacheReason, Degradation, DegradedReason, ErrorKind, Event, Events, IdempotencyLayer, LlmError,
    LlmRequest, LlmResponse, ObserveLayer,
    chat::FinishReason,
    layers::{
        budget::{BudgetKey, Cap, Period},
        cache::Tenant,
    },
    prices::{PriceTable, Usd},
    provider_fn,
};
use tokio::time::advance;
use tower::{Layer, ServiceBuilder};

use crate::{
    cache::provider::{Provider, call, frames, text},
    idempotency::{SECOND, ask, stream},
};

#[tokio::test(start_paused = true)]
async fn a_repeat_gets_the_answer_that_was_made_and_says_so() {
    let provider = Provider::new().finish(FinishReason::Length);
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    let first = call(&llm, ask()).await.unwrap();
    assert!(first.cached().is_none() && first.notes().is_empty() && first.cost().unwrap() > Usd::ZERO);
    assert_eq!(first.request_id(), Some("req_1"));
    let wire = first.body().wire().map(|(_, raw)| raw.clone());
    advance(90 * SECOND).await;
    let again = call(&llm, ask()).await.unwrap();
    let cached = again.cached().unwrap();
    assert_eq!((cached.reason, cached.age), (CacheReason::Replayed, 90 * SECOND));
    assert_eq!((again.served_by().provider, again.served_by().model), (Some("replayed"), Some("gpt-4o")));
    assert!(again.notes()[0].starts_with("replayed: "), "{:?}", again.notes());
    assert_eq!((again.cost(), again.body().wire().map(|(_, raw)| raw.clone())), (Some(Usd::ZERO), wire));
    assert_eq!(again.text().await.unwrap(), "answer 1");
    assert_eq!(provider.calls(), 1);
    let stats = layer.handle().stats();
    assert_eq!((stats.calls, stats.replayed, stats.kept, stats.late), (1, 1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_what_was_handed_to_people_has_the_id_of_its_task() {
    for pending in [true, false] {
        let leaf = provider_fn(move |_| async move {
            tokio::time::sleep(SECOND).await;
            let response = LlmResponse::from_text("a person will see to it").with_task_id("task_7");
            Ok::<_, LlmError>(match pending {
                true => response.with_degraded(Degradation::new(5, DegradedReason::RequiresHuman)),
                false => response,
            })
        });
        let llm = IdempotencyLayer::new().layer(leaf);
        let (first, meanwhile) = tokio::join!(call(&llm, ask()), call(&llm, ask()));
        let later = call(&llm, ask()).await.unwrap();
        for response in [first.unwrap(), meanwhile.unwrap(), later] {
            assert_eq!(response.task_id(), Some("task_7"), "pending {pending}: {:?}", response.cached());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_key_pass_by() {
    let provider = Provider::new();
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    for request in
        [LlmRequest::prompt("hello"), LlmRequest::prompt("hello"), LlmRequest::prompt("a").with_idempotency_key("")]
    {
        assert!(call(&llm, request).await.unwrap().cached().is_none());
    }
    assert_eq!((provider.calls(), layer.handle().stats().calls), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_at_once_make_one_call() {
    let provider = Provider::new().takes(5 * SECOND);
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    let tasks: Vec<_> = (0..1000)
        .map(|number| {
            let llm = llm.clone();
            tokio::spawn(async move { text(&llm, ask().with_stream(number % 2 == 0)).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers.dedup();
    assert_eq!((answers.len(), provider.calls()), (1, 1));
    assert_eq!((layer.handle().stats().shared, layer.handle().under_way()), (999, 0));
}

#[tokio::test(start_paused = true)]
async fn the_same_key_with_something_else_is_refused_without_the_prompt() {
    let provider = Provider::new().takes(SECOND);
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    let other = || LlmRequest::prompt("a secret plan").with_idempotency_key("k-1");
    // The same key with another request, while the first is under way, and after its answer.
    let (first, refused) = tokio::join!(call(&llm, ask()), call(&llm, other()));
    assert!(first.is_ok());
    for error in [refused.unwrap_err(), call(&llm, other()).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::IdempotencyConflict);
        let words = format!("{error} {error:?}");
        assert!(words.contains("idempotency key") && !words.contains("secret") && !words.contains("hello"), "{words}");
    }
    let feature = call(&llm, ask().with_feature("chat")).await.unwrap_err();
    assert_eq!((feature.kind(), provider.calls()), (ErrorKind::IdempotencyConflict, 1));
    assert_eq!(layer.handle().stats().conflicts, 3);
}

#[tokio::test(start_paused = true)]
async fn another_tenants_same_key_never_meets() {
    let provider = Provider::new();
    let llm = IdempotencyLayer::new().layer(provider.service());
    let asks = [ask(), ask().with_extension(Tenant::new("a")), ask().with_extension(BudgetKey("b".into()))];
    for (number, request) in asks.iter().enumerate() {
        assert_eq!(text(&llm, request.clone()).await, format!("answer {}", number + 1));
    }
    let other = LlmRequest::prompt("something else").with_idempotency_key("k-1").with_extension(Tenant::new("c"));
    assert_eq!(text(&llm, other).await, "answer 4");
    assert_eq!(text(&llm, asks[1].clone()).await, "answer 2");
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_cost_is_counted_once() {
    let provider = Provider::new().pace(SECOND);
    let events = Events::new();
    let mut heard = events.subscribe();
    let cap = Cap::new("day", Usd::from_dollars(10.0).unwrap(), Period::Day);
    let budget = BudgetLayer::new(PriceTable::builtin()).cap(cap).starting_at(UNIX_EPOCH);
    let caps = budget.handle();
    let llm = ServiceBuilder::new()
        .layer(ObserveLayer::new(events))
        .layer(IdempotencyLayer::new())
        .layer(budget)
        .service(provider.service());
    let first = call(&llm, stream()).await.unwrap();
    let second = call(&llm, stream()).await.unwrap();
    tokio::join!(frames(first), frames(second));
    text(&llm, ask()).await;
    text(&llm, stream()).await;
    let told: Vec<_> = std::iter::from_fn(|| heard.try_recv().ok())
        .filter_map(|event| match event {
            Event::RequestEnded(ended) => Some((ended.usage.is_some(), ended.cost.unwrap_or_default())),
            _ => None,
        })
        .collect();
    assert_eq!((told.len(), told.iter().filter(|(used, _)| *used).count()), (4, 1), "{told:?}");
    let cost = told.iter().map(|(_, cost)| *cost).max().unwrap();
    assert_eq!((caps.spent("day"), caps.reserved("day")), (cost, Usd::ZERO));
    assert!(cost > Usd::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_kept_for_nobody_and_told_to_all_who_wait() {
    let provider = Provider::new().takes(SECOND);
    provider.fails(ErrorKind::Overloaded);
    let layer = IdempotencyLayer::new();
    let llm = layer.layer(provider.service());
    let (first, second) = tokio::join!(call(&llm, ask()), call(&llm, ask()));
    assert_eq!(first.unwrap_err().kind(), ErrorKind::Overloaded);
    let second = second.unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Overloaded);
    // The attempts of the one call are counted once.
    assert!(second.attempts().len() == 1 && second.attempts()[0].is_local(), "{:?}", second.attempts());
    assert_eq!(text(&llm, ask()).await, "answer 2");
    // Not even the refused input holds the key.
    provider.fails(ErrorKind::InvalidRequest);
    let other = |words: &str| LlmRequest::prompt(words).with_idempotency_key("k-2");
    assert!(call(&llm, other("wrong")).await.is_err());
    assert_eq!(text(&llm, other("mended")).await, "answer 4");
}

#[tokio::test(start_paused = true)]
async fn a_degraded_answer_is_not_in_the_way_of_a_retry() {
    let down = Arc::new(AtomicBool::new(true));
    let leaf = provider_fn({
        let down = down.clone();
        move |_| {
            let down = down.load(SeqCst);
            async move {
                Ok::<_, LlmError>(match down {
                    true => LlmResponse::from_text("Please try again in a minute.")
                        .with_degraded(Degradation::new(5, DegradedReason::Order)),
                    false => LlmResponse::from_text("It rains."),
                })
            }
        }
    });
    let llm = IdempotencyLayer::new().layer(leaf);
    assert!(text(&llm, ask()).await.starts_with("Please"));
    down.store(false, SeqCst);
    assert_eq!(text(&llm, ask()).await, "It rains.");
}

#[tokio::test(start_paused = true)]
async fn a_derived_key_is_what_is_asked() {
    let provider = Provider::new();
    let llm = IdempotencyLayer::new().derive(true).layer(provider.service());
    let asks = |words: &str, feature: &'static str| LlmRequest::prompt(words).with_feature(feature);
    assert_eq!(text(&llm, asks("hello", "chat")).await, "answer 1");
    assert_eq!(text(&llm, asks("hello", "chat")).await, "answer 1");
    assert_eq!(text(&llm, asks("hello", "summary")).await, "answer 2");
    assert_eq!(text(&llm, asks("hello!", "chat")).await, "answer 3");
}
