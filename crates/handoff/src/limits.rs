//! Limits on handed-over tasks: a bound on how much one caller can leave for all others.

use super::{DeskError, TaskLimit};

/// The number and size of tasks, in all and for each caller.
///
/// A count covers tasks that can still be answered. A size covers all tasks that are kept, answered and expired ones
/// too until they are [swept](super::Desk::keep) or [forgotten](super::Desk::forget). A caller is a task's
/// [tenant](super::Task::tenant); a task without one counts only in the totals. The transaction that writes a task down
/// checks them; concurrent transactions of PostgreSQL may exceed them by their own tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskLimits {
    /// The number of tasks that may be open. Default: 10,000.
    pub tasks: u64,
    /// The size of all kept tasks in bytes. Default: 1 GiB.
    pub bytes: u64,
    /// The number of one caller's tasks that may be open. Default: 1,000.
    pub tasks_per_caller: u64,
    /// The size of one caller's tasks in bytes. Default: 100 MiB.
    pub bytes_per_caller: u64,
}

impl TaskLimits {
    /// Sets the number of tasks that may be open. Default: 10,000.
    #[must_use]
    pub fn tasks(mut self, tasks: u64) -> Self {
        self.tasks = tasks;
        self
    }

    /// Sets the size of all kept tasks in bytes. Default: 1 GiB.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets the number of one caller's tasks that may be open. Default: 1,000.
    #[must_use]
    pub fn tasks_per_caller(mut self, tasks: u64) -> Self {
        self.tasks_per_caller = tasks;
        self
    }

    /// Sets the size of one caller's tasks in bytes. Default: 100 MiB.
    #[must_use]
    pub fn bytes_per_caller(mut self, bytes: u64) -> Self {
        self.bytes_per_caller = bytes;
        self
    }

    /// Checks that a task of this size fits beside the present ones.
    ///
    /// # Errors
    ///
    /// Returns [`DeskError::LimitReached`] if it does not fit.
    pub fn admit(&self, bytes: u64, taken: &TaskUsage) -> Result<(), DeskError> {
        let of_caller = taken.of_caller.unwrap_or_default();
        // The caller's own limits come first: the caller can do something about those.
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

/// The present tasks: in all, and of one caller, if the task has a caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskUsage {
    /// Of all callers.
    pub all: UsageTotals,
    /// Of the task's caller.
    pub of_caller: Option<UsageTotals>,
}

/// The number of open tasks, and the bytes of all kept tasks.
#[derive(Clone, Copy, Debug, Default)]
pub struct UsageTotals {
    /// The open tasks.
    pub tasks: u64,
    /// The bytes of all kept tasks.
    pub bytes: u64,
}
