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
        // From a gateway of ours: Anthropic itself uses words.
        Some("context_length_exceeded") => return ErrorKind::ContextLength,
        Some("ramp_limit_exceeded") => return ErrorKind::RateLimited,
        Some("organization_on_hold" | "cmek_key_disabled") => return ErrorKind::Auth,
        Some("cmek_key_unreachable" | "cmek_context_unavailable") => return ErrorKind::Server,
        Some(code) if used_up::is_name(code) => return ErrorKind::QuotaExhausted,
        _ => {}
    }
    // A rate limit names its wait; a limit of spending does not.
    let is_rate = waits && facts.kind.as_deref() == Some("rate_limit_error");
    if !is_rate && used_up::is_said(status, facts) {
        return ErrorKind::QuotaExhausted;
    }
    match facts.kind.as_deref() {
        Some("authentication_error" | "permission_error") => ErrorKind::Auth,
        Some(kind) if used_up::is_name(kind) => ErrorKind::QuotaExhausted,
        Some("not_found_error") => ErrorKind::NotFound,
        Some("request_too_large") => ErrorKind::TooLarge,
        Some("rate_limit_error") => ErrorKind::RateLimited,
        Some("overloaded_error") => ErrorKind::Overloaded,
        Some("timeout_error") => ErrorKind::Timeout,
        Some("api_error" | "conflict_error") => ErrorKind::Server,
        Some("invalid_request_error") if status.as_u16() == 400 || status.is_success() => {
            if facts.consists_of(&CONTEXT) {
                ErrorKind::ContextLength
            } else if facts.consists_of(&POLICY) {
                ErrorKind::ContentPolicy
            } else {
                ErrorKind::InvalidRequest
            }
        }
        _ => ErrorKind::from_status(status),
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

const CONTEXT: KnownMessage = KnownMessage {
    first: &[
        "prompt is too long",
        "prompt is too long # tokens > #",
        "prompt is too long # tokens > # maximum",
        "input is too long for requested model",
        "input length and `max_tokens` exceed context limit # + # > #",
    ],
    then: &["decrease input length or `max_tokens` and try again"],
};

const POLICY: KnownMessage = KnownMessage { first: &["output blocked by content filtering policy"], then: &[] };
