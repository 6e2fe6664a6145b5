use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::ready,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Callback, Claimant, Delivery, DeliveryKind, DeliveryState, DeskError, NewAnswer, NewTask, Redrivable, Release,
    Settled, Task, TaskAnswer, TaskClaim, TaskFilter, TaskId, TaskState, TaskStats, TaskStore, TaskSummary, millis,
    store::TaskFuture, task::PREVIEW,
};
use crate::{
    store::{StoreError, StoreErrorKind},
    sync::{Mutex, lock},
    wall_clock,
};

/// The tasks of one process, in its memory: they end with it, and it says so ([`is_durable`](TaskStore::is_durable)).
///
/// For tests, and for callers who [wait](crate::providers::Handoff::wait) for a person. Its clock goes with tokio's. Clones are
/// the same tasks.
#[derive(Clone)]
pub struct MemoryTasks {
    shared: Arc<Shared>,
}

struct Shared {
    tasks: Mutex<Tasks>,
    max_tasks: usize,
    /// What the clock on the wall said, and tokio's.
    since: (u64, Instant),
}

#[derive(Default)]
struct Tasks {
    by_id: BTreeMap<TaskId, Entry>,
    same: HashMap<String, TaskId>,
}

struct Entry {
    new: NewTask,
    preview: String,
    created_at: u64,
    expires_at: u64,
    claim: Option<TaskClaim>,
    answer: Option<TaskAnswer>,
    redrive: Redrive,
    deliveries: Vec<Delivery>,
}

/// Whether a model may be asked again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Redrive {
    No,
    Yes,
    Asked,
}

/// The default of [`MemoryTasks::max_tasks`].
const MAX_TASKS: usize = 10_000;
/// How many tasks a sweep removes at most.
pub(crate) const SWEPT_AT_ONCE: usize = 1000;

impl MemoryTasks {
    /// Room for 10,000 tasks.
    pub fn new() -> Self {
        Self::with_room(MAX_TASKS)
    }

    /// New, with room for so many tasks, answered ones among them: over it, none is taken.
    #[must_use]
    pub fn max_tasks(self, tasks: usize) -> Self {
        Self::with_room(tasks)
    }

    fn with_room(max_tasks: usize) -> Self {
        let since = (millis(wall_clock::since_1970()), Instant::now());
        Self { shared: Arc::new(Shared { tasks: Mutex::default(), max_tasks, since }) }
    }

    /// How many tasks it has.
    pub fn len(&self) -> usize {
        lock(&self.shared.tasks).by_id.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn now(&self) -> u64 {
        let (unix, at) = self.shared.since;
        unix.saturating_add(millis(at.elapsed()))
    }

    /// Does something under the lock.
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
    fn known(&mut self, id: TaskId) -> Result<&mut Entry, DeskError> {
        self.by_id.get_mut(&id).ok_or(DeskError::Unknown { task: id })
    }

    /// One that may be answered.
    fn open(&mut self, id: TaskId, now: u64) -> Result<&mut Entry, DeskError> {
        let entry = self.known(id)?;
        if let Some(answer) = &entry.answer {
            return Err(DeskError::AlreadyAnswered { task: id, by: answer.by.clone(), at: answer.at });
        }
        if entry.expires_at <= now {
            return Err(DeskError::Expired { task: id, at: entry.expires_at });
        }
        Ok(entry)
    }
}

impl Entry {
    fn state(&self, now: u64) -> TaskState {
        TaskState::at(now, self.expires_at, self.claim.as_ref(), self.answer.is_some())
    }

    /// Refused while somebody else is at it.
    fn free_for(&self, by: &Claimant, now: u64) -> Result<(), DeskError> {
        match &self.claim {
            Some(claim) if claim.by != *by && now < claim.until => {
                Err(DeskError::ClaimedByAnother { task: self.new.id, by: claim.by.clone(), until: claim.until })
            }
            _ => Ok(()),
        }
    }

    fn held_by(&mut self, by: &Claimant) -> Result<&mut TaskClaim, DeskError> {
        let task = self.new.id;
        self.claim.as_mut().filter(|claim| claim.by == *by).ok_or(DeskError::NotClaimed { task })
    }

    fn is_redrivable(&self, which: Redrivable) -> bool {
        match which {
            Redrivable::Asked => self.redrive == Redrive::Asked,
            Redrivable::Any => self.redrive != Redrive::No,
        }
    }

    fn task(&self, now: u64) -> Task {
        let new = &self.new;
        Task {
            id: new.id,
            state: self.state(now),
            feature: new.feature.clone(),
            session: new.session.clone(),
            tenant: new.tenant.clone(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            requires_human: new.requires_human,
            reason: new.reason.clone(),
            attempts: new.attempts.clone(),
            request: new.request.clone(),
            claim: self.claim.clone().filter(|claim| now < claim.until && self.answer.is_none()),
            answer: self.answer.clone(),
            deliveries: self.deliveries.clone(),
        }
    }

    fn summary(&self, now: u64) -> TaskSummary {
        let new = &self.new;
        TaskSummary {
            id: new.id,
            state: self.state(now),
            feature: new.feature.clone(),
            session: new.session.clone(),
            tenant: new.tenant.clone(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            reason: new.reason.clone(),
            claim: self.claim.clone().filter(|claim| now < claim.until && self.answer.is_none()),
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
                && tasks.known(same).is_ok_and(|entry| entry.state(now) != TaskState::Expired)
            {
                return Ok(same);
            }
            if tasks.by_id.len() >= max_tasks {
                let full = format!("{max_tasks} tasks are in memory; answer some, or raise `max_tasks`");
                return Err(StoreError::new(StoreErrorKind::Full, full).into());
            }
            if let Some(same) = &task.same_as {
                tasks.same.insert(same.clone(), id);
            }
            let told = task.notify.then(|| Delivery::new(id, DeliveryKind::Notification, None, now));
            let entry = Entry {
                preview: task.request.preview(PREVIEW),
                created_at: now,
                expires_at: now.saturating_add(millis(task.ttl)),
                claim: None,
                answer: None,
                redrive: if task.requires_human { Redrive::No } else { Redrive::Yes },
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
        self.with(|tasks, now| Ok(tasks.known(id)?.state(now)))
    }

    fn list(&self, filter: TaskFilter) -> TaskFuture<'_, Vec<TaskSummary>> {
        self.with(|tasks, now| {
            let fits = |entry: &&Entry| {
                let is = |asked: &Option<String>, has: &Option<String>| asked.is_none() || asked == has;
                is(&filter.feature, &entry.new.feature)
                    && is(&filter.tenant, &entry.new.tenant)
                    && filter.state.is_none_or(|state| state == entry.state(now))
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
                let state = entry.state(now);
                *stats.of(state) += 1;
                if state == TaskState::Waiting {
                    oldest = Some(oldest.map_or(entry.created_at, |oldest: u64| oldest.min(entry.created_at)));
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
            let entry = tasks.open(id, now)?;
            entry.free_for(&by, now)?;
            entry.claim = Some(TaskClaim::new(by, now.saturating_add(millis(visibility))));
            Ok(entry.task(now))
        })
    }

    fn renew(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, u64> {
        self.with(|tasks, now| {
            let entry = tasks.open(id, now)?;
            entry.free_for(&by, now)?;
            let claim = entry.held_by(&by)?;
            claim.until = now.saturating_add(millis(visibility));
            Ok(claim.until)
        })
    }

    fn release(&self, id: TaskId, by: Claimant, then: Release) -> TaskFuture<'_, ()> {
        self.with(|tasks, now| {
            let entry = tasks.open(id, now)?;
            entry.free_for(&by, now)?;
            entry.held_by(&by)?;
            entry.claim = None;
            if then == Release::ForPeople {
                entry.redrive = Redrive::No;
            }
            Ok(())
        })
    }

    fn claim_oldest(&self, by: Claimant, visibility: Duration, which: Redrivable) -> TaskFuture<'_, Option<Task>> {
        self.with(|tasks, now| {
            let free = |entry: &&mut Entry| entry.state(now) == TaskState::Waiting && entry.is_redrivable(which);
            let waiting = tasks.by_id.values_mut().filter(free);
            let Some(entry) = waiting.min_by_key(|entry| (entry.created_at, entry.new.id)) else { return Ok(None) };
            entry.claim = Some(TaskClaim::new(by, now.saturating_add(millis(visibility))));
            Ok(Some(entry.task(now)))
        })
    }

    fn ask_redrive(&self, id: Option<TaskId>) -> TaskFuture<'_, u64> {
        self.with(|tasks, now| {
            let Some(id) = id else {
                let open = tasks.by_id.values_mut().filter(|entry| entry.state(now).is_open());
                return Ok(open.map(|entry| entry.redrive = Redrive::Asked).count() as u64);
            };
            tasks.open(id, now)?.redrive = Redrive::Asked;
            Ok(1)
        })
    }

    fn answer(&self, id: TaskId, answer: NewAnswer, force: bool) -> TaskFuture<'_, Task> {
        self.with(|tasks, now| {
            if let Some(before) = &tasks.known(id)?.answer
                && (&before.by, &before.message) == (&answer.by, &answer.message)
            {
                return Ok(tasks.known(id)?.task(now));
            }
            let entry = tasks.open(id, now)?;
            if !force {
                entry.free_for(&answer.by, now)?;
            }
            entry.answer = Some(TaskAnswer::of(answer, now));
            if let Some(callback) = &entry.new.callback {
                let url = match callback {
                    Callback::Settings => None,
                    Callback::Url(url) => Some(url.clone()),
                };
                entry.deliveries.push(Delivery::new(id, DeliveryKind::Callback, url, now));
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
                delivery.next_at = Some(now.saturating_add(millis(lease)));
                delivery.clone()
            });
            Ok(taken.collect())
        })
    }

    fn settle(&self, delivery: Delivery, outcome: Settled) -> TaskFuture<'_, bool> {
        self.with(|tasks, now| {
            let Ok(entry) = tasks.known(delivery.task) else { return Ok(false) };
            let known = entry.deliveries.iter_mut().find(|known| {
                known.id == delivery.id && known.attempts == delivery.attempts && known.state == DeliveryState::Pending
            });
            let Some(known) = known else { return Ok(false) };
            (known.state, known.next_at, known.problem) = match outcome {
                Settled::Done => (DeliveryState::Done, None, None),
                Settled::Again { after, problem } => {
                    (DeliveryState::Pending, Some(now.saturating_add(millis(after))), Some(problem))
                }
                Settled::Dead { problem } => (DeliveryState::Dead, None, Some(problem)),
            };
            Ok(true)
        })
    }

    fn sweep(&self, keep: Duration) -> TaskFuture<'_, u64> {
        self.with(|tasks, now| {
            let before = now.saturating_sub(millis(keep));
            let over = tasks.by_id.values().filter(|entry| match &entry.answer {
                Some(answer) => answer.at < before,
                None => entry.expires_at < before,
            });
            let over: Vec<TaskId> = over.map(|entry| entry.new.id).take(SWEPT_AT_ONCE).collect();
            for id in &over {
                tasks.by_id.remove(id);
            }
            let by_id = &tasks.by_id;
            tasks.same.retain(|_, id| by_id.contains_key(id));
            Ok(over.len() as u64)
        })
    }
}

impl TaskStats {
    /// How many are in a state.
    pub(crate) fn of(&mut self, state: TaskState) -> &mut u64 {
        match state {
            TaskState::Waiting => &mut self.waiting,
            TaskState::Claimed => &mut self.claimed,
            TaskState::Redriving => &mut self.redriving,
            TaskState::Answered => &mut self.answered,
            TaskState::Expired => &mut self.expired,
        }
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
