use serde_json::Value;

use crate::providers::sentences::KnownMessage;

/// The facts in a provider's error body of any known shape.
///
/// The shapes: `{"error": {..}}` (OpenAI, Anthropic, Gemini), the same as the one element of an array (Gemini without
/// SSE), `{"error": "text"}` (Venice, Ollama), `{"base_resp": {..}}` (MiniMax), the fields at the top level
/// (`{"object": "error", ..}` of vLLM and Mistral, `{"code", "message", "type"}` of Doubleword), `{"message": ..}` and
/// `{"detail": ..}` (Mistral, FastAPI servers), and `{"errors": [..]}`, of which the first counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct ErrorBody {
    /// The most exact code, if it is text: `error.details.error_code`, `error.innererror.code` or `error.code`.
    pub(crate) code: Option<String>,
    /// `error.code`, if it is a number: nearly always an HTTP status.
    pub(crate) number: Option<u16>,
    /// `error.type`.
    pub(crate) kind: Option<String>,
    /// `error.status`, Google's name of the failure.
    pub(crate) status: Option<String>,
    /// `error.param`, or the last of `detail[].loc`: the parameter at fault.
    pub(crate) param: Option<String>,
    /// `error.message`, or its equivalent. Never the whole body, which may repeat the prompt.
    pub(crate) message: String,
    /// `error.details`, if it is a list.
    pub(crate) details: Vec<Value>,
    /// The id of the request, if the body has it.
    pub(crate) request_id: Option<String>,
    /// True if it lists the findings of a moderation (`error.metadata.reasons`).
    pub(crate) flagged: bool,
}

impl ErrorBody {
    /// Reads the body of an answer that is known to be an error. Returns `None` if it has no known shape.
    pub(crate) fn of_error(body: &Value) -> Option<Self> {
        Self::of_answer(body).or_else(|| {
            let fields = body.as_object()?;
            let has = |name| fields.get(name).is_some_and(|value: &Value| !value.is_null());
            if has("message") {
                Some(Self::read(body))
            } else if has("detail") {
                let detail = &fields["detail"];
                let place = detail.get(0).and_then(|first| first.get("loc")?.as_array()?.last()?.as_str());
                Some(Self { message: details_text(detail), param: place.map(Into::into), ..Self::default() })
            } else {
                let first = fields.get("errors")?.as_array()?.first()?;
                Some(Self::read(first))
            }
        })
    }

    /// Reads a body or an event that may as well be an answer. Returns `None` if it reports no error.
    pub(crate) fn of_answer(body: &Value) -> Option<Self> {
        if let Some(only) = body.as_array() {
            return Self::of_answer(only.iter().find(|element| element.get("error").is_some())?);
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
        let mut facts = Self {
            code: exact.or(inner).or_else(|| text(error, "code")),
            number: number("code").or_else(|| number("status_code")).or_else(|| number("raw_status_code")),
            kind: text(error, "type"),
            status: text(error, "status"),
            param: text(error, "param"),
            message: match error.get("message") {
                Some(Value::String(message)) => message.clone(),
                Some(other) => details_text(other),
                None => String::new(),
            },
            details: details.and_then(Value::as_array).cloned().unwrap_or_default(),
            request_id: text(error, "request_id"),
            flagged: error.get("metadata").and_then(|metadata| metadata.get("reasons")).is_some_and(Value::is_array),
        };
        facts.look_behind(error);
        facts
    }

    /// A router's "Provider returned error" hides the cause in `metadata.raw`, as the text of another error body.
    fn look_behind(&mut self, error: &Value) {
        let raw = error.get("metadata").and_then(|metadata| metadata.get("raw"));
        let behind = match raw {
            Some(Value::String(text)) => serde_json::from_str(text).ok(),
            Some(value @ Value::Object(_)) => Some(value.clone()),
            _ => None,
        };
        let Some(behind) = behind.as_ref().and_then(Self::of_error) else { return };
        if !behind.message.is_empty() {
            self.message = format!("{}: {}", self.message, behind.message);
        }
        self.code = self.code.take().or(behind.code);
        self.kind = self.kind.take().or(behind.kind);
    }

    /// Returns true if the body names the kind of error in any way.
    pub(crate) fn is_named(&self) -> bool {
        self.code.is_some() || self.number.is_some() || self.kind.is_some() || self.status.is_some()
    }

    /// Returns true if the message consists of these sentences alone. A router's words are replaced by its provider's.
    pub(crate) fn consists_of(&self, known: &KnownMessage) -> bool {
        let behind = || self.message.strip_prefix("Provider returned error: ");
        known.is(&self.message) || behind().is_some_and(|message| known.is(message))
    }
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
