//! The ways to call a gateway.

use std::fmt;

use steadfast::Dialect;

/// A way to call: a dialect, and whether the answer is a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Caller {
    /// The dialect of the request and its answer.
    pub dialect: Dialect,
    /// True if the request asks for a stream.
    pub is_streamed: bool,
}

impl Caller {
    /// Every way, in the order of a report.
    pub const ALL: [Self; 8] = {
        const fn both(dialect: Dialect) -> [Caller; 2] {
            [Caller { dialect, is_streamed: false }, Caller { dialect, is_streamed: true }]
        }
        let [messages, messages_stream] = both(Dialect::Anthropic);
        let [chat, chat_stream] = both(Dialect::OpenAi);
        let [responses, responses_stream] = both(Dialect::Responses);
        let [gemini, gemini_stream] = both(Dialect::Gemini);
        [messages, messages_stream, chat, chat_stream, responses, responses_stream, gemini, gemini_stream]
    };

    /// Returns the name: `messages`, `chat`, `responses` or `gemini`, with `-stream` for a stream.
    #[must_use]
    pub fn name(self) -> &'static str {
        match (self.dialect, self.is_streamed) {
            (Dialect::Anthropic, false) => "messages",
            (Dialect::Anthropic, true) => "messages-stream",
            (Dialect::OpenAi, false) => "chat",
            (Dialect::OpenAi, true) => "chat-stream",
            (Dialect::Responses, false) => "responses",
            (Dialect::Responses, true) => "responses-stream",
            (Dialect::Gemini, false) => "gemini",
            (Dialect::Gemini, true) => "gemini-stream",
        }
    }

    /// Returns the caller of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|caller| caller.name() == name)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
