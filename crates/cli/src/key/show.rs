//! Answers about keys, for people.

use std::fmt::Write as _;

use serde_json::Value;

use crate::table::Table;

/// Returns the answer with a secret.
pub(super) fn secret(answer: &Value) -> String {
    let name = text(&answer["key"]["name"]);
    let secret = text(&answer["secret"]);
    let ends = answer["key"]["secrets"].as_array().into_iter().flatten().filter_map(|one| one["until"].as_str());
    let problem = answer["key"]["problem"].as_str().map(|problem| format!("\nThe key does not count: {problem}.\n"));
    let mut said = format!("The secret of `{name}`, which is not shown again:\n\n  {secret}\n");
    if let Some(last) = ends.max() {
        _ = write!(said, "\nAn earlier one goes on until {last}.\n");
    }
    said + &problem.unwrap_or_default()
}

/// Returns the keys in a table.
pub(super) fn list(answer: &Value) -> String {
    let mut table = Table::new(["key", "team", "is", "per minute", "tokens", "at once", "spent", "expires", "in"]);
    for key in answer["keys"].as_array().into_iter().flatten() {
        let spent = key["budgets"].as_array().into_iter().flatten().map(spent).collect::<Vec<_>>();
        table.row([
            text(&key["name"]),
            text(&key["team"]),
            standing(key).to_owned(),
            text(&key["requestsPerMinute"]),
            text(&key["tokensPerMinute"]),
            text(&key["concurrency"]),
            if spent.is_empty() { "-".to_owned() } else { spent.join(", ") },
            text(&key["expires"]),
            (if key["stored"] == true { "store" } else { "file" }).to_owned(),
        ]);
    }
    table.to_string()
}

/// Returns one key, a line for each fact.
pub(super) fn key(answer: &Value) -> String {
    let key = &answer["key"];
    let names = |list: &Value| match list.as_array() {
        None => "any".to_owned(),
        Some(list) => list.iter().map(text).collect::<Vec<_>>().join(", "),
    };
    let mut said = format!("{}: {}\n", text(&key["name"]), standing(key));
    if let Some(problem) = key["problem"].as_str() {
        _ = writeln!(said, "  it does not count: {problem}");
    }
    for (name, value) in [
        ("team", text(&key["team"])),
        ("features", names(&key["features"])),
        ("models", names(&key["models"])),
        ("requests a minute", text(&key["requestsPerMinute"])),
        ("tokens a minute", text(&key["tokensPerMinute"])),
        ("at once", text(&key["concurrency"])),
        ("team's requests a minute", text(&key["teamLimits"]["requestsPerMinute"])),
        ("team's tokens a minute", text(&key["teamLimits"]["tokensPerMinute"])),
        ("team's at once", text(&key["teamLimits"]["concurrency"])),
        ("expires", text(&key["expires"])),
    ] {
        _ = writeln!(said, "  {name}: {value}");
    }
    for budget in key["budgets"].as_array().into_iter().flatten() {
        _ = writeln!(said, "  {}: {}", text(&budget["cap"]), spent(budget));
    }
    for secret in key["secrets"].as_array().into_iter().flatten() {
        let until = secret["until"].as_str().map(|until| format!(", until {until}")).unwrap_or_default();
        _ = writeln!(said, "  secret {}{until}", text(&secret["id"]));
    }
    said
}

/// Returns the changes, a line each.
pub(super) fn log(answer: &Value) -> String {
    let mut table = Table::new(["at", "by", "order", "key", "changed"]);
    for change in answer["changes"].as_array().into_iter().flatten() {
        let [at, by, action, name] = ["at", "by", "action", "name"].map(|field| text(&change[field]));
        table.row([at, by, action, name, changed(&change["before"], &change["after"])]);
    }
    table.to_string()
}

/// Returns the fields that differ, with their values before and after. Hashes are told by their number.
fn changed(before: &Value, after: &Value) -> String {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else { return "-".to_owned() };
    let value = |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), Value::to_string);
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let differ = names.filter(|name| before.get(*name) != after.get(*name));
    let told = differ.map(|name| match &**name {
        "hash" | "hashes" => "secrets".to_owned(),
        _ => format!("{name}: {} -> {}", value(before.get(name)), value(after.get(name))),
    });
    told.collect::<Vec<_>>().join("; ")
}

fn standing(key: &Value) -> &'static str {
    if key["problem"].is_string() {
        return "without effect";
    }
    match (&key["paused"], &key["expired"], &key["admin"], &key["handoff"]) {
        (Value::Bool(true), ..) => "paused",
        (_, Value::Bool(true), ..) => "expired",
        (.., Value::Bool(true), _) => "administrator",
        (.., Value::Bool(true)) => "reviewer",
        _ => "caller",
    }
}

fn spent(budget: &Value) -> String {
    let dollars = |field: &str| budget[field].as_f64().unwrap_or(0.0);
    format!("${:.2} of ${:.2}", dollars("spentDollars"), dollars("limitDollars"))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_log_tells_what_changed_and_no_hash() {
        let change = |action: &str, before: Value, after: Value| {
            json!({ "at": "2026-11-29T12:00:00Z", "by": "ann", "action": action, "name": "ci",
                "before": before, "after": after })
        };
        let hashes = |hash: &str| json!([{ "hash": hash }]);
        let answer = json!({ "changes": [
            change("remove", json!({ "name": "ci" }), Value::Null),
            change("rotate", json!({ "hashes": hashes("sha256:1") }), json!({ "hashes": hashes("sha256:2") })),
            change("limit", json!({ "concurrency": 2 }), json!({ "models": ["m"] })),
        ] });
        let expected = "\
            at                    by   order   key  changed\n\
            2026-11-29T12:00:00Z  ann  remove  ci   -\n\
            2026-11-29T12:00:00Z  ann  rotate  ci   secrets\n\
            2026-11-29T12:00:00Z  ann  limit   ci   concurrency: 2 -> none; models: none -> [\"m\"]\n";
        assert_eq!(log(&answer), expected);
    }
}
