//! `drill --from-log`: a night of a real gateway, replayed.

use std::{
    fs::File,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::common::{Folder, Ran, STEADFAST, serve::Serve, steadfast};

/// A tier that nobody answers at, and one for all features but `lonely`.
const CONFIG: &str = "
tiers:
  - { name: down, provider: openai, base_url: 'http://127.0.0.1:9/v1', model: x, api_key: '${KEY}' }
  - { name: up, provider: simulated, model: small, simulated: { latency: 5ms } }
features: { lonely: { tiers: [down] } }
";
const ASKED: &str = r#"{"model":"claude-sonnet-4-5","max_tokens":8,"messages":[{"role":"user","content":"Hi"}]}"#;

/// Replays a log. Returns the report of its only scenario.
fn replayed(log: &str, config: &str) -> Value {
    let ran = steadfast(["drill", "--from-log", log, "--config", config, "--json"], &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_str::<Value>(&ran.out).unwrap()["scenarios"][0].take()
}

#[test]
fn a_night_of_a_real_gateway_loses_as_many_again_and_fewer_by_another_file() {
    let served = Serve::with(CONFIG).env("KEY", "k").args(["--log-format", "json"]).start();
    let ask = |headers: &str| served.ask("POST /v1/messages", headers, ASKED).status;
    let mut lost = 0;
    for _ in 0..12 {
        assert_eq!(ask(""), 200);
        let status = ask("x-steadfast-feature: lonely\r\n");
        assert!(status >= 500, "{status}");
        lost += 1;
    }
    let records = served.ask("GET /requests?limit=1000", "", "").body;
    let lines = served.stop().err;
    let folder = Folder::new("night");
    let path = |name: &str, text: &str| folder.file(name, text).to_str().unwrap().to_owned();
    let same = path("same.yaml", CONFIG);
    let changed = path("changed.yaml", &CONFIG.replace("[down]", "[down, up]"));
    for log in [path("night.log", &lines), path("records.json", &records)] {
        let report = replayed(&log, &same);
        let recorded = &report["recorded"];
        assert_eq!((&recorded["lost"], &report["lost"]), (&lost.into(), &lost.into()), "{log}: {recorded}");
        assert_eq!((&recorded["answered"], &report["answered"]), (&12.into(), &12.into()), "{log}: {report}");
        assert_eq!(report["baselines"][0]["name"], "recorded");
        assert_eq!(replayed(&log, &changed)["lost"], 0, "{log}");
    }
}

#[test]
fn what_cannot_be_replayed_is_told_with_the_remedy() {
    let folder = Folder::new("no-night");
    let file = |name: &str, text: &str| folder.file(name, text).to_str().unwrap().to_owned();
    let line = r#"{"timestamp":"2026-11-30T02:00:01.5Z","event":"request","outcome":"answered","tier":"old","stream":true,"latency_ms":1500.0,"first_token_ms":700.0,"latency_by_tier":"old=700"}"#;
    let (text, cut) = (file("text.log", "2026-11-30 INFO listening\n"), file("cut.log", &format!("{line}\n{{\"time")));
    let drill = |arguments: &[&str]| steadfast(["drill"].iter().chain(arguments).copied(), &[]);
    let wrong = |ran: Ran, said: &str| assert!(ran.code == Some(2) && ran.err.contains(said), "{ran:?}");
    wrong(
        drill(&["--from-log", &text]),
        "line 1 is no JSON: a replay takes the log of `steadfast serve --log-format json",
    );
    wrong(drill(&["--from-log", &file("empty.log", "")]), "it is empty");
    wrong(drill(&["--from-log", "nowhere.log"]), "cannot read nowhere.log");
    wrong(drill(&["--from-log", &cut, "d1"]), "cannot be used with");
    wrong(drill(&["--from-log", &cut, "--from", "02:00"]), "such as 2026-11-30T02:00:00Z");
    wrong(drill(&["--from", "2026-11-30T02:00:00Z"]), "--from-log");
    wrong(drill(&["--from-log", &cut, "--to", "2026-11-30T02:00:00Z"]), "no request of");
    // A cut line and tiers of one side only are told in the report.
    let ran = drill(&["--from-log", &cut, "--slo", "lost=0"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for note in ["line 2, the last, is cut", "the file has no tier `old`", "the log has no call of tier `primary`"] {
        assert!(ran.out.contains(&format!("note: {note}")), "{ran:?}");
    }
    // The same from standard input, as a page too.
    let page = folder.path("page.html");
    let read = Command::new(STEADFAST)
        .args(["drill", "--from-log", "-", "--html", page.to_str().unwrap()])
        .env_clear()
        .stdin(Stdio::from(File::open(&cut).unwrap()))
        .output()
        .unwrap();
    assert!(read.status.success() && String::from_utf8_lossy(&read.stdout).contains("standard input"), "{read:?}");
    assert!(std::fs::read_to_string(page).unwrap().contains("is cut: passed over"));
}
