use std::{collections::VecDeque, sync::Arc};

use steadfast_internal::sync::{Mutex, MutexGuard, lock};

use tokio::sync::Notify;

use super::{
    super::{AlertState, Rule, Severity},
    Alert,
};

/// Alerts on their way to a webhook. A full queue drops the oldest.
#[derive(Debug)]
pub(super) struct Queue {
    backlog: Mutex<Backlog>,
    arrival: Notify,
    capacity: usize,
    selection: Selection,
}

/// The selection of alerts for a webhook.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// `None` means all.
    pub(super) severities: Option<Vec<Severity>>,
    /// True if the webhook receives the end of an alert.
    pub(super) resolved: bool,
}

#[derive(Debug, Default)]
struct Backlog {
    alerts: VecDeque<Alert>,
    /// The alerts that were sent and have not ended. Their end is sent too, whatever their severity by then.
    open: Vec<(Rule, Arc<str>)>,
    counts: Counts,
}

/// The number of alerts by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) failed: u64,
    pub(super) dropped: u64,
}

impl Queue {
    pub(super) fn new(capacity: usize, selection: Selection) -> Self {
        Self { backlog: Mutex::default(), arrival: Notify::new(), capacity, selection }
    }

    /// Adds an alert, if the webhook wants it.
    pub(super) fn push(&self, alert: &Alert) {
        let mut backlog = self.lock();
        if !backlog.admit(alert, &self.selection) {
            return;
        }
        if backlog.alerts.len() >= self.capacity {
            backlog.alerts.pop_front();
            backlog.counts.dropped += 1;
        }
        backlog.alerts.push_back(alert.clone());
        drop(backlog);
        self.arrival.notify_one();
    }

    /// Waits for the oldest alert and removes it. For one task only.
    pub(super) async fn next(&self) -> Alert {
        loop {
            if let Some(alert) = self.lock().alerts.pop_front() {
                return alert;
            }
            self.arrival.notified().await;
        }
    }

    pub(super) fn count(&self, sent: bool) {
        let counts = &mut self.lock().counts;
        *(if sent { &mut counts.sent } else { &mut counts.failed }) += 1;
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    fn lock(&self) -> MutexGuard<'_, Backlog> {
        lock(&self.backlog)
    }
}

impl Backlog {
    fn admit(&mut self, alert: &Alert, selection: &Selection) -> bool {
        let place = self.open.iter().position(|(rule, key)| *rule == alert.rule && *key == alert.key);
        let listed = selection.severities.as_ref().is_none_or(|listed| listed.contains(&alert.severity));
        match (alert.state, place) {
            (AlertState::Firing, None) if listed && self.open.len() < MOST => {
                self.open.push((alert.rule, alert.key.clone()));
                true
            }
            (AlertState::Firing, _) => listed,
            (AlertState::Resolved, place) => {
                let was_sent = place.map(|place| self.open.swap_remove(place)).is_some();
                // An alert that began before this webhook started ends for it too.
                selection.resolved && (was_sent || listed)
            }
        }
    }
}

/// The largest number of alerts that fire at a time.
const MOST: usize = 128;
