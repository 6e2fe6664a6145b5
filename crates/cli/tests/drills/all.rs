use serde_json::Value;

use crate::common::steadfast;

/// The circuit's cooldown, which is the time between two probes, and a probe's own latency.
const PROBE_INTERVAL: f64 = 60.0 + 5.0;

/// The scenarios without any network: a connection that cannot be made hammers nobody.
const NOTHING_REACHED: [&str; 2] = ["network-away", "dns-away"];

/// Every scenario with the default configuration, by the command that users type. It is the whole of what the drill
/// promises, and takes a minute or so without optimizations, in virtual time:
///
/// ```sh
/// cargo test --release -p steadfast-cli --test drills -- --include-ignored
/// ```
#[test]
#[ignore = "a hundred thousand requests through three stacks"]
fn all_scenarios_lose_nothing_hammer_nobody_and_are_back_within_a_probe_interval() {
    let ran = steadfast(["drill", "--all", "--json"], &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let scenarios = report["scenarios"].as_array().unwrap();
    assert!(scenarios.len() >= 35, "{}", scenarios.len());
    let mut wrong = Vec::new();
    for scenario in scenarios {
        let name = scenario["name"].as_str().unwrap();
        let count = |field: &str| scenario[field].as_u64().unwrap_or_else(|| panic!("{name}: {field}"));
        let number = |field: &str| scenario[field].as_f64();
        let (requests, lost) = (count("requests"), count("lost"));
        if lost > 0 {
            wrong.push(format!("{name}: {lost} of {requests} lost"));
        }
        assert_eq!(
            count("answered") + count("degraded") + count("handed_off") + count("refused") + lost,
            requests,
            "{name}"
        );
        let amplification = number("amplification").unwrap();
        if amplification > 1.1 && !NOTHING_REACHED.contains(&name) {
            wrong.push(format!("{name}: {amplification} attempts a request"));
        }
        // Seen by the next request that arrives: traffic is thin.
        let arrival = 10.0 * number("lasts_s").unwrap() / requests as f64;
        match number("recovery_s") {
            Some(recovery) if recovery <= PROBE_INTERVAL + arrival => {}
            recovery => wrong.push(format!("{name}: back after {recovery:?} s")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Nobody who goes without does as well.
    let lost = |baseline: usize| -> u64 {
        scenarios.iter().filter_map(|scenario| scenario["baselines"][baseline]["lost"].as_u64()).sum()
    };
    assert!(lost(0) > 20_000 && lost(1) > 20_000, "{} {}", lost(0), lost(1));
}
