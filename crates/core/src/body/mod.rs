//! The body of an answer: whole, or a stream of frames.

mod accumulate;
#[doc(hidden)]
pub mod admission;
mod commit_point;
mod complete;
mod delivery;
mod failed;
mod frame;
mod hold;
mod idle;
mod memory;
mod streaming;

use std::{
    borrow::Cow,
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;

pub use self::{
    accumulate::Accumulator,
    commit_point::CommitPoint,
    delivery::Delivery,
    frame::{Continued, Frame, Progress, StreamEvent},
    hold::AnswerEnd,
    idle::IdleLimits,
    memory::{AnswerMemory, AnswerRoom, CoverFuture, FREE_ANSWER, OutOfMemory},
};
use self::{
    admission::{Outcome, Permit, SoFar, Ticket},
    complete::{Complete, Whole},
    hold::Hold,
    streaming::Streaming,
};
#[doc(hidden)]
pub use self::{failed::FailedAnswer, idle::BodyDeadline, memory::HeldMemory};
use crate::{
    Dialect, LlmError,
    chat::{Message, Usage},
};

/// The body of an answer: complete, or a stream of [`Frame`]s.
///
/// It is a [`Stream`] either way; a complete answer is a single frame. [`collect`](Self::collect) reads the whole
/// [`Message`], [`text`](Self::text) its text. A stream that ends without its provider's own end mark yields
/// [`ErrorKind::StreamBroken`](crate::ErrorKind::StreamBroken), never a short success. After its end or its error it
/// yields `None` for ever.
///
/// The permits that layers hold while the answer runs (a bulkhead's place, a half-open probe) travel with the body.
/// They are released when it ends, breaks or is dropped, whichever comes first.
pub struct LlmBody(Repr);

enum Repr {
    Complete { answer: Complete, reading: Reading },
    Stream(Pin<Box<Streaming<Frames>>>),
}

/// The reading of a complete answer, which is one frame.
// As wide as the fields beside it: the compiler copies an answer with a gap piece by piece wherever it moves.
#[repr(usize)]
enum Reading {
    Due,
    Done,
}

/// A leaf's own stream, of any type.
type Frames = dyn Stream<Item = Result<Frame, LlmError>> + Send;

impl LlmBody {
    /// Creates a complete answer of this text. A `&'static str` allocates nothing.
    pub fn from_text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::complete(Complete::Text(text.into()))
    }

    /// Creates a complete answer.
    pub fn from_message(message: Message) -> Self {
        Self::complete(Complete::Message(Box::new(Whole { message, wire: None })))
    }

    /// Creates a complete answer with the provider's own bytes beside it. A caller of the same dialect gets exactly
    /// these.
    pub fn from_wire(dialect: Dialect, raw: Bytes, message: Message) -> Self {
        Self::complete(Complete::Message(Box::new(Whole { message, wire: Some((dialect, raw)) })))
    }

    /// Creates the whole answer to a call that is no conversation: bytes, and what was billed.
    #[doc(hidden)]
    pub fn opaque(dialect: Dialect, raw: Bytes, usage: Option<Usage>) -> Self {
        let mut message = Message::new(crate::chat::Role::Assistant, Vec::new());
        message.usage = usage;
        Self::from_wire(dialect, raw, message)
    }

    /// Creates a stream of frames. It must yield a frame with [`StreamEvent::End`] before it ends; otherwise it was
    /// cut, and the body yields [`ErrorKind::StreamBroken`](crate::ErrorKind::StreamBroken). Frames after that one are
    /// not read. Costs two allocations, however many frames come; the additions of a usual stack of layers cost none.
    pub fn from_frames<S>(frames: S) -> Self
    where
        S: Stream<Item = Result<Frame, LlmError>> + Send + 'static,
    {
        Self(Repr::Stream(Box::pin(Streaming::new(frames))))
    }

    /// Creates a stream of texts, whose end is the end of the answer. It is for clients whose stream distinguishes a
    /// cut from an end. With one that ends alike in both cases, such as async-openai's, half an answer would pass for
    /// whole; for it [the guide](https://docs.rs/steadfast-guide) takes the end from the model's `finish_reason`.
    pub fn from_text_stream<S>(texts: S) -> Self
    where
        S: Stream<Item = Result<String, LlmError>> + Send + 'static,
    {
        use futures_util::StreamExt as _;
        let frames = texts.map(|text| text.map(|text| Frame::event(StreamEvent::Text { index: 0, text })));
        let end = [StreamEvent::Finish(crate::chat::FinishReason::Stop), StreamEvent::End];
        Self::from_frames(frames.chain(futures_util::stream::iter([Ok(Frame::events_of(end.into()))])))
    }

    fn complete(answer: Complete) -> Self {
        Self(Repr::Complete { answer, reading: Reading::Due })
    }

    /// Returns true if the answer arrives frame by frame, false if it is complete already.
    ///
    /// This is the tier's choice. The caller's is [`LlmRequest::is_stream`](crate::LlmRequest::is_stream): a
    /// `Canned` tier answers a request for a stream in whole, and the body is a [`Stream`]
    /// of frames either way.
    #[inline]
    pub fn arrives_in_frames(&self) -> bool {
        matches!(self.0, Repr::Stream(_))
    }

    /// Returns the same as [`arrives_in_frames`](Self::arrives_in_frames).
    #[deprecated(
        note = "it says how the tier answers, not what the caller asked for: say `arrives_in_frames`, or ask the request"
    )]
    pub fn is_stream(&self) -> bool {
        self.arrives_in_frames()
    }

    /// Returns true for a complete answer with nothing in it that a reader could use.
    pub(crate) fn is_empty_message(&self) -> bool {
        matches!(&self.0, Repr::Complete { answer, .. } if answer.is_empty())
    }

    /// The provider's own bytes of a complete answer, with their dialect.
    pub fn wire(&self) -> Option<(Dialect, &Bytes)> {
        match &self.0 {
            Repr::Complete { answer, .. } => answer.wire(),
            Repr::Stream(_) => None,
        }
    }

    /// The message of a complete answer, without reading it; `None` for a stream.
    pub fn message(&self) -> Option<Cow<'_, Message>> {
        match &self.0 {
            Repr::Complete { answer, .. } => Some(answer.message()),
            Repr::Stream(_) => None,
        }
    }

    /// The tokens used: known at once for a complete answer, and for a stream as far as the provider has reported them.
    pub fn usage(&self) -> Option<Usage> {
        match &self.0 {
            Repr::Complete { answer, .. } => answer.usage().copied(),
            Repr::Stream(stream) => stream.usage(),
        }
    }

    /// The model by the answer's own word: of a complete answer, and of a stream that was held to its commit point.
    #[doc(hidden)]
    pub fn model(&self) -> Option<&str> {
        match &self.0 {
            Repr::Complete { answer, .. } => answer.model(),
            Repr::Stream(stream) => stream.model(),
        }
    }

    /// Sets the model by a stream's own word.
    pub(crate) fn set_model(&mut self, model: Box<str>) {
        if let Repr::Stream(stream) = &mut self.0 {
            stream.as_mut().set_model(model);
        }
    }

    /// Polls for the next frame. `None` is the end, and stays so.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, LlmError>>> {
        match &mut self.0 {
            Repr::Complete { reading: Reading::Done, .. } => Poll::Ready(None),
            Repr::Complete { answer, reading } => {
                *reading = Reading::Done;
                Poll::Ready(Some(Ok(answer.frame())))
            }
            Repr::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    /// Waits for the next frame, or `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no frame.
    pub async fn frame(&mut self) -> Option<Result<Frame, LlmError>> {
        std::future::poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// Reads the whole message; of a stream that was read in part, the rest.
    ///
    /// # Errors
    ///
    /// The failure that broke a stream.
    pub async fn collect(mut self) -> Result<Message, LlmError> {
        if let Repr::Complete { answer, .. } = self.0 {
            return Ok(answer.into_message());
        }
        let mut whole = Accumulator::default();
        while let Some(frame) = self.frame().await {
            for event in frame?.events() {
                whole.push(event);
            }
        }
        Ok(whole.finish())
    }

    /// Reads the whole text, without reasoning; of a stream that was read in part, the rest.
    ///
    /// # Errors
    ///
    /// The failure that broke a stream.
    pub async fn text(self) -> Result<String, LlmError> {
        match self.0 {
            Repr::Complete { answer: Complete::Text(text), .. } => Ok(text.into_owned()),
            _ => Ok(self.collect().await?.text()),
        }
    }

    /// Holds a permit until the answer ends. A complete answer has ended already: the permit settles at once.
    #[inline(always)]
    #[doc(hidden)]
    pub fn hold_permit(&mut self, permit: &mut Permit) {
        match &mut self.0 {
            Repr::Complete { .. } => permit.settle_with(Outcome::Answered, &|| self.whole().unwrap_or_default()),
            Repr::Stream(stream) => stream.as_mut().hold(mem::take(permit)),
        }
    }

    /// Returns the facts about a whole answer; `None` for a stream, which has not ended.
    #[doc(hidden)]
    pub fn whole(&self) -> Option<SoFar<'_>> {
        match &self.0 {
            Repr::Complete { answer, .. } => Some(SoFar::whole(answer.usage(), || answer.characters())),
            Repr::Stream(_) => None,
        }
    }

    /// Calls `ended` once, when the answer ends. See [`LlmResponse::hold`](crate::LlmResponse::hold).
    pub fn hold(&mut self, ended: impl FnOnce(AnswerEnd<'_>) + Send + 'static) {
        self.hold_permit(&mut Permit::new(Arc::new(Hold::new(ended)), Ticket::default()));
    }

    /// Bounds the time until the end of a stream; the nearest bound wins.
    #[doc(hidden)]
    pub fn end_at(&mut self, deadline: BodyDeadline) {
        if let Repr::Stream(stream) = &mut self.0 {
            stream.as_mut().end_at(deadline);
        }
    }

    /// Bounds the silences of a stream; the nearest limits win.
    #[doc(hidden)]
    pub fn limit_idle(&mut self, limits: &IdleLimits) {
        if let Repr::Stream(stream) = &mut self.0 {
            stream.as_mut().limit_idle(*limits);
        }
    }
}

impl Stream for LlmBody {
    type Item = Result<Frame, LlmError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_frame(cx)
    }
}

impl fmt::Debug for LlmBody {
    /// Writes the kind of body, and nothing of its content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.arrives_in_frames() { "LlmBody::Stream" } else { "LlmBody::Complete" })
    }
}

#[cfg(test)]
mod tests;
