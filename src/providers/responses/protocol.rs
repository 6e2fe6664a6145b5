use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};

use crate::{
    Dialect, ErrorKind, LlmError, StreamEvent,
    chat::{Chat, Message},
    providers::{
        protocol::{ErrorBody, Fault, ModelChoice, Optional, Protocol, StreamDecoder},
        splice::MaxTokens,
        sse::SseEvent,
    },
    translate::Report,
};

/// OpenAI's Responses, as its own server or a compatible one speaks it.
#[derive(Clone, Debug)]
pub struct Responses {
    pub(super) key_header: Option<HeaderName>,
}

impl Responses {
    /// Creates the protocol of OpenAI's own server.
    pub(crate) fn own() -> Self {
        Self { key_header: None }
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
        &[]
    }

    fn key(&self, key: &str) -> (HeaderName, String) {
        match &self.key_header {
            Some(name) => (name.clone(), key.to_owned()),
            None => (header::AUTHORIZATION, format!("Bearer {key}")),
        }
    }

    fn encode(
        &self,
        _chat: &Chat,
        _asked: ModelChoice<'_>,
        _stream: bool,
        _report: &mut Report,
    ) -> Result<Bytes, LlmError> {
        Ok(Bytes::new())
    }

    fn refit(&self, _body: &Bytes, _asked: ModelChoice<'_>, _report: &mut Report) -> Result<Option<Bytes>, LlmError> {
        Ok(None)
    }

    fn decode(&self, _body: &[u8]) -> Result<Message, Fault> {
        Err(LlmError::new(ErrorKind::Malformed, "").into())
    }

    fn decoder(&self) -> Decoder {
        Decoder::default()
    }

    fn classify(&self, status: StatusCode, _facts: &ErrorBody, _: bool) -> ErrorKind {
        ErrorKind::from_status(status)
    }
}

/// Decodes the events of one stream.
#[derive(Debug, Default)]
pub struct Decoder {}

impl StreamDecoder for Decoder {
    fn event(&mut self, _event: &SseEvent, _out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        Ok(())
    }

    fn is_whole(&self, _clean: bool) -> bool {
        false
    }
}
