//! Tokens from a user's own service.

use tower::{BoxError, Service, ServiceExt};

use super::{Source, SourceError, Token, TokenFuture};

/// A user's service as a source.
pub(super) struct ServiceSource<S>(pub(super) S);

impl<S> Source for ServiceSource<S>
where
    S: Service<(), Response = Token> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    fn name(&self) -> String {
        "the service of tokens".to_owned()
    }

    fn fetch(&self) -> TokenFuture<'_> {
        let call = self.0.clone().oneshot(());
        Box::pin(async move { call.await.map_err(|error| SourceError::new("it failed").with_source(error)) })
    }
}
