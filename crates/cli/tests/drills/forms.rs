//! The two forms that users copy, as they are, through every scenario; and the guide's table of what came of it.

use std::{fs, ops::Range, path::Path};

use serde_json::Value;

use crate::common::steadfast;

const FORMS: [&str; 2] = ["tests/forms/settings.json", "tests/forms/providers.yaml"];
const GUIDE: &str = "crates/guide/src/rehearsing_an_outage.md";

/// A request that arrives so long before an outage of everything may still be waiting when it begins.
const PATIENCE: f64 = 120.0;

/// The requests that one form lost in one scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Lost {
    requests: u64,
    /// Lost while a tier was healthy.
    in_vain: u64,
    /// Lost while no tier was healthy: each was down, or failed a part of the calls.
    of_necessity: u64,
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Returns the times at which no tier is healthy, from the scenario's faults in the report.
fn all_down(scenario: &Value) -> Vec<Range<f64>> {
    let mut faults: Vec<(String, Range<f64>)> = Vec::new();
    for event in scenario["events"].as_array().unwrap() {
        let (what, at) = (event["what"].as_str().unwrap(), event["at_s"].as_f64().unwrap());
        if let Some(named) = what.strip_prefix("fault begins: ") {
            faults.push((named.to_owned(), at..f64::INFINITY));
        } else if let Some(named) = what.strip_prefix("fault ends: ") {
            let begun = faults.iter_mut().find(|(name, range)| name == named && range.end.is_infinite());
            begun.unwrap().1.end = at;
        }
    }
    let at = |place: &str| -> Vec<Range<f64>> {
        let is_there = |named: &str| named.split(" at ").nth(1).unwrap().split(", ").next() == Some(place);
        faults.iter().filter(|(named, _)| is_there(named)).map(|(_, range)| range.clone()).collect()
    };
    let mut down = at("all");
    for (primary, fallbacks) in
        at("primary").iter().flat_map(|one| at("fallbacks").into_iter().map(move |two| (one.clone(), two)))
    {
        let both = primary.start.max(fallbacks.start)..primary.end.min(fallbacks.end);
        if both.start < both.end {
            down.push(both);
        }
    }
    down
}

fn lost(scenario: &Value) -> Lost {
    let (requests, lasts) = (scenario["requests"].as_u64().unwrap(), scenario["lasts_s"].as_f64().unwrap());
    let down = all_down(scenario);
    let (mut in_vain, mut of_necessity) = (0, 0);
    for bucket in scenario["timeline"].as_array().unwrap() {
        let (from, lost) = (bucket["from_s"].as_f64().unwrap(), bucket["lost"].as_u64().unwrap());
        let to = from + lasts / 60.0;
        let nothing_up = down.iter().any(|range| from < range.end && range.start - PATIENCE < to);
        *if nothing_up { &mut of_necessity } else { &mut in_vain } += lost;
    }
    assert_eq!(in_vain + of_necessity, scenario["lost"].as_u64().unwrap(), "{}", scenario["name"]);
    // The report judges each request by itself, and so no less severely.
    assert!(scenario["lost_while_well"].as_u64().unwrap() >= in_vain, "{}", scenario["name"]);
    Lost { requests, in_vain, of_necessity }
}

fn drilled(form: &str) -> Vec<(String, Lost)> {
    let file = root().join(form);
    let ran = steadfast(["drill", "--all", "--json", "--config", file.to_str().unwrap()], &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{form}");
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let scenarios = report["scenarios"].as_array().unwrap();
    scenarios.iter().map(|scenario| (scenario["name"].as_str().unwrap().to_owned(), lost(scenario))).collect()
}

/// ```sh
/// cargo test --release -p steadfast-cli --test drills forms -- --include-ignored
/// ```
///
/// `STEADFAST_REWRITE_TABLE=1` writes what it finds into the guide.
#[test]
#[ignore = "two hundred thousand requests through three stacks"]
fn the_copied_forms_lose_nothing_while_a_tier_is_well_and_the_guide_says_what_else() {
    let [settings, providers] = FORMS.map(drilled);
    assert!(settings.len() >= 35, "{}", settings.len());
    let mut table = String::new();
    let mut wrong = Vec::new();
    for ((name, one), (other_name, other)) in settings.iter().zip(&providers) {
        assert_eq!((name, one.requests), (other_name, other.requests));
        for (form, lost) in FORMS.iter().zip([one, other]).filter(|(_, lost)| lost.in_vain > 0) {
            wrong.push(format!("{form}, {name}: {} of {} lost while a tier was well", lost.in_vain, lost.requests));
        }
        let row = [one.requests, one.in_vain, other.in_vain, one.of_necessity, other.of_necessity];
        table += &format!("| `{name}` | {} |\n", row.map(|count| count.to_string()).join(" | "));
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{table}");
    let guide = fs::read_to_string(root().join(GUIDE)).unwrap();
    // The page has another table, of the defaults before and now.
    let is_row = |line: &&str| line.starts_with("| `") && !line.contains('→');
    let written: String = guide.lines().filter(is_row).map(|line| format!("{line}\n")).collect();
    if std::env::var_os("STEADFAST_REWRITE_TABLE").is_some() {
        let old = if written.is_empty() { "<!-- rows -->\n" } else { &written };
        fs::write(root().join(GUIDE), guide.replace(old, &table)).unwrap();
    } else {
        assert_eq!(written, table, "STEADFAST_REWRITE_TABLE=1 writes it anew");
    }
}
