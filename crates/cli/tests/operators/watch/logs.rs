//! The log as lines of JSON, and as text.

use serde_json::Value;
use steadfast::providers::simulated::Fault;

use super::{SOON, harness::*, outage};
use crate::common::within;

fn lines(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn of<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

#[test]
fn as_json_each_switch_and_each_request_is_a_line() {
    let watched = Watched::start(&["--log-format", "json"], &[]);
    outage(&watched);
    let log = watched.log();
    for secret in SECRETS {
        assert!(!log.contains(secret), "{log}");
    }
    let lines = lines(&log);
    for line in &lines {
        let date = line["timestamp"].as_str().unwrap();
        assert!(date.len() >= 20 && date.ends_with('Z') && date.as_bytes()[10] == b'T', "{date}");
        assert!(line["level"].is_string());
    }
    let switches = of(&lines, "model_switched");
    assert_eq!(switches.len(), 1, "{log}");
    assert_eq!((&switches[0]["from"], &switches[0]["to"]), (&"sonnet".into(), &"gpt".into()));
    assert_eq!((&switches[0]["reason"], &switches[0]["level"]), (&"server".into(), &"WARN".into()));
    let back = of(&lines, "model_recovered");
    assert_eq!((&back[0]["from"], &back[0]["to"]), (&"gpt".into(), &"sonnet".into()));
    assert!(back[0]["after_seconds"].as_f64().unwrap() > 0.0);
    assert!(of(&lines, "circuit_changed").iter().any(|line| line["to"] == "open"));

    let requests = of(&lines, "request");
    assert!(requests.len() >= 6, "{log}");
    let rescued = requests.iter().find(|line| line["tier"] == "gpt").unwrap();
    assert_eq!((&rescued["outcome"], &rescued["feature"]), (&"answered".into(), &"chat".into()));
    assert_eq!(rescued["attempts"], 3);
    assert!(rescued["latency_by_tier"].as_str().unwrap().starts_with("sonnet="), "{rescued}");
    assert!(rescued["output_tokens"].as_u64().unwrap() > 0 && rescued["cost_usd"].as_f64().unwrap() > 0.0);
    assert_eq!(
        (&rescued["status"], &rescued["tier_number"], &rescued["model"]),
        (&200.into(), &2.into(), &"gpt-4o".into())
    );
    assert!(rescued["request_id"].as_str().unwrap().starts_with("sf-"), "{rescued}");
    let failed = rescued["failed_attempts"].as_array().unwrap();
    assert_eq!(failed.len(), 2, "{rescued}");
    for (place, attempt) in failed.iter().enumerate() {
        assert_eq!((&attempt["attempt"], &attempt["tier"]), (&(place + 1).into(), &"sonnet".into()));
        assert_eq!(
            (&attempt["tier_number"], &attempt["kind"], &attempt["status"]),
            (&1.into(), &"server".into(), &503.into())
        );
        assert!(attempt["latency_ms"].as_f64().unwrap() > 0.0 && attempt["next"].is_string(), "{attempt}");
    }
    assert_eq!((&switches[0]["from_model"], &switches[0]["to_model"]), (&"claude-sonnet-4-5".into(), &"gpt-4o".into()));
}

#[test]
fn a_key_that_has_never_worked_is_told_once_and_the_backup_serves() {
    let watched = Watched::start(&["--log-format", "json"], &[]);
    assert_eq!(watched.get("/readyz").status, 200);
    watched.primary().fail(Fault::Unauthorized);
    for _ in 0..3 {
        assert_eq!(watched.tier("chat", false), "gpt");
    }
    within(SOON, "the board does not hear of it", || watched.status()["tiers"][0]["setup"] == "key_refused");
    assert_eq!((watched.status()["tiers"][1]["setup"].clone(), watched.get("/readyz").status), ("works".into(), 200));
    within(SOON, "nobody is paged", || !watched.alerts().is_empty());
    let log = watched.log();
    let lines = lines(&log);
    let told = of(&lines, "setup_refused");
    assert_eq!(told.len(), 1, "{log}");
    for (field, value) in [
        ("level", "ERROR"),
        ("tier", "sonnet"),
        ("model", "claude-sonnet-4-5"),
        ("reason", "auth"),
        ("advice", "check the API key"),
    ] {
        assert_eq!(told[0][field], value, "{}", told[0]);
    }
}

#[test]
fn the_line_of_a_request_has_the_id_and_the_status_that_its_caller_got() {
    let watched = Watched::start(&["--log-format", "json"], &[]);
    let answered = watched.ask("chat", false);
    watched.primary().fail(Fault::Unavailable);
    watched.backup().fail(Fault::Unavailable);
    let failed = watched.ask("strict", false);
    let got: Vec<_> = [answered, failed]
        .iter()
        .map(|answer| (answer.header("x-steadfast-request-id").unwrap().to_owned(), u64::from(answer.status)))
        .collect();
    assert!(got[0].1 == 200 && got[1].1 >= 500, "{got:?}");
    let log = watched.log();
    let lines = lines(&log);
    let told: Vec<_> = of(&lines, "request")
        .into_iter()
        .map(|line| (line["request_id"].as_str().unwrap().to_owned(), line["status"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, got, "{log}");
    // The gateway's own line of a failure agrees.
    let refused = lines.iter().find(|line| line["message"] == "request failed").unwrap();
    assert_eq!((&refused["request"], &refused["http_status"]), (&got[1].0.clone().into(), &got[1].1.into()));
}

#[test]
fn the_text_log_contains_the_requested_events_and_no_more() {
    let log = |arguments: &[&str], environment: &[(&str, &str)]| {
        let watched = Watched::start(arguments, environment);
        outage(&watched);
        watched.log()
    };
    let usual = log(&[], &[("RUST_LOG", "")]);
    assert!(usual.contains("event=\"model_switched\" from=\"sonnet\" to=\"gpt\""), "{usual}");
    let opened = usual.lines().find(|line| line.contains("circuit_changed") && line.contains("to=\"open\"")).unwrap();
    assert!(opened.contains("kind=\"server\" status=503") && opened.contains("request_id=\"sf-"), "{opened}");
    assert!(!usual.contains("event=\"request\"") && !usual.contains('{'), "{usual}");
    let asked = log(&["--log", "off,steadfast=debug"], &[("RUST_LOG", "off")]);
    let failures = "failures=\"sonnet=server sonnet=server\"";
    assert!(asked.contains(failures), "a value with spaces is quoted: {asked}");
    assert!(asked.contains("event=\"request\""), "the option is stronger than the variable: {asked}");
    for secret in SECRETS {
        assert!(!usual.contains(secret) && !asked.contains(secret), "{asked}");
    }
    assert_eq!(log(&[], &[("RUST_LOG", "off")]), "");
}

#[test]
fn a_filter_that_is_none_is_refused() {
    let ran = crate::common::steadfast(["serve", "--log", "steadfast=loud"], &[]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("--log"), "{}", ran.err);
}
