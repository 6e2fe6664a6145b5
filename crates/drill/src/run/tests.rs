//! A night that is logged, and replayed.

use std::{fmt, io};

use steadfast_internal::sync::{Mutex, lock};
use steadfast_stack::Format;
use steadfast_subscribers::Logs;
use tracing_subscriber::fmt::{MakeWriter, format::Writer, time::FormatTime};

use super::*;
use crate::log::RequestLog;

const TWO: &str = "
tiers:
  - { name: primary, provider: anthropic, model: claude-sonnet-4-5 }
  - { name: backup, provider: openai, model: gpt-4o }
";

/// The lines of a log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The date of a drill.
struct Date;

impl FormatTime for Date {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let now = wall_clock::since_1970();
        // A whole second is not rounded up.
        let second = wall_clock::rfc3339(Duration::from_secs(now.as_secs()));
        write!(w, "{}.{:06}Z", second.trim_end_matches('Z'), now.subsec_micros())
    }
}

fn config(text: &str) -> Config {
    drill_config(&Config::from_str(text, Format::Yaml).unwrap())
}

/// Runs a scenario. Returns the log of its requests, and how many were lost.
fn night(name: &str, config: &Config, seed: u64) -> (Vec<u8>, u64) {
    let scenario = &Scenario::named(name).unwrap();
    let (hits, asks) = (scenario.hits(config).unwrap(), traffic(scenario.file(), seed).into());
    let rehearsal = Rehearsal { scenario, config, embeddings: None, hits, asks, recording: None, seed };
    let lines = Lines::default();
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_timer(Date).with_writer(lines.clone()).finish();
    let attach = |handle: &StackHandle| handle.events().follow(Logs::new().stack(handle.clone()));
    let ran = tracing::subscriber::with_default(log, || {
        virtual_time().unwrap().block_on(rehearsal.run_stack(attach)).unwrap()
    });
    let lost = ran.outcomes.iter().filter(|outcome| matches!(outcome.end, outcome::End::Lost { .. })).count() as u64;
    let lines = lock(&lines.0).clone();
    (lines, lost)
}

fn read(lines: &[u8]) -> RequestLog {
    RequestLog::read("night.log", lines, (None, None)).unwrap()
}

/// The seed of another process.
const OTHER: u64 = 1000;

fn answered_by(report: &ScenarioReport, name: &str) -> u64 {
    report.tiers.iter().find(|tier| tier.name == name).unwrap().answered
}

#[test]
fn the_same_file_loses_as_many_as_the_log_has() {
    let config = config(TWO);
    for (name, seed) in [("d9", 1), ("d9", 2), ("all-down-hour", 1), ("all-down-hour", 3), ("store-outage", 2)] {
        let (lines, lost) = night(name, &config, seed);
        let report = replay(&read(&lines), &config, seed + OTHER).unwrap();
        let recorded = report.recorded.as_ref().unwrap();
        assert!(lost > 30, "{name} {seed}: {lost}");
        assert_eq!((recorded.lost, report.lost), (lost, lost), "{name} {seed}");
        assert_eq!((recorded.requests, recorded.answered), (report.requests, report.answered), "{name} {seed}");
        assert_eq!(report.baselines[0].lost, lost);
        // Each request arrives when it did, and its answer takes as long.
        let near = |one: f64, other: f64| (one - other).abs() <= 0.1 * one;
        assert!(near(recorded.p50_ms, report.p50_ms), "{name} {seed}: {} {}", recorded.p50_ms, report.p50_ms);
        let arrivals = |report: &ScenarioReport| report.timeline.iter().map(|bucket| bucket.requests).sum::<u64>();
        assert_eq!(arrivals(&report), recorded.requests);
    }
}

/// The same chance gives the same losses: a circuit draws from it when a tier serves again.
#[test]
fn with_the_same_chance_short_outages_lose_the_same_requests_too() {
    let config = config(TWO);
    for name in ["network-away", "dns-away"] {
        let (lines, lost) = night(name, &config, 1);
        let log = read(&lines);
        let again = replay(&log, &config, 1).unwrap();
        assert_eq!((again.lost, lost > 100), (lost, true), "{name}");
        // Another chance may make a circuit's pause a tenth longer, and lose the requests of that tenth.
        let other = replay(&log, &config, OTHER).unwrap();
        assert!(other.lost >= lost && other.lost - lost <= lost / 25, "{name}: {} of {lost}", other.lost);
    }
}

#[test]
fn what_was_kept_written_down_and_refused_is_so_again() {
    let config = drill_config(&crate::default_config());
    let (lines, lost) = night("all-down-hour", &config, 1);
    let report = replay(&read(&lines), &config, OTHER).unwrap();
    let recorded = report.recorded.as_ref().unwrap();
    assert!(recorded.degraded > 100 && recorded.handed_off > 100, "{recorded:?}");
    assert_eq!((recorded.lost, report.lost, lost), (0, 0, 0));
    let pairs = [(recorded.degraded, report.degraded), (recorded.handed_off, report.handed_off)];
    // A circuit's pause may differ, and with it the requests that arrive in it.
    assert!(pairs.iter().all(|(was, is)| was.abs_diff(*is) * 50 <= *was), "{pairs:?}");
}

#[test]
fn one_tier_more_loses_less_and_is_named_as_assumed() {
    let (lines, lost) = night("all-down-hour", &config(TWO), 1);
    let third = format!("{TWO}  - {{ name: third, provider: gemini, model: gemini-2.5-pro }}\n");
    let report = replay(&read(&lines), &config(&third), OTHER).unwrap();
    assert_eq!((lost > 1000, report.lost), (true, 0));
    assert_eq!(answered_by(&report, "third"), lost);
    let recorded = report.recorded.unwrap();
    assert!(recorded.notes.iter().any(|note| note.contains("no call of tier `third`")), "{:?}", recorded.notes);
}

#[test]
fn one_tier_less_loses_more_and_is_named() {
    let (lines, lost) = night("d9", &config(TWO), 1);
    let one = "tiers: [{ name: primary, provider: anthropic, model: claude-sonnet-4-5 }]";
    let report = replay(&read(&lines), &config(one), OTHER).unwrap();
    let recorded = report.recorded.unwrap();
    assert!(report.lost > 10 * lost, "{} {lost}", report.lost);
    assert!(recorded.notes.iter().any(|note| note.contains("the file has no tier `backup`")), "{:?}", recorded.notes);
    // The outages of the tier that is left are in the timeline, and no others.
    assert!(report.events.iter().any(|event| event.what.contains("fault begins: unavailable at primary")));
    assert!(!report.events.iter().any(|event| event.what.contains("at backup")), "{:?}", report.events);
}

/// The same night as the answer of `GET /requests`.
#[test]
fn records_tell_the_same_as_the_lines() {
    let config = config(TWO);
    let (lines, lost) = night("d9", &config, 1);
    let mut records = Vec::new();
    for line in String::from_utf8(lines).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["event"] != "request" {
            continue;
        }
        let ended = wall_clock::parse_rfc3339(line["timestamp"].as_str().unwrap()).unwrap();
        let begun = ended - Duration::from_secs_f64(line["latency_ms"].as_f64().unwrap() / 1000.0);
        let failed = line["failed_attempts"].as_str().unwrap_or("[]");
        let failed: Vec<serde_json::Value> = serde_json::from_str(failed).unwrap();
        let step = |step: &serde_json::Value| {
            serde_json::json!({
                "tier": step["tier"], "provider": null, "took_ms": step["latency_ms"], "failure": step["kind"],
                "next": step["next"], "status": step["status"],
            })
        };
        let mut steps: Vec<serde_json::Value> = failed.iter().map(step).collect();
        if line["outcome"] == "answered" {
            let last = line["latency_by_tier"].as_str().unwrap().rsplit_once('=').unwrap().1;
            let last: f64 = last.parse().unwrap();
            steps.push(serde_json::json!({"tier": line["tier"], "took_ms": last, "failure": null, "next": "done"}));
        }
        records.push(serde_json::json!({
            "id": "sf-0-0", "at_ms": begun.as_millis() as u64, "outcome": line["outcome"], "failure": line["kind"],
            "tier": line["tier"], "stream": line["stream"], "degraded": null, "first_token_ms": line["first_token_ms"],
            "took_ms": line["latency_ms"], "steps": steps,
        }));
    }
    // The newest first, as the gateway answers; on one line, over many, and a record a line.
    records.reverse();
    let all = serde_json::json!({ "requests": records, "kept": 10_000 });
    let each: Vec<String> = records.iter().map(serde_json::Value::to_string).collect();
    for form in [all.to_string(), serde_json::to_string_pretty(&all).unwrap(), each.join("\n")] {
        let log = read(form.as_bytes());
        assert_eq!((log.requests(), log.notes()), (records.len(), &[][..]));
        let report = replay(&log, &config, OTHER).unwrap();
        assert_eq!((report.recorded.unwrap().lost, report.lost), (lost, lost));
    }
}
