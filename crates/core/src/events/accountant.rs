use std::fmt;

use super::RequestEnded;
use crate::LlmRequest;

/// A receiver of every request's begin and end, for accounts of money: it misses none, where a
/// [`Subscriber`](super::Subscriber) that is slow loses events.
///
/// `Observe` calls it on the request's own thread: it must not block, wait for a lock that is held for long, or panic.
#[doc(hidden)]
pub trait Accountant: fmt::Debug + Send + Sync + 'static {
    /// Opens the account of a request, before its call.
    fn open(&self, request: &LlmRequest) -> Box<dyn Account>;
}

/// The account of one request, of an [`Accountant`].
#[doc(hidden)]
pub trait Account: fmt::Debug + Send + Sync {
    /// Closes the account: the request has ended, with or without an answer. Called at most once; an account that is
    /// dropped is one of which nobody has learnt the end.
    fn close(self: Box<Self>, ended: &RequestEnded);
}
