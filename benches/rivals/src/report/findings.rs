//! The findings of a table: an aim that is met or missed, a rival that does better or worse.

use std::fmt::Write as _;

#[derive(Clone, Debug)]
pub enum Finding {
    /// An aim.
    Aim { what: String, measured: String, wanted: String, met: bool },
    /// Ours beside a rival's.
    Beside {
        what: String,
        rival: String,
        ours: String,
        theirs: String,
        /// Ours by theirs, so that more than 1 is a loss, whatever is measured.
        ratio: f64,
    },
}

/// So much more is a loss: less than that is nothing.
const TIE: f64 = 1.02;

impl Finding {
    pub fn at_most(what: impl Into<String>, measured: f64, wanted: f64) -> Self {
        Self::Aim {
            what: what.into(),
            measured: super::number(Some(measured)),
            wanted: format!("≤ {wanted}"),
            met: measured <= wanted,
        }
    }

    pub fn at_least(what: impl Into<String>, measured: f64, wanted: f64) -> Self {
        Self::Aim {
            what: what.into(),
            measured: super::number(Some(measured)),
            wanted: format!("≥ {wanted}"),
            met: measured >= wanted,
        }
    }

    /// Less is better.
    pub fn cost(what: impl Into<String>, rival: impl Into<String>, unit: &str, ours: f64, theirs: f64) -> Self {
        Self::Beside {
            what: what.into(),
            rival: rival.into(),
            ours: format!("{} {unit}", super::number(Some(ours))),
            theirs: format!("{} {unit}", super::number(Some(theirs))),
            // No cost is no loss to anybody; beside none, any is as many times as can be.
            ratio: if ours <= 0.0 { 0.0 } else { ours / theirs },
        }
    }

    /// More is better.
    pub fn rate(what: impl Into<String>, rival: impl Into<String>, unit: &str, ours: f64, theirs: f64) -> Self {
        Self::Beside {
            what: what.into(),
            rival: rival.into(),
            ours: format!("{} {unit}", super::number(Some(ours))),
            theirs: format!("{} {unit}", super::number(Some(theirs))),
            ratio: theirs / ours,
        }
    }

    pub fn is_aim(&self) -> bool {
        matches!(self, Self::Aim { .. })
    }

    pub fn is_lost(&self) -> bool {
        match self {
            Self::Aim { met, .. } => !met,
            Self::Beside { ratio, .. } => *ratio > TIE,
        }
    }
}

/// Returns the lost comparisons, then the aims that are met.
pub fn summary(findings: &[Finding]) -> String {
    let mut text = format!("## What we lose\n\n{}", lost(findings, false));
    text.push_str("\n## Aims that are met\n\n| | measured | aim |\n|---|---:|---:|\n");
    aims(&mut text, &findings.iter().filter(|finding| finding.is_aim() && !finding.is_lost()).collect::<Vec<_>>());
    text
}

/// Returns the aims that are missed, and where another does better: the worst first. If `brief`, of several that do
/// better at one thing only the worst, and the number of the others.
pub fn lost(findings: &[Finding], brief: bool) -> String {
    let mut text = String::new();
    let missed: Vec<&Finding> = findings.iter().filter(|finding| finding.is_aim() && finding.is_lost()).collect();
    if missed.is_empty() {
        text.push_str("No aim was missed in this run.\n");
    } else {
        text.push_str("Aims that are missed:\n\n| | measured | aim |\n|---|---:|---:|\n");
        aims(&mut text, &missed);
    }
    let mut lost: Vec<(&str, &str, &str, &str, f64)> = findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Beside { what, rival, ours, theirs, ratio } if finding.is_lost() => {
                Some((what.as_str(), rival.as_str(), ours.as_str(), theirs.as_str(), *ratio))
            }
            _ => None,
        })
        .collect();
    lost.sort_by(|one, other| other.4.total_cmp(&one.4).then_with(|| (one.0, one.1).cmp(&(other.0, other.1))));
    if lost.is_empty() {
        return text;
    }
    text.push_str("\nWhere another does better, the worst first:\n\n");
    text.push_str("| | who | steadfast | theirs | times |\n|---|---|---:|---:|---:|\n");
    for (at, (what, rival, ours, theirs, ratio)) in lost.iter().enumerate() {
        let is_same = |other: &&(&str, &str, &str, &str, f64)| (other.0, other.2) == (*what, *ours);
        if brief && lost[..at].iter().any(|other| is_same(&other)) {
            continue;
        }
        let who = match lost[at..].iter().filter(is_same).count() - 1 {
            more if brief && more > 0 => format!("{rival}, and {more} more"),
            _ => (*rival).to_owned(),
        };
        let times = if ratio.is_finite() { format!("{ratio:.2}") } else { "-".to_owned() };
        let _ = writeln!(text, "| {what} | {who} | {ours} | {theirs} | {times} |");
    }
    text
}

/// Adds a row for each aim.
pub fn aims(text: &mut String, of: &[&Finding]) {
    for finding in of {
        if let Finding::Aim { what, measured, wanted, .. } = finding {
            let _ = writeln!(text, "| {what} | {measured} | {wanted} |");
        }
    }
}
