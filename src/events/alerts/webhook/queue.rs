use std::{collections::VecDeque, sync::Arc};

use crate::sync::{Mutex, MutexGuard, lock};

use tokio::sync::Notify;

use super::{
    super::{AlertState, Rule, Severity},
    Alert,
};

/// Alerts on their way to a webhook. A full queue drops the oldest.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    come: Notify,
    capacity: usize,
    wanted: Wanted,
}

/// The selection of alerts for a webhook.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// `None` means all.
    pub(super) severities: Option<Vec<Severity>>,
    /// True if the webhook receives the end of an alert.
    pub(super) resolved: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    alerts: VecDeque<Alert>,
    /// The alerts that were sent and have not ended. Their end is sent too, whatever their severity by then.
    told: Vec<(Rule, Arc<str>)>,
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
    pub(super) fn new(capacity: usize, wanted: Wanted) -> Self {
        Self { waiting: Mutex::default(), come: Notify::new(), capacity, wanted }
    }

    /// Adds an alert, if the webhook wants it.
    pub(super) fn push(&self, alert: &Alert) {
        let mut waiting = self.lock();
        if !waiting.wants(alert, &self.wanted) {
            return;
        }
        if waiting.alerts.len() >= self.capacity {
            waiting.alerts.pop_front();
            waiting.counts.dropped += 1;
        }
        waiting.alerts.push_back(alert.clone());
        drop(waiting);
        self.come.notify_one();
    }

    /// Waits for the oldest alert and removes it. For one task only.
    pub(super) async fn next(&self) -> Alert {
        loop {
            if let Some(alert) = self.lock().alerts.pop_front() {
                return alert;
            }
            self.come.notified().await;
        }
    }

    pub(super) fn count(&self, sent: bool) {
        let counts = &mut self.lock().counts;
        *(if sent { &mut counts.sent } else { &mut counts.failed }) += 1;
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }
}

impl Waiting {
    fn wants(&mut self, alert: &Alert, wanted: &Wanted) -> bool {
        let place = self.told.iter().position(|(rule, key)| *rule == alert.rule && *key == alert.key);
        let listed = wanted.severities.as_ref().is_none_or(|listed| listed.contains(&alert.severity));
        match (alert.state, place) {
            (AlertState::Firing, None) if listed && self.told.len() < MOST => {
                self.told.push((alert.rule, alert.key.clone()));
                true
            }
            (AlertState::Firing, _) => listed,
            (AlertState::Resolved, place) => {
                let told = place.map(|place| self.told.swap_remove(place)).is_some();
                // An alert that began before this webhook started ends for it too.
                wanted.resolved && (told || listed)
            }
        }
    }
}

/// The largest number of alerts that fire at a time.
const MOST: usize = 128;
