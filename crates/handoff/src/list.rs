use std::fmt;

use serde::{Deserialize, Serialize};

use super::{TaskClaim, TaskId, TaskState};

/// An entry of a list of tasks.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// The task's id.
    pub id: TaskId,
    /// Its state.
    pub state: TaskState,
    /// The product's feature that made the request.
    pub feature: Option<String>,
    /// The session that the request belongs to.
    pub session: Option<String>,
    /// The request's tenant.
    pub tenant: Option<String>,
    /// The creation time, in Unix milliseconds.
    pub created_at: u64,
    /// The end of the time for an answer.
    pub expires_at: u64,
    /// The reason for which it was handed over.
    pub reason: String,
    /// The claim, if it is claimed.
    pub claim: Option<TaskClaim>,
    /// The time of the answer.
    pub answered_at: Option<u64>,
    /// The beginning of the request's text: 200 characters at most.
    pub preview: String,
}

impl fmt::Debug for TaskSummary {
    /// Hides the request's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSummary")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("feature", &self.feature)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// A selection of tasks, and their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskFilter {
    /// Only tasks in this state.
    pub state: Option<TaskState>,
    /// Only tasks of this feature.
    pub feature: Option<String>,
    /// Only tasks of this tenant.
    pub tenant: Option<String>,
    /// The largest number of tasks. Default: 50; at most 1,000.
    pub limit: Option<usize>,
    /// Only tasks after this one in the order: the last of the page before.
    pub after: Option<TaskId>,
    /// True for the oldest first. Default: the newest first.
    pub oldest_first: bool,
}

impl TaskFilter {
    /// Creates a filter for all tasks, the newest first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects only tasks in this state.
    #[must_use]
    pub fn state(mut self, state: TaskState) -> Self {
        self.state = Some(state);
        self
    }

    /// Selects only tasks of this feature.
    #[must_use]
    pub fn feature(mut self, feature: impl Into<String>) -> Self {
        self.feature = Some(feature.into());
        self
    }

    /// Selects only tasks of this tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Sets the largest number of tasks. Default: 50; at most 1,000.
    #[must_use]
    pub fn limit(mut self, tasks: usize) -> Self {
        self.limit = Some(tasks);
        self
    }

    /// Selects only tasks after this one in the order: the last of the page before.
    #[must_use]
    pub fn after(mut self, task: TaskId) -> Self {
        self.after = Some(task);
        self
    }

    /// Lists the oldest first. Default: the newest first.
    #[must_use]
    pub fn oldest_first(mut self) -> Self {
        self.oldest_first = true;
        self
    }

    /// Returns the largest number of listed tasks.
    pub fn rows(&self) -> usize {
        self.limit.unwrap_or(50).clamp(1, 1000)
    }
}

/// The number of tasks by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskStats {
    /// Tasks without a claim.
    pub waiting: u64,
    /// Tasks that a person has claimed.
    pub claimed: u64,
    /// Tasks that a model works on again.
    pub redriving: u64,
    /// Answered tasks that are still kept.
    pub answered: u64,
    /// Tasks that expired without an answer and are still kept.
    pub expired: u64,
    /// The age of the oldest open task, in milliseconds.
    pub oldest_waiting_ms: Option<u64>,
    /// Deliveries that are not done yet.
    pub deliveries_pending: u64,
    /// Deliveries that were given up.
    pub deliveries_dead: u64,
}

impl TaskStats {
    /// Returns the count of a state.
    pub fn of(&mut self, state: TaskState) -> &mut u64 {
        match state {
            TaskState::Waiting => &mut self.waiting,
            TaskState::Claimed => &mut self.claimed,
            TaskState::Redriving => &mut self.redriving,
            TaskState::Answered => &mut self.answered,
            TaskState::Expired => &mut self.expired,
        }
    }
}
