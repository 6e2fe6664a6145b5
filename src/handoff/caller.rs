//! What a caller knows of a task.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the caller says of a request for whoever answers it, should it come to people: its own name for the task, and what it belongs
/// to. Put it on the request as an [extension](crate::LlmRequest::extension).
///
/// It is kept with the task as it is, shown to people beside the conversation, and given back with the
/// [result](super::TaskResult), in callbacks too. Models get nothing of it.
///
/// ```
/// use serde_json::json;
/// use steadfast::{LlmRequest, handoff::CallerTask};
///
/// let caller = CallerTask::new().id("ticket-17").context(json!({ "order": 4711, "step": "refund" }));
/// let request = LlmRequest::prompt("May this order be refunded?").extension(caller);
/// assert!(request.extensions().get::<CallerTask>().is_some());
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallerTask {
    /// The caller's own name for it.
    pub id: Option<String>,
    /// What it belongs to, in the caller's own form.
    pub context: Option<Value>,
}

impl CallerTask {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the caller's own name for the task. Default: none.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets what it belongs to. Default: nothing.
    #[must_use]
    pub fn context(mut self, context: impl Into<Value>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// As a store keeps it: without a character that no database takes.
    pub(crate) fn kept(&self) -> Self {
        let id = self.id.as_ref().map(|id| id.replace('\0', ""));
        Self { id, context: self.context.clone() }
    }

    /// How many bytes it takes, about.
    pub(crate) fn size(&self) -> usize {
        serde_json::to_vec(self).map_or(0, |bytes| bytes.len())
    }
}

impl fmt::Debug for CallerTask {
    /// Shows nothing of the context.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerTask").field("id", &self.id).finish_non_exhaustive()
    }
}
