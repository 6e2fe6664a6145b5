//! The provider's protocols without a socket.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tower::{BoxError, Service};

use super::{door::Accounts, route, transcript::Transcript};
use steadfast::providers::simulated::Simulated;

/// A [`Simulated`] provider as a transport for the HTTP leaves: the server's protocols without a socket.
///
/// With a server, time must be real, because the system knows nothing of a paused clock. With this transport, an outage
/// of hours runs through the real encoders and decoders in milliseconds. If the script breaks a connection off, the
/// call fails with an error, and so does the body of an answer that has begun.
///
/// Clones are the same provider.
///
/// ```
/// use steadfast::{LlmRequest, providers::{Anthropic, Simulated}};
/// use steadfast_simulator::InProcess;
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let provider = Simulated::new("sonnet").reply("It rains.");
/// let leaf = Anthropic::new("key").model("claude-sonnet-4-5").transport(InProcess::new(provider));
/// let answer = leaf.oneshot(LlmRequest::prompt("How is the weather?")).await.unwrap();
/// assert_eq!(answer.text().await.unwrap(), "It rains.");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct InProcess {
    provider: Simulated,
    accounts: Accounts,
    transcript: Option<Transcript>,
}

impl InProcess {
    /// Creates a transport in this provider's protocols.
    #[must_use]
    pub fn new(provider: Simulated) -> Self {
        Self { provider, accounts: Accounts::default(), transcript: None }
    }

    /// Sets the accounts that its doors know. Default: each credential of the right form is good.
    #[must_use]
    pub fn accounts(mut self, accounts: &Accounts) -> Self {
        self.accounts = accounts.clone();
        self
    }

    /// Writes every request into this transcript. Default: into none.
    #[must_use]
    pub fn transcript(mut self, transcript: &Transcript) -> Self {
        self.transcript = Some(transcript.clone());
        self
    }
}

impl Service<Request<Full<Bytes>>> for InProcess {
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = InProcessFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> InProcessFuture {
        let provider = self.provider.clone();
        let (accounts, transcript) = (self.accounts.clone(), self.transcript.clone());
        InProcessFuture(Box::pin(async move {
            let answer = route::answer(request, &provider, &accounts, transcript.as_ref(), || {}).await?;
            Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
        }))
    }
}

type Answering = dyn Future<Output = Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>> + Send;

/// The future of [`InProcess`].
#[must_use = "futures do nothing unless polled"]
pub struct InProcessFuture(Pin<Box<Answering>>);

impl Future for InProcessFuture {
    type Output = Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for InProcessFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessFuture").finish_non_exhaustive()
    }
}
