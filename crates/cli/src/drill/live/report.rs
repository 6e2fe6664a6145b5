//! The report of a live drill, for people and for programs.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::switch::Blockage;
use crate::{table::Table, terminal::on_a_line};

/// A live drill's findings, without keys or texts of requests.
#[derive(Debug, Serialize)]
pub(super) struct LiveReport {
    /// The tier whose provider was blocked.
    pub(super) primary: String,
    pub(super) fault: Blockage,
    /// True if the drill found no problem.
    pub(super) passed: bool,
    /// The problems.
    pub(super) problems: Vec<String>,
    /// The tiers that answered in the primary's place.
    pub(super) switched_to: Vec<String>,
    /// Requests that got no answer.
    pub(super) lost: usize,
    /// True if the primary's circuit opened.
    pub(super) circuit_opened: bool,
    /// The time from the end of the block until the primary served, in seconds.
    pub(super) recovery_s: Option<f64>,
    /// The cost of the answers in US dollars, for models with a known price.
    pub(super) cost: f64,
    /// The highest possible cost; null if a model's price is unknown.
    pub(super) cost_at_most: Option<f64>,
    /// Request by request.
    pub(super) steps: Vec<Step>,
}

/// A request.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) phase: Phase,
    /// The time since the start, in seconds.
    pub(super) at_s: f64,
    pub(super) took_ms: f64,
    /// The tier that answered.
    pub(super) tier: Option<String>,
    pub(super) model: Option<String>,
    /// The number of calls.
    pub(super) attempts: usize,
    /// The kind of failure, if no tier answered.
    pub(super) failure: Option<String>,
    /// The primary's circuit after it.
    pub(super) circuit: &'static str,
    #[serde(skip)]
    pub(super) cost: f64,
}

/// The phase of the drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    Before,
    #[serde(rename = "blocked")]
    Blockage,
    Restored,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Blockage => "blocked",
            Self::Restored => "restored",
        }
    }
}

/// Seconds to the millisecond.
pub(super) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

impl fmt::Display for LiveReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["at", "primary is", "served by", "attempts", "took", "circuit"]);
        for step in &self.steps {
            let served = match (&step.tier, &step.failure) {
                (Some(tier), _) => match &step.model {
                    Some(model) if model != tier => format!("{tier} ({model})"),
                    _ => tier.clone(),
                },
                (None, failure) => format!("FAILED: {}", failure.as_deref().unwrap_or("no answer")),
            };
            table.row([
                format!("{:.1} s", step.at_s),
                match step.phase {
                    Phase::Before => "reachable".to_owned(),
                    phase => phase.name().to_owned(),
                },
                on_a_line(&served),
                step.attempts.to_string(),
                format!("{:.0} ms", step.took_ms),
                step.circuit.to_owned(),
            ]);
        }
        writeln!(f, "{table}")?;
        if !self.switched_to.is_empty() {
            writeln!(
                f,
                "fallback: {} answered in the place of {}",
                on_a_line(&self.switched_to.join(", ")),
                on_a_line(&self.primary)
            )?;
        }
        if let Some(recovery) = self.recovery_s {
            writeln!(
                f,
                "recovery: {} serves again, {recovery:.1} s after it could be reached",
                on_a_line(&self.primary)
            )?;
        }
        let known = if self.cost_at_most.is_none() { ", of the models whose price is known" } else { "" };
        writeln!(f, "cost: ${:.4}{known}", self.cost)?;
        for problem in &self.problems {
            writeln!(f, "PROBLEM: {}", on_a_line(problem))?;
        }
        Ok(())
    }
}
