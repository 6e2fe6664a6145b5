//! The reader of an answer, piece by piece.

use std::{
    collections::VecDeque,
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;

use super::{CompletedAnswer, Cut, PartialAnswer};
use steadfast::{
    ErrorKind, LlmBody, LlmResponse, StreamEvent,
    body::{Accumulator, Delivery, Frame},
    chat::Part,
};

/// Reads a streamed or whole answer piece by piece, and keeps the delivered content.
///
/// It is a [`Stream`] of events. The last event is [`AnswerEvent::Completed`], or else the error is a [`Cut`] with the
/// content so far; the stream then ends. The reader holds as much as the answer. See the [module docs](super).
///
/// ```
/// use futures_util::stream;
/// use steadfast::{Frame, LlmBody};
/// use steadfast_agent::{AnswerReader, AnswerEvent};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// // Two pieces of text, and then the connection is gone.
/// let body = LlmBody::from_frames(stream::iter(["Half an ", "ans"].map(|text| Ok(Frame::text(text)))));
/// let mut reader = AnswerReader::new(body);
/// let cut = loop {
///     match reader.next().await {
///         Some(Ok(AnswerEvent::Text(text))) => print!("{text}"),
///         Some(Ok(AnswerEvent::Discard { .. })) => println!("\n(once more, from the beginning)"),
///         Some(Ok(_)) => {}
///         Some(Err(cut)) => break cut,
///         None => unreachable!("it was cut"),
///     }
/// };
/// assert_eq!(cut.partial().text(), "Half an ans");
/// assert_eq!(cut.partial().delivered().characters, 11);
/// # }
/// ```
pub struct AnswerReader {
    body: LlmBody,
    so_far: Accumulator,
    delivered: Delivery,
    /// Events to return before the body is polled again.
    ready: VecDeque<AnswerEvent>,
    /// True if an event was returned that a restart would have to discard.
    given: bool,
    over: bool,
}

/// An event of an answer.
///
/// `Debug` hides its content.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum AnswerEvent {
    /// More text.
    Text(String),
    /// More of the reasoning.
    Reasoning(String),
    /// More of the model's refusal.
    Refusal(String),
    /// A tool call has begun. Act on it only once the answer is complete.
    ToolCall {
        /// The provider's id of the call.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// A whole part of another kind, such as a picture.
    Part(Box<Part>),
    /// Everything before this event is void: the stream broke, and the answer restarts with another tier. It comes
    /// once per restart, and only if there is something to discard.
    Discard {
        /// The kind of the error that broke the stream.
        reason: ErrorKind,
    },
    /// The answer is complete, by its provider's own mark. No event follows.
    Completed(Box<CompletedAnswer>),
}

impl AnswerReader {
    /// Creates a reader of this body, from its current position.
    pub fn new(body: LlmBody) -> Self {
        Self {
            body,
            so_far: Accumulator::default(),
            delivered: Delivery::default(),
            ready: VecDeque::new(),
            given: false,
            over: false,
        }
    }

    /// Returns the next event; `None` after the last, or after the error.
    ///
    /// # Errors
    ///
    /// The answer was cut.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no piece.
    pub async fn next(&mut self) -> Option<Result<AnswerEvent, Cut>> {
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// Reads to the end, through all restarts.
    ///
    /// # Errors
    ///
    /// The answer was cut.
    ///
    /// # Panics
    ///
    /// Panics if the end was read before.
    pub async fn complete(mut self) -> Result<CompletedAnswer, Cut> {
        loop {
            match self.next().await {
                Some(Ok(AnswerEvent::Completed(answer))) => return Ok(*answer),
                Some(Ok(_)) => {}
                Some(Err(cut)) => return Err(cut),
                None => panic!("the answer's end was already read"),
            }
        }
    }

    /// Returns the amount delivered so far.
    pub fn delivered(&self) -> Delivery {
        self.delivered
    }

    /// Returns the content so far, and stops reading.
    pub fn into_partial(self) -> PartialAnswer {
        PartialAnswer::new(self.so_far.finish(), self.delivered)
    }

    /// Polls for the next event. `None` is the end; it is fused.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AnswerEvent, Cut>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.given = !matches!(piece, AnswerEvent::Discard { .. });
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.over {
                return Poll::Ready(None);
            }
            match ready!(self.body.poll_frame(cx)) {
                Some(Ok(frame)) => {
                    self.take(&frame);
                    if self.over {
                        // One poll beyond the end lets an HTTP connection see its own end and return to its pool. It
                        // never waits, and its result is not part of the answer.
                        let _nothing = self.body.poll_frame(cx);
                    }
                }
                Some(Err(error)) => {
                    self.over = true;
                    let partial = PartialAnswer::new(mem::take(&mut self.so_far).finish(), self.delivered);
                    return Poll::Ready(Some(Err(Cut::new(error, partial))));
                }
                None => self.over = true,
            }
        }
    }

    fn take(&mut self, frame: &Frame) {
        self.delivered.add(frame);
        for event in frame.events() {
            self.so_far.push(event);
            let piece = match event {
                StreamEvent::Text { text, .. } if !text.is_empty() => AnswerEvent::Text(text.clone()),
                StreamEvent::Reasoning { text, .. } if !text.is_empty() => AnswerEvent::Reasoning(text.clone()),
                StreamEvent::Refusal { text, .. } if !text.is_empty() => AnswerEvent::Refusal(text.clone()),
                StreamEvent::ToolCall { id, name, .. } => AnswerEvent::ToolCall { id: id.clone(), name: name.clone() },
                StreamEvent::Part { part: Part::Extra { .. }, .. } => continue,
                StreamEvent::Part { part, .. } => AnswerEvent::Part(Box::new(part.clone())),
                StreamEvent::Restarted { reason } => {
                    // Events that were not returned yet need no discard.
                    let discard =
                        self.given || self.ready.iter().any(|piece| matches!(piece, AnswerEvent::Discard { .. }));
                    self.ready.clear();
                    self.given = false;
                    if !discard {
                        continue;
                    }
                    AnswerEvent::Discard { reason: *reason }
                }
                StreamEvent::End => {
                    self.over = true;
                    AnswerEvent::Completed(Box::new(CompletedAnswer::new(mem::take(&mut self.so_far).finish())))
                }
                _ => continue,
            };
            self.ready.push_back(piece);
            if self.over {
                // Content after the end is not part of the answer.
                return;
            }
        }
    }
}

impl From<LlmBody> for AnswerReader {
    fn from(body: LlmBody) -> Self {
        Self::new(body)
    }
}

impl From<LlmResponse> for AnswerReader {
    fn from(response: LlmResponse) -> Self {
        Self::new(response.into_body())
    }
}

impl Stream for AnswerReader {
    type Item = Result<AnswerEvent, Cut>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_piece(cx)
    }
}

impl fmt::Debug for AnswerReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerReader").field("delivered", &self.delivered).field("over", &self.over).finish()
    }
}

impl fmt::Debug for AnswerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes) = match self {
            Self::Text(text) => ("Text", text.len()),
            Self::Reasoning(text) => ("Reasoning", text.len()),
            Self::Refusal(text) => ("Refusal", text.len()),
            Self::ToolCall { name, .. } => {
                return f.debug_struct("ToolCall").field("name", name).finish_non_exhaustive();
            }
            Self::Part(part) => return f.debug_tuple("Part").field(part).finish(),
            Self::Discard { reason } => return f.debug_struct("Discard").field("reason", reason).finish(),
            Self::Completed(answer) => return f.debug_tuple("Completed").field(answer).finish(),
        };
        write!(f, "{name}({bytes} bytes)")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use futures_util::{StreamExt as _, stream};

    use super::*;

    /// A connection returns to its pool once its body is read to the end, and the provider's mark is not that end.
    #[tokio::test]
    async fn the_body_is_read_past_the_mark_of_its_end() {
        let read = Arc::new(AtomicBool::new(false));
        let seen = read.clone();
        let rest = stream::poll_fn(move |_| {
            seen.store(true, Ordering::Relaxed);
            Poll::Pending
        });
        let frames = stream::iter([Ok(Frame::text("a")), Ok(Frame::event(StreamEvent::End))]).chain(rest);
        let mut reader = AnswerReader::new(LlmBody::from_frames(frames));
        while let Some(piece) = reader.next().await {
            piece.unwrap();
        }
        assert!(read.load(Ordering::Relaxed));
    }
}
