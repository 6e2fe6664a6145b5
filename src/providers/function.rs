//! A leaf made of an async function: your own client.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project::pin_project;
use tower::Service;

use crate::{
    CommitPoint, LlmError, LlmRequest, LlmResponse,
    commit::{HeldAnswer, empty_whole},
};

/// Makes a leaf of an async function, for a client of your own.
///
/// The leaf answers like those of this crate: a stream is held back until its first token, or until the request's own
/// [commit point](LlmRequest::with_commit), and an answer without content is an error such as
/// [`EmptyAnswer`](crate::ErrorKind::EmptyAnswer). So a stream that ends before it has begun fails over like any other
/// failure.
///
/// A client that speaks a provider's protocol needs no conversion of your own: see
/// [`codec`](crate::providers::codec).
///
/// ```
/// use steadfast::{LlmError, LlmRequest, LlmResponse, provider_fn};
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let leaf = provider_fn(|request: LlmRequest| async move {
///     let asked = request.chat()?.messages.len();
///     Ok::<_, LlmError>(LlmResponse::from_text(format!("{asked} message")))
/// });
/// let response = leaf.oneshot(LlmRequest::prompt("hello")).await.unwrap();
/// assert_eq!(response.text().await.unwrap(), "1 message");
/// # }
/// ```
pub fn provider_fn<F, R, E>(function: F) -> ProviderFn<F>
where
    F: FnMut(LlmRequest) -> R,
    R: Future<Output = Result<LlmResponse, E>>,
    E: Into<LlmError>,
{
    ProviderFn { function, commits: true }
}

/// A leaf made by [`provider_fn`]. Clones clone the function.
#[derive(Clone, Copy)]
pub struct ProviderFn<F> {
    function: F,
    /// True if answers are held back until their commit point.
    commits: bool,
}

impl<F> ProviderFn<F> {
    /// Passes answers on as the function returns them, for a function whose answers are committed already, such as one
    /// that calls a stack. Default: they are held back until their commit point.
    #[must_use]
    pub fn inner_commits(mut self) -> Self {
        self.commits = false;
        self
    }
}

impl<F, R, E> Service<LlmRequest> for ProviderFn<F>
where
    F: FnMut(LlmRequest) -> R,
    R: Future<Output = Result<LlmResponse, E>>,
    E: Into<LlmError>,
{
    type Response = LlmResponse;
    type Error = LlmError;
    type Future = ProviderFuture<R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LlmError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> ProviderFuture<R> {
        let asked = self.commits.then(|| request.clone());
        ProviderFuture { asked, state: State::Calling((self.function)(request)) }
    }
}

impl<F> fmt::Debug for ProviderFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderFn").field("commits", &self.commits).finish_non_exhaustive()
    }
}

/// The future of [`ProviderFn`].
#[doc(hidden)]
#[pin_project]
pub struct ProviderFuture<R> {
    /// The request; `None` if answers pass unchanged.
    asked: Option<LlmRequest>,
    #[pin]
    state: State<R>,
}

#[pin_project(project = StateProjection)]
enum State<R> {
    Calling(#[pin] R),
    /// The function has answered with a stream.
    Holding(Option<Box<HeldAnswer>>),
}

impl<R, E> Future for ProviderFuture<R>
where
    R: Future<Output = Result<LlmResponse, E>>,
    E: Into<LlmError>,
{
    type Output = Result<LlmResponse, LlmError>;

    /// Polls the function, then its stream up to the commit point.
    ///
    /// # Panics
    ///
    /// If polled after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Calling(call) => {
                    let response = match ready!(call.poll(cx)) {
                        Ok(response) => response,
                        Err(error) => return Poll::Ready(Err(error.into())),
                    };
                    let Some(asked) = this.asked else { return Poll::Ready(Ok(response)) };
                    if !response.body().arrives_in_frames() {
                        return Poll::Ready(match empty_whole(&response, asked) {
                            Some(error) => Err(error),
                            None => Ok(response),
                        });
                    }
                    let point = asked.context().commit.unwrap_or(CommitPoint::FirstToken);
                    let held = HeldAnswer::new(response, point, asked.clone());
                    // Releases everything that the function holds together with its future.
                    this.state.set(State::Holding(Some(held)));
                }
                StateProjection::Holding(held) => {
                    let body = ready!(held.as_mut().expect("polled after it was ready").poll(cx));
                    let held = held.take().expect("it was polled a line above");
                    return Poll::Ready(held.response_with(body));
                }
            }
        }
    }
}

impl<R> fmt::Debug for ProviderFuture<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, stream};
    use tower::{BoxError, Layer, ServiceExt as _};

    use super::*;
    use crate::{
        ErrorKind, FallbackLayer, Frame, LlmBody, StreamEvent, TimeoutLayer, chat::FinishReason, providers::Canned,
    };

    #[tokio::test]
    async fn a_client_with_errors_of_its_own_is_a_leaf() {
        let leaf = provider_fn(|_| async { Err::<LlmResponse, BoxError>("my own words".into()) });
        let service = TimeoutLayer::new(std::time::Duration::from_secs(1)).layer(leaf);
        let error = service.oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other);
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "my own words");
    }

    #[tokio::test]
    async fn clones_clone_the_function() {
        let mut calls = String::new();
        let leaf = provider_fn(move |_| {
            calls.push('x');
            std::future::ready(Ok::<_, LlmError>(LlmResponse::from_text(calls.clone())))
        });
        for _ in 0..2 {
            let response = leaf.clone().oneshot(LlmRequest::prompt("hello")).await.unwrap();
            assert_eq!(response.text().await.unwrap(), "x");
        }
    }

    /// An answer that begins before these items.
    fn leaf(items: fn() -> Vec<Result<Frame, LlmError>>) -> ProviderFn<impl FnMut(LlmRequest) -> Answering + Clone> {
        provider_fn(move |_| {
            let body = LlmBody::from_frames(stream::iter(items()));
            std::future::ready(Ok(LlmResponse::new(body).with_model("house", "large")))
        })
    }

    type Answering = std::future::Ready<Result<LlmResponse, LlmError>>;

    fn asked() -> LlmRequest {
        LlmRequest::prompt("hello").with_stream(true)
    }

    fn end() -> [Result<Frame, LlmError>; 2] {
        [StreamEvent::Finish(FinishReason::Stop), StreamEvent::End].map(|event| Ok(Frame::event(event)))
    }

    fn overloaded() -> Result<Frame, LlmError> {
        Err(LlmError::new(ErrorKind::Overloaded, "said under a 200"))
    }

    #[tokio::test]
    async fn what_goes_wrong_before_the_first_token_is_an_error_of_the_call() {
        type Frames = Vec<Result<Frame, LlmError>>;
        let cases: [(fn() -> Frames, ErrorKind); 4] = [
            (Vec::new, ErrorKind::StreamBroken),
            (|| end().into(), ErrorKind::EmptyAnswer),
            (|| vec![Ok(Frame::event(StreamEvent::KeepAlive)), overloaded()], ErrorKind::Overloaded),
            (|| vec![Ok(Frame::text("")), overloaded()], ErrorKind::Overloaded),
        ];
        for (items, kind) in cases {
            let error = leaf(items).oneshot(asked()).await.unwrap_err();
            assert_eq!((error.kind(), error.provider(), error.model()), (kind, Some("house"), Some("large")));
            let llm = FallbackLayer::new("house").tier("sorry", Canned::text("Later.")).layer(leaf(items));
            assert_eq!(llm.oneshot(asked()).await.unwrap().text().await.unwrap(), "Later.", "{kind}");
        }
        let empty = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("")) });
        assert_eq!(empty.oneshot(asked()).await.unwrap_err().kind(), ErrorKind::EmptyAnswer);
    }

    #[tokio::test]
    async fn what_breaks_after_it_is_the_bodys_unless_the_request_wants_all_of_it() {
        let cut: fn() -> Vec<Result<Frame, LlmError>> = || vec![Ok(Frame::text("Half of ")), Ok(Frame::text("it"))];
        let response = leaf(cut).oneshot(asked()).await.unwrap();
        assert_eq!(response.text().await.unwrap_err().kind(), ErrorKind::StreamBroken);
        let error = leaf(cut).oneshot(asked().with_commit(CommitPoint::Complete)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StreamBroken);

        let whole: fn() -> Vec<Result<Frame, LlmError>> =
            || [Ok(Frame::text("All."))].into_iter().chain(end()).collect();
        for point in CommitPoint::ALL {
            let response = leaf(whole).oneshot(asked().with_commit(point)).await.unwrap();
            assert_eq!((response.served_by().model, response.body().arrives_in_frames()), (Some("large"), true));
            assert_eq!(response.text().await.unwrap(), "All.", "{point}");
        }
    }

    #[tokio::test]
    async fn a_function_that_commits_by_itself_is_handed_on() {
        let mut response = leaf(|| vec![overloaded()]).inner_commits().oneshot(asked()).await.unwrap();
        let first = response.body_mut().frame().await.unwrap();
        assert_eq!(first.unwrap_err().kind(), ErrorKind::Overloaded);
        let hanging = provider_fn(|_| {
            std::future::ready(Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_frames(stream::pending()))))
        });
        assert!(hanging.oneshot(asked()).now_or_never().is_none());
        assert!(hanging.inner_commits().oneshot(asked()).now_or_never().is_some());
    }
}
