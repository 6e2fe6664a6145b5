//! The circuit breaker over whole outages, and in numbers.

use std::time::Duration;

use futures_util::future::join_all;
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, Classifier, ErrorKind, FallbackLayer, RetryWithJitterLayer, TimeoutLayer,
    classify::{Class, Count, Failover, Retry},
    events::CircuitState,
    layers::{
        circuit_breaker::Window,
        fallback::{AllOpen, FeaturePolicy},
    },
    providers::{
        Canned, Simulated,
        simulated::{Fault, FaultMix},
    },
};
use tokio::time::{Instant, advance};
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::traps::{
    breaker::{breaker, changes, trip, trips_then},
    fixtures::{Does, Fake, ask, error, millis, secs},
};

// 36. seatbelt: an endpoint that is always given up for another looks healthy for ever.
#[tokio::test(start_paused = true)]
async fn a_tier_that_is_always_given_up_opens_and_one_whose_callers_leave_does_not() {
    let (leaf, layer) = (Fake::hangs(), breaker());
    let circuit = layer.handle();
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(20)))
        .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("later")))
        .layer(layer)
        .service(leaf.clone());
    for _ in 0..10 {
        assert!(tokio::time::timeout(secs(5), llm.clone().oneshot(ask())).await.is_err());
    }
    assert_eq!((circuit.state(), circuit.consecutive_failures()), (CircuitState::Closed, 0));
    for _ in 0..2 {
        assert_eq!(llm.clone().oneshot(ask()).await.unwrap().served_by().tier, Some("canned"));
    }
    assert_eq!((circuit.state(), leaf.alive()), (CircuitState::Open, 0));
}

// 36. A second attempt that had only the rest of the time says little about the provider.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_had_no_time_left_does_not_count_against_the_provider() {
    let leaf = Fake::new(|call| match call % 2 {
        0 => Does::LimitsAfter(millis(9_000), millis(900)),
        _ => Does::AnswersAfter(millis(500)),
    });
    let layer = breaker().consecutive_failures(1).max_throttle(Duration::ZERO);
    let circuit = layer.handle();
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(10)))
        .layer(
            RetryWithJitterLayer::new()
                .schedule(ErrorKind::RateLimited, steadfast::layers::retry::Backoff::fixed(Duration::ZERO)),
        )
        .layer(layer)
        .service(leaf.clone());
    assert!(llm.clone().oneshot(ask()).await.is_err());
    assert_eq!((leaf.calls(), circuit.state()), (2, CircuitState::Closed));
}

// 38. envoy, litellm: when every leg is open, either nobody is let through or everybody.
#[tokio::test(start_paused = true)]
async fn with_every_circuit_open_requests_fail_at_once_or_follow_the_first_probe_that_succeeds() {
    for wait in [false, true] {
        let (first, second) = (Fake::new(|_| Does::FailsAfter(secs(1), error(ErrorKind::Server))), Fake::answers());
        let (slow, fast) = (breaker().cooldown(secs(40)), breaker().cooldown(secs(25)));
        let (one, two) = (slow.handle(), fast.handle());
        let policy = if wait { AllOpen::Wait(secs(60)) } else { AllOpen::Fail };
        let llm = FallbackLayer::new("sonnet")
            .tier("gpt", fast.layer(trips_then(|_| Does::AnswersAfter(secs(1)))))
            .default_policy(FeaturePolicy::new().all_open(policy))
            .layer(slow.layer(first.clone()));
        for _ in 0..2 {
            llm.clone().oneshot(ask()).await.unwrap_err();
        }
        drop(second);
        assert_eq!([one.state(), two.state()], [CircuitState::Open; 2]);
        let (seen, start) = (first.calls(), Instant::now());
        let answers = join_all((0..100).map(|_| llm.clone().oneshot(ask()))).await;
        // Nothing else is left, so that single requests go through.
        assert!(first.calls() <= seen + 5, "{}", first.calls() - seen);
        let answered = answers.iter().filter(|answer| answer.is_ok()).count();
        if wait {
            assert_eq!(answered, 100, "the probe's own request, and those who waited for it");
            assert!(start.elapsed() < secs(30));
        } else {
            assert!(answered <= 1 && start.elapsed() <= secs(2), "{answered}, {:?}", start.elapsed());
            for error in answers.into_iter().filter_map(Result::err) {
                assert_eq!(error.kind(), ErrorKind::CircuitOpen);
                assert!(error.retry_after().unwrap() <= secs(25), "the earliest of them");
            }
        }
    }
}

// 39. tower-resilience sets the gauge of the new state and never that of the old one back.
#[tokio::test(start_paused = true)]
async fn whoever_follows_the_events_is_in_the_circuits_state_after_any_sequence() {
    let simulated = Simulated::new("sonnet");
    let (handle, mut rng) = (simulated.handle(), fastrand::Rng::with_seed(11));
    let layer = breaker().consecutive_failures(3).cooldown_growth(1.5, secs(60));
    let (circuit, mut events) = (layer.handle(), layer.handle().subscribe());
    let llm = layer.layer(simulated);
    let mut followed = CircuitState::Closed;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..3000 {
        match rng.u32(0..100) {
            0 => _ = circuit.force_open(),
            1 => _ = circuit.force_close(),
            2 | 3 => _ = circuit.reset(),
            4..10 => handle.fail(Fault::ServerError),
            10..14 => handle.fail(Fault::RateLimited { retry_after: Some(secs(3)) }),
            14..16 => handle.fail(Fault::InsufficientQuota),
            16..30 => handle.heal(),
            30..60 => advance(millis(rng.u64(0..20_000))).await,
            _ => {
                let _ = llm.clone().oneshot(ask()).await;
            }
        }
        for (from, to) in changes(&mut events) {
            assert_eq!(from, followed, "each change begins where the last one ended");
            assert_ne!(from, to);
            (followed, _) = (to, seen.insert((from, to)));
        }
        // A throttle that is over is lifted by the next call, and told of then.
        let now = circuit.state();
        assert!(now == followed || followed == CircuitState::Open, "{followed:?} {now:?}");
    }
    assert!(seen.len() >= 5, "{seen:?}");
}

// 41. failsafe turns 500 ms into 0 s.
#[tokio::test(start_paused = true)]
async fn a_window_of_half_a_second_is_half_a_second() {
    let layer = breaker().consecutive_failures(0).failure_rate(1.0, Window::last(millis(500)).minimum_calls(2));
    let circuit = layer.handle();
    let llm = layer.layer(Fake::fails(ErrorKind::Server));
    for _ in 0..5 {
        llm.clone().oneshot(ask()).await.unwrap_err();
        advance(millis(600)).await;
    }
    assert_eq!(circuit.state(), CircuitState::Closed, "never two of them in half a second");
    for _ in 0..2 {
        llm.clone().oneshot(ask()).await.unwrap_err();
        advance(millis(200)).await;
    }
    assert_eq!(circuit.state(), CircuitState::Open);
}

// 43. brooker.co.za 2022: breakers make partial outages worse. With somewhere else to go, this one does not.
#[tokio::test(start_paused = true)]
async fn at_a_steady_fifth_of_failures_the_recommended_stack_answers_everybody() {
    let flaky = |name: &str| Simulated::new(name).fault_mix(FaultMix::new().with(0.2, Fault::ServerError));
    let tier = |name: &'static str| {
        ServiceBuilder::new()
            .layer(RetryWithJitterLayer::new().seed(1))
            .layer(CircuitBreakerLayer::new(name).seed(2))
            .layer(TimeoutLayer::new(secs(30)))
            .service(flaky(name))
    };
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(90)))
        .layer(FallbackLayer::new("sonnet").tier("gpt", tier("gpt")))
        .service(tier("sonnet"));
    let mut answered = 0;
    for _ in 0..5_000 {
        advance(millis(20)).await;
        answered += usize::from(llm.clone().oneshot(ask()).await.is_ok());
    }
    // Both fail so often: at the first only one request in a thousand is asked again in place, for the sake of what it
    // is sent.
    assert!(answered >= 4_900, "{answered}");
    // By rate, it is no outage either.
    let layer = CircuitBreakerLayer::new("sonnet").consecutive_failures(0).failure_rate(0.5, Window::last(secs(60)));
    let circuit = layer.handle();
    let llm = layer.layer(flaky("sonnet"));
    for _ in 0..5_000 {
        advance(millis(20)).await;
        let _ = llm.clone().oneshot(ask()).await;
        assert_eq!(circuit.state(), CircuitState::Closed);
    }
}

// GATEWAY 16. litellm #40130: a second cooldown keeps the first, shorter time.
#[tokio::test(start_paused = true)]
async fn of_two_times_that_a_provider_names_the_later_stands_for_all_callers() {
    let waits = [3, 20, 5];
    let leaf = Fake::new(move |call| match waits.get(call) {
        Some(wait) => Does::LimitsAfter(secs(1), secs(*wait)),
        None => Does::Answers,
    });
    let layer = breaker();
    let circuit = layer.handle();
    let llm = ServiceBuilder::new().layer(BulkheadLayer::new()).layer(layer).service(leaf.clone());
    let start = Instant::now();
    join_all((0..3).map(|_| llm.clone().oneshot(ask()))).await;
    assert_eq!(circuit.earliest_probe(), Some(start + secs(21)));
    let refusal = llm.clone().oneshot(ask()).await.unwrap_err();
    assert_eq!((refusal.kind(), refusal.retry_after()), (ErrorKind::CircuitOpen, Some(secs(20))));
    advance(secs(20)).await;
    assert!(
        join_all((0..50).map(|_| llm.clone().oneshot(ask()))).await.iter().all(Result::is_ok),
        "nothing was broken"
    );
    assert_eq!(leaf.calls(), 53);
}

// GATEWAY 1, 24, 25. litellm #40405: each request of an outage spent three attempts on the dead primary.
#[tokio::test(start_paused = true)]
async fn after_the_trip_a_request_spends_no_attempt_and_no_time_on_any_dead_tier() {
    let (dead, dying) = (Fake::fails(ErrorKind::Server), Fake::fails(ErrorKind::Connect));
    let tier = |name: &'static str, leaf: &Fake| {
        ServiceBuilder::new()
            .layer(RetryWithJitterLayer::new())
            .layer(CircuitBreakerLayer::new(name))
            .layer(TimeoutLayer::new(secs(30)))
            .service(leaf.clone())
    };
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(90)))
        .layer(FallbackLayer::new("sonnet").tier("gpt", tier("gpt", &dying)).tier("haiku", Fake::answers()))
        .service(tier("sonnet", &dead));
    for _ in 0..3 {
        llm.clone().oneshot(ask()).await.unwrap();
    }
    let (seen, start) = ((dead.calls(), dying.calls()), Instant::now());
    assert_eq!(seen, (5, 5), "the default threshold");
    for _ in 0..50 {
        let answer = llm.clone().oneshot(ask()).await.unwrap();
        assert_eq!((answer.served_by().tier, answer.served_by().attempts), (Some("haiku"), 1));
    }
    assert_eq!(((dead.calls(), dying.calls()), start.elapsed()), (seen, Duration::ZERO));
}

// A classifier of one's own decides what counts, in this layer alone.
#[tokio::test(start_paused = true)]
async fn a_table_of_ones_own_changes_only_its_layer() {
    let strict = Classifier::overridden(|_, _| Class::new(Retry::Yes, Failover::Yes, Count::Failure));
    let (inner, outer) = (breaker().classifier(strict), breaker());
    let (inside, outside) = (inner.handle(), outer.handle());
    let leaf = Fake::fails(ErrorKind::Refusal);
    let llm = ServiceBuilder::new().layer(outer).layer(RetryWithJitterLayer::new()).layer(inner).service(leaf.clone());
    trip(&llm).await;
    assert_eq!([inside.state(), outside.state()], [CircuitState::Open, CircuitState::Closed]);
    assert_eq!(leaf.calls(), 2, "the retry goes by its own table");
}
