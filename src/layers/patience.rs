//! The wait that tells a silent model from a slow one.

use std::time::Duration;

use crate::LlmRequest;

/// The time within which a healthy model has nearly always begun to answer. A shorter silence is paid for by nobody,
/// and many a model thinks as long.
pub(crate) const SHORT_WAIT: Duration = Duration::from_secs(10);

/// Returns true if a healthy model begins its answer to this request within the [`SHORT_WAIT`]. The silence of a whole
/// answer, or of thought, may be work.
pub(crate) fn begins_soon(request: &LlmRequest) -> bool {
    request.is_stream() && !request.asks_to_reason()
}
