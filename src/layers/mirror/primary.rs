//! An observer of the caller's own answer as it passes.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use tokio::sync::oneshot;

use super::heard::{Heard, Said};
use crate::{
    Frame, LlmBody, LlmError, LlmResponse,
    body::admission::{Gate, Outcome, Permit, Ticket},
    events::RequestOutcome,
    internal::sync::{Mutex, lock},
};

/// Observes the caller's call until it has ended, and never answers for it.
// Boxed, since the future of each request has room for it.
pub(super) struct Watch(Box<Listening>);

struct Listening {
    heard: Heard,
    /// The mirrored request's task, as long as it waits.
    done: oneshot::Sender<Said>,
}

impl Watch {
    pub(super) fn new(heard: Heard, done: oneshot::Sender<Said>) -> Self {
        Self(Box::new(Listening { heard, done }))
    }

    /// Takes the response. A stream is observed until it ends.
    pub(super) fn answered(mut self, response: &mut LlmResponse) {
        self.0.heard.responds(response);
        if !response.body().arrives_in_frames() {
            return self.0.ends(RequestOutcome::Answered);
        }
        let overheard = Arc::new(Overheard(Mutex::new(Some(self.0))));
        let body = mem::replace(response.body_mut(), LlmBody::from_text(""));
        *response.body_mut() = LlmBody::from_frames(Frames { body, overheard: overheard.clone() });
        // A limit on the caller's body further out ends it too.
        response.hold_permit(&mut Permit::new(overheard, Ticket::default()));
    }

    /// Records that there is no response.
    pub(super) fn failed(mut self, error: &LlmError) {
        self.0.heard.fails(error);
        self.0.ends(RequestOutcome::Failed(error.kind()));
    }

    /// Records that the caller has left.
    pub(super) fn abandoned(self) {
        self.0.ends(RequestOutcome::Abandoned);
    }
}

impl Listening {
    fn ends(self, outcome: RequestOutcome) {
        // The send fails if the task no longer waits.
        let _ = self.done.send(self.heard.ends(outcome));
    }
}

/// A stream that is observed until it has ended.
struct Overheard(Mutex<Option<Box<Listening>>>);

impl Overheard {
    fn hears(&self, frame: &Frame) {
        let mut listening = lock(&self.0);
        let left = match &mut *listening {
            Some(some) if some.done.is_closed() => listening.take(),
            Some(some) => {
                some.heard.frame(frame);
                None
            }
            None => None,
        };
        drop(listening);
        drop(left);
    }
}

impl Gate for Overheard {
    fn settle(&self, _: &Ticket, outcome: Outcome<'_>) {
        let Some(listening) = lock(&self.0).take() else { return };
        listening.ends(match outcome {
            Outcome::Answered { .. } => RequestOutcome::Answered,
            Outcome::Failed(error) => RequestOutcome::Broken(error.kind()),
            Outcome::Dropped => RequestOutcome::Abandoned,
        });
    }
}

/// The caller's frames, passed through unchanged.
struct Frames {
    body: LlmBody,
    overheard: Arc<Overheard>,
}

impl Stream for Frames {
    type Item = Result<Frame, LlmError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = ready!(self.body.poll_frame(cx));
        if let Some(Ok(frame)) = &polled {
            self.overheard.hears(frame);
        }
        Poll::Ready(polled)
    }
}
