use http::StatusCode;

use crate::{
    ErrorKind,
    protocol::{ErrorBody, Refusal},
    sentences::KnownMessage,
    used_up,
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

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::{Value, json};

    use crate::{ErrorKind, protocol::ErrorBody};

    #[test]
    fn errors_are_named_by_code_type_and_text_in_this_order() {
        let named = |status: u16, error: Value, waits| {
            let facts = ErrorBody::of_error(&json!({"type": "error", "error": error})).expect("a known shape");
            super::classify(StatusCode::from_u16(status).expect("a status"), &facts, waits)
        };
        let of = |kind: &str, message: &str| json!({"type": kind, "message": message});
        for (status, error, waits, kind) in [
            (
                400,
                of("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
                false,
                ErrorKind::ContextLength,
            ),
            (
                400,
                of("invalid_request_error", "Output blocked by content filtering policy"),
                false,
                ErrorKind::ContentPolicy,
            ),
            (
                400,
                of("invalid_request_error", "Your credit balance is too low to access the API."),
                false,
                ErrorKind::QuotaExhausted,
            ),
            (400, of("invalid_request_error", "max_tokens: Field required"), false, ErrorKind::InvalidRequest),
            (401, of("authentication_error", "invalid x-api-key"), false, ErrorKind::Auth),
            (402, of("billing_error", ""), false, ErrorKind::QuotaExhausted),
            (403, of("permission_error", ""), false, ErrorKind::Auth),
            (404, of("not_found_error", "model: x"), false, ErrorKind::NotFound),
            (409, of("conflict_error", ""), false, ErrorKind::Server),
            (413, of("request_too_large", ""), false, ErrorKind::TooLarge),
            (429, of("rate_limit_error", "You would exceed your rate limit"), true, ErrorKind::RateLimited),
            (
                429,
                of("rate_limit_error", "You have reached your specified API usage limits"),
                false,
                ErrorKind::QuotaExhausted,
            ),
            (
                429,
                json!({"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}),
                true,
                ErrorKind::QuotaExhausted,
            ),
            (
                429,
                json!({"type": "rate_limit_error", "details": {"error_code": "ramp_limit_exceeded"}}),
                false,
                ErrorKind::RateLimited,
            ),
            (500, of("api_error", "prompt is too long"), false, ErrorKind::Server),
            (504, of("timeout_error", ""), false, ErrorKind::Timeout),
            (529, of("overloaded_error", ""), false, ErrorKind::Overloaded),
            (200, of("overloaded_error", ""), false, ErrorKind::Overloaded),
            (418, of("a_new_error", "429"), false, ErrorKind::InvalidRequest),
            (599, of("a_new_error", ""), false, ErrorKind::Server),
        ] {
            assert_eq!(named(status, error.clone(), waits), kind, "{status} {error}");
        }
    }
}
