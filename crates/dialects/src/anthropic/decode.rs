use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use crate::{
    Dialect,
    chat::{Extra, ExtraOf, FinishReason, Json, Message, Opaque, Part, Reasoning, Role, ServiceTier, ToolCall, Usage},
    json::{Count, lenient, object, parse, raw, read, service_tier, text, word},
    prices::{
        PriceTable, Usd,
        own_cost::{self, OwnCost, Upstream},
    },
    protocol::Fault,
};

#[derive(Deserialize)]
struct Answer<'a, B> {
    #[serde(borrow, default, rename = "type", deserialize_with = "word")]
    kind: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "text")]
    id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    content: Option<Vec<B>>,
    #[serde(borrow, default, deserialize_with = "word")]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "object")]
    usage: Option<Tokens>,
    #[serde(borrow, default, deserialize_with = "raw")]
    error: Option<&'a RawValue>,
}

/// Decodes a whole answer.
pub(super) fn message(body: &[u8], prices: &PriceTable) -> Result<Message, Fault> {
    let answer: Answer<'_, Block<'_>> = parse(body)?;
    if answer.kind.as_deref() == Some("error") || answer.error.is_some_and(|error| error.get() != "null") {
        return Err(Fault::Reported(serde_json::from_slice(body)?));
    }
    let mut message = Message::new(Role::Assistant, Vec::new());
    let Some(content) = answer.content else {
        return Err(Fault::Malformed(serde::de::Error::missing_field("content")));
    };
    // A block of another kind goes on as it is.
    let raw = match content.iter().all(Block::is_known) {
        true => Vec::new(),
        false => parse::<Answer<'_, &RawValue>>(body)?.content.unwrap_or_default(),
    };
    for (place, block) in content.into_iter().enumerate() {
        message.content.extend(parts(block, raw.get(place).copied()));
    }
    message.id = answer.id;
    message.model = answer.model;
    message.finish = answer.stop_reason.as_deref().map(finish);
    message.usage = answer.usage.map(|tokens| tokens.usage(message.model.as_deref(), prices));
    Ok(message)
}

/// A content block, or its beginning in a stream.
#[derive(Deserialize)]
pub(super) struct Block<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "word")]
    pub(super) kind: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "text")]
    pub(super) text: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) thinking: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) signature: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) data: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    pub(super) name: Option<String>,
    #[serde(borrow, default, deserialize_with = "raw")]
    pub(super) input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) citations: Option<&'a RawValue>,
}

impl Block<'_> {
    /// Returns true for the kinds of which [`part`] knows all fields.
    fn is_known(&self) -> bool {
        matches!(self.kind.as_deref(), Some("text" | "thinking" | "redacted_thinking" | "tool_use"))
    }
}

/// Returns the part of a block, with its citations behind it, if it has any. `raw` is a block of another kind.
fn parts(block: Block<'_>, raw: Option<&RawValue>) -> impl Iterator<Item = Part> {
    let cited: Option<Vec<Value>> = block.citations.and_then(read);
    [Some(part(block, raw)), cited.and_then(citations)].into_iter().flatten()
}

/// Returns the citations of the text before them.
pub(super) fn citations(cited: Vec<Value>) -> Option<Part> {
    if cited.is_empty() {
        return None;
    }
    let fields = Map::from_iter([("citations".to_owned(), Value::Array(cited))]);
    Some(Part::Extra { of: ExtraOf::Part, extra: Extra::new(Dialect::Anthropic, fields) })
}

fn part(block: Block<'_>, raw: Option<&RawValue>) -> Part {
    match block.kind.as_deref() {
        Some("text") => Part::Text(block.text.unwrap_or_default()),
        Some("thinking") => {
            let text = block.thinking.unwrap_or_default();
            // Some servers of this dialect sign nothing: the account signs such a thought itself.
            let token = block.signature.unwrap_or_default();
            let opaque = (!text.is_empty() || !token.is_empty()).then(|| opaque(token, false));
            Part::Reasoning(Reasoning { text, opaque })
        }
        Some("redacted_thinking") => {
            let opaque = block.data.map(|token| opaque(token, true));
            Part::Reasoning(Reasoning { text: String::new(), opaque })
        }
        Some("tool_use") => {
            let arguments = block.input.map_or("{}", RawValue::get);
            Part::ToolCall(ToolCall::new(block.id.unwrap_or_default(), block.name.unwrap_or_default(), arguments))
        }
        _ => Part::Other { dialect: Dialect::Anthropic, value: Json::of(raw.unwrap_or(RawValue::NULL)) },
    }
}

pub(super) fn opaque(token: String, redacted: bool) -> Opaque {
    Opaque { dialect: Dialect::Anthropic, token, redacted }
}

pub(super) fn finish(reason: &str) -> FinishReason {
    match reason {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "tool_use" => FinishReason::ToolUse,
        "max_tokens" => FinishReason::Length,
        "model_context_window_exceeded" => FinishReason::ContextFull,
        "refusal" => FinishReason::Refusal,
        "pause_turn" => FinishReason::Paused,
        // Converse's words, for which Messages has none.
        "malformed_model_output" | "malformed_tool_use" => FinishReason::ModelError(reason.to_owned()),
        other => FinishReason::Other(other.to_owned()),
    }
}

/// Token counts; in a stream, those in one event.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Tokens {
    #[serde(default)]
    input_tokens: Count,
    #[serde(default)]
    cache_creation_input_tokens: Count,
    #[serde(default)]
    cache_read_input_tokens: Count,
    #[serde(default)]
    output_tokens: Count,
    #[serde(default, deserialize_with = "object")]
    output_tokens_details: Option<Details>,
    /// The calls of models that made the answer: a server's own fallback, an advisor, a summary before the turn. The
    /// counts above are those of the turn alone.
    #[serde(default, deserialize_with = "lenient")]
    iterations: Option<Box<[Iteration]>>,
    /// The server's own figure of the cost.
    #[serde(default, deserialize_with = "own_cost::dollars")]
    cost: Option<Usd>,
    #[serde(default, deserialize_with = "object")]
    cost_details: Option<Upstream>,
    #[serde(default, deserialize_with = "own_cost::flag")]
    is_byok: bool,
    /// `priority` is capacity that was bought beforehand, at the usual price.
    #[serde(default, deserialize_with = "service_tier")]
    service_tier: ServiceTier,
    #[serde(default, deserialize_with = "service_tier")]
    speed: ServiceTier,
}

/// One of the calls that made an answer.
#[derive(Clone, Debug, Deserialize)]
struct Iteration {
    /// Its model, if it is not the answer's.
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    #[serde(flatten)]
    tokens: Tokens,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Details {
    #[serde(default)]
    thinking_tokens: Count,
    #[serde(default)]
    reasoning_tokens: Count,
}

impl Tokens {
    /// Replaces counts by those of a later event; counts that it lacks stay.
    pub(super) fn update(&mut self, later: Self) {
        let newer = |old: &mut Count, new: Count| {
            if new.0.is_some() {
                *old = new;
            }
        };
        newer(&mut self.input_tokens, later.input_tokens);
        newer(&mut self.cache_creation_input_tokens, later.cache_creation_input_tokens);
        newer(&mut self.cache_read_input_tokens, later.cache_read_input_tokens);
        newer(&mut self.output_tokens, later.output_tokens);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
        self.iterations = later.iterations.or_else(|| self.iterations.take());
        for (tier, later) in [(&mut self.service_tier, later.service_tier), (&mut self.speed, later.speed)] {
            if !later.is_standard() {
                *tier = later;
            }
        }
        (self.cost, self.cost_details, self.is_byok) = (later.cost, later.cost_details, later.is_byok);
    }

    /// Converts to the neutral form: `input_tokens` excludes reads and writes of the cache, the neutral input includes
    /// them. An answer of this model that several calls made costs what they cost.
    pub(super) fn usage(&self, model: Option<&str>, prices: &PriceTable) -> Usage {
        let own = OwnCost { cost: self.cost, upstream: self.cost_details, ticks: None };
        let of_calls = || {
            let calls = self.iterations.as_deref().filter(|calls| calls.len() > 1)?;
            calls.iter().map(|call| prices.cost(None, call.model.as_deref().or(model)?, &call.tokens.counts())).sum()
        };
        let mut usage = self.counts();
        usage.cost = own.total(self.is_byok).or_else(of_calls);
        usage
    }

    fn counts(&self) -> Usage {
        let (read, write) = (self.cache_read_input_tokens.get(), self.cache_creation_input_tokens.get());
        let input = self.input_tokens.get().saturating_add(read).saturating_add(write);
        let details = self.output_tokens_details.unwrap_or_default();
        let mut usage = Usage::new(input, self.output_tokens.get());
        usage.cache_read = read;
        usage.cache_write = write;
        usage.service_tier = match (self.service_tier, self.speed) {
            (ServiceTier::Batch, _) => ServiceTier::Batch,
            (_, speed) => speed,
        };
        usage.reasoning = details.thinking_tokens.0.or(details.reasoning_tokens.0).unwrap_or(0);
        usage
    }
}
