//! Whom a request is from, where one caller must not decide for the others.

use std::hash::{DefaultHasher, Hasher};

use crate::LlmRequest;

/// The caller without a name.
pub(crate) const NOBODY: u64 = 0;

/// A number for whom a request is from: its tenant or the key that pays for it, else its session. 0: it names neither.
pub(crate) fn caller(request: &LlmRequest) -> u64 {
    let name = request.tenant().map(|tenant| &**tenant).or_else(|| request.session_id());
    name.map_or(NOBODY, |name| {
        let mut hasher = DefaultHasher::new();
        hasher.write(name.as_bytes());
        hasher.finish() | 1
    })
}
