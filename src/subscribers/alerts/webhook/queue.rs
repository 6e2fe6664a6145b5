use std::{collections::VecDeque, sync::Arc};

use crate::internal::sync::{Mutex, MutexGuard, lock};

use tokio::sync::Notify;

use super::{
    super::{AlertState, Rule, Severity},
    Alert,
};

/// Alerts on their way to a webhook. Full, it drops the oldest.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    come: Notify,
    capacity: usize,
    wanted: Wanted,
}

/// Which alerts a webhook is sent.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// `None`: all.
    pub(super) severities: Option<Vec<Severity>>,
    /// Whether it hears of their end.
    pub(super) resolved: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    alerts: VecDeque<Alert>,
    /// Those that it was told of, and that are not over: their end is news to it, however bad they have become.
    told: Vec<(Rule, Arc<str>)>,
    counts: Counts,
}

/// What became of alerts.
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

    /// Takes an alert, if it is wanted.
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

    /// The oldest, as soon as there is one. For one task only.
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
                // One that began before this webhook was there is over for it too.
                wanted.resolved && (told || listed)
            }
        }
    }
}

/// As many as fire at a time.
const MOST: usize = 128;
