//! Every knob at its ends: nothing panics, and each value has a plain meaning.

use std::time::Duration;

use steadfast::{
    BoxLlmService, BulkheadLayer, CircuitBreakerLayer, CommitOnFirstTokenLayer, CommitPoint, ErrorKind, FallbackLayer,
    LlmRequest, RetryBudget, RetryWithJitterLayer, TimeoutLayer,
    events::CircuitState,
    layers::{
        bulkhead::{Adaptive, Limits, Rate},
        circuit_breaker::Window,
        fallback::{AllOpen, FeaturePolicy, RampStep, SessionPolicy, SessionSettings, StreamBreak, Tier, TierSettings},
        retry::{Backoff, Jitter},
    },
    providers::Canned,
};
use tokio::time::{Instant, advance};
use tower::{Layer, ServiceExt, util::BoxCloneSyncService};

use crate::traps::fixtures::{Does, Fake, ask, end, error, millis, secs, text};

const TIMES: [Duration; 4] = [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(5), Duration::MAX];
const FLOATS: [f64; 9] =
    [f64::NAN, f64::NEG_INFINITY, -1.0, -0.0, f64::MIN_POSITIVE, 0.5, 1.0, f64::MAX, f64::INFINITY];
const COUNTS: [u32; 4] = [0, 1, 1000, u32::MAX];

/// Failures of all sorts, streams and answers, a hang now and then.
fn mixed() -> Fake {
    Fake::new(|call| match call % 9 {
        0 => Does::Fails(ErrorKind::Server),
        1 => Does::LimitsAfter(millis(1), Duration::MAX),
        2 => Does::LimitsAfter(millis(1), secs(2)),
        3 => Does::Streams(vec![text(millis(1), "a"), end(millis(1))]),
        4 => Does::Hangs,
        5 => Does::Fails(ErrorKind::QuotaExhausted),
        6 => Does::FailsAfter(millis(1), error(ErrorKind::Timeout).with_retry_after(Duration::MAX)),
        _ => Does::Answers,
    })
}

/// Calls it some times, as patient and impatient callers do, with time passing between.
async fn exercise(llm: BoxLlmService) {
    for round in 0..12_u64 {
        let request =
            if round % 3 == 0 { ask().with_timeout(secs(2)).with_session("s") } else { ask().with_stream(true) };
        let call = async { llm.clone().oneshot(request).await?.text().await };
        let _ = tokio::time::timeout(secs(20), call).await;
        advance(secs(round * 7)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_takes_any_duration() {
    for total in TIMES {
        for other in TIMES {
            let layer = TimeoutLayer::new(total).first_token(other).idle(other).progress(other, total);
            exercise(BoxCloneSyncService::new(layer.layer(mixed()))).await;
        }
        let _ = LlmRequest::prompt("a").with_timeout(total).with_max_attempts(0);
    }
    // Nothing: what is not there at once is refused. For ever: no limit.
    let none = TimeoutLayer::new(Duration::ZERO);
    none.layer(Fake::answers()).oneshot(ask()).await.unwrap();
    assert_eq!(none.layer(Fake::answers_after(millis(1))).oneshot(ask()).await.unwrap_err().kind(), ErrorKind::Timeout);
    TimeoutLayer::new(Duration::MAX).layer(Fake::answers_after(secs(1 << 30))).oneshot(ask()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_retry_takes_any_count_duration_and_factor() {
    let jitters = [Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None];
    for time in TIMES {
        for float in FLOATS {
            for jitter in jitters.into_iter().chain([Jitter::Proportional(float)]) {
                let backoff = Backoff::new(time).factor(float).max_delay(time).jitter(jitter);
                let mut rng = fastrand::Rng::with_seed(1);
                for retry in [0, 1, 63, 64, u32::MAX] {
                    for previous in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
                        assert!(backoff.delay(retry, previous, &mut rng) <= time, "{backoff:?}");
                        let _ = backoff.delay_from(Duration::MAX, retry, previous, &mut rng);
                    }
                }
            }
            let layer = RetryWithJitterLayer::new()
                .max_attempts(if float > 0.0 { 20 } else { 0 })
                .max_delay(time)
                .jitter(Jitter::Proportional(float))
                .schedule(ErrorKind::Server, Backoff::new(time).factor(float))
                .retry_timeouts(true)
                .seed(u64::MAX);
            exercise(BoxCloneSyncService::new(layer.layer(mixed()))).await;
        }
    }
    for ratio in FLOATS {
        for floor in FLOATS {
            for cap in COUNTS {
                let Ok(budget) = RetryBudget::with_limits(ratio, floor, cap) else {
                    assert!(!(ratio.is_finite() && floor.is_finite()) || ratio < 0.0 || floor < 0.0);
                    continue;
                };
                let _ = (budget.available(), format!("{budget:?}"));
                exercise(BoxCloneSyncService::new(RetryWithJitterLayer::new().budget(budget).layer(mixed()))).await;
            }
        }
    }
    // No attempts at all is one: the first is always made.
    let leaf = Fake::fails(ErrorKind::Server);
    RetryWithJitterLayer::new()
        .max_attempts(0)
        .layer(leaf.clone())
        .oneshot(ask().with_max_attempts(0))
        .await
        .unwrap_err();
    assert_eq!(leaf.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_takes_any_count_duration_and_share() {
    for time in TIMES {
        for float in FLOATS {
            for count in COUNTS {
                let window = if count % 2 == 0 { Window::last(time) } else { Window::last_calls(count.min(5000)) };
                let layer = CircuitBreakerLayer::new("")
                    .consecutive_failures(count)
                    .failure_rate(float, window.minimum_calls(count))
                    .slow_calls(time, float, window)
                    .cooldown(time)
                    .cooldown_growth(float, time)
                    .cooldown_jitter(float)
                    .probes(count)
                    .probe_successes(count)
                    .probe_lease(time)
                    .latch(time)
                    .max_throttle(time)
                    .seed(0);
                let circuit = layer.handle();
                exercise(BoxCloneSyncService::new(layer.layer(mixed()))).await;
                let _ = (circuit.state(), circuit.earliest_probe(), circuit.consecutive_failures());
                let keyed = layer.keyed(|request| request.session().unwrap_or("").into(), count as usize);
                exercise(BoxCloneSyncService::new(keyed.layer(mixed()))).await;
                assert!(!keyed.states().is_empty() && keyed.states().len() <= (count as usize).max(1));
            }
        }
    }
    let _ = CircuitBreakerLayer::new("a").failure_rate(0.5, Window::last_calls(u32::MAX)).handle().state();
    let _ = CircuitBreakerLayer::new("a").keyed(|_| "".into(), usize::MAX).handle().state();
    // A cooldown for ever does not end, and one of nothing is over at once.
    for (cooldown, state) in [(Duration::MAX, CircuitState::Open), (Duration::ZERO, CircuitState::Closed)] {
        let layer = CircuitBreakerLayer::new("a").consecutive_failures(1).cooldown(cooldown);
        let circuit = layer.handle();
        let llm = layer.layer(Fake::new(|call| if call == 0 { Does::Fails(ErrorKind::Server) } else { Does::Answers }));
        llm.clone().oneshot(ask()).await.unwrap_err();
        advance(secs(1_000_000)).await;
        assert_eq!(llm.oneshot(ask()).await.is_ok(), state == CircuitState::Closed);
        assert_eq!(circuit.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_takes_any_limit_queue_wait_and_rate() {
    for concurrency in [0, 1, 7, usize::MAX] {
        for queue in [0, 1, usize::MAX] {
            for wait in TIMES {
                for rate in [None, Some(0), Some(1), Some(u32::MAX)] {
                    let mut limits = Limits::new(concurrency).queue(queue).max_wait(wait);
                    if let Some(rate) = rate {
                        limits = limits.requests_per_minute(rate).tokens_per_minute(Rate::from(rate).burst(rate));
                    }
                    let layer =
                        BulkheadLayer::new().queue(queue).max_wait(wait).feature("chat", limits).default_limit(limits);
                    let handle = layer.handle();
                    exercise(BoxCloneSyncService::new(layer.layer(mixed()))).await;
                    assert_eq!((handle.in_flight("chat"), handle.queued("chat")), (0, 0));
                }
            }
        }
    }
    for (min, max) in [(0, 0), (5, 1), (u16::MAX, u16::MAX), (0, u16::MAX)] {
        for factor in FLOATS {
            let Ok(adaptive) = Adaptive::between(min, max).backoff(factor) else { continue };
            let layer = BulkheadLayer::new().feature("chat", Limits::new(usize::MAX).adaptive(adaptive));
            let handle = layer.handle();
            exercise(BoxCloneSyncService::new(layer.layer(mixed()))).await;
            handle.set_limit("chat", usize::MAX).unwrap();
            handle.set_limit("chat", 0).unwrap();
            assert_eq!(handle.in_flight("chat"), 0);
        }
    }
    for amount in FLOATS {
        if let Ok(rate) = Rate::per_minute(amount) {
            let limits = Limits::new(5).queue(5).requests_per_minute(rate).tokens_per_minute(rate.burst(0));
            exercise(BoxCloneSyncService::new(BulkheadLayer::new().feature("chat", limits).layer(mixed()))).await;
        }
    }
    let closed = BulkheadLayer::new().feature("chat", 0).layer(Fake::answers());
    assert_eq!(closed.oneshot(ask()).await.unwrap_err().kind(), ErrorKind::BulkheadFull);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_takes_any_duration_count_and_step() {
    for time in TIMES {
        for sessions in [0, 1, usize::MAX] {
            for policy in [StreamBreak::Fail, StreamBreak::Restart, StreamBreak::Buffer] {
                for session in [SessionPolicy::Free, SessionPolicy::Pin, SessionPolicy::Sticky] {
                    let tier = |window| Tier::new("", mixed()).context_window(window).min_useful(time).last_resort();
                    let layer = FallbackLayer::new("")
                        .primary(TierSettings::new().context_window(0))
                        .push(tier(0))
                        .push(tier(u64::MAX).level(2))
                        .default_policy(
                            FeaturePolicy::new().min_useful(time).stream_break(policy).all_open(AllOpen::Wait(time)),
                        )
                        .reserve_for_fallbacks(time)
                        .session(SessionSettings::new(session).capacity(sessions))
                        .gradually([RampStep::new(0, time), RampStep::new(255, time)]);
                    exercise(BoxCloneSyncService::new(layer.layer(mixed()))).await;
                    let outer =
                        TimeoutLayer::new(time).layer(layer.layer(CircuitBreakerLayer::new("a").layer(mixed())));
                    exercise(BoxCloneSyncService::new(outer)).await;
                }
            }
        }
    }
    // Without a tier it is the primary and no more; a thousand tiers are asked one after the other.
    FallbackLayer::new("a").layer(Fake::answers()).oneshot(ask()).await.unwrap();
    let many = (0..1000).fold(FallbackLayer::new("a"), |layer, _| layer.tier("b", Fake::fails(ErrorKind::Connect)));
    let start = Instant::now();
    let llm = many.tier("canned", Canned::text("later")).layer(Fake::fails(ErrorKind::Connect));
    let failure = llm.clone().oneshot(ask()).await.unwrap_err();
    assert_eq!(failure.attempts().len(), 9, "the attempts of a request, where nobody says more");
    assert_eq!(llm.oneshot(ask().with_max_attempts(u16::MAX)).await.unwrap().served_by().attempts, 1002);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_request_takes_any_name_and_text() {
    let long = "x".repeat(1 << 20);
    for name in ["", " ", "\0", "\u{202e}\n\"", &long] {
        let request = LlmRequest::prompt(name).with_feature(name).with_session(name).with_idempotency_key(name);
        let layer = BulkheadLayer::new().feature(name, 1);
        let breaker = CircuitBreakerLayer::new(name).keyed(|request| request.session().unwrap_or("").into(), 3);
        let llm = layer.layer(FallbackLayer::new(name).tier(name, Fake::answers()).layer(breaker.layer(mixed())));
        llm.clone().oneshot(request.clone()).await.unwrap();
        CommitOnFirstTokenLayer::new().at(CommitPoint::Complete).layer(llm).oneshot(request).await.unwrap();
    }
}
