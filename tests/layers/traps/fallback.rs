//! Fallbacks, in stacks.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use steadfast::{
    BulkheadLayer, CircuitBreakerLayer, ErrorKind, Event, Events, FallbackLayer, LlmError, LlmRequest, LlmResponse,
    RetryWithJitterLayer, TimeoutLayer,
    events::CircuitState,
    layers::fallback::{FeaturePolicy, SessionPolicy, StreamBreak, Tier, TierSettings},
    ledger::{Next, Stop},
    provider_fn,
    providers::{Canned, Simulated, simulated::Fault},
};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use crate::traps::fixtures::{Does, Fake, ask, error, millis, secs};

/// The stack of the first screen, around these two.
fn first_screen<A, B>(
    sonnet: A,
    gpt: B,
) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static
where
    A: Service<LlmRequest, Response = LlmResponse, Error: Into<LlmError>, Future: Send> + Clone + Send + 'static,
    B: Service<LlmRequest, Response = LlmResponse, Error: Into<LlmError>, Future: Send> + Clone + Send + Sync + 'static,
{
    let sonnet = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("sonnet"))
        .layer(TimeoutLayer::new(secs(30)))
        .service(sonnet);
    let gpt = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("gpt-4o"))
        .layer(TimeoutLayer::new(secs(30)))
        .service(gpt);
    ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(90)))
        .layer(BulkheadLayer::new().feature("chat", 20).feature("summary", 10).feature("background", 5))
        .layer(FallbackLayer::new("sonnet").tier("gpt-4o", gpt).tier("canned", Canned::text("Please try again.")))
        .service(sonnet)
}

fn tier_of(answer: &LlmResponse) -> &str {
    answer.served_by().tier.unwrap_or("none")
}

// 29. With the first screen's stack a primary that hangs is answered by the fallback after 30 s, not refused after 90.
#[tokio::test(start_paused = true)]
async fn the_first_screens_stack_answers_for_a_primary_that_hangs_after_thirty_seconds_then_at_once() {
    for stream in [false, true] {
        let primary = Fake::hangs();
        let llm = first_screen(primary.clone(), Fake::answers_after(secs(2)));
        // Two silences weigh as five failures.
        for _ in 0..2 {
            let start = Instant::now();
            let answer = llm.clone().oneshot(ask().with_stream(stream)).await.unwrap();
            assert_eq!((tier_of(&answer), answer.served_by().attempts), ("gpt-4o", 2));
            assert_eq!(start.elapsed(), secs(32));
        }
        let start = Instant::now();
        let answer = llm.clone().oneshot(ask().with_stream(stream)).await.unwrap();
        assert_eq!((tier_of(&answer), start.elapsed(), primary.calls()), ("gpt-4o", secs(2), 2));
    }
    let llm = first_screen(Fake::hangs(), Fake::hangs());
    let start = Instant::now();
    assert_eq!(tier_of(&llm.oneshot(ask()).await.unwrap()), "canned");
    assert_eq!(start.elapsed(), secs(60));
}

// The same with nothing but a limit around all of it: every tier has its turn.
#[tokio::test(start_paused = true)]
async fn with_only_a_total_limit_a_hang_anywhere_is_still_answered_by_the_last_tier() {
    let (a, b, c) = (Fake::hangs(), Fake::hangs(), Fake::hangs());
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(60)))
        .layer(FallbackLayer::new("a").tier("b", b.clone()).tier("c", c.clone()).tier("d", Fake::answers()))
        .service(a.clone());
    let start = Instant::now();
    assert_eq!(tier_of(&llm.clone().oneshot(ask()).await.unwrap()), "d");
    assert!(start.elapsed() < secs(60));
    assert_eq!([a.calls(), b.calls(), c.calls(), a.alive() + b.alive() + c.alive()], [1, 1, 1, 0]);
    // A fallback within a tier shares out that tier's time.
    let inner = FallbackLayer::new("b1").tier("b2", b).layer(c);
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(60)))
        .layer(FallbackLayer::new("a").tier("b", inner).tier("d", Fake::answers()))
        .service(a);
    let start = Instant::now();
    let answer = llm.oneshot(ask()).await.unwrap();
    assert_eq!((tier_of(&answer), answer.attempts().len()), ("d", 3));
    assert!(start.elapsed() < secs(60));
}

// 32. librefang #8322 walks the whole chain with a wrong request; hermes #109698 goes to a smaller window.
#[tokio::test(start_paused = true)]
async fn where_a_failure_leads_depends_on_its_kind_and_on_what_the_tiers_can_do() {
    let small = Simulated::new("small");
    let handle = small.handle();
    let others = [Fake::answers(), Fake::answers(), Fake::answers()];
    let layer = FallbackLayer::new("small")
        .primary(TierSettings::new().context_window(100_000))
        .push(Tier::new("tiny", others[0].clone()).context_window(8_000))
        .push(Tier::new("unknown", others[1].clone()))
        .push(Tier::new("large", others[2].clone()).context_window(1_000_000));
    let llm = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new())
        .layer(layer)
        .layer(RetryWithJitterLayer::new())
        .service(small);
    let start = Instant::now();
    handle.fail(Fault::BadRequest);
    let failure = llm.clone().oneshot(ask()).await.unwrap_err();
    assert_eq!((failure.kind(), failure.status().unwrap().as_u16()), (ErrorKind::InvalidRequest, 400));
    assert_eq!((failure.attempts().len(), handle.stats().calls), (1, 1), "one step, and no other tier");
    handle.fail(Fault::Unauthorized);
    assert_eq!(tier_of(&llm.clone().oneshot(ask()).await.unwrap()), "tiny", "a key that has never worked is no better");
    assert_eq!(others.each_ref().map(Fake::calls), [1, 0, 0]);
    handle.fail(Fault::ContextLength);
    assert_eq!(tier_of(&llm.clone().oneshot(ask()).await.unwrap()), "large");
    assert_eq!(others.each_ref().map(Fake::calls), [1, 0, 1]);
    handle.heal();
    assert_eq!(tier_of(&llm.clone().oneshot(ask()).await.unwrap()), "small");
    handle.fail(Fault::Unauthorized);
    assert_eq!(tier_of(&llm.clone().oneshot(ask()).await.unwrap()), "tiny", "a key that has worked is an outage");
    handle.fail(Fault::InsufficientQuota);
    assert_eq!(tier_of(&llm.clone().oneshot(ask()).await.unwrap()), "tiny");
    assert_eq!((handle.stats().calls, start.elapsed()), (6, Duration::ZERO), "nothing was retried or waited for");
}

// 33. litellm #32574: only the first leg's failures of a request count.
#[tokio::test(start_paused = true)]
async fn the_second_tiers_failures_open_its_own_circuit_though_the_first_failed_before_it_each_time() {
    let (first, second) = (CircuitBreakerLayer::new("a").consecutive_failures(0), CircuitBreakerLayer::new("b"));
    let (one, two) = (first.handle(), second.handle());
    let llm = FallbackLayer::new("a")
        .tier("b", second.layer(Fake::fails(ErrorKind::Server)))
        .tier("canned", Canned::text("later"))
        .layer(first.layer(Fake::fails(ErrorKind::Server)));
    for _ in 0..4 {
        llm.clone().oneshot(ask()).await.unwrap();
        assert_eq!(two.state(), CircuitState::Closed);
    }
    llm.clone().oneshot(ask()).await.unwrap();
    assert_eq!([one.state(), two.state()], [CircuitState::Closed, CircuitState::Open]);
}

// 34. liter-llm gives the last error, tower-resilience drops the first. GATEWAY 14, 18.
#[tokio::test(start_paused = true)]
async fn when_all_have_failed_the_error_lists_each_step_and_knows_the_earliest_time_through_every_outer_layer() {
    let throttled = CircuitBreakerLayer::new("sonnet");
    let open = throttled.handle();
    let limited = |wait| {
        let error = error(ErrorKind::RateLimited).with_status(http::StatusCode::TOO_MANY_REQUESTS);
        Fake::fails_with(error.with_retry_after(secs(wait)).with_model("openai", "gpt-4o"))
    };
    let down = throttled.layer(Fake::new(|_| Does::FailsAfter(secs(1), error(ErrorKind::Server))));
    let gpt = RetryWithJitterLayer::new().layer(limited(40));
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(90)))
        .layer(RetryWithJitterLayer::new())
        .layer(CircuitBreakerLayer::new("all").consecutive_failures(0))
        .layer(BulkheadLayer::new())
        .layer(FallbackLayer::new("sonnet").tier("gpt", gpt).tier("local", Fake::fails(ErrorKind::Connect)))
        .service(down);
    let failure = llm.clone().oneshot(ask().with_max_attempts(3)).await.unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Server, "the first tier's");
    assert_eq!(failure.retry_after(), Some(secs(39)), "a second has gone by");
    let steps: Vec<_> =
        failure.attempts().iter().map(|step| (step.tier.as_deref().unwrap(), step.failure.unwrap())).collect();
    let (server, limited) = (ErrorKind::Server, ErrorKind::RateLimited);
    assert_eq!(steps, [("sonnet", server), ("gpt", limited), ("local", ErrorKind::Connect)]);
    assert_eq!(failure.attempts().iter().map(|step| step.took.as_secs()).collect::<Vec<_>>(), [1, 0, 0]);
    assert_eq!(failure.attempts()[1].status.unwrap().as_u16(), 429);
    assert_eq!(failure.attempts()[1].retry_after, Some(secs(39)));

    open.force_open();
    let failure = llm.oneshot(ask()).await.unwrap_err();
    assert_eq!((failure.kind(), failure.retry_after()), (ErrorKind::CircuitOpen, Some(secs(39))));
}

// 34. RELIABILITY, number 20: each attempt of each failed request is on record, whoever ended it.
#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_last_tier_still_tells_what_the_tiers_before_it_met() {
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(30)))
        .layer(FallbackLayer::new("sonnet").tier("gpt", Fake::hangs()))
        .service(Fake::fails(ErrorKind::Overloaded));
    let start = Instant::now();
    let failure = llm.oneshot(ask()).await.unwrap_err();
    assert_eq!(start.elapsed(), secs(30));
    assert_eq!(failure.kind(), ErrorKind::Overloaded, "the first tier's");
    let steps: Vec<_> =
        failure.attempts().iter().map(|step| (step.tier.as_deref().unwrap(), step.failure.unwrap())).collect();
    assert_eq!(steps, [("sonnet", ErrorKind::Overloaded), ("gpt", ErrorKind::Timeout)]);
    assert_eq!(failure.attempts()[1].next, Next::Stopped(Stop::LastTier));
}

// 35. tower-resilience's hedge [R10] waits out its delay after a hard failure. GATEWAY 20: no sleep before another
//     target.
#[tokio::test(start_paused = true)]
async fn the_next_tier_is_asked_in_the_moment_of_the_failure_and_after_a_fatal_one_nobody_is() {
    for (kind, tier) in [(ErrorKind::Overloaded, Some("gpt")), (ErrorKind::InvalidRequest, None)] {
        let primary = Fake::new(move |_| Does::FailsAfter(millis(5), error(kind)));
        let llm = FallbackLayer::new("sonnet").tier("gpt", Fake::answers()).layer(primary);
        let start = Instant::now();
        let answer = llm.oneshot(ask()).await;
        assert_eq!(answer.as_ref().ok().map(tier_of), tier);
        assert_eq!(start.elapsed(), millis(5));
    }
}

// GATEWAY 22, 38: the tier of last resort is asked though its circuit is open.
#[tokio::test(start_paused = true)]
async fn the_last_resort_is_asked_whatever_its_circuit_says_and_only_when_it_is_its_turn() {
    let open = || {
        let layer = CircuitBreakerLayer::new("x");
        layer.handle().force_open();
        layer
    };
    let (first, last) = (Fake::answers(), Fake::answers());
    let last_tier = ServiceBuilder::new()
        .layer(RetryWithJitterLayer::new())
        .layer(BulkheadLayer::new())
        .layer(open())
        .service(last.clone());
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(90)))
        .layer(FallbackLayer::new("a").push(Tier::new("b", last_tier).last_resort()))
        .layer(open())
        .service(first.clone());
    assert_eq!(tier_of(&llm.oneshot(ask()).await.unwrap()), "b");
    assert_eq!([first.calls(), last.calls()], [0, 1]);
}

// GATEWAY 6, 7. bifrost: state of the dead attempt leaks into the next.
#[tokio::test(start_paused = true)]
async fn each_tier_sees_the_request_as_it_came_but_for_what_was_spent() {
    #[derive(Clone, Debug, PartialEq)]
    struct Own(u8);
    let meddling = provider_fn(|mut request: LlmRequest| async move {
        request.context_mut().limit_deadline(Some(Instant::now()));
        request.context_mut().attempts_left = 0;
        drop(request.with_feature("stolen").with_extension(Own(9)));
        Err::<LlmResponse, _>(error(ErrorKind::Server))
    });
    let second = provider_fn(|request: LlmRequest| async move {
        assert_eq!((request.feature(), request.session()), (Some("chat"), Some("s")));
        assert_eq!((request.idempotency_key(), request.extensions().get::<Own>()), (Some("k"), Some(&Own(1))));
        assert_eq!((request.context().attempts_made, request.context().attempts_left), (2, 7));
        assert_eq!(request.context().time_left(Instant::now()), Some(secs(60)));
        Ok::<_, LlmError>(LlmResponse::from_text("hello"))
    });
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(60)))
        .layer(FallbackLayer::new("a").tier("b", second))
        .layer(RetryWithJitterLayer::new().max_attempts(2).max_delay(Duration::ZERO))
        .service(meddling);
    llm.oneshot(ask().with_session("s").with_idempotency_key("k").with_extension(Own(1))).await.unwrap();
}

// A session that is pinned stays with the tier that answered it first, even if two of its requests begin at once.
#[tokio::test(start_paused = true)]
async fn a_pinned_session_stays_with_its_first_answer_when_its_first_requests_overlap() {
    let primary = Fake::new(|call| match call {
        0 => Does::AnswersAfter(secs(1)),
        1 => Does::FailsAfter(secs(2), error(ErrorKind::Server)),
        _ => Does::Answers,
    });
    let llm = FallbackLayer::new("a").tier("b", Fake::answers()).session(SessionPolicy::Pin).layer(primary);
    let both = join_all((0..2).map(|_| llm.clone().oneshot(ask().with_session("s")))).await;
    assert_eq!(both.iter().map(|answer| tier_of(answer.as_ref().unwrap())).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(tier_of(&llm.clone().oneshot(ask().with_session("s")).await.unwrap()), "a");
}

// Events tell the truth under a load of overlapping requests: switches and recoveries take turns.
#[tokio::test(start_paused = true)]
async fn switches_and_recoveries_take_turns_whatever_overlaps() {
    let (first, second) = (Simulated::new("a").latency(millis(700)), Simulated::new("b").latency(millis(300)));
    let (one, two) = (first.handle(), second.handle());
    let events = Events::new();
    let mut heard = events.subscribe();
    let llm = FallbackLayer::new("a")
        .tier("b", second)
        .tier("c", Fake::answers())
        .events(events)
        .layer(CircuitBreakerLayer::new("a").cooldown(secs(5)).layer(first));
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut serving, mut changes) = (Arc::<str>::from("a"), 0);
    for round in 0..400 {
        match (rng.u32(0..12), round % 2) {
            (0, _) => one.fail(Fault::ServerError),
            (1, _) => one.heal(),
            (2, 0) => two.fail(Fault::Overloaded),
            (2, _) => two.heal(),
            _ => {}
        }
        for _ in 0..rng.u32(0..4) {
            tokio::spawn(llm.clone().oneshot(ask()));
        }
        sleep(millis(rng.u64(0..400))).await;
        while let Ok(event) = heard.try_recv() {
            let (from, to) = match event {
                Event::ModelSwitched { from, to, .. } => (from, to),
                Event::ModelRecovered { from, to, .. } => {
                    assert_eq!(&*to, "a");
                    (from, to)
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(from, serving);
            assert_ne!(from, to);
            (serving, changes) = (to, changes + 1);
        }
    }
    // Of relapses only those are told that last.
    assert!(changes > 2, "{changes}");
}

// Bad input: a name that a chain has twice would be counted as a tier that is still to come.
#[tokio::test]
async fn a_chain_that_names_a_tier_twice_is_refused_with_the_fields_name() {
    let layer = || FallbackLayer::new("a").tier("b", Fake::answers());
    for error in [
        layer().feature("chat", ["a", "b", "a"]).checked().unwrap_err(),
        layer().route(ErrorKind::Refusal, ["b", "b"]).checked().unwrap_err(),
    ] {
        assert!(error.to_string().contains("twice"), "{error}");
    }
}

// GATEWAY 5, 44, 56: a chain of one never falls back, and says that it is the policy.
#[tokio::test(start_paused = true)]
async fn a_feature_with_a_chain_of_one_never_leaves_it_and_the_record_says_why() {
    let other = Fake::answers();
    let layer = FallbackLayer::new("a").tier("b", other.clone()).feature("evaluation", ["a"]);
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(60)))
        .layer(layer)
        .layer(RetryWithJitterLayer::new().seed(1))
        .layer(TimeoutLayer::new(secs(10)))
        .service(Fake::hangs());
    let start = Instant::now();
    let failure = llm.clone().oneshot(ask().with_feature("evaluation")).await.unwrap_err();
    assert_eq!((failure.kind(), other.calls(), failure.attempts().len()), (ErrorKind::Timeout, 0, 2));
    assert_eq!(failure.attempts()[1].next, Next::Stopped(Stop::Policy));
    assert_eq!(start.elapsed(), secs(21), "twice ten, and a second between: for it there is no other tier");
    advance(secs(1)).await;
    assert_eq!(tier_of(&llm.oneshot(ask()).await.unwrap()), "b");
}

// A pinned session has seen the beginning of an answer; another model does not end it.
#[tokio::test(start_paused = true)]
async fn a_pinned_sessions_broken_stream_is_not_taken_over_by_another_tier() {
    use crate::traps::fixtures::{breaks, text};
    let primary = Fake::new(|_| Does::Streams(vec![text(secs(1), "hel"), breaks(secs(1), ErrorKind::Server)]));
    let llm = FallbackLayer::new("a")
        .tier("b", Fake::answers())
        .session(SessionPolicy::Pin)
        .default_policy(FeaturePolicy::new().stream_break(StreamBreak::Restart))
        .layer(primary);
    let answer = llm.clone().oneshot(ask().with_stream(true).with_session("s")).await.unwrap();
    assert_eq!(answer.text().await.unwrap_err().kind(), ErrorKind::Server);
    // Without a session there is nothing to be true to.
    assert_eq!(llm.oneshot(ask().with_stream(true)).await.unwrap().text().await.unwrap(), "hello");
}

// 29. What a request waits in a buffer of tower's, inside of the limit, nobody can see: it is taken from the primary's
// time (a bulkhead's queue is not), and yet the request is answered in time.
#[tokio::test(start_paused = true)]
async fn who_waited_long_in_towers_buffer_is_answered_in_time() {
    let leaf = Fake::new(|call| Does::AnswersAfter(if call == 0 { secs(5) } else { secs(1) }));
    let llm = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(9)))
        .buffer::<LlmRequest>(10)
        .concurrency_limit(1)
        .layer(FallbackLayer::new("a").tier("canned", Canned::text("later")).reserve_for_fallbacks(secs(4)))
        .service(leaf);
    let start = Instant::now();
    let answers = join_all((0..5).map(|_| llm.clone().oneshot(ask()))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(start.elapsed() < secs(9));
}
