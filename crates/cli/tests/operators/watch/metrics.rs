//! `GET /metrics`.

use std::collections::{BTreeMap, BTreeSet};

use steadfast::providers::simulated::Fault;

use super::{SOON, harness::*, outage};
use crate::common::{http::Answer, within};

/// The names that the dashboard and the rules select.
fn used(file: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(format!("{}/../../ops/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics = words.filter(|word| word.starts_with("steadfast_") || word.starts_with("gen_ai_client_"));
    metrics.map(str::to_owned).collect()
}

/// A scrape: each series with its value.
fn scrape(watched: &Watched) -> BTreeMap<String, f64> {
    let Answer { head, body: text, .. } = watched.get("/metrics");
    assert!(head.starts_with("http/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
        .collect()
}

fn sum(page: &BTreeMap<String, f64>, name: &str, label: &str) -> f64 {
    let is = |series: &str| series.split('{').next() == Some(name) && series.contains(label);
    page.iter().filter(|(series, _)| is(series)).map(|(_, value)| value).sum()
}

/// A request that is mirrored too: its caller has the primary's answer, and both sides are counted beside the requests.
fn mirrored(watched: &Watched) {
    assert_eq!(watched.tier("mirrored", true), "sonnet");
    let compared = r#"feature="mirrored",primary="answered",candidate="answered",agrees="no""#;
    within(SOON, "the mirrored request was not counted", || {
        sum(&scrape(watched), "steadfast_mirrored_requests_total", compared) == 1.0
    });
    let page = scrape(watched);
    for side in ["primary", "candidate"] {
        let side = format!("side=\"{side}\"");
        assert_eq!(sum(&page, "steadfast_mirror_first_token_seconds_count", &side), 1.0, "{side}");
        assert_eq!(sum(&page, "steadfast_mirror_duration_seconds_count", &side), 1.0, "{side}");
    }
    assert!(sum(&page, "steadfast_mirror_cost_nanodollars_total", "side=\"primary\"") > 0.0);
    assert_eq!(sum(&page, "steadfast_requests_total", "feature=\"mirrored\""), 1.0, "the copy is no request");
}

#[test]
fn what_dashboard_and_rules_use_is_in_a_scrape_after_an_outage() {
    let watched = Watched::start(&[], &[]);
    outage(&watched);
    // The events that an outage alone does not bring: a retry that rescues, a stream that breaks, nobody left, a
    // cheaper chain, a file that is loaded again.
    watched.primary().fail_next(1, &Fault::ServerError);
    assert_eq!(watched.tier("chat", false), "sonnet");
    // Before a stream breaks: its repeat would begin at the next tier.
    mirrored(&watched);
    watched.primary().fail_next(1, &Fault::CutAfter(3));
    assert!(watched.ask("chat", true).body.contains("event: error"));
    assert_eq!(watched.tier("small", false), "gpt");
    watched.primary().fail(Fault::Unavailable);
    watched.backup().fail(Fault::Unavailable);
    assert!(watched.ask("strict", false).status >= 500);
    assert!(watched.ask("chat", false).body.contains("Please try again later."));
    watched.gateway.signal("-HUP");
    within(SOON, "the reload was not counted", || {
        sum(&scrape(&watched), "steadfast_config_reloads_total", "outcome=\"loaded\"") >= 1.0
    });

    let page = scrape(&watched);
    let there: BTreeSet<&str> = page.keys().filter_map(|series| series.split('{').next()).collect();
    let mut all = used("grafana-dashboard.json");
    all.extend(used("prometheus-rules.yml"));
    assert!(all.len() > 30, "{all:?}");
    // This gateway has no cloud, no cache, no store, no people, no hedge, no deployments, no keys and no teams, no side
    // of its mirror fails or is spared, and its providers count right; the library's own tests have all that.
    let of_others = [
        "steadfast_cache",
        "steadfast_callers_held_apart_",
        "steadfast_credentials_",
        "steadfast_deployment_",
        "steadfast_store_",
        "steadfast_handoff_",
        "steadfast_hedges_",
        "steadfast_mirror_errors_",
        "steadfast_mirror_not_compared_",
        "steadfast_possible_repeats_",
        "steadfast_share_refusals_",
        "steadfast_team_cost_",
        "steadfast_usage_replaced_",
    ];
    let is_its_own = |name: &&String| !of_others.iter().any(|part| name.starts_with(part));
    let missing: Vec<&String> = all.iter().filter(is_its_own).filter(|name| !there.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?} are not in\n{page:#?}");

    assert!(sum(&page, "steadfast_fallback_activations_total", "from=\"sonnet\",to=\"gpt\"") >= 1.0);
    for tier in ["sonnet", "gpt", "sorry"] {
        assert_eq!(sum(&page, "steadfast_circuit_state", &format!("tier=\"{tier}\"")), 1.0, "{tier}");
    }
    assert_eq!(sum(&page, "steadfast_permits", "feature=\"chat\""), 20.0);
    assert_eq!(sum(&page, "steadfast_budget_limit_dollars", "cap=\"all\""), 100.0);
    assert!(sum(&page, "steadfast_cost_nanodollars_total", "tier=\"sonnet\"") > 0.0);
    assert!(sum(&page, "gen_ai_client_operation_duration_seconds_count", "gen_ai_request_model=\"gpt-4o\"") > 3.0);
}
