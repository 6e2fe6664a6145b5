use std::sync::Arc;

use http::HeaderName;

use super::ChatCompletions;
use crate::{
    InvalidConfig,
    http::{BaseUrl, HttpLeaf, Variable, variable},
};

/// A leaf for OpenAI's Chat Completions API, or a server that is compatible with it. See the [module docs](super).
pub type OpenAi = HttpLeaf<ChatCompletions>;

impl OpenAi {
    /// Creates a leaf with this API key, at `https://api.openai.com/v1`.
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        let base = BaseUrl::parse("base_url", "https://api.openai.com/v1").expect("it is a URL");
        Self::with(ChatCompletions::own(), "openai", base, Some(key.into()))
    }

    /// Creates a leaf from the environment: `OPENAI_API_KEY` and, if set, `OPENAI_BASE_URL` (which includes the `/v1`).
    ///
    /// # Errors
    ///
    /// The key is not set, or the URL is malformed; the error names the variable.
    pub fn from_env() -> Result<Self, InvalidConfig> {
        Self::from_variables(variable)
    }

    pub(crate) fn from_variables(get: impl Fn(&'static str) -> Variable) -> Result<Self, InvalidConfig> {
        let key = get("OPENAI_API_KEY")?;
        let key = key.ok_or_else(|| InvalidConfig::new("OPENAI_API_KEY", "it is not set"))?;
        let leaf = Self::new(key);
        match get("OPENAI_BASE_URL")? {
            Some(url) => Ok(leaf.at(BaseUrl::parse("OPENAI_BASE_URL", &url)?)),
            None => Ok(leaf),
        }
    }

    /// Creates a leaf for a compatible server: Groq, Mistral, DeepSeek, OpenRouter, Ollama, vLLM, llama.cpp and others.
    /// `name` is its name in errors, responses and metrics; `base_url` is the part before `/chat/completions`. Without
    /// a [`key`](Self::key), none is sent.
    ///
    /// # Errors
    ///
    /// `base_url` is not an absolute `http://` or `https://` URL, or holds a user name.
    pub fn compatible(name: impl Into<Arc<str>>, base_url: &str) -> Result<Self, InvalidConfig> {
        let name = name.into();
        let base = BaseUrl::parse("base_url", base_url)?;
        Ok(Self::with(ChatCompletions::compatible(&name, base_url), name, base, None))
    }

    /// Sets the base URL: the part before `/chat/completions`, `/v1` included.
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

    /// Sets whether to ask for the tokens used at the end of a stream (`stream_options.include_usage`); some servers
    /// refuse the field. Default: true.
    #[must_use]
    pub fn stream_usage(mut self, asked: bool) -> Self {
        self.protocol_mut().stream_usage = asked;
        self
    }
}
