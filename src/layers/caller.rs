//! The caller of a request, where one caller must not decide for the others.

use crate::LlmRequest;
pub(crate) use crate::request::UNNAMED;

/// Returns a number for the caller: its tenant or the key that pays for it, else its session. Returns 0 if the
/// request names neither.
#[inline]
pub(crate) fn caller(request: &LlmRequest) -> u64 {
    request.caller_number()
}
