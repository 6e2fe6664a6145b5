//! Hedges, in stacks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use steadfast::{
    CircuitBreakerLayer, ErrorKind, HedgeLayer, LlmError, LlmRequest, LlmResponse, RetryBudget, RetryWithJitterLayer,
    TimeoutLayer, events::CircuitState, ledger::Next,
};
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};

use crate::{
    common::testing::Strict,
    traps::{
        breaker::breaker,
        fixtures::{Does, Fake, NeverReady, ask, error, millis, secs},
    },
};

/// After two seconds to another tier, as often as there are calls.
fn to<S>(second: S) -> HedgeLayer
where
    S: Service<LlmRequest, Response = LlmResponse, Error: Into<LlmError>, Future: Send> + Clone + Send + Sync + 'static,
{
    HedgeLayer::new("sonnet").tier("gpt", second).after(secs(2)).extra(1.0)
}

// 16. seatbelt [R15]: the second call is made on a clone that nobody has readied, and tower's own limit panics.
#[tokio::test(start_paused = true)]
async fn both_calls_are_readied_on_the_very_instance_that_is_called_over_towers_own_limits_too() {
    for same in [false, true] {
        let (first, second) = (Strict::new().pending(2).takes(secs(10)), Strict::new().pending(3).takes(secs(1)));
        let limit = ConcurrencyLimitLayer::new(40);
        let hedge = to(limit.layer(second.clone()));
        let hedge = if same { HedgeLayer::new("sonnet").after(secs(2)).extra(1.0) } else { hedge };
        let handle = hedge.handle();
        let llm = ServiceBuilder::new().layer(hedge).layer(limit).service(first.clone());
        let answers = join_all((0..20).map(|_| llm.clone().oneshot(ask()))).await;
        assert!(answers.iter().all(Result::is_ok));
        let calls = if same { (40, 0) } else { (20, 20) };
        assert_eq!((first.calls(), second.calls(), handle.stats().sent), (calls.0, calls.1, 20));
        assert_eq!((first.running(), second.running()), (0, 0));
    }
}

// 18. tower's hedge readies both services before it calls either.
#[tokio::test(start_paused = true)]
async fn a_second_service_that_is_never_ready_keeps_no_answer_and_one_that_is_stands_in_for_a_first_that_is_not() {
    let polls = Arc::new(AtomicUsize::new(0));
    for (takes, polled) in [(secs(1), false), (secs(5), true)] {
        let llm = to(NeverReady(polls.clone())).layer(Fake::answers_after(takes));
        let start = Instant::now();
        assert_eq!(llm.oneshot(ask()).await.unwrap().served_by().tier, Some("sonnet"));
        assert_eq!((start.elapsed(), polls.load(SeqCst) > 0), (takes, polled));
    }

    let start = Instant::now();
    let answer = to(Fake::answers()).layer(Strict::new().fails_readiness(1)).oneshot(ask()).await.unwrap();
    assert_eq!((answer.served_by().tier, start.elapsed()), (Some("gpt"), Duration::ZERO));
    let answer = to(Fake::answers()).layer(NeverReady(polls)).oneshot(ask()).await.unwrap();
    assert_eq!((answer.served_by().tier, start.elapsed()), (Some("gpt"), secs(2)));
}

// 25. finagle #956: a layer between the two that has no budget makes the second of them count the request again.
#[tokio::test(start_paused = true)]
async fn a_hedge_without_a_budget_between_two_retries_with_one_does_not_double_what_is_put_in() {
    let budget = RetryBudget::with_limits(1.0, 0.0, 1000).unwrap();
    let retry = || RetryWithJitterLayer::new().budget(budget.clone());
    let llm = ServiceBuilder::new().layer(retry()).layer(to(Fake::answers())).layer(retry()).service(Fake::answers());
    for _ in 0..10 {
        llm.clone().oneshot(ask()).await.unwrap();
    }
    assert_eq!(budget.available(), 10);
}

// 35. tower-resilience [R10]: the second call waits out its delay after a hard failure, and is made after a 400 too.
#[tokio::test(start_paused = true)]
async fn the_second_call_begins_in_the_moment_of_a_failure_that_it_can_mend_and_never_after_a_fatal_one() {
    for (kind, tier) in
        [(ErrorKind::Server, Some("gpt")), (ErrorKind::Overloaded, Some("gpt")), (ErrorKind::InvalidRequest, None)]
    {
        let second = Fake::answers();
        let llm = ServiceBuilder::new()
            .layer(TimeoutLayer::new(secs(30)))
            .layer(to(second.clone()))
            .layer(CircuitBreakerLayer::new("sonnet"))
            .service(Fake::new(move |_| Does::FailsAfter(millis(5), error(kind))));
        let start = Instant::now();
        let answer = llm.oneshot(ask()).await;
        assert_eq!((start.elapsed(), second.calls()), (millis(5), usize::from(tier.is_some())), "{kind}");
        match answer {
            Ok(answer) => assert_eq!(answer.served_by().tier, tier),
            Err(failure) => assert_eq!((failure.kind(), tier), (kind, None)),
        }
    }
}

// 35. gRPC's A6: a fatal failure of one call cancels the other.
#[tokio::test(start_paused = true)]
async fn a_fatal_failure_of_the_first_call_ends_the_second_at_once() {
    let second = Fake::hangs();
    let first = Fake::new(|_| Does::FailsAfter(secs(3), error(ErrorKind::InvalidRequest)));
    let start = Instant::now();
    let failure = to(second.clone()).layer(first).oneshot(ask()).await.unwrap_err();
    assert_eq!((failure.kind(), start.elapsed()), (ErrorKind::InvalidRequest, secs(3)));
    assert_eq!((second.calls(), second.alive()), (1, 0));
    assert_eq!(failure.attempts().last().map(|step| step.next), Some(Next::Cancelled));
}

// 36. seatbelt: an endpoint whose every call loses to its hedge is never found out.
#[tokio::test(start_paused = true)]
async fn a_tier_that_always_loses_to_its_hedge_opens_and_one_whose_callers_leave_does_not() {
    let (leaf, layer) = (Fake::hangs(), breaker());
    let circuit = layer.handle();
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(30)))
        .layer(to(Fake::answers_after(secs(1))))
        .layer(layer)
        .service(leaf.clone());
    // Before the second call, and in the middle of both.
    for patience in [secs(1), millis(2500)] {
        for _ in 0..10 {
            assert!(timeout(patience, llm.clone().oneshot(ask())).await.is_err());
        }
    }
    assert_eq!((circuit.state(), circuit.consecutive_failures(), leaf.alive()), (CircuitState::Closed, 0, 0));
    for _ in 0..2 {
        assert_eq!(circuit.state(), CircuitState::Closed);
        assert!(llm.clone().oneshot(ask()).await.unwrap().is_hedged());
    }
    assert_eq!((circuit.state(), leaf.alive()), (CircuitState::Open, 0));
}
