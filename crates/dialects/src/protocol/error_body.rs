use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use crate::{
    ErrorKind,
    internal::wall_clock,
    retry_after,
    sentences::{Inside, KnownMessage, kind_of_message, kind_of_name, kind_of_number, unwrapped},
};

/// The facts in a provider's error body of any known shape.
///
/// The shapes: `{"error": {..}}` (OpenAI, Anthropic, Gemini), the same as the one element of an array (Gemini without
/// SSE), `{"error": "text"}` (Venice, Ollama), `{"base_resp": {..}}` (MiniMax), the fields at the top level
/// (`{"object": "error", ..}` of vLLM and Mistral, `{"code", "message", "type"}` of Doubleword), `{"message": ..}` and
/// `{"detail": ..}` (Mistral, FastAPI servers), and `{"errors": [..]}`, of which the first counts. A body within a body,
/// or within its message, is [`inner`](Self::inner).
#[derive(Clone, Debug, Default)]
pub struct ErrorBody {
    /// The most exact code, if it is text: `error.details.error_code`, `error.innererror.code` or `error.code`.
    pub code: Option<String>,
    /// `error.code`, if it is a number: nearly always an HTTP status.
    pub number: Option<u16>,
    /// `error.type`.
    pub kind: Option<String>,
    /// `error.status`, Google's name of the failure.
    pub status: Option<String>,
    /// `error.param`, or the first of the [`fields`](Self::fields): the parameter at fault.
    pub param: Option<String>,
    /// The fields at fault, if the error lists them.
    pub fields: Vec<FieldFault>,
    /// `error.message`, or its equivalent. Never the whole body, which may repeat the prompt.
    pub message: String,
    /// `error.details`, if it is a list.
    pub details: Vec<Value>,
    /// The id of the request, if the body has it.
    pub request_id: Option<String>,
    /// True if it lists the findings of a moderation (`error.metadata.reasons`).
    pub flagged: bool,
    /// The time until a limit is reset (`error.resets_in_seconds`, `error.resets_at`).
    pub resets: Option<Duration>,
    /// The HTTP status that a server on the way gives this failure, in its own words.
    pub told_status: Option<u16>,
    /// The failure of another server that a server on the way has put its own words around.
    pub inner: Option<Box<Self>>,
}

/// A field at fault, and the words about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// Its place in the request: `tools.0.type`.
    pub(crate) place: String,
    pub(crate) says: String,
}

/// The most bodies within each other that are read.
const DEPTH: usize = 4;
/// The most fields at fault that are read.
const MOST_FIELDS: usize = 64;

impl ErrorBody {
    /// Reads the body of an answer that is known to be an error. Returns `None` if it has no known shape.
    pub fn of_error(body: &Value) -> Option<Self> {
        Some(Self::outer_of_error(body)?.with_inner(body, DEPTH))
    }

    /// Reads a body without the bodies in it.
    fn outer_of_error(body: &Value) -> Option<Self> {
        Self::outer_of_answer(body).or_else(|| {
            if body.is_array() || body.get("loc").is_some() {
                // Validation errors alone.
                return Self::of_details(body).filter(|facts| !facts.fields.is_empty());
            }
            let fields = body.as_object()?;
            let has = |name| fields.get(name).is_some_and(|value: &Value| !value.is_null());
            if has("message") {
                Some(Self::read(body))
            } else if has("detail") {
                Self::of_details(&fields["detail"])
            } else {
                let first = fields.get("errors")?.as_array()?.first()?;
                Some(Self::read(first))
            }
        })
    }

    /// Reads a body or an event that may as well be an answer. Returns `None` if it reports no error.
    pub fn of_answer(body: &Value) -> Option<Self> {
        Some(Self::outer_of_answer(body)?.with_inner(body, DEPTH))
    }

    fn outer_of_answer(body: &Value) -> Option<Self> {
        if let Some(only) = body.as_array() {
            return Self::outer_of_answer(only.iter().find(|element| element.get("error").is_some())?);
        }
        let mut facts = match body.get("error") {
            Some(error @ Value::Object(_)) => Self::read(error),
            Some(Value::String(text)) => Self { message: text.clone(), ..Self::read(body) },
            _ if body.get("object").and_then(Value::as_str) == Some("error") => Self::read(body),
            _ => Self::of_envelope(body.get("base_resp")?)?,
        };
        let id = facts.request_id.take().or_else(|| text(body, "request_id"));
        facts.request_id = id;
        Some(facts)
    }

    /// Reads a validator's errors.
    fn of_details(details: &Value) -> Option<Self> {
        Some(Self { message: details_text(details), ..Self::default() }.with_fields(details))
    }

    /// Adds the fields that a validator's errors are about.
    fn with_fields(mut self, errors: &Value) -> Self {
        let items = errors.as_array().map_or_else(|| std::slice::from_ref(errors), Vec::as_slice);
        self.fields.extend(items.iter().take(MOST_FIELDS).flat_map(field_faults));
        self.fields.truncate(MOST_FIELDS);
        self.param = self.param.take().or_else(|| self.fields.first().map(|field| field.place.clone()));
        self
    }

    /// Reads MiniMax's envelope, which answers have as well: there its code is 0.
    fn of_envelope(envelope: &Value) -> Option<Self> {
        let number = envelope.get("status_code").and_then(Value::as_u64).filter(|code| *code != 0)?;
        let message = text(envelope, "status_msg").unwrap_or_default();
        Some(Self { number: u16::try_from(number).ok(), message, ..Self::default() })
    }

    fn read(error: &Value) -> Self {
        let details = error.get("details");
        let number = |name| {
            let value = error.get(name)?;
            let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
            u16::try_from(number).ok()
        };
        let exact = details.and_then(|details| text(details, "error_code"));
        let inner = error.get("innererror").and_then(|inner| text(inner, "code"));
        let listed = ["issues", "errors", "details"].iter().filter_map(|name| error.get(name));
        let facts = Self {
            code: exact.or(inner).or_else(|| text(error, "code")),
            number: number("code").or_else(|| number("status_code")).or_else(|| number("raw_status_code")),
            kind: text(error, "type"),
            status: text(error, "status"),
            // LiteLLM writes Python's word for nothing.
            param: text(error, "param").filter(|param| param != "None"),
            message: match error.get("message") {
                Some(Value::String(message)) => message.clone(),
                Some(other) => details_text(other),
                None => String::new(),
            },
            details: details.and_then(Value::as_array).cloned().unwrap_or_default(),
            request_id: text(error, "request_id"),
            flagged: error.get("metadata").and_then(|metadata| metadata.get("reasons")).is_some_and(Value::is_array),
            resets: resets(error),
            ..Self::default()
        };
        listed.filter(|list| list.is_array()).fold(facts, Self::with_fields)
    }

    /// Adds the failure that this body or its message is wrapped around. A router's "Provider returned error" hides the
    /// cause in `metadata.raw`, as the text of another error body.
    fn with_inner(mut self, body: &Value, depth: usize) -> Self {
        let Some(depth) = depth.checked_sub(1) else { return self };
        let body = body.as_array().and_then(|items| items.first()).unwrap_or(body);
        let error = body.get("error").unwrap_or(body);
        let within = |body: &Value| Some(Self::outer_of_error(body)?.with_inner(body, depth));
        let raw = match error.get("metadata").and_then(|metadata| metadata.get("raw")) {
            Some(Value::String(text)) if text.trim().is_empty() => None,
            Some(Value::String(text)) => {
                let body: Option<Value> = serde_json::from_str(text).ok();
                body.as_ref().map_or_else(|| Some(Self::of_words(text, depth)), within)
            }
            Some(value) => within(value),
            None => None,
        };
        if let Some(behind) = &raw {
            if !behind.message.is_empty() {
                self.message = format!("{}: {}", self.message, behind.message);
            }
            self.code = self.code.take().or_else(|| behind.code.clone());
            self.kind = self.kind.take().or_else(|| behind.kind.clone());
        }
        // `{"error": {"error": {..}}}`, and a message or a detail that is an object.
        let nested = || {
            let mut places = [error.get("error"), error.get("message"), body.get("detail")].into_iter().flatten();
            within(places.find(|value| value.is_object())?)
        };
        if let Some(inner) = raw.or_else(|| Self::unwrapped(&self.message, depth)).or_else(nested) {
            if self.message.is_empty() {
                self.message.clone_from(&inner.message);
            }
            self.param = self.param.take().or_else(|| inner.param.clone());
            self.resets = self.resets.or(inner.resets);
            self.inner = Some(Box::new(inner));
        }
        self
    }

    /// Reads a failure that is told in words alone.
    fn of_words(words: &str, depth: usize) -> Self {
        let facts = Self { message: words.to_owned(), ..Self::default() };
        facts.with_inner(&Value::Null, depth)
    }

    /// Reads the failure of another server that is within a message.
    fn unwrapped(message: &str, depth: usize) -> Option<Self> {
        let (inside, status) = unwrapped(message)?;
        let mut facts = match inside {
            Inside::Body(body) => Self::outer_of_error(&body)?.with_inner(&body, depth),
            Inside::Message(message) => Self { message: message.to_owned(), ..Self::default() },
        };
        facts.told_status = status;
        Some(facts)
    }

    /// Returns this failure and those within it, the innermost first.
    pub(crate) fn layers(&self) -> Vec<&Self> {
        let mut layers: Vec<&Self> = std::iter::successors(Some(self), |facts| facts.inner.as_deref()).collect();
        layers.reverse();
        layers
    }

    /// Returns true if the body names the kind of error in any way.
    pub fn is_named(&self) -> bool {
        self.code.is_some() || self.number.is_some() || self.kind.is_some() || self.status.is_some()
    }

    /// Returns the status of this failure: the one in its place of a code, or that of the answer or event it came in.
    pub(crate) fn status_or(&self, status: StatusCode) -> StatusCode {
        let own = [self.number, self.told_status].into_iter().flatten().find(|number| (400..=599).contains(number));
        own.and_then(|number| StatusCode::from_u16(number).ok()).unwrap_or(status)
    }

    /// Returns the kind of failure that servers give this code, type or number.
    pub(crate) fn kind_by_name(&self, status: StatusCode) -> Option<ErrorKind> {
        let numbered = self.number.and_then(|number| kind_of_number(status, number));
        numbered.or_else(|| [&self.code, &self.kind].into_iter().flatten().find_map(|name| kind_of_name(name)))
    }

    /// Returns the kind of failure that the message, or another server's within it, reports as a whole, if it can under
    /// this status.
    pub fn kind_by_sentence(&self, status: StatusCode) -> Option<ErrorKind> {
        let known = self.layers().into_iter().find_map(|facts| kind_of_message(&facts.message));
        known.filter(|kind| match (kind, status.as_u16()) {
            // llama.cpp reports a full context as a 500 too.
            (ErrorKind::ContextLength, status) => matches!(status, 200 | 400 | 413 | 422 | 500),
            (ErrorKind::ContentPolicy, status) => matches!(status, 200 | 400 | 403 | 422 | 451 | 500),
            // Some servers answer 400 to a bad key.
            (ErrorKind::Auth, status) => status == 400,
            (ErrorKind::NotFound, status) => matches!(status, 200 | 400 | 401 | 403 | 404 | 422 | 500 | 502 | 503),
            _ => true,
        })
    }

    /// Returns true if the message, or another server's within it, consists of these sentences alone.
    pub(crate) fn consists_of(&self, known: &KnownMessage) -> bool {
        self.layers().iter().any(|facts| known.is(&facts.message))
    }
}

/// Returns the fields that one of a validator's errors is about: pydantic's `loc`, Zod's `path` and `keys`, Ajv's
/// `instancePath`.
fn field_faults(error: &Value) -> Vec<FieldFault> {
    let steps = |name: &str| {
        let steps = error.get(name)?.as_array()?.iter();
        let steps: Option<Vec<String>> =
            steps.map(|step| step.as_str().map(str::to_owned).or_else(|| Some(step.as_u64()?.to_string()))).collect();
        steps.map(|steps| steps.join("."))
    };
    let pointer = || Some(error.get("instancePath")?.as_str()?.trim_start_matches('/').replace('/', "."));
    let Some(place) = steps("loc").or_else(|| steps("path")).or_else(pointer) else { return Vec::new() };
    // A number alone is a place in the text.
    let place = place.strip_prefix("body.").unwrap_or(&place).to_owned();
    if !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    let says = text(error, "msg").or_else(|| text(error, "message")).unwrap_or_default();
    let unknown = error.get("params").and_then(|params| params.get("additionalProperty"));
    let keys = error.get("keys").and_then(Value::as_array).into_iter().flatten().chain(unknown);
    let within = |key: &Value| {
        let key = key.as_str()?;
        let place = if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
        Some(FieldFault { place, says: says.clone() })
    };
    let within: Vec<FieldFault> = keys.filter_map(within).take(MOST_FIELDS).collect();
    match within.is_empty() {
        true if place.is_empty() => Vec::new(),
        true => vec![FieldFault { place, says }],
        false => within,
    }
}

/// Returns the time until a limit is reset, as ChatGPT tells it.
fn resets(error: &Value) -> Option<Duration> {
    let number = |name| error.get(name).and_then(Value::as_f64).filter(|number| *number > 0.0);
    let until = |moment: f64| retry_after::reset(&moment.to_string(), wall_clock::now());
    let seconds = number("resets_in_seconds").and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.or_else(|| until(number("resets_at")?)).filter(|wait| !wait.is_zero())
}

fn text(value: &Value, field: &str) -> Option<String> {
    let text = value.get(field)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// Returns the places and messages of a list of validation errors. Their `input` fields repeat the request and are left
/// out.
fn details_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().take(3).map(details_text).collect::<Vec<_>>().join("; "),
        Value::Object(fields) => {
            if let Some(detail) = fields.get("detail") {
                return details_text(detail);
            }
            let place = fields.get("loc").and_then(Value::as_array).map(|place| {
                let steps = place.iter().map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned));
                steps.collect::<Vec<_>>().join(".")
            });
            let message = text(value, "msg").or_else(|| text(value, "message")).unwrap_or_default();
            place.map_or_else(|| message.clone(), |place| format!("{place}: {message}"))
        }
        _ => String::new(),
    }
}
