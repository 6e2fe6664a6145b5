//! Tests of the other inputs: rates, a `Retry-After`, quota, keys, storms, orders by hand.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::layers::circuit_breaker::{
    settings::{Rule, Window},
    storm::{CALM, DISTINCT},
    word::Reason,
};

fn by_rate(rule: Rule) -> Settings {
    Settings { consecutive_failures: None, failure_rate: Some(rule), ..minute() }
}

#[test]
fn count_window_slides_after_a_million_successes() {
    let bench = Bench::new(by_rate(Rule::new(0.5, Window::last_calls(100).minimum_calls(100))));
    for _ in 0..1_000_000 {
        bench.call(OK);
    }
    let opened = (1..=100).find(|_| bench.call(FAILURE).is_some());
    assert_eq!(opened, Some(50));
}

#[test]
fn failure_rate_waits_for_the_minimum_of_calls() {
    let bench = Bench::new(by_rate(Rule::new(0.5, Window::last(seconds(10)).minimum_calls(20))));
    for _ in 0..19 {
        assert_eq!(bench.call(FAILURE), None);
    }
    let transition = bench.call(FAILURE).expect("a transition");
    assert_eq!(transition.reason, Reason::FailureRate);
}

#[test]
fn failures_of_long_ago_are_forgotten_by_the_time_window() {
    let bench = Bench::new(by_rate(Rule::new(0.5, Window::last(Duration::from_millis(500)))));
    for _ in 0..9 {
        bench.call(FAILURE);
    }
    bench.wait(Duration::from_millis(500));
    for _ in 0..9 {
        assert_eq!(bench.call(FAILURE), None);
    }
    assert!(bench.call(FAILURE).is_some());
}

#[test]
fn window_is_empty_after_recovery() {
    let bench = Bench::new(by_rate(Rule::new(0.5, Window::last_calls(10).minimum_calls(4))));
    for _ in 0..4 {
        bench.call(FAILURE);
    }
    bench.wait(seconds(60));
    bench.call(OK);
    for _ in 0..3 {
        assert_eq!(bench.call(FAILURE), None);
    }
}

#[test]
fn slow_calls_open_although_they_succeed() {
    let bench =
        Bench::new(Settings { slow_rate: Some(Rule::new(0.5, Window::last_calls(10).minimum_calls(10))), ..minute() });
    for _ in 0..5 {
        bench.call(OK);
    }
    for _ in 0..4 {
        assert_eq!(bench.call(SLOW), None);
    }
    let transition = bench.call(SLOW).expect("a transition");
    assert_eq!(transition.reason, Reason::SlowCalls);
}

#[test]
fn caller_errors_never_move_a_closed_circuit() {
    let bench = Bench::new(minute());
    for _ in 0..4 {
        bench.call(FAILURE);
    }
    for _ in 0..1000 {
        bench.call(Outcome::Neutral);
        bench.call(Outcome::Abandoned);
        bench.call(Outcome::InvalidRequest { fingerprint: Some(4) });
    }
    // Neither failures nor successes: the fifth failure is still the fifth.
    assert_eq!(bench.circuit.failures(), 4);
    assert!(bench.call(FAILURE).is_some());
}

#[test]
fn error_that_proves_life_ends_a_run_of_failures() {
    let bench = Bench::new(minute());
    for _ in 0..100 {
        bench.call(FAILURE);
        bench.call(Outcome::Alive);
    }
    assert_eq!(bench.phase(), Phase::Closed);
    // But it does not prove that the key works.
    assert_eq!(bench.call(Outcome::Auth), None);
}

#[test]
fn retry_after_throttles_at_once_and_traffic_resumes_plainly() {
    let bench = Bench::new(minute());
    let in_flight = bench.admitted();
    let transition = bench.call(Outcome::RateLimited { until: Some(bench.at(seconds(30))) });
    let transition = transition.expect("a transition");
    assert_eq!((transition.from, transition.to), (Phase::Closed, Phase::Throttled));
    assert_eq!(bench.until(), Some(seconds(30)));
    let rejection = bench.rejected();
    assert_eq!((rejection.reason, rejection.until), (Reason::Throttled, Some(bench.at(seconds(30)))));
    // A call that was under way is no straggler.
    assert!(!bench.settle(in_flight, OK).late);
    assert_eq!(bench.phase(), Phase::Throttled);

    bench.wait(seconds(30));
    assert_eq!(bench.phase(), Phase::Closed);
    let Decision::AdmittedAfter(call, lifted) = bench.decide() else {
        panic!("admitted");
    };
    assert_eq!(call.probe, None);
    assert_eq!((lifted.from, lifted.to, lifted.reason), (Phase::Throttled, Phase::Closed, Reason::ThrottleOver));
    assert_eq!(bench.admitted().probe, None);
}

#[test]
fn later_of_two_throttles_wins() {
    for (first, second) in [(30, 10), (10, 30)] {
        let bench = Bench::new(minute());
        let calls = [bench.admitted(), bench.admitted()];
        let limited = |after| Outcome::RateLimited { until: Some(bench.at(seconds(after))) };
        assert!(bench.settle(calls[0], limited(first)).transition.is_some());
        assert_eq!(bench.settle(calls[1], limited(second)).transition, None);
        assert_eq!(bench.until(), Some(seconds(30)));
    }
}

#[test]
fn absurd_retry_after_is_believed_up_to_a_limit() {
    let bench = Bench::new(minute());
    bench.call(Outcome::RateLimited { until: Some(bench.origin + seconds(1_000_000_000)) });
    assert_eq!(bench.until(), Some(seconds(300)));
}

#[test]
fn retry_after_of_zero_is_no_throttle() {
    let bench = Bench::new(minute());
    let outcome = Outcome::RateLimited { until: Some(bench.origin) };
    assert_eq!(bench.call(outcome), None);
    assert_eq!(bench.phase(), Phase::Closed);
}

#[test]
fn failures_with_retry_after_throttle_and_count() {
    let bench = Bench::new(minute());
    let outcome =
        |bench: &Bench| Outcome::Failure { slow: false, throttle: Some(bench.now.get() + seconds(90)), cause: CAUSE };
    for _ in 0..4 {
        let transition = bench.call(outcome(&bench)).expect("throttled");
        assert_eq!(transition.to, Phase::Throttled);
        bench.wait(seconds(90));
    }
    let transition = bench.call(outcome(&bench)).expect("opened");
    assert_eq!(transition.reason, Reason::ConsecutiveFailures);
    assert_eq!(bench.until(), Some(bench.now.get() + seconds(90) - bench.origin));
}

#[test]
fn trip_under_a_throttle_lasts_as_long_as_the_throttle() {
    let bench = Bench::new(minute());
    let in_flight: Vec<_> = (0..5).map(|_| bench.admitted()).collect();
    bench.call(Outcome::RateLimited { until: Some(bench.at(seconds(200))) });
    for call in in_flight {
        bench.settle(call, FAILURE);
        bench.wait(seconds(1));
    }
    assert_eq!((bench.phase(), bench.until()), (Phase::Open, Some(seconds(200))));
}

#[test]
fn throttled_probe_leaves_the_circuit_half_open() {
    let bench = Bench::opened(minute());
    bench.wait(seconds(60));
    bench.call(Outcome::RateLimited { until: Some(bench.at(seconds(70))) });
    assert_eq!(bench.rejected().reason, Reason::Throttled);
    bench.wait(seconds(10));
    assert!(bench.admitted().probe.is_some());
    assert_eq!(bench.phase(), Phase::HalfOpen);
}

#[test]
fn late_retry_after_is_obeyed_while_open() {
    let bench = Bench::new(minute());
    let late = bench.admitted();
    for _ in 0..5 {
        bench.call(FAILURE);
    }
    let outcome = Outcome::RateLimited { until: Some(bench.at(seconds(100))) };
    let settled = bench.settle(late, outcome);
    assert!(settled.late && settled.transition.is_none());
    assert_eq!(bench.until(), Some(seconds(100)));
}

#[test]
fn five_rate_limits_without_a_time_open() {
    let bench = Bench::new(minute());
    for _ in 0..4 {
        assert_eq!(bench.call(HINTLESS_429), None);
    }
    assert!(bench.call(HINTLESS_429).is_some());
    bench.wait(seconds(60));
    bench.call(HINTLESS_429);
    assert_eq!(bench.phase(), Phase::Open);
}

#[test]
fn used_up_quota_opens_and_probes_by_itself() {
    let bench = Bench::new(minute());
    let transition = bench.call(QUOTA).expect("a transition");
    assert_eq!((transition.to, transition.reason), (Phase::Open, Reason::Quota));
    for minute in 1..=12 * 60 {
        assert_eq!(bench.rejected().reason, Reason::Quota);
        assert_eq!(bench.until(), Some(seconds(60 * minute)));
        bench.wait(seconds(60));
        bench.call(QUOTA);
    }
    bench.wait(seconds(60));
    bench.call(OK);
    assert_eq!(bench.phase(), Phase::Closed);
}

#[test]
fn known_reset_time_is_when_the_quota_is_tried_again() {
    let bench = Bench::new(minute());
    bench.call(Outcome::Quota { until: Some(bench.at(seconds(7))) });
    assert_eq!(bench.until(), Some(seconds(7)));
}

#[test]
fn refused_key_opens_only_if_it_has_worked() {
    let bench = Bench::new(minute());
    for _ in 0..100 {
        assert_eq!(bench.call(Outcome::Auth), None);
    }
    assert_eq!(bench.phase(), Phase::Closed);
    bench.call(OK);
    let transition = bench.call(Outcome::Auth).expect("a transition");
    assert_eq!(transition.reason, Reason::Auth);
    bench.wait(seconds(60));
    bench.call(Outcome::Auth);
    assert_eq!((bench.phase(), bench.until()), (Phase::Open, Some(seconds(120))));
    bench.wait(seconds(60));
    bench.call(OK);
    assert_eq!(bench.phase(), Phase::Closed);
}

#[test]
fn a_refused_key_that_has_worked_elsewhere_opens_too_and_is_no_success() {
    let bench = Bench::new(minute());
    assert!(!bench.circuit.take_success());
    bench.circuit.note_worked();
    assert!(!bench.circuit.take_success(), "another process's word");
    let transition = bench.call(Outcome::Auth).expect("a transition");
    assert_eq!((transition.reason, bench.until()), (Reason::Auth, Some(seconds(60))));
    assert!(!bench.circuit.take_success());
    bench.wait(seconds(60));
    bench.call(OK);
    assert_eq!(bench.phase(), Phase::Closed);
    assert!(bench.circuit.take_success() && !bench.circuit.take_success());
    bench.circuit.note_worked();
    assert!(!bench.circuit.take_success());
    bench.call(OK);
    assert!(bench.circuit.take_success());
    bench.call(Outcome::Auth).expect("a transition");
}

/// The judge is a second circuit, to which nobody gives word and whom nobody asks.
#[test]
fn word_of_others_and_questions_change_nothing_but_the_keys_flags() {
    let until = |bench: &Bench| Outcome::RateLimited { until: Some(bench.now.get() + seconds(3)) };
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..200 {
        let [told, plain] = [Bench::new(minute()), Bench::new(minute())];
        // The first success comes first: what a refused key does is all that may differ.
        assert_eq!((told.call(OK), plain.call(OK)), (None, None));
        for _ in 0..100 {
            match rng.u8(..4) {
                0 => told.circuit.note_worked(),
                1 => drop(told.circuit.take_success()),
                _ => {}
            }
            let pause = seconds(rng.u64(..20));
            told.wait(pause);
            plain.wait(pause);
            let outcome = match rng.u8(..8) {
                0..=2 => OK,
                3 => Outcome::Auth,
                4 => SLOW,
                5 => until(&told),
                _ => FAILURE,
            };
            // The two clocks began at two moments.
            let outcomes = [outcome, if let Outcome::RateLimited { .. } = outcome { until(&plain) } else { outcome }];
            let seen = [&told, &plain].into_iter().zip(outcomes).map(|(bench, outcome)| {
                let transition = bench.admit().and_then(|admission| bench.settle(admission, outcome).transition);
                (transition, bench.phase(), bench.until(), bench.circuit.failures())
            });
            let seen: Vec<_> = seen.collect();
            assert_eq!(seen[0], seen[1]);
        }
    }
}

#[test]
fn storm_of_different_invalid_requests_is_the_providers_fault() {
    let bench = Bench::new(minute());
    bench.call(OK);
    let invalid = |fingerprint| Outcome::InvalidRequest { fingerprint: Some(fingerprint) };
    for fingerprint in 0..DISTINCT as u64 - 1 {
        assert_eq!(bench.call(invalid(fingerprint)), None);
        assert_eq!(bench.call(OK), None);
    }
    let transition = bench.call(invalid(99)).expect("a transition");
    assert_eq!(transition.reason, Reason::InvalidRequests);

    // During a storm, a probe called invalid is a failed probe.
    for probe in 0..3 {
        bench.wait(seconds(60));
        bench.call(invalid(probe));
        assert_eq!(bench.phase(), Phase::Open);
    }
    bench.wait(seconds(60));
    bench.call(OK);
    assert_eq!(bench.phase(), Phase::Closed);
}

#[test]
fn occasional_invalid_requests_are_no_storm() {
    let bench = Bench::new(minute());
    for fingerprint in 0..2000 {
        assert_eq!(bench.call(Outcome::InvalidRequest { fingerprint: Some(fingerprint) }), None);
        for _ in 0..3 {
            bench.call(OK);
        }
    }
}

#[test]
fn suspicion_of_a_storm_passes() {
    let bench = Bench::new(minute());
    bench.call(OK);
    bench.call(Outcome::InvalidRequest { fingerprint: Some(1) });
    for _ in 0..CALM {
        bench.call(OK);
    }
    let admission = bench.admitted();
    let never = || -> Instant { panic!("healthy again") };
    bench.circuit.settle(admission, OK, never);
}

#[test]
fn forced_open_stays_open_until_told_otherwise() {
    let bench = Bench::new(minute());
    let transition = bench.circuit.force_open().expect("a transition");
    assert_eq!((transition.to, bench.until()), (Phase::ForcedOpen, None));
    assert_eq!(bench.circuit.force_open(), None);
    bench.wait(seconds(1_000_000));
    assert_eq!(bench.rejected().until, None);
    assert_eq!(bench.circuit.earliest_probe(bench.now.get()), None);
    assert_eq!(bench.circuit.recoverable(), None, "a person's word stands");
    assert_eq!(bench.circuit.recover(transition.generation, bench.now.get()), None);
    assert!(bench.circuit.reset(bench.now.get()).is_some());
    bench.call(OK);
}

#[test]
fn forced_closed_admits_all_and_learns_nothing() {
    let bench = Bench::opened(minute());
    assert!(bench.circuit.force_close().is_some());
    assert_eq!(bench.circuit.force_close(), None);
    for _ in 0..100 {
        for outcome in [FAILURE, QUOTA, Outcome::Auth, HINTLESS_429] {
            assert_eq!(bench.call(outcome), None);
        }
        bench.call(Outcome::RateLimited { until: Some(bench.at(seconds(100))) });
    }
    assert_eq!(bench.phase(), Phase::ForcedClosed);
    assert!(bench.circuit.reset(bench.now.get()).is_some());
    assert_eq!(bench.circuit.reset(bench.now.get()), None);
}

#[test]
fn recovery_from_outside_closes_early_and_lifts_no_throttle() {
    let bench = Bench::opened(minute());
    let generation = bench.circuit.recoverable().expect("open");
    assert_eq!(bench.circuit.recover(generation - 1, bench.now.get()), None, "sent before it opened");
    assert_eq!(bench.circuit.recover(generation, bench.now.get()).map(|t| t.to), Some(Phase::Closed));
    assert_eq!(bench.circuit.recover(generation, bench.now.get()), None);
    bench.call(Outcome::RateLimited { until: Some(bench.at(seconds(10))) });
    assert_eq!(bench.circuit.recoverable(), None);
    assert_eq!(bench.phase(), Phase::Throttled);
}

#[test]
fn earliest_probe_is_when_a_call_is_really_admitted() {
    let bench = Bench::new(minute());
    let earliest = |bench: &Bench| bench.circuit.earliest_probe(bench.now.get());
    assert_eq!(earliest(&bench), Some(bench.origin));
    for _ in 0..5 {
        bench.call(FAILURE);
    }
    assert_eq!(earliest(&bench), Some(bench.at(seconds(60))));
    bench.wait(seconds(90));
    assert_eq!(earliest(&bench), Some(bench.at(seconds(90))));
    assert!(bench.admit().is_some());
}

#[test]
fn extreme_times_do_not_panic() {
    let bench = Bench::opened(Settings {
        cooldown: Some(Duration::MAX),
        probe_lease: Some(Duration::MAX),
        latch: Duration::MAX,
        max_throttle: Duration::MAX,
        ..minute()
    });
    bench.rejected();
    bench.circuit.reset(bench.now.get());
    bench.call(QUOTA);
    assert_eq!(bench.phase(), Phase::Open);
    bench.circuit.reset(bench.now.get());
    // A clock that reads before the circuit was made.
    let early = bench.origin.checked_sub(seconds(5)).unwrap_or(bench.origin);
    bench.now.set(early);
    for _ in 0..5 {
        bench.call(FAILURE);
    }
    bench.rejected();
}

/// A lost connection of before says nothing about how soon an account may be asked again, nor about slow calls.
#[test]
fn what_did_not_open_the_circuit_shortens_no_pause() {
    let connect = Cause { is_connection: true, ..CAUSE };
    let failed = Outcome::Failure { slow: false, throttle: None, cause: connect };
    let slow = Rule::new(0.5, Window::last_calls(2).minimum_calls(2));
    for (latch, settings) in [
        (Outcome::Quota { until: None }, minute()),
        (Outcome::Auth, minute()),
        (Outcome::Success { slow: true }, Settings { cooldown: None, slow_rate: Some(slow), ..minute() }),
    ] {
        let bench = Bench::new(settings);
        bench.call(Outcome::Success { slow: false });
        bench.call(failed);
        bench.call(latch);
        assert_eq!(bench.phase(), Phase::Open, "{latch:?}");
        bench.wait(Duration::from_millis(600));
        let only = || bench.circuit.admit(Way::Only, || bench.now.get());
        assert!(matches!(only(), Decision::Rejected(_)), "{latch:?}: as soon as after a lost connection");
        bench.wait(Duration::from_millis(600));
        assert!(matches!(only(), Decision::AdmittedAfter(..)), "{latch:?}");
        assert!(matches!(only(), Decision::Rejected(_)), "{latch:?}: one at once");
    }
}

/// A silence of a whole limit: calls that one caller's failures have cut off from the circuit still tell of others'.
#[test]
fn calls_that_were_under_way_when_one_caller_opened_it_count_once_others_are_let_in() {
    let silence = Outcome::Failure { slow: false, throttle: None, cause: Cause { waited: seconds(30), ..CAUSE } };
    let bench = Bench::new(minute());
    let of = |caller| Admission { caller, ..bench.admitted() };
    let calls = [of(7), of(7), of(9)];
    bench.wait(seconds(30));
    assert!(calls[..2].iter().any(|call| bench.settle(*call, silence).transition.is_some()));
    let decision = bench.circuit.acquit(11, Way::Any, bench.now.get());
    assert!(matches!(decision, Some(Decision::AdmittedAfter(..))), "{decision:?}");
    assert_eq!(bench.phase(), Phase::Closed);
    let settled = bench.settle(calls[2], silence);
    assert_eq!((settled.late, settled.transition.map(|change| change.to)), (false, Some(Phase::Open)));
    assert_eq!(bench.circuit.acquit(11, Way::Any, bench.now.get()), None, "it is open for all");
}

#[test]
fn a_call_of_an_earlier_generation_stays_late_once_the_circuit_has_moved_again() {
    let bench = Bench::new(minute());
    let of = |caller| Admission { caller, ..bench.admitted() };
    let late = of(9);
    for _ in 0..5 {
        bench.settle(of(7), FAILURE);
    }
    assert!(bench.circuit.acquit(11, Way::Any, bench.now.get()).is_some());
    bench.circuit.force_open();
    assert!(bench.settle(late, OK).late);
}
