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
pub trait LlmService: Service<LlmRequest, Response = LlmResponse, Error: Into<LlmError>> {}

impl<S> LlmService for S where S: Service<LlmRequest, Response = LlmResponse, Error: Into<LlmError>> {}

/// Any [`LlmService`], boxed: for a struct's field, where the type must have a name.
pub type BoxLlmService = tower::util::BoxCloneSyncService<LlmRequest, LlmResponse, LlmError>;
