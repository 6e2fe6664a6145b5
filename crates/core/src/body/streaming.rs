use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project::{pin_project, pinned_drop};

use super::{
    Delivery, Frame, IdleLimits, Progress, StreamEvent,
    idle::{BodyDeadline, IdleClock},
};
use crate::{
    ErrorKind, LlmError,
    body::admission::{Outcome, Permit, SoFar},
    chat::Usage,
    estimate,
};

/// A stream of frames with everything that must last as long as it: the one body guard of the crate.
///
/// The leaf makes it in one allocation with the frames, so that the layers add to it without one.
#[pin_project(PinnedDrop)]
pub(super) struct Streaming<S: ?Sized + Stream<Item = Result<Frame, LlmError>>> {
    permits: Vec<Permit>,
    tokens: Tokens,
    delivered: Delivery,
    state: State,
    #[pin]
    idle: IdleClock,
    /// The model by the answer's own word, if it was read before the stream was made.
    model: Option<Box<str>>,
    #[pin]
    frames: S,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// The stream has yielded the provider's end mark.
    Ended,
    /// The stream has ended.
    Done,
}

/// Enough for the permits of a usual stack, so that no layer allocates for its own.
const USUAL_PERMITS: usize = 6;

impl<S: Stream<Item = Result<Frame, LlmError>>> Streaming<S> {
    pub(super) fn new(frames: S) -> Self {
        Self {
            permits: Vec::with_capacity(USUAL_PERMITS),
            tokens: Tokens::default(),
            delivered: Delivery::default(),
            state: State::Running,
            idle: IdleClock::new(),
            model: None,
            frames,
        }
    }
}

impl<S: ?Sized + Stream<Item = Result<Frame, LlmError>>> Streaming<S> {
    pub(super) fn usage(&self) -> Option<Usage> {
        self.tokens.reported
    }

    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    pub(super) fn set_model(self: Pin<&mut Self>, model: Box<str>) {
        *self.project().model = Some(model);
    }

    pub(super) fn hold(self: Pin<&mut Self>, permit: Permit) {
        self.project().permits.push(permit);
    }

    pub(super) fn limit_idle(self: Pin<&mut Self>, limits: IdleLimits) {
        self.project().idle.limit(limits);
    }

    pub(super) fn end_at(self: Pin<&mut Self>, deadline: BodyDeadline) {
        self.project().idle.end_at(deadline);
    }

    pub(super) fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, LlmError>>> {
        let mut this = self.project();
        if *this.state == State::Done {
            return Poll::Ready(None);
        }
        let broken = match (*this.state, this.frames.poll_next(cx)) {
            (State::Running, Poll::Ready(Some(Ok(frame)))) => 'frame: {
                if let Some(overdue) = this.idle.overdue().filter(|_| frame.progress() != Progress::End) {
                    break 'frame overdue;
                }
                this.idle.record_arrival(frame.progress());
                this.delivered.add(&frame);
                for event in frame.events() {
                    this.tokens.characters += event.characters() as u64;
                    match event {
                        StreamEvent::Usage(usage) => this.tokens.reported = Some(*usage),
                        StreamEvent::Restarted { .. } => this.tokens.restart(),
                        // A permit lasts while the provider works for us, and that work ends here. The reader may take
                        // its time with the last frame.
                        StreamEvent::End => {
                            *this.state = State::Ended;
                            settle(this.permits, this.tokens, *this.delivered, Outcome::Answered);
                        }
                        _ => {}
                    }
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            // The answer is whole: nothing need wait for the connection to close, and an error while it closes does not
            // matter. This one poll lets an HTTP connection see its own end and return to its pool.
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

fn settle(permits: &mut Vec<Permit>, tokens: &Tokens, delivered: Delivery, outcome: Outcome<'_>) {
    let reported = tokens.all_reported();
    let (at_least, prompts) = tokens.at_least(matches!(outcome, Outcome::Answered));
    let so_far = SoFar { usage: reported.as_ref(), delivered, at_least, prompts };
    for mut permit in permits.drain(..) {
        permit.settle_with(outcome, &|| so_far);
    }
}

/// The tokens of a stream: those that its provider reports, and an estimate from the text.
#[derive(Clone, Copy, Default)]
struct Tokens {
    /// The usage of the present answer, as reported.
    reported: Option<Usage>,
    /// The number of characters of it so far.
    characters: u64,
    /// The usage of answers that broke before a restart, as reported.
    broken: Option<Usage>,
    /// The same, or the estimate from their text if that is more.
    broken_at_least: Usage,
    /// The number of those whose prompt's tokens were not reported.
    broken_prompts: u32,
}

impl Tokens {
    /// Closes the account of an answer that broke.
    fn restart(&mut self) {
        let (broken_at_least, broken_prompts) = self.at_least(false);
        *self = Self { reported: None, characters: 0, broken: self.all_reported(), broken_at_least, broken_prompts };
    }

    fn all_reported(&self) -> Option<Usage> {
        match (self.broken, self.reported) {
            (Some(broken), Some(reported)) => Some(broken + reported),
            (broken, reported) => broken.or(reported),
        }
    }

    /// Returns the least usage that is certain, and the number of prompts that it lacks. A provider that has ended its
    /// answer knows best.
    fn at_least(&self, whole: bool) -> (Usage, u32) {
        let seen = Usage::new(0, estimate::said(self.characters));
        let (now, untold) = match self.reported {
            Some(reported) if whole => (reported, 0),
            Some(reported) => {
                (Usage { output: reported.output.max(seen.output), ..reported }, (reported.input == 0).into())
            }
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
