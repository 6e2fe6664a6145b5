use std::{future::Future, pin::Pin, time::Duration};

use super::{
    Claimant, Delivery, DeliveryState, DeskError, NewAnswer, NewTask, Task, TaskFilter, TaskId, TaskState, TaskStats,
    TaskSummary,
};

/// The future of a store's operation.
pub type TaskFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, DeskError>> + Send + 'a>>;

/// A store of tasks.
///
/// Each method is one transaction. A method may be called again after it failed or was dropped halfway, when it may or
/// may not have taken effect. Time is the store's own clock, so the clocks of two processes need not agree: callers
/// pass durations.
///
/// A task that cannot be read (a damaged row) is an error for that task, and does not affect others.
pub trait TaskStore: Send + Sync + 'static {
    /// Returns whether a task outlives the process, and a loss of power, once [`insert`](Self::insert) has returned.
    fn is_durable(&self) -> bool;

    /// Returns the longest time that a caller waits for a task to be written down, unless the desk [sets
    /// another](super::Desk::store_timeout). Default: 5 seconds; a server that may hang returns less.
    fn call_timeout(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// Writes a task down, with its notification if [there is to be one](NewTask::notify): durably before it returns,
    /// and all or nothing. Returns the task's id.
    ///
    /// A repeat with the same id changes nothing. A task that is the [same as](NewTask::same_as) another answered or
    /// open one is not written, and the other's id is returned. Any other task must fit within its
    /// [limits](NewTask::limits), or is refused with [`LimitReached`](DeskError::LimitReached).
    fn insert(&self, task: NewTask) -> TaskFuture<'_, TaskId>;

    /// Returns a whole task, or [`Unknown`](DeskError::Unknown).
    fn get(&self, id: TaskId) -> TaskFuture<'_, Task>;

    /// Returns a task's state cheaply, or [`Unknown`](DeskError::Unknown).
    fn state(&self, id: TaskId) -> TaskFuture<'_, TaskState>;

    /// Returns the tasks that match the filter, in the order of their ids and so of their creation. Damaged rows are
    /// left out.
    fn list(&self, filter: TaskFilter) -> TaskFuture<'_, Vec<TaskSummary>>;

    /// Returns the number of tasks by state.
    fn stats(&self) -> TaskFuture<'_, TaskStats>;

    /// Claims a task for this time. Of all concurrent claimants in all processes, one succeeds. The holder renews its
    /// claim. An expired claim can be taken by anyone.
    ///
    /// Returns [`ClaimedByAnother`](DeskError::ClaimedByAnother), [`AlreadyAnswered`](DeskError::AlreadyAnswered),
    /// [`Expired`](DeskError::Expired) or [`Unknown`](DeskError::Unknown), and then changes nothing.
    fn claim(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, Task>;

    /// Extends a claim to this time from now, and returns its end in Unix milliseconds. An expired claim that no other
    /// holder has taken is given again. Returns the errors of [`claim`](Self::claim), and
    /// [`NotClaimed`](DeskError::NotClaimed).
    fn renew(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, u64>;

    /// Releases a claim, also an expired one. Otherwise returns the errors of [`renew`](Self::renew).
    fn release(&self, id: TaskId, by: Claimant, then: Release) -> TaskFuture<'_, ()>;

    /// Claims the oldest waiting task that may be [redriven](RedriveScope), like [`claim`](Self::claim). Returns `None`
    /// if there is none. Concurrent callers get different tasks.
    fn claim_oldest(&self, by: Claimant, visibility: Duration, which: RedriveScope) -> TaskFuture<'_, Option<Task>>;

    /// Orders a redrive of one task, or of all open ones, and returns their number.
    /// [`claim_oldest`](Self::claim_oldest) then finds them regardless of an earlier release for people. For one task
    /// it returns the errors of [`claim`](Self::claim), except that the task may be claimed.
    fn order_redrive(&self, id: Option<TaskId>) -> TaskFuture<'_, u64>;

    /// Writes an answer down, once: with the callback if [there is to be one](NewTask::callback), durably and all or
    /// nothing. Returns the task as it is now.
    ///
    /// The task need not be claimed, but no other claimant may hold it, unless `force` is true. Returns the errors of
    /// [`claim`](Self::claim). The same answer again, by the same claimant, counts as a repeat of a successful call: it
    /// changes nothing, and is no error.
    fn answer(&self, id: TaskId, answer: NewAnswer, force: bool) -> TaskFuture<'_, Task>;

    /// Returns the oldest due deliveries, up to the limit, and counts an attempt for each. They are due again after the
    /// lease, unless they are [settled](Self::settle) before: an attempt under way when a process ends is repeated.
    /// Concurrent callers get different ones.
    fn due(&self, limit: usize, lease: Duration) -> TaskFuture<'_, Vec<Delivery>>;

    /// Records the outcome of a delivery that was [due](Self::due). Returns false, and changes nothing, if it was tried
    /// again meanwhile or is settled.
    fn settle(&self, delivery: Delivery, outcome: DeliveryOutcome) -> TaskFuture<'_, bool>;

    /// Deletes these tasks whatever their state, with their deliveries, requests and answers. Returns their number.
    fn forget(&self, which: TaskScope) -> TaskFuture<'_, u64>;

    /// Removes tasks that were answered, or expired, longer ago than this, with their deliveries. Returns their number;
    /// at 1,000 there may be more.
    fn sweep(&self, keep: Duration) -> TaskFuture<'_, u64>;
}

/// The tasks to [forget](TaskStore::forget).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskScope {
    /// One task.
    Task(TaskId),
    /// All tasks of a session. Callers name their sessions, so two callers may use the same name.
    Session {
        /// The session.
        session: String,
        /// The session's tenant; `None` means any.
        tenant: Option<String>,
    },
    /// All tasks of a caller: a tenant, or a gateway's key.
    Tenant(String),
}

impl TaskScope {
    /// Returns a stable name in `snake_case`: `task`, `session`, `tenant`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Task(_) => "task",
            Self::Session { .. } => "session",
            Self::Tenant(_) => "tenant",
        }
    }

    /// Returns a task's required id, session and tenant; `None` matches all.
    pub fn columns(&self) -> (Option<String>, Option<&str>, Option<&str>) {
        match self {
            Self::Task(id) => (Some(id.to_string()), None, None),
            Self::Session { session, tenant } => (None, Some(session), tenant.as_deref()),
            Self::Tenant(tenant) => (None, None, Some(tenant)),
        }
    }
}

/// The state of a task after its release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Release {
    /// Any claimant may take it, as before.
    #[default]
    Free,
    /// It waits for a person: no redrive takes it without an order.
    ForPeople,
}

/// The tasks that may be redriven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedriveScope {
    /// Tasks with an [order](TaskStore::order_redrive).
    Ordered,
    /// All tasks, except those that require a person or were [released for one](Release::ForPeople) and have no order.
    All,
}

impl RedriveScope {
    /// The stored value of a task that waits for a person.
    pub const NO: i64 = 0;

    /// Returns the smallest stored value of the matching tasks.
    pub fn least(self) -> i64 {
        match self {
            Self::All => 1,
            Self::Ordered => 2,
        }
    }

    /// Returns the stored value of a new task.
    pub fn initial(requires_human: bool) -> i64 {
        if requires_human { Self::NO } else { Self::All.least() }
    }
}

/// The outcome of a delivery's attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryOutcome {
    /// It has arrived.
    Done,
    /// It failed and is tried again after this time.
    Again {
        /// The time until the next attempt.
        after: Duration,
        /// The problem.
        problem: String,
    },
    /// It was given up.
    Dead {
        /// The problem.
        problem: String,
    },
}

impl DeliveryOutcome {
    /// Returns the stored values: the state, the time until the next attempt, and the problem.
    pub fn columns(self) -> (DeliveryState, Option<Duration>, Option<String>) {
        match self {
            Self::Done => (DeliveryState::Done, None, None),
            Self::Again { after, problem } => (DeliveryState::Pending, Some(after), Some(problem)),
            Self::Dead { problem } => (DeliveryState::Dead, None, Some(problem)),
        }
    }
}
