//! How an answer, a piece of one, and an error look over HTTP.

use axum::{
    Json,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response, sse::Event},
};
use serde::Serialize;
use serde_json::{Value, json};
use steadfast::{ErrorKind, Frame, LlmError, StreamEvent};

#[derive(Serialize)]
pub(crate) struct Answer {
    /// Which tier answered, and after how many attempts.
    pub(crate) served_by: String,
    /// Whether the answer is less than what was asked for: a canned one, or a smaller model's.
    pub(crate) degraded: bool,
    pub(crate) text: String,
}

/// What one frame tells the browser. The texts are JSON, for a line break would end the event.
pub(crate) fn events(frame: Result<Frame, LlmError>) -> Vec<Event> {
    let named = |name: &str, value: &str| Event::default().event(name).data(Value::from(value).to_string());
    match frame {
        Ok(frame) => frame
            .events()
            .iter()
            .filter_map(|event| match event {
                StreamEvent::Text { text, .. } => Some(named("text", text)),
                // Another model begins anew: the page throws away what it has shown.
                StreamEvent::Restarted { reason } => Some(named("restart", reason.name())),
                StreamEvent::End => Some(named("end", "")),
                _ => None,
            })
            .collect(),
        // The status is long sent. Without this event a cut answer would look like a whole one.
        Err(error) => vec![named("error", error.kind().name())],
    }
}

/// An [`LlmError`] as a response.
pub(crate) struct Failure(LlmError);

impl From<LlmError> for Failure {
    fn from(error: LlmError) -> Self {
        Self(error)
    }
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self.0.kind() {
            // The caller sends too much at once, or we do in the caller's name.
            ErrorKind::RateLimited | ErrorKind::BulkheadFull | ErrorKind::Budget => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Timeout | ErrorKind::Deadline => StatusCode::GATEWAY_TIMEOUT,
            // The caller's to mend.
            ErrorKind::InvalidRequest
            | ErrorKind::UnsupportedFeature
            | ErrorKind::ContextLength
            | ErrorKind::TooLarge
            | ErrorKind::ContentPolicy
            | ErrorKind::Refusal => StatusCode::BAD_REQUEST,
            // The provider's trouble, or ours with it (a refused key, an empty account): none of the caller's doing.
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // The whole error is for the log: it names models and request ids, which are nobody else's business.
        tracing::warn!(error = %self.0, "no answer");
        let mut response = (self.status(), Json(json!({ "error": self.0.kind().name() }))).into_response();
        // When the first tier may work again, rounded up: who comes back earlier comes in vain.
        let wait = self.0.retry_after().map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        response.headers_mut().extend(wait.map(|seconds| (RETRY_AFTER, seconds.into())));
        response
    }
}
