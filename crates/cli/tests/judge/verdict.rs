//! The verdict on a row: a client in a situation, alone and through the gateway.

use std::fmt;

use crate::{
    plan::{FIRST, Outcome},
    situations::Promise,
};

/// The seconds by which the gateway may be later.
const LATER: f64 = 2.0;
/// The seconds after which everybody has heard of an outage.
const HEARD: f64 = 10.0;
/// A busy machine's part, in seconds.
const SLACK: f64 = 2.0;

/// The seconds by which the waits of a client's own differ from call to call.
fn chance(client: &str) -> f64 {
    // Google's SDK for Node waits for once to twice 1, 2, 4 and 8 s, as p-retry's `randomize` says.
    if client == "node gemini" { 15.0 } else { 0.0 }
}

/// A client's observations in one situation, and the calls that its first provider saw.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) calls: usize,
}

impl Run {
    fn served(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.served).count()
    }

    /// Returns the longest wait for an answer, or for an error.
    fn slowest(&self, served: bool) -> Option<f64> {
        let waits = self.outcomes.iter().filter(|outcome| outcome.served == served).map(|outcome| outcome.seconds);
        waits.max_by(f64::total_cmp)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = |wait: Option<f64>| wait.map_or_else(|| "-".to_owned(), |wait| format!("{wait:.1}"));
        let (answers, errors) = (second(self.slowest(true)), second(self.slowest(false)));
        let served = format!("{}/{}", self.served(), self.outcomes.len());
        write!(f, "{served:>7} {answers:>6} {errors:>6} {:>5}", self.calls)
    }
}

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) situation: String,
    pub(crate) client: String,
    pub(crate) promise: Promise,
    pub(crate) alone: Run,
    pub(crate) through: Run,
}

/// The head of the table.
pub(crate) const HEAD: &str = "\
situation                                client             |  alone served answer  error calls | through served answer  error calls | verdict";

/// Returns the name of a row.
pub(crate) fn name(situation: &str, client: &str) -> String {
    format!("{situation} / {client}")
}

impl Row {
    /// Returns the row's name, as `KNOWN` has it.
    pub(crate) fn name(&self) -> String {
        name(&self.situation, &self.client)
    }

    /// Returns the promises that are broken.
    pub(crate) fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (way, run) in [("alone", &self.alone), ("through", &self.through)] {
            let first = run.outcomes.iter().find(|outcome| outcome.error.starts_with(FIRST));
            broken.extend(first.map(|outcome| format!("{way}: {:.300}", outcome.error)));
        }
        let pairs = || self.alone.outcomes.iter().zip(&self.through.outcomes);
        let lost: Vec<_> = pairs().filter(|(alone, through)| alone.served && !through.served).collect();
        if let Some((_, first)) = lost.first() {
            broken.push(format!("{} lost that the client alone has served: {:.300}", lost.len(), first.error));
        }
        let late = |(alone, through): &(&Outcome, &Outcome)| {
            let later = through.seconds - alone.seconds;
            (alone.served && through.served && later > LATER + SLACK).then_some(later)
        };
        let late: Vec<f64> = pairs().filter_map(|pair| late(&pair)).collect();
        if let Some(worst) = late.iter().copied().max_by(f64::total_cmp) {
            broken.push(format!("{} later, by {worst:.1} s", late.len()));
        }
        let deaf = |alone: &Outcome, through: &Outcome| {
            let alone_at_most = alone.seconds + LATER + chance(&self.client);
            !alone.served && !through.served && through.seconds > HEARD.max(alone_at_most) + SLACK
        };
        let deaf = pairs().filter(|(alone, through)| deaf(alone, through)).count();
        if deaf > 0 {
            broken.push(format!(
                "{deaf} heard of the outage only after {:.1} s",
                self.through.slowest(false).unwrap_or(0.0)
            ));
        }
        match self.promise {
            Promise::NoWorse => {}
            Promise::NoMoreCalls if self.through.calls > self.alone.calls => {
                broken.push(format!("{} calls in place of {}", self.through.calls, self.alone.calls));
            }
            Promise::NoMoreCalls => {}
            Promise::SameWords => {
                // Each client has its own way to show an error, and an SDK shows the number of the request.
                let words = |outcome: &Outcome| outcome.error.split("request_id").next().unwrap_or_default().to_owned();
                let other = pairs().find(|(alone, through)| !alone.served && words(alone) != words(through));
                if let Some((alone, through)) = other {
                    broken.push(format!("{:.300} in place of {:.300}", through.error, alone.error));
                }
            }
            Promise::Served => broken.extend(unserved(&self.through.outcomes, 1)),
            Promise::ServedNext => broken.extend(unserved(&self.through.outcomes[1..], 0)),
        }
        broken
    }
}

/// Returns the problems of calls of which each is to be served, and no more than so many after a long wait.
fn unserved(outcomes: &[Outcome], long: usize) -> Vec<String> {
    let mut broken = Vec::new();
    let mut lost = outcomes.iter().filter(|outcome| !outcome.served);
    if let Some(first) = lost.next() {
        broken.push(format!("{} lost beside a provider that serves: {:.300}", lost.count() + 1, first.error));
    }
    let waited = outcomes.iter().filter(|outcome| outcome.seconds > HEARD + SLACK).count();
    if waited > long {
        broken.push(format!("{waited} waited for more than {HEARD} s"));
    }
    broken
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broken = self.broken();
        let verdict = if broken.is_empty() { "well".to_owned() } else { broken.join("; ") };
        write!(f, "{:<40} {:<18} | {}   | {}     | {verdict}", self.situation, self.client, self.alone, self.through)
    }
}
