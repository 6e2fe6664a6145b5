//! Tasks for people, as long as a drill lasts.

use std::{future::pending, time::Duration};

use tokio::time::Instant;

use super::leaf::stretches;
use crate::{
    drill::scenario::{Hit, said::Ill},
    handoff::{
        Claimant, Delivery, DeliveryOutcome, MemoryTasks, NewAnswer, NewTask, RedriveScope, Release, Task, TaskFilter,
        TaskFuture, TaskId, TaskScope, TaskState, TaskStats, TaskStore, TaskSummary,
    },
    store::{StoreError, StoreErrorKind},
};

/// A store of tasks that stands for a durable one, and fails when the scenario says so.
pub(super) struct RehearsedTasks {
    inner: MemoryTasks,
    start: Instant,
    outages: Vec<(Duration, Duration, Ill)>,
}

impl RehearsedTasks {
    pub(super) fn new(hits: &[Hit<'_>]) -> Self {
        let at_store = hits.iter().filter(|hit| hit.store);
        let outages = at_store.flat_map(|hit| {
            let ill = hit.window.fault.0.first().cloned().unwrap_or(Ill::Refused);
            stretches(hit.window).map(move |(from, to)| (from, to, ill.clone()))
        });
        Self { inner: MemoryTasks::new().max_tasks(usize::MAX), start: Instant::now(), outages: outages.collect() }
    }

    /// Does it, unless the store is out of order: what is refused then has not been done.
    fn unless_down<'a, T: Send + 'a>(
        &'a self,
        act: impl FnOnce(&'a MemoryTasks) -> TaskFuture<'a, T>,
    ) -> TaskFuture<'a, T> {
        let at = self.start.elapsed();
        match self.outages.iter().find(|(from, to, _)| *from <= at && at < *to) {
            None => act(&self.inner),
            Some((.., Ill::Hang)) => Box::pin(pending()),
            Some(_) => Box::pin(async {
                Err(StoreError::new(StoreErrorKind::Unavailable, "the store is down, as the scenario has it").into())
            }),
        }
    }
}

impl TaskStore for RehearsedTasks {
    /// It stands for one that is.
    fn is_durable(&self) -> bool {
        true
    }

    fn insert(&self, task: NewTask) -> TaskFuture<'_, TaskId> {
        self.unless_down(|tasks| tasks.insert(task))
    }

    fn get(&self, id: TaskId) -> TaskFuture<'_, Task> {
        self.unless_down(|tasks| tasks.get(id))
    }

    fn state(&self, id: TaskId) -> TaskFuture<'_, TaskState> {
        self.unless_down(|tasks| tasks.state(id))
    }

    fn list(&self, filter: TaskFilter) -> TaskFuture<'_, Vec<TaskSummary>> {
        self.unless_down(|tasks| tasks.list(filter))
    }

    fn stats(&self) -> TaskFuture<'_, TaskStats> {
        self.unless_down(|tasks| tasks.stats())
    }

    fn claim(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, Task> {
        self.unless_down(|tasks| tasks.claim(id, by, visibility))
    }

    fn renew(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, u64> {
        self.unless_down(|tasks| tasks.renew(id, by, visibility))
    }

    fn release(&self, id: TaskId, by: Claimant, then: Release) -> TaskFuture<'_, ()> {
        self.unless_down(|tasks| tasks.release(id, by, then))
    }

    fn claim_oldest(&self, by: Claimant, visibility: Duration, which: RedriveScope) -> TaskFuture<'_, Option<Task>> {
        self.unless_down(|tasks| tasks.claim_oldest(by, visibility, which))
    }

    fn order_redrive(&self, id: Option<TaskId>) -> TaskFuture<'_, u64> {
        self.unless_down(|tasks| tasks.order_redrive(id))
    }

    fn answer(&self, id: TaskId, answer: NewAnswer, force: bool) -> TaskFuture<'_, Task> {
        self.unless_down(|tasks| tasks.answer(id, answer, force))
    }

    fn due(&self, limit: usize, lease: Duration) -> TaskFuture<'_, Vec<Delivery>> {
        self.unless_down(|tasks| tasks.due(limit, lease))
    }

    fn settle(&self, delivery: Delivery, outcome: DeliveryOutcome) -> TaskFuture<'_, bool> {
        self.unless_down(|tasks| tasks.settle(delivery, outcome))
    }

    fn forget(&self, which: TaskScope) -> TaskFuture<'_, u64> {
        self.unless_down(|tasks| tasks.forget(which))
    }

    fn sweep(&self, keep: Duration) -> TaskFuture<'_, u64> {
        self.unless_down(|tasks| tasks.sweep(keep))
    }
}
