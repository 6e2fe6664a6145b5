//! The status page, what it shows, and the badge for other pages.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{SOON, harness::*, outage};
use crate::common::{http::Answer, within};

/// Checks that node parses the script; skipped without node.
fn parses(script: &str) -> bool {
    let Ok(mut node) = Command::new("node").args(["--check", "-"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn()
    else {
        return true;
    };
    node.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    node.wait().unwrap().success()
}

#[test]
fn a_browser_gets_a_page_that_may_do_nothing_but_ask_this_server() {
    let watched = Watched::start(&[], &[]);
    let Answer { head, body, .. } = watched.get_as("/", "text/html,application/xhtml+xml;q=0.9");
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/html; charset=utf-8"), "{head}");
    let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(
        !policy.contains("unsafe") && !policy.contains('*') && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert!(body.contains("role=\"status\"") && body.contains("unning on fallback, quality may differ"));
    assert!(!body.contains("http://") || body.matches("http://").count() == body.matches("http://www.w3.org/").count());
    assert!(!body.contains("https://"), "nothing comes from elsewhere");
    let script = body.split_once("<script>").unwrap().1.split_once("</script>").unwrap().0;
    assert!(parses(script));
    assert!(!parses("const ="), "it is looked at");

    let Answer { head, body, .. } = watched.get("/");
    assert!(head.contains("content-type: text/plain") && body.contains("POST /v1/messages"), "{head}{body}");
    let Answer { head, body, .. } = watched.get("/badge.js");
    assert!(
        head.contains("content-type: text/javascript") && head.contains("access-control-allow-origin: *"),
        "{head}"
    );
    assert!(parses(&body) && body.contains("customElements.define(\"steadfast-badge\""));
}

#[test]
fn features_costs_and_caps_are_for_the_page_and_not_for_foreign_ones() {
    let watched = Watched::start(&[], &[]);
    outage(&watched);
    let overview = || -> Value {
        let overview = watched.get("/overview");
        assert_eq!((overview.status, overview.header("access-control-allow-origin")), (200, None), "{overview:?}");
        overview.json()
    };
    let of = |overview: &Value, tier: &str| {
        let tiers = overview["tiers"].as_array().unwrap();
        tiers.iter().find(|one| one["tier"] == tier).cloned().unwrap_or_default()
    };
    let sum =
        |tier: &Value, what: &str| tier[what].as_array().map_or(0, |all| all.iter().filter_map(Value::as_u64).sum());
    within(SOON, "not all is told", || sum(&of(&overview(), "gpt"), "calls") >= 4);
    let seen = overview();
    let (sonnet, gpt) = (of(&seen, "sonnet"), of(&seen, "gpt"));
    assert!(sum(&sonnet, "failures") >= 4 && sum(&sonnet, "calls") > sum(&sonnet, "failures"), "{sonnet}");
    assert_eq!((sum(&gpt, "failures"), gpt["calls"].as_array().unwrap().len()), (0, 60));
    assert!(gpt["costDollars"].as_f64().unwrap() > 0.0 && gpt["latencyMs"][59].as_f64().unwrap() > 0.0, "{gpt}");
    assert_eq!(gpt["latencyMs"][0], Value::Null, "before the start there was nothing");
    let chat = seen["features"].as_array().unwrap().iter().find(|one| one["feature"] == "chat").unwrap();
    assert_eq!((&chat["limit"], &chat["inFlight"]), (&20.into(), &0.into()));
    assert_eq!((&seen["budgets"][0]["cap"], &seen["budgets"][0]["limitDollars"]), (&"all".into(), &100.0.into()));
    assert!(seen["budgets"][0]["spentDollars"].as_f64().unwrap() > 0.0);
}
