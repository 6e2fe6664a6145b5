//! The races of the circuit. [`crate::races`] lists them.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

use crate::internal::sync::{Arc, model, thread};

use super::{
    evidence::Cause,
    settings::{Rule, Settings, Window},
    state::{Admission, Circuit, Decision, Outcome, Phase, Way},
};

const SECOND: Duration = Duration::from_secs(1);
const FAILURE: Outcome = Outcome::Failure { slow: false, throttle: None, cause: CAUSE };
const CAUSE: Cause = Cause { connection: None, waited: Duration::ZERO, is_connection: false };
const SUCCESS: Outcome = Outcome::Success { slow: false };

fn settings(failures: u32, probes: u32) -> Settings {
    Settings {
        consecutive_failures: NonZeroU32::new(failures),
        probes: NonZeroU32::new(probes).expect("a number of probes"),
        cooldown: Some(SECOND),
        ..Settings::default()
    }
}

fn admission(decision: Decision) -> Option<Admission> {
    match decision {
        Decision::Admitted(admission) | Decision::AdmittedAfter(admission, _) => Some(admission),
        Decision::Rejected(_) => None,
    }
}

fn opened(settings: Settings, origin: Instant) -> Arc<Circuit> {
    let circuit = Circuit::new(settings, origin, 7);
    let call = admission(circuit.admit(Way::Any, || origin)).expect("closed");
    assert!(circuit.settle(call, FAILURE, || origin).transition.is_some());
    Arc::new(circuit)
}

pub(crate) fn end_of_cooldown_admits_exactly_the_probes() {
    for probes in [1, 2] {
        let origin = Instant::now();
        model(move || {
            let circuit = opened(settings(1, probes), origin);
            let callers: Vec<_> = (0..2)
                .map(|_| {
                    let circuit = circuit.clone();
                    thread::spawn(move || circuit.admit(Way::Any, || origin + SECOND))
                })
                .collect();
            let mut decisions = vec![circuit.admit(Way::Any, || origin + SECOND)];
            decisions.extend(callers.into_iter().map(|caller| caller.join().unwrap()));

            let half_opened = decisions.iter().filter(|decision| matches!(decision, Decision::AdmittedAfter(..)));
            assert_eq!(half_opened.count(), 1);
            let admitted: Vec<_> = decisions.into_iter().filter_map(admission).collect();
            assert_eq!(admitted.len(), probes as usize);
            assert!(admitted.iter().all(|admission| admission.probe.is_some()));
        });
    }
}

pub(crate) fn dropped_probe_races_with_an_admission() {
    let origin = Instant::now();
    model(move || {
        let circuit = opened(settings(1, 1), origin);
        let now = origin + SECOND;
        let probe = admission(circuit.admit(Way::Any, || now)).expect("the probe");
        let dropping = {
            let circuit = circuit.clone();
            thread::spawn(move || circuit.settle(probe, Outcome::Abandoned, || now))
        };
        let raced = admission(circuit.admit(Way::Any, || now));
        dropping.join().unwrap();
        // The place is free either in time or now: there are never two probes, and never none.
        let after = admission(circuit.admit(Way::Any, || now));
        assert_eq!(usize::from(raced.is_some()) + usize::from(after.is_some()), 1);
    });
}

pub(crate) fn late_outcome_races_with_the_trip() {
    let origin = Instant::now();
    model(move || {
        let circuit = Arc::new(Circuit::new(settings(2, 1), origin, 7));
        let calls: Vec<_> = (0..3).filter_map(|_| admission(circuit.admit(Way::Any, || origin))).collect();
        assert!(circuit.settle(calls[0], FAILURE, || origin).transition.is_none());
        // Another moment: in the first one they would tell of the same fact.
        let later = origin + SECOND;
        let others: Vec<_> = calls[1..]
            .iter()
            .map(|&call| {
                let circuit = circuit.clone();
                thread::spawn(move || circuit.settle(call, FAILURE, || later))
            })
            .collect();
        let settled: Vec<_> = others.into_iter().map(|t| t.join().unwrap()).collect();
        let trips = settled.iter().filter(|s| s.transition.is_some()).count();
        assert_eq!(trips, 1);
        let open = (circuit.peek(later), circuit.phase_ends(Phase::Open));
        assert_eq!(open, (Phase::Open, Some(later + SECOND)), "the loser moves nothing");
    });
}

pub(crate) fn late_outcome_races_with_the_probe() {
    for stale in [SUCCESS, FAILURE] {
        let origin = Instant::now();
        model(move || {
            let circuit = Arc::new(Circuit::new(settings(1, 1), origin, 7));
            let stale_call = admission(circuit.admit(Way::Any, || origin)).expect("closed");
            let call = admission(circuit.admit(Way::Any, || origin)).expect("closed");
            circuit.settle(call, FAILURE, || origin);
            let now = origin + SECOND;
            let straggler = {
                let circuit = circuit.clone();
                thread::spawn(move || circuit.settle(stale_call, stale, || now))
            };
            let probe = admission(circuit.admit(Way::Any, || now)).expect("the probe");
            let recovered = circuit.settle(probe, SUCCESS, || now);
            assert!(straggler.join().unwrap().late);
            assert_eq!(recovered.transition.map(|change| change.to), Some(Phase::Closed));
            assert_eq!(circuit.peek(now), Phase::Closed);
            assert_eq!(circuit.failures(), 0);
        });
    }
}

pub(crate) fn failure_in_the_window_races_with_a_reset() {
    let origin = Instant::now();
    let rule = Rule::new(1.0, Window::last_calls(2));
    model(move || {
        let circuit = Arc::new(Circuit::new(
            Settings { consecutive_failures: None, failure_rate: Some(rule), ..settings(1, 1) },
            origin,
            7,
        ));
        let before = admission(circuit.admit(Way::Any, || origin)).expect("closed");
        let resetting = {
            let circuit = circuit.clone();
            thread::spawn(move || circuit.reset(origin))
        };
        circuit.settle(before, FAILURE, || origin);
        resetting.join().unwrap();
        // A single failure since the reset: the one before it must not make two.
        let after = admission(circuit.admit(Way::Any, || origin)).expect("closed");
        assert_eq!(circuit.settle(after, FAILURE, || origin).transition, None);
    });
}
