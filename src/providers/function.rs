//! A leaf made of an async function: your own client.

use std::{
    fmt,
    future::Future,
    task::{Context, Poll},
};

use tower::Service;

use crate::{LlmError, LlmRequest, LlmResponse};

/// Makes a leaf of an async function, for a client of your own.
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
    ProviderFn { function }
}

/// A leaf made by [`provider_fn`]. Clones clone the function.
#[derive(Clone, Copy)]
pub struct ProviderFn<F> {
    function: F,
}

impl<F, R, E> Service<LlmRequest> for ProviderFn<F>
where
    F: FnMut(LlmRequest) -> R,
    R: Future<Output = Result<LlmResponse, E>>,
    E: Into<LlmError>,
{
    type Response = LlmResponse;
    type Error = E;
    type Future = R;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LlmRequest) -> R {
        (self.function)(request)
    }
}

impl<F> fmt::Debug for ProviderFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderFn").finish_non_exhaustive()
    }
}
