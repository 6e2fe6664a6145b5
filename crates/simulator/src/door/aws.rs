//! Bedrock: native Messages, Chat and Responses (mantle), and InvokeModel of Claude (the Bedrock API reference; the
//! errors as recorded).

use std::borrow::Cow;

use http::{HeaderMap, StatusCode, request::Parts};
use serde_json::{Value, json};

use super::{Door, VERSION, mark_ids, mark_opening, messages_of, plain_model, with_headers};
use crate::{
    anthropic::Anthropic,
    event_stream::Framing,
    openai::OpenAi,
    protocol::{Answer, ParsedRequest, Protocol, set, status_code},
    refusal::{Denial, Refusal},
    responses::Responses,
};
use steadfast::providers::simulated::RateStatus;
use steadfast_internal::wall_clock;

/// Splits `/model/{id}/{action}` into the decoded id and the action.
pub(super) fn split_path(path: &str) -> Option<(String, &str)> {
    let (id, action) = path.strip_prefix("/model/")?.rsplit_once('/')?;
    (!id.is_empty()).then(|| (super::decoded(id), action))
}

/// Returns the status, the exception's name and the words of a refusal.
pub(super) fn exception(refusal: &Refusal) -> (u16, &'static str, Cow<'_, str>) {
    let (status, name, words) = match refusal {
        Refusal::Server => {
            (500, "InternalServerException", "The system encountered an unexpected error during processing. Try again.")
        }
        Refusal::Unavailable => (503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
        Refusal::Overloaded => (
            429,
            "ModelNotReadyException",
            "The model specified in the request is not ready to serve inference requests.",
        ),
        Refusal::RateLimited(_) => (429, "ThrottlingException", "Too many requests, please wait before trying again."),
        Refusal::Quota => {
            (400, "ServiceQuotaExceededException", "Your request exceeds the service quota for your account.")
        }
        Refusal::Unauthorized | Refusal::BadKey | Refusal::Denied(Denial::Unknown) => {
            (403, "UnrecognizedClientException", "The security token included in the request is invalid.")
        }
        Refusal::Denied(Denial::Missing) => {
            (403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        }
        Refusal::Denied(Denial::Expired) => {
            (403, "ExpiredTokenException", "The security token included in the request is expired")
        }
        Refusal::Denied(Denial::Signature(words)) => (403, "InvalidSignatureException", words.as_str()),
        Refusal::Denied(Denial::Model(_)) => {
            (403, "AccessDeniedException", "You don't have access to the model with the specified model ID.")
        }
        Refusal::Invalid { message, .. } => (400, VALIDATION, message.as_str()),
        Refusal::ContextLength => (400, VALIDATION, "Input is too long for requested model."),
        Refusal::ContentFilter => (400, VALIDATION, "Output blocked by content filtering policy"),
        Refusal::Prefill => (
            400,
            VALIDATION,
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        ),
        Refusal::UnknownModel(_) => (400, VALIDATION, "The provided model identifier is invalid."),
        Refusal::UnknownPath(_) => (404, "UnknownOperationException", "The requested operation is not recognized."),
        Refusal::TooLarge => (413, VALIDATION, "Request body is too large."),
    };
    (status, name, words.into())
}

const VALIDATION: &str = "ValidationException";

/// Returns an error in the form of AWS's own front.
pub(super) fn refuse(refusal: &Refusal) -> (StatusCode, Value) {
    let (status, _, words) = exception(refusal);
    (status_code(status), json!({ "message": words }))
}

/// Sets the headers of AWS's front. The date is there because clients with a wrong clock correct it by that.
pub(super) fn headers(headers: &mut HeaderMap, request_id: &str, refusal: Option<&Refusal>) {
    set(headers, "x-amzn-requestid", request_id);
    let Some(refusal) = refusal else { return };
    let (_, name, _) = exception(refusal);
    let of = if matches!(refusal, Refusal::Denied(Denial::Model(_)) | Refusal::Invalid { .. }) {
        "bedrock"
    } else {
        "coral.service"
    };
    set(headers, "x-amzn-errortype", format!("{name}:http://internal.amazon.com/coral/com.amazon.{of}/"));
}

/// Returns true if AWS's front refuses, before the dialect's own server sees the request.
fn is_front(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Denied(_) | Refusal::Unauthorized | Refusal::BadKey | Refusal::RateLimited(_))
}

/// A dialect at mantle or runtime, as it is but for the credential and the front's errors.
#[derive(Debug)]
pub(super) struct Native(&'static dyn Protocol);

pub(super) static MESSAGES: Native = Native(&Anthropic);
pub(super) static CHAT: Native = Native(&OpenAi);
pub(super) static RESPONSES: Native = Native(&Responses);

impl Door for Native {
    fn inner(&self) -> &'static dyn Protocol {
        self.0
    }

    fn ask(&self, request: &Parts, body: &Value, account: &str) -> Result<ParsedRequest, Refusal> {
        if request.uri.path().starts_with("/anthropic/") && super::header(request, VERSION.0).is_none() {
            let message = "anthropic-version: header is required";
            return Err(Refusal::invalid("anthropic-version", message));
        }
        let mut ask = self.0.ask(&with_headers(request, &[]), body, account)?;
        // Mantle and runtime know their own ids only.
        if ask.model.starts_with("claude-") || ask.model.starts_with("gpt-") {
            return Err(Refusal::UnknownModel(ask.model));
        }
        ask.spoken = Some(plain_model(&ask.model));
        Ok(ask)
    }

    fn refuse(&self, refusal: &Refusal, request_id: &str) -> (StatusCode, Value) {
        if is_front(refusal) { refuse(refusal) } else { self.0.refuse(refusal, request_id) }
    }

    fn headers(&self, to: &mut HeaderMap, request_id: &str, rate: &RateStatus, refusal: Option<&Refusal>) {
        match refusal {
            Some(refusal) if is_front(refusal) => headers(to, request_id, Some(refusal)),
            _ => {
                self.0.headers(to, request_id, rate, refusal);
                headers(to, request_id, None);
            }
        }
    }
}

/// InvokeModel and InvokeModelWithResponseStream of Claude.
#[derive(Debug)]
pub(super) struct Invoke;

impl Door for Invoke {
    fn inner(&self) -> &'static dyn Protocol {
        &Anthropic
    }

    fn ask(&self, request: &Parts, body: &Value, account: &str) -> Result<ParsedRequest, Refusal> {
        let path = request.uri.path();
        let (model, action) = split_path(path).ok_or_else(|| Refusal::UnknownPath(path.to_owned()))?;
        if !body["stream"].is_null() {
            return Err(Refusal::invalid("stream", "stream: Extra inputs are not permitted"));
        }
        let said = body["anthropic_beta"].as_array();
        let betas: Vec<&str> = said.into_iter().flatten().filter_map(Value::as_str).collect();
        if !body["anthropic_beta"].is_null() && said.is_none() {
            return Err(Refusal::invalid("anthropic_beta", "anthropic_beta: Input should be a valid list"));
        }
        let (mut body, version) = messages_of(body, &betas, "bedrock-2023-05-31")?;
        body["model"] = model.as_str().into();
        body["stream"] = (action == "invoke-with-response-stream").into();
        claude_only(&model)?;
        let mut ask = Anthropic.ask(&with_headers(request, &[version]), &body, account)?;
        ask.spoken = Some(plain_model(&model));
        ask.dialect_body = Some(body);
        Ok(ask)
    }

    fn refuse(&self, refusal: &Refusal, _: &str) -> (StatusCode, Value) {
        refuse(refusal)
    }

    fn headers(&self, to: &mut HeaderMap, request_id: &str, _: &RateStatus, refusal: Option<&Refusal>) {
        headers(to, request_id, refusal);
    }

    fn framing(&self) -> Framing {
        Framing::Chunks
    }

    fn whole(&self, answer: &Answer) -> Value {
        let mut message = Anthropic.whole(answer);
        mark_ids(&mut message, "bdrk");
        message
    }

    fn opening(&self, answer: &Answer, to: &mut String) {
        let mut text = String::new();
        Anthropic.opening(answer, &mut text);
        // No recorded stream has a ping.
        to.push_str(&mark_opening(&text.replace(Anthropic.keep_alive(), ""), "bdrk"));
    }

    fn ending(&self, answer: &Answer, to: &mut String) {
        Anthropic.ending(answer, to);
        to.truncate(to.len() - Anthropic.end_mark(answer).len());
        to.push_str(&Door::end_mark(self, answer));
    }

    fn end_mark(&self, answer: &Answer) -> Cow<'static, str> {
        let data = json!({ "type": "message_stop", "amazon-bedrock-invocationMetrics": {
            "inputTokenCount": answer.prompt_tokens,
            "outputTokenCount": answer.tokens,
            // Constants: the mark's length is measured once more to leave it out.
            "invocationLatency": 120,
            "firstByteLatency": 40,
        } });
        format!("event: message_stop\ndata: {data}\n\n").into()
    }

    fn error_event(&self, answer: &Answer, _: u32, to: &mut String) {
        exception_event(answer, &EXCEPTIONS, to);
    }
}

/// Refuses models of other makers, whose bodies have another form.
pub(super) fn claude_only(model: &str) -> Result<(), Refusal> {
    let known = model.contains("anthropic.claude-") || model.starts_with("arn:");
    if known { Ok(()) } else { Err(Refusal::UnknownModel(model.to_owned())) }
}

/// Returns the milliseconds since the answer's second.
pub(super) fn latency(answer: &Answer) -> u64 {
    let since = wall_clock::millis(wall_clock::since_1970());
    since.saturating_sub(answer.created.saturating_mul(1000)).max(1)
}

/// The exceptions of a stream in the API reference; the last one is InvokeModel's alone.
pub(super) const EXCEPTIONS: [(&str, &str); 5] = [
    ("serviceUnavailableException", "Bedrock is unable to process your request."),
    ("throttlingException", "Too many requests, please wait before trying again."),
    ("modelStreamErrorException", "The system encountered an unexpected error during processing."),
    ("internalServerException", "The system encountered an unexpected error during processing. Try again."),
    ("modelTimeoutException", "Model processing timed out. Please try again."),
];

/// Writes an exception into a stream: each of these in turn.
pub(super) fn exception_event(answer: &Answer, exceptions: &[(&str, &str)], to: &mut String) {
    let number = usize::from_str_radix(&answer.id, 16).unwrap_or_default();
    let (name, words) = exceptions[number % exceptions.len()];
    to.push_str(&format!("exception: {name}\ndata: {}\n\n", json!({ "message": words })));
}
