//! A limit on handed-over tasks.

/// A limit of [`TaskLimits`](super::TaskLimits).
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
    /// Returns a stable name in `snake_case`, the name of its setting: `tasks`, `bytes`, `tasks_per_caller`,
    /// `bytes_per_caller`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Bytes => "bytes",
            Self::TasksPerCaller => "tasks_per_caller",
            Self::BytesPerCaller => "bytes_per_caller",
        }
    }

    /// Returns a sentence on the limit and its value.
    pub(super) fn sentence(self, most: u64) -> String {
        match self {
            Self::Tasks => format!("the limit of {most} requests that wait for people is reached"),
            Self::Bytes => format!("the limit of {most} bytes for requests to people is reached"),
            Self::TasksPerCaller => {
                format!("the limit of {most} requests of one caller that wait for people is reached")
            }
            Self::BytesPerCaller => {
                format!("the limit of {most} bytes for one caller's requests to people is reached")
            }
        }
    }
}
