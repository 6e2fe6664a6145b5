//! Each arrow of the state machine, on synthetic instants.

use std::{cell::Cell, num::NonZeroU32, time::Duration};

use proptest::prelude::*;
use tokio::time::Instant;

use super::super::{
    settings::{Rule, Settings, Window},
    state::{Admission, Circuit, Decision, Outcome, Phase, Rejection, Settled, Transition},
    storm::{CALM, DISTINCT},
    word::Reason,
};

const OK: Outcome = Outcome::Success { slow: false };
const SLOW: Outcome = Outcome::Success { slow: true };
const FAILURE: Outcome = Outcome::Failure { slow: false, throttle: None };
const HINTLESS_429: Outcome = Outcome::RateLimited { until: None };
const QUOTA: Outcome = Outcome::Quota { until: None };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("not zero")
}

/// A circuit with a clock that the test turns.
struct Bench {
    circuit: Circuit,
    origin: Instant,
    now: Cell<Instant>,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let origin = Instant::now();
        Self { circuit: Circuit::new(settings, origin, 1), origin, now: Cell::new(origin) }
    }

    fn opened(settings: Settings) -> Self {
        let bench = Self::new(settings);
        for _ in 0..5 {
            bench.call(FAILURE);
        }
        assert_eq!(bench.phase(), Phase::Open);
        bench
    }

    fn wait(&self, duration: Duration) {
        self.now.set(self.now.get() + duration);
    }

    fn at(&self, duration: Duration) -> Instant {
        self.origin + duration
    }

    fn decide(&self) -> Decision {
        self.circuit.admit(|| self.now.get())
    }

    fn admit(&self) -> Option<Admission> {
        match self.decide() {
            Decision::Admitted(admission) | Decision::AdmittedAfter(admission, _) => Some(admission),
            Decision::Rejected(_) => None,
        }
    }

    #[track_caller]
    fn admitted(&self) -> Admission {
        self.admit().expect("admitted")
    }

    #[track_caller]
    fn rejected(&self) -> Rejection {
        match self.decide() {
            Decision::Rejected(rejection) => rejection,
            admitted => panic!("{admitted:?}"),
        }
    }

    fn settle(&self, admission: Admission, outcome: Outcome) -> Settled {
        self.circuit.settle(admission, outcome, || self.now.get())
    }

    #[track_caller]
    fn call(&self, outcome: Outcome) -> Option<Transition> {
        let settled = self.settle(self.admitted(), outcome);
        assert!(!settled.late);
        settled.transition
    }

    fn phase(&self) -> Phase {
        self.circuit.peek(self.now.get()).0
    }

    fn until(&self) -> Option<Duration> {
        let until = self.circuit.peek(self.now.get()).1;
        until.map(|until| until - self.origin)
    }
}

#[test]
fn healthy_call_reads_no_clock() {
    let bench = Bench::new(Settings::default());
    bench.call(OK);
    let never = || -> Instant { panic!("no clock in good health") };
    let Decision::Admitted(admission) = bench.circuit.admit(never) else {
        panic!("closed");
    };
    assert_eq!(bench.circuit.settle(admission, OK, never), Settled::default());
}

#[test]
fn fifth_failure_in_a_row_opens() {
    let bench = Bench::new(Settings::default());
    for _ in 0..4 {
        assert_eq!(bench.call(FAILURE), None);
    }
    assert_eq!(bench.circuit.failures(), 4);
    assert_eq!(
        bench.call(FAILURE),
        Some(Transition {
            from: Phase::Closed,
            to: Phase::Open,
            reason: Reason::ConsecutiveFailures,
            generation: 1,
            until: Some(bench.at(seconds(60))),
        })
    );
}

#[test]
fn success_between_failures_starts_the_count_again() {
    let bench = Bench::new(Settings::default());
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
    let bench = Bench::opened(Settings::default());
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
    let bench = Bench::opened(Settings::default());
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
    let bench = Bench::opened(Settings::default());
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
    let bench = Bench::opened(Settings::default());
    bench.wait(seconds(60));
    bench.call(SLOW);
    assert_eq!(bench.phase(), Phase::Open);
}

#[test]
fn several_successes_can_be_asked_for() {
    let bench = Bench::opened(Settings { successes: number(3), ..Settings::default() });
    bench.wait(seconds(60));
    assert_eq!(bench.call(OK), None);
    assert_eq!(bench.call(OK), None);
    assert_eq!(bench.phase(), Phase::HalfOpen);
    assert!(bench.call(OK).is_some());
    assert_eq!(bench.phase(), Phase::Closed);
}

#[test]
fn one_failure_among_the_probes_opens_again() {
    let bench = Bench::opened(Settings { probes: number(3), successes: number(3), ..Settings::default() });
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
        let bench = Bench::opened(Settings { probes: number(probes), ..Settings::default() });
        bench.wait(seconds(60));
        let admitted: Vec<_> = (0..100).filter_map(|_| bench.admit()).collect();
        assert_eq!(admitted.len(), probes as usize);
    }
}

#[test]
fn rejection_while_half_open_says_to_come_back_soon() {
    let bench = Bench::opened(Settings::default());
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
    let bench = Bench::opened(Settings::default());
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
    let bench = Bench::opened(Settings::default());
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
    let bench = Bench::opened(Settings { probe_lease: Some(seconds(20)), ..Settings::default() });
    bench.wait(seconds(60));
    let lost = bench.admitted();
    bench.wait(seconds(20) - Duration::from_nanos(1));
    assert_eq!(bench.admit(), None);
    bench.wait(Duration::from_nanos(1));
    let replacement = bench.admitted();
    assert_eq!(bench.admit(), None);

    // Too late: its place, and its say, are another's now.
    assert!(bench.settle(lost, FAILURE).late);
    assert_eq!(bench.phase(), Phase::HalfOpen);
    bench.settle(replacement, OK);
    assert_eq!(bench.phase(), Phase::Closed);
}

#[test]
fn probe_beyond_its_lease_still_counts_if_nobody_took_its_place() {
    let bench = Bench::opened(Settings::default());
    bench.wait(seconds(60));
    let slow = bench.admitted();
    bench.wait(seconds(3600));
    assert!(bench.settle(slow, OK).transition.is_some());
    assert_eq!(bench.phase(), Phase::Closed);
}

#[test]
fn stale_outcome_decides_nothing() {
    for stale in [OK, FAILURE, QUOTA, HINTLESS_429] {
        let bench = Bench::new(Settings::default());
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
    let bench = Bench::new(Settings::default());
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
    let bench = Bench::opened(Settings { probes: number(2), ..Settings::default() });
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
    let settings = Settings { growth: 2.0, jitter: 0.0, ..Settings::default() };
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
        for _ in 0..5 {
            bench.call(FAILURE);
        }
    }
}

#[test]
fn one_request_a_minute_is_enough_to_recover() {
    let bench = Bench::opened(Settings {
        failure_rate: Some(Rule::new(0.5, Window::last_calls(100).minimum_calls(50))),
        ..Settings::default()
    });
    let mut requests = 0;
    while bench.phase() != Phase::Closed {
        bench.wait(seconds(60));
        requests += 1;
        bench.call(OK);
    }
    assert_eq!(requests, 1);
}

fn by_rate(rule: Rule) -> Settings {
    Settings { consecutive_failures: None, failure_rate: Some(rule), ..Settings::default() }
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
    let bench = Bench::new(Settings {
        slow_rate: Some(Rule::new(0.5, Window::last_calls(10).minimum_calls(10))),
        ..Settings::default()
    });
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
    let bench = Bench::new(Settings::default());
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
    let bench = Bench::new(Settings::default());
    for _ in 0..100 {
        bench.call(FAILURE);
        bench.call(Outcome::Alive);
    }
    assert_eq!(bench.phase(), Phase::Closed);
    // But it is no proof that the key works.
    assert_eq!(bench.call(Outcome::Auth), None);
}

#[test]
fn retry_after_throttles_at_once_and_traffic_resumes_plainly() {
    let bench = Bench::new(Settings::default());
    let in_flight = bench.admitted();
    let transition = bench.call(Outcome::RateLimited { until: Some(bench.at(seconds(30))) });
    let transition = transition.expect("a transition");
    assert_eq!(
        (transition.from, transition.to, transition.until),
        (Phase::Closed, Phase::Throttled, Some(bench.at(seconds(30))))
    );
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
        let bench = Bench::new(Settings::default());
        let calls = [bench.admitted(), bench.admitted()];
        let limited = |after| Outcome::RateLimited { until: Some(bench.at(seconds(after))) };
        assert!(bench.settle(calls[0], limited(first)).transition.is_some());
        assert_eq!(bench.settle(calls[1], limited(second)).transition, None);
        assert_eq!(bench.until(), Some(seconds(30)));
    }
}

#[test]
fn absurd_retry_after_is_believed_up_to_a_limit() {
    let bench = Bench::new(Settings::default());
    bench.call(Outcome::RateLimited { until: Some(bench.origin + seconds(1_000_000_000)) });
    assert_eq!(bench.until(), Some(seconds(300)));
}

#[test]
fn retry_after_of_zero_is_no_throttle() {
    let bench = Bench::new(Settings::default());
    let outcome = Outcome::RateLimited { until: Some(bench.origin) };
    assert_eq!(bench.call(outcome), None);
    assert_eq!(bench.phase(), Phase::Closed);
}

#[test]
fn failures_with_retry_after_throttle_and_count() {
    let bench = Bench::new(Settings::default());
    let outcome = |bench: &Bench| Outcome::Failure { slow: false, throttle: Some(bench.now.get() + seconds(90)) };
    for _ in 0..4 {
        let transition = bench.call(outcome(&bench)).expect("throttled");
        assert_eq!(transition.to, Phase::Throttled);
        bench.wait(seconds(90));
    }
    let transition = bench.call(outcome(&bench)).expect("opened");
    assert_eq!(transition.reason, Reason::ConsecutiveFailures);
    assert_eq!(transition.until, Some(bench.now.get() + seconds(90)));
}

#[test]
fn trip_under_a_throttle_lasts_as_long_as_the_throttle() {
    let bench = Bench::new(Settings::default());
    let in_flight: Vec<_> = (0..5).map(|_| bench.admitted()).collect();
    bench.call(Outcome::RateLimited { until: Some(bench.at(seconds(200))) });
    for call in in_flight {
        bench.settle(call, FAILURE);
    }
    assert_eq!((bench.phase(), bench.until()), (Phase::Open, Some(seconds(200))));
}

#[test]
fn throttled_probe_leaves_the_circuit_half_open() {
    let bench = Bench::opened(Settings::default());
    bench.wait(seconds(60));
    bench.call(Outcome::RateLimited { until: Some(bench.at(seconds(70))) });
    assert_eq!(bench.rejected().reason, Reason::Throttled);
    bench.wait(seconds(10));
    assert!(bench.admitted().probe.is_some());
    assert_eq!(bench.phase(), Phase::HalfOpen);
}

#[test]
fn late_retry_after_is_obeyed_while_open() {
    let bench = Bench::new(Settings::default());
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
    let bench = Bench::new(Settings::default());
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
    let bench = Bench::new(Settings::default());
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
    let bench = Bench::new(Settings::default());
    bench.call(Outcome::Quota { until: Some(bench.at(seconds(7))) });
    assert_eq!(bench.until(), Some(seconds(7)));
}

#[test]
fn refused_key_opens_only_if_it_has_worked() {
    let bench = Bench::new(Settings::default());
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
fn storm_of_different_invalid_requests_is_the_providers_fault() {
    let bench = Bench::new(Settings::default());
    bench.call(OK);
    let invalid = |fingerprint| Outcome::InvalidRequest { fingerprint: Some(fingerprint) };
    for fingerprint in 0..DISTINCT as u64 - 1 {
        assert_eq!(bench.call(invalid(fingerprint)), None);
        assert_eq!(bench.call(OK), None);
    }
    let transition = bench.call(invalid(99)).expect("a transition");
    assert_eq!(transition.reason, Reason::InvalidRequests);

    // While it lasts, a probe called invalid is a failed probe.
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
    let bench = Bench::new(Settings::default());
    for fingerprint in 0..2000 {
        assert_eq!(bench.call(Outcome::InvalidRequest { fingerprint: Some(fingerprint) }), None);
        for _ in 0..3 {
            bench.call(OK);
        }
    }
}

#[test]
fn suspicion_of_a_storm_passes() {
    let bench = Bench::new(Settings::default());
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
    let bench = Bench::new(Settings::default());
    let transition = bench.circuit.force_open().expect("a transition");
    assert_eq!((transition.to, transition.until), (Phase::ForcedOpen, None));
    assert_eq!(bench.circuit.force_open(), None);
    bench.wait(seconds(1_000_000));
    assert_eq!(bench.rejected().until, None);
    assert_eq!(bench.circuit.earliest_probe(bench.now.get()), None);
    assert_eq!(bench.circuit.recoverable(), None, "a person's word stands");
    assert_eq!(bench.circuit.recover(transition.generation), None);
    assert!(bench.circuit.reset().is_some());
    bench.call(OK);
}

#[test]
fn forced_closed_admits_all_and_learns_nothing() {
    let bench = Bench::opened(Settings::default());
    assert!(bench.circuit.force_close().is_some());
    assert_eq!(bench.circuit.force_close(), None);
    for _ in 0..100 {
        for outcome in [FAILURE, QUOTA, Outcome::Auth, HINTLESS_429] {
            assert_eq!(bench.call(outcome), None);
        }
        bench.call(Outcome::RateLimited { until: Some(bench.at(seconds(100))) });
    }
    assert_eq!(bench.phase(), Phase::ForcedClosed);
    assert!(bench.circuit.reset().is_some());
    assert_eq!(bench.circuit.reset(), None);
}

#[test]
fn recovery_from_outside_closes_early_and_lifts_no_throttle() {
    let bench = Bench::opened(Settings::default());
    let generation = bench.circuit.recoverable().expect("open");
    assert_eq!(bench.circuit.recover(generation - 1), None, "sent before it opened");
    assert_eq!(bench.circuit.recover(generation).map(|t| t.to), Some(Phase::Closed));
    assert_eq!(bench.circuit.recover(generation), None);
    bench.call(Outcome::RateLimited { until: Some(bench.at(seconds(10))) });
    assert_eq!(bench.circuit.recoverable(), None);
    assert_eq!(bench.phase(), Phase::Throttled);
}

#[test]
fn earliest_probe_is_when_a_call_is_really_admitted() {
    let bench = Bench::new(Settings::default());
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
        cooldown: Duration::MAX,
        probe_lease: Some(Duration::MAX),
        latch: Duration::MAX,
        max_throttle: Duration::MAX,
        ..Settings::default()
    });
    bench.rejected();
    bench.circuit.reset();
    bench.call(QUOTA);
    assert_eq!(bench.phase(), Phase::Open);
    bench.circuit.reset();
    // A clock that reads before the circuit was made.
    let early = bench.origin.checked_sub(seconds(5)).unwrap_or(bench.origin);
    bench.now.set(early);
    for _ in 0..5 {
        bench.call(FAILURE);
    }
    bench.rejected();
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Admit,
    Settle(usize, usize),
    Wait(u64),
    Force(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Admit),
        4 => (0..8_usize, 0..9_usize).prop_map(|(call, outcome)| Step::Settle(call, outcome)),
        2 => (0..90_u64).prop_map(Step::Wait),
        1 => (0..12_u8).prop_map(Step::Force),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_in_any_history(
        probes in 1..4_u32,
        successes in 1..4_u32,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let bench = Bench::new(Settings {
            probes: number(probes),
            successes: number(successes),
            probe_lease: Some(seconds(40)),
            failure_rate: Some(Rule::new(0.5, Window::last_calls(6).minimum_calls(3))),
            slow_rate: Some(Rule::new(0.5, Window::last(seconds(30)).minimum_calls(3))),
            ..Settings::default()
        });
        let mut in_flight: Vec<(Admission, Instant)> = Vec::new();
        let mut known = (Phase::Closed, 0);
        for step in steps {
            let mut transition = None;
            match step {
                Step::Admit => match bench.decide() {
                    Decision::Admitted(admission) => in_flight.push((admission, bench.now.get())),
                    Decision::AdmittedAfter(admission, changed) => {
                        in_flight.push((admission, bench.now.get()));
                        transition = Some(changed);
                    }
                    Decision::Rejected(rejection) => {
                        prop_assert_ne!(rejection.phase, Phase::Closed);
                        if let Some(until) = rejection.until {
                            prop_assert!(until > bench.now.get());
                        }
                    }
                },
                Step::Settle(call, outcome) if !in_flight.is_empty() => {
                    let call = in_flight.swap_remove(call % in_flight.len()).0;
                    let soon = Some(bench.now.get() + seconds(10));
                    let outcome = [
                        OK, FAILURE, SLOW, Outcome::Neutral, Outcome::Abandoned, HINTLESS_429,
                        Outcome::RateLimited { until: soon }, Outcome::Quota { until: soon },
                        Outcome::Auth,
                    ][outcome];
                    transition = bench.settle(call, outcome).transition;
                }
                Step::Settle(..) => {}
                Step::Wait(time) => bench.wait(seconds(time)),
                Step::Force(0) => transition = bench.circuit.force_open(),
                Step::Force(1) => transition = bench.circuit.force_close(),
                Step::Force(2) => transition = bench.circuit.reset(),
                Step::Force(_) => {}
            }
            // Transitions are a chain without a gap, and the generation never goes back.
            if let Some(changed) = transition {
                prop_assert_eq!(changed.from, known.0);
                prop_assert_ne!(changed.to, changed.from);
                prop_assert!(changed.generation >= known.1);
                known = (changed.to, changed.generation);
            }
            // Probes that are out and within their lease: never more than configured.
            let out = in_flight.iter().filter(|(call, since)| {
                call.probe.is_some()
                    && call.generation == known.1
                    && bench.now.get() < *since + seconds(40)
            });
            prop_assert!(out.count() <= probes as usize);
        }
        // Whatever happened: left alone, and with healthy answers, it recovers.
        bench.circuit.reset();
        for _ in 0..5 {
            bench.call(FAILURE);
            if bench.phase() == Phase::Open { break; }
        }
        bench.wait(seconds(60));
        for _ in 0..successes {
            bench.call(OK);
        }
        prop_assert_eq!(bench.phase(), Phase::Closed);
    }
}
