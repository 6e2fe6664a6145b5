//! The number of tasks that wait for a person, as of the last sample: no reader waits for the store.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use serde::Serialize;
use steadfast_handoff::TaskStats;
use steadfast_stack::StackHandle;

use crate::lock::lock;

/// Clones share the sample.
#[derive(Clone, Debug)]
pub(super) struct TaskGauges {
    stack: StackHandle,
    seen: Arc<Mutex<Option<TaskStats>>>,
}

/// The tasks in `/status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskCounts {
    waiting: u64,
    claimed: u64,
    redriving: u64,
    oldest_waiting_seconds: Option<f64>,
}

impl TaskGauges {
    pub(super) fn of(stack: &StackHandle) -> Self {
        Self { stack: stack.clone(), seen: Arc::default() }
    }

    /// Asks the store. A failure clears the sample: an old number would pass for a new one.
    pub(super) async fn look(&self) {
        let stats = match self.stack.desk() {
            Some(desk) => desk.stats().await.ok(),
            None => None,
        };
        *lock(&self.seen) = stats;
    }

    fn stats(&self) -> Option<TaskStats> {
        *lock(&self.seen)
    }

    /// Returns the sample; `None` without people, or if the store has not answered.
    pub(super) fn tasks(&self) -> Option<TaskCounts> {
        self.stats().map(|stats| TaskCounts {
            waiting: stats.waiting,
            claimed: stats.claimed,
            redriving: stats.redriving,
            oldest_waiting_seconds: stats.oldest_waiting_ms.map(seconds),
        })
    }

    /// Returns the gauges in Prometheus' format.
    pub(super) fn metrics(&self) -> String {
        self.stats().as_ref().map(page).unwrap_or_default()
    }
}

fn page(stats: &TaskStats) -> String {
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, values: &[(&str, f64)]| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let count = |count: u64| count as f64;
    gauge(
        "steadfast_handoff_tasks",
        "Open tasks for people, by state.",
        &[
            ("{state=\"waiting\"}", count(stats.waiting)),
            ("{state=\"claimed\"}", count(stats.claimed)),
            ("{state=\"redriving\"}", count(stats.redriving)),
        ],
    );
    gauge(
        "steadfast_handoff_oldest_seconds",
        "How long the oldest task has been waiting that may still be answered; 0 where there is none.",
        &[("", stats.oldest_waiting_ms.map(seconds).unwrap_or_default())],
    );
    gauge(
        "steadfast_handoff_deliveries",
        "Notifications and callbacks that are not done yet, and those that were given up.",
        &[("{state=\"pending\"}", count(stats.deliveries_pending)), ("{state=\"dead\"}", count(stats.deliveries_dead))],
    );
    text
}

fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_gauges() {
        let mut stats = TaskStats::default();
        (stats.waiting, stats.oldest_waiting_ms) = (3, Some(1500));
        let text = page(&stats);
        assert!(text.starts_with("# HELP steadfast_handoff_tasks "), "{text}");
        for line in ["steadfast_handoff_tasks{state=\"waiting\"} 3", "steadfast_handoff_oldest_seconds 1.5"] {
            assert!(text.lines().any(|one| one == line), "no {line} in {text}");
        }
        assert!(text.ends_with('\n') && !text.contains("\n\n"));
    }
}
