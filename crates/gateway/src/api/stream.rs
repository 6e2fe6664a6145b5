//! Streamed answers as response bodies.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, SizeHint};
use pin_project::pin_project;
use serde_json::Value;
use steadfast::{
    Dialect, ErrorKind, Frame, LlmBody, LlmError, LlmResponse, Progress, StreamEvent, translate::StreamEncoder,
};
use tokio::time::{Duration, Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    mark::{mark, marked_events},
    records::{Entry, Outcome},
    refusal,
};

/// A response with its first frame.
pub(crate) struct ResponseStart {
    pub(crate) response: LlmResponse,
    pub(crate) first: Frame,
}

/// A call that has not returned yet.
pub(crate) type PendingCall = Pin<Box<dyn Future<Output = Result<ResponseStart, LlmError>> + Send>>;

/// A stream of an answer's events in the caller's dialect, with signs of life during silence.
///
/// It ends with the dialect's own end mark, or with its error event. Dropping it drops the call to the provider.
#[pin_project]
pub(crate) struct EventStream {
    dialect: Dialect,
    state: State,
    encoder: StreamEncoder,
    entry: Entry,
    batch: EventBatch,
    /// The mark for the first event, until one has been sent.
    mark: Option<Box<Value>>,
    marks: bool,
    /// True once a part of the answer has been sent.
    content_sent: bool,
    keep_alive: Duration,
    /// The time of the last sent bytes.
    last_sent: Instant,
    #[pin]
    silence: Sleep,
    /// Completes when the server cuts its streams.
    #[pin]
    cut: WaitForCancellationFutureOwned,
}

enum State {
    /// The head was sent before the answer came.
    Calling(PendingCall),
    Reading {
        first: Option<Frame>,
        body: LlmBody,
    },
    Done,
}

impl EventStream {
    /// Creates the events of an answer that has begun.
    pub(crate) fn started(
        start: ResponseStart,
        encoder: StreamEncoder,
        entry: Entry,
        limits: &StreamLimits<'_>,
    ) -> Self {
        let mark = mark(&start.response).filter(|_| limits.mark).map(Box::new);
        let state = State::Reading { first: Some(start.first), body: start.response.into_body() };
        Self { mark, ..Self::new(state, encoder, entry, limits) }
    }

    /// Creates the events of a pending call. The first sign of life comes at once.
    pub(crate) fn pending(call: PendingCall, encoder: StreamEncoder, entry: Entry, limits: &StreamLimits<'_>) -> Self {
        let mut events = Self::new(State::Calling(call), encoder, entry, limits);
        events.last_sent = Instant::now().checked_sub(limits.keep_alive).unwrap_or_else(Instant::now);
        events.silence = sleep(Duration::ZERO);
        events
    }

    fn new(state: State, encoder: StreamEncoder, entry: Entry, limits: &StreamLimits<'_>) -> Self {
        Self {
            dialect: limits.dialect,
            state,
            encoder,
            entry,
            batch: EventBatch::default(),
            mark: None,
            marks: limits.mark,
            content_sent: false,
            keep_alive: limits.keep_alive,
            last_sent: Instant::now(),
            silence: sleep(limits.keep_alive),
            cut: limits.cut.clone().cancelled_owned(),
        }
    }
}

/// Events that wait for others, to be sent in one write.
///
/// A connection delivers its events one by one, each after the previous one was taken. With many ready, as from a fast
/// provider or on a busy machine, each would be a write of its own, which costs more than all other work for it. The
/// batch takes them in turn, and waits no longer than until every other task has run. A lone event, such as a model's
/// token, does not wait.
#[derive(Default)]
struct EventBatch {
    first: Bytes,
    more: BytesMut,
    /// The number of waits without another event.
    waits: u8,
}

/// The number of waits after which the batch is sent: hyper polls twice in one turn for missing events.
const MAX_WAITS: u8 = 2;

/// The interval below which events are batched: 200 in a second, which is more than a model writes.
const BATCH_INTERVAL: Duration = Duration::from_millis(5);

/// The size up to which a batch takes another event, in bytes.
const BATCH_BYTES: usize = 16 << 10;

impl EventBatch {
    fn add(&mut self, bytes: Bytes) {
        self.waits = 0;
        if self.first.is_empty() {
            self.first = bytes;
            return;
        }
        if self.more.is_empty() {
            self.more.extend_from_slice(&self.first);
        }
        self.more.extend_from_slice(&bytes);
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    fn is_full(&self) -> bool {
        self.first.len().max(self.more.len()) >= BATCH_BYTES
    }

    /// Completes once the other tasks had their turn and no event came.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waits < MAX_WAITS {
            self.waits += 1;
            // One poll of this future asks the runtime for another turn, after all other tasks.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn take(&mut self) -> Bytes {
        let Self { first, more, .. } = std::mem::take(self);
        if more.is_empty() { first } else { more.freeze() }
    }
}

/// The limits of a stream.
pub(crate) struct StreamLimits<'a> {
    pub(crate) dialect: Dialect,
    /// The silence before a sign of life.
    pub(crate) keep_alive: Duration,
    /// True if the first event has the answer's mark.
    pub(crate) mark: bool,
    /// Cancelled when the server cuts its streams.
    pub(crate) cut: &'a CancellationToken,
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let mut this = self.project();
        loop {
            if this.batch.is_full() {
                return data(this.batch.take());
            }
            let polled = match this.state {
                State::Done if this.batch.is_empty() => return Poll::Ready(None),
                State::Done => return data(this.batch.take()),
                State::Calling(calling) => match calling.as_mut().poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err((Outcome::Failed, error))),
                    Poll::Ready(Ok(start)) => {
                        this.entry.served(&start.response);
                        *this.mark = mark(&start.response).filter(|_| *this.marks).map(Box::new);
                        *this.state = State::Reading { first: Some(start.first), body: start.response.into_body() };
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
                    continue;
                }
                Poll::Ready(Ok(Some(frame))) => {
                    let mut bytes = this.encoder.frame(&frame);
                    if let Some(mark) = this.mark.as_deref()
                        && let Some(marked) = marked_events(&bytes, mark)
                    {
                        (bytes, *this.mark) = (marked, None);
                    }
                    if *this.content_sent && restarts(&frame) {
                        // The encoder has ended the stream with an error.
                        let again = LlmError::new(ErrorKind::StreamBroken, "the answer restarted");
                        this.entry.failed(Outcome::Broken, &again);
                        *this.state = State::Done;
                    }
                    *this.content_sent |= matches!(frame.progress(), Progress::Reasoning | Progress::Content);
                    if frame.progress() == Progress::End
                        && let State::Reading { body, .. } = this.state
                    {
                        this.entry.note(this.encoder.notes());
                        this.entry.answered(body.usage());
                    }
                    if !bytes.is_empty() {
                        this.batch.add(bytes);
                    }
                    continue;
                }
                Poll::Ready(Err(failed)) => failed,
                Poll::Pending if !this.batch.is_empty() => {
                    let now = Instant::now();
                    if now.saturating_duration_since(*this.last_sent) < BATCH_INTERVAL {
                        std::task::ready!(this.batch.poll_wait(cx));
                    }
                    *this.last_sent = now;
                    return data(this.batch.take());
                }
                Poll::Pending if this.cut.as_mut().poll(cx).is_ready() => (Outcome::Broken, stopping()),
                Poll::Pending => {
                    std::task::ready!(this.silence.as_mut().poll(cx));
                    let now = Instant::now();
                    // Frames come far more often than the timer fires, so they do not reset it.
                    let due = *this.last_sent + *this.keep_alive;
                    if due > now {
                        this.silence.as_mut().reset(due);
                        continue;
                    }
                    *this.last_sent = now;
                    this.silence.as_mut().reset(now + *this.keep_alive);
                    return data(sign_of_life(*this.dialect));
                }
            };
            this.entry.failed(outcome, &error);
            let bytes = refusal::event(&error, *this.dialect, this.encoder);
            *this.state = State::Done;
            this.batch.add(bytes);
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Done) && self.batch.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

fn data(bytes: Bytes) -> Poll<Option<Result<http_body::Frame<Bytes>, std::convert::Infallible>>> {
    Poll::Ready(Some(Ok(http_body::Frame::data(bytes))))
}

fn restarts(frame: &Frame) -> bool {
    frame.events().iter().any(|event| matches!(event, StreamEvent::Restarted { .. }))
}

/// Returns the error of a server that stops before the answer is complete.
pub(crate) fn stopping() -> LlmError {
    LlmError::new(ErrorKind::Overloaded, "the gateway is stopping")
}

/// Returns a sign of life, which keeps a connection and its reader awake. Anthropic's clients ignore a `ping` anywhere,
/// before `message_start` too, and every client ignores a comment.
fn sign_of_life(dialect: Dialect) -> Bytes {
    match dialect {
        Dialect::Anthropic => Bytes::from_static(b"event: ping\ndata: {\"type\": \"ping\"}\n\n"),
        _ => Bytes::from_static(b": keep-alive\n\n"),
    }
}

#[cfg(test)]
mod tests;
