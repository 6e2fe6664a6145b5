//! A completed answer.

use steadfast::chat::{FinishReason, Message, ToolCall};

/// A complete answer, on which an agent may act.
///
/// An [`AnswerReader`](super::AnswerReader) returns it at the provider's own end mark, never for an answer that was
/// cut. After a restart it holds only the content since then.
///
/// `Debug` hides its content.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletedAnswer {
    message: Message,
}

impl CompletedAnswer {
    pub(super) fn new(message: Message) -> Self {
        Self { message }
    }

    /// Wraps an answer that was completed earlier, such as one from a stored conversation. The caller vouches for its
    /// completeness.
    pub fn vouched(message: Message) -> Self {
        Self::new(message)
    }

    /// Returns the turn.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Returns the turn, to append to the conversation.
    pub fn into_message(self) -> Message {
        self.message
    }

    /// Returns the text, without reasoning and refusals.
    pub fn text(&self) -> String {
        self.message.text()
    }

    /// Returns the tool calls, in order.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.message.tool_calls()
    }

    /// Returns the provider's reason for an early stop, if there is one: the answer has its end mark, but the model
    /// did not finish. A tool call in it may be incomplete.
    pub fn stopped_short(&self) -> Option<&FinishReason> {
        self.message.finish.as_ref().filter(|reason| match reason {
            FinishReason::Length
            | FinishReason::ContextFull
            | FinishReason::Filtered
            | FinishReason::Refusal
            | FinishReason::Paused
            | FinishReason::ModelError(_) => true,
            // Stop, ToolUse, and reasons that the provider does not explain.
            _ => false,
        })
    }
}
