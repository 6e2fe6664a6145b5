use std::borrow::Cow;

use bytes::Bytes;

use super::{RequestEcho, anthropic, error, gemini, new_id, openai, responses};
use crate::{
    Dialect, ErrorKind, Frame, LlmError, LlmRequest, Progress, StreamEvent,
    body::Continued,
    chat::{FinishReason, Usage},
    translate::request::Report,
};

/// Encodes a stream of [`Frame`]s as the server-sent events that a caller of a dialect expects.
///
/// Frames of the same dialect pass as the bytes that the provider sent. Others are encoded in the grammar of the
/// dialect's own API: Anthropic's blocks one after the other, each closed, each thought signed; OpenAI's chunks with
/// the role first and `[DONE]` last; Gemini's calls whole; the items of OpenAI's Responses, each closed, and the whole
/// response last. A complete answer, which is one frame, becomes a stream too.
///
/// A stream that begins again ([`StreamEvent::Restarted`]) after content went out ends with an error: no dialect has a
/// word for *discard what came before*. One that goes on ([`StreamEvent::Continued`]) stays the message that it was:
/// with its id and its model, in the block that is open.
///
/// ```
/// use steadfast::{Dialect, Frame, StreamEvent, translate::StreamEncoder};
///
/// let mut encoder = StreamEncoder::new(Dialect::OpenAi);
/// let first = encoder.frame(&Frame::text("hello"));
/// let last = encoder.frame(&Frame::event(StreamEvent::End));
/// assert!(first.starts_with(b"data: {") && last.ends_with(b"data: [DONE]\n\n"));
/// ```
#[derive(Debug)]
pub struct StreamEncoder {
    grammar: Grammar,
    dialect: Dialect,
    report: Report,
    id: Option<String>,
    model: Option<String>,
    usage: Option<Usage>,
    /// The tokens of the prompt before the provider has counted them.
    prompt: u64,
    with_usage: bool,
    finish: Option<FinishReason>,
    /// True once content went out.
    said: bool,
    /// True once the provider's own bytes went out.
    passing: bool,
    /// The place where those bytes end.
    passed: Passed,
    done: bool,
}

/// The place where a provider's own bytes end. It holds none of them, since they are part of a larger buffer.
#[derive(Debug, Default)]
struct Passed {
    /// OpenAI's first chunk, copied: the others have the same id and time.
    first_chunk: Bytes,
    /// Anthropic's blocks so far.
    blocks: anthropic::Blocks,
}

impl Passed {
    #[inline]
    fn note(&mut self, dialect: Dialect, frame: &Frame, raw: &Bytes) {
        match dialect {
            Dialect::OpenAi if self.first_chunk.is_empty() && frame.progress() > Progress::KeepAlive => {
                self.first_chunk = Bytes::copy_from_slice(raw);
            }
            Dialect::Anthropic => self.blocks.note(frame, raw),
            _ => {}
        }
    }
}

#[derive(Debug)]
enum Grammar {
    Anthropic(anthropic::Stream),
    OpenAi(openai::Stream),
    Gemini(gemini::Stream),
    Responses(Box<responses::Stream>),
}

impl Grammar {
    fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Anthropic => Self::Anthropic(anthropic::Stream::default()),
            Dialect::OpenAi => Self::OpenAi(openai::Stream::default()),
            Dialect::Gemini => Self::Gemini(gemini::Stream::default()),
            Dialect::Responses => Self::Responses(Box::default()),
        }
    }

    /// Notes an event that may pass. Returns false if it may not: the caller knows the answer by another id.
    #[inline(never)]
    fn pass(&mut self, frame: &Frame, raw: &Bytes) -> bool {
        match self {
            Self::Responses(stream) if stream.has_begun() => false,
            Self::Responses(stream) => {
                stream.pass(frame, raw);
                true
            }
            _ => true,
        }
    }
}

impl StreamEncoder {
    /// Creates an encoder for one stream to a caller of this dialect.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            grammar: Grammar::of(dialect),
            dialect,
            report: Report::new(dialect, None),
            id: None,
            model: None,
            usage: None,
            prompt: 0,
            with_usage: true,
            finish: None,
            said: false,
            passing: false,
            passed: Passed::default(),
            done: false,
        }
    }

    /// Sets the model's name for a stream that has none.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Sets the request, of whose prompt a stream in Anthropic's dialect tells an estimate in its first event: most
    /// providers count the tokens at the end alone. Default: none, and the event has 0. The other dialects have no such
    /// place.
    #[must_use]
    pub fn request(mut self, request: &LlmRequest) -> Self {
        if self.dialect == Dialect::Anthropic {
            self.prompt = request.glanced_prompt().into();
        }
        self
    }

    /// Sets whether a stream in OpenAI's dialect ends with a chunk of the tokens used (`stream_options.include_usage`).
    /// Default: true. The other dialects always report them.
    #[must_use]
    pub fn usage(mut self, told: bool) -> Self {
        self.with_usage = told;
        self
    }

    /// Sets the parts of the request that a stream in one of OpenAI's dialects repeats: see [`RequestEcho`]. Default:
    /// none. The other dialects repeat nothing.
    #[must_use]
    pub fn echo(mut self, echo: RequestEcho) -> Self {
        match &mut self.grammar {
            Grammar::Responses(stream) => stream.set_echo(echo),
            Grammar::OpenAi(stream) => stream.set_echo(echo),
            Grammar::Anthropic(_) | Grammar::Gemini(_) => {}
        }
        self
    }

    /// Returns the bytes to send for this frame; empty if nothing can be sent yet, and after the end.
    pub fn frame(&mut self, frame: &Frame) -> Bytes {
        if self.done {
            return Bytes::new();
        }
        if let Some((dialect, raw)) = frame.raw()
            && dialect == self.dialect
            && (self.passing || !self.said)
            // The bytes of a complete answer are not an event.
            && !matches!(raw.trim_ascii_start().first(), Some(b'{' | b'['))
            && (dialect != Dialect::Responses || self.grammar.pass(frame, raw))
        {
            self.passing = true;
            self.passed.note(self.dialect, frame, raw);
            self.said |= matches!(frame.progress(), Progress::Content | Progress::Reasoning | Progress::End);
            self.done = frame.progress() == Progress::End;
            return raw.clone();
        }
        let mut text = String::new();
        for event in frame.events() {
            // Anthropic reports the prompt's tokens at the very beginning.
            if let StreamEvent::Usage(usage) = event {
                self.usage = Some(*usage);
            }
        }
        for event in frame.events() {
            if self.done {
                break;
            }
            self.event(event, &mut text);
        }
        text.into()
    }

    /// Returns the bytes that report an error in the middle of the stream and end it. There is no end mark after them.
    pub fn error(&mut self, error: &LlmError) -> Bytes {
        if std::mem::replace(&mut self.done, true) {
            return Bytes::new();
        }
        let mut text = String::new();
        let body = || error::value(error, self.dialect).1;
        match &mut self.grammar {
            Grammar::Anthropic(_) => anthropic::put(&mut text, &body()),
            Grammar::OpenAi(_) => openai::put(&mut text, &body()),
            Grammar::Gemini(_) => gemini::put(&mut text, &body()),
            Grammar::Responses(stream) => {
                let id = responses::response_id(self.id.as_deref());
                stream.fail(error, &id, self.model.as_deref().unwrap_or_default(), &mut text);
            }
        }
        text.into()
    }

    /// Returns a keep-alive for a waiting caller; empty if the dialect allows none yet.
    pub fn keep_alive(&self) -> Bytes {
        match &self.grammar {
            _ if self.done => Bytes::new(),
            Grammar::Anthropic(_) if self.passing => Bytes::from_static(b"event: ping\ndata: {\"type\":\"ping\"}\n\n"),
            Grammar::Anthropic(stream) => Bytes::from_static(stream.keep_alive().as_bytes()),
            // To Google's Python SDK a comment is an answer that is no JSON; every client skips a blank line.
            Grammar::Gemini(_) => Bytes::from_static(b"\r\n\r\n"),
            Grammar::OpenAi(_) | Grammar::Responses(_) => Bytes::from_static(b": keep-alive\n\n"),
        }
    }

    /// Returns notes on the parts changed or left out so far.
    pub fn notes(&self) -> Vec<Cow<'static, str>> {
        self.report.notes()
    }

    fn event(&mut self, event: &StreamEvent, to: &mut String) {
        match event {
            StreamEvent::Start { id, model } => {
                if id.is_some() {
                    self.id.clone_from(id);
                }
                if model.is_some() {
                    self.model.clone_from(model);
                }
                self.begin(to);
            }
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Finish(reason) => {
                // Sent at the end: some providers name a reason before the content is complete, even in each chunk.
                self.finish = Some(reason.clone());
                self.begin(to);
            }
            StreamEvent::KeepAlive => to.push_str(std::str::from_utf8(&self.keep_alive()).unwrap_or_default()),
            StreamEvent::Restarted { reason } => self.restart(*reason, to),
            StreamEvent::Continued(place) => self.go_on(place, to),
            StreamEvent::End => self.end(to),
            StreamEvent::Other | StreamEvent::Bytes => {}
            _ if self.passing => {}
            content => {
                self.begin(to);
                self.said |= Frame::event(content.clone()).progress() >= Progress::Reasoning;
                match &mut self.grammar {
                    Grammar::Anthropic(stream) => stream.event(content, &mut self.report, to),
                    Grammar::OpenAi(stream) => stream.event(content, &mut self.report, to),
                    Grammar::Gemini(stream) => stream.event(content, &mut self.report, to),
                    Grammar::Responses(stream) => stream.event(content, &mut self.report, to),
                }
            }
        }
    }

    fn begin(&mut self, to: &mut String) {
        if self.passing {
            return;
        }
        let id = self.id.get_or_insert_with(|| match self.dialect {
            Dialect::Anthropic => format!("msg_{}", new_id()),
            Dialect::OpenAi => format!("chatcmpl-{}", new_id()),
            Dialect::Gemini => new_id(),
            Dialect::Responses => new_id(),
        });
        let model = self.model.as_deref().unwrap_or_default();
        match &mut self.grammar {
            Grammar::Anthropic(stream) => {
                stream.begin(id, model, self.usage.unwrap_or_else(|| Usage::new(self.prompt, 0)), to);
            }
            Grammar::OpenAi(stream) => stream.begin(id, model, self.with_usage, to),
            Grammar::Gemini(stream) => stream.begin(id, model),
            Grammar::Responses(stream) => stream.begin(&responses::response_id(Some(id)), model, to),
        }
    }

    fn end(&mut self, to: &mut String) {
        self.done = true;
        if self.passing {
            // The provider omitted its mark, and the answer is known to be whole: its reader should not have to guess.
            // In Anthropic's dialect an answer without its mark is none, and in Gemini's there is no other mark.
            if self.dialect == Dialect::OpenAi {
                to.push_str(openai::END_MARK);
            }
            return;
        }
        self.begin(to);
        let finish = self.finish.as_ref();
        match &mut self.grammar {
            Grammar::Anthropic(stream) => stream.end(finish, self.usage.unwrap_or_default(), &mut self.report, to),
            Grammar::OpenAi(stream) => {
                stream.finish(finish, &mut self.report, to);
                stream.end(self.usage.filter(|_| self.with_usage), to);
            }
            Grammar::Gemini(stream) => stream.end(finish, self.usage, &mut self.report, to),
            Grammar::Responses(stream) => stream.end(finish, self.usage, &mut self.report, to),
        }
    }

    /// Goes on in this dialect's grammar, where the provider's own bytes have passed so far.
    fn go_on(&mut self, place: &Continued, to: &mut String) {
        if !self.passing {
            return;
        }
        self.passing = false;
        let (id, model) = place.begun_as.clone();
        (self.id, self.model) = (id, model.or_else(|| self.model.take()));
        let is_told = match &mut self.grammar {
            Grammar::Anthropic(stream) => stream.resume(place.index, &self.passed.blocks),
            Grammar::OpenAi(stream) => {
                stream.resume(&self.passed.first_chunk);
                true
            }
            // Each of its answers stands alone.
            Grammar::Gemini(_) => true,
            Grammar::Responses(stream) => stream.resume(place),
        };
        if is_told {
            // Its beginning went out already.
            self.begin(&mut String::new());
        } else {
            let what = "the answer broke off, and its events do not tell how it would go on";
            let bytes = self.error(&LlmError::new(place.reason, what));
            to.push_str(std::str::from_utf8(&bytes).unwrap_or_default());
        }
    }

    fn restart(&mut self, reason: ErrorKind, to: &mut String) {
        if self.said || self.passing {
            let error =
                LlmError::new(ErrorKind::StreamBroken, format!("the answer broke off ({reason}) and began again"));
            let bytes = self.error(&error);
            to.push_str(std::str::from_utf8(&bytes).unwrap_or_default());
            return;
        }
        // Only the beginning went out, which serves the new answer as well.
        (self.usage, self.finish) = (None, None);
    }
}
