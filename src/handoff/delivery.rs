use std::fmt;

use serde::{Deserialize, Serialize};

use super::TaskId;

/// Something that is told to others about a task: written down with what it tells, and sent until it has arrived.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Delivery {
    /// Its name, the same for each attempt: a receiver that has seen it has seen it all.
    pub id: String,
    /// The task.
    pub task: TaskId,
    /// What is told.
    pub kind: DeliveryKind,
    /// The address, where it came with the request.
    #[serde(skip)]
    pub url: Option<String>,
    /// How far it is.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, in Unix milliseconds.
    pub next_at: Option<u64>,
    /// What went wrong the last time.
    pub problem: Option<String>,
}

impl Delivery {
    /// One that nobody has tried yet.
    pub(crate) fn new(task: TaskId, kind: DeliveryKind, url: Option<String>, now: u64) -> Self {
        let id = format!("msg_{}_{}", task.to_string().trim_start_matches("task_"), kind.name());
        Self { id, task, kind, url, state: DeliveryState::Pending, attempts: 0, next_at: Some(now), problem: None }
    }
}

impl fmt::Debug for Delivery {
    /// An address can hold a key, so that it is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("state", &self.state)
            .field("attempts", &self.attempts)
            .field("problem", &self.problem)
            .finish_non_exhaustive()
    }
}

/// What a delivery tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryKind {
    /// People, that a task is there.
    Notification,
    /// Who asked, that it is answered.
    Callback,
}

impl DeliveryKind {
    /// Its name: `notification`, `callback`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Notification => "notification",
            Self::Callback => "callback",
        }
    }
}

/// How far a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryState {
    /// It is to be sent.
    Pending,
    /// It has arrived.
    Done,
    /// It was given up.
    Dead,
}

impl DeliveryState {
    /// Its name: `pending`, `done`, `dead`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }
}
