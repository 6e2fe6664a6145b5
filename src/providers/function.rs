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

#[cfg(test)]
mod tests {
    use tower::{BoxError, Layer, ServiceExt as _};

    use super::*;
    use crate::{ErrorKind, TimeoutLayer};

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
}
