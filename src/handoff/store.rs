use std::{future::Future, pin::Pin, time::Duration};

use super::{
    Claimant, Delivery, DeliveryState, DeskError, NewAnswer, NewTask, Task, TaskFilter, TaskId, TaskState, TaskStats,
    TaskSummary,
};

/// What a store of tasks does, under way.
pub type TaskFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, DeskError>> + Send + 'a>>;

/// Where tasks are written down.
///
/// Each method is one transaction. Every method may be called again after it failed or was dropped half-way, when it
/// may or may not have taken effect. Time is the store's own clock, so that the clocks of two processes need not agree:
/// what it is given are spans.
///
/// What cannot be read of one task (a damaged row) is an error for that task, and stands in the way of no other.
pub trait TaskStore: Send + Sync + 'static {
    /// Whether a task outlives the process once [`insert`](Self::insert) has returned, and a loss of power.
    fn is_durable(&self) -> bool;

    /// How long a caller waits at the most for a task to be written down, unless the desk
    /// [says otherwise](super::Desk::store_timeout). Default: 5 seconds; a server that may hang says less.
    fn patience(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// Writes a task down, with the notification of it where it [is to be told](NewTask::notify): durably, before it
    /// returns, and wholly or not at all. Gives the task's id.
    ///
    /// The same id again changes nothing. A task that is the [same as](NewTask::same_as) another which is answered or
    /// may be yet is not written: the other's id is given. Any other must find room within its
    /// [limits](NewTask::limits), or is refused with [`LimitReached`](DeskError::LimitReached).
    fn insert(&self, task: NewTask) -> TaskFuture<'_, TaskId>;

    /// The whole of a task. [`Unknown`](DeskError::Unknown) where there is none.
    fn get(&self, id: TaskId) -> TaskFuture<'_, Task>;

    /// How far a task is, at little cost. [`Unknown`](DeskError::Unknown) where there is none.
    fn state(&self, id: TaskId) -> TaskFuture<'_, TaskState>;

    /// The tasks that the filter describes, in the order of their ids, which is that of when they were made. Damaged
    /// rows are left out.
    fn list(&self, filter: TaskFilter) -> TaskFuture<'_, Vec<TaskSummary>>;

    /// How much there is to do.
    fn stats(&self) -> TaskFuture<'_, TaskStats>;

    /// Claims a task for this time, so that of all who claim it at once, in all processes, one has it. Who has it
    /// already renews the claim. A claim whose time is over may be taken by anybody.
    ///
    /// [`ClaimedByAnother`](DeskError::ClaimedByAnother), [`AlreadyAnswered`](DeskError::AlreadyAnswered),
    /// [`Expired`](DeskError::Expired), [`Unknown`](DeskError::Unknown): nothing is changed.
    fn claim(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, Task>;

    /// Lengthens a claim to this time from now, and says until when it is, in Unix milliseconds. One that is over and
    /// that nobody has taken is given again. Errors as of [`claim`](Self::claim), and
    /// [`NotClaimed`](DeskError::NotClaimed).
    fn renew(&self, id: TaskId, by: Claimant, visibility: Duration) -> TaskFuture<'_, u64>;

    /// Gives a claim back. Errors as of [`renew`](Self::renew), but that a claim which is over is given back too.
    fn release(&self, id: TaskId, by: Claimant, then: Release) -> TaskFuture<'_, ()>;

    /// Claims the oldest task that waits and may be [redriven](Redrivable), like [`claim`](Self::claim). `None` where
    /// there is none. Those who ask at once get different tasks.
    fn claim_oldest(&self, by: Claimant, visibility: Duration, which: Redrivable) -> TaskFuture<'_, Option<Task>>;

    /// Asks for a task to be redriven, or for all that may still be answered: then [`claim_oldest`](Self::claim_oldest)
    /// finds it whatever was said of it before. Says of how many. Of one: errors as of [`claim`](Self::claim), but that
    /// it may be claimed.
    fn ask_redrive(&self, id: Option<TaskId>) -> TaskFuture<'_, u64>;

    /// Writes an answer down, once: with the callback, where there is [to be one](NewTask::callback), durably and
    /// wholly or not at all. Gives the task as it is now.
    ///
    /// Who answers need not have claimed the task, but nobody else may have, unless it is forced. Errors as of
    /// [`claim`](Self::claim). The same answer again, by the same, is taken for a repeat of a call that has succeeded:
    /// it changes nothing, and is no error.
    fn answer(&self, id: TaskId, answer: NewAnswer, force: bool) -> TaskFuture<'_, Task>;

    /// So many deliveries that are due, the oldest first, each counted as tried. They are due again after this time,
    /// unless they are [settled](Self::settle) before: what was under way when a process ended is sent again. Those who
    /// ask at once get different ones.
    fn due(&self, limit: usize, lease: Duration) -> TaskFuture<'_, Vec<Delivery>>;

    /// Says what became of a delivery that was [due](Self::due). `false` where it was tried again meanwhile or is
    /// settled: nothing is changed.
    fn settle(&self, delivery: Delivery, outcome: Settled) -> TaskFuture<'_, bool>;

    /// Removes these tasks whatever their state, with their deliveries and all that was asked and answered. Says how many
    /// there were.
    fn forget(&self, which: TaskScope) -> TaskFuture<'_, u64>;

    /// Removes tasks that were answered, or expired, longer ago than this, with their deliveries. Says how many; where
    /// it says 1,000, there may be more.
    fn sweep(&self, keep: Duration) -> TaskFuture<'_, u64>;
}

/// Which tasks are [forgotten](TaskStore::forget).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskScope {
    /// One task.
    Task(TaskId),
    /// All of a session: callers name their sessions themselves, so that two may have one of the same name.
    Session {
        /// The session.
        session: String,
        /// Whose it is; `None`: whoever's.
        tenant: Option<String>,
    },
    /// All of a caller: a tenant, or a gateway's key.
    Tenant(String),
}

impl TaskScope {
    /// A stable name in `snake_case`: `task`, `session`, `tenant`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Task(_) => "task",
            Self::Session { .. } => "session",
            Self::Tenant(_) => "tenant",
        }
    }

    /// What a task must be to be among them; what is `None` says nothing.
    pub(crate) fn columns(&self) -> (Option<String>, Option<&str>, Option<&str>) {
        match self {
            Self::Task(id) => (Some(id.to_string()), None, None),
            Self::Session { session, tenant } => (None, Some(session), tenant.as_deref()),
            Self::Tenant(tenant) => (None, None, Some(tenant)),
        }
    }
}

/// What becomes of a task that is given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Release {
    /// Anybody may take it, as before.
    #[default]
    Free,
    /// It waits for a person: no model is to be asked again by itself.
    ForPeople,
}

/// Which tasks are redriven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Redrivable {
    /// Those for which it was [asked](TaskStore::ask_redrive).
    Asked,
    /// All, but those that require a person or were [given back for one](Release::ForPeople), unless it was asked for.
    Any,
}

impl Redrivable {
    /// What a store notes of a task that waits for a person.
    pub(crate) const NO: i64 = 0;

    /// What a store notes of the tasks that are found, at the least.
    pub(crate) fn least(self) -> i64 {
        match self {
            Self::Any => 1,
            Self::Asked => 2,
        }
    }

    /// What a store notes of a new task.
    pub(crate) fn at_first(requires_human: bool) -> i64 {
        if requires_human { Self::NO } else { Self::Any.least() }
    }
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// It has arrived.
    Done,
    /// It is to be tried again after this time.
    Again {
        /// After how long.
        after: Duration,
        /// What went wrong.
        problem: String,
    },
    /// It is given up.
    Dead {
        /// What went wrong.
        problem: String,
    },
}

impl Settled {
    /// What a store notes: how far the delivery is, after which time it is tried again, and what went wrong.
    pub(crate) fn columns(self) -> (DeliveryState, Option<Duration>, Option<String>) {
        match self {
            Self::Done => (DeliveryState::Done, None, None),
            Self::Again { after, problem } => (DeliveryState::Pending, Some(after), Some(problem)),
            Self::Dead { problem } => (DeliveryState::Dead, None, Some(problem)),
        }
    }
}
