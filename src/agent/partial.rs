//! What was delivered of an answer that was cut.

use std::{error::Error, fmt};

use serde::de::IgnoredAny;

use crate::{
    ErrorKind, LlmError,
    body::Delivered,
    chat::{Message, Part, ToolCall, Usage},
};

/// What was delivered of an answer before it was cut: all that its reader has had since it last began anew.
///
/// `Debug` shows no word of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialAnswer {
    message: Message,
    delivered: Delivered,
}

impl PartialAnswer {
    pub(super) fn new(message: Message, delivered: Delivered) -> Self {
        Self { message, delivered }
    }

    /// The text so far, without reasoning and refusals.
    pub fn text(&self) -> String {
        self.message.text()
    }

    /// The tool calls whose arguments had come in whole: they are JSON, and something came after them. Nobody knows what
    /// else the model would have said, so that they are there to look at, and not to act on.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.calls().filter_map(|(call, whole)| whole.then_some(call))
    }

    /// The tool calls that had begun and whose arguments had not come in whole.
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

    /// The tokens used, as far as the provider has told.
    pub fn usage(&self) -> Option<Usage> {
        self.message.usage
    }

    /// How much it is.
    pub fn delivered(&self) -> Delivered {
        self.delivered
    }

    /// All of it, as a turn that was never finished.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// All of it, to keep.
    pub fn into_message(self) -> Message {
        self.message
    }
}

/// Whether a call's arguments are whole JSON. Some providers send nothing where there are none.
fn is_whole(arguments: &str) -> bool {
    arguments.is_empty() || serde_json::from_str::<IgnoredAny>(arguments).is_ok()
}

/// An answer was cut: the error, and what was delivered before.
///
/// `Display` and `Debug` say how much that was, and no word of it. It converts into the [`LlmError`] for whoever does not
/// care.
#[derive(Clone)]
pub struct Cut(Box<(LlmError, PartialAnswer)>);

impl Cut {
    pub(super) fn new(error: LlmError, partial: PartialAnswer) -> Self {
        Self(Box::new((error, partial)))
    }

    /// What cut the answer.
    pub fn error(&self) -> &LlmError {
        &self.0.0
    }

    /// Of what kind that is: [`StreamBroken`](ErrorKind::StreamBroken), a timeout, ..
    pub fn kind(&self) -> ErrorKind {
        self.error().kind()
    }

    /// What was delivered before.
    pub fn partial(&self) -> &PartialAnswer {
        &self.0.1
    }

    /// The same, to keep.
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
        let Delivered { characters, tool_calls, .. } = self.partial().delivered();
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
