//! The scenarios that come with the crate. All of them are run, by the command, in
//! `crates/cli/tests/drills/all.rs`.

use std::collections::BTreeSet;

use steadfast_drill::{Drill, Scenario, default_config};

const LISTED: &str = include_str!("../../../crates/drill/src/scenarios/README.md");

#[test]
fn each_incident_and_each_classic_is_there_once_and_says_what_it_proves() {
    let scenarios = Scenario::builtin();
    let names: BTreeSet<&str> = scenarios.iter().map(Scenario::name).collect();
    assert_eq!(names.len(), scenarios.len());
    let incidents = (1..=21).flat_map(|row| match row {
        5 => vec!["d5a".to_owned(), "d5b".to_owned()],
        row => vec![format!("d{row}")],
    });
    for incident in incidents.chain(["incident-2026-06-15".to_owned()]) {
        assert!(names.contains(&*incident), "{incident} is missing");
    }
    for scenario in &scenarios {
        let name = scenario.name();
        assert!(scenario.about().matches(". ").count() >= 1, "{name}: what happens, and what it proves");
        assert!(!scenario.source().is_empty(), "{name}");
        assert!(LISTED.contains(&format!("| `{name}` |")), "{name} is not in the list");
        assert_eq!(Scenario::named(name).map(|found| found.lasts()), Some(scenario.lasts()));
    }
    assert_eq!(LISTED.matches("\n| `").count(), scenarios.len(), "the list has none that is not there");
}

/// Callers who ask the same at the same time share one answer: it is of the tier that made it.
#[test]
fn a_primary_that_hangs_is_said_to_answer_nobody() {
    let report = Drill::new(&default_config()).unwrap().run(&[Scenario::named("hang").unwrap()]).unwrap();
    // From 20 min to 1 h.
    let silent = report.scenarios[0].timeline.iter().filter(|bucket| (1200.0..3500.0).contains(&bucket.from_s));
    assert_eq!(silent.map(|bucket| bucket.by_tier[0]).sum::<u64>(), 0);
}

#[test]
fn with_every_provider_down_for_an_hour_each_request_is_an_answer_or_a_task() {
    let report = Drill::new(&default_config()).unwrap().run(&[Scenario::named("all-down-hour").unwrap()]).unwrap();
    let hour = &report.scenarios[0];
    assert_eq!((hour.lost, hour.refused), (0, 0));
    assert_eq!(hour.answered + hour.degraded + hour.handed_off, hour.requests);
    assert!(hour.degraded > 100 && hour.handed_off > 100, "{} {}", hour.degraded, hour.handed_off);
    assert!(hour.baselines.iter().all(|baseline| baseline.lost > 1000));
}
