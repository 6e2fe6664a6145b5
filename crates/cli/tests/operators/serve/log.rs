//! The log, where nobody reads it and where somebody does.

use super::HELLO;
use crate::common::serve::{Serve, Served};

/// Asks what cannot be answered. The log says a line of some length of it, at the level that is asked for here.
fn breaks(served: &Served, times: usize) {
    for _ in 0..times {
        assert_eq!(served.ask("POST /v1/chat/completions", "", r#"{"model":"m","messages":"none"}"#).status, 400);
    }
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let served = Serve::simulated().args(["--log", "trace"]).log_unread().start();
    // Each has some lines of other crates: many times what a pipe holds.
    breaks(&served, 3000);
    assert!(served.ask("POST /v1/messages", "", HELLO).body.contains("message_stop"));
    // It ends all the same.
    let said = served.stop().err;
    assert!(said.contains("request failed"), "{said}");
}

#[test]
fn a_graceful_stop_writes_every_log_line_before_it() {
    let served = Serve::simulated().start();
    // More in ten seconds have no line.
    breaks(&served, 10);
    let said = served.stop().err;
    assert_eq!(said.matches("request failed request=").count(), 10);
    assert!(said.trim_end().ends_with("stopped"), "{said}");
}

#[test]
fn a_path_that_is_not_served_has_one_line_and_is_counted() {
    let served = Serve::simulated().start();
    for path in ["/v1/edits?key=sk-secret", "/v1/v1/messages"] {
        let answer = served.ask(&format!("POST {path}"), "", HELLO);
        assert!(answer.status == 404 && answer.body.contains("POST /v1/messages, "), "{answer:?}");
    }
    let metrics = served.ask("GET /metrics", "", "").body;
    assert!(metrics.contains("\nsteadfast_unknown_paths_total 2\n"), "{metrics}");
    let said = served.stop().err;
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("unknown_path")).collect();
    let [first, second] = lines[..] else { panic!("{said}") };
    assert!(first.contains("method=\"POST\" path=\"/v1/edits\"") && !first.contains("secret"), "{first}");
    assert!(second.contains("path=\"/v1/v1/messages\""), "{second}");
}

#[test]
fn a_low_limit_of_open_files_is_logged_only_with_real_providers() {
    let said = Serve::simulated().open_files(512).start().stop().err;
    assert!(!said.contains("ulimit"), "{said}");
    let config =
        "tiers: [{ name: local, provider: openai, model: m, base_url: 'http://127.0.0.1:9/v1', api_key: '${KEY}' }]";
    let said = Serve::with(config).env("KEY", "k").open_files(512).start().stop().err;
    assert!(said.contains("ulimit"), "each call of a provider takes a file: {said}");
}

#[test]
fn a_log_in_json_has_nothing_beside_it() {
    let served = Serve::simulated().args(["--log-format", "json"]).start();
    breaks(&served, 1);
    let said = served.stop();
    assert_eq!(said.out, "");
    let lines: Vec<serde_json::Value> = said.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let event = |name: &str| lines.iter().find(|line| line["event"] == name);
    let listening = event("listening").unwrap_or_else(|| panic!("{lines:?}"));
    assert!(listening["tiers"].as_str().unwrap().starts_with("simulated-primary, "), "{listening}");
    assert!(listening["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{listening}");
    // So it is where it cannot serve: one line, with all that is wrong.
    let refused =
        Serve::with("tiers: [{ name: a, provider: nobody }]\nnonsense: 1").args(["--log-format", "json"]).refused();
    assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""));
    let line: serde_json::Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!((&line["level"], &line["event"]), (&"ERROR".into(), &"not_serving".into()));
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("nobody") && message.contains("nonsense") && line["timestamp"].is_string(), "{line}");
}

#[test]
fn the_command_to_try_has_a_key_where_callers_need_one() {
    let (_, entry) = crate::common::key("ana");
    let keyed = Serve::simulated().keys(&entry).start();
    assert!(keyed.greeting().contains("-H \"authorization: Bearer $KEY\""), "{}", keyed.greeting());
    assert!(!Serve::simulated().start().greeting().contains("authorization"));
}
