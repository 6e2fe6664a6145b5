//! Errors of steadfast as rig's, and rig's as steadfast's.

use std::{error::Error as StdError, io};

use http::{HeaderMap, HeaderValue, header};
use rig_core::{
    ProviderResponseError,
    error::{ErrorKind as RigKind, ProviderError},
    http_client::Error as HttpError,
};
use serde_json::{Map, Value, json};
use steadfast::{Dialect, ErrorKind, LlmError, providers::codec::Codec, translate::encode_error};

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
    let known = by_codec(response, code.as_deref());
    let kind = match code.as_deref().and_then(by_own_name) {
        _ if response.refusal => ErrorKind::ContentPolicy,
        Some(kind) => kind,
        None => match status {
            // rig relays many servers: a 429 without a name need not be an overloaded front's.
            Some(status) if code.is_none() => ErrorKind::from_status(status),
            None if response.transient == Some(true) && known.kind() == ErrorKind::Server => ErrorKind::Overloaded,
            _ => known.kind(),
        },
    };
    let mut error = LlmError::new(kind, known.message().to_owned());
    error = response.status.into_iter().fold(error, LlmError::with_status);
    error = code.into_iter().fold(error, |error, code| error.with_code(code));
    error = response.provider_request_id.iter().fold(error, |error, id| error.with_request_id(id.as_str()));
    error = known.retry_after().into_iter().fold(error, LlmError::with_retry_after);
    known.should_retry().into_iter().fold(error, LlmError::with_should_retry)
}

/// Returns the error that steadfast's own leaf of the provider would make of a response.
fn by_codec(response: &ProviderResponseError, code: Option<&str>) -> LlmError {
    let body: Value = serde_json::from_str(&response.body).unwrap_or_default();
    let mut fields = match body.get("error").unwrap_or(&body) {
        Value::Object(fields) => fields.clone(),
        words => Map::from_iter([("message".to_owned(), words.as_str().unwrap_or(&response.body).into())]),
    };
    let is_of_google = code.is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'));
    let dialect = match body.get("type").and_then(Value::as_str) {
        Some("error") => Dialect::Anthropic,
        _ if is_of_google => Dialect::Gemini,
        _ => Dialect::OpenAi,
    };
    // A transport may report the code apart from the body.
    if let Some(code) = &response.code {
        let name = if is_of_google { "status" } else { "code" };
        fields.insert(name.to_owned(), code.as_str().into());
    }
    let (codec, body) = (Codec::new(dialect), json!({ "error": fields }));
    match response.status.filter(|status| !status.is_success()) {
        Some(status) => codec.error(status, response.headers.as_ref().unwrap_or(&HeaderMap::new()), body.to_string()),
        None => codec.error_json(None, &body),
    }
}

/// Returns the kind of a code that no dialect of steadfast's has.
fn by_own_name(code: &str) -> Option<ErrorKind> {
    match code {
        "ThrottlingException" => Some(ErrorKind::RateLimited),
        "model_context_window_exceeded" => Some(ErrorKind::ContextLength),
        // A stack under rig, under this one.
        own => ErrorKind::ALL.iter().copied().find(|kind| kind.name() == own),
    }
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
