//! An observer of the caller's own answer as it passes.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use tokio::sync::oneshot;

use super::observer::{Observer, SideOutcome};
use crate::{
    Frame, LlmBody, LlmError, LlmResponse,
    body::admission::{Gate, Outcome, Permit, Ticket},
    events::RequestOutcome,
    internal::sync::{Mutex, lock},
};

/// Observes the caller's call until it has ended, and never answers for it.
// Boxed, since the future of each request has room for it.
pub(super) struct Watch(Box<PrimaryObserver>);

struct PrimaryObserver {
    observer: Observer,
    /// The mirrored request's task, as long as it waits.
    done: oneshot::Sender<SideOutcome>,
}

impl Watch {
    pub(super) fn new(observer: Observer, done: oneshot::Sender<SideOutcome>) -> Self {
        Self(Box::new(PrimaryObserver { observer, done }))
    }

    /// Takes the response. A stream is observed until it ends.
    pub(super) fn answered(mut self, response: &mut LlmResponse) {
        self.0.observer.responds(response);
        if !response.body().arrives_in_frames() {
            return self.0.ends(RequestOutcome::Answered);
        }
        let stream = Arc::new(StreamObserver(Mutex::new(Some(self.0))));
        let body = mem::replace(response.body_mut(), LlmBody::from_text(""));
        *response.body_mut() = LlmBody::from_frames(Frames { body, stream: stream.clone() });
        // A limit further out on the caller's body ends the observation too.
        response.hold_permit(&mut Permit::new(stream, Ticket::default()));
    }

    /// Records that there is no response.
    pub(super) fn failed(mut self, error: &LlmError) {
        self.0.observer.fails(error);
        self.0.ends(RequestOutcome::Failed(error.kind()));
    }

    /// Records that the caller has left.
    pub(super) fn abandoned(self) {
        self.0.ends(RequestOutcome::Abandoned);
    }
}

impl PrimaryObserver {
    fn ends(self, outcome: RequestOutcome) {
        // The send fails if the task no longer waits.
        let _ = self.done.send(self.observer.ends(outcome));
    }
}

/// A stream that is observed until it has ended.
struct StreamObserver(Mutex<Option<Box<PrimaryObserver>>>);

impl StreamObserver {
    fn hears(&self, frame: &Frame) {
        let mut observer = lock(&self.0);
        let left = match &mut *observer {
            Some(some) if some.done.is_closed() => observer.take(),
            Some(some) => {
                some.observer.frame(frame);
                None
            }
            None => None,
        };
        drop(observer);
        drop(left);
    }
}

impl Gate for StreamObserver {
    fn settle(&self, _: &Ticket, outcome: Outcome<'_>) {
        let Some(observer) = lock(&self.0).take() else { return };
        observer.ends(match outcome {
            Outcome::Answered { .. } => RequestOutcome::Answered,
            Outcome::Failed(error) => RequestOutcome::Broken(error.kind()),
            Outcome::Dropped => RequestOutcome::Abandoned,
        });
    }
}

/// The caller's frames, passed through unchanged.
struct Frames {
    body: LlmBody,
    stream: Arc<StreamObserver>,
}

impl Stream for Frames {
    type Item = Result<Frame, LlmError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = ready!(self.body.poll_frame(cx));
        if let Some(Ok(frame)) = &polled {
            self.stream.hears(frame);
        }
        Poll::Ready(polled)
    }
}
