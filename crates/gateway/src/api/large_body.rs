//! Work on bodies that may be large, beside the threads that serve all callers.

use steadfast::{ErrorKind, LlmError};

/// The size from which a body is read beside those threads.
pub(super) const LARGE_BODY: usize = 256 * 1024;

/// Reads a body of this size; a large one beside the threads that serve all callers.
///
/// # Errors
///
/// The work panics, or the runtime ends.
pub(crate) async fn beside<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LlmError> {
    if size < LARGE_BODY {
        return Ok(work());
    }
    let read = tokio::task::spawn_blocking(work).await;
    read.map_err(|_| LlmError::new(ErrorKind::Other, "the body was not read"))
}
