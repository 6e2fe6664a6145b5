//! The commit point of a service of your own: see [`CommitOnFirstTokenLayer`].

#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project::pin_project;
use tower::{Layer, Service};

use super::call::Call;
use crate::{
    CommitPoint, LlmError, LlmRequest, LlmResponse, LlmService,
    commit::{HeldAnswer, empty_whole},
};

/// Gives any leaf this guarantee: once a response exists, the first token is here.
///
/// The leaves of this crate have it already, those made by [`provider_fn`](crate::provider_fn) too; put this directly
/// around a `Service` of your own whose future resolves earlier. An answer without content, streamed or complete,
/// becomes an error by its reason to finish: [`EmptyAnswer`](crate::ErrorKind::EmptyAnswer),
/// [`ContentPolicy`](crate::ErrorKind::ContentPolicy), [`Refusal`](crate::ErrorKind::Refusal) and the like. See
/// [`commit`](crate::commit).
///
/// **Position.** A commit point beyond the first token makes the caller wait, and limits of time inside this layer keep
/// running. Around a [`Timeout`](crate::Timeout), a held answer is bounded by that layer's limits for the first token
/// and for silences. Inside a `Timeout`, the whole answer must arrive within the limit. The outermost layer of this
/// type honours a request's own [commit point](LlmRequest::with_commit); layers and leaves further in commit at the
/// first token.
///
/// ```
/// use futures_util::stream;
/// use steadfast::{CommitOnFirstTokenLayer, ErrorKind, LlmBody, LlmError, LlmRequest, LlmResponse};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let leaf = service_fn(|_: LlmRequest| async {
///     let broken = Err(LlmError::new(ErrorKind::Overloaded, "overloaded, said under a 200"));
///     Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(stream::iter([broken]))))
/// });
/// let llm = ServiceBuilder::new().layer(CommitOnFirstTokenLayer::new()).service(leaf);
/// let error = llm.oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Overloaded);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CommitOnFirstTokenLayer {
    point: CommitPoint,
    inner_commits: bool,
}

impl CommitOnFirstTokenLayer {
    /// Creates a layer that commits on the first token.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets another commit point. Default: [`CommitPoint::FirstToken`].
    #[must_use]
    pub fn at(mut self, point: CommitPoint) -> Self {
        self.point = point;
        self
    }

    /// Declares that the inner service gives the guarantee of the first token itself, as this crate's leaves do. The
    /// layer then holds only streams with a later commit point, and passes everything else on unchanged. Default: not
    /// declared.
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::{
    ///     CommitOnFirstTokenLayer, CommitPoint, LlmRequest, TimeoutLayer,
    ///     providers::{Simulated, simulated::Fault},
    /// };
    /// use tower::{ServiceBuilder, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// let llm = ServiceBuilder::new()
    ///     .layer(CommitOnFirstTokenLayer::new().inner_commits())
    ///     .layer(TimeoutLayer::new(Duration::from_secs(30)).idle(Duration::from_secs(5)))
    ///     .service(Simulated::new("sonnet").fault_mix(Fault::StallAfter(3)));
    /// let report = LlmRequest::prompt("Sum it up.").with_stream(true).with_commit(CommitPoint::Complete);
    /// // Not half a report: what stalls is an error before anybody has seen a word of it.
    /// assert!(llm.oneshot(report).await.unwrap_err().timeout().is_some());
    /// # }
    /// ```
    #[must_use]
    pub fn inner_commits(mut self) -> Self {
        self.inner_commits = true;
        self
    }
}

impl<S> Layer<S> for CommitOnFirstTokenLayer {
    type Service = CommitOnFirstToken<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CommitOnFirstToken { inner, point: self.point, inner_commits: self.inner_commits }
    }
}

/// A service that holds a leaf's streams back until their commit point. See [`CommitOnFirstTokenLayer`].
#[derive(Clone, Debug)]
pub struct CommitOnFirstToken<S> {
    inner: S,
    point: CommitPoint,
    /// True if the inner service gives the guarantee of the first token itself.
    inner_commits: bool,
}

steadfast_core::inner_service!(CommitOnFirstToken);

impl<S> CommitOnFirstToken<S> {
    /// Creates a service that holds this leaf's streams back until their first token.
    pub fn new(inner: S) -> Self {
        Self { inner, point: CommitPoint::FirstToken, inner_commits: false }
    }
}

impl<S> Service<LlmRequest> for CommitOnFirstToken<S>
where
    S: LlmService + Clone,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = CommitFuture<S>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, mut request: LlmRequest) -> CommitFuture<S> {
        let context = request.context_mut();
        let point = context.commit.unwrap_or(self.point);
        // A stream held here need not be held further in.
        let inner = point.min(CommitPoint::FirstToken);
        context.commit = Some(inner);
        let hold = !self.inner_commits || point > inner;
        let hold = hold.then(|| (point, request.clone()));
        CommitFuture { call: Call::first(&mut self.inner, request), hold, held: None }
    }
}

/// The response future of [`CommitOnFirstToken`].
#[doc(hidden)]
#[pin_project]
pub struct CommitFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    /// The commit point and the request. `None`: the answer passes unchanged.
    hold: Option<(CommitPoint, LlmRequest)>,
    /// The answer that is being held back.
    held: Option<Box<HeldAnswer>>,
}

impl<S> Future for CommitFuture<S>
where
    S: LlmService,
{
    type Output = Result<LlmResponse, LlmError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let held = match this.held {
            Some(held) => held,
            None => {
                // In place: the response is large to move.
                let mut polled = this.call.as_mut().poll(cx);
                let (response, (point, request)) = match (&mut polled, &*this.hold) {
                    (Poll::Ready(Err(_)), _) => {
                        this.call.abandon();
                        return polled;
                    }
                    (Poll::Pending, _) | (_, None) => return polled,
                    (Poll::Ready(Ok(response)), Some(hold)) => (response, hold),
                };
                if !response.body().arrives_in_frames() {
                    return match empty_whole(response, request) {
                        Some(error) => Poll::Ready(Err(error)),
                        None => polled,
                    };
                }
                let Poll::Ready(Ok(response)) = polled else { unreachable!("it was seen a line above") };
                this.held.insert(HeldAnswer::new(response, *point, request.clone()))
            }
        };
        let body = ready!(held.poll(cx));
        let held = this.held.take().expect("it was polled a line above");
        Poll::Ready(held.response_with(body))
    }
}

impl<S: Service<LlmRequest>> fmt::Debug for CommitFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point = self.hold.as_ref().map(|hold| hold.0);
        f.debug_struct("CommitFuture").field("call", &self.call).field("point", &point).finish_non_exhaustive()
    }
}
