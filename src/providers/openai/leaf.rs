use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};

use super::{decode, encode, error, refit, stream::Decoder};
use crate::{
    Dialect, ErrorKind, InvalidConfig, LlmError,
    chat::{Chat, Message},
    providers::{
        http::{BaseUrl, ErrorBody, Fault, HttpLeaf, ModelChoice, Optional, Protocol, Variable, variable},
        splice::MaxTokens,
    },
    translate::{Report, Target},
};

/// A leaf for OpenAI's Chat Completions API, or a server that is compatible with it. See the [module docs](super).
pub type OpenAi = HttpLeaf<ChatCompletions>;

/// The protocol of [`OpenAi`].
#[derive(Clone, Debug)]
pub struct ChatCompletions {
    pub(super) flavour: Flavour,
    pub(super) stream_usage: bool,
    key_header: Option<HeaderName>,
}

/// The server's maker, if that changes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// OpenAI's own.
    Own,
    /// A compatible one: knows `max_tokens`, and maybe not `max_completion_tokens`.
    Compatible,
    /// Mistral's: uses `any` for a required tool call, and requires ids of nine letters and digits.
    Mistral,
}

impl OpenAi {
    /// Creates a leaf with this API key, at `https://api.openai.com/v1`.
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        let base = BaseUrl::parse("base_url", "https://api.openai.com/v1").expect("it is a URL");
        Self::with(ChatCompletions::of(Flavour::Own), "openai", base, Some(key.into()))
    }

    /// Creates a leaf from the environment: `OPENAI_API_KEY` and, if set, `OPENAI_BASE_URL` (which includes the `/v1`).
    ///
    /// # Errors
    ///
    /// The key is not set, or the URL is malformed; the error names the variable.
    pub fn from_env() -> Result<Self, InvalidConfig> {
        Self::from_variables(variable)
    }

    pub(in crate::providers) fn from_variables(get: impl Fn(&'static str) -> Variable) -> Result<Self, InvalidConfig> {
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
        let mistral = name.eq_ignore_ascii_case("mistral") || base_url.contains("api.mistral.ai");
        let flavour = if mistral { Flavour::Mistral } else { Flavour::Compatible };
        Ok(Self::with(ChatCompletions::of(flavour), name, base, None))
    }

    /// Sets the base URL: the part before `/chat/completions`, `/v1` included.
    ///
    /// # Errors
    ///
    /// The text is not an absolute `http://` or `https://` URL, or holds a user name.
    pub fn base_url(self, url: &str) -> Result<Self, InvalidConfig> {
        Ok(self.at(BaseUrl::parse("base_url", url)?))
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

impl ChatCompletions {
    fn of(flavour: Flavour) -> Self {
        Self { flavour, stream_usage: true, key_header: None }
    }
}

impl Protocol for ChatCompletions {
    const DIALECT: Dialect = Dialect::OpenAi;
    type Decoder = Decoder;

    fn path(&self, _: &str, _: bool) -> Cow<'static, str> {
        "/chat/completions".into()
    }

    fn max_tokens_fields(&self) -> &'static [MaxTokens] {
        const NEW: MaxTokens = MaxTokens { within: None, name: "max_completion_tokens" };
        const OLD: MaxTokens = MaxTokens { within: None, name: "max_tokens" };
        match self.flavour {
            Flavour::Own => &[NEW, OLD],
            Flavour::Compatible | Flavour::Mistral => &[OLD, NEW],
        }
    }

    fn optional(&self) -> &'static [Optional] {
        const OPTIONAL: &[Optional] = &[
            Optional::new("temperature"),
            Optional::new("top_p"),
            Optional::new("top_k"),
            Optional::new("min_p"),
            Optional::new("frequency_penalty"),
            Optional::new("presence_penalty"),
            Optional::new("seed"),
            Optional::new("logit_bias"),
            Optional::new("top_logprobs"),
            Optional::new("logprobs"),
            Optional::new("stop"),
            Optional::new("reasoning_effort"),
            Optional::new("reasoning"),
            Optional::new("verbosity"),
            Optional::new("parallel_tool_calls"),
            Optional::new("service_tier"),
            Optional::new("metadata"),
            Optional::new("user"),
            Optional::new("safety_identifier"),
            Optional::new("store"),
            Optional::new("prompt_cache_key"),
            Optional::new("prompt_cache_retention"),
            Optional::new("prediction"),
            Optional::new("stream_options"),
        ];
        OPTIONAL
    }

    fn key(&self, key: &str) -> (HeaderName, String) {
        match &self.key_header {
            Some(name) => (name.clone(), key.to_owned()),
            None => (header::AUTHORIZATION, format!("Bearer {key}")),
        }
    }

    fn target(&self) -> Target {
        Target { dialect: Dialect::OpenAi, short_ids: self.flavour == Flavour::Mistral }
    }

    fn encode(
        &self,
        chat: &Chat,
        asked: ModelChoice<'_>,
        stream: bool,
        report: &mut Report,
    ) -> Result<Bytes, LlmError> {
        encode::body(self, chat, (asked.model, asked.family), stream, asked.before.is_some(), report)
    }

    fn refit(&self, body: &Bytes, asked: ModelChoice<'_>, report: &mut Report) -> Result<Option<Bytes>, LlmError> {
        refit::refit(self.flavour, body, asked.family, report)
    }

    fn decode(&self, body: &[u8]) -> Result<Message, Fault> {
        decode::message(body)
    }

    fn decoder(&self) -> Decoder {
        Decoder::default()
    }

    fn classify(&self, status: StatusCode, facts: &ErrorBody, _: bool) -> ErrorKind {
        error::classify(status, facts)
    }
}
