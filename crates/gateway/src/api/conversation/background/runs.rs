//! The responses that are made here, by their ids.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::event_log::EventLog;
use crate::lock::lock;

/// The time for which events are kept after the end.
pub(super) const KEPT_EVENTS: Duration = Duration::from_secs(5 * 60);
/// The number of a caller's ended responses whose events are kept.
const MOST_KEPT: usize = 16;

/// The responses that this process makes in the background.
#[derive(Debug)]
pub(crate) struct Runs {
    table: Mutex<Table>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<String, Entry>,
    /// The ids of each caller's ended responses with events, the oldest first.
    ended: HashMap<String, VecDeque<String>>,
}

/// A response that is made here, or whose events are kept here.
#[derive(Clone, Debug)]
struct Entry {
    /// Cancelled to stop its call, and at its end.
    stop: CancellationToken,
    events: Option<Arc<EventLog>>,
}

impl Runs {
    /// Creates an empty table. The tasks that make responses are among these.
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self { table: Mutex::default(), tasks }
    }

    /// Adds a response that is about to be made.
    pub(super) fn add(&self, id: &str, stop: &CancellationToken, events: Option<Arc<EventLog>>) {
        lock(&self.table).by_id.insert(id.to_owned(), Entry { stop: stop.clone(), events });
    }

    /// Runs the task of a response.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Stops the call for a response, if it is made here.
    pub(crate) fn stop(&self, id: &str) {
        if let Some(entry) = lock(&self.table).by_id.get(id) {
            entry.stop.cancel();
        }
    }

    /// Forgets a response: stops its call, if it is made here, and lets go of its events.
    pub(crate) fn forget(&self, owner: &str, id: &str) {
        self.stop(id);
        lock(&self.table).forget(owner, id);
    }

    /// Returns whether a response is made here at this moment.
    pub(crate) fn make(&self, id: &str) -> bool {
        lock(&self.table).by_id.get(id).is_some_and(|entry| !entry.stop.is_cancelled())
    }

    /// Returns the events of a response, if they are kept here.
    pub(crate) fn events(&self, id: &str) -> Option<Arc<EventLog>> {
        lock(&self.table).by_id.get(id)?.events.clone()
    }

    /// Notes that a response has ended. Its events stay for a while.
    pub(super) fn ended(self: &Arc<Self>, owner: &str, id: &str) {
        self.stop(id);
        let mut table = lock(&self.table);
        if table.by_id.get(id).is_none_or(|entry| entry.events.is_none()) {
            table.by_id.remove(id);
            return;
        }
        let ended = table.ended.entry(owner.to_owned()).or_default();
        ended.push_back(id.to_owned());
        if ended.len() > MOST_KEPT
            && let Some(oldest) = ended.pop_front()
        {
            table.by_id.remove(&oldest);
        }
        let (runs, owner, id) = (Arc::downgrade(self), owner.to_owned(), id.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(KEPT_EVENTS).await;
            if let Some(runs) = runs.upgrade() {
                runs.forget(&owner, &id);
            }
        });
    }
}

impl Table {
    fn forget(&mut self, owner: &str, id: &str) {
        self.by_id.remove(id);
        if let Some(ended) = self.ended.get_mut(owner) {
            ended.retain(|ended| ended != id);
            if ended.is_empty() {
                self.ended.remove(owner);
            }
        }
    }
}
