//! An alert's parts as a message's text.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::super::{
    Alert, AlertState, Severity,
    template::{CLOSE, OPEN},
};
use steadfast_internal::wall_clock;

/// Fills a template's placeholders with an alert's parts.
pub(super) fn fill(value: &Value, alert: &Alert) -> Value {
    match value {
        Value::String(text) => match text.trim().strip_prefix(OPEN).and_then(|text| text.strip_suffix(CLOSE)) {
            Some(name) if name.trim() == "fields" => Value::Object(details(alert)),
            Some(name) if name.trim() == "repeated" => alert.repeated.into(),
            _ => fill_text(text, alert).into(),
        },
        Value::Array(values) => values.iter().map(|value| fill(value, alert)).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), fill(value, alert))).collect())
        }
        other => other.clone(),
    }
}

fn fill_text(text: &str, alert: &Alert) -> String {
    let (mut words, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, behind)) = rest.split_once(OPEN) {
        let Some((name, after)) = behind.split_once(CLOSE) else { break };
        words.push_str(before);
        words.push_str(&value(name.trim(), alert));
        rest = after;
    }
    words + rest
}

fn value(name: &str, alert: &Alert) -> String {
    let over = alert.state == AlertState::Resolved;
    match name {
        "title" => title(alert),
        "summary" => alert.summary.clone(),
        "rule" => alert.rule.name().to_owned(),
        "key" => alert.key.as_ref().into(),
        "id" => alert.id(),
        "source" => alert.origin.source().to_owned(),
        "instance" => alert.origin.instance().to_owned(),
        "severity" => alert.severity.name().to_owned(),
        "urgency" => alert.severity.urgency().to_owned(),
        "state" => alert.state.name().to_owned(),
        "action" => if over { "resolve" } else { "trigger" }.to_owned(),
        "fields" => alert.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(", "),
        "since" => date(alert.since),
        "at" => date(alert.at),
        "repeated" => alert.repeated.to_string(),
        _ => String::new(),
    }
}

/// Returns `fields` as an object.
pub(super) fn details(alert: &Alert) -> Map<String, Value> {
    alert.fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect()
}

/// Returns the alert's state in one word.
pub(super) fn headword(alert: &Alert) -> &'static str {
    match (alert.state, alert.severity) {
        (AlertState::Resolved, _) => "Resolved",
        (AlertState::Firing, Severity::Warning) => "Warning",
        (AlertState::Firing, Severity::Critical) => "Critical",
    }
}

/// Returns one short line, for a subject or a heading.
fn title(alert: &Alert) -> String {
    let line = format!("{}: {}", headword(alert), alert.summary);
    line.chars().map(|char| if char.is_control() { ' ' } else { char }).take(LONGEST_TITLE).collect()
}

/// In characters. Jira takes 255.
const LONGEST_TITLE: usize = 250;

/// Returns a moment as a date, computed from its distance to now.
pub(super) fn date(at: Instant) -> String {
    let ago = at.elapsed();
    wall_clock::rfc3339(Duration::from_secs(wall_clock::since_1970().saturating_sub(ago).as_secs()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::alerts::{Origin, Rule, Template};

    fn alert() -> Alert {
        let now = Instant::now();
        Alert {
            rule: Rule::Failover,
            key: "sonnet".into(),
            severity: Severity::Warning,
            state: AlertState::Firing,
            summary: "gpt serves in place of \"sonnet\"\n{{severity}}".to_owned(),
            fields: vec![("from", "sonnet".to_owned()), ("reason", "\\ \u{1}".to_owned())],
            since: now,
            at: now,
            repeated: true,
            origin: Origin::new("staging", "pod-1"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_placeholder_stands_for_what_the_alert_says() {
        let body = json!({
            "title": "{{title}}", "words": "{{ rule }}/{{key}}: {{severity}} {{urgency}} {{state}} {{action}}",
            "id": "{{id}}", "from": "{{source}}/{{instance}}", "deep": [{ "details": "{{fields}}", "in words": "({{fields}})", "again": "{{repeated}}" }],
            "plain": [1, true, null, "}} no {placeholder}"], "since": "{{since}}{{at}}",
        });
        let rendered = fill(Template::new(body).unwrap().body(), &alert());
        assert_eq!(
            rendered["title"], "Warning: gpt serves in place of \"sonnet\" {{severity}}",
            "what it says is text"
        );
        assert_eq!(rendered["words"], "failover/sonnet: warning warn firing trigger");
        assert_eq!(
            (&rendered["id"], &rendered["from"]),
            (&"steadfast/staging/failover/sonnet".into(), &"staging/pod-1".into())
        );
        let deep = &rendered["deep"][0];
        assert_eq!(deep["details"], json!({ "from": "sonnet", "reason": "\\ \u{1}" }));
        assert_eq!((&deep["in words"], &deep["again"]), (&"(from: sonnet, reason: \\ \u{1})".into(), &true.into()));
        assert_eq!(rendered["plain"], json!([1, true, null, "}} no {placeholder}"]));
        assert_eq!(rendered["since"].as_str().unwrap().matches('Z').count(), 2);
        let over = Alert { state: AlertState::Resolved, severity: Severity::Critical, ..alert() };
        let rendered = fill(&json!("{{action}} {{urgency}} {{severity}}"), &over);
        assert_eq!(rendered, "resolve page critical");
    }

    #[tokio::test(start_paused = true)]
    async fn a_title_is_a_line_that_every_receiver_takes() {
        let long = Alert { summary: "é".repeat(1000), ..alert() };
        let rendered = fill(&json!("{{title}}"), &long);
        assert_eq!(rendered.as_str().unwrap().chars().count(), 250);
    }
}
