use http::StatusCode;

use crate::{
    ErrorKind,
    providers::{http::Facts, status::of_known_status},
};

/// Names an error: its exact code, then its type, then (for what the types lump together) the text, then the status.
pub(super) fn classify(status: StatusCode, facts: &Facts, waits: bool) -> ErrorKind {
    match facts.code.as_deref() {
        Some("enforced_spend_limit_reached" | "contract_spend_limit_reached") => return ErrorKind::QuotaExhausted,
        Some("ramp_limit_exceeded") => return ErrorKind::RateLimited,
        Some("organization_on_hold" | "cmek_key_disabled") => return ErrorKind::Auth,
        Some("cmek_key_unreachable" | "cmek_context_unavailable") => return ErrorKind::Server,
        Some(code) if code.starts_with("linked_organization_") => return ErrorKind::QuotaExhausted,
        _ => {}
    }
    match facts.kind.as_deref() {
        Some("authentication_error" | "permission_error") => ErrorKind::Auth,
        Some("billing_error") => ErrorKind::QuotaExhausted,
        Some("not_found_error") => ErrorKind::NotFound,
        Some("request_too_large") => ErrorKind::TooLarge,
        Some("rate_limit_error") if !waits && facts.says(QUOTA) => ErrorKind::QuotaExhausted,
        Some("rate_limit_error") => ErrorKind::RateLimited,
        Some("overloaded_error") => ErrorKind::Overloaded,
        Some("timeout_error") => ErrorKind::Timeout,
        Some("api_error" | "conflict_error") => ErrorKind::Server,
        Some("invalid_request_error") if status.as_u16() == 400 || status.is_success() => {
            if facts.says(&["prompt is too long", "exceed context limit", "context window"]) {
                ErrorKind::ContextLength
            } else if facts.says(&["content filtering policy"]) {
                ErrorKind::ContentPolicy
            } else if facts.says(QUOTA) {
                ErrorKind::QuotaExhausted
            } else {
                ErrorKind::InvalidRequest
            }
        }
        _ => of_known_status(status),
    }
}

/// A limit that the organisation has set itself comes as a 400 or a 429, told apart by its words only.
const QUOTA: &[&str] = &["credit balance is too low", "usage limit", "spend limit", "spending limit"];
