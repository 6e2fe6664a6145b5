//! The caller of a request, where one caller must not decide for the others.

use std::hash::{DefaultHasher, Hasher};

use crate::LlmRequest;

/// The number of requests without a named caller.
pub(crate) const UNNAMED: u64 = 0;

/// Returns a number for the caller: its tenant or the key that pays for it, else its session. Returns 0 if the
/// request names neither.
pub(crate) fn caller(request: &LlmRequest) -> u64 {
    let name = request.tenant().map(|tenant| &**tenant).or_else(|| request.session());
    name.map_or(UNNAMED, |name| {
        let mut hasher = DefaultHasher::new();
        hasher.write(name.as_bytes());
        hasher.finish() | 1
    })
}
