use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project::{pin_project, pinned_drop};
use tokio::time::Instant;
use tower::Service;

use super::{reservation::Reservation, shared::Shared};
use crate::{LlmError, LlmRequest, LlmResponse, LlmService, layers::call::Call};

/// The future of [`Budget`](super::Budget).
///
/// Dropping it before its call was made releases its reservation. After that the provider may have worked: the prompt
/// counts, and of a whole answer as much as the time allows.
#[pin_project(PinnedDrop)]
pub struct ResponseFuture<S: Service<LlmRequest>> {
    #[pin]
    state: State<S, S::Future>,
    reservation: Reservation,
    shared: Arc<Shared>,
}

#[pin_project(project = StateProjection)]
enum State<S, F> {
    Calling(#[pin] Call<S, F>),
    Refused(Option<LlmError>),
}

impl<S: Service<LlmRequest>> ResponseFuture<S> {
    #[inline]
    pub(super) fn goes(call: Call<S, S::Future>, reservation: Reservation, shared: Arc<Shared>) -> Self {
        Self { state: State::Calling(call), reservation, shared }
    }

    pub(super) fn refused(error: LlmError, shared: Arc<Shared>) -> Self {
        Self { state: State::Refused(Some(error)), reservation: Reservation::default(), shared }
    }
}

impl<S> Future for ResponseFuture<S>
where
    S: LlmService,
{
    type Output = Result<LlmResponse, LlmError>;

    /// # Panics
    ///
    /// Panics if polled after it was ready.
    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut call = match this.state.project() {
            StateProjection::Calling(call) => call,
            StateProjection::Refused(error) => {
                return Poll::Ready(Err(error.take().expect("polled after it was ready")));
            }
        };
        // Change the response in place: it moves often enough on its way up.
        let mut result = ready!(call.as_mut().poll(cx));
        let reservation = mem::take(this.reservation);
        match &mut result {
            Ok(response) => this.shared.answered(reservation, response),
            Err(error) => {
                call.abandon();
                this.shared.failed(reservation, error);
            }
        }
        Poll::Ready(result)
    }
}

#[pinned_drop]
impl<S: Service<LlmRequest>> PinnedDrop for ResponseFuture<S> {
    fn drop(self: Pin<&mut Self>) {
        let this = self.project();
        if let State::Calling(Call::Calling(_)) = &*this.state {
            let reservation = mem::take(this.reservation);
            let cost = reservation.unseen(&this.shared.common, Instant::now());
            reservation.settle(cost);
        }
    }
}

impl<S: Service<LlmRequest>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("budget::ResponseFuture").field("reservation", &self.reservation).finish_non_exhaustive()
    }
}
