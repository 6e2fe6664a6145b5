//! Drills keep what they promise: reports that repeat themselves, nothing lost, no stampede, and back in time.

use steadfast::drill::{Drill, Report, Scenario, default_config};

fn drilled(names: &[&str]) -> Report {
    let scenarios: Vec<Scenario> = names.iter().map(|name| Scenario::named(name).unwrap()).collect();
    Drill::new(&default_config()).unwrap().run(&scenarios).unwrap()
}

#[test]
fn the_incident_loses_nothing_and_the_primary_is_back_within_one_probe_interval() {
    let report = drilled(&["d5a"]);
    let scenario = &report.scenarios[0];
    assert_eq!((scenario.lost, scenario.refused, scenario.degraded), (0, 0, 0));
    assert_eq!(scenario.answered, scenario.requests);
    assert!(scenario.amplification <= 1.1, "{}", scenario.amplification);
    assert!(scenario.recovery_s.unwrap() <= 61.0, "{:?}", scenario.recovery_s);
    let lost: Vec<bool> = scenario.baselines.iter().map(|baseline| baseline.lost > 0).collect();
    assert_eq!(lost, [true, true]);
}
