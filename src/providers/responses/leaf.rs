use super::Responses;
use crate::providers::{http::HttpLeaf, openai::ChatCompletions};

/// A leaf for OpenAI's Responses API, or a server that is compatible with it. See the [module docs](super).
pub type OpenAiResponses = HttpLeaf<Responses>;

impl HttpLeaf<ChatCompletions> {
    /// Speaks OpenAI's Responses in place of Chat Completions, with all else unchanged.
    #[must_use]
    pub fn responses(self) -> OpenAiResponses {
        self.with_protocol(|_chat| Responses::own())
    }
}
