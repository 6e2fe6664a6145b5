use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

/// What happened to a request that was handed to people.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HandedOver {
    /// The task's id.
    pub task: Arc<str>,
    /// The feature that asked.
    pub feature: Option<Arc<str>>,
    /// What happened.
    pub step: HandoffStep,
    /// When.
    pub at: Instant,
}

/// A step of a request that was handed to people.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum HandoffStep {
    /// It was written down.
    Queued {
        /// Why, in one word: the kind of the first failure, `requires_human`, or another reason.
        reason: Arc<str>,
    },
    /// A person is at it.
    Claimed {
        /// Who.
        by: Arc<str>,
    },
    /// It goes back to the others.
    Released {
        /// Who was at it.
        by: Arc<str>,
    },
    /// A person answered it.
    Answered {
        /// Who.
        by: Arc<str>,
        /// How long after it was written down.
        after: Duration,
    },
    /// A model answered it, once it worked again.
    Redriven {
        /// The model.
        model: Option<Arc<str>>,
        /// How long after it was written down.
        after: Duration,
    },
    /// It was not written down: there are as many tasks as there may be.
    Refused {
        /// Which limit: `tasks`, `bytes`, `tasks_per_caller` or `bytes_per_caller`.
        limit: &'static str,
    },
    /// It was deleted at somebody's word.
    Forgotten {
        /// Who ordered it.
        by: Arc<str>,
    },
    /// Something that was to be told about it did not arrive and was given up.
    NotDelivered {
        /// What: `notification` or `callback`.
        kind: &'static str,
    },
}

impl HandoffStep {
    /// A stable name in `snake_case`, for logs and metric labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Claimed { .. } => "claimed",
            Self::Released { .. } => "released",
            Self::Answered { .. } => "answered",
            Self::Redriven { .. } => "redriven",
            Self::Refused { .. } => "refused",
            Self::Forgotten { .. } => "forgotten",
            Self::NotDelivered { .. } => "not_delivered",
        }
    }

    /// Why it was written down, or the limit by which it was not.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Queued { reason } => Some(reason),
            Self::Refused { limit } => Some(limit),
            _ => None,
        }
    }

    /// Who did it: a person, or a model.
    pub fn by(&self) -> Option<&str> {
        match self {
            Self::Claimed { by } | Self::Released { by } | Self::Answered { by, .. } | Self::Forgotten { by } => {
                Some(by)
            }
            Self::Redriven { model, .. } => model.as_deref(),
            Self::Queued { .. } | Self::Refused { .. } | Self::NotDelivered { .. } => None,
        }
    }

    /// How long after it was written down it was answered.
    pub fn after(&self) -> Option<Duration> {
        match self {
            Self::Answered { after, .. } | Self::Redriven { after, .. } => Some(*after),
            _ => None,
        }
    }
}

impl fmt::Display for HandedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = &self.task;
        match &self.step {
            HandoffStep::Queued { reason } => write!(f, "{task} waits for a person ({reason})"),
            HandoffStep::Claimed { by } => write!(f, "{by} is at {task}"),
            HandoffStep::Released { by } => write!(f, "{by} gave {task} back"),
            HandoffStep::Answered { by, after } => write!(f, "{by} answered {task} after {after:?}"),
            HandoffStep::Redriven { model: Some(model), after } => write!(f, "{model} answered {task} after {after:?}"),
            HandoffStep::Redriven { model: None, after } => write!(f, "a model answered {task} after {after:?}"),
            HandoffStep::Refused { limit } => {
                write!(f, "{task} was not handed over: `handoff.limits.{limit}` is reached")
            }
            HandoffStep::Forgotten { by } => write!(f, "{by} had {task} forgotten"),
            HandoffStep::NotDelivered { kind } => write!(f, "the {kind} of {task} did not arrive"),
        }
    }
}
