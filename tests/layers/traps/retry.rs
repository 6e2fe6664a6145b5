//! Retries, their budget, and the request's time, in stacks.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, CommitOnFirstTokenLayer, CommitPoint, ErrorKind, FallbackLayer, LlmRequest,
    LlmResponse, RetryBudget, RetryWithJitterLayer, TimeoutLayer,
    layers::{
        bulkhead::Limits,
        retry::{Backoff, Jitter},
    },
    ledger::{Next, Stop},
    provider_fn,
    providers::{Canned, Simulated, simulated::Fault},
};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, task};
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::traps::fixtures::{Does, Fake, ask, breaks, distance_from_uniform, end, error, millis, secs, text};

/// Retries without end or limit.
fn endless() -> RetryWithJitterLayer {
    RetryWithJitterLayer::new().max_attempts(u16::MAX).budget(RetryBudget::unlimited()).seed(5)
}

/// The waits before the retry of so many requests that fail at the same moment.
async fn waits(layer: RetryWithJitterLayer, requests: usize, retries: u16) -> Vec<Duration> {
    let began = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now();
    let leaf = {
        let began = began.clone();
        provider_fn(move |request: LlmRequest| {
            began.lock().unwrap().push((request.context().attempts_made, start.elapsed()));
            async { Err::<LlmResponse, _>(error(ErrorKind::Server)) }
        })
    };
    let llm = BulkheadLayer::new().feature("chat", requests).layer(layer.max_attempts(retries + 1).layer(leaf));
    join_all((0..requests).map(|_| llm.clone().oneshot(ask()))).await;
    let began = began.lock().unwrap();
    began.iter().filter(|(made, _)| *made == retries).map(|(_, at)| *at).collect()
}

// 22. tower [R1-R3]: every request the same waits; none at all at a base of whole seconds; none at the cap.
#[tokio::test(start_paused = true)]
async fn a_thousand_requests_that_fail_at_once_come_back_evenly_spread_at_any_base_and_at_the_cap() {
    for (base, cap) in [(secs(1), secs(30)), (millis(700), secs(30)), (secs(60), secs(5))] {
        let layer = endless().schedule(ErrorKind::Server, Backoff::new(base)).max_delay(cap);
        let waits = waits(layer, 1000, 1).await;
        assert_eq!(waits.len(), 1000);
        // The timer's own coarseness is a millisecond.
        let distance = distance_from_uniform(waits, Duration::ZERO, base.min(cap));
        assert!(distance < 0.052, "{base:?}: {distance} is not uniform (1 % level)");
    }
}

// 23. tower-resilience [R13]: up to 1.99999 s with a cap of 1 s.
#[tokio::test(start_paused = true)]
async fn no_wait_is_longer_than_the_longest_delay_whatever_the_jitter() {
    for jitter in [Jitter::Full, Jitter::Equal, Jitter::Proportional(1.0), Jitter::Decorrelated, Jitter::None] {
        let schedule = Backoff::new(millis(900)).jitter(jitter).factor(3.0);
        let layer = endless().schedule(ErrorKind::Server, schedule).max_delay(secs(1));
        let longest = waits(layer, 200, 1).await.into_iter().max().unwrap();
        assert!(longest <= millis(1001), "{jitter:?}: {longest:?}");
    }
}

// 24. tower [R4]: a ratio of 0.6 allows a retry for each request.
#[tokio::test(start_paused = true)]
async fn retries_stay_within_their_share_of_the_traffic_at_any_ratio() {
    for ratio in [0.1, 0.3, 0.6, 0.9] {
        let leaf = Fake::fails(ErrorKind::Server);
        let budget = RetryBudget::with_limits(ratio, 0.0, 10).unwrap();
        let llm = ServiceBuilder::new()
            .layer(RetryWithJitterLayer::new().max_attempts(2).budget(budget).seed(1))
            .layer(TimeoutLayer::new(secs(30)))
            .service(leaf.clone());
        for _ in 0..1000 {
            llm.clone().oneshot(ask()).await.unwrap_err();
        }
        let retries = leaf.calls() - 1000;
        assert!((retries as f64 - 1000.0 * ratio).abs() <= 1.0, "{ratio}: {retries}");
    }
}

// 25. envoy #30205: the budget does not see the retries that sit in backoff. finagle #956: two layers deposit twice.
#[tokio::test(start_paused = true)]
async fn one_budget_in_two_nested_layers_and_in_two_tiers_holds_its_share_even_while_all_are_in_backoff() {
    let (first, second) = (Fake::fails(ErrorKind::Server), Fake::fails(ErrorKind::Server));
    let budget = RetryBudget::with_limits(0.2, 0.0, 1000).unwrap();
    let retry = |seed| RetryWithJitterLayer::new().max_attempts(8).budget(budget.clone()).seed(seed);
    let tier = |leaf: &Fake| {
        ServiceBuilder::new().layer(retry(1)).layer(TimeoutLayer::new(secs(90))).layer(retry(2)).service(leaf.clone())
    };
    let llm = ServiceBuilder::new()
        .layer(retry(3))
        .layer(FallbackLayer::new("sonnet").tier("gpt", tier(&second)))
        .service(tier(&first));
    let answers = join_all((0..1000).map(|_| llm.clone().oneshot(ask()))).await;
    assert!(answers.iter().all(Result::is_err));
    let (sent, first_tries) = (first.calls() + second.calls(), 2000);
    assert!(sent <= first_tries + 200, "{sent} sent for 1000 requests over two tiers");
    assert_eq!(budget.available(), 0);
}

// 26. The advice in tower-resilience's README is to exclude the open circuit by hand.
#[tokio::test(start_paused = true)]
async fn a_refusal_on_this_side_costs_no_retry_no_token_and_no_wait_and_goes_to_the_next_tier() {
    let open = CircuitBreakerLayer::new("sonnet");
    open.handle().force_open();
    let leaf = Fake::answers();
    let broke = RetryBudget::with_limits(0.0, 0.0, 0).unwrap();
    let refusing: [(&str, steadfast::BoxLlmService); 3] = [
        ("open", tower::util::BoxCloneSyncService::new(open.layer(leaf.clone()))),
        ("full", tower::util::BoxCloneSyncService::new(BulkheadLayer::new().feature("chat", 0).layer(leaf.clone()))),
        (
            "over its rate",
            tower::util::BoxCloneSyncService::new(
                BulkheadLayer::new().feature("chat", Limits::new(9).requests_per_minute(0)).layer(leaf.clone()),
            ),
        ),
    ];
    for (why, inner) in refusing {
        let budget = RetryBudget::with_limits(0.0, 0.1, 1).unwrap();
        let llm = ServiceBuilder::new()
            .layer(RetryWithJitterLayer::new().budget(broke.clone()))
            .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("later")))
            .layer(RetryWithJitterLayer::new().budget(budget.clone()))
            .service(inner);
        let start = Instant::now();
        for _ in 0..20 {
            let answer = llm.clone().oneshot(ask()).await.unwrap();
            assert_eq!((answer.served_by().tier, answer.served_by().attempts), (Some("canned"), 1), "{why}");
        }
        assert_eq!((start.elapsed(), budget.available(), leaf.calls()), (Duration::ZERO, 1, 0), "{why}");
    }
}

// 26, 29. An empty budget in one tier is no reason not to ask the next.
#[tokio::test(start_paused = true)]
async fn an_empty_budget_leaves_the_request_to_the_next_tier_at_once() {
    let broke = RetryBudget::with_limits(0.0, 0.0, 0).unwrap();
    let leaf = Fake::fails(ErrorKind::Overloaded);
    let llm = ServiceBuilder::new()
        .layer(FallbackLayer::new("sonnet").tier("gpt", Fake::answers()))
        .layer(RetryWithJitterLayer::new().budget(broke))
        .service(leaf.clone());
    let start = Instant::now();
    let answer = llm.oneshot(ask()).await.unwrap();
    assert_eq!((answer.served_by().tier, leaf.calls(), start.elapsed()), (Some("gpt"), 1, Duration::ZERO));
}

// 27. dotnet #7001: 11 ms too early in a tenth of the retries. tidebreak: a hint of 60 s burned in 5 s.
#[tokio::test(start_paused = true)]
async fn a_retry_is_never_earlier_than_asked_and_a_hint_beyond_the_time_left_fails_over_at_once() {
    for asked in [millis(1), millis(137), secs(2), Duration::from_micros(1_500_001)] {
        let at = Arc::new(Mutex::new(Vec::new()));
        let leaf = {
            let at = at.clone();
            provider_fn(move |_| {
                let mut at = at.lock().unwrap();
                at.push(Instant::now());
                std::future::ready(match at.len() {
                    1 => Err(error(ErrorKind::RateLimited).with_retry_after(asked)),
                    _ => Ok(LlmResponse::from_text("hello")),
                })
            })
        };
        let llm = ServiceBuilder::new()
            .layer(endless().jitter(Jitter::None))
            .layer(CircuitBreakerLayer::new("sonnet"))
            .service(leaf);
        llm.oneshot(ask()).await.unwrap();
        let at = at.lock().unwrap();
        assert!(at[1] - at[0] >= asked, "{asked:?}: {:?}", at[1] - at[0]);
    }

    for (hint, deadline) in [(secs(60), secs(300)), (secs(20), secs(25))] {
        let limited = Simulated::new("sonnet").fault_mix(Fault::RateLimited { retry_after: Some(hint) });
        let handle = limited.handle();
        let llm = ServiceBuilder::new()
            .layer(TimeoutLayer::new(deadline))
            .layer(FallbackLayer::new("sonnet").tier("gpt", Fake::answers()))
            .layer(RetryWithJitterLayer::new())
            .service(limited);
        let start = Instant::now();
        let answer = llm.oneshot(ask()).await.unwrap();
        assert_eq!((answer.served_by().tier, handle.stats().calls), (Some("gpt"), 1), "{hint:?} before {deadline:?}");
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

// 28. tower-resilience [R11]: the failed response is alive in the middle of the backoff, with its permits and socket.
#[tokio::test(start_paused = true)]
async fn between_two_attempts_nothing_is_held_of_the_first_in_any_layer_further_in() {
    let leaf = Fake::new(|call| match call {
        0 => Does::Streams(vec![text(secs(1), "hel"), breaks(secs(1), ErrorKind::Server)]),
        _ => Does::Answers,
    });
    let bulkhead = BulkheadLayer::new().feature("chat", 1);
    let places = bulkhead.handle();
    let llm = ServiceBuilder::new()
        .layer(endless().schedule(ErrorKind::Server, Backoff::fixed(secs(20))))
        .layer(CircuitBreakerLayer::new("sonnet"))
        .layer(bulkhead)
        .layer(TimeoutLayer::new(secs(30)))
        .concurrency_limit(1)
        .layer(CommitOnFirstTokenLayer::new().at(CommitPoint::Complete))
        .service(leaf.clone());
    let call = tokio::spawn(llm.clone().oneshot(ask()));
    sleep(millis(1500)).await;
    assert_eq!((places.in_flight("chat"), leaf.alive()), (1, 1));
    sleep(secs(5)).await;
    assert_eq!((places.in_flight("chat"), leaf.alive()), (0, 0), "in the middle of the backoff");
    // Its place is somebody else's meanwhile, tower's own limit included.
    tokio::time::timeout(secs(1), llm.clone().oneshot(ask())).await.unwrap().unwrap();
    call.await.unwrap().unwrap();
}

// 29. tower #648, liter-llm: the wait for readiness is not timed, each attempt gets the whole time again.
#[tokio::test(start_paused = true)]
async fn queue_backoff_and_tiers_share_one_deadline_and_the_last_gets_only_what_is_left() {
    for deadline in [secs(8), secs(12), secs(17), secs(23), secs(31)] {
        let begun = Arc::new(Mutex::new(Vec::new()));
        let watched = |name: &'static str, takes: Duration| {
            let begun = begun.clone();
            provider_fn(move |request: LlmRequest| {
                let left = request.context().time_left(Instant::now());
                begun.lock().unwrap().push((name, Instant::now(), left));
                async move {
                    sleep(takes).await;
                    Err::<LlmResponse, _>(error(ErrorKind::Overloaded))
                }
            })
        };
        let tier = |name, takes| {
            ServiceBuilder::new()
                .layer(RetryWithJitterLayer::new().budget(RetryBudget::unlimited()).seed(9))
                .layer(CircuitBreakerLayer::new(name))
                .layer(TimeoutLayer::new(secs(10)))
                .service(watched(name, takes))
        };
        let llm = ServiceBuilder::new()
            .layer(TimeoutLayer::new(deadline))
            .layer(BulkheadLayer::new().feature("chat", Limits::new(1).queue(1)))
            .layer(
                FallbackLayer::new("sonnet").tier("gpt", tier("gpt", secs(3))).tier("haiku", tier("haiku", secs(60))),
            )
            .service(tier("sonnet", secs(2)));
        let start = Instant::now();
        let calls = join_all((0..2).map(|_| llm.clone().oneshot(ask()))).await;
        for call in calls {
            call.unwrap_err();
        }
        assert!(start.elapsed() <= deadline + millis(1), "{deadline:?}: {:?}", start.elapsed());
        for (name, at, left) in begun.lock().unwrap().iter() {
            assert!(*at < start + deadline, "{name} begun at {:?} of {deadline:?}", *at - start);
            assert!(left.unwrap() <= start + deadline - *at, "{name} was told of more time than is left");
            assert!(!left.unwrap().is_zero(), "{name} was told of no time at all");
        }
    }
}

// 31. tower-llm, Polly #2163: an overflow at high numbers of attempts.
#[tokio::test(start_paused = true)]
async fn thousands_of_retries_overflow_nothing() {
    let leaf = Fake::fails(ErrorKind::Server);
    let schedule = Backoff::new(Duration::from_nanos(1)).factor(f64::MAX);
    let layer = endless().schedule(ErrorKind::Server, schedule).max_delay(millis(1));
    let failure = layer.layer(leaf.clone()).oneshot(ask().with_max_attempts(3000)).await.unwrap_err();
    assert_eq!((leaf.calls(), failure.attempts().len()), (3000, 3000));
    let mut rng = fastrand::Rng::with_seed(1);
    assert!(schedule.delay(u32::MAX, Some(Duration::MAX), &mut rng) <= secs(30));
}

// GATEWAY 46, and what nested retries multiply to elsewhere: nine attempts of three times three.
#[tokio::test(start_paused = true)]
async fn three_nested_retry_layers_around_a_fallback_send_no_more_than_the_request_may() {
    let leaves = [Fake::fails(ErrorKind::Server), Fake::fails(ErrorKind::Server), Fake::fails(ErrorKind::Server)];
    let retry = || RetryWithJitterLayer::new().budget(RetryBudget::unlimited()).seed(2);
    let tier = |leaf: &Fake| ServiceBuilder::new().layer(retry()).layer(retry()).layer(retry()).service(leaf.clone());
    let llm = ServiceBuilder::new()
        .layer(retry())
        .layer(FallbackLayer::new("a").tier("b", tier(&leaves[1])).tier("c", tier(&leaves[2])))
        .service(tier(&leaves[0]));
    for (allowed, sent) in [(9, [3, 3, 3]), (8, [3, 3, 2]), (5, [2, 2, 1]), (1, [1, 0, 0])] {
        let before = leaves.each_ref().map(Fake::calls);
        let failure = llm.clone().oneshot(ask().with_max_attempts(allowed)).await.unwrap_err();
        let now = leaves.each_ref().map(Fake::calls);
        assert_eq!([0, 1, 2].map(|tier| now[tier] - before[tier]), sent, "of {allowed}");
        assert_eq!(failure.attempts().len(), sent.iter().sum::<usize>());
    }
}

// GATEWAY 43, 46. A silence is not asked for twice where there is somewhere else to go, and once where there is not.
#[tokio::test(start_paused = true)]
async fn a_silent_provider_is_asked_again_only_as_the_last_tier() {
    let (first, last) = (Fake::hangs(), Fake::hangs());
    let tier = |leaf: &Fake| {
        ServiceBuilder::new().layer(RetryWithJitterLayer::new()).layer(TimeoutLayer::new(secs(5))).service(leaf.clone())
    };
    let llm = FallbackLayer::new("a").tier("b", tier(&last)).layer(tier(&first));
    let failure = llm.oneshot(ask()).await.unwrap_err();
    assert_eq!((first.calls(), last.calls()), (1, 2));
    let next: Vec<Next> = failure.attempts().iter().map(|step| step.next).collect();
    let again = Next::Retried { after: secs(1) };
    assert_eq!(next, [Next::FailedOver, again, Next::Stopped(Stop::LastTier)]);
}

// GATEWAY 12. litellm #29808: a stream that breaks midway is never retried where no fallback is configured.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_held_back_until_it_is_whole_is_retried_when_it_breaks() {
    let leaf = Fake::new(|call| match call {
        0 => Does::Streams(vec![text(secs(1), "hel"), breaks(secs(1), ErrorKind::Connect)]),
        1 => Does::Streams(vec![text(secs(1), "hel")]),
        _ => Does::Streams(vec![text(secs(1), "hel"), text(secs(1), "lo"), end(secs(1))]),
    });
    let llm = ServiceBuilder::new()
        .layer(endless())
        .layer(TimeoutLayer::new(secs(30)))
        .layer(CommitOnFirstTokenLayer::new().at(CommitPoint::Complete))
        .service(leaf);
    let answer = llm.oneshot(ask().with_stream(true)).await.unwrap();
    assert_eq!(answer.served_by().attempts, 3);
    // GATEWAY 6, 7, 13: nothing of the attempts before is in it.
    assert_eq!(answer.text().await.unwrap(), "hello");
}

// A time limit that ends a later attempt must not hide what the attempts before it met.
#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_middle_of_a_later_attempt_still_tells_of_the_ones_before() {
    let leaf = Fake::new(|call| match call {
        0 => Does::FailsAfter(secs(1), error(ErrorKind::Overloaded)),
        _ => Does::Hangs,
    });
    let llm = ServiceBuilder::new().layer(TimeoutLayer::new(secs(20))).layer(endless()).service(leaf.clone());
    let start = Instant::now();
    let failure = llm.oneshot(ask()).await.unwrap_err();
    assert_eq!((failure.kind(), start.elapsed(), leaf.alive()), (ErrorKind::Timeout, secs(20), 0));
    let kinds: Vec<_> = failure.attempts().iter().map(|step| step.failure.unwrap()).collect();
    assert_eq!(kinds, [ErrorKind::Overloaded, ErrorKind::Timeout]);
    assert!(failure.timeout().is_some(), "it says what ran out: {failure}");
}

// A retry dropped in its backoff gives its token back, wherever the drop comes from.
#[tokio::test(start_paused = true)]
async fn requests_that_leave_in_their_backoff_leave_the_budget_to_the_others() {
    let budget = RetryBudget::with_limits(0.0, 1.0, 10).unwrap();
    let llm = ServiceBuilder::new()
        .layer(BulkheadLayer::new())
        .layer(RetryWithJitterLayer::new().budget(budget.clone()).schedule(ErrorKind::Server, Backoff::fixed(secs(10))))
        .service(Fake::fails(ErrorKind::Server));
    let mut leaving: Vec<_> = (0..10).map(|_| task::spawn(llm.clone().oneshot(ask()))).collect();
    for call in &mut leaving {
        assert_pending!(call.poll());
    }
    assert_eq!(budget.available(), 0);
    assert!(llm.clone().oneshot(ask()).await.is_err());
    drop(leaving);
    assert_eq!(budget.available(), 10);
}
