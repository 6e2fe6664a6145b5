use std::{borrow::Cow, fmt, io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::Value;

use super::{Facts, Optional};
use crate::{
    Dialect, ErrorKind, LlmError, StreamEvent,
    chat::{Chat, Message},
    models::Family,
    providers::{splice::MaxTokens, sse::SseEvent},
    translate::{Report, Target},
};

/// What tells one provider's leaf from another's: how it says a request, and how it reads an answer.
///
/// A client of your own is a leaf of its own, one `impl Service<LlmRequest>`.
pub(crate) trait Protocol: Clone + fmt::Debug + Send + Sync + Unpin + 'static {
    /// The wire format. Requests that are in it already are forwarded byte for byte.
    const DIALECT: Dialect;

    /// What reads its streams.
    type Decoder: StreamDecoder;

    /// The path (and query) that comes after the base URL.
    fn path(&self, model: &str, stream: bool) -> Cow<'static, str>;

    /// Whether the body names the model (else the path does).
    fn model_in_body(&self) -> bool {
        true
    }

    /// The fields that say how long an answer may be, the one to add first.
    fn max_tokens_fields(&self) -> &'static [MaxTokens];

    /// What a request can do without, where the model refuses it: the rules of [`translate`](crate::translate) leave it out
    /// elsewhere too.
    fn optional(&self) -> &'static [Optional];

    /// The header that carries the key.
    fn key(&self, key: &str) -> (HeaderName, String);

    /// Adds the headers that the provider wants beside the key. What the caller has set stays.
    fn headers(&self, headers: &mut HeaderMap) {
        let _none = headers;
    }

    /// What the translator must know of the provider.
    fn target(&self) -> Target {
        Target::new(Self::DIALECT)
    }

    /// Writes a request, and reports what it could not carry.
    fn encode(&self, chat: &Chat, asked: Asked<'_>, stream: bool, report: &mut Report) -> Result<Bytes, LlmError>;

    /// A request of this dialect for another model as this one takes it; `None` where it takes the bytes as they are.
    fn refit(&self, body: &Bytes, asked: Asked<'_>, report: &mut Report) -> Result<Option<Bytes>, LlmError>;

    /// Reads a whole answer.
    fn decode(&self, body: &[u8]) -> Result<Message, Fault>;

    /// Begins to read a stream.
    fn decoder(&self) -> Self::Decoder;

    /// Names an error that has come with this status. A failure inside a 200 has that status, or the one that its code
    /// stands for. `waits` says whether the answer tells when to come again.
    fn classify(&self, status: StatusCode, facts: &Facts, waits: bool) -> ErrorKind;

    /// How long the error body asks to wait.
    fn wait(&self, facts: &Facts) -> Option<Duration> {
        crate::retry_after::from_message(&facts.message)
    }
}

/// The model that is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) model: &'a str,
    pub(crate) family: &'a Family,
    /// The family of the model that the caller named, where it is another one.
    pub(crate) before: Option<&'a Family>,
}

/// Reads one stream.
pub(crate) trait StreamDecoder: fmt::Debug + Send + Unpin + 'static {
    /// Reads one event that has data, and adds what it means.
    fn event(&mut self, event: &SseEvent, out: &mut Vec<StreamEvent>) -> Result<(), Fault>;

    /// Whether the answer is whole if the stream ends here, without a further mark. `clean` says that the body ended as a
    /// whole one does, and not with its connection.
    fn is_whole(&self, clean: bool) -> bool;
}

/// Writes the body of a request.
pub(crate) fn to_json<T: serde::Serialize>(body: &T) -> Result<Bytes, LlmError> {
    let mut first = First { written: Vec::with_capacity(128), length: 0 };
    serde_json::to_writer(&mut first, body).map_err(cannot_be_written)?;
    if first.length <= BEGIN {
        return Ok(first.written.into());
    }
    let mut whole = Vec::with_capacity(first.length);
    serde_json::to_writer(&mut whole, body).map_err(cannot_be_written)?;
    Ok(whole.into())
}

/// Up to so many bytes a body is written at once. A larger one is counted first: room that doubles as it is filled takes three
/// times as much in the end.
const BEGIN: usize = 64 * 1024;

/// What is written first: the body, as long as it is small, and its length.
struct First {
    written: Vec<u8>,
    length: usize,
}

impl io::Write for First {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.length += bytes.len();
        if self.length <= BEGIN {
            self.written.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the body of a request, or something in it, to be changed further.
pub(crate) fn to_value<T: serde::Serialize>(of_body: &T) -> Result<Value, LlmError> {
    serde_json::to_value(of_body).map_err(cannot_be_written)
}

fn cannot_be_written(error: serde_json::Error) -> LlmError {
    LlmError::new(ErrorKind::InvalidRequest, "the request cannot be written as JSON").with_source(error)
}

/// Why an answer or an event could not be read.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is an error body.
    Reported(Value),
    /// It does not follow the format.
    Malformed(serde_json::Error),
    /// It follows the format and means this failure.
    Failed(LlmError),
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error)
    }
}

impl From<LlmError> for Fault {
    fn from(error: LlmError) -> Self {
        Self::Failed(error)
    }
}
