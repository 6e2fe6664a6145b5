//! `steadfast drill` judges a configuration, says so in its exit code, and tells mistakes from misses.

use serde_json::Value;

use crate::common::{Folder, steadfast};

const SCENARIO: &str = "\
name: short
about: Five minutes without the primary.
lasts: 15m
clock: \"08:00\"
requests: { rate: 30/min }
faults:
  - { from: 5m, to: 10m, fault: overloaded }
";
const CONFIG: &str = "\
tiers:
  - { name: sonnet, provider: anthropic, model: claude-sonnet-4-5, headers: { x-team: '${TEAM}' } }
  - { name: gpt, provider: openai, model: gpt-4o }
";

#[test]
fn a_configuration_is_drilled_without_its_keys_and_judged() {
    let folder = Folder::new("drill");
    let (scenario, config) = (folder.file("short.yaml", SCENARIO), folder.file("steadfast.yaml", CONFIG));
    let (scenario, config) = (scenario.to_str().unwrap(), config.to_str().unwrap());
    let met = ["drill", scenario, "--config", config, "--slo", "lost=0", "--slo", "recovery=2m", "--json"];
    let ran = steadfast(met, &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&report["version"], &report["seed"], &report["missed"]), (&1.into(), &1.into(), &Value::Array(vec![])));
    let short = &report["scenarios"][0];
    assert_eq!((short["name"].as_str(), short["lost"].as_u64()), (Some("short"), Some(0)));
    for number in
        ["requests", "answered", "degraded", "handed_off", "refused", "amplification", "recovery_s", "p50_ms", "p99_ms"]
    {
        assert!(short[number].is_number(), "{number}: {}", short[number]);
    }
    assert_eq!(short["tiers"][1]["name"], "gpt");
    assert_eq!(short["timeline"].as_array().unwrap().len(), 60);
    assert_eq!(short["baselines"][1]["name"], "retry loop");
    assert!(short["cost"].as_f64().unwrap() > 0.0, "real models have prices");

    // The same again; another seed is another day.
    assert_eq!(steadfast(met, &[]).out, ran.out);
    assert_ne!(steadfast([&met[..], &["--seed", "2"]].concat(), &[]).out, ran.out);

    let missed = steadfast(["drill", scenario, "--config", config, "--slo", "p99=1ms", "--slo", "lost=0"], &[]);
    assert_eq!(missed.code, Some(1));
    assert!(missed.err.starts_with("missed: p99=1ms in short: "), "{}", missed.err);
    assert!(!missed.err.contains("lost"), "{}", missed.err);
    for said in
        ["Five minutes without", "steadfast", "no resilience", "retry loop", "1 sonnet", "08:05:00  fault begins"]
    {
        assert!(missed.out.contains(said), "{said} is missing:\n{}", missed.out);
    }
    assert!(!missed.out.contains('\u{1b}'), "no commands where there is no terminal");
}

#[test]
fn drill_list_names_the_built_in_scenarios() {
    let ran = steadfast(["drill", "--list"], &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    for name in ["incident-2026-06-15", "d5a", "d8", "all-down-hour"] {
        assert!(ran.out.lines().any(|line| line.starts_with(name)), "{name} is missing:\n{}", ran.out);
    }
}

#[test]
fn a_wrong_drill_command_exits_with_2_and_names_the_mistake() {
    let folder = Folder::new("drill-wrong");
    let right = folder.file("right.yaml", SCENARIO);
    let right = right.to_str().unwrap();
    let wrong = |name: &str, text: &str| folder.file(name, text).to_str().unwrap().to_owned();
    let unknown = wrong("unknown.yaml", &SCENARIO.replace("lasts", "duration"));
    let backwards = wrong("backwards.yaml", &SCENARIO.replace("to: 10m", "to: 4m"));
    let nobody = wrong("nobody.yaml", &SCENARIO.replace("fault: o", "at: nobody, fault: o"));
    let tierless = wrong("tierless.yaml", "timeout: 90s\n");
    for (arguments, said) in [
        (vec![unknown.as_str()], "unknown.yaml:3:1"),
        (vec![backwards.as_str()], "backwards.yaml:7:21"),
        (vec![nobody.as_str()], "nobody.yaml:7:30"),
        (vec![right, "--config", tierless.as_str()], "tierless.yaml:1:"),
        (vec![right, "--slo", "lots=0"], "`lots` in `lots=0` is not measured; there are answered, served, lost"),
        (vec![right, "--slo", "lost"], "such as lost=0"),
        (vec!["no-such.yaml"], "no-such.yaml"),
        (vec!["d5c"], "did you mean `d5"),
        (vec!["nonsense"], "--list"),
        (vec![right, "--config", "none.yaml"], "none.yaml"),
    ] {
        let ran = steadfast([vec!["drill"], arguments.clone()].concat(), &[]);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(said), "{arguments:?}: {said} is missing:\n{}", ran.err);
        assert_eq!(ran.out, "", "{arguments:?}");
    }
}

#[test]
fn what_is_lost_while_a_model_was_well_is_counted_by_itself() {
    let folder = Folder::new("drill-well");
    let config = folder.file("steadfast.yaml", &CONFIG.replace(", headers: { x-team: '${TEAM}' }", ""));
    let judged = |fault: &str, config: &str| {
        let text = SCENARIO.replace("fault: overloaded", fault);
        let scenario = folder.file("short.yaml", &text);
        let arguments = ["drill", scenario.to_str().unwrap(), "--config", config];
        let ran = steadfast(arguments.into_iter().chain(["--slo", "lost_while_well=0", "--json"]), &[]);
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        let count = |field: &str| report["scenarios"][0][field].as_u64().unwrap();
        (ran.code, count("lost"), count("lost_while_well"))
    };
    let path = config.to_str().unwrap();
    // Nobody could have answered.
    let (code, lost, in_vain) = judged("at: all, fault: overloaded", path);
    assert!(code == Some(0) && lost > 50 && in_vain == 0, "{code:?}, {lost}, {in_vain}");
    // The backup could have, and a stream that is cut was not held back for it.
    let (code, lost, in_vain) = judged("fault: { cut_after: 4 }", path);
    assert!(code == Some(1) && lost > 0 && in_vain == lost, "{code:?}, {lost}, {in_vain}");
    // A feature that may not go to the backup has no model that is well, but for the time until its circuit closes.
    let text = std::fs::read_to_string(&config).unwrap() + "default_feature: { tiers: [sonnet] }\n";
    let (_, lost, in_vain) = judged("fault: overloaded", folder.file("alone.yaml", &text).to_str().unwrap());
    assert!(lost > 50 && in_vain * 20 < lost, "{lost}, {in_vain}");
}
