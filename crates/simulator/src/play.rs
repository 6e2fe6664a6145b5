//! The body of an answer: tokens at their pace, up to the end in the plan.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::{
    event_stream::Framing,
    protocol::{Answer, Protocol},
};
use steadfast::providers::simulated::{Fault, SimulatedCall};

/// The error of a connection that is to break off.
#[derive(Debug)]
pub(super) struct ConnectionBroken;

impl fmt::Display for ConnectionBroken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection broken off as the script says")
    }
}

impl std::error::Error for ConnectionBroken {}

/// The end of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Cut,
    Truncated,
    NoMark,
    Stall,
    KeepAlives(Duration),
    ErrorEvent,
}

impl End {
    /// Returns the end that a fault brings to a body that has begun, and the number of tokens before it.
    fn of(fault: Option<&Fault>) -> (Self, u32) {
        match fault {
            Some(Fault::CutAfter(tokens)) => (Self::Cut, *tokens),
            Some(Fault::TruncatedAfter(tokens)) => (Self::Truncated, *tokens),
            Some(Fault::NoEndMark) => (Self::NoMark, u32::MAX),
            Some(Fault::StallAfter(tokens)) => (Self::Stall, *tokens),
            Some(Fault::ErrorEventAfter(tokens)) => (Self::ErrorEvent, *tokens),
            Some(Fault::KeepAlivesOnly { every }) => (Self::KeepAlives((*every).max(Duration::from_millis(1))), 0),
            _ => (Self::Whole, u32::MAX),
        }
    }
}

#[derive(Debug)]
pub(super) struct Play {
    /// `None` for a response without a call: refusals of malformed requests, the list of models.
    call: Option<SimulatedCall>,
    end: End,
    content: Content,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Content {
    /// A body in one piece, with the number of bytes to announce.
    Whole {
        bytes: Bytes,
        announced: usize,
    },
    Stream(Box<Stream>),
    KeepAlives(Duration, Bytes),
    Silence,
    /// Written bytes go out first, so the break takes two polls: at the first the connection has nothing more to write
    /// and sends what it holds.
    Break {
        flushed: bool,
    },
    Done,
}

#[derive(Debug)]
struct Stream {
    protocol: &'static dyn Protocol,
    answer: Answer,
    at: Position,
    /// The number of tokens before the end.
    tokens: u32,
    /// The token before which a malformed event comes.
    malformed: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Position {
    Opening,
    Token(u32),
    Ending,
}

impl Play {
    /// Creates a body in one piece.
    pub(super) fn whole(call: Option<SimulatedCall>, bytes: impl Into<Bytes>) -> Self {
        let fault = call.as_ref().and_then(|call| call.plan.fault.as_ref());
        let (end, tokens) = End::of(fault);
        let mut bytes: Bytes = bytes.into();
        if let Some(Fault::MalformedAfter(_)) = fault {
            bytes = [&bytes[..bytes.len().saturating_sub(1)], b"]"].concat().into();
        }
        let mut announced = bytes.len();
        let mut content = None;
        match end {
            End::Whole | End::NoMark | End::ErrorEvent => {}
            End::KeepAlives(every) => content = Some(Content::KeepAlives(every, Bytes::from_static(b"\n"))),
            End::Cut | End::Truncated | End::Stall => {
                // The same share of the bytes as of the tokens.
                let all = call.as_ref().map_or(1, |call| call.plan.tokens.max(1));
                let sent = bytes.len() * tokens.min(all) as usize / all as usize;
                bytes.truncate(sent.min(announced.saturating_sub(1)));
                if end == End::Truncated {
                    announced = bytes.len();
                }
            }
        }
        let mut play = Self { call, end, content: content.unwrap_or(Content::Whole { bytes, announced }), timer: None };
        if play.is_end_stream() {
            // An empty body is never polled.
            play.finish();
        }
        play
    }

    /// Creates a stream of events.
    pub(super) fn stream(call: SimulatedCall, protocol: &'static dyn Protocol, answer: Answer) -> Self {
        let (end, after) = End::of(call.plan.fault.as_ref());
        let tokens = after.min(answer.tokens);
        let malformed = match call.plan.fault {
            Some(Fault::MalformedAfter(tokens)) => Some(tokens.min(answer.tokens.saturating_sub(1))),
            _ => None,
        };
        Self {
            call: Some(call),
            end,
            content: Content::Stream(Box::new(Stream { protocol, answer, at: Position::Opening, tokens, malformed })),
            timer: None,
        }
    }

    /// Records the end of the call.
    fn finish(&mut self) {
        if let Some(call) = &mut self.call {
            call.finish();
        }
    }

    /// Writes the next event, or sets the timer for it. Returns `None` if there is nothing to send now.
    fn advance(&mut self) -> Option<Bytes> {
        let Content::Stream(stream) = &mut self.content else {
            return None;
        };
        let mut text = String::new();
        let framing = stream.protocol.framing();
        let mut broken = None;
        match stream.at {
            Position::Opening => {
                stream.protocol.opening(&stream.answer, &mut text);
                stream.at = Position::Token(0);
            }
            Position::Token(index) if index < stream.tokens => {
                if stream.malformed == Some(index) {
                    stream.protocol.token(&stream.answer, index, &mut text);
                    broken = Some(malformed(framing, &stream.answer, std::mem::take(&mut text)));
                }
                stream.protocol.token(&stream.answer, index, &mut text);
                stream.at = Position::Token(index + 1);
                let pace = self.call.as_ref().map_or(Duration::ZERO, |c| c.plan.pace);
                if pace > Duration::ZERO {
                    self.timer = Some(Box::pin(sleep(pace)));
                }
            }
            Position::Token(_) => stream.at = Position::Ending,
            Position::Ending => {
                let next = match self.end {
                    End::Whole => {
                        stream.protocol.ending(&stream.answer, &mut text);
                        Content::Done
                    }
                    End::NoMark => {
                        stream.protocol.ending(&stream.answer, &mut text);
                        let mark = stream.protocol.end_mark(&stream.answer);
                        text.truncate(text.len() - if mark.is_empty() { text.len() } else { mark.len() });
                        Content::Done
                    }
                    End::ErrorEvent => {
                        stream.protocol.error_event(&stream.answer, stream.tokens, &mut text);
                        Content::Done
                    }
                    End::Truncated => Content::Done,
                    End::Cut => {
                        if framing.is_binary() {
                            // The connection breaks inside a message.
                            stream.protocol.ending(&stream.answer, &mut text);
                            let whole = framing.frame(std::mem::take(&mut text));
                            broken = Some(whole.slice(..whole.len().min(21)));
                        }
                        Content::Break { flushed: false }
                    }
                    End::Stall => Content::Silence,
                    End::KeepAlives(every) => {
                        let sign = framing.frame(stream.protocol.keep_alive().to_owned());
                        Content::KeepAlives(every, sign)
                    }
                };
                let done = matches!(next, Content::Done);
                self.content = next;
                if done {
                    self.finish();
                }
            }
        }
        let bytes = framing.frame(text);
        Some(match broken {
            Some(broken) => [broken, bytes].concat().into(),
            None => bytes,
        })
    }
}

/// Returns an event that is none: the end of its object is lost. In every second binary stream a checksum is wrong
/// instead.
fn malformed(framing: Framing, answer: &Answer, mut text: String) -> Bytes {
    if framing.is_binary() && answer.id.ends_with(['0', '2', '4', '6', '8', 'a', 'c', 'e']) {
        let mut bytes = framing.frame(text).to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        return bytes.into();
    }
    text.truncate(text.trim_end().trim_end_matches('}').len());
    text.push_str("\n\n");
    framing.frame(text)
}

impl Body for Play {
    type Data = Bytes;
    type Error = ConnectionBroken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ConnectionBroken>>> {
        loop {
            if let Some(timer) = &mut self.timer {
                ready!(timer.as_mut().poll(cx));
                self.timer = None;
            }
            match &mut self.content {
                Content::Whole { bytes, .. } => {
                    let bytes = std::mem::take(bytes);
                    self.content = match self.end {
                        End::Cut => Content::Break { flushed: false },
                        End::Stall => Content::Silence,
                        _ => Content::Done,
                    };
                    if matches!(self.content, Content::Done) {
                        self.finish();
                    }
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
                Content::Stream(_) => {
                    if let Some(bytes) = self.advance()
                        && !bytes.is_empty()
                    {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
                Content::KeepAlives(every, sign) => {
                    let (every, sign) = (*every, sign.clone());
                    self.timer = Some(Box::pin(sleep(every)));
                    return Poll::Ready(Some(Ok(Frame::data(sign))));
                }
                // Only a caller that leaves drops the body; nothing else ends it.
                Content::Silence => return Poll::Pending,
                Content::Break { flushed: flushed @ false } => {
                    *flushed = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Content::Break { flushed: true } => {
                    self.content = Content::Done;
                    self.finish();
                    return Poll::Ready(Some(Err(ConnectionBroken)));
                }
                Content::Done => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Done => true,
            Content::Whole { announced, .. } => *announced == 0,
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole { announced, .. } => SizeHint::with_exact(*announced as u64),
            Content::Done => SizeHint::with_exact(0),
            _ => SizeHint::new(),
        }
    }
}
