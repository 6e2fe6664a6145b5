use super::Responses;
use crate::providers::{
    http::{DualLeaf, HttpLeaf},
    openai::ChatCompletions,
};

/// A leaf for OpenAI's Responses API, or a server that is compatible with it. See the [module docs](super).
pub type OpenAiResponses = HttpLeaf<Responses>;

/// A leaf for both of OpenAI's APIs. See [`OpenAi::auto`](crate::providers::OpenAi::auto).
pub type OpenAiAuto = DualLeaf<ChatCompletions, Responses>;

impl HttpLeaf<ChatCompletions> {
    /// Speaks OpenAI's Responses in place of Chat Completions, with all else unchanged.
    #[must_use]
    pub fn responses(self) -> OpenAiResponses {
        self.with_protocol(|_chat| Responses::own())
    }

    /// Speaks both of OpenAI's APIs: a request in the Responses dialect goes to `/responses` as it is, and every other
    /// one to `/chat/completions`. Set all else first.
    ///
    /// ```
    /// use steadfast::providers::OpenAi;
    ///
    /// let leaf = OpenAi::new("key").model("gpt-5.2").auto();
    /// # drop(leaf);
    /// ```
    #[must_use]
    pub fn auto(self) -> OpenAiAuto {
        DualLeaf::new(self.clone(), self.responses())
    }
}
