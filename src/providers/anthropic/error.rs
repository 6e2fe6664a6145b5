use http::StatusCode;

use crate::{
    ErrorKind,
    providers::{
        protocol::{ErrorBody, Refusal},
        sentences::KnownMessage,
        used_up,
    },
};

/// Classifies an error: by its exact code, then its type, then (if the types are too coarse) a message that is known as
/// a whole, then the status.
pub(super) fn classify(status: StatusCode, facts: &ErrorBody, waits: bool) -> ErrorKind {
    if used_up::is_one_requests(status, facts) {
        return ErrorKind::TooLarge;
    }
    match facts.code.as_deref() {
        Some("ramp_limit_exceeded") => return ErrorKind::RateLimited,
        Some("organization_on_hold" | "cmek_key_disabled") => return ErrorKind::Auth,
        Some("cmek_key_unreachable" | "cmek_context_unavailable") => return ErrorKind::Server,
        _ => {}
    }
    // Also from a gateway: Anthropic itself has few codes.
    if let Some(kind) = facts.kind_by_name(status) {
        return kind;
    }
    // A rate limit names its wait; a limit of spending does not.
    let is_rate = waits && facts.kind.as_deref() == Some("rate_limit_error");
    if !is_rate && used_up::is_said(status, facts) {
        return ErrorKind::QuotaExhausted;
    }
    match facts.kind.as_deref() {
        Some("authentication_error" | "permission_error") => ErrorKind::Auth,
        Some("request_too_large") => ErrorKind::TooLarge,
        Some("rate_limit_error") => ErrorKind::RateLimited,
        Some("overloaded_error") => ErrorKind::Overloaded,
        Some("timeout_error") => ErrorKind::Timeout,
        // The type is more exact than words about a length.
        Some("api_error" | "conflict_error") => {
            let said = facts.kind_by_sentence(status).filter(|kind| *kind != ErrorKind::ContextLength);
            said.unwrap_or(ErrorKind::Server)
        }
        Some("invalid_request_error") if status.as_u16() == 400 || status.is_success() => {
            facts.kind_by_sentence(status).unwrap_or(ErrorKind::InvalidRequest)
        }
        _ => facts.kind_by_sentence(status).unwrap_or_else(|| ErrorKind::from_status(status)),
    }
}

/// The place of reasoning that only the account that made it can read.
pub(super) const SEALED: &str = "messages.thinking";

/// Returns the refusal of sealed reasoning, if the error is one.
pub(super) fn sealed_reasoning(facts: &ErrorBody) -> Option<Refusal> {
    facts.consists_of(&SEALED_ELSEWHERE).then_some(Refusal::of_seal(SEALED))
}

const SEALED_ELSEWHERE: KnownMessage = KnownMessage {
    first: &["@ invalid `signature` in `thinking` block", "@ invalid `data` in `redacted_thinking` block"],
    then: &[],
};
