use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};

use crate::{
    Dialect, ErrorKind, LlmError,
    anthropic::Messages,
    chat::{Chat, Message, Usage},
    gemini::GenerateContent,
    openai::ChatCompletions,
    protocol::{ErrorBody, Fault, ModelChoice, Optional, Protocol, Refusal, StreamDecoder},
    responses::Responses,
    splice::MaxTokens,
    translate::{CacheMarks, Report, StandIns, Target},
};

/// The protocol of a dialect that is chosen while the program runs.
#[derive(Clone, Debug)]
pub(super) enum AnyProtocol {
    Anthropic(Messages),
    OpenAi(ChatCompletions),
    Gemini(GenerateContent),
    Responses(Responses),
}

macro_rules! each {
    ($any:expr, $protocol:ident => $done:expr) => {
        match $any {
            Self::Anthropic($protocol) => $done,
            Self::OpenAi($protocol) => $done,
            Self::Gemini($protocol) => $done,
            Self::Responses($protocol) => $done,
        }
    };
}

impl AnyProtocol {
    /// Creates the protocol of the dialect's own provider.
    pub(super) fn new(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Anthropic => Self::Anthropic(Messages::new()),
            Dialect::OpenAi => Self::OpenAi(ChatCompletions::own()),
            Dialect::Gemini => Self::Gemini(GenerateContent::new()),
            Dialect::Responses => Self::Responses(Responses::own()),
        }
    }
}

impl Protocol for AnyProtocol {
    type Decoder = Box<dyn StreamDecoder>;

    fn dialect(&self) -> Dialect {
        each!(self, protocol => protocol.dialect())
    }

    fn path(&self, model: &str, stream: bool) -> Cow<'static, str> {
        each!(self, protocol => protocol.path(model, stream))
    }

    fn model_in_body(&self) -> bool {
        each!(self, protocol => protocol.model_in_body())
    }

    fn max_tokens_fields(&self) -> &'static [MaxTokens] {
        each!(self, protocol => protocol.max_tokens_fields())
    }

    fn optional(&self) -> &'static [Optional] {
        each!(self, protocol => protocol.optional())
    }

    fn refusals(&self, facts: &ErrorBody, has: &dyn Fn(&str) -> bool) -> Vec<Refusal> {
        each!(self, protocol => protocol.refusals(facts, has))
    }

    fn without(&self, body: &[u8], path: &str) -> Option<Vec<u8>> {
        each!(self, protocol => protocol.without(body, path))
    }

    fn key(&self, key: &str) -> (HeaderName, String) {
        each!(self, protocol => protocol.key(key))
    }

    fn headers(&self, headers: &mut HeaderMap) {
        each!(self, protocol => protocol.headers(headers))
    }

    fn target(&self) -> Target {
        each!(self, protocol => protocol.target())
    }

    fn stand_ins(&self, model: &str) -> StandIns {
        each!(self, protocol => protocol.stand_ins(model))
    }

    fn cache_marks(&self, model: &str) -> CacheMarks {
        each!(self, protocol => protocol.cache_marks(model))
    }

    fn encode(
        &self,
        chat: &Chat,
        asked: ModelChoice<'_>,
        stream: bool,
        report: &mut Report,
    ) -> Result<Bytes, LlmError> {
        each!(self, protocol => protocol.encode(chat, asked, stream, report))
    }

    fn refit(&self, body: &Bytes, asked: ModelChoice<'_>, report: &mut Report) -> Result<Option<Bytes>, LlmError> {
        each!(self, protocol => protocol.refit(body, asked, report))
    }

    fn failed_usage(&self, answer: &[u8]) -> Option<Usage> {
        each!(self, protocol => protocol.failed_usage(answer))
    }

    fn decode(&self, body: &[u8]) -> Result<Message, Fault> {
        each!(self, protocol => protocol.decode(body))
    }

    fn decoder(&self) -> Self::Decoder {
        each!(self, protocol => Box::new(protocol.decoder()))
    }

    fn classify(&self, status: StatusCode, facts: &ErrorBody, waits: bool) -> ErrorKind {
        each!(self, protocol => protocol.classify(status, facts, waits))
    }

    fn wait(&self, facts: &ErrorBody) -> Option<Duration> {
        each!(self, protocol => protocol.wait(facts))
    }
}
