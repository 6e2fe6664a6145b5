use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project::{pin_project, pinned_drop};

use super::{Delivered, Frame, IdleLimits, StreamEvent, idle::IdleClock};
use crate::{
    ErrorKind, LlmError,
    chat::Usage,
    layers::admission::{Outcome, Permit, SoFar},
};

/// A stream of frames with all that must last as long as it: the one body guard of the crate.
///
/// It lives in one allocation with the frames, made by the leaf, so that the layers add to it without one.
#[pin_project(PinnedDrop)]
pub(super) struct Streaming<S: ?Sized + Stream<Item = Result<Frame, LlmError>>> {
    permits: Vec<Permit>,
    usage: Option<Usage>,
    /// The tokens of answers that broke before this one began anew.
    broken: Option<Usage>,
    delivered: Delivered,
    state: State,
    #[pin]
    idle: IdleClock,
    #[pin]
    frames: S,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// The provider's end mark was seen.
    Ended,
    /// Nothing more will come.
    Done,
}

/// Room for the permits of a usual stack without a further allocation by a layer.
const USUAL_PERMITS: usize = 6;

impl<S: Stream<Item = Result<Frame, LlmError>>> Streaming<S> {
    pub(super) fn new(frames: S) -> Self {
        Self {
            permits: Vec::with_capacity(USUAL_PERMITS),
            usage: None,
            broken: None,
            delivered: Delivered::default(),
            state: State::Running,
            idle: IdleClock::new(),
            frames,
        }
    }
}

impl<S: ?Sized + Stream<Item = Result<Frame, LlmError>>> Streaming<S> {
    pub(super) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    pub(super) fn hold(self: Pin<&mut Self>, permit: Permit) {
        self.project().permits.push(permit);
    }

    pub(super) fn limit_idle(self: Pin<&mut Self>, limits: IdleLimits) {
        self.project().idle.limit(limits);
    }

    pub(super) fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, LlmError>>> {
        let mut this = self.project();
        if *this.state == State::Done {
            return Poll::Ready(None);
        }
        let broken = match (*this.state, this.frames.poll_next(cx)) {
            (State::Running, Poll::Ready(Some(Ok(frame)))) => {
                this.idle.heard(frame.progress());
                this.delivered.add(&frame);
                for event in frame.events() {
                    match event {
                        StreamEvent::Usage(usage) => *this.usage = Some(*usage),
                        // Those were the tokens of the answer that broke.
                        StreamEvent::Restarted { .. } => *this.broken = total(*this.broken, this.usage.take()),
                        // A permit is held while the provider works for us, and it has ended its work here. The
                        // reader may take its time with the last frame.
                        StreamEvent::End => {
                            *this.state = State::Ended;
                            let told = total(*this.broken, *this.usage);
                            let answered = || Outcome::Answered { usage: this.usage.as_ref() };
                            settle(this.permits, told, *this.delivered, answered);
                        }
                        _ => {}
                    }
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            // The answer is whole: nobody waits for the connection to close, and what comes in its closing is noise.
            // That one poll lets an HTTP connection see its own end and go back to its pool.
            (State::Ended | State::Done, _) => {
                *this.state = State::Done;
                return Poll::Ready(None);
            }
            (State::Running, Poll::Ready(None)) => {
                LlmError::new(ErrorKind::StreamBroken, "the stream ended without the provider's end mark")
            }
            (State::Running, Poll::Ready(Some(Err(error)))) => error,
            (State::Running, Poll::Pending) => match this.idle.as_mut().poll_silence(cx) {
                Poll::Ready(silent) => silent,
                Poll::Pending => return Poll::Pending,
            },
        };
        *this.state = State::Done;
        settle(this.permits, total(*this.broken, *this.usage), *this.delivered, || Outcome::Failed(&broken));
        Poll::Ready(Some(Err(broken)))
    }
}

fn settle<'a>(permits: &mut Vec<Permit>, told: Option<Usage>, delivered: Delivered, outcome: impl Fn() -> Outcome<'a>) {
    let so_far = SoFar { usage: told.as_ref(), delivered };
    for mut permit in permits.drain(..) {
        permit.settle_with(outcome(), so_far);
    }
}

fn total(before: Option<Usage>, now: Option<Usage>) -> Option<Usage> {
    match (before, now) {
        (Some(before), Some(now)) => Some(before + now),
        (before, now) => before.or(now),
    }
}

#[pinned_drop]
impl<S: ?Sized + Stream<Item = Result<Frame, LlmError>>> PinnedDrop for Streaming<S> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        settle(this.permits, total(*this.broken, *this.usage), *this.delivered, || Outcome::Dropped);
    }
}
