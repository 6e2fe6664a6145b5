//! Tasks for people, in the form in which reviewers see them.

mod conversation;

use std::time::Duration;

use serde::Serialize;
use steadfast_handoff::{Task, TaskSummary};
use steadfast_internal::wall_clock;

pub use self::conversation::{Conversation, Piece, Turn};

/// The longest answer that a reviewer may give, in bytes.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;
/// The longest name of a reviewer, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// A task and its conversation, for a reviewer to read.
#[derive(Debug, Serialize)]
pub struct TaskView<'a> {
    /// The task.
    #[serde(flatten)]
    pub task: &'a Task,
    /// The request as a conversation.
    pub conversation: Conversation,
    /// The answer's text.
    pub output: Option<String>,
}

impl<'a> TaskView<'a> {
    /// Creates the view of a task.
    pub fn new(task: &'a Task) -> Self {
        Self { task, conversation: Conversation::of(&task.request), output: task.result().output }
    }
}

/// Returns the time since a task was handed to people.
pub fn age(task: &TaskSummary) -> Duration {
    wall_clock::since_1970().saturating_sub(Duration::from_millis(task.created_at))
}
