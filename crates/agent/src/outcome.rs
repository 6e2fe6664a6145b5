//! The outcome of an action.

use std::{error::Error, fmt, sync::Arc};

use tower::BoxError;

use steadfast::chat::{FinishReason, ToolCall, ToolResult};

/// The outcome of a tool call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ToolOutcome<R> {
    /// The call from this answer.
    pub call: ToolCall,
    /// The action's result, now or from its first run.
    pub result: Result<R, ActionError>,
    /// True if another caller, or an earlier call, ran the action.
    pub repeated: bool,
}

impl<R: AsRef<str>> ToolOutcome<R> {
    /// Converts the outcome for the model: the text, or the tool's error message.
    pub fn tool_result(&self) -> ToolResult {
        let mut result = match &self.result {
            Ok(text) => ToolResult::new(&self.call.id, text.as_ref()),
            Err(error) => ToolResult::new(&self.call.id, error.to_string()),
        };
        result.name = Some(self.call.name.clone());
        result.is_error = self.result.is_err();
        result
    }
}

/// The reason why an action has no result.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ActionError {
    /// The provider ended the answer early. The action did not start.
    StoppedShort(FinishReason),
    /// The action failed. It may be tried again.
    Failed(Arc<dyn Error + Send + Sync>),
    /// The action panicked. It may be tried again.
    Panicked,
    /// The runtime of the action ended. The action may have taken effect.
    Interrupted,
    /// The key belongs to another tool or other arguments. The action did not start.
    Conflict,
    /// The store did not answer whether the action ran before. The action did not start.
    Store(Arc<dyn Error + Send + Sync>),
}

impl ActionError {
    pub(super) fn failed(error: BoxError) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for ActionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StoppedShort(reason) => write!(f, "the answer stopped short ({reason:?}); no action ran"),
            Self::Failed(error) => write!(f, "the action failed: {error}"),
            Self::Panicked => f.write_str("the action panicked"),
            Self::Interrupted => f.write_str("the action was interrupted and may have taken effect"),
            Self::Conflict => f.write_str("the action's key belongs to other input"),
            Self::Store(error) => write!(f, "the store did not answer, so the action did not start: {error}"),
        }
    }
}

impl Error for ActionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) | Self::Store(error) => Some(&**error),
            _ => None,
        }
    }
}
