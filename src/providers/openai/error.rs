use http::StatusCode;

use crate::{
    ErrorKind,
    error::OmittedParameter,
    providers::{
        protocol::{Chooser, ErrorBody, Refusal},
        used_up,
    },
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
    // What a turn lacks is the server's rule. What it has may be the server's own in another turn.
    let parameter = OmittedParameter { path: path.into(), lasting: path != FOREIGN };
    Some(Refusal { parameter, is_unsupported: true, chooser: Chooser::Stranger })
}

/// Classifies an error of OpenAI's or a compatible server's: by code, then type, then a message that is known as a
/// whole, then the status.
pub(in crate::providers) fn classify(status: StatusCode, facts: &ErrorBody) -> ErrorKind {
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
