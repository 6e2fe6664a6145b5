use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use tower::BoxError;

use super::{Limits, failure};
use crate::{
    ErrorKind, LlmError,
    sse::{Decoder, SseEvent},
};

/// The events of a stream, from bytes or from a client that has read them already.
pub trait EventSource: Send + 'static {
    /// Polls for the next event; `None` after the last one.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<SseEvent, Interruption>>>;

    /// Returns true if the source has ended, so that its last event may be incomplete.
    fn is_drained(&self) -> bool;

    /// Returns true once anything has come.
    fn has_begun(&self) -> bool;

    /// Polls until nothing more is to be read after the provider's end mark.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// The reason why a source yields no more events.
#[derive(Debug)]
pub enum Interruption {
    /// It exceeds a limit.
    TooLarge(LlmError),
    /// Its connection broke off.
    Broken(LlmError),
    /// Its client reports a failure.
    Reported(LlmError),
}

/// The bytes of a stream, counted.
struct Received<S> {
    pieces: S,
    limit: usize,
    bytes: usize,
}

impl<S: Stream<Item = Result<Bytes, BoxError>> + Unpin> Received<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Interruption>>> {
        Poll::Ready(match ready!(Pin::new(&mut self.pieces).poll_next(cx)) {
            Some(Ok(piece)) => {
                self.bytes = self.bytes.saturating_add(piece.len());
                if self.bytes > self.limit {
                    let message = format!("the stream is larger than the limit of {} bytes", self.limit);
                    return Poll::Ready(Some(Err(Interruption::TooLarge(LlmError::new(
                        ErrorKind::Malformed,
                        message,
                    )))));
                }
                Some(Ok(piece))
            }
            Some(Err(error)) => Some(Err(Interruption::Broken(failure::of_body(error)))),
            None => None,
        })
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Reading to the end returns the connection to its pool. Further bytes are no part of the answer, and a server
        // that sends for ever is left alone.
        for _ in 0..8 {
            if !matches!(ready!(Pin::new(&mut self.pieces).poll_next(cx)), Some(Ok(_))) {
                break;
            }
        }
        Poll::Ready(())
    }
}

/// Server-sent events, cut out of bytes.
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct SseSource<S> {
    received: Received<S>,
    sse: Decoder,
    drained: bool,
}

impl<S> SseSource<S> {
    pub fn new(pieces: S, limits: Limits) -> Self {
        let received = Received { pieces, limit: limits.answer, bytes: 0 };
        Self { received, sse: Decoder::new(limits.event), drained: false }
    }
}

impl<S> EventSource for SseSource<S>
where
    S: Stream<Item = Result<Bytes, BoxError>> + Unpin + Send + 'static,
{
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<SseEvent, Interruption>>> {
        loop {
            let next = if self.drained { self.sse.finish() } else { self.sse.next_event() };
            match next {
                Ok(Some(event)) => return Poll::Ready(Some(Ok(event))),
                Ok(None) if self.drained => return Poll::Ready(None),
                Ok(None) => {}
                Err(too_long) => {
                    let error = LlmError::new(ErrorKind::Malformed, too_long.to_string());
                    return Poll::Ready(Some(Err(Interruption::TooLarge(error))));
                }
            }
            match ready!(self.received.poll(cx)) {
                Some(Ok(piece)) => self.sse.push(piece),
                Some(Err(interruption)) => return Poll::Ready(Some(Err(interruption))),
                None => self.drained = true,
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.drained
    }

    fn has_begun(&self) -> bool {
        self.received.bytes > 0
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.received.poll_close(cx)
    }
}

/// The events of a client that has cut them out of the bytes itself: the data of each.
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct DataSource<S> {
    received: Received<S>,
    limit: usize,
    /// True if the dialect's events have names.
    named: bool,
}

impl<S> DataSource<S> {
    pub fn new(events: S, limits: Limits, named: bool) -> Self {
        Self { received: Received { pieces: events, limit: limits.answer, bytes: 0 }, limit: limits.event, named }
    }
}

impl<S> EventSource for DataSource<S>
where
    S: Stream<Item = Result<Bytes, BoxError>> + Unpin + Send + 'static,
{
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<SseEvent, Interruption>>> {
        Poll::Ready(match ready!(self.received.poll(cx)) {
            Some(Ok(data)) if data.len() > self.limit => {
                let message = format!("an event is larger than the limit of {} bytes", self.limit);
                Some(Err(Interruption::TooLarge(LlmError::new(ErrorKind::Malformed, message))))
            }
            Some(Ok(data)) => Some(Ok(SseEvent::of_data(name(&data).filter(|_| self.named).as_deref(), &data))),
            // The client may have read an error event as well as a broken connection.
            Some(Err(Interruption::Broken(error))) => Some(Err(Interruption::Reported(error))),
            Some(Err(interruption)) => Some(Err(interruption)),
            None => None,
        })
    }

    /// Each event came whole from its client.
    fn is_drained(&self) -> bool {
        false
    }

    fn has_begun(&self) -> bool {
        self.received.bytes > 0
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.received.poll_close(cx)
    }
}

/// Returns the name of an event, which its data repeats.
fn name(data: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        r#type: String,
    }
    let Named { r#type: name } = serde_json::from_slice(data).ok()?;
    // A line break would end the name's line.
    (!name.contains(['\r', '\n'])).then_some(name)
}
