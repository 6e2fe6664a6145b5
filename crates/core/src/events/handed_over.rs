use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

/// A step in the life of a request that was handed to people.
#[derive(Clone, Debug, PartialEq)]
pub struct HandedOver {
    /// The task's id.
    pub task: Arc<str>,
    /// The feature that made the request.
    pub feature: Option<Arc<str>>,
    /// The step.
    pub step: HandoffStep,
    /// The time of the step.
    pub at: Instant,
}

impl HandedOver {
    /// Creates a step of this moment.
    pub fn new(task: Arc<str>, feature: Option<Arc<str>>, step: HandoffStep) -> Self {
        Self { task, feature, step, at: Instant::now() }
    }
}

/// A step of a request that was handed to people.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum HandoffStep {
    /// The task was written down.
    Queued {
        /// The reason in one word: the kind of the first failure, `requires_human`, or another reason.
        reason: Arc<str>,
    },
    /// A person claimed the task.
    Claimed {
        /// The person.
        by: Arc<str>,
    },
    /// The task went back to the queue.
    Released {
        /// The person who had claimed it.
        by: Arc<str>,
    },
    /// A person answered the task.
    Answered {
        /// The person.
        by: Arc<str>,
        /// The time since the task was written down.
        after: Duration,
    },
    /// A model answered the task, once it worked again.
    Redriven {
        /// The model.
        model: Option<Arc<str>>,
        /// The time since the task was written down.
        after: Duration,
    },
    /// The task was not written down, because a limit on tasks was reached.
    Refused {
        /// The limit's name: `tasks`, `bytes`, `tasks_per_caller` or `bytes_per_caller`.
        limit: &'static str,
    },
    /// Someone had the task deleted.
    Forgotten {
        /// The person who ordered it.
        by: Arc<str>,
    },
    /// A message about the task did not arrive and was given up.
    NotDelivered {
        /// The kind of message: `notification` or `callback`.
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

    /// Returns the reason for which the task was written down, or the limit that prevented it.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Queued { reason } => Some(reason),
            Self::Refused { limit } => Some(limit),
            _ => None,
        }
    }

    /// Returns who took the step: a person, or a model.
    pub fn by(&self) -> Option<&str> {
        match self {
            Self::Claimed { by } | Self::Released { by } | Self::Answered { by, .. } | Self::Forgotten { by } => {
                Some(by)
            }
            Self::Redriven { model, .. } => model.as_deref(),
            Self::Queued { .. } | Self::Refused { .. } | Self::NotDelivered { .. } => None,
        }
    }

    /// Returns the time between writing the task down and its answer.
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
            HandoffStep::Claimed { by } => write!(f, "{by} claimed {task}"),
            HandoffStep::Released { by } => write!(f, "{by} released {task}"),
            HandoffStep::Answered { by, after } => write!(f, "{by} answered {task} after {after:?}"),
            HandoffStep::Redriven { model: Some(model), after } => write!(f, "{model} answered {task} after {after:?}"),
            HandoffStep::Redriven { model: None, after } => write!(f, "a model answered {task} after {after:?}"),
            HandoffStep::Refused { limit } => {
                write!(f, "{task} was not handed over: `handoff.limits.{limit}` is reached")
            }
            HandoffStep::Forgotten { by } => write!(f, "{by} deleted {task}"),
            HandoffStep::NotDelivered { kind } => write!(f, "the {kind} of {task} did not arrive"),
        }
    }
}
