//! An answer that was read to its end.

use crate::chat::{FinishReason, Message, ToolCall};

/// An answer that has come in whole: what an agent may act on.
///
/// An [`AnswerReader`](super::AnswerReader) gives it at the provider's own end mark, and never of an answer that was cut;
/// of one that began anew it has what came since.
///
/// `Debug` shows no word of it.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletedAnswer {
    message: Message,
}

impl CompletedAnswer {
    pub(super) fn new(message: Message) -> Self {
        Self { message }
    }

    /// One that was read to its end before, such as from a conversation that was written down. That it was complete is
    /// what the caller vouches for.
    pub fn vouched(message: Message) -> Self {
        Self::new(message)
    }

    /// The turn.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The turn, to push onto the conversation.
    pub fn into_message(self) -> Message {
        self.message
    }

    /// Its text, without reasoning and refusals.
    pub fn text(&self) -> String {
        self.message.text()
    }

    /// Its tool calls, in order.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.message.tool_calls()
    }

    /// Why the provider says that it stopped short, where it did: the answer has its end mark, and still the model did not
    /// say all. A tool call of it may lack its end.
    pub fn stopped_short(&self) -> Option<&FinishReason> {
        self.message.finish.as_ref().filter(|reason| match reason {
            FinishReason::Length
            | FinishReason::ContextFull
            | FinishReason::Filtered
            | FinishReason::Refusal
            | FinishReason::Paused
            | FinishReason::ModelError(_) => true,
            FinishReason::Stop | FinishReason::ToolUse | FinishReason::Other(_) => false,
        })
    }
}
