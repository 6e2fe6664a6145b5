//! Tests of each arrow between closed, open and half-open.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::layers::circuit_breaker::{
    settings::{Rule, Window},
    word::Reason,
};

#[test]
fn healthy_call_reads_no_clock() {
    let bench = Bench::new(minute());
    bench.call(OK);
    let never = || -> Instant { panic!("no clock in good health") };
    let Decision::Admitted(admission) = bench.circuit.admit(Way::Any, never) else {
        panic!("closed");
    };
    assert_eq!(bench.circuit.settle(admission, OK, never), Settlement::default());
}

#[test]
fn fifth_failure_in_a_row_opens() {
    let bench = Bench::new(minute());
    for _ in 0..4 {
        assert_eq!(bench.call(FAILURE), None);
    }
    assert_eq!(bench.circuit.failures(), 4);
    assert_eq!(
        bench.call(FAILURE),
        Some(Transition { from: Phase::Closed, to: Phase::Open, reason: Reason::ConsecutiveFailures, generation: 1 })
    );
    assert_eq!(bench.until(), Some(seconds(60)));
}

#[test]
fn success_between_failures_starts_the_count_again() {
    let bench = Bench::new(minute());
    for _ in 0..100 {
        for _ in 0..4 {
            assert_eq!(bench.call(FAILURE), None);
        }
        bench.call(OK);
    }
    assert_eq!(bench.phase(), Phase::Closed);
}

#[test]
fn open_circuit_rejects_until_the_cooldown_is_over() {
    let bench = Bench::opened(minute());
    let rejection =
        Rejection { phase: Phase::Open, reason: Reason::ConsecutiveFailures, until: Some(bench.at(seconds(60))) };
    assert_eq!(bench.rejected(), rejection);
    bench.wait(seconds(60) - Duration::from_nanos(1));
    assert_eq!(bench.rejected(), rejection);
    bench.wait(Duration::from_nanos(1));
    let Decision::AdmittedAfter(probe, transition) = bench.decide() else {
        panic!("a probe");
    };
    assert!(probe.probe.is_some());
    assert_eq!(
        (transition.from, transition.to, transition.reason),
        (Phase::Open, Phase::HalfOpen, Reason::CooldownOver)
    );
}

#[test]
fn successful_probe_closes() {
    let bench = Bench::opened(minute());
    bench.wait(seconds(60));
    let transition = bench.call(OK).expect("a transition");
    assert_eq!(
        (transition.from, transition.to, transition.reason),
        (Phase::HalfOpen, Phase::Closed, Reason::Recovered)
    );
    assert_eq!(bench.circuit.failures(), 0);
    assert_eq!(bench.admitted().probe, None);
}

#[test]
fn failed_probe_opens_for_another_cooldown_and_not_a_longer_one() {
    let bench = Bench::opened(minute());
    bench.wait(seconds(60));
    let transition = bench.call(FAILURE).expect("a transition");
    assert_eq!(
        (transition.from, transition.to, transition.reason),
        (Phase::HalfOpen, Phase::Open, Reason::ProbeFailed)
    );
    let cooldown = bench.until().expect("open") - seconds(60);
    assert!((seconds(54)..=seconds(60)).contains(&cooldown), "{cooldown:?}");
}

#[test]
fn slow_probe_is_a_failed_one() {
    let bench = Bench::opened(minute());
    bench.wait(seconds(60));
    bench.call(SLOW);
    assert_eq!(bench.phase(), Phase::Open);
}

#[test]
fn several_successes_can_be_asked_for() {
    let bench = Bench::opened(Settings { successes: number(3), ..minute() });
    bench.wait(seconds(60));
    assert_eq!(bench.call(OK), None);
    assert_eq!(bench.call(OK), None);
    assert_eq!(bench.phase(), Phase::HalfOpen);
    assert!(bench.call(OK).is_some());
    assert_eq!(bench.phase(), Phase::Closed);
}

/// A circuit that a lucky probe closed, and that tripped again.
fn lapsed() -> Bench {
    let bench = Bench::opened(minute());
    bench.wait(seconds(60));
    assert!(bench.call(OK).is_some());
    for _ in 0..5 {
        bench.call(FAILURE);
    }
    bench.wait(seconds(60));
    bench
}

#[test]
fn after_a_lapse_one_lucky_probe_does_not_close() {
    let bench = lapsed();
    for _ in 0..3 {
        assert_eq!(bench.call(OK), None);
    }
    bench.call(FAILURE);
    assert_eq!(bench.phase(), Phase::Open, "one failure in between");
    bench.wait(seconds(60));
    for _ in 0..3 {
        assert_eq!(bench.call(OK), None);
    }
    assert_eq!(bench.call(OK).map(|transition| transition.to), Some(Phase::Closed));
    // Once more, and it must prove itself for longer.
    for _ in 0..5 {
        bench.call(FAILURE);
    }
    bench.wait(seconds(60));
    let closes = (1..100).find(|_| bench.call(OK).is_some());
    assert_eq!(closes, Some(16));
}

#[test]
fn after_a_lapse_each_success_lets_more_probes_through() {
    let bench = lapsed();
    let first = bench.admitted();
    assert!(bench.admit().is_none(), "one at first");
    bench.settle(first, OK);
    let two = [bench.admitted(), bench.admitted()];
    assert!(bench.admit().is_none());
    bench.settle(two[0], OK);
    assert!(bench.admit().is_some());
    assert!(bench.admit().is_some());
    assert_eq!(bench.admit().map(|_| ()), Some(()), "four, with the one of before");
    assert!(bench.admit().is_none());
}

#[test]
fn what_has_been_well_for_an_hour_has_not_lapsed() {
    let bench = lapsed();
    for _ in 0..4 {
        bench.call(OK);
    }
    assert_eq!(bench.phase(), Phase::Closed);
    bench.wait(seconds(3601));
    for _ in 0..5 {
        bench.call(FAILURE);
    }
    bench.wait(seconds(60));
    assert_eq!(bench.call(OK).map(|transition| transition.to), Some(Phase::Closed));
}

#[test]
fn an_active_probe_is_as_good_as_another_after_a_lapse() {
    let bench = lapsed();
    let looks = |bench: &Bench| {
        let generation = bench.circuit.recoverable().expect("not closed");
        bench.circuit.recover(generation, bench.now.get()).map(|transition| transition.to)
    };
    assert_eq!(looks(&bench), Some(Phase::HalfOpen));
    assert_eq!([looks(&bench), looks(&bench), looks(&bench)], [None, None, Some(Phase::Closed)]);
}

#[test]
fn a_probe_of_the_circuits_own_is_as_good_as_another_after_a_lapse() {
    let bench = lapsed();
    let accused = Outcome::SuspectedLatch { reason: Reason::Quota };
    assert_eq!(bench.call(accused), None);
    let generation = bench.circuit.take_suspected_latch().expect("it wants to know");
    let answered =
        |bench: &Bench| bench.circuit.confirm(generation, OK, bench.now.get()).map(|transition| transition.to);
    assert_eq!([answered(&bench), answered(&bench), answered(&bench)], [None; 3]);
    assert_eq!(bench.phase(), Phase::HalfOpen);
    assert_eq!(answered(&bench), Some(Phase::Closed));
    // And it has closed now: to trip again soon is one more lapse.
    for _ in 0..5 {
        bench.call(FAILURE);
    }
    bench.wait(seconds(60));
    let closes = (1..100).find(|_| bench.call(OK).is_some());
    assert_eq!(closes, Some(16));
}

#[test]
fn one_failure_among_the_probes_opens_again() {
    let bench = Bench::opened(Settings { probes: number(3), successes: number(3), ..minute() });
    bench.wait(seconds(60));
    let probes: Vec<_> = (0..3).map(|_| bench.admitted()).collect();
    bench.settle(probes[0], OK);
    bench.settle(probes[1], FAILURE);
    assert_eq!(bench.phase(), Phase::Open);
    assert!(bench.settle(probes[2], OK).late);
}

#[test]
fn hundred_callers_at_the_end_of_the_cooldown_make_as_many_probes_as_configured() {
    for probes in [1, 2, 7] {
        let bench = Bench::opened(Settings { probes: number(probes), ..minute() });
        bench.wait(seconds(60));
        let admitted: Vec<_> = (0..100).filter_map(|_| bench.admit()).collect();
        assert_eq!(admitted.len(), probes as usize);
    }
}

#[test]
fn rejection_while_half_open_says_to_come_back_soon() {
    let bench = Bench::opened(minute());
    bench.wait(seconds(60));
    let _probe = bench.admitted();
    let rejection = bench.rejected();
    assert_eq!(rejection.phase, Phase::HalfOpen);
    assert_eq!(rejection.until, Some(bench.at(seconds(61))));
    let lease_ends = bench.circuit.earliest_probe(bench.now.get());
    assert_eq!(lease_ends, Some(bench.at(seconds(120))));
}

#[test]
fn abandoned_probe_frees_its_place_at_once() {
    let bench = Bench::opened(minute());
    bench.wait(seconds(60));
    for _ in 0..10 {
        let probe = bench.admitted();
        assert_eq!(bench.admit(), None);
        bench.settle(probe, Outcome::Abandoned);
        assert_eq!(bench.phase(), Phase::HalfOpen);
    }
    bench.call(OK);
    assert_eq!(bench.phase(), Phase::Closed);
}

#[test]
fn neutral_probe_frees_its_place_and_stays_half_open() {
    let bench = Bench::opened(minute());
    bench.wait(seconds(60));
    for outcome in [Outcome::Alive, Outcome::Neutral, Outcome::InvalidRequest { fingerprint: Some(1) }, Outcome::Auth] {
        assert_eq!(bench.call(outcome), None);
        assert_eq!(bench.phase(), Phase::HalfOpen);
        let next = bench.admitted();
        assert!(next.probe.is_some());
        bench.settle(next, Outcome::Abandoned);
    }
}

#[test]
fn probe_that_never_ends_is_replaced_after_its_lease() {
    let bench = Bench::opened(Settings { probe_lease: Some(seconds(20)), ..minute() });
    bench.wait(seconds(60));
    let lost = bench.admitted();
    bench.wait(seconds(20) - Duration::from_nanos(1));
    assert_eq!(bench.admit(), None);
    bench.wait(Duration::from_nanos(1));
    let replacement = bench.admitted();
    assert_eq!(bench.admit(), None);

    // Too late: its place and its verdict are another's now.
    assert!(bench.settle(lost, FAILURE).late);
    assert_eq!(bench.phase(), Phase::HalfOpen);
    bench.settle(replacement, OK);
    assert_eq!(bench.phase(), Phase::Closed);
}

#[test]
fn probe_beyond_its_lease_still_counts_if_nobody_took_its_place() {
    let bench = Bench::opened(minute());
    bench.wait(seconds(60));
    let slow = bench.admitted();
    bench.wait(seconds(3600));
    assert!(bench.settle(slow, OK).transition.is_some());
    assert_eq!(bench.phase(), Phase::Closed);
}

#[test]
fn stale_outcome_decides_nothing() {
    for stale in [OK, FAILURE, QUOTA, HINTLESS_429] {
        let bench = Bench::new(minute());
        let old = bench.admitted();
        let another = bench.admitted();
        for _ in 0..5 {
            bench.call(FAILURE);
        }
        bench.wait(seconds(60));
        let probe = bench.admitted();
        let settled = bench.settle(old, stale);
        assert!(settled.late && settled.transition.is_none());
        assert_eq!(bench.phase(), Phase::HalfOpen);
        bench.settle(probe, OK);
        assert!(bench.settle(another, stale).late);
        assert_eq!((bench.phase(), bench.circuit.failures()), (Phase::Closed, 0));
    }
}

#[test]
fn late_failures_while_open_extend_nothing_and_report_nothing() {
    let bench = Bench::new(minute());
    let in_flight: Vec<_> = (0..50).map(|_| bench.admitted()).collect();
    let mut transitions = 0;
    for call in in_flight {
        bench.wait(seconds(1));
        transitions += usize::from(bench.settle(call, FAILURE).transition.is_some());
    }
    assert_eq!(transitions, 1);
    assert_eq!(bench.until(), Some(seconds(5 + 60)));
}

#[test]
fn probe_of_an_earlier_cycle_has_no_vote() {
    let bench = Bench::opened(Settings { probes: number(2), ..minute() });
    bench.wait(seconds(60));
    let (first, second) = (bench.admitted(), bench.admitted());
    bench.settle(first, FAILURE);
    bench.wait(seconds(60));
    let current = bench.admitted();
    assert!(bench.settle(second, OK).late);
    assert_eq!(bench.phase(), Phase::HalfOpen);
    bench.settle(current, OK);
    assert_eq!(bench.phase(), Phase::Closed);
}

#[test]
fn cooldown_grows_to_its_cap_and_starts_again_after_recovery() {
    let settings = Settings { growth: Some((2.0, seconds(300))), jitter: 0.0, ..minute() };
    let bench = Bench::opened(settings);
    for _outage in 0..6 {
        for expected in [60, 120, 240, 300, 300] {
            let cooldown = bench.until().expect("open") - (bench.now.get() - bench.origin);
            assert_eq!(cooldown, seconds(expected));
            bench.wait(cooldown);
            bench.call(FAILURE);
        }
        bench.wait(seconds(300));
        bench.call(OK);
        // An outage of its own, and no relapse.
        bench.wait(seconds(3600));
        for _ in 0..5 {
            bench.call(FAILURE);
        }
    }
}

#[test]
fn one_request_a_minute_is_enough_to_recover() {
    let bench = Bench::opened(Settings {
        failure_rate: Some(Rule::new(0.5, Window::last_calls(100).minimum_calls(50))),
        ..minute()
    });
    let mut requests = 0;
    while bench.phase() != Phase::Closed {
        bench.wait(seconds(60));
        requests += 1;
        bench.call(OK);
    }
    assert_eq!(requests, 1);
}
