//! A stream with several readers.
//!
//! The recording keeps frames as they come, and each reader reads them at its own pace. A reader that needs the
//! next frame polls the body for all, so that a slow reader, or one that leaves, holds no other up. One reader at a
//! time polls the body, outside of the lock, and wakes the others.

use std::{
    collections::VecDeque,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use super::{
    Answer,
    answer::{Facts, compacted},
    flights::{FlightResult, Leader},
    wakers::Wakers,
};
use crate::{
    ErrorKind, Frame, LlmBody, LlmError, StreamEvent,
    internal::sync::{Mutex, MutexGuard, lock},
};

/// The callback for a recording that is whole.
pub(super) type OnComplete = dyn Fn(Arc<Answer>) + Send + Sync;

pub(crate) struct Recording {
    state: Mutex<State>,
    readers: Arc<Wakers>,
    facts: Facts,
    keep: Box<OnComplete>,
    /// The most bytes that are kept.
    limit: usize,
}

struct State {
    body: Body,
    frames: Frames,
    /// The number of frames that were dropped from the front.
    forgotten: usize,
    bytes: usize,
    readers: usize,
    /// True if the answer was restarted, or two calls gave it: it is read along, but not kept.
    restarted: bool,
    /// True if the answer is too large: its beginning is dropped, and it is not kept.
    too_large: bool,
    /// Held until the answer is whole, too large, broken or abandoned.
    lead: Option<Leader>,
    /// The whole answer, for the task that watches.
    #[cfg_attr(not(feature = "idempotency"), allow(dead_code, reason = "nobody watches"))]
    whole: Option<Arc<Answer>>,
    /// True if nothing more is kept: the answer is whole, too large, or not to be kept.
    #[cfg_attr(not(feature = "idempotency"), allow(dead_code, reason = "nobody watches"))]
    over: bool,
}

enum Body {
    Here(LlmBody),
    /// A reader polls the body; `true` if another reader wanted to.
    Polled(bool),
    Ended,
    Broken(LlmError),
}

enum Frames {
    Growing(VecDeque<Frame>),
    Whole(Arc<[Frame]>),
}

impl Frames {
    fn get(&self, place: usize) -> Option<&Frame> {
        match self {
            Self::Growing(frames) => frames.get(place),
            Self::Whole(frames) => frames.get(place),
        }
    }
}

impl Recording {
    /// Starts a recording of this body and returns its first reader. The followers read along from now on.
    pub(super) fn begin(body: LlmBody, facts: Facts, lead: Leader, limit: usize, keep: Box<OnComplete>) -> Reader {
        let reader = Self::start(body, facts, limit, keep);
        let followed = lead.followed();
        reader.recording.state().lead = Some(lead);
        followed.read(&reader.recording);
        reader
    }

    /// Starts a recording that leads no flight. A caller that needs its outcome [watches](Reader::watch) it.
    #[cfg(feature = "idempotency")]
    pub(crate) fn watched(body: LlmBody, facts: Facts, limit: usize) -> Reader {
        Self::start(body, facts, limit, Box::new(|_| {}))
    }

    fn start(body: LlmBody, facts: Facts, limit: usize, keep: Box<OnComplete>) -> Reader {
        let state = State {
            body: Body::Here(body),
            frames: Frames::Growing(VecDeque::new()),
            forgotten: 0,
            bytes: 0,
            readers: 0,
            restarted: false,
            too_large: false,
            lead: None,
            whole: None,
            over: false,
        };
        let recording = Arc::new(Self { state: Mutex::new(state), readers: Arc::default(), facts, keep, limit });
        recording.read().expect("nobody has left it yet")
    }

    /// Returns another reader, from the beginning, or `None` if the beginning is gone.
    pub(crate) fn read(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.state();
        if state.forgotten > 0 || matches!(state.body, Body::Broken(_)) {
            return None;
        }
        state.readers += 1;
        drop(state);
        Some(Reader { number: self.readers.number(), recording: self.clone(), place: 0 })
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Records the result of one poll of the body.
    fn polled(&self, body: LlmBody, polled: Poll<Option<Result<Frame, LlmError>>>) -> TurnOutcome {
        let mut state = self.state();
        let wanted = matches!(state.body, Body::Polled(true));
        let frame = match polled {
            Poll::Pending => {
                state.body = Body::Here(body);
                return if wanted { TurnOutcome::Again } else { TurnOutcome::Pending };
            }
            Poll::Ready(Some(Ok(frame))) => {
                state.body = Body::Here(body);
                frame
            }
            Poll::Ready(ended) => {
                state.body = match ended {
                    Some(Err(error)) => Body::Broken(error),
                    _ => Body::Ended,
                };
                let lead = state.lead.take();
                drop(state);
                // A follower that has not begun to read takes the flight over.
                drop((body, lead));
                self.readers.wake_all();
                return TurnOutcome::Again;
            }
        };
        let ended = frame.events().contains(&StreamEvent::End);
        // An answer of two models is for its caller alone.
        state.restarted |= frame
            .events()
            .iter()
            .any(|event| matches!(event, StreamEvent::Restarted { .. } | StreamEvent::Continued(_)));
        state.bytes = state.bytes.saturating_add(frame.size());
        let Frames::Growing(frames) = &mut state.frames else { return TurnOutcome::Again };
        frames.push_back(frame);
        let mut lead = None;
        let mut answer = None;
        state.over |= ended;
        if ended {
            lead = state.lead.take();
            if state.bytes <= self.limit && !state.too_large && !state.restarted {
                let Frames::Growing(frames) = &mut state.frames else { return TurnOutcome::Again };
                let whole = compacted(mem::take(frames));
                state.frames = Frames::Whole(whole.clone());
                answer = Some(Arc::new(Answer::stream(whole, self.facts.clone())));
                state.whole.clone_from(&answer);
            }
        } else if state.too_large || state.bytes > self.limit {
            state.too_large = true;
            state.over = true;
            lead = state.lead.take();
            state.forget(self.limit);
        }
        drop(state);
        if let Some(answer) = &answer {
            (self.keep)(answer.clone());
        }
        if let Some(mut lead) = lead {
            lead.end(answer.map_or(FlightResult::Unshared, FlightResult::Answered));
        }
        self.readers.wake_all();
        TurnOutcome::Again
    }
}

impl State {
    /// Drops the oldest frames of an answer that is too large.
    fn forget(&mut self, limit: usize) {
        let Frames::Growing(frames) = &mut self.frames else { return };
        // A lone reader has read all frames but the last, which it has just asked for.
        let limit = if self.readers == 1 { 0 } else { limit };
        while self.bytes > limit && frames.len() > 1 {
            self.bytes -= frames.pop_front().map_or(0, |frame| frame.size());
            self.forgotten += 1;
        }
    }
}

enum TurnOutcome {
    Pending,
    /// The state has changed: look again.
    Again,
}

/// A reader of a recording.
pub(crate) struct Reader {
    recording: Arc<Recording>,
    place: usize,
    number: u64,
}

/// The state of a recording, as seen by a holder that does not read.
#[cfg(feature = "idempotency")]
pub(crate) enum RecordingStatus {
    /// Other readers read.
    Held,
    /// No other reader is left: without this holder the stream would end.
    Alone,
    /// There is nothing more to hold the recording for. The answer is whole (`None` if it is not to be kept), or it
    /// broke.
    Over(Result<Option<Arc<Answer>>, LlmError>),
}

#[cfg(feature = "idempotency")]
impl Reader {
    pub(crate) fn recording(&self) -> &Arc<Recording> {
        &self.recording
    }

    /// Returns the state without reading. Any later change wakes the task.
    pub(crate) fn watch(&self, cx: &mut Context<'_>) -> RecordingStatus {
        self.recording.readers.add(self.number, cx.waker());
        let state = self.recording.state();
        match &state.body {
            _ if state.over => RecordingStatus::Over(Ok(state.whole.clone())),
            Body::Broken(error) => RecordingStatus::Over(Err(error.clone())),
            Body::Ended => RecordingStatus::Over(Ok(None)),
            _ if state.readers == 1 => RecordingStatus::Alone,
            _ => RecordingStatus::Held,
        }
    }
}

impl Stream for Reader {
    type Item = Result<Frame, LlmError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { recording, place, number } = self.get_mut();
        loop {
            let mut state = recording.state();
            let Some(at) = place.checked_sub(state.forgotten) else {
                return Poll::Ready(Some(Err(LlmError::new(
                    ErrorKind::StreamBroken,
                    "this reader of a shared stream fell too far behind; its next frame is no longer kept",
                ))));
            };
            if let Some(frame) = state.frames.get(at) {
                *place += 1;
                return Poll::Ready(Some(Ok(frame.clone())));
            }
            match &state.body {
                Body::Ended => return Poll::Ready(None),
                Body::Broken(error) => return Poll::Ready(Some(Err(error.clone()))),
                Body::Polled(_) => {
                    drop(state);
                    // The reader that polls the body polls it again if it found nothing, and then wakes this reader
                    // too.
                    recording.readers.add(*number, cx.waker());
                    let mut state = recording.state();
                    match &mut state.body {
                        Body::Polled(wanted) => {
                            *wanted = true;
                            return Poll::Pending;
                        }
                        _ => continue,
                    }
                }
                Body::Here(_) => {}
            }
            let Body::Here(body) = mem::replace(&mut state.body, Body::Polled(false)) else { continue };
            drop(state);
            recording.readers.add(*number, cx.waker());
            let mut turn = Turn { recording, body: Some(body) };
            let waker = Waker::from(recording.readers.clone());
            let polled = turn.poll(&mut Context::from_waker(&waker));
            if let TurnOutcome::Pending = polled {
                return Poll::Pending;
            }
        }
    }
}

/// A turn at polling the body. If the poll panics, the other readers get an error.
struct Turn<'a> {
    recording: &'a Recording,
    body: Option<LlmBody>,
}

impl Turn<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> TurnOutcome {
        let Some(body) = &mut self.body else { return TurnOutcome::Again };
        let polled = body.poll_frame(cx);
        match self.body.take() {
            Some(body) => self.recording.polled(body, polled),
            None => TurnOutcome::Again,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            let broken = LlmError::new(ErrorKind::StreamBroken, "reading the stream panicked");
            self.recording.polled(body, Poll::Ready(Some(Err(broken))));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.recording.readers.remove(self.number);
        let mut state = self.recording.state();
        state.readers -= 1;
        if state.readers > 0 {
            drop(state);
            // The body may have woken this reader alone.
            self.recording.readers.wake_all();
            return;
        }
        let left = LlmError::new(ErrorKind::StreamBroken, "all readers of the stream have left");
        let body = match &state.body {
            Body::Here(_) => Some(mem::replace(&mut state.body, Body::Broken(left))),
            _ => None,
        };
        let lead = state.lead.take();
        drop(state);
        // The body's permits must be free before the flight passes to a follower, which may need them.
        drop(body);
        drop(lead);
    }
}
