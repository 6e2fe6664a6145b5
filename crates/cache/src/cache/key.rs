//! The identity of requests: keys and fingerprints.

use std::{fmt, sync::Arc};

use super::canonical::{Hash, Json, Meaning};
use crate::{
    Dialect, LlmRequest, Wire,
    chat::{Chat, Extra, ExtraOf, Media, Message, Opaque, Part, Role, Thinking, Tool, ToolCall, ToolChoice},
    request::Tenant,
};

/// A caller's wishes for one request, in the terms of HTTP's `Cache-Control` (RFC 9111, 5.2.1). Put it into the
/// request's [extensions](crate::LlmRequest::with_extension).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheControl {
    /// Asks for a new answer, which then replaces the old one. The request does not wait for others that ask the
    /// same.
    NoCache,
    /// Asks for a new answer that is not kept: the layer does nothing.
    NoStore,
}

/// The key under which an answer is kept: a SHA-256 hash of what its request means, the same in every process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(pub(super) Hash);

impl CacheKey {
    /// Returns the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for CacheKey {
    /// Writes the first 64 bits in hexadecimal digits: enough to tell answers apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKey({self})")
    }
}

/// A user's function that decides which requests are the same.
pub(super) type KeyBy = dyn Fn(&LlmRequest) -> Option<String> + Send + Sync;

/// The parts of a request that count toward its key.
#[derive(Clone)]
pub(super) struct KeyParts {
    pub(super) model: bool,
    pub(super) feature: bool,
    pub(super) tenant: bool,
    pub(super) by: Option<Arc<KeyBy>>,
}

impl Default for KeyParts {
    fn default() -> Self {
        Self { model: true, feature: true, tenant: true, by: None }
    }
}

impl KeyParts {
    /// Returns the key of a request, or `None` if the request is ambiguous: its bytes alone do not say what it asks.
    pub(super) fn key(&self, request: &LlmRequest) -> Option<CacheKey> {
        if depends_on_state(request) {
            return None;
        }
        let mut meaning = Meaning::of("steadfast answer 1");
        // A request without a tenant must not find an answer that the cache kept while tenants still shared.
        [self.tenant, self.feature, self.model].into_iter().for_each(|counts| meaning.flag(counts));
        meaning.optional_text(self.tenant.then(|| Tenant::of(request)).flatten().map(|name| &**name));
        meaning.optional_text(request.feature().filter(|_| self.feature));
        meaning.optional_text(request.model().filter(|_| self.model));
        match (&self.by, request.wire()) {
            (Some(by), _) => meaning.text(&by(request)?),
            (None, Some(wire)) => of_wire(&mut meaning, wire)?,
            (None, None) => of_chat(&mut meaning, request.chat().ok()?),
        }
        Some(CacheKey(meaning.finish()))
    }
}

/// Returns a hash of what a request means and of its owner, or `None` if the request is ambiguous.
pub fn fingerprint(request: &LlmRequest) -> Option<CacheKey> {
    KeyParts::default().key(request)
}

/// Returns true if the provider's state decides what the request asks, so that no two requests are the same.
fn depends_on_state(request: &LlmRequest) -> bool {
    if let Some(wire) = request.wire() {
        return wire.depends_on_state();
    }
    let extra = request.chat().ok().and_then(|chat| chat.extra.as_ref());
    extra.filter(|extra| extra.dialect == Dialect::Responses).is_some_and(|extra| {
        let is = |name, set: fn(&str) -> bool| extra.fields.get(name).is_some_and(|value| set(value.get()));
        is("conversation", |value| value != "null") || is("background", |value| value == "true")
    })
}

/// Returns true if earlier turns are only at the provider, under an id that the extra has.
pub(super) fn has_turns_at_provider(chat: &Chat) -> bool {
    let Some(extra) = &chat.extra else { return false };
    let names: &[&str] = match extra.dialect {
        Dialect::Responses => &["previous_response_id", "conversation", "prompt"],
        Dialect::Gemini => &["cachedContent", "cached_content"],
        Dialect::Anthropic | Dialect::OpenAi => return false,
    };
    names.iter().any(|name| extra.fields.get(name).is_some_and(|value| value.get() != "null"))
}

/// Returns whether a top-level field only says who asks, what is billed or how the answer is sent.
fn is_bookkeeping(dialect: Dialect, name: &str) -> bool {
    let names: &[&str] = match dialect {
        Dialect::Anthropic => &["metadata", "service_tier"],
        Dialect::OpenAi => &[
            "metadata",
            "prompt_cache_key",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "store",
            "user",
        ],
        // `store` counts: only an answer that the provider stored can be continued by its id. So do `include` and
        // `truncation`, which change the answer, and `previous_response_id`, which names a fixed conversation.
        Dialect::Responses => &[
            "client_metadata",
            "metadata",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "user",
        ],
        Dialect::Gemini => &["labels", "serviceTier", "service_tier", "store"],
    };
    matches!(name, "model" | "stream") || names.contains(&name)
}

/// Hashes the caller's bytes, not what they decode to: every field counts, known or not.
fn of_wire(meaning: &mut Meaning, wire: &Wire) -> Option<()> {
    let Json::Object(fields) = serde_json::from_slice(wire.body()).ok()? else { return None };
    meaning.text("wire");
    meaning.number(f64::from(wire.dialect() as u8));
    meaning.optional(wire.max_tokens(), |meaning, tokens| meaning.number(tokens.into()));
    // Betas and versions change the answer.
    let mut headers: Vec<_> = wire.header_map().iter().collect();
    headers.sort_by_key(|(name, _)| name.as_str());
    meaning.count(headers.len());
    for (name, value) in headers {
        meaning.text(name.as_str());
        meaning.bytes(value.as_bytes());
    }
    let dialect = wire.dialect();
    let says = || fields.iter().filter(|(name, _)| !is_bookkeeping(dialect, name));
    meaning.count(says().count());
    for (name, value) in says() {
        meaning.text(name);
        meaning.json(value);
    }
    Some(())
}

fn of_chat(meaning: &mut Meaning, chat: &Chat) {
    let Chat { model: _, stream: _, system, messages, max_tokens, temperature, top_p, stop, thinking, extra, .. } =
        chat;
    meaning.text("chat");
    meaning.optional_text(system.as_deref());
    meaning.count(messages.len());
    messages.iter().for_each(|message| of_message(meaning, message));
    meaning.optional(max_tokens.as_ref(), |meaning, tokens| meaning.number((*tokens).into()));
    meaning.optional(*temperature, Meaning::number);
    meaning.optional(*top_p, Meaning::number);
    meaning.count(stop.len());
    stop.iter().for_each(|stop| meaning.text(stop));
    of_shape(meaning, chat);
    meaning.optional(*thinking, |meaning, thinking| match thinking {
        Thinking::Off => meaning.text("off"),
        Thinking::Auto => meaning.text("auto"),
        Thinking::Budget(tokens) => meaning.number(tokens.into()),
        Thinking::Effort(effort) => meaning.text(effort.name()),
        _ => unreachable!("steadfast-core has no other amount"),
    });
    meaning.optional(extra.as_ref(), |meaning, extra| {
        of_extra(meaning, extra, |name| !is_bookkeeping(extra.dialect, name));
    });
}

/// Hashes what shapes an answer: the tools and the requested format.
pub(super) fn of_shape(meaning: &mut Meaning, chat: &Chat) {
    meaning.count(chat.tools.len());
    for Tool { name, description, parameters, strict, extra, .. } in &chat.tools {
        meaning.text(name);
        meaning.optional_text(description.as_deref());
        of_json(meaning, parameters);
        meaning.optional(*strict, Meaning::flag);
        meaning.optional(extra.as_ref(), |meaning, extra| of_extra(meaning, extra, |_| true));
    }
    meaning.optional(chat.tool_choice.as_ref(), |meaning, choice| match choice {
        ToolChoice::Auto => meaning.number(0.0),
        ToolChoice::Required => meaning.number(1.0),
        ToolChoice::None => meaning.number(2.0),
        ToolChoice::Named(name) => meaning.text(name),
    });
    meaning.optional(chat.parallel_tool_calls, Meaning::flag);
    meaning.optional(chat.output.as_ref(), |meaning, output| {
        meaning.text(&output.name);
        meaning.flag(output.strict);
        meaning.optional(output.schema.as_ref(), of_json);
    });
}

/// Hashes one message. The cost and the provider of an earlier answer are not sent, and do not count.
pub(super) fn of_message(meaning: &mut Meaning, message: &Message) {
    let Message { role, content, .. } = message;
    meaning.text(match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    });
    of_parts(meaning, content);
}

#[warn(clippy::wildcard_enum_match_arm, reason = "each part has its hash")]
fn of_parts(meaning: &mut Meaning, parts: &[Part]) {
    meaning.count(parts.len());
    for part in parts {
        match part {
            Part::Text(text) => named(meaning, "text", text),
            Part::Refusal(text) => named(meaning, "refusal", text),
            Part::Image(image) => {
                meaning.text("image");
                of_media(meaning, &image.media);
            }
            Part::Document(document) => {
                meaning.text("document");
                of_media(meaning, &document.media);
                meaning.optional_text(document.name.as_deref());
            }
            Part::ToolCall(ToolCall { id, name, arguments, opaque, .. }) => {
                meaning.text("tool call");
                [id, name, arguments].into_iter().for_each(|text| meaning.text(text));
                of_opaque(meaning, opaque.as_ref());
            }
            Part::ToolResult(result) => {
                meaning.text("tool result");
                meaning.text(&result.call_id);
                meaning.optional_text(result.name.as_deref());
                of_parts(meaning, &result.content);
                meaning.flag(result.is_error);
            }
            Part::Reasoning(reasoning) => {
                named(meaning, "reasoning", &reasoning.text);
                of_opaque(meaning, reasoning.opaque.as_ref());
            }
            Part::Other { dialect, value } => {
                named(meaning, "other", &dialect.to_string());
                of_json(meaning, value);
            }
            Part::Extra { of, extra } => {
                named(
                    meaning,
                    "extra",
                    match of {
                        ExtraOf::Part => "part",
                        ExtraOf::Turn => "turn",
                        ExtraOf::Answer => "answer",
                    },
                );
                of_extra(meaning, extra, |_| true);
            }
            _ => unreachable!("steadfast-core has no other part"),
        }
    }
}

fn named(meaning: &mut Meaning, name: &str, text: &str) {
    meaning.text(name);
    meaning.text(text);
}

fn of_media(meaning: &mut Meaning, media: &Media) {
    match media {
        Media::Base64 { media_type, data } => named(meaning, media_type, data),
        Media::Url(url) => named(meaning, "url", url),
        Media::File(id) => named(meaning, "file", id),
    }
}

fn of_opaque(meaning: &mut Meaning, opaque: Option<&Opaque>) {
    meaning.optional(opaque, |meaning, opaque| {
        named(meaning, &opaque.dialect.to_string(), &opaque.token);
        meaning.flag(opaque.redacted);
    });
}

fn of_extra(meaning: &mut Meaning, extra: &Extra, counts: impl Fn(&str) -> bool) {
    meaning.text(&extra.dialect.to_string());
    let Ok(Json::Object(fields)) = extra.fields.read() else { return meaning.text(extra.fields.as_str()) };
    let counted = || fields.iter().filter(|(name, _)| counts(name));
    meaning.count(counted().count());
    for (name, value) in counted() {
        meaning.text(name);
        meaning.json(value);
    }
}

fn of_json(meaning: &mut Meaning, json: &crate::chat::Json) {
    match json.read() {
        Ok(read) => meaning.json(&read),
        // The text is nested too deep to parse.
        Err(_) => meaning.text(json.as_str()),
    }
}
