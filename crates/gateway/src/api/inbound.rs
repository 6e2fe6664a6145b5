//! The [`LlmRequest`]s that the callers' bodies are.

use bytes::Bytes;
use http::HeaderMap;
use steadfast::{Dialect, LlmError, LlmRequest, Wire};

use super::{large_body::LARGE_BODY, paths::gemini::PathCall, request_options::forwarded};
use crate::limits::Settings;

/// Creates the request from the caller's own bytes.
pub(crate) fn request(
    dialect: Dialect,
    headers: &HeaderMap,
    path: Option<&PathCall>,
    body: Bytes,
    settings: &Settings,
) -> Result<LlmRequest, LlmError> {
    let wire = Wire::new(dialect, body)?.headers(forwarded(dialect, headers)).limits(settings.limits);
    Ok(LlmRequest::from(match path {
        Some(call) => wire.path(call.model.clone(), call.stream),
        None => wire,
    }))
}

/// Creates a request to compact a conversation, from the caller's own bytes.
pub(crate) fn compaction(headers: &HeaderMap, body: Bytes) -> Result<LlmRequest, LlmError> {
    let wire = Wire::compaction(body)?.headers(forwarded(Dialect::Responses, headers));
    Ok(LlmRequest::from(wire))
}

/// Decodes a large request outside the threads that serve all callers, if the stack or the key reads its content. An
/// invalid one is not refused here: a provider of its dialect may accept it.
pub(crate) async fn decode_ahead(request: &LlmRequest, is_read: impl FnOnce() -> bool) {
    if request.wire().is_some_and(|wire| wire.body().len() >= LARGE_BODY) && is_read() {
        // Boxed: inline it would enlarge every request's future.
        let _told_by_who_reads_it = Box::pin(request.decode_ahead()).await;
    }
}
