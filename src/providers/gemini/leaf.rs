use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, StatusCode};

use super::{decode, encode, error, refit};
use crate::{
    Dialect, ErrorKind, InvalidConfig, LlmError,
    chat::{Chat, Message},
    providers::{
        http::{BaseUrl, ErrorBody, Fault, HttpLeaf, ModelChoice, Optional, Protocol, Variable, variable},
        splice::MaxTokens,
    },
    translate::Report,
};

/// A leaf for Google's Gemini API. See the [module docs](super).
pub type Gemini = HttpLeaf<GenerateContent>;

/// The protocol of [`Gemini`].
#[derive(Clone, Debug)]
pub struct GenerateContent {
    _sealed: (),
}

impl Gemini {
    /// Creates a leaf with this API key, at `https://generativelanguage.googleapis.com/v1beta`.
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        let base = BaseUrl::parse("base_url", "https://generativelanguage.googleapis.com/v1beta").expect("it is a URL");
        Self::with(GenerateContent { _sealed: () }, "gemini", base, Some(key.into()))
    }

    /// Creates a leaf from the environment: `GEMINI_API_KEY` or `GOOGLE_API_KEY` and, if set, `GEMINI_BASE_URL`.
    ///
    /// # Errors
    ///
    /// Neither key is set, or the URL is malformed; the error names the variable.
    pub fn from_env() -> Result<Self, InvalidConfig> {
        Self::from_variables(variable)
    }

    pub(in crate::providers) fn from_variables(get: impl Fn(&'static str) -> Variable) -> Result<Self, InvalidConfig> {
        let key = match get("GEMINI_API_KEY")? {
            Some(key) => Some(key),
            None => get("GOOGLE_API_KEY")?,
        };
        let key = key.ok_or_else(|| InvalidConfig::new("GEMINI_API_KEY", "it is not set, nor is GOOGLE_API_KEY"))?;
        let leaf = Self::new(key);
        match get("GEMINI_BASE_URL")? {
            Some(url) => Ok(leaf.at(versioned(BaseUrl::parse("GEMINI_BASE_URL", &url)?))),
            None => Ok(leaf),
        }
    }

    /// Sets the base URL: the part before `/models`. `/v1beta` is added to one without a path.
    ///
    /// # Errors
    ///
    /// The text is not an absolute `http://` or `https://` URL, or holds a user name.
    pub fn base_url(self, url: &str) -> Result<Self, InvalidConfig> {
        Ok(self.at(versioned(BaseUrl::parse("base_url", url)?)))
    }
}

fn versioned(base: BaseUrl) -> BaseUrl {
    if base.path().is_empty() { base.ending("/v1beta") } else { base }
}

impl Protocol for GenerateContent {
    const DIALECT: Dialect = Dialect::Gemini;
    type Decoder = decode::Decoder;

    fn path(&self, model: &str, stream: bool) -> Cow<'static, str> {
        let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        let mut path = String::from(if model.contains('/') { "/" } else { "/models/" });
        for byte in model.bytes() {
            // A name must not escape its place in the path.
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b'@') {
                path.push(char::from(byte));
            } else {
                path.push_str(&format!("%{byte:02X}"));
            }
        }
        format!("{}:{method}", path.replace("..", "%2E%2E")).into()
    }

    fn model_in_body(&self) -> bool {
        false
    }

    fn max_tokens_fields(&self) -> &'static [MaxTokens] {
        const fn field(within: &'static str, name: &'static str) -> MaxTokens {
            MaxTokens { within: Some(within), name }
        }
        const FIELDS: &[MaxTokens] = &[
            field("generationConfig", "maxOutputTokens"),
            field("generationConfig", "max_output_tokens"),
            field("generation_config", "max_output_tokens"),
            field("generation_config", "maxOutputTokens"),
        ];
        FIELDS
    }

    fn optional(&self) -> &'static [Optional] {
        const OPTIONAL: &[Optional] = &[
            Optional::new("generationConfig.temperature"),
            Optional::new("generationConfig.topP"),
            Optional::new("generationConfig.topK"),
            Optional::new("generationConfig.seed"),
            Optional::new("generationConfig.stopSequences"),
            Optional::called("generationConfig.presencePenalty", &["penalty"]),
            Optional::called("generationConfig.frequencyPenalty", &["penalty"]),
            Optional::new("generationConfig.responseLogprobs"),
            Optional::new("generationConfig.logprobs"),
            Optional::called(
                "generationConfig.thinkingConfig",
                &["thinking", "thinking_budget", "thinking_level", "budget"],
            ),
            Optional::new("generationConfig.mediaResolution"),
            Optional::new("labels"),
        ];
        OPTIONAL
    }

    fn key(&self, key: &str) -> (HeaderName, String) {
        (HeaderName::from_static("x-goog-api-key"), key.to_owned())
    }

    fn encode(&self, chat: &Chat, asked: ModelChoice<'_>, _: bool, report: &mut Report) -> Result<Bytes, LlmError> {
        encode::body(chat, (asked.model, asked.family), asked.before.is_some(), report)
    }

    fn refit(&self, body: &Bytes, asked: ModelChoice<'_>, report: &mut Report) -> Result<Option<Bytes>, LlmError> {
        refit::refit(body, asked, report)
    }

    fn decode(&self, body: &[u8]) -> Result<Message, Fault> {
        decode::message(body)
    }

    fn decoder(&self) -> decode::Decoder {
        decode::Decoder::default()
    }

    fn classify(&self, status: StatusCode, facts: &ErrorBody, _: bool) -> ErrorKind {
        error::classify(status, facts, self.wait(facts))
    }

    fn wait(&self, facts: &ErrorBody) -> Option<Duration> {
        error::wait(facts)
    }
}
