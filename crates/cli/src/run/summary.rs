//! The requests of a client, in a few words: who answered, and what failed over.

use std::fmt;

use serde_json::Value;

use crate::terminal::on_a_line;

/// The sum of the requests that a gateway still keeps.
#[derive(Default)]
pub(super) struct Summary {
    requests: usize,
    /// True if there may have been more, which are no longer kept.
    is_cut: bool,
    answered: Tally,
    /// The failures for which a tier did not answer, and another did.
    failed_over: Vec<(String, Tally)>,
    failed: Tally,
    broken: Tally,
    abandoned: usize,
    running: usize,
}

/// The most records that a gateway lists.
const MOST_LISTED: u64 = 1000;

impl Summary {
    /// Sums up the requests of an answer, the newest first, up to the one with the id `before`.
    pub(super) fn of(answer: &Value, before: Option<&str>) -> Self {
        let listed = answer["requests"].as_array().map_or(&[][..], Vec::as_slice);
        let is_new = |request: &&Value| before.is_none() || request["id"].as_str() != before;
        let new: Vec<&Value> = listed.iter().take_while(is_new).collect();
        let most = answer["kept"].as_u64().unwrap_or(MOST_LISTED).min(MOST_LISTED);
        let mut summary = Self {
            requests: new.len(),
            is_cut: new.len() == listed.len() && (before.is_some() || new.len() as u64 >= most),
            ..Self::default()
        };
        // The oldest first: a tier is named when it begins to answer.
        new.into_iter().rev().for_each(|request| summary.add(request));
        summary
    }

    fn add(&mut self, request: &Value) {
        let failure = || name(&request["failure"]).unwrap_or_else(|| "unknown".to_owned());
        match request["outcome"].as_str() {
            Some("running") => self.running += 1,
            Some("abandoned") => self.abandoned += 1,
            Some("failed") => self.failed.count(failure()),
            Some("broken") => self.broken.count(failure()),
            _ => {
                let tier = || name(&request["tier"]).or_else(|| name(&request["provider"]));
                self.answered.count(tier().unwrap_or_else(|| "nobody in particular".to_owned()));
                self.add_failover(request);
            }
        }
    }

    /// Counts each tier that another one answered for, by its last failure.
    fn add_failover(&mut self, request: &Value) {
        let answered = request["tier"].as_str();
        let mut failed: Vec<(String, String)> = Vec::new();
        for step in request["steps"].as_array().into_iter().flatten() {
            let Some(tier) = step["tier"].as_str().filter(|tier| Some(*tier) != answered) else { continue };
            let Some(failure) = name(&step["failure"]) else { continue };
            let tier = on_a_line(tier);
            failed.retain(|(other, _)| *other != tier);
            failed.push((tier, failure));
        }
        for (tier, failure) in failed {
            let at = self.failed_over.iter().position(|(other, _)| *other == tier).unwrap_or_else(|| {
                self.failed_over.push((tier, Tally::default()));
                self.failed_over.len() - 1
            });
            self.failed_over[at].1.count(failure);
        }
    }

    /// Returns whether a request has not ended.
    pub(super) fn is_under_way(&self) -> bool {
        self.running > 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests == 0
    }

    /// Returns whether the log may have more to say.
    pub(super) fn has_failures(&self) -> bool {
        !self.failed_over.is_empty() || !self.failed.0.is_empty() || !self.broken.0.is_empty()
    }
}

/// Writes one line, and a second one for requests without an answer.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.requests == 1 { "" } else { "s" };
        match self.is_cut {
            true => write!(f, "the last {} request{plural}: ", self.requests)?,
            false => write!(f, "{} request{plural}: ", self.requests)?,
        }
        let by: Vec<String> = self.answered.0.iter().map(|(tier, count)| format!("{count} by {tier}")).collect();
        f.write_str(if by.is_empty() { "none answered" } else { "" })?;
        f.write_str(&by.join(", "))?;
        if !self.failed_over.is_empty() {
            let tiers: Vec<String> = self.failed_over.iter().map(|(tier, why)| format!("{tier}: {why}")).collect();
            write!(f, " ({})", tiers.join("; "))?;
        }
        let mut others = Vec::new();
        for (what, why) in [("failed", &self.failed), ("broke off", &self.broken)] {
            if !why.0.is_empty() {
                others.push(format!("{} {what} ({why})", why.sum()));
            }
        }
        for (what, count) in [("left by the client", self.abandoned), ("under way", self.running)] {
            if count > 0 {
                others.push(format!("{count} {what}"));
            }
        }
        if others.is_empty() { Ok(()) } else { write!(f, "\n{}", others.join(", ")) }
    }
}

/// Names with their counts, in the order in which they came.
#[derive(Default)]
struct Tally(Vec<(String, usize)>);

impl Tally {
    fn count(&mut self, name: String) {
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some((_, count)) => *count += 1,
            None => self.0.push((name, 1)),
        }
    }

    fn sum(&self) -> usize {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, count)) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            write!(f, "{name} {count}x")?;
        }
        Ok(())
    }
}

/// Returns a name for people.
fn name(value: &Value) -> Option<String> {
    Some(on_a_line(&value.as_str()?.replace('_', " ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answered(id: usize, tier: &str, failed: &[(&str, &str)]) -> Value {
        let steps: Vec<Value> =
            failed.iter().map(|(tier, failure)| json!({"tier": tier, "failure": failure})).collect();
        json!({"id": id.to_string(), "outcome": "answered", "tier": tier, "steps": steps})
    }

    fn said(requests: Vec<Value>, before: Option<&str>) -> String {
        Summary::of(&json!({"requests": requests, "kept": 5}), before).to_string()
    }

    #[test]
    fn a_failover_is_counted_once_for_each_request_by_the_tiers_last_failure() {
        let retried = [("sonnet", "timeout"), ("sonnet", "overloaded")];
        let requests = vec![
            answered(4, "backup", &[("sonnet", "circuit_open"), ("mid", "rate_limited")]),
            answered(3, "backup", &retried),
            answered(2, "sonnet", &[("sonnet", "timeout")]),
        ];
        let expected =
            "3 requests: 1 by sonnet, 2 by backup (sonnet: overloaded 1x, circuit open 1x; mid: rate limited 1x)";
        assert_eq!(said(requests, None), expected);
        assert_eq!(said(vec![answered(1, "a", &[])], None), "1 request: 1 by a");
    }

    #[test]
    fn only_what_came_after_the_client_began_counts_and_what_is_not_kept_is_not_guessed() {
        let requests = || (0..4).rev().map(|id| answered(id, "a", &[])).collect::<Vec<_>>();
        assert_eq!(said(requests(), Some("1")), "2 requests: 2 by a");
        assert_eq!(said(requests(), None), "4 requests: 4 by a");
        assert_eq!(said(requests(), Some("gone")), "the last 4 requests: 4 by a");
        let full = (0..5).map(|id| answered(id, "a", &[])).collect();
        assert_eq!(said(full, None), "the last 5 requests: 5 by a");
        assert!(Summary::of(&json!({"requests": requests()}), Some("3")).is_empty());
    }

    #[test]
    fn what_got_no_answer_has_a_line_of_its_own() {
        let with = |outcome: &str, failure: Value| json!({"outcome": outcome, "failure": failure, "steps": []});
        let requests = vec![
            with("failed", json!("budget")),
            with("failed", json!("overloaded\u{1b}[2J")),
            with("broken", Value::Null),
            with("abandoned", Value::Null),
            with("running", Value::Null),
        ];
        let summary = Summary::of(&json!({"requests": requests}), None);
        assert!(summary.is_under_way() && summary.has_failures());
        assert_eq!(
            summary.to_string(),
            "5 requests: none answered\n2 failed (overloaded\u{fffd}[2J 1x, budget 1x), 1 broke off (unknown 1x), \
             1 left by the client, 1 under way"
        );
    }
}
