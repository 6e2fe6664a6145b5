//! The requests of a gateway, each as a line once it has ended, and their sum.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::trouble::{DELAY, Trouble};
use crate::{Failure, remote::Remote, terminal::on_a_line};

/// A request that has not ended, as far as it is known.
struct OpenRequest {
    id: String,
    number: usize,
    /// The trouble that its first provider had meanwhile.
    trouble: Option<Trouble>,
}

/// The requests since the beginning.
pub(super) struct Journal {
    remote: Remote,
    /// The name of the first provider's tier.
    first: &'static str,
    /// The model that this process's own calls name.
    own_model: &'static str,
    newest: Option<String>,
    seen: usize,
    has_clients: bool,
    open: Vec<OpenRequest>,
    sum: Sum,
}

/// The records that are read beyond those of open requests.
const MARGIN: usize = 100;
/// The most records that a gateway lists.
const MOST: usize = 1000;

impl Journal {
    pub(super) fn new(remote: Remote, first: &'static str, own_model: &'static str) -> Self {
        Self {
            remote,
            first,
            own_model,
            newest: None,
            seen: 0,
            has_clients: false,
            open: Vec::new(),
            sum: Sum::default(),
        }
    }

    /// Returns whether a request came that was not this process's own.
    pub(super) fn has_clients(&self) -> bool {
        self.has_clients
    }

    /// Takes note that connections to the first provider end.
    pub(super) fn connections_end(&mut self, trouble: Trouble) {
        self.open.iter_mut().for_each(|request| request.trouble = request.trouble.or(Some(trouble)));
    }

    /// Reads on. A request that is new has come during this trouble. Returns the lines of those that have ended.
    ///
    /// # Errors
    ///
    /// The gateway does not answer.
    pub(super) async fn read_on(&mut self, trouble: Option<Trouble>) -> Result<Vec<String>, Failure> {
        let oldest = self.open.first().map_or(self.seen, |request| request.number);
        let limit = (self.seen - oldest + MARGIN).min(MOST);
        let answer = self.remote.ask(&format!("/requests?limit={limit}"), None).await?;
        let listed = answer["requests"].as_array().map_or(&[][..], Vec::as_slice);
        let id = |record: &Value| record["id"].as_str().map(str::to_owned);
        let is_new = |record: &&Value| self.newest.is_none() || id(record) != self.newest;
        let new: Vec<&Value> = listed.iter().take_while(is_new).collect();
        for record in new.into_iter().rev() {
            let Some(id) = id(record) else { continue };
            self.seen += 1;
            self.open.push(OpenRequest { id: id.clone(), number: self.seen, trouble });
            self.newest = Some(id);
        }
        let mut lines = Vec::new();
        let (sum, first, own_model) = (&mut self.sum, self.first, self.own_model);
        let has_clients = &mut self.has_clients;
        self.open.retain(|request| {
            let record = listed.iter().find(|record| record["id"].as_str() == Some(&request.id));
            let Some(record) = record else { return true };
            *has_clients |= is_a_clients(record, own_model);
            if record["outcome"] == "running" {
                return true;
            }
            sum.count(record, request.trouble, first);
            lines.push(line(request.number, record, own_model));
            false
        });
        Ok(lines)
    }

    /// Returns the sum, with the requests that have not ended.
    pub(super) fn into_sum(self) -> Sum {
        Sum { running: self.open.len(), first: self.first, ..self.sum }
    }
}

/// Returns true if a request is known not to be this process's own. Until its body has come, each is without a model.
fn is_a_clients(record: &Value, own_model: &str) -> bool {
    let may_be_either = record["outcome"] == "running" && record["asked_model"].is_null();
    record["asked_model"] != own_model && !may_be_either
}

/// Returns the line of a request that has ended.
fn line(number: usize, record: &Value, own_model: &str) -> String {
    let name = |value: &Value| value.as_str().map(|name| on_a_line(&name.replace('_', " ")));
    let mut line = format!("{number:>4}  ");
    if let Some(model) = record["asked_model"].as_str().filter(|model| *model != own_model) {
        line += &format!("{}: ", on_a_line(model));
    }
    line += &match record["outcome"].as_str() {
        Some("failed") => "lost".to_owned(),
        Some("broken") => "broke off".to_owned(),
        Some("abandoned") => "left by its client".to_owned(),
        _ => {
            let by = name(&record["tier"]).or_else(|| name(&record["provider"]));
            by.map_or_else(|| "answered".to_owned(), |by| format!("answered by {by}"))
        }
    };
    if let Some(took) = record["took_ms"].as_f64() {
        line += &format!(" in {:.1} s", took / 1000.0);
    }
    let mut failures: Vec<String> = Vec::new();
    for step in record["steps"].as_array().into_iter().flatten() {
        let (Some(tier), Some(failure)) = (name(&step["tier"]), name(&step["failure"])) else { continue };
        let failure = format!("{tier}: {failure}");
        if failures.last() != Some(&failure) {
            failures.push(failure);
        }
    }
    failures.extend(continuations(record).map(on_a_line));
    if !failures.is_empty() {
        line += &format!(" ({})", failures.join("; "));
    }
    line
}

/// Iterates over the notes on a stream that another tier went on with, such as `second goes on after 29 characters`.
fn continuations(record: &Value) -> impl Iterator<Item = &str> {
    let notes = record["notes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let notes = notes.filter_map(|note| note.strip_prefix("stream: "));
    notes.filter(|note| note.contains(" goes on ")).map(|note| note.split(" (").next().unwrap_or(note))
}

/// The sum of requests.
#[derive(Default)]
pub(super) struct Sum {
    first: &'static str,
    /// The answered requests of each tier.
    answered: BTreeMap<String, usize>,
    /// The answered requests whose stream another tier ended.
    continued: usize,
    lost: usize,
    abandoned: usize,
    running: usize,
    /// The requests that the first provider alone would have lost, by its troubles' names.
    lost_alone: BTreeMap<&'static str, usize>,
    late_alone: usize,
}

impl Sum {
    fn count(&mut self, record: &Value, trouble: Option<Trouble>, first: &'static str) {
        self.first = first;
        match record["outcome"].as_str() {
            Some("failed" | "broken") => self.lost += 1,
            Some("abandoned") => self.abandoned += 1,
            _ => {
                let by = record["tier"].as_str().or_else(|| record["provider"].as_str());
                *self.answered.entry(on_a_line(by.unwrap_or("the gateway"))).or_default() += 1;
                self.continued += usize::from(continuations(record).next().is_some());
            }
        }
        match trouble {
            // An answer of the gateway's own, such as a count of tokens, needs no provider.
            _ if record["tier"].is_null() && record["steps"].as_array().is_none_or(Vec::is_empty) => {}
            Some(trouble) if trouble.only_delays() => self.late_alone += 1,
            Some(trouble) => *self.lost_alone.entry(trouble.name()).or_default() += 1,
            None => {}
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answered: usize = self.answered.values().sum();
        let all = answered + self.lost + self.abandoned + self.running;
        write!(f, "{all} request{}: ", if all == 1 { "" } else { "s" })?;
        let mut parts: Vec<String> = self.answered.iter().map(|(tier, count)| format!("{count} by {tier}")).collect();
        if self.continued > 0 {
            parts.push(format!("{} of them ended by another", self.continued));
        }
        parts.push(format!("{} lost", self.lost));
        for (count, what) in [(self.abandoned, "left by the client"), (self.running, "under way")] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        writeln!(f, "{}", parts.join(", "))?;
        let lost: usize = self.lost_alone.values().sum();
        write!(f, "{} alone: {lost} lost", self.first)?;
        if lost > 0 {
            let troubles: Vec<String> =
                self.lost_alone.iter().map(|(trouble, count)| format!("{trouble} {count}x")).collect();
            write!(f, " ({})", troubles.join(", "))?;
        }
        if self.late_alone > 0 {
            write!(f, ", {} late by {} s", self.late_alone, DELAY.as_secs())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(outcome: &str, tier: &str, steps: Value) -> Value {
        json!({"asked_model": "demo", "outcome": outcome, "tier": tier, "took_ms": 312.4, "steps": steps})
    }

    #[test]
    fn a_line_says_who_answered_and_what_failed() {
        let failed = json!([{"tier": "first", "failure": "rate_limited"}, {"tier": "first", "failure": "rate_limited"},
            {"tier": "second", "failure": null}]);
        let mut of = record("answered", "second", failed);
        assert_eq!(line(7, &of, "demo"), "   7  answered by second in 0.3 s (first: rate limited)");
        of["asked_model"] = "claude\u{1b}[2J".into();
        of["outcome"] = "broken".into();
        assert_eq!(line(12, &of, "demo"), "  12  claude\u{fffd}[2J: broke off in 0.3 s (first: rate limited)");
        of["notes"] = json!(["stream: second goes on after 29 characters (stream_broken)", "other"]);
        of["steps"] = json!([]);
        assert!(line(1, &of, "demo").ends_with("broke off in 0.3 s (second goes on after 29 characters)"));
        assert_eq!(line(1, &record("failed", "second", json!([])), "demo"), "   1  lost in 0.3 s");
    }

    #[test]
    fn a_request_whose_body_has_not_come_is_nobodys() {
        for (outcome, model, is) in [
            ("running", None, false),
            ("running", Some("demo"), false),
            ("running", Some("claude"), true),
            ("answered", Some("demo"), false),
            ("answered", Some("claude"), true),
            ("failed", None, true),
        ] {
            let record = json!({"outcome": outcome, "asked_model": model});
            assert_eq!(is_a_clients(&record, "demo"), is, "{record}");
        }
    }

    #[test]
    fn a_sum_says_what_the_first_provider_alone_would_have_lost() {
        let mut sum = Sum::default();
        let answered = |tier| record("answered", tier, json!([{"tier": "first", "failure": null}]));
        sum.count(&answered("first"), None, "first");
        assert_eq!(sum.to_string(), "1 request: 1 by first, 0 lost\nfirst alone: 0 lost");
        sum.count(&answered("second"), Some(Trouble::Errors), "first");
        sum.count(&answered("second"), Some(Trouble::Errors), "first");
        sum.count(&answered("second"), Some(Trouble::Slowness), "first");
        sum.count(&record("broken", "first", json!([])), Some(Trouble::Cuts), "first");
        let mut continued = answered("first");
        continued["notes"] = json!(["stream: second goes on after 29 characters (stream_broken)"]);
        sum.count(&continued, Some(Trouble::Cuts), "first");
        sum.count(&json!({"outcome": "answered", "tier": null, "steps": []}), Some(Trouble::Errors), "first");
        assert_eq!(
            sum.to_string(),
            "7 requests: 2 by first, 3 by second, 1 by the gateway, 1 of them ended by another, 1 lost\n\
             first alone: 4 lost (cuts streams 2x, fails 2x), 1 late by 10 s"
        );
    }
}
