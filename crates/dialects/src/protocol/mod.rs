//! The protocols of providers without a transport: a request to bytes, bytes and events to an answer, and an error's
//! status, headers and body to an [`LlmError`].

mod body;
mod coder;
mod error_body;
mod failure;
mod frames;
mod halves;
mod limits;
mod named_fault;
mod omission;
mod refusal;
mod source;
mod text_shape;
mod used_tokens;

use std::{borrow::Cow, fmt, io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::Value;

pub use self::{
    body::RequestBody,
    coder::{BodyRules, Coder, Encoded, IN_ADDRESS, Rewrite, Rewritten, TranslationNotes},
    error_body::{ErrorBody, FieldFault},
    failure::{
        Meaning, Origin, Secret, excerpt, innermost, looks_like_a_key, no_answer, no_model, of_body, request_id,
    },
    frames::Frames,
    limits::Limits,
    omission::Remedy,
    refusal::{Chooser, Optional, Refusal, RefusalMemory, beginning},
    source::{DataSource, EventSource, Interruption, SseSource},
    used_tokens::UsageWatch,
};
pub(crate) use self::{
    failure::LONGEST_RATE_WAIT,
    refusal::{named as refused_parameters, without as without_parameter, without_everywhere},
    text_shape::{OtherField, OtherMeaning, TextFields, TextShape, number_without_meaning},
};
use crate::{
    Dialect, ErrorKind, LlmError, StreamEvent,
    chat::{Chat, FinishReason, Message, Usage},
    models::Family,
    splice::MaxTokens,
    sse::SseEvent,
    surrogates,
    translate::{CacheMarks, Report, StandIns, Target},
};

/// Returns a text without the byte order mark that some servers put first. A reader may ignore it (RFC 8259, 8.1).
fn without_mark(text: Bytes) -> Bytes {
    if text.starts_with(b"\xef\xbb\xbf") { text.slice(3..) } else { text }
}

/// Returns JSON as its readers take it: without the mark, and without halves of characters.
pub fn readable(json: Bytes) -> Bytes {
    let json = without_mark(json);
    match surrogates::mended(&json) {
        Cow::Borrowed(_) => json,
        Cow::Owned(mended) => mended.into(),
    }
}

/// The protocol of one provider: encodes its requests and decodes its answers.
pub trait Protocol: Clone + fmt::Debug + Send + Sync + Unpin + 'static {
    /// The decoder of its streams.
    type Decoder: StreamDecoder;

    /// The wire format. Requests that are in it already are forwarded byte for byte.
    fn dialect(&self) -> Dialect;

    /// Returns the path (and query) behind the base URL.
    fn path(&self, model: &str, stream: bool) -> Cow<'static, str>;

    /// Returns true if the body names the model, false if the path does.
    fn model_in_body(&self) -> bool {
        true
    }

    /// Returns the fields for the longest answer, the one to add first.
    fn max_tokens_fields(&self) -> &'static [MaxTokens];

    /// Returns the parameters that a request can do without if the model refuses them: the rules of
    /// [`translate`](crate::translate) omit them elsewhere too.
    fn optional(&self) -> &'static [Optional];

    /// Returns the parts of a request that an error is about, if the request can do without them. `has` tells if it has
    /// the part at a path.
    fn refusals(&self, facts: &ErrorBody, has: &dyn Fn(&str) -> bool) -> Vec<Refusal> {
        refused_parameters(facts, self.optional(), has)
    }

    /// Returns true if an error is about a part that a request can do without.
    fn names_part(&self, facts: &ErrorBody) -> bool {
        let refusals = self.refusals(facts, &|_| true);
        // The dialect's parts have names that stand before many a colon: user, usage, name.
        refusals.iter().any(|refusal| refusal.chooser != Chooser::Dialect || refusal.is_unsupported)
    }

    /// Returns a body, whose last turn is an answer to go on with, in the server's own words; `None` if it stands so.
    fn going_on(&self, body: &[u8]) -> Option<Vec<u8>> {
        let _stands = body;
        None
    }

    /// Returns a body without such a part; `None` if it has none.
    fn without(&self, body: &[u8], path: &str) -> Option<Vec<u8>> {
        without_parameter(body, path)
    }

    /// Returns the header that carries the key.
    fn key(&self, key: &str) -> (HeaderName, String);

    /// Adds the provider's further headers. The caller's own stay.
    fn headers(&self, headers: &mut HeaderMap) {
        let _none = headers;
    }

    /// Returns the provider's needs, for the translation.
    fn target(&self) -> Target {
        Target::new(self.dialect())
    }

    /// Returns what the provider requires of turns that another model made.
    fn stand_ins(&self, model: &str) -> StandIns {
        let _any = model;
        StandIns::None
    }

    /// Returns the places at which the provider takes marks for its cache in requests for this model.
    fn cache_marks(&self, model: &str) -> CacheMarks {
        let _any = model;
        if self.dialect() == Dialect::Anthropic { CacheMarks::Anywhere } else { CacheMarks::None }
    }

    /// Encodes a request, and reports the parts that it could not carry.
    fn encode(&self, chat: &Chat, asked: ModelChoice<'_>, stream: bool, report: &mut Report)
    -> Result<Bytes, LlmError>;

    /// Fits a request of this dialect for another model to this one; returns `None` if the bytes fit unchanged.
    fn refit(&self, body: &Bytes, asked: ModelChoice<'_>, report: &mut Report) -> Result<Option<Bytes>, LlmError>;

    /// Returns the tokens that an answer reports which is a failure, or the event of one. Default: none.
    fn failed_usage(&self, _answer: &[u8]) -> Option<Usage> {
        None
    }

    /// Decodes a whole answer.
    fn decode(&self, body: &[u8]) -> Result<Message, Fault>;

    /// Creates a decoder for a stream.
    fn decoder(&self) -> Self::Decoder;

    /// Classifies an error with this status. A failure inside a 200 has that status, or the one that its code stands
    /// for. `waits` is true if the answer names a wait.
    fn classify(&self, status: StatusCode, facts: &ErrorBody, waits: bool) -> ErrorKind;

    /// Returns the wait that the error body asks for.
    fn wait(&self, facts: &ErrorBody) -> Option<Duration> {
        crate::retry_after::from_message(&facts.message)
    }
}

/// The model of a call.
#[derive(Clone, Copy, Debug)]
pub struct ModelChoice<'a> {
    pub(crate) model: &'a str,
    pub(crate) family: &'a Family,
    /// The family of the model that the caller named, if it is another one.
    pub(crate) before: Option<&'a Family>,
}

/// Decodes one stream.
pub trait StreamDecoder: fmt::Debug + Send + Unpin + 'static {
    /// Decodes one event with data, and appends its meaning.
    fn event(&mut self, event: &SseEvent, out: &mut Vec<StreamEvent>) -> Result<(), Fault>;

    /// Returns true if the answer is whole when the stream ends here, without a further mark. `clean` is true if the
    /// body ended like a whole one, and not with its connection.
    fn is_whole(&self, clean: bool) -> bool;
}

impl StreamDecoder for Box<dyn StreamDecoder> {
    fn event(&mut self, event: &SseEvent, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        (**self).event(event, out)
    }

    fn is_whole(&self, clean: bool) -> bool {
        (**self).is_whole(clean)
    }
}

/// Encodes the body of a request.
pub fn to_json<T: serde::Serialize>(body: &T) -> Result<Bytes, LlmError> {
    let mut pieces = Pieces { full: Vec::new(), last: Vec::with_capacity(128) };
    serde_json::to_writer(&mut pieces, body).map_err(cannot_be_written)?;
    Ok(pieces.joined().into())
}

/// The text of a body as it is written. A buffer that doubles while it fills takes three times as much in the end.
struct Pieces {
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
}

/// The size in bytes up to which the last piece grows.
const PIECE: usize = 64 * 1024;

impl Pieces {
    fn joined(mut self) -> Vec<u8> {
        if self.full.is_empty() {
            return self.last;
        }
        self.full.push(self.last);
        self.full.concat()
    }
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.last.len() + bytes.len() > PIECE.max(self.last.capacity()) {
            let next = Vec::with_capacity(PIECE.max(bytes.len()));
            self.full.push(std::mem::replace(&mut self.last, next));
        }
        self.last.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Encodes the body of a request, or a part, as a tree that can be changed further.
pub(crate) fn to_value<T: serde::Serialize>(of_body: &T) -> Result<Value, LlmError> {
    serde_json::to_value(of_body).map_err(cannot_be_written)
}

fn cannot_be_written(error: serde_json::Error) -> LlmError {
    LlmError::new(ErrorKind::InvalidRequest, "the request cannot be encoded as JSON").with_source(error)
}

/// The reason that an answer or an event could not be decoded.
#[derive(Debug)]
pub enum Fault {
    /// It is an error body.
    Reported(Value),
    /// It does not follow the format.
    Malformed(serde_json::Error),
    /// It follows the format and means this failure.
    Failed(LlmError),
}

impl Fault {
    /// Returns the turn of an answer of which a filter of the provider's left nothing: a finish reason is all of it.
    fn filtered_turn(&self) -> Option<Message> {
        let Self::Failed(error) = self else { return None };
        (error.kind() == ErrorKind::ContentPolicy).then(|| {
            let mut message = Message::assistant("");
            message.finish = Some(FinishReason::Filtered);
            message
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_any_size_is_written_as_serde_json_writes_it() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let text = |rng: &mut fastrand::Rng| "a\"b\n".repeat(rng.usize(..12)) + &"x".repeat(rng.usize(..2 * PIECE));
            let body: Vec<String> = (0..rng.usize(..6)).map(|_| text(&mut rng)).collect();
            assert_eq!(to_json(&body).unwrap(), serde_json::to_vec(&body).unwrap());
        }
    }
}
