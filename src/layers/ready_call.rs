use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project::pin_project;

use super::{
    call::Call,
    deadline::{self, Deadline},
};
use crate::{LlmError, LlmRequest, LlmResponse, LlmService};

/// A call that waits for the readiness of the inner service in the future, not in `poll_ready`.
///
/// With it a layer of your own behaves as the layers here do: its `poll_ready` is `Poll::Ready(Ok(()))`, it decides by
/// the request, and the call ends at the request's deadline, if no layer further out ends it: with
/// [`ErrorKind::Deadline`](crate::ErrorKind::Deadline), in [`Phase::Readiness`](crate::error::Phase::Readiness) where
/// it still waited for the inner service. The service that was polled ready is the one that is called; its clone takes
/// its place.
///
/// Dropped, it gives back what the inner service has reserved.
///
/// ```
/// use std::task::{Context, Poll};
/// use steadfast::{LlmError, LlmRequest, LlmResponse, LlmService, layers::ReadyCall};
/// use tower::Service;
///
/// struct NoRetry<S>(S);
///
/// impl<S: LlmService + Clone> Service<LlmRequest> for NoRetry<S> {
///     type Response = LlmResponse;
///     type Error = LlmError;
///     type Future = ReadyCall<S>;
///
///     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
///         Poll::Ready(Ok(()))
///     }
///
///     fn call(&mut self, request: LlmRequest) -> ReadyCall<S> {
///         ReadyCall::new(&mut self.0, request.with_max_attempts(1))
///     }
/// }
/// ```
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ReadyCall<S: LlmService> {
    #[pin]
    call: Call<S, S::Future>,
    /// Set if no layer further out ends the request at its deadline.
    deadline: Option<Box<Deadline>>,
}

impl<S: LlmService> ReadyCall<S> {
    /// Calls `service` at once if it is ready, else as soon as it is.
    pub fn new(service: &mut S, request: LlmRequest) -> Self
    where
        S: Clone,
    {
        Self::keep(request, |request| Call::first(service, request))
    }

    /// Calls a service that may have been called before, such as a clone for one more attempt, as soon as it is ready.
    pub fn again(service: S, request: LlmRequest) -> Self {
        Self::keep(request, |request| Call::further(service, request))
    }

    fn keep(mut request: LlmRequest, call: impl FnOnce(LlmRequest) -> Call<S, S::Future>) -> Self {
        if !deadline::is_unkept(request.context()) {
            return Self { call: call(request), deadline: None };
        }
        match Deadline::keep(&mut request) {
            Ok(deadline) => Self { call: call(request), deadline },
            Err(late) => Self { call: Call::failed(late), deadline: None },
        }
    }
}

impl<S: LlmService> Future for ReadyCall<S> {
    type Output = Result<LlmResponse, LlmError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(outcome) = this.call.as_mut().poll(cx) {
            return Poll::Ready(outcome);
        }
        let Some(deadline) = this.deadline else { return Poll::Pending };
        let late = ready!(deadline.poll(this.call.phase(), cx));
        this.call.abandon();
        Poll::Ready(Err(late))
    }
}

impl<S: LlmService> fmt::Debug for ReadyCall<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyCall").field("call", &self.call).finish_non_exhaustive()
    }
}
