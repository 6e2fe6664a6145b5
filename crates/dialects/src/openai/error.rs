use http::StatusCode;

use crate::{
    ErrorKind,
    error::OmittedParameter,
    protocol::{Chooser, ErrorBody, Refusal},
    used_up,
    wire::thoughts::{OF_CALLS, OF_TURNS},
};

use super::sentences::{
    FOREIGN_THOUGHTS, NO_SIGNATURE, NO_THOUGHTS, OVER_TPM, OVERLOADED, RATE, ROUTER, TIER_CAPACITY,
};

/// The places of thoughts in a body: those that the server does not take, those that it misses, and signatures that it
/// misses.
pub(super) const FOREIGN: &str = "messages.reasoning";
pub(super) const MISSING: &str = "messages.reasoning_content";
pub(super) const UNSIGNED: &str = "messages.tool_calls.extra_content";

/// Returns the refusal of a turn's thoughts, or of a turn without any, if the error is one. No caller can mend it: the
/// turn is another server's.
pub(super) fn thoughts(facts: &ErrorBody) -> Option<Refusal> {
    let names_one = || {
        let mut words = facts.message.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        words.any(|word| OF_TURNS.contains(&word) || OF_CALLS.contains(&word))
    };
    let path = if facts.consists_of(&FOREIGN_THOUGHTS) && names_one() {
        FOREIGN
    } else if facts.consists_of(&NO_THOUGHTS) {
        MISSING
    } else if facts.consists_of(&NO_SIGNATURE) {
        UNSIGNED
    } else {
        return None;
    };
    // A part that a turn lacks is the server's rule. One that it has may be the server's own in another turn.
    let parameter = OmittedParameter { path: path.into(), lasting: path != FOREIGN };
    Some(Refusal { parameter, is_unsupported: true, chooser: Chooser::Stranger })
}

/// Classifies an error of OpenAI's or a compatible server's: by code, then type, then a message that is known as a
/// whole, then the status.
pub fn classify(status: StatusCode, facts: &ErrorBody) -> ErrorKind {
    if used_up::is_one_requests(status, facts) {
        return ErrorKind::TooLarge;
    }
    by_name(status, facts).or_else(|| by_text(status, facts)).unwrap_or_else(|| by_status(status, facts))
}

fn by_name(status: StatusCode, facts: &ErrorBody) -> Option<ErrorKind> {
    // One request over the tokens-per-minute limit never fits.
    if status == StatusCode::TOO_MANY_REQUESTS && facts.consists_of(&OVER_TPM) {
        return Some(ErrorKind::TooLarge);
    }
    if let Some(kind) = facts.kind_by_name(status) {
        return Some(kind);
    }
    // The code is more exact; the type may be a generic word that misleads.
    [&facts.code, &facts.kind].into_iter().flatten().find_map(|name| {
        Some(match name.as_str() {
            // Mistral's capacity, not the caller's limit.
            _ if facts.consists_of(&TIER_CAPACITY) => ErrorKind::Overloaded,
            "rate_limit_exceeded" | "tokens" if status == StatusCode::PAYLOAD_TOO_LARGE => ErrorKind::TooLarge,
            "rate_limit_exceeded"
            | "rate_limited"
            | "rate_limit_error"
            | "rate_limit_reached_error"
            | "slow_down"
            | "RateLimitReached"
            | "1300"
            | "too_many_requests"
            | "tokens"
            | "requests" => ErrorKind::RateLimited,
            "invalid_api_key"
            | "account_deactivated"
            | "unsupported_country_region_territory"
            | "authentication_error"
            | "invalid_authentication_error"
            | "permission_error"
            | "permission_denied" => {
                // A server's type for a used-up account, which its words tell.
                facts.kind_by_sentence(status).filter(|kind| *kind != ErrorKind::Auth).unwrap_or(ErrorKind::Auth)
            }
            "server_is_overloaded"
            | "capacity_exceeded"
            | "insufficient_system_resource"
            | "overloaded_error"
            | "engine_overloaded_error"
            | "service_unavailable_error"
            | "unavailable_error" => ErrorKind::Overloaded,
            // The model wrote an invalid tool call.
            "tool_use_failed" => ErrorKind::Malformed,
            "timeout_error" => ErrorKind::Timeout,
            // Overload comes under this name too, with a 503.
            "server_error" if status.as_u16() != 503 && facts.kind_by_sentence(status).is_none() => ErrorKind::Server,
            _ => return None,
        })
    })
}

/// Distinguishes the kinds behind a generic type or code.
fn by_text(status: StatusCode, facts: &ErrorBody) -> Option<ErrorKind> {
    match status.as_u16() {
        // A router's own moderation lists its findings.
        403 if facts.flagged => Some(ErrorKind::ContentPolicy),
        429 | 500 if facts.consists_of(&OVERLOADED) => Some(ErrorKind::Overloaded),
        // A router's words for its own provider's failure; the cause follows them, if the router knows it.
        400 if facts.consists_of(&ROUTER) => Some(ErrorKind::Server),
        _ => facts.kind_by_sentence(status),
    }
}

fn by_status(status: StatusCode, facts: &ErrorBody) -> ErrorKind {
    match ErrorKind::from_status(status) {
        // An API names its limits: a 429 without a name or a known message came from an overloaded front.
        ErrorKind::RateLimited if !facts.is_named() && !facts.consists_of(&RATE) => ErrorKind::Overloaded,
        kind => kind,
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::{Value, json};

    use crate::{ErrorKind, protocol::ErrorBody};

    #[test]
    fn errors_are_named_by_code_type_text_and_status_in_this_order() {
        let of = |kind: &str, code: Value, message: &str| json!({"type": kind, "code": code, "message": message});
        let request = |code: Value, message: &str| of("invalid_request_error", code, message);
        for (status, error, kind) in [
            (400, request(json!("context_length_exceeded"), ""), ErrorKind::ContextLength),
            (400, request(json!("string_above_max_length"), "too long"), ErrorKind::InvalidRequest),
            (400, request(Value::Null, "This model's maximum context length is 8192 tokens"), ErrorKind::ContextLength),
            (400, request(json!("content_policy_violation"), ""), ErrorKind::ContentPolicy),
            (
                400,
                request(Value::Null, "Your request was rejected as a result of our safety system"),
                ErrorKind::ContentPolicy,
            ),
            (400, request(json!("unsupported_parameter"), "429 503 overloaded"), ErrorKind::InvalidRequest),
            (400, request(Value::Null, "Incorrect API key provided"), ErrorKind::Auth),
            (401, request(json!("invalid_api_key"), ""), ErrorKind::Auth),
            (
                400,
                request(
                    json!("model_decommissioned"),
                    "The model `llama3-70b-8192` has been decommissioned and is no longer supported. Please refer to https://console.groq.com/docs/deprecations for a recommendation on which model to use instead.",
                ),
                ErrorKind::NotFound,
            ),
            (
                400,
                request(
                    json!("invalid_request_error"),
                    "The supported API model names are deepseek-v4-pro or deepseek-v4-flash, but you passed gpt-4o.",
                ),
                ErrorKind::NotFound,
            ),
            (
                400,
                request(
                    json!("invalid_request_error"),
                    "The supported API model names are a, b or c, but you passed `d`.",
                ),
                ErrorKind::NotFound,
            ),
            (
                400,
                request(Value::Null, "messages.0: The supported API model names are a or b, but you passed c."),
                ErrorKind::InvalidRequest,
            ),
            (
                400,
                request(Value::Null, "The model `x` does not exist or you do not have access to it."),
                ErrorKind::NotFound,
            ),
            (
                403,
                json!({"code": 403, "message": "Provider returned error", "metadata": {"provider_name": "xAI", "raw":
                "{\"code\":\"The caller does not have permission to execute the specified operation\",\"error\":\"Content violates usage guidelines. Team: bb642ce4-5161, API key ID: 5bfd0532, Model: grok-3-mini, Failed check: SAFETY_CHECK_TYPE_DATA_LEAKAGE\"}"}}),
                ErrorKind::ContentPolicy,
            ),
            (403, of("", Value::Null, "Content violates usage guidelines."), ErrorKind::ContentPolicy),
            (
                403,
                of("", Value::Null, "The team may not use this model: content violates usage guidelines."),
                ErrorKind::Auth,
            ),
            (403, json!({"code": 403, "metadata": {"reasons": ["x"]}}), ErrorKind::ContentPolicy),
            (403, of("", json!(403), "this key requires moderation"), ErrorKind::Auth),
            (404, request(json!("model_not_found"), ""), ErrorKind::NotFound),
            (413, of("tokens", json!("rate_limit_exceeded"), "Request too large for model"), ErrorKind::TooLarge),
            (429, of("tokens", json!("rate_limit_exceeded"), "Please try again in 6s"), ErrorKind::RateLimited),
            (429, of("insufficient_quota", json!("insufficient_quota"), ""), ErrorKind::QuotaExhausted),
            (429, of("requests", json!("slow_down"), ""), ErrorKind::RateLimited),
            (429, request(json!("rate_limit_error"), ""), ErrorKind::RateLimited),
            (429, of("", json!("429"), "Service tier capacity exceeded for this model"), ErrorKind::Overloaded),
            (498, of("", json!("capacity_exceeded"), ""), ErrorKind::Overloaded),
            (429, of("engine_overloaded_error", Value::Null, "The engine is overloaded"), ErrorKind::Overloaded),
            (429, of("exceeded_current_quota_error", Value::Null, "?"), ErrorKind::QuotaExhausted),
            (429, of("rate_limit_reached_error", Value::Null, "?"), ErrorKind::RateLimited),
            (
                403,
                json!({"message": "Your newly created team doesn't have any credits yet. You can purchase those on https://console.x.ai/team/x."}),
                ErrorKind::QuotaExhausted,
            ),
            (500, of("server_error", json!(500), "Context size has been exceeded."), ErrorKind::ContextLength),
            (500, of("server_error", Value::Null, ""), ErrorKind::Server),
            (503, of("server_error", Value::Null, "overloaded"), ErrorKind::Overloaded),
            (503, request(json!("3505"), "Service tier capacity exceeded for this model."), ErrorKind::Overloaded),
            (400, request(json!("tool_use_failed"), ""), ErrorKind::Malformed),
            (402, of("unknown_error", Value::Null, "Insufficient Balance"), ErrorKind::QuotaExhausted),
            (424, of("", Value::Null, "?"), ErrorKind::InvalidRequest),
            (520, of("", Value::Null, "?"), ErrorKind::Server),
        ] {
            let facts = ErrorBody::of_error(&json!({ "error": error })).expect("a known shape");
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(super::classify(status, &facts), kind, "{status} {error}");
        }
    }
}
