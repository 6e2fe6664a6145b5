use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use serde_json::Value;

use super::{
    EventSource, Fault, Interruption, Protocol, StreamDecoder,
    failure::{self, Origin},
    halves::WholeCharacters,
    used_tokens::UsageWatch,
};
use crate::{
    ErrorKind, Frame, LlmError, Progress, StreamEvent,
    body::FailedAnswer,
    chat::FinishReason,
    commit::EmptyTurn,
    sse::SseEvent,
    translate::{Restore, ThoughtText},
};

/// A provider's events as frames.
pub struct Frames<P: Protocol, S> {
    source: WholeCharacters<S>,
    decoder: P::Decoder,
    protocol: P,
    origin: Origin,
    state: State,
    /// True once any content or thought went out.
    said: bool,
    /// True once anything went out that a reader or a program could use.
    content: bool,
    /// The model's own failure, if that is why it stopped.
    failed: Option<FinishReason>,
    /// Bytes outside of events: some servers write a bare JSON error into the stream.
    bare: BytesMut,
    /// The number of these that went out with a frame: once the stream goes on, they were no error.
    bare_sent: usize,
    /// Kept between events for its capacity.
    events: Vec<StreamEvent>,
    /// The changes to the request that the answer shows.
    restore: Restore,
    usage: UsageWatch,
    /// The thoughts so far, if the account is to know them again.
    thoughts: Option<ThoughtText>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    /// The end mark has gone out: only the connection's own end is awaited.
    Ended,
    Done,
}

impl<P: Protocol, S: EventSource> Frames<P, S> {
    pub fn new(protocol: P, origin: Origin, source: S, restore: Restore, usage: UsageWatch) -> Self {
        let thoughts = origin.account.seals.as_ref().and_then(|seals| seals.text());
        Self {
            source: WholeCharacters::new(source),
            decoder: protocol.decoder(),
            protocol,
            origin,
            state: State::Reading,
            said: false,
            content: false,
            failed: None,
            bare: BytesMut::new(),
            bare_sent: 0,
            events: Vec::new(),
            restore,
            usage,
            thoughts,
        }
    }

    /// Returns the frame of an event; `None` for a block that is no event.
    fn frame(&mut self, event: SseEvent) -> Result<Option<Frame>, LlmError> {
        if event.is_keep_alive() {
            let raw = self.after_bare(event.raw);
            return Ok(Some(Frame::event(StreamEvent::KeepAlive).with_raw(self.origin.dialect, raw)));
        }
        if !event.has_data() {
            if let Some((error, words)) = reported(&event.raw) {
                return Err(self.fault(Fault::Reported(error), &words));
            }
            let start = event.raw.trim_ascii_start().first();
            if !self.bare.is_empty() || matches!(start, Some(b'{' | b'[' | b'<')) {
                self.bare.extend_from_slice(&event.raw);
                return Ok(None);
            }
            return Ok(Some(Frame::event(StreamEvent::Other).with_raw(self.origin.dialect, event.raw)));
        }
        self.events.clear();
        if let Err(fault) = self.decoder.event(&event, &mut self.events) {
            let cut =
                matches!(&fault, Fault::Malformed(cause) if cause.is_eof()) || b"[DONE]".starts_with(event.data());
            if self.source.is_drained() && cut {
                return Err(cut_off());
            }
            let is_filtered = !self.said && fault.filtered_turn().is_some();
            let mut error = self.fault(fault, &event.data_bytes());
            if let Some(usage) = self.protocol.failed_usage(&event.data_bytes()) {
                error = error.with_usage(Some(self.usage.hold_failed(event.raw.len(), usage)));
            }
            return Err(match is_filtered {
                true => error.with_answer(FailedAnswer::Streamed(vec![
                    Frame::event(StreamEvent::Finish(FinishReason::Filtered)).with_raw(self.origin.dialect, event.raw),
                    Frame::event(StreamEvent::End),
                ])),
                false => error,
            });
        }
        self.usage.see(event.raw.len(), &mut self.events);
        for event in &mut self.events {
            self.origin.account.maker.sign_event(event);
            if let Some(seals) = &self.origin.account.seals {
                seals.remember_event(event);
            }
            if let (Some(so_far), StreamEvent::Reasoning { text, .. }) = (&mut self.thoughts, &*event) {
                so_far.push(text);
            }
            self.restore.event(event);
            self.content |= event.is_content();
            if let StreamEvent::Finish(reason @ FinishReason::ModelError(_)) = event {
                self.failed = Some(reason.clone());
            }
        }
        let frame = match self.events.len() {
            0 => Frame::event(StreamEvent::Other),
            1 => self.events.pop().map(Frame::event).unwrap_or_else(|| Frame::event(StreamEvent::Other)),
            _ => Frame::events_of(std::mem::take(&mut self.events)),
        };
        if frame.progress() == Progress::End {
            self.check_thoughts_alone()?;
            self.remember_thoughts();
        }
        let frame = frame.with_raw(self.origin.dialect, self.after_bare(event.raw));
        match frame.progress() {
            // A body that has ended is not polled again: not every one allows it.
            Progress::End if self.source.is_drained() => self.state = State::Done,
            Progress::End => self.state = State::Ended,
            Progress::Content | Progress::Reasoning => self.said = true,
            _ => {}
        }
        Ok(Some(frame))
    }

    /// Remembers a whole answer's thoughts as the account's.
    fn remember_thoughts(&mut self) {
        if let (Some(thoughts), Some(seals)) = (self.thoughts.take(), &self.origin.account.seals) {
            seals.remember_text(&thoughts);
        }
    }

    /// Fails for a model that failed after its thoughts and before any answer: its caller may have seen the thoughts,
    /// and no answer follows them.
    fn check_thoughts_alone(&self) -> Result<(), LlmError> {
        let failed = self.failed.as_ref().filter(|_| self.said && !self.content);
        let turn = failed.map(|reason| EmptyTurn { finish: Some(reason), has_tokens: true, usage: None });
        turn.and_then(|turn| turn.error(None)).map_or(Ok(()), Err)
    }

    /// Returns an event's bytes, behind those that came outside of events.
    fn after_bare(&mut self, raw: Bytes) -> Bytes {
        if self.bare_sent == self.bare.len() {
            return raw;
        }
        let both = [&self.bare[self.bare_sent..], &raw].concat();
        self.bare_sent = self.bare.len();
        both.into()
    }

    /// Returns the meaning of a body's end without an end mark.
    fn end(&mut self, cause: Option<LlmError>) -> Result<Frame, LlmError> {
        if self.decoder.is_whole(cause.is_none()) && self.bare.is_empty() {
            self.check_thoughts_alone()?;
            self.remember_thoughts();
            return Ok(match self.usage.correction() {
                Some(usage) => Frame::events_of(vec![StreamEvent::Usage(usage), StreamEvent::End]),
                None => Frame::event(StreamEvent::End),
            });
        }
        if !self.bare.is_empty() {
            let bare = std::mem::take(&mut self.bare).freeze();
            return Err(match serde_json::from_slice(&bare) {
                Ok(body) if super::ErrorBody::of_answer(&body).is_some() => self.fault(Fault::Reported(body), &bare),
                Err(error) if error.is_eof() => cut_off(),
                _ => LlmError::new(ErrorKind::Malformed, failure::excerpt(&bare, None)),
            });
        }
        Err(cause.unwrap_or_else(|| {
            let message = match self.source.has_begun() {
                false => "the stream ended before it began",
                true => "the stream ended without the provider's end mark",
            };
            LlmError::new(ErrorKind::StreamBroken, message)
        }))
    }

    /// Creates the error of a failure in the stream.
    fn fault(&self, fault: Fault, raw: &Bytes) -> LlmError {
        self.in_stream(failure::of_fault(&self.protocol, &self.origin, fault, raw))
    }

    /// Returns the error of a failure as its caller is to see it. After content the stream itself broke, for any cause,
    /// unless the request is at fault: a caller that has seen half an answer must not take it for a refusal to start.
    fn in_stream(&self, error: LlmError) -> LlmError {
        let ours = matches!(
            error.kind(),
            ErrorKind::ContentPolicy | ErrorKind::Refusal | ErrorKind::ContextLength | ErrorKind::StreamBroken
        );
        if !self.said || ours {
            return error;
        }
        let mut broken = LlmError::new(ErrorKind::StreamBroken, error.message().to_owned());
        if let Some(code) = error.code() {
            broken = broken.with_code(code);
        }
        if let Some(raw) = error.raw() {
            broken = broken.with_raw(raw.clone());
        }
        broken.with_retry_at(error.retry_at()).with_source(error)
    }

    /// Ends the stream with the meaning of its body's end.
    #[inline]
    fn finish(&mut self, cause: Option<LlmError>) -> Poll<Option<Result<Frame, LlmError>>> {
        match self.end(cause) {
            Ok(frame) => {
                self.state = State::Done;
                Poll::Ready(Some(Ok(frame)))
            }
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: LlmError) -> Poll<Option<Result<Frame, LlmError>>> {
        self.state = State::Done;
        Poll::Ready(Some(Err(self.origin.stamp(error))))
    }
}

/// Returns the error in a block without data, and its bytes. Older servers of llama.cpp write it as a field of its own,
/// `error: {..}`.
fn reported(block: &Bytes) -> Option<(Value, Bytes)> {
    let lines = block.split(|byte| matches!(byte, b'\n' | b'\r'));
    let words = lines.filter_map(|line| line.strip_prefix(b"error:")).next()?.trim_ascii();
    let error = Some(words).filter(|words| words.starts_with(b"{"))?;
    Some((serde_json::from_slice(error).ok()?, block.slice_ref(words)))
}

/// Creates the error of a last event that is incomplete.
fn cut_off() -> LlmError {
    LlmError::new(ErrorKind::StreamBroken, "the stream ended in the middle of an event")
}

impl<P: Protocol, S: EventSource + Unpin> Stream for Frames<P, S> {
    type Item = Result<Frame, LlmError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match this.state {
                State::Done => return Poll::Ready(None),
                State::Ended => {
                    ready!(this.source.poll_close(cx));
                    this.state = State::Done;
                    return Poll::Ready(None);
                }
                State::Reading => {}
            }
            match ready!(this.source.poll_event(cx)) {
                Some(Ok(event)) => match this.frame(event) {
                    Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                    Ok(None) => {}
                    Err(error) => return this.fail(error),
                },
                Some(Err(Interruption::TooLarge(error))) => return this.fail(error),
                // An answer that was whole before its connection broke is whole.
                Some(Err(Interruption::Broken(error))) => return this.finish(Some(error)),
                Some(Err(Interruption::Reported(error))) => {
                    let error = this.in_stream(error);
                    return this.fail(error);
                }
                None => return this.finish(None),
            }
        }
    }
}

impl<P: Protocol, S> fmt::Debug for Frames<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("origin", &self.origin).field("state", &self.state).finish_non_exhaustive()
    }
}
