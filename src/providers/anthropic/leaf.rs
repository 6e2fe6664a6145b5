use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    decode,
    encode::{self, Destination},
    error, refit,
    stream::Decoder,
};
use crate::{
    Dialect, ErrorKind, InvalidConfig, LlmError,
    chat::{Chat, Message},
    providers::{
        http::{BaseUrl, ErrorBody, Fault, HttpLeaf, ModelChoice, Optional, Protocol, Variable, variable},
        splice::MaxTokens,
    },
    translate::Report,
};

/// A leaf for Anthropic's Messages API. See the [module docs](super).
pub type Anthropic = HttpLeaf<Messages>;

/// The protocol of [`Anthropic`].
#[derive(Clone, Debug)]
pub struct Messages {
    version: HeaderValue,
    max_tokens: Option<u32>,
}

impl Anthropic {
    /// Creates a leaf with this API key, at `https://api.anthropic.com`.
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        let base = BaseUrl::parse("base_url", "https://api.anthropic.com/v1").expect("it is a URL");
        let protocol = Messages { version: HeaderValue::from_static("2023-06-01"), max_tokens: None };
        Self::with(protocol, "anthropic", base, Some(key.into()))
    }

    /// Creates a leaf from the environment: `ANTHROPIC_API_KEY` and, if set, `ANTHROPIC_BASE_URL`.
    ///
    /// # Errors
    ///
    /// The key is not set, or the URL is malformed; the error names the variable.
    pub fn from_env() -> Result<Self, InvalidConfig> {
        Self::from_variables(variable)
    }

    pub(in crate::providers) fn from_variables(get: impl Fn(&'static str) -> Variable) -> Result<Self, InvalidConfig> {
        let key = get("ANTHROPIC_API_KEY")?;
        let key = key.ok_or_else(|| InvalidConfig::new("ANTHROPIC_API_KEY", "it is not set"))?;
        let leaf = Self::new(key);
        match get("ANTHROPIC_BASE_URL")? {
            Some(url) => Ok(leaf.at(BaseUrl::parse("ANTHROPIC_BASE_URL", &url)?.ending("/v1"))),
            None => Ok(leaf),
        }
    }

    /// Sets the base URL; `/v1` is added unless it ends so.
    ///
    /// # Errors
    ///
    /// The text is not an absolute `http://` or `https://` URL, or holds a user name.
    pub fn base_url(self, url: &str) -> Result<Self, InvalidConfig> {
        Ok(self.at(BaseUrl::parse("base_url", url)?.ending("/v1")))
    }

    /// Sets the `anthropic-version` for all but forwarded requests with their own. Default: `2023-06-01`. With
    /// `2026-10-21` and later, temperature and top_p are omitted and noted on the response: those versions refuse them.
    ///
    /// # Errors
    ///
    /// The version cannot be the text of a header.
    pub fn version(mut self, version: &str) -> Result<Self, InvalidConfig> {
        self.protocol_mut().version = version
            .parse()
            .map_err(|_| InvalidConfig::new("version", "it contains a character that HTTP headers do not allow"))?;
        Ok(self)
    }

    /// Sets the longest answer, in tokens, for requests that name none: this API requires a number. Default: the
    /// largest that the model gives, by [`models`](crate::models); for an unknown model 4,096. The response notes it.
    #[must_use]
    pub fn default_max_tokens(mut self, tokens: u32) -> Self {
        self.protocol_mut().max_tokens = Some(tokens);
        self
    }
}

impl Messages {
    fn to<'a>(&self, asked: ModelChoice<'a>) -> Destination<'a> {
        Destination {
            model: asked.model,
            family: asked.family,
            default_max_tokens: self.max_tokens,
            refuses_sampling: self.refuses_sampling(),
        }
    }

    /// Returns true if the API version refuses sampling parameters, even at their defaults.
    fn refuses_sampling(&self) -> bool {
        // Versions are dates, whose texts sort like the dates.
        self.version.as_bytes() >= b"2026-10-21".as_slice()
    }
}

impl Protocol for Messages {
    const DIALECT: Dialect = Dialect::Anthropic;
    type Decoder = Decoder;

    fn path(&self, _: &str, _: bool) -> Cow<'static, str> {
        "/messages".into()
    }

    fn max_tokens_fields(&self) -> &'static [MaxTokens] {
        &[MaxTokens { within: None, name: "max_tokens" }]
    }

    fn optional(&self) -> &'static [Optional] {
        const OPTIONAL: &[Optional] = &[
            Optional::new("temperature"),
            Optional::new("top_p"),
            Optional::new("top_k"),
            Optional::new("stop_sequences"),
            Optional::called("thinking", &["adaptive", "budget_tokens"]),
            Optional::new("output_config.effort"),
            Optional::new("service_tier"),
            Optional::new("metadata"),
            Optional::new("context_management"),
            Optional::new("cache_control"),
        ];
        OPTIONAL
    }

    fn key(&self, key: &str) -> (HeaderName, String) {
        (HeaderName::from_static("x-api-key"), key.to_owned())
    }

    fn headers(&self, headers: &mut HeaderMap) {
        headers.entry("anthropic-version").or_insert_with(|| self.version.clone());
    }

    fn encode(
        &self,
        chat: &Chat,
        asked: ModelChoice<'_>,
        stream: bool,
        report: &mut Report,
    ) -> Result<Bytes, LlmError> {
        encode::body(chat, self.to(asked), stream, asked.before.is_some(), report)
    }

    fn refit(&self, body: &Bytes, asked: ModelChoice<'_>, report: &mut Report) -> Result<Option<Bytes>, LlmError> {
        refit::refit(body, self.to(asked), asked.before, report)
    }

    fn decode(&self, body: &[u8]) -> Result<Message, Fault> {
        decode::message(body)
    }

    fn decoder(&self) -> Decoder {
        Decoder::default()
    }

    fn classify(&self, status: StatusCode, facts: &ErrorBody, waits: bool) -> ErrorKind {
        error::classify(status, facts, waits)
    }

    /// Only the header has the wait here.
    fn wait(&self, _: &ErrorBody) -> Option<Duration> {
        None
    }
}
