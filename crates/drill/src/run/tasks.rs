//! The task store of a drill.

use std::{future::pending, time::Duration};

use tokio::time::Instant;

use crate::scenario::{FaultTarget, file::FaultSpec, outages::stretches};
use steadfast::store::{StoreError, StoreErrorKind};
use steadfast_handoff::{
    Claimant, Delivery, DeliveryOutcome, MemoryTasks, NewAnswer, NewTask, RedriveScope, Release, Task, TaskFilter,
    TaskFuture, TaskId, TaskScope, TaskState, TaskStats, TaskStore, TaskSummary,
};

/// A task store that replaces a durable one, and fails according to the scenario.
pub(super) struct DrillTasks {
    inner: MemoryTasks,
    start: Instant,
    outages: Vec<(Duration, Duration, FaultSpec)>,
}

impl DrillTasks {
    pub(super) fn new(hits: &[FaultTarget<'_>]) -> Self {
        let at_store = hits.iter().filter(|hit| hit.store);
        let outages = at_store.flat_map(|hit| {
            let spec = hit.window.fault.0.first().cloned().unwrap_or(FaultSpec::Refused);
            stretches(hit.window).map(move |(from, to)| (from, to, spec.clone()))
        });
        Self { inner: MemoryTasks::new().max_tasks(usize::MAX), start: Instant::now(), outages: outages.collect() }
    }

    /// Runs an operation unless the store is down; a refused operation has no effect.
    fn run_unless_down<'a, T: Send + 'a>(
        &'a self,
        act: impl FnOnce(&'a MemoryTasks) -> TaskFuture<'a, T>,
    ) -> TaskFuture<'a, T> {
        let at = self.start.elapsed();
        match self.outages.iter().find(|(from, to, _)| *from <= at && at < *to) {
            None => act(&self.inner),
            Some((.., FaultSpec::Hang)) => Box::pin(pending()),
            Some(_) => Box::pin(async {
                Err(StoreError::new(StoreErrorKind::Unavailable, "the store is down, as the scenario has it").into())
            }),
        }
    }
}

impl TaskStore for DrillTasks {
    /// True, because it replaces a durable store.
    fn is_durable(&self) -> bool {
        true
    }

    fn insert(&self, task: NewTask) -> TaskFuture<'_, TaskId> {
        self.run_unless_down(|tasks| tasks.insert(task))
    }

    fn get(&self, id: TaskId) -> TaskFuture<'_, Task> {
        self.run_unless_down(|tasks| tasks.get(id))
    }

    fn state(&self, id: TaskId) -> TaskFuture<'_, TaskState> {
        self.run_unless_down(|tasks| tasks.state(id))
    }

    fn list(&self, filter: TaskFilter) -> TaskFuture<'_, Vec<TaskSummary>> {
        self.run_unless_down(|tasks| tasks.list(filter))
    }

    fn stats(&self) -> TaskFuture<'_, TaskStats> {
        self.run_unless_down(|tasks| tasks.stats())
    }

    fn claim(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, Task> {
        self.run_unless_down(|tasks| tasks.claim(id, by, visibility))
    }

    fn renew(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, u64> {
        self.run_unless_down(|tasks| tasks.renew(id, by, visibility))
    }

    fn release(&self, id: TaskId, by: Claimant, then: Release) -> TaskFuture<'_, ()> {
        self.run_unless_down(|tasks| tasks.release(id, by, then))
    }

    fn claim_oldest(&self, by: Claimant, visibility: Duration, which: RedriveScope) -> TaskFuture<'_, Option<Task>> {
        self.run_unless_down(|tasks| tasks.claim_oldest(by, visibility, which))
    }

    fn order_redrive(&self, id: Option<TaskId>) -> TaskFuture<'_, u64> {
        self.run_unless_down(|tasks| tasks.order_redrive(id))
    }

    fn answer(&self, id: TaskId, answer: NewAnswer, force: bool) -> TaskFuture<'_, Task> {
        self.run_unless_down(|tasks| tasks.answer(id, answer, force))
    }

    fn due(&self, limit: usize, lease: Duration) -> TaskFuture<'_, Vec<Delivery>> {
        self.run_unless_down(|tasks| tasks.due(limit, lease))
    }

    fn settle(&self, delivery: Delivery, outcome: DeliveryOutcome) -> TaskFuture<'_, bool> {
        self.run_unless_down(|tasks| tasks.settle(delivery, outcome))
    }

    fn forget(&self, which: TaskScope) -> TaskFuture<'_, u64> {
        self.run_unless_down(|tasks| tasks.forget(which))
    }

    fn sweep(&self, keep: Duration) -> TaskFuture<'_, u64> {
        self.run_unless_down(|tasks| tasks.sweep(keep))
    }
}
