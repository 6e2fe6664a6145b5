//! Drills keep what they promise: reports that repeat themselves, nothing lost, no stampede, back in time, and mistakes
//! told with their place.

mod builtin;
mod deployments;

use std::{fs, path::PathBuf};

use steadfast_drill::{Drill, Report, Scenario, Slo, default_config, report::ScenarioReport};
use steadfast_stack::{Config, Format};

fn drilled(config: &Config, scenario: &str) -> ScenarioReport {
    let scenario = Scenario::named(scenario).unwrap_or_else(|| Scenario::from_yaml(scenario).unwrap());
    Drill::new(config).unwrap().run(&[scenario]).unwrap().scenarios.remove(0)
}

#[test]
fn the_picture_and_the_figures_of_the_readme_are_the_drills() {
    let report = drilled(&default_config(), "incident-2026-06-15");
    let kept =
        fs::read_to_string(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join("docs/outage.svg")).unwrap();
    assert!(report.svg() == kept, "draw it again: cargo run -- drill incident-2026-06-15 --svg docs/outage.svg");

    let baselines = report.baselines.iter().map(|baseline| (&*baseline.name, baseline.answered, baseline.lost));
    for (name, answered, lost) in baselines.chain([("steadfast", report.answered, report.lost)]) {
        let row = format!("{name:<13}  {:<8}  {answered:<8}  {lost:<4}  ", report.requests);
        assert!(include_str!("../../../README.md").contains(&row), "the README has another row than {row}");
    }
}

/// Each request is counted once, and so is each in the timeline.
fn adds_up(report: &ScenarioReport) {
    let ends = report.answered + report.degraded + report.handed_off + report.refused + report.lost;
    assert_eq!(ends, report.requests, "{}", report.name);
    let sum = |of: fn(&steadfast_drill::report::Bucket) -> u64| report.timeline.iter().map(of).sum::<u64>();
    assert_eq!(sum(|bucket| bucket.requests), report.requests);
    assert_eq!(sum(|bucket| bucket.lost), report.lost);
    assert_eq!(sum(|bucket| bucket.refused), report.refused);
    assert_eq!(sum(|bucket| bucket.by_tier.iter().sum()), report.answered + report.degraded + report.handed_off);
    for (place, tier) in report.tiers.iter().enumerate() {
        let calls: u64 = report.timeline.iter().map(|bucket| bucket.attempts[place]).sum();
        // A tier that speaks to no provider has no calls of its own.
        assert!(calls == tier.attempts || calls == 0, "{}: {calls} of {}", tier.name, tier.attempts);
        assert!(report.timeline.iter().all(|bucket| bucket.circuits.len() == report.tiers.len()));
    }
    for baseline in &report.baselines {
        assert_eq!(baseline.answered + baseline.lost, report.requests, "{}", baseline.name);
        assert_eq!(baseline.timeline.iter().map(|(_, _, lost)| lost).sum::<u64>(), baseline.lost);
    }
}

const OUTAGE: &str = "
name: outage
lasts: 20m
requests: { rate: 1/s }
faults: [{ from: 5m, to: 10m, fault: [overloaded, { status: 530 }] }]
";

#[test]
fn an_outage_of_the_primary_loses_nothing_and_it_is_back_within_one_probe_interval() {
    let report = drilled(&default_config(), OUTAGE);
    adds_up(&report);
    assert_eq!((report.lost, report.refused, report.degraded, report.handed_off), (0, 0, 0, 0));
    assert!(report.amplification <= 1.1, "{}", report.amplification);
    // The circuit lets a probe through once a minute; then the next request comes.
    let recovery = report.recovery_s.unwrap();
    assert!(recovery > 0.0 && recovery <= 63.0, "{recovery}");
    let [none, retries] = &report.baselines[..] else { panic!("two baselines") };
    assert!((240..360).contains(&none.lost) && (240..360).contains(&retries.lost), "{} {}", none.lost, retries.lost);
    assert!(none.amplification == 1.0 && retries.amplification > 1.5, "{}", retries.amplification);
    let told = |what: &str| report.events.iter().find(|event| event.what.starts_with(what)).map(|event| event.at_s);
    assert_eq!((told("fault begins"), told("fault ends")), (Some(300.0), Some(600.0)));
    assert!((300.0..320.0).contains(&told("circuit primary: open").unwrap()));
    // With the first token, while the circuit waits for the end of a stream.
    let back: Vec<&str> = report.events.iter().rev().take(2).map(|event| event.what.as_str()).collect();
    assert!(back.contains(&"primary serves again; backup idle"), "{back:?}");
    assert_eq!(report.timeline[17].circuits[..2], ["open", "closed"]);
}

#[test]
fn a_mirror_is_left_out() {
    let calm = "name: calm\nlasts: 10m\nrequests: { rate: 1/s }";
    let tiers = "tiers: [{ name: a, provider: simulated }, { name: b, provider: simulated }]";
    // One would need a key, and be called in earnest; the other would be called for nothing.
    for to in ["{ name: next, provider: openai, model: gpt-4o }", "b"] {
        let config = format!("{tiers}\nmirror: {{ to: {to}, share: 100% }}");
        let report = drilled(&Config::from_str(&config, Format::Yaml).unwrap(), calm);
        adds_up(&report);
        assert_eq!((report.tiers[0].attempts, report.tiers[1].attempts), (report.requests, 0), "{to}");
    }
}

#[test]
fn with_everything_down_every_request_is_a_degraded_answer_or_a_task() {
    let text = OUTAGE.replace("fault: [", "at: all, fault: [");
    let report = drilled(&default_config(), &text);
    adds_up(&report);
    assert_eq!((report.lost, report.refused), (0, 0));
    assert!(report.degraded > 0 && report.handed_off > 0, "{} {}", report.degraded, report.handed_off);
    assert!((240..360).contains(&(report.degraded + report.handed_off)));
    // With no store to write tasks to, a fixed text is left.
    let text = text.replace("faults: [", "faults: [{ from: 6m, to: 9m, at: store, fault: refused }, ");
    let report = drilled(&default_config(), &text);
    assert_eq!(report.lost, 0);
    let sorry = report.tiers.iter().find(|tier| tier.name == "sorry").unwrap();
    assert!((60..220).contains(&sorry.answered), "{}", sorry.answered);
}

#[test]
fn what_hangs_or_breaks_in_the_middle_is_answered_elsewhere() {
    for (fault, seconds) in
        [("hang", 35.0), ("{ cut_after: 3 }", 10.0), ("{ error_event_after: 2 }", 10.0), ("html", 10.0)]
    {
        let report = drilled(&default_config(), &OUTAGE.replace("[overloaded, { status: 530 }]", fault));
        adds_up(&report);
        assert_eq!((report.lost, report.cut), (0, 0), "{fault}");
        assert!(report.p99_ms <= seconds * 1000.0, "{fault}: {}", report.p99_ms);
        assert!(report.baselines[0].lost > 200, "{fault}");
    }
}

#[test]
fn without_a_fallback_requests_are_lost_and_cuts_are_told_apart() {
    let config = Config::from_str("tiers: [{ name: only, provider: simulated }]", Format::Yaml).unwrap();
    let report = drilled(&config, &OUTAGE.replace("[overloaded, { status: 530 }]", "{ cut_after: 3 }"));
    adds_up(&report);
    // Some are cut; then the circuit opens, and the others are refused at once.
    assert!(report.cut >= 1 && report.lost > 200, "{} {}", report.lost, report.cut);
    assert!(report.recovery_s.is_some());
}

#[test]
fn what_a_request_deserves_is_refused_and_not_lost() {
    let calm = "name: x\nlasts: 10m\nrequests: { rate: 1/s, wrong: 5% }";
    let report = drilled(&default_config(), calm);
    adds_up(&report);
    assert_eq!(report.lost, 0);
    assert!((10..60).contains(&report.refused), "{}", report.refused);
    assert_eq!(report.recovery_s, Some(0.0), "nothing was wrong with the primary");
    // A feature that runs away is held back by its own places; the others notice nothing.
    let runaway = "
name: x
lasts: 10m
requests: { rate: 1/s, bursts: [{ from: 2m, to: 3m, rate: 60/s, feature: background }] }
";
    let report = drilled(&default_config(), runaway);
    adds_up(&report);
    assert!(report.refused > 500 && report.lost == 0, "{} {}", report.refused, report.lost);
}

#[test]
fn the_same_seed_gives_the_same_report_byte_for_byte_on_any_number_of_threads() {
    // Caps go by the calendar, sessions by names, jitter by chance.
    let config = "
tiers:
  - name: a
    provider: anthropic
    model: claude-sonnet-4-5
    api_key: '${NEVER_SET}'
    circuit_breaker: { cooldown: { first: 20s, factor: 2, longest: 2m } }
  - { name: b, provider: openai, model: gpt-4o, level: 2 }
  - { name: text, provider: canned, text: sorry }
features: { chat: { concurrency: 5, queue: 20 }, background: { concurrency: 2, tiers: [b] } }
fallback: { session: sticky }
budgets: [{ name: day, usd: 0.05, period: day, at_cap: { step_down: 5 } }]
";
    let config = Config::from_str(config, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
    let scenarios: Vec<Scenario> = [
        OUTAGE,
        "
name: grey
lasts: 20m
clock: \"23:50\"
requests: { rate: 2/s, sessions: 9, features: { chat: 3, background: 1 } }
faults: [{ from: 2m, to: 15m, at: all, fault: [server_error, hang, { stall_after: 2 }], share: 20%, ramp: 5m }]
",
    ]
    .iter()
    .map(|text| Scenario::from_yaml(text).unwrap())
    .collect();
    let run = |seed: u64, threads: usize| {
        let report = Drill::new(&config).unwrap().seed(seed).threads(threads).run(&scenarios).unwrap();
        report.scenarios.iter().for_each(adds_up);
        serde_json::to_string(&report).unwrap()
    };
    let first = run(7, 1);
    assert_eq!(first, run(7, 2));
    assert_ne!(first, run(8, 2));
    // A report that a program keeps can be read again.
    let read: Report = serde_json::from_str(&first).unwrap();
    assert_eq!((read.version, read.seed, read.scenarios.len()), (1, 7, 2));
    assert_eq!(serde_json::to_string(&read).unwrap(), first);
}

#[test]
fn targets_are_judged_the_users_and_the_scenarios_own() {
    let own = Scenario::from_yaml(&format!("{OUTAGE}expect: [answered=100%, p50=1ms]\n")).unwrap();
    let slo = |text: &str| text.parse::<Slo>().unwrap();
    let drill = Drill::new(&default_config()).unwrap().slo(slo("lost=0")).slo(slo("recovery=1ms"));
    let report = drill.run(&[own]).unwrap();
    let missed: Vec<&str> = report.missed.iter().map(|missed| missed.slo.as_str()).collect();
    assert_eq!(missed, ["recovery=1ms", "p50=1ms"]);
}

#[test]
fn a_configuration_without_tiers_is_refused() {
    let error = Drill::new(&Config::default()).unwrap_err().to_string();
    assert!(error.contains("no tiers; a drill needs at least one"), "{error}");
}

#[test]
fn a_scenario_that_is_wrong_is_told_with_its_file() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("wrong-{}.yaml", std::process::id()));
    fs::write(&path, "name: x\nlasts: 1h\nfaults:\n  - { from: 9m, to: 5m, fault: hang, at: nobody }\n").unwrap();
    let error = Scenario::from_path(&path).unwrap_err();
    let place = format!("{}:4:{}", path.display(), "  - { from: 9m, to: 5m".find("5m").unwrap() + 1);
    assert!(error.to_string().contains(&place), "{error}");
    // Of a tier it is only known with a configuration whether it is there.
    fs::write(&path, "name: x\nlasts: 1h\nfaults:\n  - { from: 9m, to: 15m, fault: hang, at: nobody }\n").unwrap();
    let scenario = Scenario::from_path(&path).unwrap();
    let error = Drill::new(&default_config()).unwrap().run(&[scenario]).unwrap_err();
    let column = "  - { from: 9m, to: 15m, fault: hang, at: nobody".find("nobody").unwrap() + 1;
    let place = format!("{}:4:{column}", path.display());
    assert!(error.to_string().contains(&place) && error.to_string().contains("`primary`"), "{error}");
    fs::remove_file(&path).unwrap();
    let error = Scenario::from_path(&path).unwrap_err().to_string();
    assert!(error.contains("there is no such file"), "{error}");
}
