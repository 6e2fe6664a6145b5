use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    super::{Alert, AlertState, Severity, Template},
    render::{date, details, fill, headword},
};
use steadfast_webhook::escape;

/// The shape of a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Format {
    /// One text in Slack's markup, and its colour.
    Slack,
    /// A plain object.
    Json,
    /// A body of the receiver's own shape.
    Template(Template),
}

impl Format {
    pub(super) fn body(&self, alert: &Alert) -> Bytes {
        let body = match self {
            Self::Slack => slack(alert),
            Self::Json => plain(alert),
            Self::Template(template) => fill(template.body(), alert),
        };
        body.to_string().into()
    }
}

/// Every Slack-compatible receiver shows `text`; `attachments` adds the colour and the details where they are known.
fn slack(alert: &Alert) -> Value {
    let color = match (alert.state, alert.severity) {
        (AlertState::Resolved, _) => "good",
        (AlertState::Firing, Severity::Warning) => "warning",
        (AlertState::Firing, Severity::Critical) => "danger",
    };
    let still = if alert.repeated { " (still)" } else { "" };
    let text = format!("*{}:* {}{still} [{}]", headword(alert), escape(&alert.summary), escape(alert.origin.source()));
    let mut fields: Vec<Value> = Vec::new();
    for (name, value) in &alert.fields {
        fields.push(json!({ "title": name, "value": escape(value), "short": true }));
    }
    let footer = format!("steadfast {} at {} since {}", alert.rule, alert.origin.instance(), date(alert.since));
    json!({ "text": text, "attachments": [{ "color": color, "fields": fields, "footer": footer }] })
}

fn plain(alert: &Alert) -> Value {
    json!({
        "id": alert.id(),
        "source": alert.origin.source(),
        "instance": alert.origin.instance(),
        "rule": alert.rule.name(),
        "key": &*alert.key,
        "severity": alert.severity.name(),
        "urgency": alert.severity.urgency(),
        "state": alert.state.name(),
        "summary": alert.summary,
        "fields": details(alert),
        "since": date(alert.since),
        "at": date(alert.at),
        "repeated": alert.repeated,
    })
}
