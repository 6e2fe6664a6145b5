//! The drills of a primary with several deployments, with the default configuration.

use steadfast_drill::{Drill, Report, Scenario, default_config, report::DeploymentReport};

/// The most probes of an hour, whose outage begins once.
const PROBES: u64 = 180;

fn drilled(name: &str) -> Report {
    Drill::new(&default_config()).unwrap().run(&[Scenario::named(name).unwrap()]).unwrap()
}

fn deployments(report: &Report) -> &[DeploymentReport] {
    assert!(report.missed.is_empty(), "{:?}", report.missed);
    &report.scenarios[0].tiers[0].deployments
}

#[test]
fn a_deployment_that_is_ten_times_slower_gets_at_most_a_twentieth() {
    let report = drilled("slow-deployment");
    let [slow, others @ ..] = deployments(&report) else { panic!("there are four") };
    // Of two hours, it is slow for 80 minutes: a quarter of the rest, and a twentieth of these.
    let all = slow.attempts + others.iter().map(|one| one.attempts).sum::<u64>();
    let most = all as f64 * (40.0 / 120.0 * 0.25 + 80.0 / 120.0 * 0.05);
    assert!((slow.attempts as f64) < most, "{} of {all}, {most}", slow.attempts);
    let scenario = &report.scenarios[0];
    let slow_time = scenario.timeline.iter().filter(|bucket| (1_800.0..5_700.0).contains(&bucket.from_s));
    let mut medians: Vec<f64> = slow_time.map(|bucket| bucket.p50_ms).collect();
    medians.sort_by(f64::total_cmp);
    assert!(medians[medians.len() / 2] < 1.3 * 600.0 * 1.2, "{medians:?}");
}

#[test]
fn a_deployment_that_fails_at_once_attracts_no_more_than_its_probes() {
    let report = drilled("failing-deployment");
    let [failing, others @ ..] = deployments(&report) else { panic!("there are four") };
    // An hour of failures: a few before its circuit opens, and then probes: of each eighth second, and of each minute
    // at last.
    assert!(failing.failures <= 5 + PROBES, "{failing:?}");
    assert!(failing.attempts > 500, "it has its share before and afterwards: {failing:?}");
    assert!(others.iter().all(|one| one.failures == 0), "{others:?}");
}

#[test]
fn conversations_stay_together_over_the_loss_of_a_deployment() {
    let report = drilled("lost-deployment");
    let [lost, ..] = deployments(&report) else { panic!("there are four") };
    assert!(lost.failures <= 5 + PROBES, "{lost:?}");
    let warm = report.scenarios[0].warm.expect("there are conversations");
    assert!(warm >= 0.9, "{warm}");
}

#[test]
fn keys_near_their_limit_cost_nobody_an_answer() {
    let report = drilled("keys-near-their-limit");
    let all = deployments(&report);
    let (calls, limited) =
        all.iter().fold((0, 0), |(calls, limited), one| (calls + one.attempts, limited + one.failures));
    assert_eq!(report.scenarios[0].lost, 0);
    assert!(limited as f64 <= 0.01 * calls as f64, "{limited} of {calls}");
}
