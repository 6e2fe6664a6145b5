//! The bytes of a Messages stream out of those of an event stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use tower::BoxError;

use super::{
    event_stream::{Decoder, Message},
    exception,
};
use crate::{ErrorKind, LlmError};

/// Rewrites the messages of an event stream as server-sent events of Messages.
pub(super) trait Rewrite {
    /// Adds the events of a message to `out`.
    ///
    /// # Errors
    ///
    /// The payload does not follow the API.
    fn message(&mut self, message: &Message, out: &mut BytesMut) -> Result<(), LlmError>;

    /// Returns true once the answer is whole, so that nothing behind it is missed. What was held back for the rest of
    /// the stream is added to `out`.
    fn finish(&mut self, out: &mut BytesMut) -> bool;
}

/// The stream of Messages. It ends well only behind a whole answer or a reported failure.
pub(super) struct MessagesStream<S, R> {
    /// `None` once it has ended.
    body: Option<S>,
    decoder: Decoder,
    rewrite: R,
    ready: BytesMut,
    /// True behind an `error` event: nothing more is told.
    has_failed: bool,
    broken: Option<BoxError>,
}

impl<S, R> MessagesStream<S, R> {
    pub(super) fn new(body: S, rewrite: R) -> Self {
        let (decoder, ready) = (Decoder::default(), BytesMut::new());
        Self { body: Some(body), decoder, rewrite, ready, has_failed: false, broken: None }
    }
}

impl<S, R: Rewrite> MessagesStream<S, R> {
    /// Rewrites all messages that have come.
    fn rewrite(&mut self) -> Result<(), BoxError> {
        while let Some(message) = self.decoder.next_message()? {
            if self.has_failed {
                continue;
            }
            match exception::reported(&message) {
                // A whole answer stays one, whatever is reported behind it.
                Some(_) if self.rewrite.finish(&mut self.ready) => self.has_failed = true,
                Some(error) => {
                    event(&mut self.ready, Some("error"), error.as_bytes());
                    self.has_failed = true;
                }
                None => self.rewrite.message(&message, &mut self.ready)?,
            }
        }
        Ok(())
    }

    /// Ends the stream: well if the answer is whole, else with the reason that no more comes.
    fn end(&mut self, reason: BoxError) {
        self.body = None;
        if !self.has_failed && !self.rewrite.finish(&mut self.ready) {
            self.broken = Some(reason);
        }
    }
}

impl<S, R> Stream for MessagesStream<S, R>
where
    S: Stream<Item = Result<Bytes, BoxError>> + Unpin,
    R: Rewrite + Unpin,
{
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if !this.ready.is_empty() {
                return Poll::Ready(Some(Ok(this.ready.split().freeze())));
            }
            if let Some(error) = this.broken.take() {
                return Poll::Ready(Some(Err(error)));
            }
            let Some(body) = &mut this.body else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_next(cx)) {
                Some(Ok(piece)) => {
                    this.decoder.push(piece);
                    if let Err(error) = this.rewrite() {
                        this.end(error);
                    }
                }
                Some(Err(error)) => this.end(error),
                None => {
                    let end = this.decoder.finish().err().map_or_else(|| ENDED.into(), BoxError::from);
                    this.end(end);
                }
            }
        }
    }
}

const ENDED: &str = "the event stream ends before the answer does";

/// Adds an event. The data is JSON, in which a line's end is mere space.
pub(super) fn event(out: &mut BytesMut, name: Option<&str>, data: &[u8]) {
    out.reserve(data.len() + name.map_or(0, str::len) + 18);
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\n");
    }
    out.extend_from_slice(b"data: ");
    let mut rest = data;
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b" ");
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\n\n");
}

/// Creates the error of a payload that does not follow the API. It quotes nothing.
pub(super) fn malformed(what: &'static str) -> LlmError {
    LlmError::new(ErrorKind::Malformed, what)
}
