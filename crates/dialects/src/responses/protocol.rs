use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};

use super::{decode, encode, error, refit, stream::Decoder};
use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{Chat, Message, Usage},
    protocol::{ErrorBody, Fault, ModelChoice, Optional, Protocol, Refusal, refused_parameters, without_parameter},
    splice::MaxTokens,
    translate::Report,
};

/// OpenAI's Responses, as its own server or a compatible one speaks it.
#[derive(Clone, Debug)]
pub struct Responses {
    #[doc(hidden)]
    pub key_header: Option<HeaderName>,
}

impl Responses {
    /// Creates the protocol of OpenAI's own server.
    #[doc(hidden)]
    pub fn own() -> Self {
        Self::with_key_header(None)
    }

    /// Creates the protocol of a server that takes the key in this header.
    #[doc(hidden)]
    pub fn with_key_header(key_header: Option<HeaderName>) -> Self {
        Self { key_header }
    }
}

impl Protocol for Responses {
    type Decoder = Decoder;

    fn dialect(&self) -> Dialect {
        Dialect::Responses
    }

    fn path(&self, _: &str, _: bool) -> Cow<'static, str> {
        "/responses".into()
    }

    fn max_tokens_fields(&self) -> &'static [MaxTokens] {
        const FIELDS: &[MaxTokens] = &[MaxTokens { within: None, name: "max_output_tokens" }];
        FIELDS
    }

    fn optional(&self) -> &'static [Optional] {
        const OPTIONAL: &[Optional] = &[
            Optional::new("temperature"),
            Optional::new("top_p"),
            Optional::new("top_k"),
            Optional::new("top_logprobs"),
            Optional::new("presence_penalty"),
            Optional::new("frequency_penalty"),
            Optional::new("reasoning.summary"),
            Optional::new("reasoning.effort"),
            Optional::new("reasoning"),
            Optional::new("text.verbosity"),
            Optional::called("include", &["encrypted content", "encrypted_content"]),
            Optional::new("parallel_tool_calls"),
            Optional::new("max_tool_calls"),
            Optional::new("truncation"),
            Optional::of_dialect("service_tier"),
            Optional::of_dialect("metadata"),
            Optional::of_dialect("client_metadata"),
            Optional::of_dialect("user"),
            Optional::of_dialect("safety_identifier"),
            Optional::of_dialect("store"),
            Optional::of_dialect("prompt_cache_key"),
            Optional::of_dialect("prompt_cache_retention"),
            Optional::of_dialect("stream_options"),
            Optional::of_dialect("context_management"),
            Optional::of_dialect("tools[].strict"),
            Optional::of_dialect("tools[].defer_loading"),
            Optional::of_dialect("input[].status"),
            Optional::of_dialect("input[].phase"),
            Optional::of_dialect("input[].id"),
        ];
        OPTIONAL
    }

    fn refusals(&self, facts: &ErrorBody, has: &dyn Fn(&str) -> bool) -> Vec<Refusal> {
        match error::sealed_reasoning(facts) {
            Some(refusal) => vec![refusal],
            None => refused_parameters(facts, self.optional(), has),
        }
    }

    fn without(&self, body: &[u8], path: &str) -> Option<Vec<u8>> {
        match path {
            error::SEALED => refit::without_reasoning(body),
            path => without_parameter(body, path),
        }
    }

    fn key(&self, key: &str) -> (HeaderName, String) {
        match &self.key_header {
            Some(name) => (name.clone(), key.to_owned()),
            None => (header::AUTHORIZATION, format!("Bearer {key}")),
        }
    }

    fn encode(
        &self,
        chat: &Chat,
        asked: ModelChoice<'_>,
        stream: bool,
        report: &mut Report,
    ) -> Result<Bytes, LlmError> {
        encode::body(chat, (asked.model, asked.family), stream, asked.before.is_some(), report)
    }

    fn refit(&self, body: &Bytes, asked: ModelChoice<'_>, report: &mut Report) -> Result<Option<Bytes>, LlmError> {
        refit::refit(body, asked.family, report)
    }

    fn failed_usage(&self, answer: &[u8]) -> Option<Usage> {
        decode::usage(answer)
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
