//! How much may be handed to people: a bound on what one caller can leave to all others.

use super::DeskError;

/// How many tasks there may be, and how many bytes they may take: of all callers, and of each.
///
/// Numbers of tasks are of those that may still be answered. Bytes are of all that are kept, answered and expired ones too
/// until they are [swept](super::Desk::keep) or [forgotten](super::Desk::forget). A caller is a task's
/// [tenant](super::Task::tenant); tasks of nobody count among all. Checked in the transaction that writes a task down: what
/// PostgreSQL is given at the same moment may exceed them by as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskLimits {
    /// How many may wait or be worked at. Default: 10,000.
    pub tasks: u64,
    /// How many bytes all that are kept may take. Default: 1 GiB.
    pub bytes: u64,
    /// How many of one caller may wait or be worked at. Default: 1,000.
    pub tasks_per_caller: u64,
    /// How many bytes those of one caller may take. Default: 100 MiB.
    pub bytes_per_caller: u64,
}

impl TaskLimits {
    /// Sets how many tasks may wait or be worked at. Default: 10,000.
    #[must_use]
    pub fn tasks(mut self, tasks: u64) -> Self {
        self.tasks = tasks;
        self
    }

    /// Sets how many bytes all tasks may take that are kept. Default: 1 GiB.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets how many tasks of one caller may wait or be worked at. Default: 1,000.
    #[must_use]
    pub fn tasks_per_caller(mut self, tasks: u64) -> Self {
        self.tasks_per_caller = tasks;
        self
    }

    /// Sets how many bytes the tasks of one caller may take. Default: 100 MiB.
    #[must_use]
    pub fn bytes_per_caller(mut self, bytes: u64) -> Self {
        self.bytes_per_caller = bytes;
        self
    }

    /// Whether a task of so many bytes finds room beside what there is.
    ///
    /// # Errors
    ///
    /// [`DeskError::LimitReached`]: it does not.
    pub(crate) fn admit(&self, bytes: u64, taken: &Taken) -> Result<(), DeskError> {
        let of_caller = taken.of_caller.unwrap_or_default();
        // The nearest to the caller first: it is the one that it can do something about.
        let reached = [
            (TaskLimit::TasksPerCaller, taken.of_caller.is_some(), of_caller.tasks + 1, self.tasks_per_caller),
            (TaskLimit::BytesPerCaller, taken.of_caller.is_some(), of_caller.bytes + bytes, self.bytes_per_caller),
            (TaskLimit::Tasks, true, taken.all.tasks + 1, self.tasks),
            (TaskLimit::Bytes, true, taken.all.bytes + bytes, self.bytes),
        ];
        match reached.into_iter().find(|(_, holds, wanted, most)| *holds && wanted > most) {
            Some((limit, _, _, most)) => Err(DeskError::LimitReached { limit, most }),
            None => Ok(()),
        }
    }
}

impl Default for TaskLimits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self { tasks: 10_000, bytes: 1024 * MIB, tasks_per_caller: 1000, bytes_per_caller: 100 * MIB }
    }
}

/// What there is already: of all callers, and of a task's own, where it has one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) all: Share,
    pub(crate) of_caller: Option<Share>,
}

/// Tasks that may still be answered, and the bytes of all that are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    pub(crate) tasks: u64,
    pub(crate) bytes: u64,
}

/// One of the [`TaskLimits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskLimit {
    /// The tasks of all callers.
    Tasks,
    /// The bytes of all callers' tasks.
    Bytes,
    /// The tasks of one caller.
    TasksPerCaller,
    /// The bytes of one caller's tasks.
    BytesPerCaller,
}

impl TaskLimit {
    /// A stable name in `snake_case`, which is that of its setting: `tasks`, `bytes`, `tasks_per_caller`,
    /// `bytes_per_caller`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Bytes => "bytes",
            Self::TasksPerCaller => "tasks_per_caller",
            Self::BytesPerCaller => "bytes_per_caller",
        }
    }

    /// Who has how many of what.
    pub(super) fn said(self, most: u64) -> String {
        match self {
            Self::Tasks => format!("{most} requests wait for people, which is as many as may"),
            Self::Bytes => format!("the requests that were handed to people may take {most} bytes, and they do"),
            Self::TasksPerCaller => format!("{most} requests of this caller wait for people, which is as many as may"),
            Self::BytesPerCaller => {
                format!("the requests of this caller that were handed to people may take {most} bytes, and they do")
            }
        }
    }
}
