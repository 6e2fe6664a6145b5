use std::fmt;

use serde::{Deserialize, Serialize};

use super::TaskId;

/// A message about a task: written down with the change that it reports, and sent until it arrives.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its name, the same for each attempt, by which a receiver recognises repeats.
    pub id: String,
    /// The task.
    pub task: TaskId,
    /// The kind of message.
    pub kind: DeliveryKind,
    /// The address, if it came with the request.
    #[serde(skip)]
    pub url: Option<String>,
    /// The progress.
    pub state: DeliveryState,
    /// The number of attempts.
    pub attempts: u32,
    /// The time of the next attempt, in Unix milliseconds.
    pub next_at: Option<u64>,
    /// The problem of the last attempt.
    pub problem: Option<String>,
}

impl Delivery {
    /// Creates a delivery without attempts.
    pub fn new(task: TaskId, kind: DeliveryKind, url: Option<String>, now: u64) -> Self {
        let id = format!("msg_{}_{}", task.to_string().trim_start_matches("task_"), kind.name());
        Self { id, task, kind, url, state: DeliveryState::Pending, attempts: 0, next_at: Some(now), problem: None }
    }
}

impl fmt::Debug for Delivery {
    /// Hides the address: it can contain a key.
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

/// The kind of message that a delivery carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryKind {
    /// Tells people that a task waits.
    Notification,
    /// Tells the caller that the task is answered.
    Callback,
}

impl DeliveryKind {
    /// Returns its name: `notification`, `callback`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Notification => "notification",
            Self::Callback => "callback",
        }
    }
}

/// The progress of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryState {
    /// It waits for an attempt.
    Pending,
    /// It has arrived.
    Done,
    /// It was given up.
    Dead,
}

impl DeliveryState {
    /// Returns its name: `pending`, `done`, `dead`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }
}
