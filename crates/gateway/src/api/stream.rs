//! Streamed answers as response bodies.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, SizeHint};
use pin_project::pin_project;
use serde_json::Value;
use steadfast::{
    Dialect, ErrorKind, Frame, LlmBody, LlmError, LlmResponse, Progress, StreamEvent, body::Continued,
    translate::StreamEncoder,
};
use steadfast_internal::joined_bytes::JoinedBytes;
use tokio::time::{Duration, Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    conversation::{Recorder, Turn},
    json_array::ArrayWriter,
    mark::{Mark, mark, marked_events},
    notice::{self, FirstFailure},
    ownership::AnswerIds,
    panic::{self, Panic},
    records::{Entry, Outcome},
    refusal,
};
use crate::lifecycle::stopping;

/// A response with its first frame.
pub(crate) struct ResponseStart {
    pub(crate) response: LlmResponse,
    pub(crate) first: Frame,
    /// The failure before it, which its record takes along.
    failed_first: Option<FirstFailure>,
}

impl ResponseStart {
    pub(crate) fn new(response: LlmResponse, first: Frame) -> Self {
        Self { failed_first: FirstFailure::before(&response), response, first }
    }

    /// Returns the notice of another tier's answer.
    fn notice(&self) -> Option<Value> {
        Some(self.failed_first.as_ref()?.notice(&self.response))
    }
}

/// A call that has not returned yet.
pub(crate) type PendingCall = Pin<Box<dyn Future<Output = Result<ResponseStart, LlmError>> + Send>>;

/// A stream of an answer's events in the caller's dialect, with signs of life during silence.
///
/// It ends with the dialect's own end mark, or with its error event. Dropping it drops the call to the provider.
#[pin_project(project = Projected)]
pub(crate) struct EventStream {
    dialect: Dialect,
    state: State,
    encoder: StreamEncoder,
    entry: Entry,
    batch: EventBatch,
    /// The form of a stream that is a JSON array, until its end.
    array: Option<Box<ArrayWriter>>,
    /// The mark for the next event, until one has been sent.
    mark: Option<Box<Mark>>,
    marks: bool,
    /// True if notices say who answers.
    notices: bool,
    /// The record of a response that is kept.
    recorder: Option<Box<Recorder>>,
    /// The ids that the answer gives to its caller.
    ids: Option<Box<AnswerIds>>,
    /// True once a part of the answer has been sent.
    content_sent: bool,
    keep_alive: Duration,
    /// The time without a frame, in whole signs of life.
    quiet: Duration,
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
        keeping: StreamRecords,
        limits: &StreamLimits<'_>,
    ) -> Self {
        let StreamRecords { turn, mut ids } = keeping;
        let mut recorder = turn.map(|turn| Box::new(Recorder::new(turn)));
        if let Some(recorder) = &mut recorder {
            recorder.served(&start.response, start.first.raw().map(|(dialect, _)| dialect));
        }
        if let Some(ids) = &mut ids {
            ids.served(start.response.served_by().tier);
        }
        let mark = mark(&start.response).filter(|_| limits.mark).map(Box::new);
        let notice = if limits.notices { start.notice() } else { None };
        let state = State::Reading { first: Some(start.first), body: start.response.into_body() };
        let mut events = Self { mark, recorder, ids, ..Self::new(state, encoder, entry, limits) };
        notice.into_iter().for_each(|notice| tell(limits.dialect, &mut events.batch, &mut events.mark, notice));
        events
    }

    /// Creates the events of a pending call. The first sign of life comes at once.
    pub(crate) fn pending(call: PendingCall, encoder: StreamEncoder, entry: Entry, limits: &StreamLimits<'_>) -> Self {
        let mut events = Self::new(State::Calling(call), encoder, entry, limits);
        events.last_sent = Instant::now().checked_sub(limits.keep_alive).unwrap_or_else(Instant::now);
        events.silence = sleep(Duration::ZERO);
        events
    }

    /// Keeps the response of the pending call, and its ids.
    pub(crate) fn keeping(mut self, StreamRecords { turn, ids }: StreamRecords) -> Self {
        self.recorder = turn.map(|turn| Box::new(Recorder::new(turn)));
        self.ids = ids;
        self
    }

    fn new(state: State, encoder: StreamEncoder, entry: Entry, limits: &StreamLimits<'_>) -> Self {
        Self {
            dialect: limits.dialect,
            state,
            encoder,
            entry,
            batch: EventBatch::default(),
            array: limits.is_array.then(|| Box::new(ArrayWriter::new())),
            mark: None,
            marks: limits.mark,
            notices: limits.notices,
            recorder: None,
            ids: None,
            content_sent: false,
            keep_alive: limits.keep_alive,
            quiet: Duration::ZERO,
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
    events: JoinedBytes,
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
        self.events.push(bytes, None);
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    fn is_full(&self) -> bool {
        self.events.len() >= BATCH_BYTES
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
        std::mem::take(self).events.join()
    }
}

/// The records that a stream's events are for.
#[derive(Default)]
pub(crate) struct StreamRecords {
    pub(crate) turn: Option<Box<Turn>>,
    pub(crate) ids: Option<Box<AnswerIds>>,
}

/// The limits of a stream.
pub(crate) struct StreamLimits<'a> {
    pub(crate) dialect: Dialect,
    /// True if the events are the elements of a JSON array.
    pub(crate) is_array: bool,
    /// The silence before a sign of life.
    pub(crate) keep_alive: Duration,
    /// True if the first event has the answer's mark.
    pub(crate) mark: bool,
    /// True if notices say who answers.
    pub(crate) notices: bool,
    /// Cancelled when the server cuts its streams.
    pub(crate) cut: &'a CancellationToken,
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        match panic::catch(|| self.as_mut().poll_events(cx)) {
            Ok(polled) => polled,
            Err(panic) => data(self.project().end_after(panic)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Done) && self.batch.is_empty() && self.array.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

impl EventStream {
    fn poll_events(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::convert::Infallible>>> {
        let mut this = self.project();
        loop {
            if this.batch.is_full() {
                return data(this.batch.take());
            }
            if matches!(this.state, State::Done) {
                this.end_array();
                return if this.batch.is_empty() { Poll::Ready(None) } else { data(this.batch.take()) };
            }
            let polled = match this.poll_write(cx) {
                Poll::Ready(()) => this.poll_answer(cx),
                Poll::Pending => Poll::Pending,
            };
            let (outcome, error) = match polled {
                Poll::Ready(Ok(None)) => {
                    *this.state = State::Done;
                    continue;
                }
                Poll::Ready(Ok(Some(frame))) => {
                    this.add(&frame);
                    continue;
                }
                Poll::Ready(Err(failed)) => failed,
                Poll::Pending if !this.batch.is_empty() => {
                    let now = Instant::now();
                    if now.saturating_duration_since(*this.last_sent) < BATCH_INTERVAL {
                        ready!(this.batch.poll_wait(cx));
                    }
                    *this.last_sent = now;
                    return data(this.batch.take());
                }
                // The answer is complete if it is being kept.
                Poll::Pending if !this.is_writing() && this.cut.as_mut().poll(cx).is_ready() => {
                    (Outcome::Broken, stopping())
                }
                Poll::Pending => {
                    if ready!(this.poll_silence(cx)) {
                        return data(sign_of_life(*this.dialect, this.array.is_some()));
                    }
                    continue;
                }
            };
            this.entry.failed(outcome, &error);
            let bytes = refusal::event(this.entry.reader(), &error, *this.dialect, this.encoder);
            let bytes = match this.recorder {
                Some(recorder) => recorder.events(&bytes),
                None => bytes,
            };
            *this.state = State::Done;
            this.put(bytes);
        }
    }
}

impl Projected<'_> {
    /// Ends the stream after a panic. Returns the events that were ready, and the dialect's error event.
    fn end_after(mut self, caught: Panic) -> Bytes {
        caught.log(Some(self.entry.id()));
        let outcome = if matches!(self.state, State::Calling(_)) { Outcome::Failed } else { Outcome::Broken };
        let error = Panic::error();
        self.entry.failed(outcome, &error);
        let (reader, dialect, encoder) = (self.entry.reader(), *self.dialect, &mut *self.encoder);
        // Dropping the body gives its permits back.
        let _ = panic::catch(|| *self.state = State::Done);
        // The encoder may be what panicked.
        let event = panic::catch(|| refusal::event(reader, &error, dialect, encoder))
            .unwrap_or_else(|_| refusal::event(reader, &error, dialect, &mut StreamEncoder::new(dialect)));
        let event = match self.recorder {
            Some(recorder) => panic::catch(|| recorder.events(&event)).unwrap_or(event),
            None => event,
        };
        self.put(event);
        self.end_array();
        self.batch.take()
    }

    /// Polls for the answer's next frame; `None` at its end.
    #[inline]
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, (Outcome, LlmError)>> {
        Poll::Ready(match self.state {
            State::Calling(call) => match ready!(call.as_mut().poll(cx)) {
                Err(error) => Err((Outcome::Failed, error)),
                Ok(mut start) => {
                    self.entry.served(&mut start.response);
                    if let Some(recorder) = self.recorder {
                        recorder.served(&start.response, start.first.raw().map(|(dialect, _)| dialect));
                    }
                    if let Some(ids) = self.ids {
                        ids.served(start.response.served_by().tier);
                    }
                    *self.mark = mark(&start.response).filter(|_| *self.marks).map(Box::new);
                    let notice = if *self.notices { start.notice() } else { None };
                    notice.into_iter().for_each(|notice| tell(*self.dialect, self.batch, self.mark, notice));
                    *self.state = State::Reading { first: None, body: start.response.into_body() };
                    Ok(Some(start.first))
                }
            },
            State::Reading { first: first @ Some(_), .. } => Ok(first.take()),
            State::Reading { body, .. } => match ready!(body.poll_frame(cx)) {
                None => Ok(None),
                Some(Ok(frame)) => Ok(Some(frame)),
                Some(Err(error)) => Err((Outcome::Broken, error)),
            },
            State::Done => Ok(None),
        })
    }

    /// Adds a frame's events to the batch. The answer's end goes into the record.
    #[inline]
    fn add(&mut self, frame: &Frame) {
        if !self.quiet.is_zero() {
            *self.quiet = Duration::ZERO;
            self.entry.set_quiet(Duration::ZERO);
        }
        for event in frame.events() {
            if let StreamEvent::Continued(place) = event {
                self.entry.note(vec![went_on(place).into()]);
                if *self.notices {
                    tell(*self.dialect, self.batch, self.mark, notice::of_place(place));
                }
            }
        }
        let mut bytes = self.encoder.frame(frame);
        if let Some(mark) = self.mark.as_deref()
            && let Some(marked) = marked_events(&bytes, mark)
        {
            (bytes, *self.mark) = (marked, None);
        }
        if *self.content_sent && restarts(frame) {
            // The encoder has ended the stream with an error.
            let again = LlmError::new(ErrorKind::StreamBroken, "the answer restarted");
            self.entry.failed(Outcome::Broken, &again);
            *self.state = State::Done;
        }
        *self.content_sent |= matches!(frame.progress(), Progress::Reasoning | Progress::Content);
        if frame.progress() == Progress::End
            && let State::Reading { body, .. } = self.state
        {
            self.entry.note(self.encoder.notes());
            self.entry.answered(body.usage());
        }
        if let Some(ids) = self.ids {
            ids.give(&bytes);
        }
        if let Some(recorder) = self.recorder {
            if changes_hands(frame) {
                recorder.changed_hands();
            }
            bytes = recorder.record(&bytes);
        }
        self.put(bytes);
    }

    /// Adds events to the batch, in the stream's form.
    #[inline]
    fn put(&mut self, events: Bytes) {
        let bytes = match self.array {
            Some(array) => array.write(events),
            None => events,
        };
        if !bytes.is_empty() {
            self.batch.add(bytes);
        }
    }

    /// Adds the end of a stream that is an array, once.
    fn end_array(&mut self) {
        if let Some(mut array) = self.array.take() {
            self.batch.add(array.end());
        }
    }

    /// Completes once no event waits for the write of the record.
    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(recorder) = self.recorder
            && recorder.is_writing()
        {
            let events = ready!(recorder.poll_write(cx));
            self.batch.add(events);
        }
        Poll::Ready(())
    }

    fn is_writing(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.is_writing())
    }

    /// Completes when the timer fires, with true if a sign of life is due.
    #[inline]
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        ready!(self.silence.as_mut().poll(cx));
        let now = Instant::now();
        // Frames come far more often than the timer fires, so they do not reset it.
        let due = *self.last_sent + *self.keep_alive;
        if due > now {
            self.silence.as_mut().reset(due);
            return Poll::Ready(false);
        }
        *self.last_sent = now;
        *self.quiet = self.quiet.saturating_add(*self.keep_alive);
        self.entry.set_quiet(*self.quiet);
        self.silence.as_mut().reset(now + *self.keep_alive);
        Poll::Ready(true)
    }
}

/// Adds a notice: as a comment, and to the mark of the next event.
fn tell(dialect: Dialect, batch: &mut EventBatch, mark: &mut Option<Box<Mark>>, notice: Value) {
    notice::comment(dialect, &notice).into_iter().for_each(|comment| batch.add(comment));
    mark.get_or_insert_default().insert("notice".to_owned(), notice);
}

fn data(bytes: Bytes) -> Poll<Option<Result<http_body::Frame<Bytes>, std::convert::Infallible>>> {
    Poll::Ready(Some(Ok(http_body::Frame::data(bytes))))
}

/// Says where another call goes on, without a word of the text.
fn went_on(place: &Continued) -> String {
    let by = place.tier.as_deref().unwrap_or("another call");
    format!("stream: {by} goes on after {} characters ({})", place.so_far.chars().count(), place.reason)
}

/// Returns whether another call begins the answer again here, or goes on with it.
fn changes_hands(frame: &Frame) -> bool {
    let is_there = |event: &StreamEvent| matches!(event, StreamEvent::Restarted { .. } | StreamEvent::Continued(_));
    frame.events().iter().any(is_there)
}

fn restarts(frame: &Frame) -> bool {
    frame.events().iter().any(|event| matches!(event, StreamEvent::Restarted { .. }))
}

/// Returns a sign of life, which keeps a connection and its reader awake. Anthropic's clients ignore a `ping` anywhere,
/// before `message_start` too, and every client ignores a comment, except Google's: to its Python SDK a comment is an
/// answer that is no JSON, and a blank line is nothing. A JSON array may have one between its elements.
fn sign_of_life(dialect: Dialect, is_array: bool) -> Bytes {
    match dialect {
        Dialect::Gemini if is_array => Bytes::from_static(b"\r\n"),
        Dialect::Gemini => Bytes::from_static(b"\r\n\r\n"),
        Dialect::Anthropic => Bytes::from_static(b"event: ping\ndata: {\"type\": \"ping\"}\n\n"),
        _ => Bytes::from_static(b": keep-alive\n\n"),
    }
}

#[cfg(test)]
mod tests;
