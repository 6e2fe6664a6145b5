use std::fmt;

use serde::{Deserialize, Serialize};

use super::{TaskClaim, TaskId, TaskState};

/// A task in a list.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskSummary {
    /// Its name.
    pub id: TaskId,
    /// How far it is.
    pub state: TaskState,
    /// The product's feature that asked.
    pub feature: Option<String>,
    /// The session that the request belongs to.
    pub session: Option<String>,
    /// Whose request it is.
    pub tenant: Option<String>,
    /// When it was written down, in Unix milliseconds.
    pub created_at: u64,
    /// Until when it may be answered.
    pub expires_at: u64,
    /// Why it was handed over.
    pub reason: String,
    /// Who is at it.
    pub claim: Option<TaskClaim>,
    /// When it was answered.
    pub answered_at: Option<u64>,
    /// The beginning of what was asked: 200 characters at most.
    pub preview: String,
}

impl fmt::Debug for TaskSummary {
    /// Shows nothing of what is asked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSummary")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("feature", &self.feature)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// Which tasks are listed, and in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskFilter {
    /// Those in this state only.
    pub state: Option<TaskState>,
    /// Those of this feature only.
    pub feature: Option<String>,
    /// Those of this tenant only.
    pub tenant: Option<String>,
    /// So many at most. Default: 50; at most 1,000.
    pub limit: Option<usize>,
    /// Those that come after this one in the order: the last of the page before.
    pub after: Option<TaskId>,
    /// The oldest first. Default: the newest first.
    pub oldest_first: bool,
}

impl TaskFilter {
    /// All tasks, the newest first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those in this state only.
    #[must_use]
    pub fn state(mut self, state: TaskState) -> Self {
        self.state = Some(state);
        self
    }

    /// Those of this feature only.
    #[must_use]
    pub fn feature(mut self, feature: impl Into<String>) -> Self {
        self.feature = Some(feature.into());
        self
    }

    /// Those of this tenant only.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// So many at most. Default: 50; at most 1,000.
    #[must_use]
    pub fn limit(mut self, tasks: usize) -> Self {
        self.limit = Some(tasks);
        self
    }

    /// Those that come after this one in the order: the last of the page before.
    #[must_use]
    pub fn after(mut self, task: TaskId) -> Self {
        self.after = Some(task);
        self
    }

    /// The oldest first. Default: the newest first.
    #[must_use]
    pub fn oldest_first(mut self) -> Self {
        self.oldest_first = true;
        self
    }

    /// How many are listed at most.
    pub fn rows(&self) -> usize {
        self.limit.unwrap_or(50).clamp(1, 1000)
    }
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskStats {
    /// Tasks that nobody is at.
    pub waiting: u64,
    /// Tasks that a person is at.
    pub claimed: u64,
    /// Tasks for which a model is asked once more.
    pub redriving: u64,
    /// Answered tasks that are still kept.
    pub answered: u64,
    /// Tasks that were not answered in their time and are still kept.
    pub expired: u64,
    /// How long the oldest task has been waiting that may still be answered, in milliseconds.
    pub oldest_waiting_ms: Option<u64>,
    /// Deliveries that are not done yet.
    pub deliveries_pending: u64,
    /// Deliveries that were given up.
    pub deliveries_dead: u64,
}

impl TaskStats {
    /// How many are in a state.
    pub(crate) fn of(&mut self, state: TaskState) -> &mut u64 {
        match state {
            TaskState::Waiting => &mut self.waiting,
            TaskState::Claimed => &mut self.claimed,
            TaskState::Redriving => &mut self.redriving,
            TaskState::Answered => &mut self.answered,
            TaskState::Expired => &mut self.expired,
        }
    }
}
