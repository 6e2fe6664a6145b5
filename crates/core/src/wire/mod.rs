//! A request as the caller's own bytes.
//!
//! One pass over a forwarded request checks what would make its own fields ambiguous (one object, one `model`, texts
//! that end, brackets that balance) and keeps their places. A leaf sends slices of the caller's bytes with the changes
//! in between, as an `http_body::Body` of known length that hyper writes vectored. The provider reports any mistake
//! further in, as it would without us. The pass needs SIMD to cost about as much as a copy, and the crate forbids
//! `unsafe`: `fearless_simd` (no dependencies, Rust 1.89) gives both, by what the processor can do at run time. It is
//! large; a program without providers' bytes, and so without the feature `simd`, compares byte by byte.
//!
//! A request that is taken apart is read piece by piece, as slices of the caller's bytes; text that passes on as it
//! stands stays text (`chat::Json`). A tree of values would take up to a hundred times the bytes that were sent. Only a
//! schema that must be rewritten becomes a tree, and has a limit of its own. Lookups of a call, an id, a name or a note
//! go to a map. A large request is decoded for one leaf's call alone and not kept beside its bytes while the provider
//! answers, unless a layer has read it before.

pub mod anthropic;
pub mod foreign;
pub mod gemini;
mod limits;
mod object;
mod offload;
mod opaque;
pub mod openai;
pub mod provider_data;
pub mod responses;
mod shape;
mod shapes;
#[cfg(test)]
mod tests;
pub mod thoughts;
pub mod tool_calls;
pub mod wishes;

use std::{
    fmt,
    sync::{Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;
use http::HeaderMap;
use memchr::memmem;

use self::object::JsonText;
pub use self::opaque::BodyRest;
pub use self::opaque::{ENCODING, RestPieces};
pub use self::{
    limits::WireLimits,
    opaque::{OpaqueCall, Unit},
};
pub use self::{
    limits::{Meter, Stop, StopOnDrop},
    object::{Field, JsonError, Object},
    offload::{LARGE, offload},
};
use crate::{ErrorKind, LlmError, chat::Chat, dialect::Dialect, raw_json::RawJson, surrogates};

/// A request as the caller's own bytes, in a dialect.
///
/// A leaf of the same dialect forwards the bytes and copies none of them. It rewrites only `model`, and the fields that
/// a layer changed with [`LlmRequest::with_stream`](crate::LlmRequest::with_stream) or
/// [`LlmRequest::with_max_tokens`](crate::LlmRequest::with_max_tokens). A leaf of another dialect goes through
/// [`Chat`]: the bytes are decoded lazily and at most once.
///
/// # Checks
///
/// [`new`](Self::new) reads the bytes once. They must be one JSON object, with field names, colons, commas, numbers and
/// words as JSON has them; every text must end, and the brackets must balance. `model`, `stream`, `messages`, `input`,
/// `contents`, `system`, `instructions`, `tools`, `thinking`, `enable_thinking`, `thinking_budget`, `reasoning`,
/// `reasoning_effort`, `previous_response_id`, `conversation`, `background` and the fields of the longest answer may
/// occur once each, however they are escaped: a
/// body with two models is refused, because its next reader might take the other one. So is a name that some readers
/// take for one of these, such as `Model`. Deeper mistakes (an unknown escape in a
/// message's text, two commas in a list) are not looked for: the provider answers to them, as it would without this
/// crate. Decoding to [`Chat`] checks the grammar of the whole, and applies [`WireLimits`]. Fields that no other
/// provider reads are not parsed further.
#[derive(Clone)]
pub struct Wire {
    dialect: Dialect,
    body: Bytes,
    object: Object,
    headers: HeaderMap,
    model: Option<Box<str>>,
    stream: bool,
    /// Set by a layer, in place of the bytes' own value.
    max_tokens: Option<u32>,
    /// True for a request to compact the conversation.
    compaction: bool,
    limits: WireLimits,
    chat: Decoded,
}

/// The neutral form, once it has been requested.
#[derive(Default)]
struct Decoded {
    chat: OnceLock<Result<Box<Chat>, LlmError>>,
    /// Held while decoding: others that ask meanwhile wait, so that there is one form and not several.
    turn: Mutex<()>,
}

impl Clone for Decoded {
    fn clone(&self) -> Self {
        Self { chat: self.chat.clone(), turn: Mutex::default() }
    }
}

/// The fields that may occur once: those that a leaf reads or changes, and those with the conversation, in all
/// dialects.
pub const FIELDS: [&str; 21] = [
    "model",
    "stream",
    "messages",
    "tools",
    "system",
    "contents",
    "max_tokens",
    "max_completion_tokens",
    "generationConfig",
    "generation_config",
    "thinking",
    "enable_thinking",
    "thinking_budget",
    "reasoning_effort",
    "input",
    "instructions",
    "max_output_tokens",
    "reasoning",
    "previous_response_id",
    "conversation",
    "background",
];

impl Wire {
    /// Creates a request of these bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`] if they are not a JSON object, with the position of the mistake; if `model` or
    /// `stream` is of another type; or if one of the fields above occurs twice.
    pub fn new(dialect: Dialect, body: impl Into<Bytes>) -> Result<Self, LlmError> {
        let body = body.into();
        let invalid = |what: &dyn fmt::Display| {
            LlmError::new(
                ErrorKind::InvalidRequest,
                format!("the body is not a request of the {dialect} dialect: {what}"),
            )
        };
        let object = Object::read(&body, &FIELDS).map_err(|broken| invalid(&broken))?;
        object.check_names().map_err(|problem| invalid(&problem))?;
        let config = ["generationConfig", "generation_config"];
        if dialect == Dialect::Gemini && config.iter().all(|name| object.field(name).is_some()) {
            return Err(invalid(&"`generationConfig` is there twice"));
        }
        let head = |name| match object.field(name) {
            Some(field) => Some(&body[field.value.clone()]).filter(|value| *value != b"null"),
            None => None,
        };
        let model = || head("model").map(|value| serde_json::from_slice(value).map_err(drop)).transpose();
        let stream = || match head("stream") {
            Some(b"true") => Ok(true),
            Some(b"false") | None => Ok(false),
            Some(_) => Err(()),
        };
        // The value is not quoted, because it may be anything.
        let (Ok(model), Ok(stream)) = (model(), stream()) else {
            return Err(invalid(&"`model` must be a text and `stream` true or false"));
        };
        let model = model.map(|JsonText(model)| model.into());
        Ok(Self {
            dialect,
            body,
            object,
            headers: HeaderMap::new(),
            model,
            stream,
            max_tokens: None,
            compaction: false,
            limits: WireLimits::default(),
            chat: Decoded::default(),
        })
    }

    /// Creates a request to compact a conversation (`POST /responses/compact`), in place of an answer to it.
    ///
    /// A leaf of the Responses dialect forwards its bytes, with the tier's `model`, to that path. It has no neutral
    /// form, so that every other leaf refuses it. It is never a stream. The provider seals the result, so a
    /// `Fallback` sends it to the tiers of
    /// one account only.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn compaction(body: impl Into<Bytes>) -> Result<Self, LlmError> {
        let wire = Self::new(Dialect::Responses, body)?;
        Ok(Self { compaction: true, stream: false, ..wire })
    }

    /// Sets the model and whether to stream, for the dialect that has both in its path (Gemini).
    #[must_use]
    pub fn path(mut self, model: impl Into<Box<str>>, stream: bool) -> Self {
        self.model = Some(model.into());
        self.stream = stream;
        // A clone of a decoded request would keep the old values.
        self.chat = Decoded::default();
        self
    }

    /// Sets the limits on a request that is parsed. Default: [`WireLimits::default`].
    #[must_use]
    pub fn limits(mut self, limits: WireLimits) -> Self {
        self.limits = limits;
        self.chat = Decoded::default();
        self
    }

    /// Sets headers that a leaf of the same dialect forwards, such as `anthropic-beta`.
    #[must_use]
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// The dialect of the bytes.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The headers to forward.
    pub fn header_map(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the bytes of a field's value on the top level, among the fields that may occur once: see
    /// [Checks](Self#checks). `None` if the body lacks it.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.object.field(name).map(|field| &self.body[field.value.clone()])
    }

    /// Returns the same request with other values of some fields, each of them JSON. A field keeps its place; one that
    /// the body lacks comes first. All other bytes stay as they are.
    ///
    /// ```
    /// use steadfast::{Dialect, Wire};
    ///
    /// let wire = Wire::new(Dialect::Responses, r#"{"model": "m",  "input": "hi"}"#)?;
    /// let changed = wire.with_fields(&[("input", b"[]"), ("previous_response_id", b"null")])?;
    /// assert_eq!(&changed.body()[..], br#"{"previous_response_id":null,"model": "m",  "input": []}"#);
    /// # Ok::<(), steadfast::LlmError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new), where a value is no JSON; and one for a name that is none of the fields that may
    /// occur once, or `model` or `stream`.
    pub fn with_fields(&self, values: &[(&'static str, &[u8])]) -> Result<Self, LlmError> {
        // The request knows these two apart from its bytes.
        let is_settable = |name: &str| FIELDS.contains(&name) && !matches!(name, "model" | "stream");
        if let Some((name, _)) = values.iter().find(|(name, _)| !is_settable(name)) {
            return Err(LlmError::new(ErrorKind::InvalidRequest, format!("`{name}` cannot be set")));
        }
        self.with_body(self.spliced(values))
    }

    /// Returns the bytes with other values of some fields.
    fn spliced(&self, values: &[(&'static str, &[u8])]) -> Vec<u8> {
        let mut places: Vec<(std::ops::Range<usize>, &[u8])> = Vec::new();
        let new_bytes: usize = values.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let mut body = Vec::with_capacity(self.body.len() + new_bytes);
        body.extend_from_slice(&self.body[..self.object.open]);
        let mut has_new = false;
        for (name, value) in values {
            if let Some(field) = self.object.field(name) {
                places.push((field.value.clone(), value));
                continue;
            }
            let comma: &[u8] = if has_new { b"," } else { b"" };
            for piece in [comma, b"\"", name.as_bytes(), b"\":", value] {
                body.extend_from_slice(piece);
            }
            has_new = true;
        }
        if has_new && !self.object.is_empty {
            body.push(b',');
        }
        places.sort_by_key(|(place, _)| place.start);
        let mut at = self.object.open;
        for (place, value) in places {
            body.extend_from_slice(&self.body[at..place.start]);
            body.extend_from_slice(value);
            at = place.end;
        }
        body.extend_from_slice(&self.body[at..]);
        body
    }

    /// Returns the same request for another model. In the bytes the field keeps its place, or comes first where the
    /// body lacks it; all others stay as they are. Gemini's bytes name no model, and stay whole.
    ///
    /// ```
    /// use steadfast::{Dialect, Wire};
    ///
    /// let wire = Wire::new(Dialect::OpenAi, r#"{"messages": [],  "model": "a"}"#)?;
    /// let wire = wire.with_model("b")?;
    /// assert_eq!(wire.model(), Some("b"));
    /// assert_eq!(&wire.body()[..], br#"{"messages": [],  "model": "b"}"#);
    /// # Ok::<(), steadfast::LlmError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new), which a valid request does not meet.
    pub fn with_model(self, model: &str) -> Result<Self, LlmError> {
        if self.model.as_deref() == Some(model) {
            return Ok(self);
        }
        if self.dialect == Dialect::Gemini {
            let stream = self.stream;
            return Ok(self.path(model, stream));
        }
        let value = serde_json::Value::from(model).to_string();
        let renamed = self.with_body(self.spliced(&[("model", value.as_bytes())]))?;
        Ok(Self { model: Some(model.into()), ..renamed })
    }

    /// Returns a request of these bytes with the same headers, limits, and settings of layers.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn with_body(&self, body: impl Into<Bytes>) -> Result<Self, LlmError> {
        Ok(Self {
            headers: self.headers.clone(),
            model: self.model.clone(),
            stream: self.stream,
            max_tokens: self.max_tokens,
            limits: self.limits,
            compaction: self.compaction,
            ..Self::new(self.dialect, body)?
        })
    }

    /// The places of the fields in the bytes.
    #[doc(hidden)]
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// Returns the model that the body names.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    #[doc(hidden)]
    pub fn wire_limits(&self) -> &WireLimits {
        &self.limits
    }

    /// Returns whether the caller asks for a stream.
    pub fn is_stream(&self) -> bool {
        self.stream
    }

    /// Returns true for a request to [compact](Self::compaction) a conversation.
    pub fn is_compaction(&self) -> bool {
        self.compaction
    }

    /// Returns true if the bytes ask for a response that the provider makes in the background, after it has answered
    /// the request.
    pub fn is_background(&self) -> bool {
        let asks = |field: &Field| &self.body[field.value.clone()] == b"true";
        self.dialect == Dialect::Responses && self.object.field("background").is_some_and(asks)
    }

    /// The longest answer that a layer has set.
    pub fn max_tokens(&self) -> Option<u32> {
        self.max_tokens
    }

    /// Returns true if the bytes name stop texts, in any dialect that has them.
    pub(crate) fn names_stops(&self) -> bool {
        if self.dialect == Dialect::Responses {
            return false;
        }
        let has = |json: &[u8], names: &[&'static str], holds: &dyn Fn(&[u8]) -> bool| {
            let object = Object::read(json, names).ok();
            let found = object.iter().flat_map(|object| names.iter().filter_map(|name| object.field(name)));
            found.into_iter().any(|field| holds(&json[field.value.clone()]))
        };
        // A text, or a list with one in it.
        let a_text = |value: &[u8]| value.contains(&b'"');
        let in_config = |value: &[u8]| has(value, &["stopSequences", "stop_sequences"], &a_text);
        has(&self.body, &["stop", "stop_sequences"], &a_text)
            || has(&self.body, &["generationConfig", "generation_config"], &in_config)
    }

    /// Returns true if the bytes ask for reasoning, in any dialect. Looks at a few bytes and parses nothing.
    #[doc(hidden)]
    pub fn asks_to_reason(&self) -> bool {
        let value = |name| self.object.field(name).map_or(&b""[..], |field| &self.body[field.value.clone()]);
        let has = |value: &[u8], word: &[u8]| value.windows(word.len()).any(|piece| piece == word);
        let is_some = |value: &[u8], off: &[&[u8]]| {
            !value.is_empty() && value != b"null" && off.iter().all(|off| !has(value, off))
        };
        let is_on = |object: &[u8], name: &[u8]| {
            let after = memmem::find(object, name).map(|at| object[at + name.len()..].trim_ascii_start());
            let value = after.and_then(|after| after.strip_prefix(b":")).map(<[u8]>::trim_ascii_start);
            value.is_some_and(|value| value.starts_with(b"true"))
        };
        let has_effort = || {
            // The object has other settings too, such as the form of its summary.
            const EFFORTS: [&[u8]; 6] =
                [b"\"low\"", b"\"medium\"", b"\"high\"", b"\"xhigh\"", b"\"max\"", b"\"max_tokens\""];
            let reasoning = value("reasoning");
            let reasoning = &reasoning[..reasoning.len().min(4096)];
            EFFORTS.iter().any(|effort| has(reasoning, effort)) || is_on(reasoning, b"\"enabled\"")
        };
        match self.dialect {
            Dialect::Anthropic => is_some(value("thinking"), &[b"\"disabled\""]),
            Dialect::OpenAi => {
                is_some(value("reasoning_effort"), &[b"\"none\"", b"\"minimal\""])
                    || is_some(value("thinking"), &[b"\"disabled\""])
                    || value("enable_thinking") == b"true"
                    || is_some(value("thinking_budget"), &[]) && !value("thinking_budget").starts_with(b"0")
                    || has_effort()
            }
            Dialect::Responses => has_effort(),
            Dialect::Gemini => ["generationConfig", "generation_config"].iter().any(|name| {
                // Search only the beginning: the configuration may contain a large schema.
                let config = value(name);
                let config = &config[..config.len().min(4096)];
                has(config, b"thinkingConfig") || has(config, b"thinking_config")
            }),
        }
    }

    /// Returns true if the same bytes ask for something else each time: they continue a conversation that the provider
    /// keeps and extends, they compact one, or they start work whose result is fetched later.
    #[doc(hidden)]
    pub fn depends_on_state(&self) -> bool {
        let value = |name| self.object.field(name).map(|field| &self.body[field.value.clone()]);
        self.dialect == Dialect::Responses
            && (self.compaction || self.is_background() || value("conversation").is_some_and(|value| value != b"null"))
    }

    pub(crate) fn set_stream(&mut self, stream: bool) {
        self.stream = stream;
        self.decoded(|chat| chat.stream = stream);
    }

    pub(crate) fn set_max_tokens(&mut self, tokens: u32) {
        self.max_tokens = Some(tokens);
        self.decoded(|chat| chat.max_tokens = Some(tokens));
    }

    /// Changes the neutral form too, if it exists already.
    fn decoded(&mut self, change: impl FnOnce(&mut Chat)) {
        if let Some(Ok(chat)) = self.chat.chat.get_mut() {
            change(chat);
        }
    }

    /// Returns true if parsing takes so long that it is to be done off the threads that serve requests.
    #[doc(hidden)]
    pub fn is_large(&self) -> bool {
        self.body.len() >= LARGE
    }

    /// Returns true if the neutral form exists, so that asking for it costs nothing.
    #[doc(hidden)]
    pub fn is_decoded(&self) -> bool {
        self.chat.chat.get().is_some()
    }

    #[doc(hidden)]
    pub fn chat(&self) -> Result<&Chat, LlmError> {
        self.chat_until(&Stop::default())
    }

    /// Returns the neutral form, unless the work is stopped before.
    #[doc(hidden)]
    pub fn chat_until(&self, stop: &Stop) -> Result<&Chat, LlmError> {
        if !self.is_decoded() {
            let _turn = self.chat.turn.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.is_decoded() {
                let decoded = self.decode(stop).map(Box::new);
                // The caller left, which says nothing about the request: the next one to ask decodes it.
                if stop.is_given()
                    && let Err(error) = decoded
                {
                    return Err(error);
                }
                let _first = self.chat.chat.set(decoded);
            }
        }
        match self.chat.chat.get() {
            Some(Ok(chat)) => Ok(chat),
            Some(Err(error)) => Err(error.clone()),
            None => Err(LlmError::new(ErrorKind::Other, "the request was not decoded")),
        }
    }

    /// Decodes the bytes for this caller alone; the form is not stored.
    #[doc(hidden)]
    pub fn decode(&self, stop: &Stop) -> Result<Chat, LlmError> {
        if self.compaction {
            return Err(no_compaction());
        }
        let mut chat = decode(self.dialect, &self.body, self.limits, stop)?;
        chat.model = self.model.as_deref().map(str::to_owned);
        chat.stream = self.stream;
        chat.max_tokens = self.max_tokens.or(chat.max_tokens);
        Ok(chat)
    }
}

impl fmt::Debug for Wire {
    /// Writes nothing of the prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("dialect", &self.dialect).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// Returns the error of a service that answers conversations and cannot compact them.
fn no_compaction() -> LlmError {
    let message = "/v1/responses/compact: only a provider of the Responses dialect has it";
    LlmError::new(ErrorKind::UnsupportedFeature, message).with_code(UNSUPPORTED_PATH)
}

/// The code of errors about a path that no provider of the request has.
pub const UNSUPPORTED_PATH: &str = "unsupported_path";

/// Decodes a caller's bytes to the neutral form.
///
/// Parts that are passed on unchanged are not parsed, so that they take no more memory than their text.
fn decode(dialect: Dialect, body: &[u8], limits: WireLimits, stop: &Stop) -> Result<Chat, LlmError> {
    // A provider of the dialect gets the caller's bytes, and judges halves of characters itself.
    let body = &*surrogates::mended(body);
    let json: RawJson<'_> = serde_json::from_slice(body).map_err(|error| {
        LlmError::new(ErrorKind::InvalidRequest, format!("the body is not a request of the {dialect} dialect"))
            .with_source(error)
    })?;
    let mut meter = Meter::of(body, limits, stop)?;
    shapes::of(dialect).check(json)?;
    match dialect {
        Dialect::Anthropic => anthropic::decode(json, &mut meter),
        Dialect::OpenAi => openai::decode(json, &mut meter),
        Dialect::Gemini => gemini::decode(json, &mut meter),
        Dialect::Responses => responses::decode(json, &mut meter),
    }
}
