//! Tests over any history at all.

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::layers::circuit_breaker::settings::{Rule, Window};

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
            ..minute()
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
                Step::Force(2) => transition = bench.circuit.reset(bench.now.get()),
                Step::Force(_) => {}
            }
            // Transitions are a chain without a gap, and the generation never goes back.
            if let Some(changed) = transition {
                prop_assert_eq!(changed.from, known.0);
                prop_assert_ne!(changed.to, changed.from);
                prop_assert!(changed.generation >= known.1);
                known = (changed.to, changed.generation);
            }
            // Probes that are out and within their lease: never more than configured; after a lapse twice as many
            // with each success.
            let out = in_flight.iter().filter(|(call, since)| {
                call.probe.is_some()
                    && call.generation == known.1
                    && bench.now.get() < *since + seconds(40)
            });
            let core = bench.circuit.lock();
            let most = if core.lapses == 0 { probes } else { probes << core.successes };
            prop_assert!(out.count() <= most as usize);
        }
        // After any history, it recovers if left alone with healthy answers.
        bench.circuit.reset(bench.now.get());
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
