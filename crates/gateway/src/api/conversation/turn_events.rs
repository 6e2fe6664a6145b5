//! The events of one call, as messages.

use axum::body::Body;
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use steadfast::{Dialect, sse::Decoder};

use super::EndedResponse;
use crate::{
    api::{
        records::{REQUEST_ID, TIER},
        refusal,
    },
    http::Answering,
};

/// The largest error of a call that is read.
const LARGEST_ERROR: usize = 1 << 20;

/// The events of a turn that runs.
pub(crate) struct TurnEvents<'a> {
    state: State<'a>,
    /// The response, as far as it has come.
    ended: EndedResponse,
    /// The head of the answer.
    head: Option<HeaderMap>,
    is_failed: bool,
}

enum State<'a> {
    Asking(Answering<'a>),
    Events(Body, Box<Decoder>),
    /// An answer that is no stream: an error.
    Whole(StatusCode, Body, BytesMut),
    Over,
}

impl<'a> TurnEvents<'a> {
    /// Creates the turn of a call. An event has so many bytes at most.
    pub(crate) fn new(answering: Answering<'a>) -> Self {
        Self { state: State::Asking(answering), ended: EndedResponse::default(), head: None, is_failed: false }
    }

    /// Returns the name of the tier that answers, if the head tells it.
    pub(crate) fn tier(&self) -> Option<String> {
        Some(self.head.as_ref()?.get(TIER)?.to_str().ok()?.to_owned())
    }

    /// Returns the response, as far as it has come.
    pub(crate) fn into_ended(self) -> EndedResponse {
        self.ended
    }

    /// Returns true if its answer is whole.
    pub(crate) fn is_answered(&self) -> bool {
        !self.is_failed && self.ended.is_whole()
    }

    /// Returns the next message; `None` once the turn is over. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self, largest_event: usize) -> Option<String> {
        loop {
            match &mut self.state {
                State::Asking(answering) => {
                    let response = answering.as_mut().await;
                    self.begin(response, largest_event);
                }
                State::Events(body, decoder) => match decoder.next_event() {
                    Ok(Some(event)) => {
                        if let Some(message) = self.message(event.data()) {
                            return Some(message);
                        }
                    }
                    Ok(None) => match body.frame().await {
                        Some(Ok(frame)) => decoder.push(frame.into_data().unwrap_or_default()),
                        Some(Err(_)) | None => return self.end(),
                    },
                    Err(_) => return self.end(),
                },
                State::Whole(status, body, bytes) => match body.frame().await {
                    Some(Ok(frame)) if bytes.len() < LARGEST_ERROR => {
                        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
                    }
                    _ => {
                        let error = error_of(*status, bytes, self.head.as_ref());
                        (self.state, self.is_failed) = (State::Over, true);
                        return Some(error);
                    }
                },
                State::Over => return None,
            }
        }
    }

    fn begin(&mut self, response: Response<Body>, largest_event: usize) {
        let (head, body) = response.into_parts();
        let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        self.state = match head.status.is_success() && kind.starts_with("text/event-stream") {
            true => State::Events(body, Box::new(Decoder::new(largest_event))),
            false => State::Whole(head.status, body, BytesMut::new()),
        };
        self.head = Some(head.headers);
    }

    /// Returns the message of an event; `None` for one that is none of the protocol's.
    fn message(&mut self, data: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(data).ok().filter(|text| text.starts_with('{'))?;
        if let Some(error) = error_event(text) {
            self.is_failed = true;
            return Some(error);
        }
        self.ended.note(text);
        Some(text.to_owned())
    }

    /// Ends the events. A stream without its last event has broken.
    fn end(&mut self) -> Option<String> {
        self.state = State::Over;
        if self.is_failed || self.ended.is_over() {
            return None;
        }
        self.is_failed = true;
        Some(error_message(StatusCode::BAD_GATEWAY, "stream_broken", "the answer ended in the middle", None))
    }
}

/// Returns an `error` message.
pub(crate) fn error_message(status: StatusCode, code: &str, message: &str, param: Option<&str>) -> String {
    let fields = [("code", code.into()), ("message", message.into()), ("param", param.into())];
    envelope(status, fields.map(|(name, value): (_, Value)| (name.to_owned(), value)).into_iter().collect()).to_string()
}

/// Returns the `error` message of a refused or failed call, with the headers by which clients wait and ask.
fn error_of(status: StatusCode, body: &[u8], head: Option<&HeaderMap>) -> String {
    let names = [header::RETRY_AFTER, refusal::request_id_header(Dialect::Responses), REQUEST_ID];
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut message = envelope(status, body["error"].as_object().cloned().unwrap_or_default());
    let text = |name: &HeaderName| head?.get(name)?.to_str().ok().map(Value::from);
    let told: Map<String, Value> = names.iter().filter_map(|name| Some((name.to_string(), text(name)?))).collect();
    if !told.is_empty() {
        message["headers"] = told.into();
    }
    message.to_string()
}

/// Returns the message of an event that is an error; `None` for any other event.
fn error_event(event: &str) -> Option<String> {
    // Nearly all events are none, and are not parsed.
    memchr::memmem::find(event.as_bytes(), b"\"error\"")?;
    let event: Map<String, Value> = serde_json::from_str(event).ok()?;
    if event.get("type").and_then(Value::as_str) != Some("error") {
        return None;
    }
    let error = match event.get("error") {
        Some(Value::Object(error)) => error.clone(),
        _ => event.into_iter().filter(|(name, _)| ["code", "message", "param"].contains(&name.as_str())).collect(),
    };
    let status = match error.get("code").and_then(Value::as_str).unwrap_or_default() {
        "rate_limit_exceeded" | "insufficient_quota" => StatusCode::TOO_MANY_REQUESTS,
        "server_is_overloaded" | "slow_down" => StatusCode::SERVICE_UNAVAILABLE,
        code if code.starts_with("invalid") => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Some(envelope(status, error).to_string())
}

/// Returns an error in the form of a message, which has a code in any case.
fn envelope(status: StatusCode, mut error: Map<String, Value>) -> Value {
    let kind = if status.is_client_error() { "invalid_request_error" } else { "server_error" };
    if error.get("type").is_none_or(|kind| !kind.is_string()) {
        error.insert("type".to_owned(), kind.into());
    }
    if error.get("code").is_none_or(|code| !code.is_string()) {
        error.insert("code".to_owned(), error["type"].clone());
    }
    if error.get("message").is_none_or(|message| !message.is_string()) {
        let reason = status.canonical_reason().unwrap_or("the call failed");
        error.insert("message".to_owned(), reason.into());
    }
    json!({"type": "error", "status": status.as_u16(), "error": error})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(message: &str) -> Value {
        serde_json::from_str(message).unwrap()
    }

    #[test]
    fn an_error_has_a_code_and_a_message_whatever_the_call_said() {
        for body in ["", "<html>", "{}", r#"{"error": null}"#, r#"{"error": {"code": null, "message": 7}}"#] {
            let told = parsed(&error_of(StatusCode::BAD_GATEWAY, body.as_bytes(), None));
            assert_eq!((&told["type"], &told["status"]), (&json!("error"), &json!(502)), "{body}");
            assert!(told["error"]["code"].is_string() && told["error"]["message"].is_string(), "{body}: {told}");
        }
        let mut head = HeaderMap::new();
        head.insert("retry-after", "7".parse().unwrap());
        head.insert("set-cookie", "secret".parse().unwrap());
        let limited = br#"{"error": {"code": "rate_limit_exceeded", "message": "slower", "type": "requests"}}"#;
        let told = parsed(&error_of(StatusCode::TOO_MANY_REQUESTS, limited, Some(&head)));
        assert_eq!((&told["error"]["type"], &told["headers"]), (&json!("requests"), &json!({"retry-after": "7"})));
    }

    #[test]
    fn only_events_that_are_errors_are_told_as_such() {
        let said = r#"{"type": "response.output_text.delta", "delta": "the \"error\" is mine"}"#;
        assert_eq!(error_event(said), None);
        let failed = r#"{"type": "response.failed", "response": {"error": {"code": "server_error"}}}"#;
        assert_eq!(error_event(failed), None, "it is the answer's last event");
        let event =
            r#"{"type": "error", "code": "server_error", "message": "no", "param": null, "sequence_number": 7}"#;
        let told = parsed(&error_event(event).unwrap());
        assert_eq!((&told["status"], &told["error"]["code"]), (&json!(500), &json!("server_error")));
    }
}
