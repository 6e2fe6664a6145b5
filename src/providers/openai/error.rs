use http::StatusCode;

use crate::{
    ErrorKind,
    providers::{http::Facts, status::of_known_status},
};

/// Names an error of OpenAI's or a compatible server's: by code, then type, then text, then status.
pub(super) fn classify(status: StatusCode, facts: &Facts) -> ErrorKind {
    by_name(status, facts).or_else(|| by_text(status, facts)).unwrap_or_else(|| by_status(status, facts))
}

fn by_name(status: StatusCode, facts: &Facts) -> Option<ErrorKind> {
    // Under a 429 or 413: one request over the tokens-per-minute limit never fits.
    if facts.says(&["request too large for"]) && matches!(status.as_u16(), 413 | 429) {
        return Some(ErrorKind::TooLarge);
    }
    // The code is the more exact one; the type may be a generic word that misleads.
    [&facts.code, &facts.kind].into_iter().flatten().find_map(|name| {
        Some(match name.as_str() {
            "insufficient_quota"
            | "credit_balance_exhausted"
            | "organization_spend_limit_exceeded"
            | "project_spend_limit_exceeded"
            | "organization_usage_limit_exceeded"
            | "billing_hard_limit_reached"
            | "billing_not_active"
            | "billing_error" => ErrorKind::QuotaExhausted,
            // Mistral's capacity, not the caller's limit.
            _ if facts.says(&["service tier capacity exceeded", "service tier capacity has been exceeded"]) => {
                ErrorKind::Overloaded
            }
            "rate_limit_exceeded"
            | "rate_limited"
            | "rate_limit_error"
            | "slow_down"
            | "RateLimitReached"
            | "1300"
            | "too_many_requests"
            | "tokens"
            | "requests" => ErrorKind::RateLimited,
            "context_length_exceeded"
            | "exceed_context_size_error"
            | "too_many_prompt_tokens"
            | "max_prompt_tokens_exceeded" => ErrorKind::ContextLength,
            "content_policy_violation"
            | "content_filter"
            | "invalid_prompt"
            | "ResponsibleAIPolicyViolation"
            | "moderation_blocked" => ErrorKind::ContentPolicy,
            "invalid_api_key"
            | "account_deactivated"
            | "unsupported_country_region_territory"
            | "authentication_error"
            | "invalid_authentication_error"
            | "permission_error"
            | "permission_denied" => ErrorKind::Auth,
            "model_not_found" | "DeploymentNotFound" | "not_found_error" => ErrorKind::NotFound,
            "server_is_overloaded"
            | "capacity_exceeded"
            | "insufficient_system_resource"
            | "overloaded_error"
            | "service_unavailable_error"
            | "unavailable_error" => ErrorKind::Overloaded,
            // The model wrote a tool call that is none.
            "tool_use_failed" => ErrorKind::Malformed,
            "timeout_error" => ErrorKind::Timeout,
            // Overload comes under this name too, with a 503.
            "server_error" if status.as_u16() != 503 && !is_context(facts) => ErrorKind::Server,
            _ => return None,
        })
    })
}

/// What the generic types and codes lump together.
fn by_text(status: StatusCode, facts: &Facts) -> Option<ErrorKind> {
    match status.as_u16() {
        // llama.cpp reports a full context as a 500 too.
        200 | 400 | 413 | 422 | 500 if is_context(facts) => Some(ErrorKind::ContextLength),
        200 | 400 | 403 if facts.says(POLICY) => Some(ErrorKind::ContentPolicy),
        // Some servers answer 400 to a bad key.
        400 if facts.says(&["incorrect api key", "invalid api key", "api key not valid", "invalid token"]) => {
            Some(ErrorKind::Auth)
        }
        400 if facts.says(&[
            "model not found",
            "model not exist",
            "model_not_found",
            "unknown model",
            "invalid model",
            "not a valid model",
        ]) =>
        {
            Some(ErrorKind::NotFound)
        }
        400 | 403 | 429 if facts.says(QUOTA) => Some(ErrorKind::QuotaExhausted),
        429 if facts.says(&["overloaded", "capacity"]) => Some(ErrorKind::Overloaded),
        // A router's words for its own provider's trouble; where it knows the cause, that follows them.
        400 if facts.message.trim_end_matches('.').eq_ignore_ascii_case("provider returned error") => {
            Some(ErrorKind::Server)
        }
        500 if facts.says(&["overloaded"]) => Some(ErrorKind::Overloaded),
        _ => None,
    }
}

fn by_status(status: StatusCode, facts: &Facts) -> ErrorKind {
    match of_known_status(status) {
        // A 429 that says nothing of limits was written by no API: the front is overloaded.
        ErrorKind::RateLimited if !facts.is_named() && !facts.says(&["rate", "limit", "quota", "too many"]) => {
            ErrorKind::Overloaded
        }
        kind => kind,
    }
}

fn is_context(facts: &Facts) -> bool {
    facts.says(&[
        "context length",
        "context size",
        "exceeds the context",
        "exceeds the available context",
        "exceeded max context length",
        "context size has been exceeded",
        "prompt is too long",
        "prompt too long",
        "context window",
        "reduce the length of the messages",
        "exceeds the maximum number of tokens",
        "input token count",
    ])
}

const POLICY: &[&str] = &[
    "rejected as a result of the safety system",
    "rejected as a result of our safety system",
    "rejected by the safety system",
    "content management policy",
    "content filtering policy",
    "requires moderation",
    "content exists risk",
];

const QUOTA: &[&str] = &[
    "exceeded your current quota",
    "insufficient balance",
    "insufficient credits",
    "credit balance",
    "spending limit",
    "spend limit",
    "usage limit",
    "monthly included credits",
];
