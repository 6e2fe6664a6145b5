//! The meaning of a turn without content: a model that has nothing to say, or a failure.

use crate::{
    ErrorKind, LlmError, LlmRequest,
    body::FailedAnswer,
    chat::{FinishReason, Message, Part, Role, Usage},
};

/// A turn without content, streamed or whole, by what it says of itself.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct EmptyTurn<'a> {
    /// The reason to finish.
    pub finish: Option<&'a FinishReason>,
    /// True if the model said something that is no content: it thought, or the provider counts its tokens.
    pub has_tokens: bool,
    /// The tokens that the provider reported.
    pub usage: Option<Usage>,
}

impl<'a> EmptyTurn<'a> {
    /// Reads a whole message; `None` if it has content.
    pub fn of(message: &'a Message) -> Option<Self> {
        if !message.is_empty() {
            return None;
        }
        let thinks = message.content.iter().any(|part| matches!(part, Part::Reasoning(_)));
        let has_tokens = thinks || message.usage.is_some_and(|usage| usage.output > 0);
        Some(Self { finish: message.finish.as_ref(), has_tokens, usage: message.usage })
    }

    /// Returns the error that the turn stands for, which keeps the answer if the provider gave a reason for its end.
    /// Returns `None` for an answer: the caller brought the emptiness about and is the one to read it, or the model had
    /// nothing to say.
    pub fn failure(self, request: Option<&LlmRequest>, answer: impl FnOnce() -> FailedAnswer) -> Option<LlmError> {
        let error = self.error(request)?;
        Some(match self.finish {
            Some(_) => error.with_answer(answer()),
            None => error,
        })
    }

    /// Returns the error alone.
    pub fn error(self, request: Option<&LlmRequest>) -> Option<LlmError> {
        let (kind, message) = match self.finish {
            // The tokens went into reasoning, or the turn goes on: another attempt would end the same way.
            Some(FinishReason::Length | FinishReason::Paused | FinishReason::ToolUse) => return None,
            Some(FinishReason::Stop) if self.is_meant(request) => return None,
            // A refusal without text is an answer, unless it sends the request to another tier or attempt.
            Some(FinishReason::Refusal)
                if !request.is_some_and(|request| request.context().prospects.acts_on_refusals()) =>
            {
                return None;
            }
            Some(FinishReason::Filtered) => (ErrorKind::ContentPolicy, "the whole answer was filtered"),
            Some(FinishReason::Refusal) => (ErrorKind::Refusal, "the model declined without an answer"),
            Some(FinishReason::ContextFull) => (ErrorKind::ContextLength, "the context window is full"),
            Some(FinishReason::ModelError(_)) => (ErrorKind::Malformed, "the model failed before any answer"),
            _ => (ErrorKind::EmptyAnswer, "the answer has no content"),
        };
        let error = LlmError::new(kind, message).with_usage(self.usage);
        Some(match self.finish {
            Some(FinishReason::ModelError(reason) | FinishReason::Other(reason)) => error.with_code(reason.as_str()),
            _ => error,
        })
    }

    /// Returns whether a turn that ended by itself was to end so: its tokens are told, or nothing is left to say after
    /// a tool's result ("Empty responses with end_turn" in Anthropic's documentation of stop reasons), or a stop text
    /// came first. A server that fails in silence has none of these.
    fn is_meant(self, request: Option<&LlmRequest>) -> bool {
        let Some(request) = request.filter(|request| !request.is_compaction()) else { return false };
        self.has_tokens || request.names_stops() || ends_with_tool_result(request)
    }
}

fn ends_with_tool_result(request: &LlmRequest) -> bool {
    let Ok(chat) = request.chat() else { return false };
    let said = chat.messages.iter().rev().find(|message| message.role != Role::System);
    said.is_some_and(|message| message.content.iter().any(|part| matches!(part, Part::ToolResult(_))))
}
