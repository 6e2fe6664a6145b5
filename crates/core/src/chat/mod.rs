//! The neutral form of a conversation: the parts that all providers share.
//!
//! A [`Chat`] is the caller's request, an assistant [`Message`] is the answer. Both are made of the same [`Part`]s, so
//! that an answer can be pushed onto the conversation unchanged. A provider's own extensions stay in the wire form of a
//! request (see [`Wire`](crate::Wire)), which the same provider receives byte for byte.
//!
//! `Debug` of all these types writes the kinds and lengths, never the words.

mod debug;
mod extra;
mod json;
mod message;
mod tools;

use serde::{Deserialize, Serialize};

pub use self::{
    extra::{Extra, ExtraOf},
    json::Json,
    message::{Document, Image, Media, Message, Opaque, Part, Reasoning, Role},
    tools::{OutputSchema, Tool, ToolCall, ToolChoice, ToolResult},
};
pub use crate::usage::{FinishReason, ServiceTier, Usage};

/// A request to a language model, in the form that every provider leaf can encode.
///
/// Only `messages` is required. Everything left at its default is omitted on the wire, so that the provider's own
/// default applies.
///
/// ```
/// use steadfast::chat::{Chat, Message};
///
/// let chat = Chat::new([Message::user("Explain closures.")]).system("Be brief.").max_tokens(200);
/// assert_eq!(chat.messages.len(), 1);
/// ```
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Chat {
    /// The requested model. A leaf that has a model of its own sends that one instead.
    pub model: Option<String>,
    /// The system prompt.
    pub system: Option<String>,
    /// The conversation so far, oldest first.
    pub messages: Vec<Message>,
    /// The tools that the model may call.
    pub tools: Vec<Tool>,
    /// The caller's rule for tool calls: may, must or must not. `None`: the provider's default.
    pub tool_choice: Option<ToolChoice>,
    /// `Some(false)` asks for at most one tool call in an answer. `None`: the provider's default.
    pub parallel_tool_calls: Option<bool>,
    /// The longest answer, in tokens, reasoning included.
    pub max_tokens: Option<u32>,
    /// The sampling temperature, in the provider's own range (0 to 1 or 0 to 2).
    pub temperature: Option<f64>,
    /// Nucleus sampling: the probability mass to draw from, 0 to 1.
    pub top_p: Option<f64>,
    /// Texts at which the model stops.
    pub stop: Vec<String>,
    /// The shape that the answer must have.
    pub output: Option<OutputSchema>,
    /// The amount of reasoning before the answer. `None`: the provider's default.
    pub thinking: Option<Thinking>,
    /// True if the answer is to be a stream. Default: `false`.
    pub stream: bool,
    /// The settings that only the request's own dialect knows, unchanged. Each of them holds for as long as the neutral
    /// fields that were read from it are unchanged. `None`: the request came in no dialect.
    pub extra: Option<Extra>,
}

impl Chat {
    /// Creates a chat of these messages, with all else at its default.
    pub fn new(messages: impl IntoIterator<Item = Message>) -> Self {
        Self { messages: messages.into_iter().collect(), ..Self::default() }
    }

    /// Sets the requested model. A leaf's own model takes precedence. Default: none.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Sets the system prompt, in place of an earlier one. Default: none.
    #[must_use]
    pub fn system(mut self, system: impl Into<String>) -> Self {
        self.system = Some(system.into());
        self
    }

    /// Adds a tool that the model may call.
    #[must_use]
    pub fn tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// Sets the longest answer, in tokens. Default: the provider's; Anthropic requires a number, and gets the largest
    /// that the model gives.
    #[must_use]
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// Sets the sampling temperature, in the provider's own range (0 to 1 or 0 to 2). Default: the provider's.
    #[must_use]
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = Some(temperature);
        self
    }

    /// Asks for the answer as a stream. Default: whole.
    #[must_use]
    pub fn stream(mut self, stream: bool) -> Self {
        self.stream = stream;
        self
    }
}

/// The amount of reasoning before an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Thinking {
    /// No reasoning, if the model allows that.
    Off,
    /// The model decides.
    Auto,
    /// At most this many tokens.
    Budget(u32),
    /// By effort, from the least to the most.
    Effort(Effort),
}

impl Thinking {
    /// Returns the amount that OpenAI's word for an effort stands for.
    #[doc(hidden)]
    pub fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "none" => Self::Off,
            "minimal" => Self::Effort(Effort::Minimal),
            "low" => Self::Effort(Effort::Low),
            "medium" => Self::Effort(Effort::Medium),
            "high" => Self::Effort(Effort::High),
            "xhigh" => Self::Effort(Effort::XHigh),
            "max" => Self::Effort(Effort::Max),
            _ => return None,
        })
    }

    /// Returns the amount that a number of tokens stands for: none are no reasoning, and a negative number leaves the
    /// amount to the model.
    pub(crate) fn of_tokens(tokens: i64) -> Self {
        match tokens {
            ..0 => Self::Auto,
            0 => Self::Off,
            _ => Self::Budget(u32::try_from(tokens).unwrap_or(u32::MAX)),
        }
    }
}

/// A level of reasoning effort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the levels are the providers' own words, in rising order")]
pub enum Effort {
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
}

impl Effort {
    /// Returns the providers' spelling.
    #[doc(hidden)]
    pub fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
        }
    }
}

#[cfg(test)]
mod tests;
