//! The influence of one request, or one tier, on the others: in stacks that are put together by hand.

use std::time::Duration;

use futures_util::future::join_all;
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, ErrorKind, Event, Events, FallbackLayer, HedgeLayer, LlmError, LlmRequest,
    LlmResponse, RetryBudget, RetryWithJitterLayer, TimeoutLayer,
    error::Phase,
    events::CircuitState,
    layers::{
        bulkhead::Limits,
        fallback::{AllOpen, FeaturePolicy, Tier},
    },
    ledger::{Next, Stop},
    providers::Canned,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};

use crate::traps::fixtures::{Does, Fake, ask, error, secs};

fn tier_of(answer: &LlmResponse) -> &str {
    answer.served_by().tier.unwrap_or("none")
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_never_worked_at_a_further_tier_keeps_no_request_from_the_tiers_after_it() {
    let (wrong, last) = (Fake::fails(ErrorKind::Auth), Fake::answers());
    let layer = FallbackLayer::new("a").tier("b", wrong.clone()).tier("c", last.clone());
    let answer = layer.clone().layer(Fake::fails(ErrorKind::Overloaded)).oneshot(ask()).await.unwrap();
    assert_eq!((tier_of(&answer), wrong.calls(), last.calls()), ("c", 1, 1));
    let step = &answer.attempts()[1];
    assert_eq!((step.tier.as_deref(), step.failure), (Some("b"), Some(ErrorKind::Auth)), "alerts go by the record");
    // Nor where the first tier only refused, or was taken out of service.
    let handle = layer.handle();
    let answer = layer.clone().layer(Fake::fails(ErrorKind::CircuitOpen)).oneshot(ask()).await.unwrap();
    assert_eq!(tier_of(&answer), "c");
    handle.drain("a");
    assert_eq!(tier_of(&layer.clone().layer(Fake::answers()).oneshot(ask()).await.unwrap()), "c");
    handle.undrain("a");

    // So it is at a request's first tier.
    let answer = layer.layer(Fake::fails(ErrorKind::Auth)).oneshot(ask()).await.unwrap();
    assert_eq!((tier_of(&answer), answer.attempts()[0].failure), ("c", Some(ErrorKind::Auth)));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_readiness_until_the_limit_charges_no_circuit_and_no_attempt() {
    let circuit = CircuitBreakerLayer::new("one at a time");
    let (handle, leaf) = (circuit.handle(), Fake::answers_after(secs(8)));
    let budget = RetryBudget::with_limits(1.0, 0.0, 100).unwrap();
    let llm = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new().budget(budget.clone()))
        .layer(circuit)
        .layer(TimeoutLayer::new(secs(9)))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(leaf.clone());
    let answers = join_all((0..50).map(|_| llm.clone().oneshot(ask()))).await;
    assert!(answers.iter().filter(|answer| answer.is_ok()).count() >= 1);
    assert_eq!(handle.state(), CircuitState::Closed, "the leaf is healthy: {} calls", leaf.calls());
    let failures: Vec<LlmError> = answers.into_iter().filter_map(Result::err).collect();
    let waited: Vec<_> =
        failures.iter().filter(|failure| failure.timeout().is_some_and(|out| out.phase == Phase::Readiness)).collect();
    assert!(waited.len() >= 40, "{}", waited.len());
    for failure in waited {
        assert_eq!(failure.kind(), ErrorKind::Timeout);
        assert_eq!(failure.attempts().iter().filter(|step| !step.is_local()).count(), 0, "{failure:?}");
    }
    // One was sent too late to be answered, and repeated.
    assert!(budget.available() >= 48, "{}", budget.available());
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_is_not_ready_in_time_is_passed_over_and_leaves_its_attempts_to_the_next() {
    let busy = ConcurrencyLimitLayer::new(1).layer(Fake::hangs());
    let mut holder = busy.clone();
    let held = tokio::spawn(holder.ready().await.unwrap().call(ask()));
    tokio::task::yield_now().await;
    let llm = FallbackLayer::new("a").tier("b", Fake::answers()).layer(TimeoutLayer::new(secs(5)).layer(busy));
    let answer = llm.oneshot(ask().with_max_attempts(1)).await.unwrap();
    assert_eq!((tier_of(&answer), answer.served_by().attempts), ("b", 1));
    held.abort();
}

/// Returns the duration of a request of five seconds in a stack without a limit of time.
async fn ends_after<S>(llm: S) -> (Duration, LlmError)
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError>,
{
    let begun = Instant::now();
    let failure = tokio::time::timeout(secs(3600), llm.oneshot(ask().with_timeout(secs(5)))).await;
    (begun.elapsed(), failure.expect("it ends").map(drop).unwrap_err())
}

#[tokio::test(start_paused = true)]
async fn every_layer_that_waits_ends_at_the_requests_deadline_without_a_limit_around_it() {
    let hangs = Fake::hangs;
    let mut all = vec![
        ("retry", ends_after(RetryWithJitterLayer::new().layer(hangs())).await),
        ("circuit", ends_after(CircuitBreakerLayer::new("a").layer(hangs())).await),
        ("bulkhead", ends_after(BulkheadLayer::new().layer(hangs())).await),
        ("one tier", ends_after(FallbackLayer::new("a").layer(hangs())).await),
        ("two tiers", ends_after(FallbackLayer::new("a").tier("b", hangs()).layer(hangs())).await),
        ("hedge", ends_after(HedgeLayer::new("a").layer(hangs())).await),
        ("hedged", ends_after(HedgeLayer::new("a").after(secs(1)).layer(hangs())).await),
        ("nested", {
            let stack = ServiceBuilder::new()
                .layer(BulkheadLayer::new())
                .layer(FallbackLayer::new("a"))
                .layer(RetryWithJitterLayer::new())
                .layer(CircuitBreakerLayer::new("a"));
            ends_after(stack.service(hangs())).await
        }),
    ];
    let slow = Fake::new(|_| Does::FailsAfter(secs(2), error(ErrorKind::Server)));
    let retries = RetryWithJitterLayer::new().max_attempts(100).seed(1);
    all.push(("retries", ends_after(retries.layer(slow)).await));
    for (what, (took, failure)) in all {
        // A retry that would not fit is not waited for.
        let early = what == "retries" && took < secs(5);
        assert!(took == secs(5) || early, "{what}: {took:?}, {failure}");
        let kinds = [ErrorKind::Timeout, ErrorKind::Deadline, ErrorKind::Server];
        assert!(kinds.contains(&failure.kind()), "{what}: {failure}");
        assert!(early || failure.timeout().is_some(), "{what}: {failure:?}");
        assert!(!failure.attempts().is_empty() || failure.kind() == ErrorKind::Timeout, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_a_queue_or_for_readiness_ends_at_the_requests_deadline() {
    let bulkhead = BulkheadLayer::new().feature("chat", Limits::new(1).queue(10).max_wait(secs(600)));
    let llm = bulkhead.layer(Fake::hangs());
    let held = tokio::spawn(llm.clone().oneshot(ask()));
    tokio::task::yield_now().await;
    let (took, failure) = ends_after(llm).await;
    assert_eq!((took, failure.kind()), (secs(5), ErrorKind::Deadline));
    held.abort();

    let busy = ConcurrencyLimitLayer::new(1).layer(Fake::hangs());
    let mut holder = busy.clone();
    let held = tokio::spawn(holder.ready().await.unwrap().call(ask()));
    tokio::task::yield_now().await;
    let circuit = CircuitBreakerLayer::new("a").consecutive_failures(1);
    let handle = circuit.handle();
    let (took, failure) = ends_after(circuit.layer(busy.clone())).await;
    assert_eq!(took, secs(5));
    assert_eq!(failure.timeout().map(|out| out.phase), Some(Phase::Readiness), "{failure:?}");
    assert_eq!(handle.state(), CircuitState::Closed, "nothing was sent");
    // The same where the limit of time is further out, and knows only that the circuit's service was called.
    let limited = TimeoutLayer::new(secs(5)).layer(BulkheadLayer::new().layer(circuit.layer(busy)));
    let failure = limited.oneshot(ask()).await.unwrap_err();
    assert_eq!(failure.attempts().iter().filter(|step| !step.is_local()).count(), 0, "{failure:?}");
    assert_eq!(handle.state(), CircuitState::Closed);
    held.abort();
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_the_requests_deadline_whatever_layer_is_outermost() {
    let leaf = Fake::answers();
    let late = ask().with_timeout(secs(1));
    sleep(secs(2)).await;
    let failures = [
        RetryWithJitterLayer::new().layer(leaf.clone()).oneshot(late.clone()).await,
        CircuitBreakerLayer::new("a").layer(leaf.clone()).oneshot(late.clone()).await,
        BulkheadLayer::new().layer(leaf.clone()).oneshot(late.clone()).await,
        FallbackLayer::new("a").tier("b", leaf.clone()).layer(leaf.clone()).oneshot(late.clone()).await,
        HedgeLayer::new("a").layer(leaf.clone()).oneshot(late).await,
    ];
    for failure in failures {
        assert_eq!(failure.unwrap_err().kind(), ErrorKind::Deadline);
    }
    assert_eq!(leaf.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_has_failed_says_what_each_tier_did_and_what_is_worth_doing() {
    let limited = || error(ErrorKind::RateLimited).with_status(http::StatusCode::TOO_MANY_REQUESTS);
    let overloaded = error(ErrorKind::Overloaded).with_status(http::StatusCode::SERVICE_UNAVAILABLE);
    let llm = FallbackLayer::new("sonnet")
        .tier("gpt-4o", Fake::fails_with(limited().with_retry_after(secs(12))))
        .tier("local", Fake::fails(ErrorKind::Connect))
        .tier("slow", TimeoutLayer::new(secs(5)).layer(Fake::hangs()))
        .layer(Fake::fails_with(overloaded.with_request_id("req_1")));
    let failure = llm.oneshot(ask()).await.unwrap_err();
    let said = failure.to_string();
    assert!(said.starts_with("all 4 tiers failed: sonnet 503 overloaded, gpt-4o 429 rate limited, local "), "{said}");
    assert!(said.contains("slow timed out") && said.contains("worth retrying in 7 s"), "{said}");
    assert!(said.contains("req_1") && !said.contains("add a tier"), "{said}");
    assert_eq!(failure.timeout().map(|out| out.after), Some(secs(5)), "wherever in the record it is");

    // The error names the tiers that were left out apart, and its advice fits those that were tried.
    let llm = FallbackLayer::new("a")
        .tier("b", Fake::fails_with(limited()))
        .push(Tier::new("canned", Canned::text("later")).level(5))
        .feature("chat", FeaturePolicy::new().worst_level(1))
        .layer(Fake::fails_with(limited()));
    let said = llm.oneshot(ask()).await.unwrap_err().to_string();
    assert!(
        said.starts_with("2 of 3 tiers failed: a 429 rate limited, b 429 rate limited; not asked: canned"),
        "{said}"
    );
    assert!(said.ends_with("slow down, or raise the limits"), "{said}");
    // One whose attempts were spent says that.
    let llm = FallbackLayer::new("a")
        .tier("b", Fake::fails(ErrorKind::Server))
        .tier("c", Fake::answers())
        .layer(Fake::fails(ErrorKind::Server));
    let said = llm.oneshot(ask().with_max_attempts(2)).await.unwrap_err().to_string();
    assert!(said.starts_with("2 tiers failed: ") && said.contains("no attempt is left"), "{said}");
    // A tier alone says it as before.
    let alone = FallbackLayer::new("a").layer(Fake::fails(ErrorKind::Server)).oneshot(ask()).await.unwrap_err();
    assert!(alone.to_string().starts_with("the provider failed: scripted"), "{alone}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_who_wait_for_the_first_probe_are_answered_once_it_has_succeeded() {
    let circuit = CircuitBreakerLayer::new("a").consecutive_failures(1).cooldown(secs(10)).cooldown_jitter(0.0);
    let leaf = Fake::new(|call| match call {
        0 => Does::Fails(ErrorKind::Server),
        _ => Does::AnswersAfter(secs(2)),
    });
    let llm = FallbackLayer::new("a")
        .default_policy(FeaturePolicy::new().all_open(AllOpen::Wait(secs(60))))
        .layer(circuit.layer(leaf.clone()));
    llm.clone().oneshot(ask()).await.unwrap_err();
    let begun = Instant::now();
    let answers = join_all((0..1000).map(|_| llm.clone().oneshot(ask().with_timeout(secs(30))))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 0);
    assert!(begun.elapsed() <= secs(16), "a probe, and the others after it: {:?}", begun.elapsed());
    assert_eq!(leaf.calls(), 1001, "no more than one of them was the probe");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_probe_that_never_succeeds_fails_within_the_longest_wait() {
    let circuit = CircuitBreakerLayer::new("a").consecutive_failures(1).cooldown(secs(10)).cooldown_jitter(0.0);
    let leaf = Fake::fails(ErrorKind::Server);
    let llm = FallbackLayer::new("a")
        .default_policy(FeaturePolicy::new().all_open(AllOpen::Wait(secs(25))))
        .layer(circuit.layer(leaf.clone()));
    llm.clone().oneshot(ask()).await.unwrap_err();
    let begun = Instant::now();
    let answers = join_all((0..100).map(|_| llm.clone().oneshot(ask()))).await;
    assert!(answers.iter().all(Result::is_err));
    assert!(begun.elapsed() <= secs(25), "{:?}", begun.elapsed());
    // One opens it; nothing else is left, so that probes go after 1, 2, 4 and 8 s.
    assert!(leaf.calls() <= 6, "each probe is one call: {}", leaf.calls());
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_answers_at_once_needs_no_useful_time() {
    let slow = Fake::new(|_| Does::FailsAfter(Duration::from_millis(4_950), error(ErrorKind::Server)));
    let llm = FallbackLayer::new("a")
        .reserve_for_fallbacks(Duration::ZERO)
        .tier("b", Fake::answers_after(secs(1)))
        .tier("canned", Canned::text("later"))
        .layer(slow);
    let answer = llm.oneshot(ask().with_timeout(secs(5))).await.unwrap();
    assert_eq!((tier_of(&answer), answer.attempts().len()), ("canned", 1));
}

#[tokio::test(start_paused = true)]
async fn by_default_the_third_tier_of_a_chain_has_as_many_attempts_as_the_first() {
    let retry = |leaf: Fake| RetryWithJitterLayer::new().budget(RetryBudget::unlimited()).seed(1).layer(leaf);
    let (a, b) = (Fake::fails(ErrorKind::Server), Fake::fails(ErrorKind::Server));
    let c = Fake::new(|call| if call < 2 { Does::Fails(ErrorKind::Server) } else { Does::Answers });
    let llm = FallbackLayer::new("a").tier("b", retry(b.clone())).tier("c", retry(c.clone())).layer(retry(a.clone()));
    let answer = llm.oneshot(ask()).await.unwrap();
    assert_eq!((tier_of(&answer), [a.calls(), b.calls(), c.calls()]), ("c", [3, 3, 3]));

    // A retry that would take all there are leaves the others their share.
    let retry =
        |leaf: Fake| RetryWithJitterLayer::new().max_attempts(100).budget(RetryBudget::unlimited()).seed(1).layer(leaf);
    let tiers = [0; 3].map(|_| Fake::fails(ErrorKind::Server));
    let llm = FallbackLayer::new("a")
        .tier("b", retry(tiers[1].clone()))
        .tier("c", retry(tiers[2].clone()))
        .layer(retry(tiers[0].clone()));
    llm.oneshot(ask().with_max_attempts(6)).await.unwrap_err();
    assert_eq!(tiers.each_ref().map(Fake::calls), [2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_may_send_nothing_takes_no_attempt() {
    let leaf = Fake::fails(ErrorKind::Server);
    let retry = RetryWithJitterLayer::new().budget(RetryBudget::unlimited()).max_attempts(3).seed(1);
    let llm = HedgeLayer::new("a").extra(0.0).layer(retry.layer(leaf.clone()));
    llm.oneshot(ask().with_max_attempts(3)).await.unwrap_err();
    assert_eq!(leaf.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_cache_outside_gives_no_old_answer_to_a_feature_that_the_fallback_knows_to_accept_none() {
    use steadfast::CacheLayer;

    for hangs in [false, true] {
        let leaf = Fake::new(move |call| match (call, hangs) {
            (0 | 1, _) => Does::Answers,
            (_, false) => Does::Fails(ErrorKind::Server),
            (_, true) => Does::Hangs,
        });
        let llm = ServiceBuilder::new()
            .layer(TimeoutLayer::new(secs(30)))
            .layer(CacheLayer::new().ttl(secs(60)))
            .layer(FallbackLayer::new("a").feature("code", FeaturePolicy::new().worst_level(1)))
            .service(leaf);
        let code = || LlmRequest::prompt("hello").with_feature("code");
        llm.clone().oneshot(code()).await.unwrap();
        llm.clone().oneshot(ask()).await.unwrap();
        sleep(secs(120)).await;
        let stale = llm.clone().oneshot(ask()).await.unwrap();
        assert_eq!(stale.degraded().unwrap().level, 4);
        let failure = llm.oneshot(code()).await.unwrap_err();
        assert!(matches!(failure.kind(), ErrorKind::Server | ErrorKind::Timeout), "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_request_under_way_is_dropped_where_a_layer_ends_it_at_its_deadline() {
    let leaf = Fake::hangs();
    let llm = BulkheadLayer::new().feature("chat", 1).layer(FallbackLayer::new("a").layer(leaf.clone()));
    let mut call = Box::pin(llm.clone().oneshot(ask().with_timeout(secs(5))));
    assert!((&mut call).await.is_err());
    assert_eq!(leaf.alive(), 0, "while the future is kept");
    let again = llm.oneshot(ask().with_timeout(secs(5))).await.unwrap_err();
    assert_ne!(again.kind(), ErrorKind::BulkheadFull);
}

#[tokio::test(start_paused = true)]
async fn a_retry_budget_bounds_what_a_chain_without_circuits_sends_together() {
    let budget = RetryBudget::with_limits(0.1, 0.0, 100).unwrap();
    let legs = [0; 5].map(|_| Fake::fails(ErrorKind::Server));
    let layer = ["b", "c", "d", "e"]
        .into_iter()
        .zip(&legs[1..])
        .fold(FallbackLayer::new("a").budget(budget.clone()), |layer, (name, leg)| layer.tier(name, leg.clone()));
    let llm = layer.clone().layer(legs[0].clone());
    let answers = join_all((0..1000).map(|_| llm.clone().oneshot(ask()))).await;
    let calls: usize = legs.iter().map(Fake::calls).sum();
    assert!((1000..=1100).contains(&calls), "{calls}");
    let stopped = answers.iter().filter_map(|answer| answer.as_ref().err()?.attempts().last());
    assert!(stopped.filter(|step| step.next == Next::Stopped(Stop::Budget)).count() >= 900);

    // A leaf that answers at once takes nothing, and a refusal on this side costs nothing.
    let llm = layer.clone().tier("canned", Canned::text("later")).layer(legs[0].clone());
    assert_eq!(tier_of(&llm.oneshot(ask()).await.unwrap()), "canned");
    let spent =
        FallbackLayer::new("a").budget(RetryBudget::with_limits(0.0, 0.0, 0).unwrap()).tier("b", Fake::answers());
    let answer = spent.layer(Fake::fails(ErrorKind::CircuitOpen)).oneshot(ask()).await.unwrap();
    assert_eq!(tier_of(&answer), "b");
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_left_count_as_failures_where_that_is_set_and_late_results_are_told() {
    for (set, then) in [(false, CircuitState::Closed), (true, CircuitState::Open)] {
        let events = Events::new();
        let mut heard = events.subscribe();
        let mut circuit = CircuitBreakerLayer::new("a").consecutive_failures(3).events(events);
        if set {
            circuit = circuit.abandoned_after(secs(5));
        }
        let handle = circuit.handle();
        let llm = circuit.layer(Fake::hangs());
        for left_after in [1, 1, 1, 6, 6, 6] {
            assert_eq!(handle.state(), CircuitState::Closed);
            assert!(tokio::time::timeout(secs(left_after), llm.clone().oneshot(ask())).await.is_err());
        }
        assert_eq!(handle.state(), then);
        let mut told = std::iter::from_fn(|| heard.try_recv().ok());
        assert!(!told.any(|event| matches!(event, Event::LateResult { .. })));
    }
    // A request that was under way when the circuit opened is late.
    let events = Events::new();
    let mut heard = events.subscribe();
    let circuit = CircuitBreakerLayer::new("a").consecutive_failures(1).events(events);
    let leaf = Fake::new(|call| match call {
        0 => Does::FailsAfter(secs(9), error(ErrorKind::Overloaded)),
        _ => Does::Fails(ErrorKind::Server),
    });
    let llm = circuit.layer(leaf);
    let (slow, _) = tokio::join!(llm.clone().oneshot(ask()), llm.clone().oneshot(ask()));
    assert!(slow.is_err());
    let told: Vec<Event> = std::iter::from_fn(|| heard.try_recv().ok()).collect();
    let late = told.iter().filter_map(|event| match event {
        Event::LateResult { circuit, failure, .. } => Some((&**circuit, *failure)),
        _ => None,
    });
    assert_eq!(late.collect::<Vec<_>>(), [("a", Some(ErrorKind::Overloaded))]);
}
