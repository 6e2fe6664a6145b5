//! A streamed answer as the body of a response.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, SizeHint};
use pin_project::pin_project;
use steadfast::{
    Dialect, ErrorKind, Frame, LlmBody, LlmError, LlmResponse, Progress, StreamEvent, translate::StreamEncoder,
};
use tokio::time::{Duration, Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    record::{Entry, Outcome},
    refusal,
};

/// An answer that has begun: its first frame is here.
pub(crate) struct Begun {
    pub(crate) response: LlmResponse,
    pub(crate) first: Frame,
}

/// A call that has not come back yet.
pub(crate) type Calling = Pin<Box<dyn Future<Output = Result<Begun, LlmError>> + Send>>;

/// The events of an answer in the caller's dialect, with signs of life while nothing flows.
///
/// It ends in one of two ways: with the dialect's own end mark, or with its error event. Dropped, it drops the call to the
/// provider.
#[pin_project]
pub(crate) struct Events {
    dialect: Dialect,
    state: State,
    encoder: StreamEncoder,
    entry: Entry,
    /// Whether something went out that a reader would take for a part of the answer.
    said: bool,
    keep_alive: Duration,
    /// When something went out last.
    heard: Instant,
    #[pin]
    silence: Sleep,
    /// The server stops, and has waited long enough.
    #[pin]
    cut: WaitForCancellationFutureOwned,
}

enum State {
    /// The head went out before the answer came.
    Calling(Calling),
    Reading {
        first: Option<Frame>,
        body: LlmBody,
    },
    Done,
}

impl Events {
    /// The events of an answer that has begun.
    pub(crate) fn reading(begun: Begun, encoder: StreamEncoder, entry: Entry, more: &Keep<'_>) -> Self {
        let state = State::Reading { first: Some(begun.first), body: begun.response.into_body() };
        Self::new(state, encoder, entry, more)
    }

    /// The events of an answer that is still waited for. The first sign of life comes at once.
    pub(crate) fn calling(calling: Calling, encoder: StreamEncoder, entry: Entry, more: &Keep<'_>) -> Self {
        let mut events = Self::new(State::Calling(calling), encoder, entry, more);
        events.heard = Instant::now().checked_sub(more.silence).unwrap_or_else(Instant::now);
        events.silence = sleep(Duration::ZERO);
        events
    }

    fn new(state: State, encoder: StreamEncoder, entry: Entry, more: &Keep<'_>) -> Self {
        Self {
            dialect: more.dialect,
            state,
            encoder,
            entry,
            said: false,
            keep_alive: more.silence,
            heard: Instant::now(),
            silence: sleep(more.silence),
            cut: more.cut.clone().cancelled_owned(),
        }
    }
}

/// What a stream is kept by.
pub(crate) struct Keep<'a> {
    pub(crate) dialect: Dialect,
    /// How long it may be silent.
    pub(crate) silence: Duration,
    /// Ends it.
    pub(crate) cut: &'a CancellationToken,
}

impl Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let mut this = self.project();
        loop {
            let polled = match this.state {
                State::Done => return Poll::Ready(None),
                State::Calling(calling) => match calling.as_mut().poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err((Outcome::Failed, error))),
                    Poll::Ready(Ok(begun)) => {
                        this.entry.served(&begun.response);
                        *this.state = State::Reading { first: Some(begun.first), body: begun.response.into_body() };
                        continue;
                    }
                },
                State::Reading { first: first @ Some(_), .. } => Poll::Ready(Ok(first.take())),
                State::Reading { body, .. } => match body.poll_frame(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(None) => Poll::Ready(Ok(None)),
                    Poll::Ready(Some(Ok(frame))) => Poll::Ready(Ok(Some(frame))),
                    Poll::Ready(Some(Err(error))) => Poll::Ready(Err((Outcome::Broken, error))),
                },
            };
            let (outcome, error) = match polled {
                Poll::Ready(Ok(None)) => {
                    *this.state = State::Done;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(Some(frame))) => {
                    let bytes = this.encoder.frame(&frame);
                    if *this.said && restarts(&frame) {
                        // The encoder has ended the stream, with an error.
                        let again = LlmError::new(ErrorKind::StreamBroken, "the answer began anew");
                        this.entry.failed(Outcome::Broken, &again);
                        *this.state = State::Done;
                    }
                    *this.said |= matches!(frame.progress(), Progress::Reasoning | Progress::Content);
                    if frame.progress() == Progress::End
                        && let State::Reading { body, .. } = this.state
                    {
                        this.entry.note(this.encoder.notes());
                        this.entry.answered(body.usage());
                    }
                    if bytes.is_empty() {
                        continue;
                    }
                    *this.heard = Instant::now();
                    return Poll::Ready(Some(Ok(http_body::Frame::data(bytes))));
                }
                Poll::Ready(Err(failed)) => failed,
                Poll::Pending if this.cut.as_mut().poll(cx).is_ready() => (Outcome::Broken, stopping()),
                Poll::Pending => {
                    std::task::ready!(this.silence.as_mut().poll(cx));
                    let now = Instant::now();
                    // The timer is not set anew for each frame, which come far more often than it fires.
                    let due = *this.heard + *this.keep_alive;
                    if due > now {
                        this.silence.as_mut().reset(due);
                        continue;
                    }
                    *this.heard = now;
                    this.silence.as_mut().reset(now + *this.keep_alive);
                    return Poll::Ready(Some(Ok(http_body::Frame::data(sign_of_life(*this.dialect)))));
                }
            };
            this.entry.failed(outcome, &error);
            let bytes = refusal::event(&error, *this.dialect, this.encoder);
            *this.state = State::Done;
            if bytes.is_empty() {
                continue;
            }
            return Poll::Ready(Some(Ok(http_body::Frame::data(bytes))));
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

fn restarts(frame: &Frame) -> bool {
    frame.events().iter().any(|event| matches!(event, StreamEvent::Restarted { .. }))
}

/// The server stops before the answer is whole.
pub(crate) fn stopping() -> LlmError {
    LlmError::new(ErrorKind::Overloaded, "the gateway is stopping")
}

/// What keeps a connection and its reader awake. Anthropic's clients pass over a `ping` wherever it comes, before
/// `message_start` too, and everybody passes over a comment.
fn sign_of_life(dialect: Dialect) -> Bytes {
    match dialect {
        Dialect::Anthropic => Bytes::from_static(b"event: ping\ndata: {\"type\": \"ping\"}\n\n"),
        _ => Bytes::from_static(b": keep-alive\n\n"),
    }
}

#[cfg(test)]
mod tests;
