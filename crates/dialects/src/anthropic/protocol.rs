use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    decode,
    encode::{self, Destination},
    error, refit,
    stream::Decoder,
};
use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{Chat, Message},
    prices::PriceTable,
    protocol::{ErrorBody, Fault, ModelChoice, Optional, Protocol, Refusal, refused_parameters, without_parameter},
    refit::Fields,
    splice::MaxTokens,
    translate::{Report, without_seals},
};

/// Anthropic's Messages.
#[derive(Clone, Debug)]
pub struct Messages {
    /// The `anthropic-version` header.
    #[doc(hidden)]
    pub version: HeaderValue,
    /// The longest answer, in tokens, where the request names none.
    #[doc(hidden)]
    pub max_tokens: Option<u32>,
    /// The prices of the models that make one answer together.
    #[doc(hidden)]
    pub prices: PriceTable,
}

impl Messages {
    /// Creates the protocol in its version of `2023-06-01`.
    #[doc(hidden)]
    pub fn new() -> Self {
        Self { version: HeaderValue::from_static("2023-06-01"), max_tokens: None, prices: PriceTable::builtin() }
    }

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
    type Decoder = Decoder;

    fn dialect(&self) -> Dialect {
        Dialect::Anthropic
    }

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
            Optional::new("speed"),
            Optional::of_dialect("service_tier"),
            Optional::of_dialect("metadata"),
            Optional::of_dialect("context_management"),
            Optional::of_dialect("output_config.task_budget"),
            Optional::of_dialect("**.caller"),
            Optional::of_dialect("**.citations"),
            Optional::of_dialect("tools[].strict"),
            Optional::of_dialect("tools[].defer_loading"),
            Optional::of_dialect("tools[].eager_input_streaming"),
            Optional::of_dialect("tools[].allowed_callers"),
            Optional::of_dialect("tools[].input_examples"),
            Optional::placed("**.cache_control.scope", &["**.cache_control.ephemeral.scope"]),
            Optional::placed("**.cache_control.ttl", &["**.cache_control.ephemeral.ttl"]),
            Optional::of_dialect("**.cache_control"),
        ];
        OPTIONAL
    }

    fn refusals(&self, facts: &ErrorBody, has: &dyn Fn(&str) -> bool) -> Vec<Refusal> {
        match error::sealed_reasoning(facts) {
            Some(refusal) => vec![refusal],
            None => refused_parameters(facts, self.optional(), has),
        }
    }

    /// A model that thinks goes on with no answer (docs.anthropic.com, "Prefill Claude's response").
    fn going_on(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut fields = Fields::of(serde_json::from_slice(body).ok()?).ok()?;
        fields.remove("thinking");
        refit::clear_nothing(&mut fields);
        fields.finish().map(String::into_bytes)
    }

    fn without(&self, body: &[u8], path: &str) -> Option<Vec<u8>> {
        match path {
            error::SEALED => without_seals(body, Dialect::Anthropic),
            "thinking" => self.going_on(body),
            path => without_parameter(body, path),
        }
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
        decode::message(body, &self.prices)
    }

    fn decoder(&self) -> Decoder {
        Decoder::new(self.prices.clone())
    }

    fn classify(&self, status: StatusCode, facts: &ErrorBody, waits: bool) -> ErrorKind {
        error::classify(status, facts, waits)
    }
}
