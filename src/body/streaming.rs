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
    layers::{
        admission::{Outcome, Permit, SoFar},
        estimate,
    },
};

/// A stream of frames with all that must last as long as it: the one body guard of the crate.
///
/// It lives in one allocation with the frames, made by the leaf, so that the layers add to it without one.
#[pin_project(PinnedDrop)]
pub(super) struct Streaming<S: ?Sized + Stream<Item = Result<Frame, LlmError>>> {
    permits: Vec<Permit>,
    tokens: Tokens,
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
            tokens: Tokens::default(),
            delivered: Delivered::default(),
            state: State::Running,
            idle: IdleClock::new(),
            frames,
        }
    }
}

impl<S: ?Sized + Stream<Item = Result<Frame, LlmError>>> Streaming<S> {
    pub(super) fn usage(&self) -> Option<Usage> {
        self.tokens.told
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
                    this.tokens.said += event.said() as u64;
                    match event {
                        StreamEvent::Usage(usage) => this.tokens.told = Some(*usage),
                        StreamEvent::Restarted { .. } => this.tokens.begin_anew(),
                        // A permit is held while the provider works for us, and it has ended its work here. The
                        // reader may take its time with the last frame.
                        StreamEvent::End => {
                            *this.state = State::Ended;
                            settle(this.permits, this.tokens, *this.delivered, Outcome::Answered);
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
        settle(this.permits, this.tokens, *this.delivered, Outcome::Failed(&broken));
        Poll::Ready(Some(Err(broken)))
    }
}

fn settle(permits: &mut Vec<Permit>, tokens: &Tokens, delivered: Delivered, outcome: Outcome<'_>) {
    let told = tokens.all_told();
    let (at_least, prompts) = tokens.at_least(matches!(outcome, Outcome::Answered));
    let so_far = SoFar { usage: told.as_ref(), delivered, at_least, prompts };
    for mut permit in permits.drain(..) {
        permit.settle_with(outcome, &|| so_far);
    }
}

/// The tokens of a stream: those that its provider tells, and what is seen of them here.
#[derive(Clone, Copy, Default)]
struct Tokens {
    /// Of the answer under way.
    told: Option<Usage>,
    /// How many characters of it have come.
    said: u64,
    /// Of answers that broke before this one began anew: as told.
    broken: Option<Usage>,
    /// The same, or what came of them where that is more.
    broken_at_least: Usage,
    /// How many of those have told nothing of their prompt.
    broken_prompts: u32,
}

impl Tokens {
    /// All before was of an answer that broke.
    fn begin_anew(&mut self) {
        let (broken_at_least, broken_prompts) = self.at_least(false);
        *self = Self { told: None, said: 0, broken: self.all_told(), broken_at_least, broken_prompts };
    }

    fn all_told(&self) -> Option<Usage> {
        match (self.broken, self.told) {
            (Some(broken), Some(told)) => Some(broken + told),
            (broken, told) => broken.or(told),
        }
    }

    /// What was used at the least, and how many prompts are not in it. A provider that has ended its answer knows best.
    fn at_least(&self, whole: bool) -> (Usage, u32) {
        let seen = Usage::new(0, estimate::said(self.said));
        let (now, untold) = match self.told {
            Some(told) if whole => (told, 0),
            Some(told) => (Usage { output: told.output.max(seen.output), ..told }, (told.input == 0).into()),
            None => (seen, 1),
        };
        (self.broken_at_least + now, self.broken_prompts.saturating_add(untold))
    }
}

#[pinned_drop]
impl<S: ?Sized + Stream<Item = Result<Frame, LlmError>>> PinnedDrop for Streaming<S> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        settle(this.permits, this.tokens, *this.delivered, Outcome::Dropped);
    }
}
