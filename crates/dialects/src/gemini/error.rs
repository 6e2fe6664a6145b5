use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use crate::{
    ErrorKind,
    protocol::{ErrorBody, LONGEST_RATE_WAIT, Refusal},
    retry_after,
    sentences::KnownMessage,
};

/// Classifies an error: by the reason in its details, then Google's status, then a message that is known as a whole,
/// then the HTTP status.
///
/// The rules for quotas follow Google's own command-line client.
pub(super) fn classify(status: StatusCode, facts: &ErrorBody, wait: Option<Duration>) -> ErrorKind {
    match reason(facts) {
        Some("API_KEY_INVALID" | "SERVICE_DISABLED" | "API_KEY_SERVICE_BLOCKED" | "CONSUMER_INVALID") => {
            return ErrorKind::Auth;
        }
        // From a gateway of ours: Google itself uses words.
        Some("CONTEXT_LENGTH_EXCEEDED") => return ErrorKind::ContextLength,
        Some("BILLING_DISABLED") => return ErrorKind::QuotaExhausted,
        Some("MODEL_CAPACITY_EXHAUSTED" | "MODEL_CAPACITY_EXCEEDED") => return ErrorKind::Overloaded,
        _ => {}
    }
    let name = facts.status.as_deref().or_else(|| facts.number.and_then(name_of));
    match name {
        Some("INVALID_ARGUMENT" | "OUT_OF_RANGE") => {
            if facts.consists_of(&TOO_LARGE) {
                ErrorKind::TooLarge
            } else {
                facts.kind_by_sentence(StatusCode::BAD_REQUEST).unwrap_or(ErrorKind::InvalidRequest)
            }
        }
        // Billing is off, or the region is not served: no call with this key can succeed now.
        Some("FAILED_PRECONDITION") => ErrorKind::QuotaExhausted,
        Some("UNAUTHENTICATED" | "PERMISSION_DENIED") => ErrorKind::Auth,
        Some("NOT_FOUND") => ErrorKind::NotFound,
        Some("RESOURCE_EXHAUSTED") => {
            let long = wait.is_some_and(|wait| wait > LONGEST_RATE_WAIT);
            if long || is_daily(facts) || has_no_quota(facts) {
                ErrorKind::QuotaExhausted
            } else {
                ErrorKind::RateLimited
            }
        }
        Some("UNAVAILABLE") => ErrorKind::Overloaded,
        Some("DEADLINE_EXCEEDED" | "CANCELLED") => ErrorKind::Timeout,
        Some("INTERNAL" | "UNKNOWN" | "ABORTED" | "DATA_LOSS") => ErrorKind::Server,
        // From another maker's server.
        _ => {
            let known = facts.kind_by_name(status).or_else(|| facts.kind_by_sentence(status));
            known.unwrap_or_else(|| ErrorKind::from_status(status))
        }
    }
}

/// Classifies an error of Google's own front before another vendor's model.
pub fn google_kind(status: StatusCode, facts: &ErrorBody) -> ErrorKind {
    classify(status, facts, wait(facts))
}

/// Returns true if the project has not enabled the API.
pub fn is_disabled(facts: &ErrorBody) -> bool {
    reason(facts) == Some("SERVICE_DISABLED")
}

/// Returns the wait that the error asks for: in `RetryInfo`, or in the text of the message.
pub(super) fn wait(facts: &ErrorBody) -> Option<Duration> {
    let delay = details(facts, "RetryInfo").find_map(|info| info.get("retryDelay")?.as_str());
    delay.and_then(retry_after::duration).or_else(|| retry_after::from_message(&facts.message))
}

fn reason(facts: &ErrorBody) -> Option<&str> {
    details(facts, "ErrorInfo").find_map(|info| info.get("reason")?.as_str())
}

fn details<'a>(facts: &'a ErrorBody, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let of_kind =
        move |detail: &&Value| detail.get("@type").and_then(Value::as_str).is_some_and(|name| name.ends_with(kind));
    facts.details.iter().filter(of_kind)
}

/// Returns true for a daily quota, whose wait cannot be trusted.
fn is_daily(facts: &ErrorBody) -> bool {
    let violations =
        details(facts, "QuotaFailure").filter_map(|failure| failure.get("violations")?.as_array()).flatten();
    let ids = violations.filter_map(|violation| violation.get("quotaId")?.as_str());
    let info = details(facts, "ErrorInfo").filter_map(|info| info.get("metadata")?.get("quota_limit")?.as_str());
    ids.chain(info).any(|id| id.contains("PerDay") || id.contains("Daily"))
}

/// Returns true if the plan has no quota at all for this model. A line of the message says so, behind Google's own
/// words; it ends with the model's name, which is the caller's.
fn has_no_quota(facts: &ErrorBody) -> bool {
    facts.message.lines().any(|line| {
        let metric = line.trim_start().trim_start_matches("* ").strip_prefix("Quota exceeded for metric: ");
        let Some((name, rest)) = metric.and_then(|metric| metric.split_once(", limit: ")) else { return false };
        !name.contains(char::is_whitespace) && matches!(rest.split(',').next(), Some("0"))
    })
}

/// The place of reasoning that only the account that made it can read.
pub(super) const SEALED: &str = "contents.thoughtSignature";

/// Returns the refusal of sealed reasoning, if the error is one.
pub(super) fn sealed_reasoning(facts: &ErrorBody) -> Option<Refusal> {
    facts.consists_of(&SEALED_ELSEWHERE).then_some(Refusal::of_seal(SEALED))
}

const SEALED_ELSEWHERE: KnownMessage = KnownMessage {
    first: &[
        "corrupted thought signature",
        "invalid thought signature",
        "thought signature is not valid",
        "unable to submit request because thought signature is not valid",
    ],
    then: &["learn more @"],
};

const TOO_LARGE: KnownMessage = KnownMessage { first: &["request payload size exceeds the limit # bytes"], then: &[] };

/// Returns Google's name for an HTTP status, for a body with the number only. It is trusted more than the status of the
/// answer, which a proxy may have changed.
fn name_of(number: u16) -> Option<&'static str> {
    Some(match number {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        500 => "INTERNAL",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::json;

    use crate::{ErrorKind, protocol::ErrorBody};

    #[test]
    fn errors_are_named_by_reason_status_and_text_in_this_order() {
        let quota = |id: &str| {
            json!([{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": id}]},
                   {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}])
        };
        let info = |reason: &str| json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]);
        let none = || json!([]);
        for (code, status, message, details, kind) in [
            (400, "INVALID_ARGUMENT", "API key not valid.", info("API_KEY_INVALID"), ErrorKind::Auth),
            (
                400,
                "INVALID_ARGUMENT",
                "The input token count (5) exceeds the maximum number of tokens allowed (4).",
                none(),
                ErrorKind::ContextLength,
            ),
            (400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 5 bytes.", none(), ErrorKind::TooLarge),
            (
                400,
                "INVALID_ARGUMENT",
                "Function call is missing a thought_signature",
                none(),
                ErrorKind::InvalidRequest,
            ),
            (
                400,
                "INVALID_ARGUMENT",
                "* GenerateContentRequest.model: unexpected model name format\n",
                none(),
                ErrorKind::NotFound,
            ),
            (400, "FAILED_PRECONDITION", "User location is not supported", none(), ErrorKind::QuotaExhausted),
            (403, "PERMISSION_DENIED", "", none(), ErrorKind::Auth),
            (404, "NOT_FOUND", "", none(), ErrorKind::NotFound),
            (429, "RESOURCE_EXHAUSTED", "", quota("GenerateRequestsPerMinutePerProject"), ErrorKind::RateLimited),
            (429, "RESOURCE_EXHAUSTED", "", quota("GenerateRequestsPerDayPerProject"), ErrorKind::QuotaExhausted),
            (
                429,
                "RESOURCE_EXHAUSTED",
                "Quota exceeded for metric: a/b, limit: 0, model: x",
                none(),
                ErrorKind::QuotaExhausted,
            ),
            (
                429,
                "RESOURCE_EXHAUSTED",
                "No.\n* Quota exceeded for metric: b, limit: 0\n",
                none(),
                ErrorKind::QuotaExhausted,
            ),
            (429, "RESOURCE_EXHAUSTED", "Quota exceeded for metric: b, limit: 0.5", none(), ErrorKind::RateLimited),
            (429, "RESOURCE_EXHAUSTED", "Quota exceeded, model: x, limit: 0", none(), ErrorKind::RateLimited),
            (429, "RESOURCE_EXHAUSTED", "Please retry in 500s", none(), ErrorKind::QuotaExhausted),
            (429, "RESOURCE_EXHAUSTED", "", none(), ErrorKind::RateLimited),
            (429, "RESOURCE_EXHAUSTED", "", info("MODEL_CAPACITY_EXHAUSTED"), ErrorKind::Overloaded),
            (499, "CANCELLED", "", none(), ErrorKind::Timeout),
            (500, "INTERNAL", "", none(), ErrorKind::Server),
            (503, "UNAVAILABLE", "", none(), ErrorKind::Overloaded),
            (504, "DEADLINE_EXCEEDED", "", none(), ErrorKind::Timeout),
        ] {
            let body = json!({"error": {"code": code, "status": status, "message": message, "details": details}});
            let facts = ErrorBody::of_error(&body).expect("a known shape");
            let wait = super::wait(&facts);
            // Under any status that a proxy in between has set.
            for status in [code, 502] {
                let status = StatusCode::from_u16(status).expect("a status");
                assert_eq!(super::classify(status, &facts, wait), kind, "{body}");
            }
        }
    }
}
