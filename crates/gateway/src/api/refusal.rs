//! Errors in the caller's own dialect.

use std::{fmt, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use steadfast::{
    Dialect, ErrorKind, LlmError,
    error::{ReachedLimit, Reader},
    translate::{StreamEncoder, encode_error},
};

use super::{body_error::BodyError, keys::Denial};
use crate::limits::Settings;

/// `false` on an error that no repeat helps, so that official clients make none.
pub(crate) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The longest wait that the official clients keep; after a longer one they repeat at will.
const MAX_CLIENT_WAIT: Duration = Duration::from_secs(60);
/// The longest wait that a refusal of the gateway's own names. The official SDKs obey up to a minute, twice: their
/// callers would hear of an outage after two. A circuit that is the only way lets the next request through within
/// this time.
const MAX_OWN_WAIT: Duration = Duration::from_secs(10);

/// Returns the response to an error.
///
/// An error of a provider of the caller's dialect passes through, for clients act on its words. The response also tells
/// the client where a repeat cannot help. Repeats multiply nothing: those of the official clients share the calls of
/// their first request ([`repeats`](super::repeats)), and circuits bound those of all others.
pub(crate) fn refuse(error: &LlmError, dialect: Dialect) -> Response<Body> {
    refuse_for(Reader::Caller, error, dialect)
}

/// Returns the response to an error, in the words for this reader: the program that has the stack, or a caller of the
/// gateway.
pub(crate) fn refuse_for(reader: Reader, error: &LlmError, dialect: Dialect) -> Response<Body> {
    let (status, body) = status_and_body(error, dialect, reader);
    let mut response = json(status, body);
    let headers = response.headers_mut();
    let wait = error.retry_after();
    if let Some(wait) = wait {
        // A spent cap names its reset, and a provider's own wait is the provider's.
        let is_own = matches!(error.kind(), ErrorKind::BulkheadFull | ErrorKind::OutOfService | ErrorKind::Store);
        headers.insert(header::RETRY_AFTER, seconds(if is_own { wait.min(MAX_OWN_WAIT) } else { wait }));
    }
    if !may_repeat(error, status) {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let Some(id) = error.request_id().and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert(request_id_header(dialect), id);
    }
    response
}

/// Returns true if a client's own repeat may help, after this status.
fn may_repeat(error: &LlmError, status: StatusCode) -> bool {
    let wait = error.retry_after();
    match error.kind() {
        // A full bulkhead says nothing about the next moment.
        ErrorKind::BulkheadFull => true,
        // A reserved amount is free again as its requests end.
        ErrorKind::Budget if error.reached_limit().is_some_and(ReachedLimit::is_momentary_cap) => true,
        // The first tier waits for somebody to act, and another one failed otherwise.
        ErrorKind::Auth | ErrorKind::NotFound | ErrorKind::Blocked if status == StatusCode::SERVICE_UNAVAILABLE => {
            wait.is_none_or(|wait| wait <= MAX_CLIENT_WAIT)
        }
        // Callers that a cap refused would all come back at once when its period ends. The others are right to refuse
        // the same request again.
        ErrorKind::Budget
        | ErrorKind::ContextLength
        | ErrorKind::TooLarge
        | ErrorKind::ContentPolicy
        | ErrorKind::Refusal
        | ErrorKind::InvalidRequest
        | ErrorKind::UnsupportedFeature
        | ErrorKind::InvalidOutput
        | ErrorKind::Auth
        | ErrorKind::NotFound
        | ErrorKind::Blocked
        | ErrorKind::IdempotencyConflict => false,
        // One that names no time waits for an operator.
        ErrorKind::CircuitOpen | ErrorKind::OutOfService | ErrorKind::QuotaExhausted | ErrorKind::Exhausted => {
            wait.is_some_and(|wait| wait <= MAX_CLIENT_WAIT)
        }
        _ => error.should_retry() != Some(false) && wait.is_none_or(|wait| wait <= MAX_CLIENT_WAIT),
    }
}

/// The status of an error that has not its kind's: that which the caller has had for the same failure, or that of a
/// body's type. A cause of the error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FixedStatus(pub(crate) StatusCode);

impl fmt::Display for FixedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.0.as_u16())
    }
}

impl std::error::Error for FixedStatus {}

/// Returns a function from a failure to its status in this dialect, for events and metrics.
pub(crate) fn status_of(reader: Reader, dialect: Dialect) -> fn(&LlmError) -> StatusCode {
    fn of(error: &LlmError, dialect: Dialect, reader: Reader) -> StatusCode {
        Denial::of(error).map_or_else(|| status_and_body(error, dialect, reader).0, |denied| status_of_denial(&denied))
    }
    match (reader, dialect) {
        (Reader::Caller, Dialect::Anthropic) => |error| of(error, Dialect::Anthropic, Reader::Caller),
        (Reader::Caller, Dialect::Gemini) => |error| of(error, Dialect::Gemini, Reader::Caller),
        (Reader::Caller, Dialect::Responses) => |error| of(error, Dialect::Responses, Reader::Caller),
        (Reader::Caller, _) => |error| of(error, Dialect::OpenAi, Reader::Caller),
        (_, Dialect::Anthropic) => |error| of(error, Dialect::Anthropic, Reader::Programmer),
        (_, Dialect::Gemini) => |error| of(error, Dialect::Gemini, Reader::Programmer),
        (_, Dialect::Responses) => |error| of(error, Dialect::Responses, Reader::Programmer),
        (_, _) => |error| of(error, Dialect::OpenAi, Reader::Programmer),
    }
}

/// Returns the status and the body: the provider's own if it speaks the caller's dialect.
fn status_and_body(error: &LlmError, dialect: Dialect, reader: Reader) -> (StatusCode, Bytes) {
    let error = &error.for_reader(reader);
    let (status, body) = encode_error(error, dialect);
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    if let Some(FixedStatus(status)) = source {
        return (*status, body);
    }
    if error.reached_limit() == Some(&ReachedLimit::Memory) {
        return (StatusCode::SERVICE_UNAVAILABLE, body);
    }
    let Some(raw) = provider_error(error, dialect) else { return (status, body) };
    // An error inside a 200 gets its kind's status.
    let own = error.status().filter(|status| status.is_client_error() || status.is_server_error());
    (own.unwrap_or(status), raw.clone())
}

/// Returns the error as the last event of a stream. No end mark follows it.
pub(crate) fn event(reader: Reader, error: &LlmError, dialect: Dialect, encoder: &mut StreamEncoder) -> Bytes {
    let event = provider_event(&error.for_reader(reader), dialect, encoder);
    // Older Node SDKs of Google's, Gemini CLI's among them, look for no error in an event, and would take the text
    // before it for the answer. They fail at a stream that ends within a line.
    if dialect == Dialect::Gemini && !event.is_empty() { [&event, UNFINISHED].concat().into() } else { event }
}

/// A comment without a line's end: to any other reader it is nothing.
const UNFINISHED: &[u8] = b": incomplete";

fn provider_event(error: &LlmError, dialect: Dialect, encoder: &mut StreamEncoder) -> Bytes {
    let encoded = encoder.error(error);
    // An event of this dialect has the response around the error.
    let passes = dialect != Dialect::Responses;
    match provider_error(error, dialect).filter(|_| passes) {
        // A line break would begin another event.
        Some(raw) if !raw.contains(&b'\n') && !raw.contains(&b'\r') && !encoded.is_empty() => {
            let name: &[u8] = if dialect == Dialect::Anthropic { b"event: error\n" } else { b"" };
            [name, b"data: ", raw, b"\n\n"].concat().into()
        }
        _ => encoded,
    }
}

/// Returns the response to a request whose body could not be read.
pub(crate) fn body_error(error: BodyError, settings: &Settings, dialect: Dialect) -> Response<Body> {
    close_connection(error, refuse(&error.error(settings), dialect))
}

/// Makes a response the last on its connection, since the rest of a body may still come on it.
pub(crate) fn close_connection(error: BodyError, mut response: Response<Body>) -> Response<Body> {
    if let Some(status) = error.status() {
        *response.status_mut() = status;
    }
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Returns the status of a denial.
pub(crate) fn status_of_denial(denied: &Denial) -> StatusCode {
    denial_codes(denied).0
}

/// Returns the response to a denial.
pub(crate) fn deny(denied: &Denial, dialect: Dialect) -> Response<Body> {
    let (status, anthropic, openai, code) = denial_codes(denied);
    let wait = denied.wait();
    let message = match wait {
        // Clients of Responses read the wait in the message.
        Some(wait) if dialect == Dialect::Responses => format!("{denied}. Please try again in {}s.", precise(wait)),
        _ => denied.to_string(),
    };
    let body = match dialect {
        Dialect::Anthropic => json!({"type": "error", "error": {"type": anthropic, "message": message}}),
        Dialect::Gemini => {
            let reason = (status == StatusCode::UNAUTHORIZED).then(|| error_info("API_KEY_INVALID"));
            google_error(status, &message, reason.into_iter().chain(wait.map(retry_info)).collect())
        }
        _ => json!({"error": {"message": message, "type": openai, "param": null, "code": code}}),
    };
    let mut response = json(status, body.to_string());
    if let Some(wait) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, seconds(wait.min(MAX_OWN_WAIT)));
    }
    if wait.is_none() && (status != StatusCode::TOO_MANY_REQUESTS || denied.is_for_good()) {
        // Another key or another request may pass; Claude Code would repeat this one for more than a minute.
        response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    response
}

/// Returns the status, Anthropic's type, and OpenAI's type and code.
fn denial_codes(denied: &Denial) -> (StatusCode, &'static str, &'static str, &'static str) {
    match denied {
        Denial::NoKey | Denial::UnknownKey(_) | Denial::Expired(_) | Denial::Token(_) => {
            (StatusCode::UNAUTHORIZED, "authentication_error", "invalid_request_error", "invalid_api_key")
        }
        Denial::KeysAway => (StatusCode::SERVICE_UNAVAILABLE, "api_error", "server_error", "service_unavailable"),
        Denial::Paused(_)
        | Denial::NoLimits
        | Denial::Feature(_)
        | Denial::Model(_)
        | Denial::Origin
        | Denial::Host
        | Denial::NotAdmin(_)
        | Denial::NotReviewer(_)
        | Denial::Objects
        | Denial::NotPassed(_) => {
            (StatusCode::FORBIDDEN, "permission_error", "invalid_request_error", "permission_denied")
        }
        Denial::Rate(..) | Denial::InFlight(_) => {
            (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "requests", "rate_limit_exceeded")
        }
        Denial::Tokens(..) => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "tokens", "rate_limit_exceeded"),
        Denial::Share(denied) | Denial::Team(_, denied) => denial_codes(denied),
    }
}

/// Returns the response to an unknown path. It differs from an unknown model, which clients would retry. `why` says
/// what the gateway lacks for the path.
pub(crate) fn unknown_path(path: &str, why: &str, served: &[&str], dialect: Dialect) -> Response<Body> {
    let message = format!("unknown path {path}{why}; this gateway serves {}", served.join(", "));
    let status = StatusCode::NOT_FOUND;
    let mut body = path_error(dialect, status, "not_found_error", "unknown_path", &message);
    body["error"]["paths"] = served.into();
    final_refusal(status, &body)
}

/// Returns the response to a method that the path does not take.
pub(crate) fn wrong_method(method: &str, allowed: &HeaderValue, dialect: Dialect) -> Response<Body> {
    let methods = allowed.to_str().unwrap_or_default().replace(',', ", ");
    let message = format!("the path takes {methods}, not {method}");
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let body = path_error(dialect, status, "invalid_request_error", "method_not_allowed", &message);
    let mut response = final_refusal(status, &body);
    response.headers_mut().insert(header::ALLOW, allowed.clone());
    response
}

/// Returns an error's body. Anthropic has no codes, but its clients ignore unknown fields.
fn path_error(dialect: Dialect, status: StatusCode, anthropic: &str, code: &str, message: &str) -> Value {
    match dialect {
        Dialect::Anthropic => {
            json!({"type": "error", "error": {"type": anthropic, "code": code, "message": message}})
        }
        Dialect::Gemini => google_error(status, message, vec![error_info(&code.to_uppercase())]),
        _ => json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": code}}),
    }
}

/// Returns an error as Google's APIs spell it (google.rpc.Status, in JSON).
fn google_error(status: StatusCode, message: &str, details: Vec<Value>) -> Value {
    let name = match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        _ => "INVALID_ARGUMENT",
    };
    let mut error = json!({"code": status.as_u16(), "message": message, "status": name});
    if !details.is_empty() {
        error["details"] = details.into();
    }
    json!({ "error": error })
}

fn error_info(reason: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "steadfast"})
}

fn retry_info(wait: Duration) -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{}s", precise(wait))})
}

/// Returns a refusal of the Responses API, which the client does not repeat.
pub(crate) fn of_responses(status: StatusCode, code: Option<&str>, message: &str) -> Response<Body> {
    let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": code});
    final_refusal(status, &json!({ "error": error }))
}

fn final_refusal(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = json(status, body.to_string());
    response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    response
}

/// Returns a wait in whole seconds, for `Retry-After`.
fn seconds(wait: Duration) -> HeaderValue {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1).into()
}

/// Returns a wait in seconds, rounded up to a millisecond.
fn precise(wait: Duration) -> f64 {
    Duration::from_millis(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)).as_secs_f64()
}

/// Returns the error of a provider of this dialect, if it is the API's and not a proxy's page. An error about the
/// gateway's own key stays here.
fn provider_error(error: &LlmError, dialect: Dialect) -> Option<&Bytes> {
    let is_callers = error.kind() != ErrorKind::Auth || error.is_about_callers_key();
    let raw = error.raw().filter(|_| error.dialect() == Some(dialect) && is_callers)?;
    let value: Value = serde_json::from_slice(raw).ok()?;
    // Under a good status a body is an error only by its own word. Any other is that of a server that is not the API.
    if error.status().is_some_and(|status| status.is_success()) && !names_error(&value) {
        return None;
    }
    let reports = match dialect {
        Dialect::Anthropic => value["type"] == "error" && value["error"].is_object(),
        // A response that failed carries its error; any other is an answer.
        Dialect::Responses => {
            value.as_object().is_some_and(|fields| !fields.is_empty())
                && (value.get("output").is_none() || value["error"].is_object())
        }
        // A blocked prompt is an answer too.
        Dialect::Gemini => value["error"].is_object(),
        // Compatible servers have shapes of their own (`detail`, `object: error`), which their clients know.
        _ => value.as_object().is_some_and(|fields| !fields.is_empty() && !fields.contains_key("choices")),
    };
    let is_told = error.kind() != ErrorKind::ContextLength || tells_length(&value, dialect);
    (reports && is_told).then_some(raw)
}

/// Returns true if agents of this dialect find in an error that the conversation is too long: they shorten it upon
/// their own vendor's words alone.
fn tells_length(body: &Value, dialect: Dialect) -> bool {
    match dialect {
        Dialect::Anthropic => {
            let said = body["error"]["message"].as_str().unwrap_or_default();
            ["prompt is too long", "exceed context limit"].iter().any(|words| said.contains(words))
        }
        Dialect::Responses => body["error"]["code"] == "context_length_exceeded",
        _ => true,
    }
}

/// Returns true for a body with an error in it.
fn names_error(body: &Value) -> bool {
    let error = &body["error"];
    error.is_object() || error.as_str().is_some_and(|words| !words.is_empty())
}

/// Returns the header of a request's id in the dialect's own API.
pub(crate) fn request_id_header(dialect: Dialect) -> HeaderName {
    /// The request's id in Anthropic's protocol.
    const ANTHROPIC: HeaderName = HeaderName::from_static("request-id");
    /// The request's id in OpenAI's protocols.
    const OPENAI: HeaderName = HeaderName::from_static("x-request-id");
    if dialect == Dialect::Anthropic { ANTHROPIC } else { OPENAI }
}

/// Returns a JSON response.
pub(crate) fn json(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use http_body_util::BodyExt;

    use super::*;

    async fn text(response: Response<Body>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
    }

    const OVERLOADED: &str =
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#;

    fn overloaded() -> LlmError {
        LlmError::new(ErrorKind::Overloaded, "Overloaded")
            .with_status(StatusCode::from_u16(529).unwrap())
            .with_raw(OVERLOADED.into())
            .with_dialect(Dialect::Anthropic)
            .with_request_id("req_1")
    }

    #[tokio::test]
    async fn a_caller_of_the_providers_dialect_gets_its_very_words() {
        let response = refuse(&overloaded(), Dialect::Anthropic);
        assert_eq!((response.status().as_u16(), &response.headers()["request-id"]), (529, &"req_1".parse().unwrap()));
        assert_eq!(text(response).await, OVERLOADED);
    }

    #[tokio::test]
    async fn a_caller_of_another_dialect_gets_its_own() {
        let response = refuse(&overloaded(), Dialect::OpenAi);
        assert_eq!((response.status().as_u16(), &response.headers()["x-request-id"]), (503, &"req_1".parse().unwrap()));
        let body: Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(body["error"]["type"], "overloaded_error");
    }

    #[tokio::test]
    async fn an_error_inside_a_200_gets_the_status_of_its_kind() {
        let response = refuse(&overloaded().with_status(StatusCode::OK), Dialect::Anthropic);
        assert_eq!(response.status(), 529);
        assert_eq!(text(response).await, OVERLOADED);
    }

    #[tokio::test]
    async fn a_page_is_nobodys_words() {
        let page = LlmError::new(ErrorKind::Server, "an HTML page")
            .with_status(StatusCode::BAD_GATEWAY)
            .with_raw("<html>502</html>".into())
            .with_dialect(Dialect::OpenAi);
        let body = text(refuse(&page, Dialect::OpenAi)).await;
        assert!(body.starts_with(r#"{"error":"#), "{body}");
    }

    #[tokio::test(start_paused = true)]
    async fn clients_are_told_to_wait_a_true_time_or_not_to_repeat() {
        let told = |error: &LlmError| {
            let response = refuse(error, Dialect::Anthropic);
            let of = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            (of("retry-after"), of("x-should-retry"))
        };
        let error = |kind| LlmError::new(kind, "it failed");
        let seconds = |text: &str| Some(text.to_owned());
        for kind in [ErrorKind::Server, ErrorKind::Overloaded, ErrorKind::Timeout, ErrorKind::Connect] {
            assert_eq!(told(&error(kind)), (None, None), "{kind}: it may be well in a moment");
            assert_eq!(told(&error(kind).with_should_retry(false)), (None, seconds("false")), "{kind}");
        }
        for kind in [ErrorKind::InvalidRequest, ErrorKind::QuotaExhausted, ErrorKind::Budget, ErrorKind::CircuitOpen] {
            assert_eq!(told(&error(kind)), (None, seconds("false")), "{kind}: it waits for somebody to act");
        }
        let soon = error(ErrorKind::CircuitOpen).with_retry_after(Duration::from_millis(1500));
        assert_eq!(told(&soon), (seconds("2"), None));
        let late = error(ErrorKind::RateLimited).with_retry_after(Duration::from_secs(600));
        assert_eq!(told(&late), (seconds("600"), seconds("false")));
        assert_eq!(told(&error(ErrorKind::BulkheadFull)), (None, None));
    }

    #[tokio::test]
    async fn a_key_over_its_rate_is_told_the_wait_in_the_words_that_codex_reads() {
        let wait = Duration::from_millis(1200);
        for denied in [Denial::Rate(wait, NonZeroU32::MIN), Denial::Tokens(Some(wait), None)] {
            let response = deny(&denied, Dialect::Responses);
            assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"2".parse().unwrap()));
            let body: Value = serde_json::from_str(&text(response).await).unwrap();
            assert_eq!(body["error"]["code"], "rate_limit_exceeded");
            let message = body["error"]["message"].as_str().unwrap();
            assert!(message.ends_with("are used up. Please try again in 1.2s."), "{message}");
            let other: Value = serde_json::from_str(&text(deny(&denied, Dialect::OpenAi)).await).unwrap();
            assert_eq!(other["error"]["message"], denied.to_string());
        }
        let in_flight = Denial::InFlight(None);
        let body: Value = serde_json::from_str(&text(deny(&in_flight, Dialect::Responses)).await).unwrap();
        assert_eq!(body["error"]["message"], in_flight.to_string());
    }

    #[tokio::test]
    async fn a_caller_of_gemini_is_refused_in_googles_words() {
        let cases = [
            (Denial::Expired("one".into()), 401, "UNAUTHENTICATED", "reason", "API_KEY_INVALID"),
            (Denial::Model(Vec::new().into()), 403, "PERMISSION_DENIED", "", ""),
            (
                Denial::Rate(Duration::from_millis(1200), NonZeroU32::MIN),
                429,
                "RESOURCE_EXHAUSTED",
                "retryDelay",
                "1.2s",
            ),
        ];
        for (denied, status, name, field, value) in cases {
            let response = deny(&denied, Dialect::Gemini);
            assert_eq!(response.status(), status);
            let body: Value = serde_json::from_str(&text(response).await).unwrap();
            let error = &body["error"];
            assert_eq!((&error["code"], &error["status"]), (&json!(status), &json!(name)), "{body}");
            assert_eq!(error["message"], denied.to_string());
            assert_eq!(error["details"][0][field].as_str().unwrap_or_default(), value, "{body}");
        }
    }

    #[test]
    fn the_status_that_is_told_elsewhere_is_the_one_that_goes_out() {
        for dialect in [Dialect::Anthropic, Dialect::OpenAi, Dialect::Responses, Dialect::Gemini] {
            let of = status_of(Reader::Caller, dialect);
            let errors = ErrorKind::ALL.iter().map(|kind| LlmError::new(*kind, "it failed"));
            for error in errors.chain([overloaded(), overloaded().with_status(StatusCode::OK)]) {
                assert_eq!(of(&error), refuse(&error, dialect).status(), "{dialect}: {error:?}");
            }
        }
        assert_eq!(status_of(Reader::Caller, Dialect::Anthropic)(&overloaded()).as_u16(), 529, "the provider's own");
    }

    #[test]
    fn an_error_event_is_the_providers_own_or_the_dialects() {
        let words = |error: &LlmError, dialect| {
            String::from_utf8(event(Reader::Caller, error, dialect, &mut StreamEncoder::new(dialect)).into()).unwrap()
        };
        assert_eq!(words(&overloaded(), Dialect::Anthropic), format!("event: error\ndata: {OVERLOADED}\n\n"));
        let folded = overloaded().with_raw(OVERLOADED.replace(',', ",\n").into());
        assert!(words(&folded, Dialect::Anthropic).contains("the provider is overloaded"));
        let foreign = words(&overloaded(), Dialect::OpenAi);
        assert!(foreign.starts_with(r#"data: {"error":"#) && !foreign.contains("[DONE]"), "{foreign}");
    }
}
