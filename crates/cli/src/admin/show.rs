//! The state and the requests of a gateway, in text for people.
//!
//! The gateway is the one that knows its fields: what a newer one adds is shown, under the name that it has there.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Map, Value};
use steadfast_internal::wall_clock::rfc3339;

use crate::{table::Table, terminal::on_a_line};

/// The fields of a request that come first.
const OF_REQUESTS: [&str; 8] = ["id", "outcome", "failure", "key", "feature", "asked_model", "tier", "model"];
/// The columns of a request's attempts.
const OF_STEPS: [&str; 7] = ["tier", "model", "failure", "status", "begun_ms", "took_ms", "next"];
/// The fields of a status that come first.
const OF_STATUS: [&str; 4] = ["state", "activeTier", "activeModel", "primaryTier"];
/// The columns of a status's tiers.
const OF_TIERS: [&str; 9] =
    ["name", "health", "setup", "circuit", "circuitSince", "circuitReason", "circuitUntil", "calls", "failures"];

/// Returns a list of requests.
pub(super) fn requests(answer: &Value) -> String {
    let listed = list(&answer["requests"]);
    if listed.is_empty() {
        return "no request: none is kept that fits\n".to_owned();
    }
    let mut table =
        Table::new(["at", "id", "key", "feature", "asked for", "tier", "outcome", "attempts", "took ms", "why"]);
    for request in listed {
        let of = |field: &str| cell(&request[field]);
        let at = request["at_ms"].as_u64().map_or_else(|| "-".to_owned(), |ms| rfc3339(Duration::from_millis(ms)));
        let why = if request["failure"].is_null() { of("fallback_reason") } else { of("failure") };
        let [id, key, feature] = ["id", "key", "feature"].map(of);
        let [asked, tier, outcome] = ["asked_model", "tier", "outcome"].map(of);
        table.row([at, id, key, feature, asked, tier, outcome, of("attempts"), of("took_ms"), why]);
    }
    table.to_string()
}

/// Returns a request with its attempts.
pub(super) fn request(answer: &Value) -> String {
    let mut text = fields(answer, &OF_REQUESTS);
    let steps = list(&answer["steps"]);
    if steps.is_empty() {
        return text + "\nno attempt was made\n";
    }
    text.push('\n');
    let mut table = Table::new(["#"].into_iter().chain(OF_STEPS));
    for (number, step) in steps.iter().enumerate() {
        table.row([(number + 1).to_string()].into_iter().chain(OF_STEPS.map(|field| cell(&step[field]))));
    }
    text += &table.to_string();
    for (number, step) in steps.iter().enumerate() {
        if let Some(message) = step["message"].as_str() {
            let _ = writeln!(text, "{}: {}", number + 1, on_a_line(message));
        }
    }
    text
}

/// Returns a status, with a table for each of its lists.
pub(super) fn status(answer: &Value) -> String {
    let mut text = fields(answer, &OF_STATUS);
    let lists = answer.as_object().into_iter().flatten().filter(|(_, value)| value.is_array());
    let mut lists: Vec<(&String, &[Value])> = lists.map(|(name, value)| (name, list(value))).collect();
    // The tiers first.
    lists.sort_by_key(|(name, _)| (*name != "tiers", *name));
    for (name, rows) in lists.into_iter().filter(|(_, rows)| rows.iter().any(Value::is_object)) {
        let known: Vec<&str> = match &**name {
            "tiers" => OF_TIERS.to_vec(),
            _ => columns(rows),
        };
        let mut table = Table::new(known.iter().copied());
        for row in rows {
            table.row(known.iter().map(|column| cell(&row[*column])));
        }
        let _ = write!(text, "\n{name}:\n{table}");
    }
    text
}

/// Returns the names of the plain fields of these objects.
fn columns(rows: &[Value]) -> Vec<&str> {
    let mut columns = Vec::new();
    for (name, value) in rows.iter().filter_map(Value::as_object).flatten() {
        if !value.is_array() && !columns.contains(&name.as_str()) {
            columns.push(name.as_str());
        }
    }
    columns
}

/// Returns a line for each field that is set and no list of objects; these first, and the others by their names.
fn fields(answer: &Value, first: &[&str]) -> String {
    let empty = Map::new();
    let object = answer.as_object().unwrap_or(&empty);
    let others = object.keys().map(String::as_str).filter(|name| !first.contains(name));
    let mut text = String::new();
    for name in first.iter().copied().chain(others) {
        let value = match object.get(name) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(values)) if values.is_empty() || values.iter().any(Value::is_object) => continue,
            Some(value) => value,
        };
        let at = name.strip_suffix("_ms").filter(|name| *name == "at").zip(value.as_u64());
        let (name, value) = match at {
            Some((name, ms)) => (name, rfc3339(Duration::from_millis(ms))),
            None => (name, cell(value)),
        };
        let _ = writeln!(text, "{name}: {value}");
    }
    text
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Returns a value on a line, an object as its fields.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => on_a_line(text),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join("; "),
        Value::Object(fields) => {
            let set = fields.iter().filter(|(_, value)| !value.is_null());
            set.map(|(name, value)| format!("{name} {}", cell(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_newer_gateway_adds_is_shown_too() {
        let text = status(&json!({
            "state": "fallback", "lastFailure": { "status": 503, "message": "down\u{1b}[2J\nx" }, "newer": 5, "none": null,
            "tiers": [{ "name": "sonnet", "health": "down" }],
            "chains": [{ "chain": "gpt-*", "activeTier": "gemini" }],
        }));
        assert!(text.starts_with("state: fallback\n") && text.contains("newer: 5\n"), "{text}");
        assert!(text.contains("lastFailure: message down\u{fffd}[2J x, status 503\n"), "{text}");
        assert!(text.contains("\ntiers:\nname    health") && text.contains("\nchains:\n"), "{text}");
        assert!(text.contains("gpt-*") && !text.contains("none"), "{text}");
    }
}
