//! The caller's own data about a task.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The caller's own name for a task and its context, in case a person answers the request. Put it on the request as an
/// [extension](steadfast::LlmRequest::with_extension).
///
/// The store keeps it with the task unchanged. People see it beside the conversation, and the
/// [result](super::TaskResult) returns it, in callbacks too. Models do not receive it.
///
/// ```
/// use serde_json::json;
/// use steadfast::LlmRequest;
/// use steadfast_handoff::CallerTask;
///
/// let caller = CallerTask::new().id("ticket-17").context(json!({ "order": 4711, "step": "refund" }));
/// let request = LlmRequest::prompt("May this order be refunded?").with_extension(caller);
/// assert!(request.extensions().get::<CallerTask>().is_some());
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallerTask {
    /// The caller's own name for the task.
    pub id: Option<String>,
    /// The task's context, in the caller's own form.
    pub context: Option<Value>,
}

impl CallerTask {
    /// Creates an empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the caller's own name for the task. Default: none.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the context. Default: none.
    #[must_use]
    pub fn context(mut self, context: impl Into<Value>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// Returns a copy for storage, without the character that no database accepts.
    pub(crate) fn storable(&self) -> Self {
        let id = self.id.as_ref().map(|id| id.replace('\0', ""));
        Self { id, context: self.context.clone() }
    }

    /// Returns the approximate size in bytes.
    pub(crate) fn size(&self) -> usize {
        serde_json::to_vec(self).map_or(0, |bytes| bytes.len())
    }
}

impl fmt::Debug for CallerTask {
    /// Hides the context.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerTask").field("id", &self.id).finish_non_exhaustive()
    }
}
