//! The delivered part of an answer that was cut.

use std::{error::Error, fmt};

use serde::de::IgnoredAny;

use steadfast::{
    ErrorKind, LlmError,
    body::Delivery,
    chat::{Message, Part, ToolCall, Usage},
};

/// The delivered part of an answer that was cut: its content since the last restart.
///
/// `Debug` hides its content.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialAnswer {
    message: Message,
    delivered: Delivery,
}

impl PartialAnswer {
    pub(super) fn new(message: Message, delivered: Delivery) -> Self {
        Self { message, delivered }
    }

    /// Returns the text so far, without reasoning and refusals.
    pub fn text(&self) -> String {
        self.message.text()
    }

    /// Returns the tool calls with complete arguments: they are valid JSON, and further content followed. They are for
    /// inspection only, because the rest of the answer is unknown.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.calls().filter_map(|(call, whole)| whole.then_some(call))
    }

    /// Returns the tool calls with incomplete arguments.
    pub fn incomplete_tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.calls().filter_map(|(call, whole)| (!whole).then_some(call))
    }

    fn calls(&self) -> impl Iterator<Item = (&ToolCall, bool)> {
        let (last, finished) = (self.message.content.len().saturating_sub(1), self.message.finish.is_some());
        self.message.content.iter().enumerate().filter_map(move |(place, part)| match part {
            Part::ToolCall(call) => Some((call, (place < last || finished) && is_whole(&call.arguments))),
            _ => None,
        })
    }

    /// Returns the tokens used, as far as the provider has reported them.
    pub fn usage(&self) -> Option<Usage> {
        self.message.usage
    }

    /// Returns the amount delivered.
    pub fn delivered(&self) -> Delivery {
        self.delivered
    }

    /// Returns all of it, as an unfinished turn.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Returns all of it, to keep.
    pub fn into_message(self) -> Message {
        self.message
    }
}

/// Returns whether a call's arguments are complete JSON. Some providers send an empty text without arguments.
fn is_whole(arguments: &str) -> bool {
    arguments.is_empty() || serde_json::from_str::<IgnoredAny>(arguments).is_ok()
}

/// The error of an answer that was cut, with its delivered part.
///
/// `Display` and `Debug` show the amount delivered, but no content. It converts into the [`LlmError`] for callers who
/// do not need the rest.
#[derive(Clone)]
pub struct Cut(Box<(LlmError, PartialAnswer)>);

impl Cut {
    pub(super) fn new(error: LlmError, partial: PartialAnswer) -> Self {
        Self(Box::new((error, partial)))
    }

    /// Returns the error that cut the answer.
    pub fn error(&self) -> &LlmError {
        &self.0.0
    }

    /// Returns the kind of the error: [`StreamBroken`](ErrorKind::StreamBroken), a timeout, ..
    pub fn kind(&self) -> ErrorKind {
        self.error().kind()
    }

    /// Returns the delivered part.
    pub fn partial(&self) -> &PartialAnswer {
        &self.0.1
    }

    /// Returns the delivered part, to keep.
    pub fn into_partial(self) -> PartialAnswer {
        self.0.1
    }
}

impl From<Cut> for LlmError {
    fn from(cut: Cut) -> Self {
        cut.0.0
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Delivery { characters, tool_calls, .. } = self.partial().delivered();
        write!(f, "the answer was cut after {characters} characters and {tool_calls} tool calls: {}", self.error())
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cut").field("error", self.error()).field("delivered", &self.partial().delivered()).finish()
    }
}

impl Error for Cut {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.error())
    }
}
