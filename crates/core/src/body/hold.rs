//! Guards of your own that an answer holds until it ends.

use super::admission::{Gate, Outcome, Ticket};
use crate::{
    LlmError,
    internal::sync::{Mutex, lock},
};

/// The end of an answer.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum AnswerEnd<'a> {
    /// The provider ended it. A whole answer has ended when it is there.
    Complete,
    /// It broke, stalled or ended without its provider's end mark.
    Broken(&'a LlmError),
    /// The caller left before its end.
    Dropped,
}

/// A guard that waits for the end of one answer.
pub(super) struct Hold<F>(Mutex<Option<F>>);

impl<F> Hold<F> {
    pub(super) fn new(ended: F) -> Self {
        Self(Mutex::new(Some(ended)))
    }
}

impl<F: FnOnce(AnswerEnd<'_>) + Send> Gate for Hold<F> {
    fn settle(&self, _: &Ticket, outcome: Outcome<'_>) {
        // Take the function out before calling it, so that it runs under no lock.
        let ended = lock(&self.0).take();
        if let Some(ended) = ended {
            ended(match outcome {
                Outcome::Answered => AnswerEnd::Complete,
                Outcome::Failed(error) => AnswerEnd::Broken(error),
                Outcome::Dropped => AnswerEnd::Dropped,
            });
        }
    }
}
