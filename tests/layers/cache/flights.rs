//! Of all who ask the same at the same time, one calls.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use steadfast::{
    BudgetLayer, BulkheadLayer, CacheLayer, CacheReason, ErrorKind, LlmRequest, RetryWithJitterLayer, TimeoutLayer,
    layers::{
        budget::{BudgetKey, Cap, Period},
        bulkhead::{CallerBulkheadLayer, CallerLimits, Limits},
        cache::Tenant,
    },
    prices::{PriceTable, Usd},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_test::task;
use tower::{Layer, Service, ServiceBuilder};

use crate::cache::provider::{Provider, call, text};

const SECOND: Duration = Duration::from_secs(1);

fn ask() -> LlmRequest {
    LlmRequest::prompt("hello")
}

#[tokio::test(start_paused = true)]
async fn a_thousand_who_ask_the_same_cost_one_call() {
    for stream in [false, true] {
        let provider = Provider::new().takes(SECOND).pace(SECOND);
        let layer = CacheLayer::new();
        let llm = layer.layer(provider.service());
        let tasks = (0..1000).map(|_| {
            let llm = llm.clone();
            tokio::spawn(async move { text(&llm, ask().with_stream(stream)).await })
        });
        let said: BTreeSet<String> =
            join_all(tasks.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();
        assert_eq!((said.len(), provider.calls()), (1, 1), "{said:?}");
        let stats = layer.handle().stats();
        assert_eq!((stats.misses, stats.shared + stats.hits), (1, 999));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_on_many_threads_cost_one_call_each_round() {
    let provider = Provider::new();
    let llm = CacheLayer::new().layer(provider.service());
    for round in 0..20 {
        let tasks = (0..200).map(|number| {
            let llm = llm.clone();
            let request = LlmRequest::prompt(format!("round {round}")).with_stream(number % 2 == 0);
            tokio::spawn(async move { text(&llm, request).await })
        });
        join_all(tasks.collect::<Vec<_>>()).await.into_iter().for_each(|said| drop(said.unwrap()));
        assert_eq!(provider.calls(), round + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn different_questions_do_not_wait_for_each_other() {
    let provider = Provider::new().takes(SECOND);
    let llm = CacheLayer::new().layer(provider.service());
    let begun = Instant::now();
    join_all((0..10).map(|number| text(&llm, LlmRequest::prompt(number.to_string())))).await;
    assert_eq!((provider.calls(), begun.elapsed()), (10, SECOND));
}

#[tokio::test(start_paused = true)]
async fn when_the_one_who_calls_leaves_the_next_takes_over_whenever_that_is() {
    for stream in [false, true] {
        // The leader leaves at its nth poll, for every n: before its call, in it, in its stream.
        for polls in 1..12 {
            let provider = Provider::new().takes(SECOND).pace(SECOND);
            let layer = CacheLayer::new();
            let llm = layer.layer(provider.service());
            let leader = llm.clone();
            let mut leader = task::spawn(async move { text(&leader, ask().with_stream(stream)).await });
            for _ in 0..polls {
                if leader.poll().is_ready() {
                    break;
                }
                sleep(SECOND / 2).await;
            }
            let followers: Vec<_> = (0..20)
                .map(|_| {
                    let llm = llm.clone();
                    tokio::spawn(async move { text(&llm, ask().with_stream(stream)).await })
                })
                .collect();
            tokio::task::yield_now().await;
            drop(leader);
            let said = timeout(SECOND * 60, join_all(followers)).await.expect("nobody is lost");
            let said: BTreeSet<String> = said.into_iter().map(Result::unwrap).collect();
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(provider.calls() <= 2, "{} calls, left after {polls} polls", provider.calls());
            assert_eq!(provider.running(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_leaves_disturbs_neither_the_leader_nor_other_followers() {
    let provider = Provider::new().takes(SECOND);
    let layer = CacheLayer::new();
    let llm = layer.layer(provider.service());
    let mut leader = task::spawn(text(&llm, ask()));
    assert!(leader.poll().is_pending());
    for _ in 0..100 {
        let mut follower = task::spawn(text(&llm, ask()));
        assert!(follower.poll().is_pending());
    }
    let mut stays = task::spawn(text(&llm, ask()));
    assert!(stays.poll().is_pending());
    sleep(SECOND).await;
    assert!(leader.is_woken() && leader.poll().is_ready());
    assert!(stays.is_woken() && stays.poll().is_ready());
    assert_eq!(provider.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_all_callers_leave_the_next_request_makes_a_new_call() {
    let provider = Provider::new().takes(SECOND);
    let llm = CacheLayer::new().layer(provider.service());
    let mut leader = task::spawn(text(&llm, ask()));
    let mut follower = task::spawn(text(&llm, ask()));
    assert!(leader.poll().is_pending() && follower.poll().is_pending());
    drop(leader);
    assert!(follower.is_woken());
    drop(follower);
    assert_eq!(provider.running(), 0);
    assert_eq!(text(&llm, ask()).await, "answer 2");
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_shared_call_reaches_every_caller() {
    let provider = Provider::new().takes(SECOND);
    provider.fails(ErrorKind::Overloaded);
    let llm = CacheLayer::new().layer(provider.service());
    let ended = join_all((0..100).map(|_| call(&llm, ask()))).await;
    assert!(ended.iter().all(|ended| ended.as_ref().is_err_and(|error| error.kind() == ErrorKind::Overloaded)));
    assert_eq!(provider.calls(), 1, "a provider that fails is not asked a hundred times");
    assert_eq!(text(&llm, ask()).await, "answer 2");
}

#[tokio::test(start_paused = true)]
async fn retries_around_the_cache_share_the_next_call() {
    let provider = Provider::new().takes(SECOND);
    provider.fails(ErrorKind::Server);
    let cache = CacheLayer::new();
    let llm = ServiceBuilder::new().layer(RetryWithJitterLayer::new()).layer(cache).service(provider.service());
    let said = join_all((0..5).map(|_| text(&llm, ask()))).await;
    assert!(said.iter().all(|said| said == "answer 2"), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn each_caller_of_a_shared_call_keeps_its_own_deadline() {
    let provider = Provider::new().takes(SECOND * 10);
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(SECOND * 60))
        .layer(CacheLayer::new())
        .service(provider.service());
    let hurried = call(&stack, ask().with_timeout(SECOND));
    let follower = text(&stack, ask());
    let impatient = call(&stack, ask().with_timeout(SECOND * 2));
    let begun = Instant::now();
    let (hurried, said, impatient) = tokio::join!(hurried, follower, impatient);
    assert_eq!(hurried.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(impatient.unwrap_err().kind(), ErrorKind::Timeout);
    // Taken over by the one or the other who waits: whoever has the time for it in the end.
    assert!(["answer 2", "answer 3"].contains(&said.as_str()) && begun.elapsed() <= SECOND * 12, "{said}");

    // Without a layer that keeps the time, one who waits keeps it itself.
    let llm = CacheLayer::new().layer(provider.service());
    let (_, late) = tokio::join!(call(&llm, LlmRequest::prompt("b")), async {
        let begun = Instant::now();
        let error = call(&llm, LlmRequest::prompt("b").with_timeout(SECOND * 3)).await.unwrap_err();
        (error.kind(), begun.elapsed())
    });
    assert_eq!(late, (ErrorKind::Timeout, SECOND * 3));
}

#[tokio::test(start_paused = true)]
async fn requests_with_different_limits_do_not_share_a_call() {
    let provider = Provider::new().takes(SECOND);
    let llm = CacheLayer::new().layer(provider.service());
    let requests = [ask(), ask().no_fallback(), ask().with_worst_level(1), ask().with_max_attempts(1)];
    join_all(requests.map(|request| text(&llm, request))).await;
    assert_eq!(provider.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn one_sessions_failure_is_not_anothers() {
    let provider = Provider::new().takes(SECOND);
    provider.fails(ErrorKind::Server);
    let llm = CacheLayer::new().layer(provider.service());
    let (pinned, free) = tokio::join!(call(&llm, ask().with_session("s")), text(&llm, ask()));
    assert_eq!((pinned.unwrap_err().kind(), free.as_str()), (ErrorKind::Server, "answer 2"));
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_who_asked_first_are_nobody_elses() {
    let limits = || Limits::new(1).queue(5).max_wait(SECOND);
    let own = CallerLimits::new(BulkheadLayer::new().default_limit(limits()));
    let asks = || ask().with_extension(Tenant::new("one"));
    let causes = [
        ("the caller's places", ErrorKind::BulkheadFull, asks().with_extension(own.clone())),
        ("the feature's places", ErrorKind::BulkheadFull, asks().with_feature("batch")),
        ("the key's cap", ErrorKind::Budget, asks().with_extension(BudgetKey::new("poor"))),
    ];
    for (cause, kind, first) in causes {
        let provider = Provider::new().takes(SECOND * 5);
        let cap = Cap::new("cap", Usd::ZERO, Period::Day).key("poor");
        let budget = BudgetLayer::new(PriceTable::builtin()).model(Some("openai"), "gpt-4o").cap(cap);
        let stack = ServiceBuilder::new()
            .layer(CacheLayer::new().ignore_feature())
            .layer(CallerBulkheadLayer::new())
            .layer(budget)
            .layer(BulkheadLayer::new().feature("batch", limits()).default_limit(10))
            .service(provider.service());
        // It takes the places of the one who asks first.
        let mut other =
            task::spawn(call(&stack, LlmRequest::prompt("b").with_feature("batch").with_extension(own.clone())));
        assert!(other.poll().is_pending());
        // All ask before the first is refused.
        let calls = std::iter::once(first).chain(std::iter::repeat_with(asks).take(10));
        let ended = join_all(calls.map(|request| stack.clone().call(request)).collect::<Vec<_>>()).await;
        assert_eq!(ended[0].as_ref().unwrap_err().kind(), kind, "{cause}");
        assert!(ended[1..].iter().all(Result::is_ok), "{cause}: {ended:?}");
        assert_eq!(provider.calls(), 2, "{cause}: the others share one call");
    }
}

#[tokio::test(start_paused = true)]
async fn sharing_can_be_switched_off() {
    let provider = Provider::new().takes(SECOND);
    let llm = CacheLayer::new().single_flight(false).layer(provider.service());
    join_all((0..5).map(|_| text(&llm, ask()))).await;
    assert_eq!(provider.calls(), 5);
    assert_eq!(call(&llm, ask()).await.unwrap().cached().unwrap().reason, CacheReason::Fresh);
}
