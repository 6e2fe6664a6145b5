//! The request's own deadline, for the case that no limit further out ends the request at it.
//!
//! A caller sets it ([`LlmRequest::timeout`](crate::LlmRequest::timeout)), and the outermost layer that waits keeps
//! it: it marks the request, so that the layers further in set no timer for the same moment. A `Timeout` does so
//! with its own clock.

use std::{
    pin::Pin,
    task::{Context as TaskContext, Poll, ready},
};

use tokio::time::{Instant, Sleep};

use super::alarm;
use crate::{Context, ErrorKind, LlmError, error::Phase, request::DeadlineKeeper};

/// Returns whether no layer further out ends the request at its deadline.
#[inline]
pub(crate) fn is_unkept(context: &Context) -> bool {
    context.deadline_keeper == DeadlineKeeper::Nobody && context.deadline.is_some()
}

/// Returns the failure of a request whose deadline has passed unkept: no attempt begins after it.
#[inline]
pub(crate) fn passed(context: &Context) -> Option<LlmError> {
    if is_unkept(context) { look(context) } else { None }
}

#[cold]
fn look(context: &Context) -> Option<LlmError> {
    let is_over = context.deadline.is_some_and(|deadline| deadline < Instant::now());
    is_over.then(|| LlmError::new(ErrorKind::Deadline, "the deadline had passed before the call"))
}

/// Ends a call at the request's deadline. It is empty, and no larger than a pointer, if there is no deadline or
/// another layer keeps it.
#[derive(Default)]
pub(crate) struct Keeper(Option<Box<Kept>>);

struct Kept {
    deadline: Instant,
    begun: Instant,
    /// Used if no timer further out can be asked.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Keeper {
    /// Keeps the request's deadline from here on inwards, if no layer further out does.
    ///
    /// # Errors
    ///
    /// Fails if the deadline has passed.
    #[inline]
    pub(crate) fn of(context: &mut Context) -> Result<Self, LlmError> {
        if is_unkept(context) { Self::keep(context) } else { Ok(Self(None)) }
    }

    #[cold]
    fn keep(context: &mut Context) -> Result<Self, LlmError> {
        if let Some(late) = passed(context) {
            return Err(late);
        }
        context.deadline_keeper = DeadlineKeeper::FurtherOut;
        let begun = Instant::now();
        Ok(Self(context.deadline.map(|deadline| Box::new(Kept { deadline, begun, timer: None }))))
    }

    /// Completes with the failure of a pending call once the deadline has come.
    #[inline]
    pub(crate) fn poll(&mut self, phase: Phase, cx: &mut TaskContext<'_>) -> Poll<LlmError> {
        match &mut self.0 {
            None => Poll::Pending,
            Some(kept) => kept.poll(phase, cx),
        }
    }
}

impl Kept {
    #[cold]
    fn poll(&mut self, phase: Phase, cx: &mut TaskContext<'_>) -> Poll<LlmError> {
        ready!(alarm::poll_at(self.deadline, &mut self.timer, cx));
        Poll::Ready(LlmError::deadline_passed(phase, self.deadline.saturating_duration_since(self.begun)))
    }
}
