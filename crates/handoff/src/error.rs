use std::{error::Error, fmt};

use super::{Claimant, TaskId, TaskLimit};
use steadfast::store::StoreError;
use steadfast_internal::wall_clock;

/// The reason for which an operation on a task failed. It contains no word of the request or the answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeskError {
    /// The task does not exist: it never did, or it has been removed.
    Unknown {
        /// The task.
        task: TaskId,
    },
    /// The task is answered already. The first answer stands.
    AlreadyAnswered {
        /// The task.
        task: TaskId,
        /// The person or redrive that answered.
        by: Claimant,
        /// The time of the answer, in Unix milliseconds.
        at: u64,
    },
    /// The task's time is over.
    Expired {
        /// The task.
        task: TaskId,
        /// The time of its expiry, in Unix milliseconds.
        at: u64,
    },
    /// Another person or redrive has claimed the task.
    ClaimedByAnother {
        /// The task.
        task: TaskId,
        /// The holder of the claim.
        by: Claimant,
        /// The end of the claim unless it is renewed, in Unix milliseconds.
        until: u64,
    },
    /// The caller of renew or release does not hold a claim, or not any more.
    NotClaimed {
        /// The task.
        task: TaskId,
    },
    /// The answer or the person's name is empty.
    Invalid {
        /// The problem.
        problem: &'static str,
    },
    /// The task was not written down, because a limit of all callers or of this one is reached.
    LimitReached {
        /// The limit.
        limit: TaskLimit,
        /// Its value.
        most: u64,
    },
    /// The store failed.
    Store(StoreError),
}

impl DeskError {
    /// Returns a stable name in `snake_case`, for an API: `unknown_task`, `already_answered`, `expired`,
    /// `claimed_by_another`, `not_claimed`, `invalid`, `limit_reached`, `store`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown_task",
            Self::AlreadyAnswered { .. } => "already_answered",
            Self::Expired { .. } => "expired",
            Self::ClaimedByAnother { .. } => "claimed_by_another",
            Self::NotClaimed { .. } => "not_claimed",
            Self::Invalid { .. } => "invalid",
            Self::LimitReached { .. } => "limit_reached",
            Self::Store(_) => "store",
        }
    }
}

fn date(unix_ms: u64) -> String {
    wall_clock::rfc3339(std::time::Duration::from_millis(unix_ms))
}

impl fmt::Display for DeskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { task } => write!(f, "unknown task {task}: it never existed, or it has been removed"),
            Self::AlreadyAnswered { task, by, at } => {
                write!(f, "{task} was answered by {by} at {}; the first answer stands", date(*at))
            }
            Self::Expired { task, at } => write!(f, "{task} expired at {}", date(*at)),
            Self::ClaimedByAnother { task, by, until } => {
                write!(f, "{task} is claimed by {by} until {} unless the claim is renewed", date(*until))
            }
            Self::NotClaimed { task } => write!(f, "you hold no claim on {task}; claim it again"),
            Self::Invalid { problem } => f.write_str(problem),
            Self::LimitReached { limit, most } => {
                write!(f, "{} (`handoff.limits.{}`)", limit.sentence(*most), limit.name())
            }
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl Error for DeskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            _ => None,
        }
    }
}

impl From<StoreError> for DeskError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_is_the_matter_in_one_sentence() {
        let task: TaskId = "task_00000000000000000000000007".parse().unwrap();
        let ana = || Claimant::person("ana");
        let said = [
            (
                DeskError::Unknown { task },
                "unknown task task_00000000000000000000000007: it never existed, or it has been removed",
            ),
            (
                DeskError::AlreadyAnswered { task, by: ana(), at: 951_782_400_000 },
                "task_00000000000000000000000007 was answered by ana at 2000-02-29T00:00:00Z; the first answer stands",
            ),
            (
                DeskError::ClaimedByAnother { task, by: Claimant::redrive("1"), until: 951_782_400_000 },
                "task_00000000000000000000000007 is claimed by a redrive until 2000-02-29T00:00:00Z unless the claim is renewed",
            ),
        ];
        for (error, text) in said {
            assert_eq!(error.to_string(), text);
        }
    }
}
