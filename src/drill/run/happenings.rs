//! What happens in a drill, in words.

use std::{fmt, sync::Arc};

use tokio::time::Instant;

use crate::{
    Event, StackHandle,
    drill::{
        report::Happening,
        scenario::{Hit, check::spoken, said::Window},
    },
    events::{Following, HandoffStep, Subscriber},
    internal::sync::{Mutex, lock},
};

/// How many are told.
const TOLD: usize = 200;
/// How many are kept of what repeats itself: half of them the first, half the last ones.
const OF_A_KIND: usize = 12;

/// What the stack tells, kept in words.
pub(super) struct Happenings {
    heard: Arc<Mutex<Heard>>,
    _following: Following,
}

#[derive(Default)]
struct Heard {
    told: Vec<Happening>,
    handed_over: u64,
    switches: u64,
}

struct Listener {
    start: Instant,
    heard: Arc<Mutex<Heard>>,
}

impl Happenings {
    pub(super) fn begin(handle: &StackHandle, start: Instant) -> Self {
        let heard = Arc::new(Mutex::default());
        let listener = Listener { start, heard: Arc::clone(&heard) };
        Self { heard, _following: handle.events().follow(listener) }
    }

    /// How often another tier was told to serve, the primary's returns left out.
    pub(super) fn switches(&self) -> u64 {
        lock(&self.heard).switches
    }

    /// All of them with the scenario's own, in the order of time.
    pub(super) fn with_the_scenarios(&self, hits: &[Hit<'_>]) -> Vec<Happening> {
        let mut all: Vec<Happening> = Vec::new();
        for hit in hits {
            let named = named(hit.window);
            let (from, to) = (hit.window.from.0.as_secs_f64(), hit.window.to.0.as_secs_f64());
            all.push(Happening { at_s: from, what: format!("fault begins: {named}") });
            all.push(Happening { at_s: to, what: format!("fault ends: {named}") });
        }
        // The scenario's own are what the others are measured by.
        all.truncate(TOLD);
        all.extend(without_the_middle(lock(&self.heard).told.clone(), TOLD - all.len()));
        all.sort_by(|one, other| one.at_s.total_cmp(&other.at_s));
        all
    }
}

/// So many of them, the first and the last.
fn without_the_middle(mut told: Vec<Happening>, most: usize) -> Vec<Happening> {
    let more = told.len().saturating_sub(most);
    let from = (told.len() - more) / 2;
    drop(told.drain(from..from + more));
    told
}

/// A fault in a few words.
fn named(window: &Window) -> String {
    let ills: Vec<String> = window.fault.0.iter().map(ToString::to_string).collect();
    let at = if window.at.0.is_empty() { "primary".to_owned() } else { window.at.0.join(", ") };
    let mut text = format!("{} at {at}", ills.join(" or "));
    let mut add = |what: fmt::Arguments<'_>| text.push_str(&what.to_string());
    if window.share.0 < 1.0 {
        add(format_args!(", {} % of calls", (window.share.0 * 1000.0).round() / 10.0));
    }
    if window.callers.0 < 1.0 {
        add(format_args!(", {} % of callers", (window.callers.0 * 1000.0).round() / 10.0));
    }
    if !window.features.is_empty() {
        add(format_args!(", of {}", window.features.join(", ")));
    }
    if let (Some(every), Some(wave)) = (window.every, window.wave) {
        add(format_args!(", {} of every {}", spoken(wave), spoken(every)));
    }
    text
}

impl Listener {
    fn hear(&self, at: Instant, what: String) {
        let mut heard = lock(&self.heard);
        let mut same = heard.told.iter().enumerate().filter(|(_, told)| told.what == what).map(|(place, _)| place);
        if let Some(middle) = same.nth(OF_A_KIND / 2)
            && same.count() + OF_A_KIND / 2 + 1 >= OF_A_KIND
        {
            heard.told.remove(middle);
        }
        let at_s = super::report::seconds(at.saturating_duration_since(self.start));
        // What is new is told rather than what was long ago.
        if heard.told.len() >= TOLD {
            heard.told.remove(TOLD / 2);
        }
        heard.told.push(Happening { at_s, what });
    }
}

impl Subscriber for Listener {
    fn event(&mut self, event: &Event) {
        if matches!(event, Event::ModelSwitched { .. }) {
            lock(&self.heard).switches += 1;
        }
        match event {
            Event::ModelSwitched { from, to, reason, at } => {
                self.hear(*at, format!("{to} serves in place of {from} ({})", reason.name()));
            }
            Event::ModelRecovered { from, to, at, .. } => {
                self.hear(*at, format!("{to} serves again, and no more {from}"))
            }
            Event::CircuitChanged { circuit, to, reason, at, .. } => {
                self.hear(*at, format!("circuit {circuit}: {to} ({reason})"));
            }
            Event::AllTiersFailed { reason, at, .. } => {
                self.hear(*at, format!("every tier failed ({})", reason.name()))
            }
            Event::BudgetReached { cap, percent, at, .. } => self.hear(*at, format!("budget {cap}: {percent} % used")),
            Event::StoreChanged { store, available, at } => {
                let state = if *available { "answers again" } else { "does not answer" };
                self.hear(*at, format!("store {store}: {state}"));
            }
            Event::HandedOver(handed) if matches!(handed.step, HandoffStep::Queued { .. }) => {
                let first = {
                    let mut heard = lock(&self.heard);
                    heard.handed_over += 1;
                    heard.handed_over == 1
                };
                if first {
                    self.hear(handed.at, "the first task is handed to people".to_owned());
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
        let told = |count: u32| (0..count).map(|at| Happening { at_s: at.into(), what: String::new() }).collect();
        let left = |count: u32, most| -> Vec<f64> {
            without_the_middle(told(count), most).into_iter().map(|happening| happening.at_s).collect()
        };
        assert_eq!(left(3, 4), [0.0, 1.0, 2.0]);
        assert_eq!(left(6, 4), [0.0, 1.0, 4.0, 5.0]);
        assert!(left(6, 0).is_empty());
    }
}
