//! The wait that tells a silent model from a slow one.

use crate::LlmRequest;

pub(crate) use crate::error::SHORT_WAIT;

/// Returns true if a healthy model begins its answer to this request within the [`SHORT_WAIT`]. The silence of a whole
/// answer, or of thought, may be work.
pub(crate) fn begins_soon(request: &LlmRequest) -> bool {
    request.is_stream() && !request.asks_to_reason()
}
