use std::collections::VecDeque;

use crate::sync::{Mutex, MutexGuard, lock};

use tokio::sync::Notify;

use super::Alert;

/// Alerts on their way to a webhook. Full, it drops the oldest.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    come: Notify,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    alerts: VecDeque<Alert>,
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
    pub(super) fn new(capacity: usize) -> Self {
        Self { waiting: Mutex::default(), come: Notify::new(), capacity }
    }

    pub(super) fn push(&self, alert: Alert) {
        let mut waiting = self.lock();
        if waiting.alerts.len() >= self.capacity {
            waiting.alerts.pop_front();
            waiting.counts.dropped += 1;
        }
        waiting.alerts.push_back(alert);
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
