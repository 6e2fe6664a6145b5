//! The request's own deadline, for the case that no limit further out ends the request at it.
//!
//! A caller sets it ([`LlmRequest::with_timeout`](crate::LlmRequest::with_timeout)), and the outermost layer that waits
//! keeps it: it marks the request, so that the layers further in set no timer for the same moment. A `Timeout` does so
//! with its own clock, and a `Fallback` with the shares of time that it gives to its tiers.

use std::{
    pin::Pin,
    task::{Context as TaskContext, Poll, ready},
};

use tokio::time::{Instant, Sleep};

use super::alarm;
use crate::{Context, ErrorKind, LlmError, LlmRequest, error::Phase};

/// Returns true if no layer further out ends the request at its deadline. A look at one byte: the healthy path does no
/// more.
#[inline]
pub fn is_unkept(context: &Context) -> bool {
    context.prospects.leaves_deadline()
}

/// Returns the failure of a request whose deadline has passed: no attempt begins after it.
#[cold]
pub fn passed(context: &Context) -> Option<LlmError> {
    let is_over = context.deadline.is_some_and(|deadline| deadline < Instant::now());
    is_over.then(|| LlmError::new(ErrorKind::Deadline, "the deadline had passed before the call"))
}

/// Returns the failure of a call that would begin at its deadline or after it.
pub fn late(context: &Context, begins: Instant) -> Option<LlmError> {
    let is_late = context.deadline.is_some_and(|deadline| deadline <= begins);
    is_late.then(|| LlmError::new(ErrorKind::Deadline, "the deadline passed before the call could begin"))
}

/// Ends a call at the request's deadline.
#[derive(Debug)]
pub struct Deadline {
    at: Instant,
    begun: Instant,
    /// Used if no timer further out can be asked.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Keeps the deadline of a request from here on inwards, if it has one.
    ///
    /// # Errors
    ///
    /// Fails if the deadline has passed.
    #[cold]
    pub fn keep(request: &mut LlmRequest) -> Result<Option<Box<Self>>, LlmError> {
        let context = request.context_mut();
        if let Some(late) = passed(context) {
            return Err(late);
        }
        context.prospects.note_leaves_deadline(false);
        let begun = Instant::now();
        Ok(context.deadline.map(|at| Box::new(Self { at, begun, timer: None })))
    }

    /// Completes with the failure of a pending call once the deadline has come.
    #[cold]
    pub fn poll(&mut self, phase: Phase, cx: &mut TaskContext<'_>) -> Poll<LlmError> {
        ready!(alarm::poll_at(self.at, &mut self.timer, cx));
        Poll::Ready(LlmError::deadline_passed(phase, self.at.saturating_duration_since(self.begun)))
    }
}
