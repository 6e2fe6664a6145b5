use std::{error::Error as _, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Dialect, ErrorKind, LlmError, error::Told, wire::UNSUPPORTED_PATH};

/// Encodes an error as the status and body that a caller of `dialect` expects, in the words that its client's retry
/// rules look for.
///
/// [`LlmError::raw`] has the provider's own body, for callers of the same dialect.
///
/// ```
/// use steadfast::{Dialect, ErrorKind, LlmError, translate::encode_error};
///
/// let (status, body) = encode_error(&LlmError::new(ErrorKind::RateLimited, "slow down"), Dialect::Anthropic);
/// assert_eq!(status, 429);
/// assert!(body.starts_with(br#"{"error":{"message""#));
/// ```
pub fn encode_error(error: &LlmError, dialect: Dialect) -> (StatusCode, Bytes) {
    let (status, body) = value(error, dialect);
    (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body.to_string().into())
}

pub(super) fn value(error: &LlmError, dialect: Dialect) -> (u16, Value) {
    let kind = match error.told() {
        Told::Kind(kind) => kind,
        Told::OwnersFault => return unavailable(502, "upstream_refused", error, dialect),
        Told::AllFailed => return unavailable(503, "all_providers_unavailable", error, dialect),
    };
    let status = if error.code() == Some(UNSUPPORTED_PATH) { 404 } else { status(kind) };
    let message = error.to_string();
    match dialect {
        Dialect::Anthropic => {
            let (status, name) = anthropic(kind, status);
            let mut body = json!({"type": "error", "error": {"type": name, "message": message}});
            if kind == ErrorKind::QuotaExhausted {
                body["error"]["details"] = json!({"error_code": "enforced_spend_limit_reached"});
            }
            if kind == ErrorKind::ContextLength {
                body["error"]["message"] = format!("prompt is too long: {message}").into();
                // Another gateway of ours, further out, ignores the message's words.
                body["error"]["details"] = json!({"error_code": "context_length_exceeded"});
            }
            body["request_id"] = error.request_id().map_or(Value::Null, Value::from);
            (status, body)
        }
        Dialect::OpenAi => {
            let (name, code) = openai(kind);
            (status, json!({"error": {"message": message, "type": name, "param": null, "code": code}}))
        }
        Dialect::Responses => {
            let (name, code) = responses(kind);
            let code = own_code(error).or(code);
            let message = with_wait(message, error, code);
            (status, json!({"error": {"message": message, "type": name, "param": param(error, code), "code": code}}))
        }
        Dialect::Gemini => {
            let (status, name) = gemini(kind, status);
            let mut body = json!({"error": {"code": status, "message": message, "status": name}});
            if kind == ErrorKind::QuotaExhausted {
                body["error"]["details"] = json!([{
                    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                    "violations": [{"quotaId": "RequestsPerDay"}],
                }]);
            }
            if kind == ErrorKind::ContextLength {
                let words = format!("the input exceeds the maximum number of tokens allowed: {message}");
                body["error"]["message"] = words.into();
                body["error"]["details"] = json!([{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "CONTEXT_LENGTH_EXCEEDED",
                }]);
            }
            // Google's clients look for the wait here; its API has no `Retry-After`.
            if let Some(wait) = error.retry_after().filter(|wait| !wait.is_zero()) {
                let info = json!({
                    "@type": "type.googleapis.com/google.rpc.RetryInfo",
                    "retryDelay": format!("{}s", in_seconds(wait)),
                });
                match body["error"]["details"].as_array_mut() {
                    Some(details) => details.push(info),
                    None => body["error"]["details"] = json!([info]),
                }
            }
            (status, body)
        }
    }
}

/// Returns the status and the error of a gateway that has no answer, for no fault of its caller's.
fn unavailable(status: u16, code: &str, error: &LlmError, dialect: Dialect) -> (u16, Value) {
    let message = error.to_string();
    let body = match dialect {
        Dialect::Anthropic => {
            json!({"type": "error", "error": {"type": "api_error", "message": message}, "request_id": null})
        }
        Dialect::Gemini => {
            let name = if status == 502 { "INTERNAL" } else { "UNAVAILABLE" };
            json!({"error": {"code": status, "message": message, "status": name}})
        }
        _ => json!({"error": {"message": message, "type": "server_error", "param": null, "code": code}}),
    };
    (status, body)
}

/// Returns the code and message of a response that failed.
///
/// Codex gives up at some codes, waits the time in the message at `rate_limit_exceeded`, and repeats at all others.
pub(super) fn code_and_message(error: &LlmError) -> (String, String) {
    // After content a failure is one of the stream; its source is the provider's own.
    let kind = match error.source().and_then(|source| source.downcast_ref::<LlmError>()) {
        Some(cause) if error.kind() == ErrorKind::StreamBroken => cause.kind(),
        _ => error.kind_for_caller(),
    };
    let waits = error.retry_after().is_some_and(|wait| !wait.is_zero());
    let own = error.dialect() == Some(Dialect::Responses) && matches!(error.told(), Told::Kind(_));
    let message = match error.message() {
        words if own && !words.is_empty() => words.to_owned(),
        _ => error.to_string(),
    };
    let code = match own_code(error) {
        Some(code) if own => code,
        _ => code(kind, waits),
    };
    let message = with_wait(message, error, Some(code));
    (code.to_owned(), message)
}

/// Returns the code of a failed response. `waits`: another attempt may succeed at a known time.
fn code(kind: ErrorKind, waits: bool) -> &'static str {
    match kind {
        ErrorKind::RateLimited => RATE_LIMIT,
        // Of all codes this is the one at which clients wait as long as the message says.
        ErrorKind::Overloaded | ErrorKind::BulkheadFull | ErrorKind::CircuitOpen | ErrorKind::Exhausted if waits => {
            RATE_LIMIT
        }
        ErrorKind::QuotaExhausted | ErrorKind::Budget => "insufficient_quota",
        ErrorKind::ContextLength => "context_length_exceeded",
        ErrorKind::InvalidRequest
        | ErrorKind::TooLarge
        | ErrorKind::UnsupportedFeature
        | ErrorKind::ContentPolicy
        | ErrorKind::Refusal
        | ErrorKind::NotFound
        | ErrorKind::IdempotencyConflict => "invalid_prompt",
        _ => "server_error",
    }
}

const RATE_LIMIT: &str = "rate_limit_exceeded";
const NO_RESPONSE: &str = "previous_response_not_found";

/// Returns the code of an error that came in this API's form, or that the gateway gave a code itself. Servers of Chat
/// Completions have codes of their own, of which OpenAI's pass. Of a length agents know one code alone.
fn own_code(error: &LlmError) -> Option<&str> {
    if error.kind() == ErrorKind::ContextLength {
        return None;
    }
    let is_known = |code: &&str| match error.dialect() {
        Some(Dialect::Responses) => code.bytes().any(|byte| byte.is_ascii_alphabetic()),
        Some(Dialect::OpenAi) => CODES.contains(code),
        _ => false,
    };
    error.code().filter(|code| [NO_RESPONSE, UNSUPPORTED_PATH].contains(code) || is_known(code))
}

/// The codes of OpenAI's own errors, beside those that a [`code`] stands for.
const CODES: &[&str] = &[
    "account_deactivated",
    "array_above_max_length",
    "array_below_min_length",
    "billing_hard_limit_reached",
    "billing_not_active",
    "bio_policy",
    "content_filter",
    "content_policy_violation",
    "context_length_exceeded",
    "data_residency_mismatch",
    "decimal_above_max_value",
    "decimal_below_min_value",
    "empty_array",
    "empty_image_file",
    "failed_to_download_image",
    "image_content_policy_violation",
    "image_file_not_found",
    "image_file_too_large",
    "image_parse_error",
    "image_too_large",
    "image_too_small",
    "insufficient_quota",
    "integer_above_max_value",
    "integer_below_min_value",
    "invalid_api_key",
    "invalid_base64_image",
    "invalid_encrypted_content",
    "invalid_function_parameters",
    "invalid_image",
    "invalid_image_format",
    "invalid_image_mode",
    "invalid_image_url",
    "invalid_prompt",
    "invalid_type",
    "invalid_value",
    "misalignment_policy_violation",
    "missing_required_parameter",
    "model_not_found",
    NO_RESPONSE,
    "rate_limit_exceeded",
    "server_error",
    "string_above_max_length",
    "unknown_parameter",
    "unsupported_country_region_territory",
    "unsupported_file",
    "unsupported_image_media_type",
    "unsupported_parameter",
    "unsupported_value",
    "usage_not_included",
    "vector_store_timeout",
];

/// Adds the wait in the words that clients search for.
fn with_wait(message: String, error: &LlmError, code: Option<&str>) -> String {
    let wait = error.retry_after().unwrap_or_default();
    if code != Some(RATE_LIMIT) || wait.is_zero() || message.to_ascii_lowercase().contains("try again in") {
        return message;
    }
    let end = if message.ends_with('.') { "" } else { "." };
    format!("{message}{end} Please try again in {}s.", in_seconds(wait))
}

/// Returns a wait in seconds, rounded up to a millisecond.
fn in_seconds(wait: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a wait in milliseconds is far below 2^52")]
    let seconds = wait.as_nanos().div_ceil(1_000_000) as f64 / 1000.0;
    seconds
}

/// Returns the parameter at fault, if it is known.
fn param(error: &LlmError, code: Option<&str>) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        error: Fields,
    }
    #[derive(Deserialize)]
    struct Fields {
        param: Option<String>,
    }
    let is_openai = matches!(error.dialect(), Some(Dialect::OpenAi | Dialect::Responses));
    let raw = error.raw().filter(|_| is_openai);
    let named = raw.and_then(|raw| serde_json::from_slice::<Body>(raw).ok()).and_then(|body| body.error.param);
    let known = match code {
        Some(NO_RESPONSE) => Some("previous_response_id"),
        Some("model_not_found") => Some("model"),
        Some("context_length_exceeded") => Some("input"),
        _ => None,
    };
    named.or_else(|| known.map(str::to_owned))
}

/// Returns the status if no provider sent one.
#[warn(clippy::wildcard_enum_match_arm, reason = "each kind has its status")]
fn status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::InvalidRequest
        | ErrorKind::UnsupportedFeature
        | ErrorKind::ContextLength
        | ErrorKind::ContentPolicy
        | ErrorKind::Refusal => 400,
        ErrorKind::Auth => 401,
        ErrorKind::Blocked => 403,
        ErrorKind::NotFound => 404,
        ErrorKind::TooLarge => 413,
        // By the IETF's draft for `Idempotency-Key`: clients repeat a 409 by themselves, and never a 422.
        ErrorKind::IdempotencyConflict => 422,
        ErrorKind::RateLimited | ErrorKind::QuotaExhausted | ErrorKind::Budget => 429,
        ErrorKind::Malformed | ErrorKind::EmptyAnswer | ErrorKind::StreamBroken | ErrorKind::InvalidOutput => 502,
        ErrorKind::Timeout | ErrorKind::Deadline => 504,
        ErrorKind::Overloaded
        | ErrorKind::Connect
        | ErrorKind::CircuitOpen
        | ErrorKind::BulkheadFull
        | ErrorKind::OutOfService
        | ErrorKind::Store
        | ErrorKind::Credentials
        | ErrorKind::Exhausted => 503,
        ErrorKind::Server | ErrorKind::Other => 500,
        _ => 500,
    }
}

fn anthropic(kind: ErrorKind, status: u16) -> (u16, &'static str) {
    match (kind, status) {
        (
            ErrorKind::Overloaded
            | ErrorKind::BulkheadFull
            | ErrorKind::CircuitOpen
            | ErrorKind::OutOfService
            | ErrorKind::Exhausted,
            _,
        ) => (529, "overloaded_error"),
        (_, 400 | 422) => (status, "invalid_request_error"),
        (_, 401) => (401, "authentication_error"),
        (_, 404) => (404, "not_found_error"),
        (_, 413) => (413, "request_too_large"),
        // A cap that is spent; Claude Code's own gateway says so, and the client shows the message as it is.
        (ErrorKind::Budget, _) => (429, "billing_error"),
        (_, 429) => (429, "rate_limit_error"),
        (_, 504) => (504, "timeout_error"),
        (_, status) => (status, "api_error"),
    }
}

#[warn(clippy::wildcard_enum_match_arm, reason = "each kind has its type")]
fn openai(kind: ErrorKind) -> (&'static str, Option<&'static str>) {
    let invalid = "invalid_request_error";
    match kind {
        ErrorKind::ContextLength => (invalid, Some("context_length_exceeded")),
        ErrorKind::ContentPolicy | ErrorKind::Refusal => (invalid, Some("content_policy_violation")),
        ErrorKind::UnsupportedFeature => (invalid, Some("unsupported_parameter")),
        ErrorKind::InvalidRequest | ErrorKind::TooLarge => (invalid, None),
        ErrorKind::IdempotencyConflict => (invalid, Some("idempotency_key_reused")),
        ErrorKind::Auth => (invalid, Some("invalid_api_key")),
        ErrorKind::NotFound => (invalid, Some("model_not_found")),
        ErrorKind::RateLimited => ("requests", Some("rate_limit_exceeded")),
        ErrorKind::QuotaExhausted | ErrorKind::Budget => ("insufficient_quota", Some("insufficient_quota")),
        ErrorKind::Timeout | ErrorKind::Deadline => ("timeout_error", Some("timeout_error")),
        ErrorKind::Overloaded | ErrorKind::BulkheadFull => ("overloaded_error", Some("overloaded_error")),
        ErrorKind::Connect
        | ErrorKind::CircuitOpen
        | ErrorKind::OutOfService
        | ErrorKind::Credentials
        | ErrorKind::Exhausted => ("server_error", Some("all_providers_unavailable")),
        ErrorKind::Store => ("server_error", Some("store_unavailable")),
        ErrorKind::Malformed | ErrorKind::EmptyAnswer | ErrorKind::StreamBroken | ErrorKind::InvalidOutput => {
            ("server_error", Some("upstream_malformed"))
        }
        ErrorKind::Server | ErrorKind::Other | ErrorKind::Blocked => ("server_error", None),
        _ => ("server_error", None),
    }
}

/// Returns the type and code of an error in the Responses API, whose clients know OpenAI's own.
fn responses(kind: ErrorKind) -> (&'static str, Option<&'static str>) {
    match kind {
        ErrorKind::Timeout
        | ErrorKind::Deadline
        | ErrorKind::Overloaded
        | ErrorKind::BulkheadFull
        | ErrorKind::Connect
        | ErrorKind::Malformed
        | ErrorKind::EmptyAnswer
        | ErrorKind::StreamBroken
        | ErrorKind::InvalidOutput => ("server_error", Some("server_error")),
        other => openai(other),
    }
}

fn gemini(kind: ErrorKind, status: u16) -> (u16, &'static str) {
    match status {
        500 if kind == ErrorKind::Server => (500, "INTERNAL"),
        400 | 413 | 422 => (400, "INVALID_ARGUMENT"),
        401 => (401, "UNAUTHENTICATED"),
        404 => (404, "NOT_FOUND"),
        429 => (429, "RESOURCE_EXHAUSTED"),
        502 => (502, "INTERNAL"),
        503 => (503, "UNAVAILABLE"),
        504 => (504, "DEADLINE_EXCEEDED"),
        other => (other, "UNKNOWN"),
    }
}
