//! The common part of the protocols: a parsed request, an answer, a refusal.

use std::{borrow::Cow, fmt, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request::Parts};
use serde_json::Value;

use super::{event_stream::Framing, refusal::Refusal, response_form};
use steadfast::{
    Dialect,
    chat::Chat,
    providers::simulated::{Fault, PlannedCall, RateStatus, SimulatedCall, Voice, pieces},
};
use steadfast_internal::wall_clock;

/// A provider's form of requests, answers and errors.
pub(super) trait Protocol: fmt::Debug + Send + Sync {
    /// The dialect that it writes.
    fn dialect(&self) -> Dialect;

    /// Parses a request to this account, or returns the provider's refusal.
    fn ask(&self, request: &Parts, body: &Value, account: &str) -> Result<ParsedRequest, Refusal>;

    /// Returns the status and body of a failure.
    fn refuse(&self, refusal: &Refusal, request_id: &str) -> (StatusCode, Value);

    /// Adds headers beside the content type. `refusal` is `None` for answers.
    fn headers(&self, headers: &mut HeaderMap, request_id: &str, rate: &RateStatus, refusal: Option<&Refusal>);

    /// Returns the whole answer to a request that does not stream.
    fn whole(&self, answer: &Answer) -> Value;

    /// Returns the bytes in which its streams go out.
    fn framing(&self) -> Framing {
        Framing::Sse
    }

    /// Writes the start of a stream, before any content.
    fn opening(&self, answer: &Answer, to: &mut String);

    /// Writes token `index` of a stream.
    fn token(&self, answer: &Answer, index: u32, to: &mut String);

    /// Writes the end of a stream, the end mark included.
    fn ending(&self, answer: &Answer, to: &mut String);

    /// Returns the mark at the end of [`ending`](Self::ending); empty if the finish reason is the only one.
    fn end_mark(&self, answer: &Answer) -> Cow<'static, str>;

    /// Writes an error inside a stream that began with status 200, after so many tokens.
    fn error_event(&self, answer: &Answer, tokens: u32, to: &mut String);

    /// Returns a keep-alive between two tokens.
    fn keep_alive(&self) -> &'static str;
}

/// The parsed request.
#[derive(Debug, Default)]
pub(super) struct ParsedRequest {
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) max_tokens: Option<u32>,
    /// True if the conversation ends with a turn of the model's.
    pub(super) prefilled: bool,
    /// OpenAI only: a last chunk with the usage.
    pub(super) include_usage: bool,
    /// The conversation and its demands, where the protocol reads them itself.
    pub(super) chat: Option<Chat>,
    /// Responses only: the form of the answer.
    pub(super) form: Option<response_form::Form>,
    /// Doors only: the request in its dialect's own form.
    pub(super) dialect_body: Option<Value>,
    /// Doors only: the model's name in answers, where it is not the request's.
    pub(super) spoken: Option<String>,
}

/// An answer under construction.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) request_id: String,
    /// Unique in the provider, without the protocol's prefix.
    pub(super) id: String,
    pub(super) model: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    pub(super) prompt_tokens: u64,
    /// The number of pieces of the content.
    pub(super) tokens: u32,
    /// True if the caller's limit of tokens cuts it.
    pub(super) cut_short: bool,
    pub(super) include_usage: bool,
    pub(super) tool: Option<ToolCall>,
    /// Responses only.
    pub(super) form: Option<response_form::Form>,
    voice: Voice,
}

#[derive(Debug)]
pub(super) struct ToolCall {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) input: Value,
    pieces: Vec<String>,
}

impl Answer {
    pub(super) fn new(
        call: &SimulatedCall,
        ask: ParsedRequest,
        called: Option<PlannedCall>,
        request_id: String,
        prompt_tokens: u64,
    ) -> Self {
        let id = format!("{:024x}", call.number);
        let tool = called.map(|PlannedCall { name, arguments }| {
            let form = ask.form.as_ref();
            let spoken =
                form.and_then(|form| form.free_text(&name, &arguments)).unwrap_or_else(|| arguments.to_string());
            ToolCall { id: id.clone(), name, pieces: pieces(&spoken), input: arguments }
        });
        let tokens = match (&call.plan.fault, &tool) {
            (Some(Fault::Empty), _) => 0,
            (_, Some(tool)) => u32::try_from(tool.pieces.len()).unwrap_or(u32::MAX),
            (_, None) => call.plan.tokens,
        };
        Self {
            request_id,
            id,
            model: ask.spoken.unwrap_or(ask.model),
            created: wall_clock::since_1970().as_secs(),
            prompt_tokens,
            tokens,
            cut_short: call.cut_short && tool.is_none(),
            include_usage: ask.include_usage,
            tool: tool.filter(|_| tokens > 0),
            form: ask.form,
            voice: call.voice.clone(),
        }
    }

    /// Returns a piece of the text, or of the tool's arguments.
    pub(super) fn piece(&self, index: u32) -> &str {
        match &self.tool {
            Some(tool) => tool.pieces.get(index as usize).map_or("", |piece| piece),
            None => self.voice.token(index),
        }
    }

    pub(super) fn text(&self) -> String {
        (0..self.tokens).map(|index| self.piece(index)).collect()
    }
}

/// Returns the status that a script names; one that HTTP does not allow becomes a 500.
pub(super) fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Sets a header; a value that no header can hold is omitted.
pub(super) fn set(headers: &mut HeaderMap, name: &'static str, value: impl fmt::Display) {
    if let Ok(value) = HeaderValue::try_from(value.to_string()) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// Sets a header with a composed name.
pub(super) fn set_named(headers: &mut HeaderMap, name: &str, value: impl fmt::Display) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value.to_string())) {
        headers.insert(name, value);
    }
}

/// Returns a wait in whole seconds, rounded up: a retry after it is never too early.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    let part = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(part).max(1)
}

pub(super) fn header<'a>(request: &'a Parts, name: &str) -> Option<&'a str> {
    request.headers.get(name)?.to_str().ok()
}

/// Returns the key of an `Authorization: Bearer` header.
pub(super) fn bearer(request: &Parts) -> Option<&str> {
    header(request, "authorization")?.strip_prefix("Bearer ")
}

/// The key that no provider accepts, to try out a refusal.
pub(super) const BAD_KEY: &str = "bad-key";

pub(super) fn text_field<'a>(body: &'a Value, field: &str) -> Option<&'a str> {
    body.get(field)?.as_str().filter(|text| !text.is_empty())
}

pub(super) fn count_field(body: &Value, field: &str) -> Option<u32> {
    let count = body.get(field)?.as_u64()?;
    Some(u32::try_from(count).unwrap_or(u32::MAX))
}

pub(super) fn list_field<'a>(body: &'a Value, field: &str) -> Option<&'a [Value]> {
    let list = body.get(field)?.as_array()?;
    (!list.is_empty()).then_some(list.as_slice())
}
