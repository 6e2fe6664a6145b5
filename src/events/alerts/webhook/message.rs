use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::super::{Alert, AlertState, Severity};
use crate::{wall_clock, webhook::escaped};

/// The shape of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One text in Slack's markup, and its colour.
    Slack,
    /// A plain object.
    Json,
}

impl Format {
    pub(super) fn body(self, alert: &Alert) -> Bytes {
        let body = match self {
            Self::Slack => slack(alert),
            Self::Json => plain(alert),
        };
        body.to_string().into()
    }
}

/// `text` is what every Slack-compatible receiver shows; `attachments` adds the colour and the details where they are known.
fn slack(alert: &Alert) -> Value {
    let (word, color) = match (alert.state, alert.severity) {
        (AlertState::Resolved, _) => ("Resolved", "good"),
        (AlertState::Firing, Severity::Warning) => ("Warning", "warning"),
        (AlertState::Firing, Severity::Critical) => ("Critical", "danger"),
    };
    let mut text = format!("*{word}:* {}", escaped(&alert.summary));
    if alert.repeated {
        text.push_str(" (still)");
    }
    let mut fields: Vec<Value> = Vec::new();
    for (name, value) in &alert.fields {
        fields.push(json!({ "title": name, "value": escaped(value), "short": true }));
    }
    let footer = format!("steadfast {} since {}", alert.rule, date(alert.since));
    json!({ "text": text, "attachments": [{ "color": color, "fields": fields, "footer": footer }] })
}

fn plain(alert: &Alert) -> Value {
    let fields: Map<String, Value> =
        alert.fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    json!({
        "rule": alert.rule.name(),
        "key": &*alert.key,
        "severity": alert.severity.name(),
        "state": alert.state.name(),
        "summary": alert.summary,
        "fields": fields,
        "since": date(alert.since),
        "at": date(alert.at),
        "repeated": alert.repeated,
    })
}

/// A moment as a date, by how long ago it was.
fn date(at: Instant) -> String {
    let ago = at.elapsed();
    wall_clock::rfc3339(Duration::from_secs(wall_clock::since_1970().saturating_sub(ago).as_secs()))
}
