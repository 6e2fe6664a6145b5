use std::sync::Arc;

use http::HeaderName;

use super::Responses;
use crate::{
    InvalidConfig,
    http::{BaseUrl, DualLeaf, HttpLeaf},
    openai::{ChatCompletions, OpenAi},
};

/// A leaf for OpenAI's Responses API, or a server that is compatible with it. See the [module docs](super).
pub type OpenAiResponses = HttpLeaf<Responses>;

/// A leaf for both of OpenAI's APIs. See [`OpenAi::auto`](crate::OpenAi::auto).
pub type OpenAiAuto = DualLeaf<ChatCompletions, Responses>;

impl HttpLeaf<ChatCompletions> {
    /// Speaks OpenAI's Responses in place of Chat Completions, with all other settings unchanged.
    #[must_use]
    pub fn responses(self) -> OpenAiResponses {
        self.with_protocol(|chat| Responses::with_key_header(chat.key_header()))
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

impl OpenAiResponses {
    /// Creates a leaf with this API key, at `https://api.openai.com/v1`.
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        OpenAi::new(key).responses()
    }

    /// Creates a leaf from the environment: `OPENAI_API_KEY` and, if set, `OPENAI_BASE_URL` (which includes the `/v1`).
    ///
    /// # Errors
    ///
    /// The key is not set, or the URL is malformed; the error names the variable.
    pub fn from_env() -> Result<Self, InvalidConfig> {
        OpenAi::from_env().map(OpenAi::responses)
    }

    /// Creates a leaf for a compatible server: Azure, xAI, OpenRouter, LM Studio, vLLM and others. `name` is its name
    /// in errors, responses and metrics; `base_url` is the part before `/responses`. Without a [`key`](Self::key), none
    /// is sent.
    ///
    /// # Errors
    ///
    /// `base_url` is not an absolute `http://` or `https://` URL, or holds a user name.
    pub fn compatible(name: impl Into<Arc<str>>, base_url: &str) -> Result<Self, InvalidConfig> {
        OpenAi::compatible(name, base_url).map(OpenAi::responses)
    }

    /// Sets the base URL: the part before `/responses`, `/v1` included.
    ///
    /// # Errors
    ///
    /// The text is not an absolute `http://` or `https://` URL, or holds a user name.
    pub fn base_url(self, url: &str) -> Result<Self, InvalidConfig> {
        Ok(self.at_base(BaseUrl::parse("base_url", url)?, |base| base))
    }

    /// Sets the header that carries the bare key, such as Azure's `api-key`. Default: `Authorization: Bearer <key>`.
    #[must_use]
    pub fn key_header(mut self, name: HeaderName) -> Self {
        self.protocol_mut().key_header = Some(name);
        self
    }
}
