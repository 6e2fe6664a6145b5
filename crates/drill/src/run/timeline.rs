//! The timeline of a drill, in words.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    report::TimelineEvent,
    scenario::{FaultTarget, outages::named},
};
use steadfast::{
    Event,
    events::{HandoffStep, Subscriber, Subscription},
};
use steadfast_internal::sync::{Mutex, lock};
use steadfast_stack::StackHandle;

/// The most events in a report.
const MAX_EVENTS: usize = 200;
/// The most events of one text: half the first, half the last ones.
const MAX_REPEATS: usize = 12;

/// The stack's events, in words.
pub(super) struct Timeline {
    log: Arc<Mutex<Log>>,
    _subscription: Subscription,
}

#[derive(Default)]
struct Log {
    events: Vec<TimelineEvent>,
    handed_over: u64,
    switches: u64,
}

struct Listener {
    start: Instant,
    log: Arc<Mutex<Log>>,
}

impl Timeline {
    pub(super) fn begin(handle: &StackHandle, start: Instant) -> Self {
        let log = Arc::new(Mutex::default());
        let listener = Listener { start, log: Arc::clone(&log) };
        Self { log, _subscription: handle.events().follow(listener) }
    }

    /// Returns the number of switches to another tier, excluding the primary's returns.
    pub(super) fn switches(&self) -> u64 {
        lock(&self.log).switches
    }

    /// Returns all events with the scenario's faults, in order of time.
    pub(super) fn with_faults(&self, hits: &[FaultTarget<'_>]) -> Vec<TimelineEvent> {
        let mut all: Vec<TimelineEvent> = Vec::new();
        for hit in hits {
            let named = named(hit.window);
            let (from, to) = (hit.window.from.0.as_secs_f64(), hit.window.to.0.as_secs_f64());
            all.push(TimelineEvent { at_s: from, what: format!("fault begins: {named}") });
            all.push(TimelineEvent { at_s: to, what: format!("fault ends: {named}") });
        }
        // The faults come first, because they explain the others.
        all.truncate(MAX_EVENTS);
        all.extend(drop_middle(lock(&self.log).events.clone(), MAX_EVENTS - all.len()));
        all.sort_by(|one, other| one.at_s.total_cmp(&other.at_s));
        all
    }
}

/// Keeps so many events, the first and the last.
fn drop_middle(mut events: Vec<TimelineEvent>, most: usize) -> Vec<TimelineEvent> {
    let more = events.len().saturating_sub(most);
    let from = (events.len() - more) / 2;
    drop(events.drain(from..from + more));
    events
}

impl Listener {
    fn record(&self, at: Instant, what: String) {
        let mut log = lock(&self.log);
        let mut same = log.events.iter().enumerate().filter(|(_, known)| known.what == what).map(|(place, _)| place);
        if let Some(middle) = same.nth(MAX_REPEATS / 2)
            && same.count() + MAX_REPEATS / 2 + 1 >= MAX_REPEATS
        {
            log.events.remove(middle);
        }
        let at_s = super::report::seconds(at.saturating_duration_since(self.start));
        // A new event replaces an old one.
        if log.events.len() >= MAX_EVENTS {
            log.events.remove(MAX_EVENTS / 2);
        }
        log.events.push(TimelineEvent { at_s, what });
    }
}

impl Subscriber for Listener {
    fn event(&mut self, event: &Event) {
        if matches!(event, Event::ModelSwitched { .. }) {
            lock(&self.log).switches += 1;
        }
        match event {
            Event::ModelSwitched { from, to, reason, at, .. } => {
                self.record(*at, format!("{to} serves in place of {from} ({})", reason.name()));
            }
            Event::ModelRecovered { from, to, at, .. } => self.record(*at, format!("{to} serves again; {from} idle")),
            Event::CircuitChanged { circuit, to, reason, at, .. } => {
                self.record(*at, format!("circuit {circuit}: {to} ({reason})"));
            }
            Event::AllTiersFailed { reason, at, .. } => {
                self.record(*at, format!("every tier failed ({})", reason.name()))
            }
            Event::BudgetReached { cap, percent, at, .. } => {
                self.record(*at, format!("budget {cap}: {percent} % used"))
            }
            Event::StoreChanged { store, available, at } => {
                let state = if *available { "answers again" } else { "does not answer" };
                self.record(*at, format!("store {store}: {state}"));
            }
            Event::CredentialsFailed { source, usable, at, .. } => {
                let state = if *usable { "not renewed" } else { "ended" };
                self.record(*at, format!("credentials of {source}: {state}"));
            }
            Event::CredentialsRenewed { source, at } => {
                self.record(*at, format!("credentials of {source}: renewed"));
            }
            Event::HandedOver(handed) if matches!(handed.step, HandoffStep::Queued { .. }) => {
                let first = {
                    let mut log = lock(&self.log);
                    log.handed_over += 1;
                    log.handed_over == 1
                };
                if first {
                    self.record(handed.at, "the first task is handed to people".to_owned());
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_the_first_and_the_last_are_told() {
        let events = |count: u32| (0..count).map(|at| TimelineEvent { at_s: at.into(), what: String::new() }).collect();
        let left = |count: u32, most| -> Vec<f64> {
            drop_middle(events(count), most).into_iter().map(|happening| happening.at_s).collect()
        };
        assert_eq!(left(3, 4), [0.0, 1.0, 2.0]);
        assert_eq!(left(6, 4), [0.0, 1.0, 4.0, 5.0]);
        assert!(left(6, 0).is_empty());
    }
}
