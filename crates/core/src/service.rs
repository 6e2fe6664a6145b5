//! The service that everything here wraps.

use tower::Service;

use crate::{LlmError, LlmRequest, LlmResponse};

/// A [`Service`] from a request to an answer, with any error that becomes an [`LlmError`].
///
/// Every such service has it: bound by it what your own layer wraps, in place of the three bounds that it stands for.
///
/// ```
/// use steadfast::{LlmRequest, LlmService};
/// use tower::ServiceExt;
///
/// async fn ask(service: impl LlmService, prompt: &str) -> Option<String> {
///     let answer = service.oneshot(LlmRequest::prompt(prompt)).await.map_err(Into::into).ok()?;
///     answer.text().await.ok()
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no service from a request to an answer of a language model",
    label = "needs `Service<LlmRequest, Response = LlmResponse>` with an error that converts into `LlmError`"
)]
pub trait LlmService: Service<LlmRequest, Response = LlmResponse, Error: Into<LlmError>> {}

impl<S> LlmService for S where S: Service<LlmRequest, Response = LlmResponse, Error: Into<LlmError>> {}

/// Any [`LlmService`], boxed: for a struct's field, where the type must have a name.
pub type BoxLlmService = tower::util::BoxCloneSyncService<LlmRequest, LlmResponse, LlmError>;

/// Gives the service of a layer tower's accessors of what is inside. The sentences say more of `get_mut`.
#[doc(hidden)]
#[macro_export]
macro_rules! inner_service {
    ($service:ident $(, $more:literal)*) => {
        impl<S> $service<S> {
            /// Returns a reference to the inner service.
            pub fn get_ref(&self) -> &S {
                &self.inner
            }

            /// Returns a mutable reference to the inner service.
            $(#[doc = ""] #[doc = $more])*
            pub fn get_mut(&mut self) -> &mut S {
                &mut self.inner
            }

            /// Returns the inner service.
            pub fn into_inner(self) -> S {
                self.inner
            }
        }
    };
}
