mod all_failed;
mod breaks;
mod capabilities;
mod compaction;
mod continuations;
mod known_failures;
mod levels;
mod models;
mod queue;
mod rate_limits;
mod readers;
mod second_opinions;
mod sessions;
mod shared_state;
mod switches;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

use super::{AllOpen, FallbackLayer, FeaturePolicy, RampStep, SessionPolicy, StreamBreak, Tier, TierSettings};
use crate::{
    Classifier, ErrorKind, Event, Events, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, RetryWithJitterLayer,
    StreamEvent, TimeoutLayer,
    chat::FinishReason,
    events::Failure,
    layers::{
        retry::{Backoff, Jitter},
        testing::Strict,
    },
    ledger::{Next, Stop},
    provider_fn,
    providers::Canned,
};

fn error(kind: ErrorKind) -> LlmError {
    LlmError::new(kind, "scripted")
}

/// A leaf whose every request fails like this.
fn failing(kind: ErrorKind) -> Strict {
    Strict::new().fails(10_000, error(kind))
}

/// The layer with this worst level of a feature.
fn accepting(layer: FallbackLayer, feature: &str, worst: u8) -> FallbackLayer {
    layer.feature(feature, FeaturePolicy::new().worst_level(worst))
}

fn prompt() -> LlmRequest {
    LlmRequest::prompt("hello")
}

fn tier_of(response: &LlmResponse) -> String {
    response.served_by().tier.unwrap_or("none").to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_healthy_primary_answers_and_no_other_tier_is_touched() {
    let backup = Strict::new();
    let llm = FallbackLayer::new("primary").tier("backup", backup.clone()).layer(Strict::new());
    let response = llm.oneshot(prompt()).await.unwrap();
    assert_eq!(tier_of(&response), "primary");
    assert!(response.attempts().is_empty());
    assert_eq!((backup.calls(), backup.polled_ready()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_tier_is_readied_in_its_turn_and_waited_for() {
    let backup = Strict::new().pending(3);
    let llm = FallbackLayer::new("primary").tier("backup", backup.clone()).layer(failing(ErrorKind::Server));
    let response = llm.oneshot(prompt()).await.unwrap();
    assert_eq!(tier_of(&response), "backup");
    assert_eq!((backup.calls(), backup.polled_ready()), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn what_was_retried_before_an_answer_has_its_tiers_name() {
    let retried = |leaf: Strict| RetryWithJitterLayer::new().seed(1).layer(leaf);
    let llm = FallbackLayer::new("primary")
        .tier("backup", retried(Strict::new().fails(1, error(ErrorKind::Server))))
        .layer(retried(Strict::new().fails(4, error(ErrorKind::Server))));
    let tiers = |response: LlmResponse| -> Vec<String> {
        response.attempts().iter().map(|step| step.tier.as_deref().unwrap_or("none").to_owned()).collect()
    };
    let response = llm.clone().oneshot(prompt()).await.unwrap();
    assert_eq!(tiers(response), ["primary", "primary", "primary", "backup"]);
    assert_eq!(tiers(llm.oneshot(prompt()).await.unwrap()), ["primary"]);
}

#[tokio::test(start_paused = true)]
async fn a_primary_whose_readiness_fails_is_answered_for() {
    let llm = FallbackLayer::new("primary").tier("backup", Strict::new()).layer(Strict::new().fails_readiness(1));
    // The readiness counter is per leaf, so the backup's is not touched.
    assert_eq!(tier_of(&llm.oneshot(prompt()).await.unwrap()), "backup");
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_first_leads_and_each_is_listed_with_the_earliest_moment() {
    let limited = |kind, seconds| error(kind).with_retry_after(Duration::from_secs(seconds));
    let llm = FallbackLayer::new("a")
        .tier("b", Strict::new().fails(1, limited(ErrorKind::Overloaded, 7)))
        .tier("c", Strict::new().fails(1, error(ErrorKind::Connect)))
        .layer(Strict::new().fails(1, limited(ErrorKind::RateLimited, 40)));
    let error = llm.oneshot(prompt()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    let listed: Vec<_> = error.attempts().iter().map(|step| (step.tier.as_deref(), step.failure, step.next)).collect();
    assert_eq!(
        listed,
        [
            (Some("a"), Some(ErrorKind::RateLimited), Next::FailedOver),
            (Some("b"), Some(ErrorKind::Overloaded), Next::FailedOver),
            (Some("c"), Some(ErrorKind::Connect), Next::Stopped(Stop::LastTier)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_wants_no_fallback_fails_where_the_first_tier_does() {
    let backup = Strict::new();
    let llm = FallbackLayer::new("a")
        .tier("b", backup.clone())
        .route(ErrorKind::Overloaded, ["b"])
        .layer(failing(ErrorKind::Overloaded));
    let error = llm.oneshot(prompt().no_fallback()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts().len(), backup.calls()), (ErrorKind::Overloaded, 1, 0));
    let healthy = FallbackLayer::new("a").tier("b", backup.clone()).layer(Strict::new());
    assert_eq!(tier_of(&healthy.oneshot(prompt().no_fallback()).await.unwrap()), "a");
}

#[tokio::test(start_paused = true)]
async fn the_callers_mistake_stops_at_once() {
    for kind in [ErrorKind::InvalidRequest, ErrorKind::ContentPolicy, ErrorKind::Refusal, ErrorKind::ContextLength] {
        let backup = Strict::new();
        let llm = FallbackLayer::new("a").tier("b", backup.clone()).layer(failing(kind));
        assert_eq!(llm.oneshot(prompt()).await.unwrap_err().kind(), kind);
        assert_eq!(backup.calls(), 0, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_too_long_goes_only_to_a_larger_window() {
    let (small, large, unknown) = (Strict::new(), Strict::new(), Strict::new());
    let llm = FallbackLayer::new("a")
        .primary(TierSettings::new().context_window(100_000))
        .push(Tier::new("small", small.clone()).context_window(100_000))
        .tier("unknown", unknown.clone())
        .push(Tier::new("large", large.clone()).context_window(1_000_000))
        .layer(failing(ErrorKind::ContextLength));
    assert_eq!(tier_of(&llm.oneshot(prompt()).await.unwrap()), "large");
    assert_eq!((small.calls(), unknown.calls()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failure_on_the_way_does_not_lead_to_a_smaller_window() {
    let small = Strict::new();
    let llm = FallbackLayer::new("a")
        .primary(TierSettings::new().context_window(100_000))
        .push(Tier::new("large", failing(ErrorKind::Overloaded)).context_window(1_000_000))
        .push(Tier::new("small", small.clone()).context_window(50_000))
        .layer(failing(ErrorKind::ContextLength));
    assert_eq!(llm.oneshot(prompt()).await.unwrap_err().kind(), ErrorKind::ContextLength);
    assert_eq!(small.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_route_sends_a_kind_where_it_says() {
    let (b, c) = (Strict::new(), Strict::new());
    let llm = FallbackLayer::new("a")
        .tier("b", b.clone())
        .tier("c", c.clone())
        .route(ErrorKind::Refusal, ["c"])
        .layer(failing(ErrorKind::Refusal));
    assert_eq!(tier_of(&llm.oneshot(prompt()).await.unwrap()), "c");
    assert_eq!(b.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_goes_on_whether_or_not_it_has_ever_worked() {
    let auth = || Err(error(ErrorKind::Auth));
    let layer = FallbackLayer::new("a").tier("b", Strict::new());
    let mut llm = layer.layer(Strict::new().script([auth(), Ok(()), auth()]));
    assert_eq!(tier_of(&llm.ready().await.unwrap().call(prompt()).await.unwrap()), "b");
    assert_eq!(tier_of(&llm.ready().await.unwrap().call(prompt()).await.unwrap()), "a");
    assert_eq!(tier_of(&llm.ready().await.unwrap().call(prompt()).await.unwrap()), "b");
}

/// The row of a file's list that does not name these kinds.
#[tokio::test(start_paused = true)]
async fn what_is_not_listed_goes_on_only_behind_another_tiers_failure() {
    for kind in [ErrorKind::NotFound, ErrorKind::TooLarge] {
        let (b, c) = (failing(kind), Strict::new());
        let layer = FallbackLayer::new("a").tier("b", b).tier("c", c.clone());
        let layer = layer.classifier(Classifier::overridden(move |error, mut class| {
            if error.kind() == kind {
                class.failover = crate::classify::Failover::AfterAnother;
            }
            class
        }));
        assert_eq!(layer.clone().layer(failing(kind)).oneshot(prompt()).await.unwrap_err().kind(), kind);
        assert_eq!(c.calls(), 0, "{kind}");
        for first in [ErrorKind::Overloaded, ErrorKind::CircuitOpen, ErrorKind::Auth] {
            let llm = layer.clone().layer(failing(first));
            assert_eq!(tier_of(&llm.oneshot(prompt()).await.unwrap()), "c", "{first} {kind}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_on_this_side_costs_no_attempt_and_no_time() {
    let before = Instant::now();
    let llm = FallbackLayer::new("a").tier("b", Strict::new()).layer(failing(ErrorKind::CircuitOpen));
    let response = llm.oneshot(prompt().with_max_attempts(1)).await.unwrap();
    assert_eq!(response.served_by().attempts, 1);
    assert_eq!(response.attempts()[0].failure, Some(ErrorKind::CircuitOpen));
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_first_called_tier_calls_wrong_says_so_though_the_primary_refused() {
    let llm =
        FallbackLayer::new("a").tier("b", failing(ErrorKind::InvalidRequest)).layer(failing(ErrorKind::CircuitOpen));
    assert_eq!(llm.oneshot(prompt()).await.unwrap_err().kind(), ErrorKind::InvalidRequest);

    let llm = FallbackLayer::new("a").tier("b", failing(ErrorKind::InvalidRequest)).layer(failing(ErrorKind::Server));
    assert_eq!(llm.oneshot(prompt()).await.unwrap_err().kind(), ErrorKind::Server, "the root error is never masked");
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_hangs_is_answered_by_the_next_tier_in_time() {
    let hanging = Strict::new().takes(Duration::from_secs(100_000));
    let before = Instant::now();
    let llm = TimeoutLayer::new(Duration::from_secs(90))
        .layer(FallbackLayer::new("a").tier("b", Strict::new()).layer(hanging.clone()));
    let response = llm.oneshot(prompt()).await.unwrap();
    assert_eq!(tier_of(&response), "b");
    assert_eq!(before.elapsed(), Duration::from_secs(80), "ten seconds are kept back");
    assert_eq!(response.attempts()[0].failure, Some(ErrorKind::Timeout));
    assert_eq!(hanging.running(), 0, "what hangs is dropped");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_half_of_a_short_deadline_is_kept_back() {
    let hanging = Strict::new().takes(Duration::from_secs(100_000));
    let before = Instant::now();
    let llm = FallbackLayer::new("a").tier("b", Strict::new()).layer(hanging);
    llm.oneshot(prompt().with_timeout(Duration::from_secs(4))).await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn no_tier_is_begun_that_the_deadline_cannot_finish() {
    let slow = Strict::new().takes(Duration::from_secs(3)).fails(1, error(ErrorKind::Server));
    let (slow_backup, canned) = (Strict::new(), Canned::text("later"));
    let llm = FallbackLayer::new("a")
        .default_policy(FeaturePolicy::new().min_useful(Duration::from_secs(2)))
        .reserve_for_fallbacks(Duration::ZERO)
        .tier("b", slow_backup.clone())
        .layer(slow.clone());
    let failed = llm.oneshot(prompt().with_timeout(Duration::from_secs(4))).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Server);
    assert_eq!(failed.attempts()[0].next, Next::Stopped(Stop::Deadline));
    assert_eq!(slow_backup.calls(), 0);

    let llm = FallbackLayer::new("a")
        .default_policy(FeaturePolicy::new().min_useful(Duration::from_secs(2)))
        .reserve_for_fallbacks(Duration::ZERO)
        .tier("b", slow_backup.clone())
        .push(Tier::new("canned", canned).min_useful(Duration::ZERO))
        .layer(slow.fails(1, error(ErrorKind::Server)));
    let response = llm.oneshot(prompt().with_timeout(Duration::from_secs(4))).await.unwrap();
    assert_eq!((tier_of(&response).as_str(), response.degraded().is_some()), ("canned", true));
}

#[tokio::test(start_paused = true)]
async fn each_tier_sees_what_it_may_spend() {
    let (a, b, c) = (failing(ErrorKind::Server), failing(ErrorKind::Server), Strict::new());
    let last = Tier::new("c", c.clone()).last_resort();
    let llm = FallbackLayer::new("a").tier("b", b.clone()).push(last).layer(a.clone());
    llm.oneshot(prompt().with_max_attempts(5)).await.unwrap();
    let seen = |leaf: &Strict| {
        let context = *leaf.seen()[0].context();
        (context.tiers_left, context.attempts_left, context.attempts_made, context.last_resort)
    };
    assert_eq!(seen(&a), (2, 2, 0, false), "an equal share of five is kept for each tier after");
    assert_eq!(seen(&b), (1, 2, 1, false));
    assert_eq!(seen(&c), (0, 3, 2, true));
}

#[tokio::test(start_paused = true)]
async fn the_attempts_of_a_request_bound_the_walk() {
    let c = Strict::new();
    let llm = FallbackLayer::new("a")
        .tier("b", failing(ErrorKind::Server))
        .tier("c", c.clone())
        .layer(failing(ErrorKind::Server));
    let error = llm.oneshot(prompt().with_max_attempts(2)).await.unwrap_err();
    assert_eq!(error.attempts()[1].next, Next::Stopped(Stop::Attempts));
    assert_eq!(c.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_feature_goes_only_where_its_policy_says() {
    let (a, b) = (Strict::new(), Strict::new());
    let layer = FallbackLayer::new("a")
        .tier("b", b.clone())
        .tier("c", Strict::new())
        .feature("background", ["b"])
        .feature("code", ["a"]);
    let llm = layer.layer(a.clone());
    let response = llm.clone().oneshot(prompt().with_feature("background")).await.unwrap();
    assert_eq!((tier_of(&response).as_str(), a.calls()), ("b", 0));

    let llm = layer.layer(failing(ErrorKind::Server));
    let error = llm.oneshot(prompt().with_feature("code")).await.unwrap_err();
    assert_eq!(error.attempts()[0].next, Next::Stopped(Stop::Policy));
}

#[tokio::test(start_paused = true)]
async fn a_pinned_session_never_switches_and_fails_clearly() {
    let a = Strict::new().script([Ok(()), Err(error(ErrorKind::Server))]);
    let mut llm = FallbackLayer::new("a").tier("b", Strict::new()).session(SessionPolicy::Pin).layer(a);
    let ask = |session: &'static str| prompt().with_session(session);
    assert_eq!(tier_of(&llm.ready().await.unwrap().call(ask("s")).await.unwrap()), "a");
    let error = llm.ready().await.unwrap().call(ask("s")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server);
    assert_eq!(error.attempts()[0].next, Next::Stopped(Stop::Pinned));
    assert_eq!(tier_of(&llm.ready().await.unwrap().call(ask("other")).await.unwrap()), "a");
}

#[tokio::test(start_paused = true)]
async fn a_sticky_session_stays_where_it_was_switched_to() {
    let a = Strict::new().script([Ok(()), Err(error(ErrorKind::Server))]);
    let mut llm = FallbackLayer::new("a").tier("b", Strict::new()).session(SessionPolicy::Sticky).layer(a);
    let mut served = Vec::new();
    for session in ["s", "s", "s", "t"] {
        served.push(tier_of(&llm.ready().await.unwrap().call(prompt().with_session(session)).await.unwrap()));
    }
    assert_eq!(served, ["a", "b", "b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_sticky_session_whose_tier_fails_goes_back_to_the_primary() {
    let a = Strict::new().script([Err(error(ErrorKind::Server))]);
    let b = Strict::new().script([Ok(()), Err(error(ErrorKind::Server))]);
    let mut llm = FallbackLayer::new("a").tier("b", b).session(SessionPolicy::Sticky).layer(a);
    let mut served = Vec::new();
    for _ in 0..2 {
        served.push(tier_of(&llm.ready().await.unwrap().call(prompt().with_session("s")).await.unwrap()));
    }
    assert_eq!(served, ["b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_switch_and_the_recovery_are_told_once() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let second = Duration::from_secs(1);
    let script = std::iter::repeat_with(|| Err(error(ErrorKind::Overloaded))).take(3).chain([Ok(()), Ok(())]);
    let a = Strict::new().script(script);
    let mut llm = FallbackLayer::new("a").tier("b", Strict::new()).events(events).layer(a);
    let switched = Instant::now();
    for _ in 0..5 {
        llm.ready().await.unwrap().call(prompt()).await.unwrap();
        tokio::time::advance(second).await;
    }
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    assert_eq!(
        heard.try_recv().unwrap(),
        Event::ModelSwitched {
            chain: a.clone(),
            first: a.clone(),
            from: a.clone(),
            to: b.clone(),
            reason: ErrorKind::Overloaded,
            failure: Failure::of_error(&error(ErrorKind::Overloaded), None, switched).into(),
            at: switched,
        }
    );
    assert_eq!(
        heard.try_recv().unwrap(),
        Event::ModelRecovered { chain: a.clone(), from: b, to: a, after: second * 3, at: switched + second * 3 }
    );
    assert!(heard.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_from_before_the_switch_is_no_recovery() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let slow_then_down = provider_fn({
        let calls = Arc::new(AtomicUsize::new(0));
        move |_| {
            let first = calls.fetch_add(1, Relaxed) == 0;
            async move {
                if first {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    return Ok(LlmResponse::from_text("late"));
                }
                Err(error(ErrorKind::Server))
            }
        }
    });
    let mut llm = FallbackLayer::new("a").tier("b", Strict::new()).events(events).layer(slow_then_down);
    let late = llm.ready().await.unwrap().call(prompt());
    tokio::time::advance(Duration::from_secs(1)).await;
    llm.ready().await.unwrap().call(prompt()).await.unwrap();
    late.await.unwrap();
    assert!(matches!(heard.try_recv(), Ok(Event::ModelSwitched { .. })));
    assert!(heard.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_of_another_tier_from_before_the_recovery_is_no_switch() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let script = [Err(error(ErrorKind::Server)), Err(error(ErrorKind::Server)), Ok(())];
    let backup = Strict::new().takes(Duration::from_secs(1));
    let mut llm = FallbackLayer::new("a").tier("b", backup).events(events).layer(Strict::new().script(script));
    llm.ready().await.unwrap().call(prompt()).await.unwrap();
    let mut late = task::spawn(llm.ready().await.unwrap().call(prompt()));
    assert_pending!(late.poll());
    tokio::time::advance(Duration::from_millis(500)).await;
    llm.ready().await.unwrap().call(prompt()).await.unwrap();
    assert_eq!(tier_of(&late.await.unwrap()), "b");
    assert!(matches!(heard.try_recv(), Ok(Event::ModelSwitched { .. })));
    assert!(matches!(heard.try_recv(), Ok(Event::ModelRecovered { .. })));
    assert!(heard.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn the_traffic_returns_in_steps() {
    let minute = Duration::from_secs(60);
    let a = Strict::new().fails(1, error(ErrorKind::Server));
    let mut llm = FallbackLayer::new("a")
        .tier("b", Strict::new())
        .gradually([RampStep::new(10, minute), RampStep::new(50, minute)])
        .layer(a.clone());
    llm.ready().await.unwrap().call(prompt()).await.unwrap();
    llm.ready().await.unwrap().call(prompt()).await.unwrap();
    let mut shares = Vec::new();
    for _ in 0..3 {
        let before = a.calls();
        for _ in 0..100 {
            llm.ready().await.unwrap().call(prompt()).await.unwrap();
        }
        shares.push(a.calls() - before);
        tokio::time::advance(minute).await;
    }
    assert_eq!(shares, [10, 50, 100]);
}

#[tokio::test(start_paused = true)]
async fn when_every_circuit_is_open_a_request_may_wait_for_the_first_probe() {
    let open = || Err(error(ErrorKind::CircuitOpen).with_retry_after(Duration::from_secs(20)));
    let layer = |wait| {
        FallbackLayer::new("a")
            .default_policy(FeaturePolicy::new().all_open(wait))
            .tier("b", Strict::new().script([open(), open()]))
    };
    let before = Instant::now();
    let llm = layer(AllOpen::Wait(Duration::from_secs(30))).layer(Strict::new().script([open(), open()]));
    let response = llm.oneshot(prompt()).await.unwrap();
    assert_eq!((tier_of(&response).as_str(), before.elapsed()), ("a", Duration::from_secs(20)));
    // Both circuits refuse, and the first once more, since nothing else is left.
    assert_eq!(response.attempts().len(), 3);

    let before = Instant::now();
    let llm = layer(AllOpen::Wait(Duration::from_secs(10))).layer(Strict::new().script([open(), open()]));
    assert_eq!(llm.oneshot(prompt()).await.unwrap_err().kind(), ErrorKind::CircuitOpen);
    assert_eq!(before.elapsed(), Duration::ZERO, "a wait that is too long is not begun");

    let llm = layer(AllOpen::Fail).layer(Strict::new().script([open(), open()]));
    let error = llm.oneshot(prompt()).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(20)));
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_probe_that_is_due_within_a_second() {
    let in_ms = Duration::from_millis;
    // The times of the probes that the refusals name.
    let rows: [(&[u64], u64, Result<u64, u64>); 6] = [
        (&[800], 9000, Ok(800)),
        // Another request's probe is under way, and ends.
        (&[0, 0], 9000, Ok(100)),
        (&[700, 900], 9000, Ok(900)),
        // In all, no longer than a second.
        (&[700, 1100], 9000, Err(700)),
        (&[1100], 9000, Err(0)),
        (&[800], 500, Err(0)),
    ];
    for (probes, deadline, expected) in rows {
        let begun = Instant::now();
        let refusal = |after: &u64| Err(error(ErrorKind::CircuitOpen).with_retry_after(in_ms(*after)));
        let llm = FallbackLayer::new("a").layer(Strict::new().script(probes.iter().map(refusal).collect::<Vec<_>>()));
        let mut request = prompt();
        request.context_mut().deadline = Some(begun + in_ms(deadline));
        let ended = llm.oneshot(request).await.map(|_| begun.elapsed()).map_err(|_| begun.elapsed());
        assert_eq!(ended, expected.map(in_ms).map_err(in_ms), "{probes:?}, {deadline}");
    }
    // The backup refuses, is asked all the same, and fails: that was the last attempt.
    for policy in [AllOpen::Fail, AllOpen::Wait(in_ms(9000))] {
        let refusal = || Err(error(ErrorKind::CircuitOpen).with_retry_after(in_ms(800)));
        let (a, b) = (failing(ErrorKind::Server), Strict::new().script([refusal(), refusal(), Ok(())]));
        let layer = FallbackLayer::new("a").default_policy(FeaturePolicy::new().all_open(policy));
        let llm = layer.tier("b", b).layer(a.clone());
        assert!(llm.oneshot(prompt().with_max_attempts(1)).await.is_err(), "{policy:?}");
        assert_eq!(a.calls(), 1, "{policy:?}");
    }
    let begun = Instant::now();
    assert!(FallbackLayer::new("a").layer(failing(ErrorKind::Server)).oneshot(prompt()).await.is_err());
    assert!(begun.elapsed().is_zero(), "what is no refusal is not waited for");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_wait_for_a_probe_and_the_others_fail_at_once() {
    let refusals = (0..1010).map(|_| Err(error(ErrorKind::CircuitOpen).with_retry_after(Duration::from_millis(800))));
    let llm = FallbackLayer::new("a").layer(Strict::new().script(refusals.collect::<Vec<_>>()));
    let begun = Instant::now();
    let calls = (0..1010).map(|_| llm.clone().oneshot(prompt()));
    let ended = futures_util::future::join_all(calls.map(|call| async {
        let answer = call.await;
        (answer.is_ok(), begun.elapsed())
    }))
    .await;
    let refused = ended.iter().filter(|(is_served, after)| !is_served && after.is_zero()).count();
    let served = ended.iter().filter(|(is_served, _)| *is_served).count();
    assert_eq!((served, refused), (1000, 10));
    // Their places are free again.
    let llm = llm.clone();
    assert!(llm.oneshot(prompt()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_future_dropped_anywhere_leaves_nothing_running() {
    let second = Duration::from_secs(1);
    for seconds in 0..4 {
        let a = Strict::new().takes(second).fails(1, error(ErrorKind::Server)).pending(2);
        let b = Strict::new().takes(second).pending(2);
        let mut llm = FallbackLayer::new("a").tier("b", b.clone()).layer(a.clone());
        let mut call = task::spawn(llm.call(prompt()));
        assert_pending!(call.poll());
        for _ in 0..seconds {
            tokio::time::advance(second / 2).await;
            let _ = call.poll();
        }
        drop(call);
        assert_eq!((a.running(), b.running()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_explained_answer_lists_the_attempt_that_answered() {
    let llm = FallbackLayer::new("a").tier("b", Strict::new()).layer(failing(ErrorKind::Server));
    let response = llm.oneshot(prompt().explain()).await.unwrap();
    let listed: Vec<_> = response.attempts().iter().map(|step| (step.tier.as_deref(), step.next)).collect();
    assert_eq!(listed, [(Some("a"), Next::FailedOver), (Some("b"), Next::Answered)]);
    assert_eq!(response.served_by().attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn an_explained_answer_that_came_after_a_retry_began_with_it() {
    let second = Duration::from_secs(1);
    let retry =
        RetryWithJitterLayer::new().jitter(Jitter::None).schedule(ErrorKind::Server, Backoff::fixed(2 * second));
    let leaf = Strict::new().fails(1, error(ErrorKind::Server)).takes(3 * second);
    let begun = Instant::now();
    let response = FallbackLayer::new("a").layer(retry.layer(leaf)).oneshot(prompt().explain()).await.unwrap();
    let listed: Vec<_> = response.attempts().iter().map(|step| (step.begun - begun, step.took)).collect();
    assert_eq!(listed[1], (begun.elapsed() - 3 * second, 3 * second), "{listed:?}");
}

#[tokio::test(start_paused = true)]
async fn another_table_changes_what_fails_over() {
    let table = Classifier::overridden(|error, mut class| {
        if error.kind() == ErrorKind::InvalidRequest {
            class.failover = crate::classify::Failover::Yes;
        }
        class
    });
    let llm = FallbackLayer::new("a").classifier(table).tier("b", Strict::new());
    let response = llm.layer(failing(ErrorKind::InvalidRequest)).oneshot(prompt()).await.unwrap();
    assert_eq!(tier_of(&response), "b");
}

#[tokio::test]
async fn the_healthy_path_allocates_nothing() {
    let leaf = provider_fn(|_| std::future::ready(Ok::<_, LlmError>(LlmResponse::from_text("hello"))));
    let mut llm = FallbackLayer::new("a").tier("b", Strict::new()).layer(leaf);
    let mut run = || {
        let mut call = task::spawn(llm.call(LlmRequest::prompt("hello")));
        assert!(call.poll().is_ready());
    };
    let request = allocation_counter::measure(|| drop(std::hint::black_box(LlmRequest::prompt("hello")))).count_total;
    let spawn = allocation_counter::measure(|| drop(task::spawn(std::future::ready(())))).count_total;
    assert_eq!(allocation_counter::measure(&mut run).count_total, request + spawn);
}

#[test]
fn chains_from_data_are_checked() {
    let tier = |name: &'static str| Tier::new(name, Canned::text("x"));
    let field = |layer: FallbackLayer| layer.checked().unwrap_err().to_string();
    let layer = FallbackLayer::new("a").push(tier("b"));
    assert!(field(layer.clone().push(tier("b")).feature("chat", ["b"])).contains("two tiers are named `b`"));
    assert!(field(layer.clone().push(tier("a")).default_policy(["a"])).contains("two tiers are named `a`"));
    assert!(layer.clone().push(tier("b")).feature("chat", ["a"]).checked().is_ok(), "no chain names them");
    assert!(field(layer.clone().feature("chat", ["c"])).contains("there are a, b"));
    assert!(field(layer.route(ErrorKind::Refusal, [])).starts_with("routes.refusal: the chain is empty"));
}
