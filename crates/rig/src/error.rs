//! Errors of steadfast as rig's, and rig's as steadfast's.

use std::{error::Error as StdError, io, time::SystemTime};

use http::{HeaderMap, HeaderValue, header};
use rig_core::{
    ProviderResponseError,
    error::{ErrorKind as RigKind, ProviderError},
    http_client::Error as HttpError,
};
use serde_json::Value;
use steadfast::{Dialect, ErrorKind, LlmError, retry_after, translate::encode_error};

/// Returns a stack's failure as rig's own error: with a status, a body as OpenAI's API has it, the [kind's
/// name](ErrorKind::name) or the provider's code, the wait before another attempt, and the request's id.
pub fn provider_error(error: &LlmError) -> ProviderError {
    let (status, body) = encode_error(error, Dialect::OpenAi);
    // A failure inside a 200 gets its kind's status.
    let own = error.status().filter(|own| own.is_client_error() || own.is_server_error());
    let mut headers = HeaderMap::new();
    if let Some(wait) = error.retry_after() {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    let response = ProviderResponseError::new(own.unwrap_or(status), String::from_utf8_lossy(&body))
        .with_code(Some(error.code().unwrap_or(error.kind().name()).to_owned()))
        .with_provider_request_id(error.request_id().map(str::to_owned))
        .with_headers(Some(headers));
    ProviderError::ProviderResponse(response)
}

/// Returns rig's error as steadfast's, with its kind, so that layers know what to do.
///
/// ```
/// use http::StatusCode;
/// use rig_core::error::ProviderError;
/// use steadfast::ErrorKind;
///
/// let busy = ProviderError::from_http_response(StatusCode::TOO_MANY_REQUESTS, "slow down");
/// let error = steadfast_rig::llm_error(busy);
/// assert_eq!((error.kind(), error.message()), (ErrorKind::RateLimited, "slow down"));
/// ```
pub fn llm_error(error: ProviderError) -> LlmError {
    let made = match error.provider_response() {
        Some(response) => of_response(response),
        None => LlmError::new(kind(&error), error.to_string()),
    };
    made.with_source(error)
}

fn of_response(response: &ProviderResponseError) -> LlmError {
    let code = response.machine_code();
    let status = response.status.filter(|status| !status.is_success());
    let by_status = match status {
        Some(status) => ErrorKind::from_status(status),
        None if response.transient == Some(true) => ErrorKind::Overloaded,
        None => ErrorKind::Server,
    };
    let kind = match code.as_deref().and_then(by_code) {
        _ if response.refusal => ErrorKind::ContentPolicy,
        Some(kind) => kind,
        None => by_status,
    };
    let mut error = LlmError::new(kind, words(&response.body));
    error = response.status.into_iter().fold(error, LlmError::with_status);
    error = code.into_iter().fold(error, |error, code| error.with_code(code));
    error = response.provider_request_id.iter().fold(error, |error, id| error.with_request_id(id.as_str()));
    let Some(headers) = &response.headers else { return error };
    #[expect(clippy::disallowed_methods, reason = "a header may name a date")]
    let wait = retry_after::from_headers(headers, None, SystemTime::now());
    error = wait.into_iter().fold(error, LlmError::with_retry_after);
    retry_after::should_retry(headers).into_iter().fold(error, LlmError::with_should_retry)
}

/// Returns the kind that a provider's own code names, where its status says less.
fn by_code(code: &str) -> Option<ErrorKind> {
    Some(match code {
        "insufficient_quota" | "billing_error" => ErrorKind::QuotaExhausted,
        "context_length_exceeded" | "model_context_window_exceeded" => ErrorKind::ContextLength,
        "content_filter" | "content_policy_violation" => ErrorKind::ContentPolicy,
        "overloaded_error" | "UNAVAILABLE" => ErrorKind::Overloaded,
        "rate_limit_error" | "rate_limit_exceeded" | "RESOURCE_EXHAUSTED" | "ThrottlingException" => {
            ErrorKind::RateLimited
        }
        "DEADLINE_EXCEEDED" => ErrorKind::Timeout,
        // A stack under rig, under this one.
        own => return ErrorKind::ALL.iter().copied().find(|kind| kind.name() == own),
    })
}

fn kind(error: &ProviderError) -> ErrorKind {
    match error {
        ProviderError::Truncated => return ErrorKind::StreamBroken,
        ProviderError::UnsupportedOption(_) => return ErrorKind::UnsupportedFeature,
        ProviderError::Http(error) => return of_transport(error),
        _ => {}
    }
    match error.kind() {
        RigKind::Http => ErrorKind::Connect,
        RigKind::Timeout => ErrorKind::Timeout,
        RigKind::Json | RigKind::Response => ErrorKind::Malformed,
        RigKind::Url | RigKind::Request => ErrorKind::InvalidRequest,
        RigKind::Provider | RigKind::ProviderResponse => ErrorKind::Server,
        _ => ErrorKind::Other,
    }
}

fn of_transport(error: &HttpError) -> ErrorKind {
    match error {
        HttpError::InvalidStatusCodeWithDetails { status, .. } => ErrorKind::from_status(*status),
        HttpError::StreamEnded => ErrorKind::StreamBroken,
        HttpError::InvalidContentType(_) => ErrorKind::Malformed,
        HttpError::Instance(cause) if is_timeout(&**cause) => ErrorKind::Timeout,
        HttpError::Instance(_) => ErrorKind::Connect,
        _ => ErrorKind::InvalidRequest,
    }
}

/// Returns true if a transport's error is an expired limit. A transport is of any type, so that its words decide:
/// reqwest says "operation timed out", and the system's error has a kind.
fn is_timeout(error: &(dyn StdError + 'static)) -> bool {
    let mut link = Some(error);
    while let Some(error) = link {
        let of_system = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if of_system == Some(io::ErrorKind::TimedOut) || error.to_string().contains("timed out") {
            return true;
        }
        link = error.source();
    }
    false
}

/// Returns a provider's words from its error's body, cut at the length of a message.
fn words(body: &str) -> String {
    const LONGEST: usize = 500;
    let json: Option<Value> = serde_json::from_str(body).ok();
    let message = json.as_ref().and_then(|json| {
        let error = json.get("error").unwrap_or(json);
        error.get("message").unwrap_or(error).as_str()
    });
    message.unwrap_or(body).chars().take(LONGEST).collect()
}
