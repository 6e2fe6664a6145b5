use std::{error::Error, fmt};

use super::{Claimant, TaskId, TaskLimit};
use crate::{internal::wall_clock, store::StoreError};

/// Why something was not done to a task. It holds no word of what was asked or answered.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeskError {
    /// There is no such task: there never was, or it has been swept out.
    Unknown {
        /// The name.
        task: TaskId,
    },
    /// It is answered. The first answer stands.
    AlreadyAnswered {
        /// The task.
        task: TaskId,
        /// Who answered.
        by: Claimant,
        /// When, in Unix milliseconds.
        at: u64,
    },
    /// Its time is over.
    Expired {
        /// The task.
        task: TaskId,
        /// Since when, in Unix milliseconds.
        at: u64,
    },
    /// Somebody else is at it.
    ClaimedByAnother {
        /// The task.
        task: TaskId,
        /// Who.
        by: Claimant,
        /// Until when, unless they renew their claim, in Unix milliseconds.
        until: u64,
    },
    /// It is not claimed, or not any more, by who wants to renew or release it.
    NotClaimed {
        /// The task.
        task: TaskId,
    },
    /// There is nothing in the answer, or no name of who gives it.
    Invalid {
        /// What is wrong.
        problem: &'static str,
    },
    /// It was not written down: there are as many as there may be, of all callers or of this one.
    LimitReached {
        /// Which of the limits.
        limit: TaskLimit,
        /// How much it allows.
        most: u64,
    },
    /// The store could not do it.
    Store(StoreError),
}

impl DeskError {
    /// A stable name in `snake_case`, for an API: `unknown_task`, `already_answered`, `expired`, `claimed_by_another`,
    /// `not_claimed`, `invalid`, `limit_reached`, `store`.
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
            Self::Unknown { task } => write!(f, "there is no task {task}: it never was, or it has been swept out"),
            Self::AlreadyAnswered { task, by, at } => {
                write!(f, "{task} was answered by {by} at {}; the first answer stands", date(*at))
            }
            Self::Expired { task, at } => write!(f, "{task} could be answered until {}", date(*at)),
            Self::ClaimedByAnother { task, by, until } => {
                write!(f, "{by} is at {task}, until {} if the claim is not renewed", date(*until))
            }
            Self::NotClaimed { task } => write!(f, "{task} is not claimed by you, or not any more: claim it again"),
            Self::Invalid { problem } => f.write_str(problem),
            Self::LimitReached { limit, most } => {
                write!(f, "{} (`handoff.limits.{}`)", limit.said(*most), limit.name())
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
                "there is no task task_00000000000000000000000007: it never was, or it has been swept out",
            ),
            (
                DeskError::AlreadyAnswered { task, by: ana(), at: 951_782_400_000 },
                "task_00000000000000000000000007 was answered by ana at 2000-02-29T00:00:00Z; the first answer stands",
            ),
            (
                DeskError::ClaimedByAnother { task, by: Claimant::redrive("1"), until: 951_782_400_000 },
                "a redrive is at task_00000000000000000000000007, until 2000-02-29T00:00:00Z if the claim is not renewed",
            ),
        ];
        for (error, text) in said {
            assert_eq!(error.to_string(), text);
        }
    }
}
