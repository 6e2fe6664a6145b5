//! The commit point of a service of your own: see [`CommitOnFirstTokenLayer`].

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
    CommitPoint, LlmError, LlmRequest, LlmResponse,
    commit::{Held, empty_whole},
};

/// Gives any leaf the promise that a response means that the first token is here.
///
/// The leaves of this crate have it already, those made by [`provider_fn`](crate::provider_fn) too; put this directly around
/// a `Service` of your own whose future resolves earlier. An answer without content, streamed or complete, becomes an error by its reason to finish:
/// [`EmptyAnswer`](crate::ErrorKind::EmptyAnswer), [`ContentPolicy`](crate::ErrorKind::ContentPolicy),
/// [`Refusal`](crate::ErrorKind::Refusal) and the like. See [`commit`](crate::commit).
///
/// **Where it goes.** A commit point beyond the first token makes a caller wait, and limits of time inside of it go on as
/// usual: around a [`Timeout`](crate::Timeout), an answer that is held back has that one's time for its first token and
/// that one's silences; inside of it, the whole answer must be there within the limit. A request that
/// [says](LlmRequest::commit) how far its stream must have come is held back here so far, and by nobody further in.
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
    /// Commits on the first token.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets another commit point. Default: [`CommitPoint::FirstToken`].
    #[must_use]
    pub fn at(mut self, point: CommitPoint) -> Self {
        self.point = point;
        self
    }

    /// Says that what is inside keeps the promise of the first token by itself, as the leaves of this crate do: then only
    /// what is to be held back further is held back here, and all else is handed on as it is. Default: it does not.
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
    /// let report = LlmRequest::prompt("Sum it up.").stream(true).commit(CommitPoint::Complete);
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

/// Holds a leaf's streams back until their commit point. See [`CommitOnFirstTokenLayer`].
#[derive(Clone, Debug)]
pub struct CommitOnFirstToken<S> {
    inner: S,
    point: CommitPoint,
    /// Whether the inner service keeps the promise of the first token already.
    inner_commits: bool,
}

impl<S> CommitOnFirstToken<S> {
    /// Holds this leaf's streams back until their first token.
    pub fn new(inner: S) -> Self {
        Self { inner, point: CommitPoint::FirstToken, inner_commits: false }
    }
}

impl<S> Service<LlmRequest> for CommitOnFirstToken<S>
where
    S: Service<LlmRequest, Response = LlmResponse> + Clone,
    S::Error: Into<LlmError>,
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
        // What is held back here need not be held back further in.
        let inner = point.min(CommitPoint::FirstToken);
        context.commit = Some(inner);
        let hold = !self.inner_commits || point > inner;
        let hold = hold.then(|| (point, request.clone()));
        CommitFuture { call: Call::first(&mut self.inner, request), hold, held: None }
    }
}

/// The future of [`CommitOnFirstToken`].
#[pin_project]
pub struct CommitFuture<S: Service<LlmRequest>> {
    #[pin]
    call: Call<S, S::Future>,
    /// How far, and what was asked. `None`: what comes is handed on.
    hold: Option<(CommitPoint, LlmRequest)>,
    /// The answer that is being held back.
    held: Option<Box<Held>>,
}

impl<S> Future for CommitFuture<S>
where
    S: Service<LlmRequest, Response = LlmResponse>,
    S::Error: Into<LlmError>,
{
    type Output = Result<LlmResponse, LlmError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let held = match this.held {
            Some(held) => held,
            None => {
                // In place: a response is large to move.
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
                this.held.insert(Held::new(response, *point, request.clone()))
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
