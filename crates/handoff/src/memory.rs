use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::ready,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Claimant, Delivery, DeliveryKind, DeliveryOutcome, DeliveryState, DeskError, NewAnswer, NewTask, RedriveScope,
    Release, Task, TaskAnswer, TaskClaim, TaskFilter, TaskHead, TaskId, TaskScope, TaskState, TaskStats, TaskStore,
    TaskSummary, TaskUsage, UsageTotals, store::TaskFuture, task::PREVIEW,
};
use steadfast::store::{StoreError, StoreErrorKind};
use steadfast_internal::{
    sync::{Mutex, lock},
    wall_clock,
};

/// A store in one process's memory. Its tasks end with the process, as [`is_durable`](TaskStore::is_durable) reports.
///
/// Use it for tests, and for callers who [wait](crate::Handoff::wait) for a person. Its clock is tokio's.
/// Clones are the same store.
#[derive(Clone)]
pub struct MemoryTasks {
    shared: Arc<Shared>,
}

struct Shared {
    tasks: Mutex<Tasks>,
    max_tasks: usize,
    /// The wall clock's time at the start, and tokio's.
    since: (u64, Instant),
}

#[derive(Default)]
struct Tasks {
    by_id: BTreeMap<TaskId, Entry>,
    same: HashMap<String, TaskId>,
}

struct Entry {
    head: TaskHead,
    new: NewTask,
    preview: String,
    answer: Option<TaskAnswer>,
    /// The redrive value, as in [`RedriveScope::least`].
    redrive: i64,
    deliveries: Vec<Delivery>,
}

/// The default of [`MemoryTasks::max_tasks`].
const MAX_TASKS: usize = 10_000;
/// The largest number of tasks that a sweep removes.
pub const SWEEP_LIMIT: usize = 1000;

impl MemoryTasks {
    /// Creates a store with room for 10,000 tasks.
    pub fn new() -> Self {
        Self::with_room(MAX_TASKS)
    }

    /// Creates a store with room for this many tasks, answered ones included. A full store refuses tasks.
    #[must_use]
    pub fn max_tasks(self, tasks: usize) -> Self {
        Self::with_room(tasks)
    }

    fn with_room(max_tasks: usize) -> Self {
        let since = (wall_clock::millis(wall_clock::since_1970()), Instant::now());
        Self { shared: Arc::new(Shared { tasks: Mutex::default(), max_tasks, since }) }
    }

    /// Returns the number of tasks.
    pub fn len(&self) -> usize {
        lock(&self.shared.tasks).by_id.len()
    }

    /// Returns whether there is no task.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn now(&self) -> u64 {
        let (unix, at) = self.shared.since;
        unix.saturating_add(wall_clock::millis(at.elapsed()))
    }

    /// Runs a function under the lock.
    fn with<T>(&self, work: impl FnOnce(&mut Tasks, u64) -> Result<T, DeskError>) -> TaskFuture<'_, T>
    where
        T: Send + 'static,
    {
        let now = self.now();
        let done = work(&mut lock(&self.shared.tasks), now);
        Box::pin(ready(done))
    }
}

impl Tasks {
    /// Returns the totals of all callers, and of this caller.
    fn usage(&self, tenant: Option<&str>, now: u64) -> TaskUsage {
        let mut taken = TaskUsage { all: UsageTotals::default(), of_caller: tenant.map(|_| UsageTotals::default()) };
        for Entry { head, new, .. } in self.by_id.values() {
            let own = taken.of_caller.as_mut().filter(|_| new.tenant.as_deref() == tenant);
            for share in [Some(&mut taken.all), own].into_iter().flatten() {
                share.tasks += u64::from(head.state(now).is_open());
                share.bytes += new.request.size() as u64;
            }
        }
        taken
    }

    fn known(&mut self, id: TaskId) -> Result<&mut Entry, DeskError> {
        self.by_id.get_mut(&id).ok_or(DeskError::Unknown { task: id })
    }
}

impl Entry {
    fn task(&self, now: u64) -> Task {
        let (head, new) = (&self.head, &self.new);
        Task {
            id: head.id,
            state: head.state(now),
            feature: new.feature.clone(),
            session: new.session.clone(),
            tenant: new.tenant.clone(),
            created_at: head.created_at,
            expires_at: head.expires_at,
            requires_human: new.requires_human,
            reason: new.reason.clone(),
            attempts: new.attempts.clone(),
            caller: new.caller.clone(),
            request: new.request.clone(),
            claim: head.claim_at(now),
            answer: self.answer.clone(),
            deliveries: self.deliveries.clone(),
        }
    }

    fn summary(&self, now: u64) -> TaskSummary {
        let (head, new) = (&self.head, &self.new);
        TaskSummary {
            id: head.id,
            state: head.state(now),
            feature: new.feature.clone(),
            session: new.session.clone(),
            tenant: new.tenant.clone(),
            created_at: head.created_at,
            expires_at: head.expires_at,
            reason: new.reason.clone(),
            claim: head.claim_at(now),
            answered_at: self.answer.as_ref().map(|answer| answer.at),
            preview: self.preview.clone(),
        }
    }
}

impl TaskStore for MemoryTasks {
    fn is_durable(&self) -> bool {
        false
    }

    fn insert(&self, task: NewTask) -> TaskFuture<'_, TaskId> {
        let max_tasks = self.shared.max_tasks;
        self.with(|tasks, now| {
            let id = task.id;
            if tasks.by_id.contains_key(&id) {
                return Ok(id);
            }
            if let Some(same) = task.same_as.as_ref().and_then(|same| tasks.same.get(same)).copied()
                && tasks.known(same).is_ok_and(|entry| entry.head.state(now) != TaskState::Expired)
            {
                return Ok(same);
            }
            if tasks.by_id.len() >= max_tasks {
                let full = format!("{max_tasks} tasks are in memory; answer some, or raise `max_tasks`");
                return Err(StoreError::new(StoreErrorKind::Full, full).into());
            }
            task.limits.admit(task.request.size() as u64, &tasks.usage(task.tenant.as_deref(), now))?;
            if let Some(same) = &task.same_as {
                tasks.same.insert(same.clone(), id);
            }
            let told = task.notify.then(|| Delivery::new(id, DeliveryKind::Notification, None, now));
            let expires_at = now.saturating_add(wall_clock::millis(task.ttl));
            let entry = Entry {
                head: TaskHead { id, created_at: now, expires_at, claim: None, answered: None },
                preview: task.request.preview(PREVIEW),
                answer: None,
                redrive: RedriveScope::initial(task.requires_human),
                deliveries: told.into_iter().collect(),
                new: task,
            };
            tasks.by_id.insert(id, entry);
            Ok(id)
        })
    }

    fn get(&self, id: TaskId) -> TaskFuture<'_, Task> {
        self.with(|tasks, now| Ok(tasks.known(id)?.task(now)))
    }

    fn state(&self, id: TaskId) -> TaskFuture<'_, TaskState> {
        self.with(|tasks, now| Ok(tasks.known(id)?.head.state(now)))
    }

    fn list(&self, filter: TaskFilter) -> TaskFuture<'_, Vec<TaskSummary>> {
        self.with(|tasks, now| {
            let fits = |entry: &&Entry| {
                let is = |asked: &Option<String>, has: &Option<String>| asked.is_none() || asked == has;
                is(&filter.feature, &entry.new.feature)
                    && is(&filter.tenant, &entry.new.tenant)
                    && filter.state.is_none_or(|state| state == entry.head.state(now))
                    && filter.after.is_none_or(|after| match filter.oldest_first {
                        true => after < entry.new.id,
                        false => entry.new.id < after,
                    })
            };
            let listed = |entries: &mut dyn Iterator<Item = &Entry>| {
                entries.filter(fits).take(filter.rows()).map(|entry| entry.summary(now)).collect()
            };
            Ok(match filter.oldest_first {
                true => listed(&mut tasks.by_id.values()),
                false => listed(&mut tasks.by_id.values().rev()),
            })
        })
    }

    fn stats(&self) -> TaskFuture<'_, TaskStats> {
        self.with(|tasks, now| {
            let mut stats = TaskStats::default();
            let mut oldest = None;
            for entry in tasks.by_id.values() {
                let state = entry.head.state(now);
                *stats.of(state) += 1;
                if state == TaskState::Waiting {
                    oldest =
                        Some(oldest.map_or(entry.head.created_at, |oldest: u64| oldest.min(entry.head.created_at)));
                }
                for delivery in &entry.deliveries {
                    stats.deliveries_pending += u64::from(delivery.state == DeliveryState::Pending);
                    stats.deliveries_dead += u64::from(delivery.state == DeliveryState::Dead);
                }
            }
            stats.oldest_waiting_ms = oldest.map(|at| now.saturating_sub(at));
            Ok(stats)
        })
    }

    fn claim(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, Task> {
        self.with(|tasks, now| {
            let entry = tasks.known(id)?;
            entry.head.check_free_for(&by, now)?;
            entry.head.claim = Some(TaskClaim::new(by, now.saturating_add(wall_clock::millis(visibility))));
            Ok(entry.task(now))
        })
    }

    fn renew(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, u64> {
        self.with(|tasks, now| {
            let entry = tasks.known(id)?;
            entry.head.check_held_by(&by, now)?;
            let until = now.saturating_add(wall_clock::millis(visibility));
            entry.head.claim = Some(TaskClaim::new(by, until));
            Ok(until)
        })
    }

    fn release(&self, id: TaskId, by: Claimant, then: Release) -> TaskFuture<'_, ()> {
        self.with(|tasks, now| {
            let entry = tasks.known(id)?;
            entry.head.check_held_by(&by, now)?;
            entry.head.claim = None;
            if then == Release::ForPeople {
                entry.redrive = RedriveScope::NO;
            }
            Ok(())
        })
    }

    fn claim_oldest(&self, by: Claimant, visibility: Duration, which: RedriveScope) -> TaskFuture<'_, Option<Task>> {
        self.with(|tasks, now| {
            let is_free =
                |entry: &&mut Entry| entry.head.state(now) == TaskState::Waiting && entry.redrive >= which.least();
            let free = tasks.by_id.values_mut().filter(is_free);
            let Some(entry) = free.min_by_key(|entry| (entry.head.created_at, entry.head.id)) else { return Ok(None) };
            entry.head.claim = Some(TaskClaim::new(by, now.saturating_add(wall_clock::millis(visibility))));
            Ok(Some(entry.task(now)))
        })
    }

    fn order_redrive(&self, id: Option<TaskId>) -> TaskFuture<'_, u64> {
        self.with(|tasks, now| {
            let Some(id) = id else {
                let open = tasks.by_id.values_mut().filter(|entry| entry.head.state(now).is_open());
                return Ok(open.map(|entry| entry.redrive = RedriveScope::Ordered.least()).count() as u64);
            };
            let entry = tasks.known(id)?;
            entry.head.check_open(now)?;
            entry.redrive = RedriveScope::Ordered.least();
            Ok(1)
        })
    }

    fn answer(&self, id: TaskId, answer: NewAnswer, force: bool) -> TaskFuture<'_, Task> {
        self.with(|tasks, now| {
            let entry = tasks.known(id)?;
            if entry.answer.as_ref().is_some_and(|before| before.is(&answer)) {
                return Ok(entry.task(now));
            }
            match force {
                true => entry.head.check_open(now)?,
                false => entry.head.check_free_for(&answer.by, now)?,
            }
            entry.head.answered = Some((answer.by.clone(), now));
            entry.answer = Some(TaskAnswer::of(answer, now));
            if let Some(callback) = entry.new.callback.clone() {
                entry.deliveries.push(Delivery::new(id, DeliveryKind::Callback, callback.into_url(), now));
            }
            Ok(entry.task(now))
        })
    }

    fn due(&self, limit: usize, lease: Duration) -> TaskFuture<'_, Vec<Delivery>> {
        self.with(|tasks, now| {
            let all = tasks.by_id.values_mut().flat_map(|entry| &mut entry.deliveries);
            let is_due = |delivery: &Delivery| delivery.next_at.is_some_and(|at| at <= now);
            let mut due: Vec<&mut Delivery> = all.filter(|delivery| is_due(delivery)).collect();
            due.sort_by_key(|delivery| delivery.next_at);
            let taken = due.into_iter().take(limit).map(|delivery| {
                delivery.attempts += 1;
                delivery.next_at = Some(now.saturating_add(wall_clock::millis(lease)));
                delivery.clone()
            });
            Ok(taken.collect())
        })
    }

    fn settle(&self, delivery: Delivery, outcome: DeliveryOutcome) -> TaskFuture<'_, bool> {
        self.with(|tasks, now| {
            let Ok(entry) = tasks.known(delivery.task) else { return Ok(false) };
            let known = entry.deliveries.iter_mut().find(|known| {
                known.id == delivery.id && known.attempts == delivery.attempts && known.state == DeliveryState::Pending
            });
            let Some(known) = known else { return Ok(false) };
            let after;
            (known.state, after, known.problem) = outcome.columns();
            known.next_at = after.map(|after| now.saturating_add(wall_clock::millis(after)));
            Ok(true)
        })
    }

    fn forget(&self, which: TaskScope) -> TaskFuture<'_, u64> {
        self.with(|tasks, _| {
            let before = tasks.by_id.len();
            let (id, session, tenant) = which.columns();
            tasks.by_id.retain(|known, Entry { new, .. }| {
                let is = |asked: Option<&str>, has: &Option<String>| asked.is_none() || asked == has.as_deref();
                let is_it = id.as_ref().is_none_or(|id| *id == known.to_string());
                !(is_it && is(session, &new.session) && is(tenant, &new.tenant))
            });
            let by_id = &tasks.by_id;
            tasks.same.retain(|_, id| by_id.contains_key(id));
            Ok((before - by_id.len()) as u64)
        })
    }

    fn sweep(&self, keep: Duration) -> TaskFuture<'_, u64> {
        self.with(|tasks, now| {
            let before = now.saturating_sub(wall_clock::millis(keep));
            let over = tasks.by_id.values().filter(|entry| match &entry.answer {
                Some(answer) => answer.at < before,
                None => entry.head.expires_at < before,
            });
            let over: Vec<TaskId> = over.map(|entry| entry.new.id).take(SWEEP_LIMIT).collect();
            for id in &over {
                tasks.by_id.remove(id);
            }
            let by_id = &tasks.by_id;
            tasks.same.retain(|_, id| by_id.contains_key(id));
            Ok(over.len() as u64)
        })
    }
}

impl Default for MemoryTasks {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTasks").field("len", &self.len()).finish_non_exhaustive()
    }
}
