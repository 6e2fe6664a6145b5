//! The bulkhead, in stacks.

use std::time::Duration;

use futures_util::future::join_all;
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, ErrorKind, FallbackLayer, RetryWithJitterLayer, TimeoutLayer,
    events::CircuitState,
    layers::bulkhead::Limits,
    layers::fallback::{FeaturePolicy, StreamBreak},
    providers::Canned,
};
use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use crate::traps::fixtures::{Does, Fake, ask, breaks, end, error, millis, secs, text};

// 37. tower-resilience [R14]: the place is free at the headers. linkerd #751: it is not, though the future has failed.
#[tokio::test(start_paused = true)]
async fn a_place_is_held_to_the_end_of_the_stream_and_no_longer_than_the_failure() {
    for way in ["ends", "breaks", "is dropped", "restarts", "is buffered"] {
        let leaf = Fake::new(move |call| match (way, call) {
            ("breaks" | "restarts" | "is buffered", 0) => {
                Does::Streams(vec![text(secs(1), "hel"), breaks(secs(1), ErrorKind::Server)])
            }
            (_, 0 | 1) => Does::Streams(vec![text(secs(1), "hel"), end(secs(1))]),
            _ => Does::Answers,
        });
        let bulkhead = BulkheadLayer::new().feature("chat", 1);
        let places = bulkhead.handle();
        let policy = match way {
            "restarts" => StreamBreak::Restart,
            "is buffered" => StreamBreak::Buffer,
            _ => StreamBreak::Fail,
        };
        let llm = ServiceBuilder::new()
            .layer(TimeoutLayer::new(secs(60)))
            .layer(bulkhead)
            .layer(
                FallbackLayer::new("sonnet")
                    .tier("gpt", leaf.clone())
                    .default_policy(FeaturePolicy::new().stream_break(policy)),
            )
            .layer(CircuitBreakerLayer::new("sonnet"))
            .service(leaf.clone());
        let mut first = llm.clone().oneshot(ask().with_stream(true)).await.unwrap();
        first.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(llm.clone().oneshot(ask()).await.unwrap_err().kind(), ErrorKind::BulkheadFull, "{way}");
        match way {
            "is dropped" => drop(first),
            "breaks" => assert!(first.text().await.is_err()),
            _ => drop(first.text().await.unwrap()),
        }
        assert_eq!((places.in_flight("chat"), leaf.alive()), (0, 0), "{way}");
    }

    // A future that failed and is kept.
    let bulkhead = BulkheadLayer::new().feature("chat", 1);
    let mut llm = ServiceBuilder::new()
        .layer(bulkhead)
        .layer(RetryWithJitterLayer::new().max_attempts(1))
        .service(Fake::new(|call| if call == 0 { Does::Fails(ErrorKind::Server) } else { Does::Answers }));
    let mut kept = task::spawn(llm.call(ask()));
    assert_ready!(kept.poll()).unwrap_err();
    assert_ready!(task::spawn(llm.call(ask())).poll()).unwrap();
}

// 29. The time in the queue is not the primary's: what is left is shared out when its turn has come.
#[tokio::test(start_paused = true)]
async fn who_waited_long_in_the_queue_is_still_answered_by_the_primary() {
    let leaf = Fake::new(|call| Does::AnswersAfter(if call == 0 { secs(6) } else { secs(1) }));
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(10)))
        .layer(BulkheadLayer::new().feature("chat", Limits::new(1).queue(10)))
        .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("later")))
        .layer(CircuitBreakerLayer::new("sonnet"))
        .service(leaf);
    // The first takes 5 s of its 10, for as much is kept back.
    let answers = join_all((0..3).map(|_| llm.clone().oneshot(ask()))).await;
    let tiers: Vec<_> = answers.iter().map(|answer| answer.as_ref().unwrap().served_by().tier.unwrap()).collect();
    assert_eq!(tiers, ["canned", "sonnet", "sonnet"]);
}

// 29. And a retry that goes round a whole fallback shares out what is left, too.
#[tokio::test(start_paused = true)]
async fn a_second_round_of_a_fallback_gives_the_primary_its_time_again() {
    let leaf = Fake::new(|call| match call {
        0 => Does::FailsAfter(secs(7), error(ErrorKind::Server)),
        _ => Does::AnswersAfter(millis(500)),
    });
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(10)))
        .layer(RetryWithJitterLayer::new().seed(1))
        .layer(FallbackLayer::new("sonnet").tier("gpt", Fake::fails(ErrorKind::Server)).reserve_for_fallbacks(secs(2)))
        .service(leaf);
    assert_eq!(llm.oneshot(ask()).await.unwrap().served_by().tier, Some("sonnet"));
}

// 18, 29. A tier that is busy must not use up the time of the others: its queue ends with its slice of the time.
#[tokio::test(start_paused = true)]
async fn who_waits_in_the_queue_of_one_tier_goes_on_to_the_next_when_that_tiers_time_is_up() {
    let busy = BulkheadLayer::new().feature("chat", Limits::new(1).queue(10).max_wait(Duration::MAX));
    let places = busy.handle();
    let leaf = Fake::hangs();
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(90)))
        .layer(FallbackLayer::new("sonnet").tier("gpt", Fake::answers()))
        .layer(RetryWithJitterLayer::new())
        .layer(busy)
        .service(leaf);
    let start = Instant::now();
    let answers = join_all((0..5).map(|_| llm.clone().oneshot(ask()))).await;
    for answer in answers {
        assert_eq!(answer.unwrap().served_by().tier, Some("gpt"));
    }
    assert_eq!(start.elapsed(), secs(80));
    assert_eq!((places.in_flight("chat"), places.queued("chat")), (0, 0));
}

// The provider has counted a request that was sent, whatever the last attempt met.
#[tokio::test(start_paused = true)]
async fn a_rate_is_charged_for_what_was_sent_even_if_the_last_attempt_was_refused_here() {
    let bulkhead = BulkheadLayer::new().feature("chat", Limits::new(10).requests_per_minute(1));
    let llm = ServiceBuilder::new()
        .layer(bulkhead)
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("sonnet").consecutive_failures(1))
        .service(Fake::fails(ErrorKind::Server));
    assert_eq!(llm.clone().oneshot(ask()).await.unwrap_err().kind(), ErrorKind::CircuitOpen);
    assert_eq!(llm.clone().oneshot(ask()).await.unwrap_err().kind(), ErrorKind::BulkheadFull);

    // The first tier's refusal leads the error, and yet the second has been asked.
    let open = CircuitBreakerLayer::new("sonnet");
    open.handle().force_open();
    let second = Fake::fails(ErrorKind::Server);
    let llm = ServiceBuilder::new()
        .layer(BulkheadLayer::new().feature("chat", Limits::new(10).requests_per_minute(1)))
        .layer(FallbackLayer::new("sonnet").tier("gpt", second.clone()))
        .layer(open)
        .service(Fake::answers());
    for _ in 0..3 {
        llm.clone().oneshot(ask()).await.unwrap_err();
    }
    assert_eq!(second.calls(), 1);
}

// And what was never sent is not.
#[tokio::test(start_paused = true)]
async fn a_rate_is_not_charged_for_requests_that_no_tier_was_asked() {
    let open = CircuitBreakerLayer::new("sonnet");
    let circuit = open.handle();
    circuit.force_open();
    let leaf = Fake::answers();
    let llm = ServiceBuilder::new()
        .layer(BulkheadLayer::new().feature("chat", Limits::new(10).requests_per_minute(1)))
        .layer(RetryWithJitterLayer::new())
        .layer(open)
        .service(leaf.clone());
    for _ in 0..10 {
        assert_eq!(llm.clone().oneshot(ask()).await.unwrap_err().kind(), ErrorKind::CircuitOpen);
    }
    circuit.reset();
    llm.clone().oneshot(ask()).await.unwrap();
    assert_eq!(llm.clone().oneshot(ask()).await.unwrap_err().kind(), ErrorKind::BulkheadFull);
}

// RELIABILITY bug 5, 7: places leak when futures are dropped, or more get in than there are places.
#[tokio::test(start_paused = true)]
async fn bulkheads_outside_and_inside_of_a_fallback_agree_after_any_mix_of_ends() {
    let (outer, inner) = (
        BulkheadLayer::new().feature("chat", Limits::new(8).queue(8).max_wait(secs(5))),
        BulkheadLayer::new().feature("chat", Limits::new(3).queue(2).max_wait(secs(2))),
    );
    let (outside, inside) = (outer.handle(), inner.handle());
    let leaf = Fake::new(|call| match call % 5 {
        0 => Does::FailsAfter(millis(300), error(ErrorKind::Server)),
        1 => Does::Hangs,
        2 => Does::Streams(vec![text(millis(100), "hel"), text(millis(900), "lo"), end(millis(100))]),
        3 => Does::Streams(vec![text(millis(100), "hel"), breaks(millis(500), ErrorKind::Server)]),
        _ => Does::AnswersAfter(millis(200)),
    });
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(10)))
        .layer(outer)
        .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("later")))
        .layer(RetryWithJitterLayer::new().seed(4))
        .layer(CircuitBreakerLayer::new("sonnet").cooldown(secs(3)))
        .layer(inner)
        .layer(TimeoutLayer::new(secs(4)))
        .service(leaf.clone());
    let mut rng = fastrand::Rng::with_seed(42);
    let mut tasks = Vec::new();
    for _ in 0..2000 {
        let (llm, leaves_after, reads) = (llm.clone(), millis(rng.u64(0..6000)), rng.bool());
        tasks.push(tokio::spawn(async move {
            let call = async {
                let answer = llm.oneshot(ask()).await?;
                if reads {
                    answer.text().await.map(drop)
                } else {
                    let _: () = drop(answer);
                    Ok(())
                }
            };
            let _ = tokio::time::timeout(leaves_after, call).await;
        }));
        if rng.u32(0..4) == 0 {
            sleep(millis(rng.u64(0..400))).await;
        }
        assert!(outside.in_flight("chat") <= 8 && inside.in_flight("chat") <= 3);
        assert!(outside.queued("chat") <= 8 && inside.queued("chat") <= 2);
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((outside.in_flight("chat"), outside.queued("chat")), (0, 0));
    assert_eq!((inside.in_flight("chat"), inside.queued("chat"), leaf.alive()), (0, 0, 0));
}

// A batch that floods the provider makes nobody of another feature wait, in front of whatever tier.
#[tokio::test(start_paused = true)]
async fn a_feature_that_floods_keeps_its_queue_to_itself() {
    let layer =
        BulkheadLayer::new().feature("chat", 2).feature("batch", Limits::new(2).queue(1000).max_wait(secs(3600)));
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(3600)))
        .layer(layer)
        .layer(FallbackLayer::new("sonnet").tier("canned", Canned::text("later")))
        .service(Fake::answers_after(secs(1)));
    let batch: Vec<_> = (0..500).map(|_| tokio::spawn(llm.clone().oneshot(ask().with_feature("batch")))).collect();
    sleep(millis(10)).await;
    for _ in 0..10 {
        let start = Instant::now();
        llm.clone().oneshot(ask()).await.unwrap();
        assert_eq!(start.elapsed(), secs(1));
    }
    let start = Instant::now();
    assert!(join_all(batch).await.into_iter().all(|answer| answer.unwrap().is_ok()));
    assert!(start.elapsed() <= secs(250));
}

// A full place is no fault of the provider, in whichever order bulkhead and breaker are.
#[tokio::test(start_paused = true)]
async fn refusals_of_a_bulkhead_open_no_circuit() {
    let layer = CircuitBreakerLayer::new("sonnet").consecutive_failures(1);
    let circuit = layer.handle();
    let llm = layer
        .layer(BulkheadLayer::new().feature("chat", Limits::new(1).queue(1).max_wait(secs(1))).layer(Fake::hangs()));
    let mut held = task::spawn(llm.clone().oneshot(ask()));
    assert_pending!(held.poll());
    for _ in 0..20 {
        llm.clone().oneshot(ask()).await.unwrap_err();
    }
    // Cut off in the queue by a deadline, it was never sent either.
    let waits = TimeoutLayer::new(millis(500)).layer(llm.clone());
    advance(secs(1)).await;
    waits.oneshot(ask()).await.unwrap_err();
    assert_eq!((circuit.state(), circuit.consecutive_failures()), (CircuitState::Closed, 0));
}
