use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{Extra, ExtraOf, FinishReason, Part, ServiceTier, Usage},
    json::{Count, object, parse, raw, read, read_text, service_tier, word},
    prices::{
        Usd,
        own_cost::{self, OwnCost, Upstream},
    },
    protocol::Fault,
    wire::responses::tool_names,
};

/// A response: a whole answer, or the one in a stream's first and last events.
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    #[serde(borrow, default, deserialize_with = "word")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "word")]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "word")]
    object: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "word")]
    status: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "raw")]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "object")]
    incomplete_details: Option<Incomplete<'a>>,
    #[serde(borrow, default)]
    pub(super) output: Option<Vec<&'a RawValue>>,
    #[serde(default, deserialize_with = "object")]
    usage: Option<Tokens>,
    #[serde(default, deserialize_with = "service_tier")]
    service_tier: ServiceTier,
}

#[derive(Deserialize)]
struct Incomplete<'a> {
    #[serde(borrow, default, deserialize_with = "word")]
    reason: Option<Cow<'a, str>>,
}

impl<'a> Answer<'a> {
    /// Parses a body, or the response in an event. One that reports an error in its place is a fault.
    pub(super) fn read(json: &'a [u8]) -> Result<Self, Fault> {
        let answer: Self = parse(json)?;
        if answer.error.is_some_and(is_error) || answer.object.as_deref() == Some("error") {
            return Err(Fault::Reported(serde_json::from_slice(json)?));
        }
        if answer.status.as_deref() == Some("failed") {
            return Err(LlmError::new(ErrorKind::Server, "the response failed, and the provider gives no cause").into());
        }
        Ok(answer)
    }

    pub(super) fn id(&self) -> Option<String> {
        self.id.as_deref().filter(|id| !id.is_empty()).map(str::to_owned)
    }

    pub(super) fn model(&self) -> Option<String> {
        self.model.as_deref().filter(|model| !model.is_empty()).map(str::to_owned)
    }

    /// Returns the reason that the model stopped. `called`: the answer has calls of the caller's tools. `declined`: it
    /// has a refusal.
    pub(super) fn finish(&self, called: bool, declined: bool) -> FinishReason {
        let reason = self.incomplete_details.as_ref().and_then(|details| details.reason.as_deref());
        match (self.status.as_deref().unwrap_or_default(), reason) {
            ("incomplete", Some("max_output_tokens" | "max_tokens")) => FinishReason::Length,
            ("incomplete", Some("content_filter")) if declined => FinishReason::Refusal,
            ("incomplete", Some("content_filter")) => FinishReason::Filtered,
            ("incomplete", reason) => FinishReason::Other(reason.unwrap_or("incomplete").to_owned()),
            // The answer is still to come: the request asked for it in the background.
            ("queued" | "in_progress", _) => FinishReason::Paused,
            ("cancelled", _) => FinishReason::Other("cancelled".to_owned()),
            _ if called => FinishReason::ToolUse,
            _ if declined => FinishReason::Refusal,
            _ => FinishReason::Stop,
        }
    }
}

impl Answer<'_> {
    /// Returns the tokens used.
    pub(super) fn usage(&self) -> Option<Usage> {
        let mut usage = self.usage?.usage();
        usage.service_tier = self.service_tier;
        Some(usage)
    }
}

/// Returns true for the value of an `error` field that reports one.
pub(super) fn is_error(error: &RawValue) -> bool {
    !matches!(error.get(), "null" | "false" | "\"\"" | "{}")
}

/// The tokens used. Cached tokens are a part of the input, and reasoning is a part of the output.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Tokens {
    #[serde(default)]
    input_tokens: Count,
    #[serde(default)]
    output_tokens: Count,
    #[serde(default, deserialize_with = "object")]
    input_tokens_details: Option<InputDetails>,
    #[serde(default, deserialize_with = "object")]
    output_tokens_details: Option<OutputDetails>,
    /// The server's own figure of the cost.
    #[serde(default, deserialize_with = "own_cost::dollars")]
    cost: Option<Usd>,
    #[serde(default, deserialize_with = "object")]
    cost_details: Option<Upstream>,
    #[serde(default, deserialize_with = "own_cost::flag")]
    is_byok: bool,
    #[serde(default, deserialize_with = "own_cost::ticks")]
    cost_in_usd_ticks: Option<Usd>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Count,
    #[serde(default)]
    cache_write_tokens: Count,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Count,
}

impl Tokens {
    fn usage(self) -> Usage {
        let mut usage = Usage::new(self.input_tokens.get(), self.output_tokens.get());
        let input = self.input_tokens_details.unwrap_or_default();
        usage.cache_read = input.cached_tokens.get();
        usage.cache_write = input.cache_write_tokens.get();
        usage.reasoning = self.output_tokens_details.unwrap_or_default().reasoning_tokens.get();
        let own = OwnCost { cost: self.cost, upstream: self.cost_details, ticks: self.cost_in_usd_ticks };
        usage.cost = own.total(self.is_byok);
        usage
    }
}

/// An item of an answer's output.
#[derive(Deserialize)]
pub(super) struct Item<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "word")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "word")]
    role: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "word")]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "word")]
    pub(super) call_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "word")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "word")]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "word")]
    phase: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "word")]
    pub(super) encrypted_content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    summary: Option<&'a RawValue>,
}

/// The kind of an item, as far as the neutral form has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemKind {
    Message,
    Reasoning,
    Function,
    Custom,
    /// One that only this dialect knows, such as a search that ran at the provider.
    Own,
}

impl Item<'_> {
    pub(super) fn kind(&self) -> ItemKind {
        match self.kind.as_deref() {
            // Compaction repeats the user's messages.
            Some("message") if self.role.as_deref().is_none_or(|role| role == "assistant") => ItemKind::Message,
            Some("reasoning") => ItemKind::Reasoning,
            Some("function_call") => ItemKind::Function,
            Some("custom_tool_call") => ItemKind::Custom,
            _ => ItemKind::Own,
        }
    }

    /// Returns the neutral name of the called tool.
    pub(super) fn tool(&self) -> Option<String> {
        let name = self.name.as_deref().filter(|name| !name.is_empty())?;
        Some(tool_names::join(self.namespace.as_deref().unwrap_or_default(), name))
    }

    /// Returns the fields that must go back with the item and have no place in the neutral form, for the part behind
    /// the item's first one.
    pub(super) fn beside(&self) -> Option<Part> {
        let mut fields = Map::new();
        let mut add = |name: &str, value: &str| _ = fields.insert(name.to_owned(), value.into());
        match self.kind() {
            ItemKind::Message => {
                if let Some(phase) = &self.phase {
                    add("phase", phase);
                }
            }
            kind @ (ItemKind::Function | ItemKind::Custom) => {
                if kind == ItemKind::Custom {
                    add("type", "custom_tool_call");
                }
                if let Some(namespace) = &self.namespace {
                    add("namespace", namespace);
                    add("name", self.name.as_deref().unwrap_or_default());
                }
            }
            ItemKind::Reasoning | ItemKind::Own => {}
        }
        let extra = || Extra::new(Dialect::Responses, json!({ "item": fields }));
        (!fields.is_empty()).then(|| Part::Extra { of: ExtraOf::Part, extra: extra() })
    }

    /// Returns the arguments of a function: a text of JSON, or at some servers the object itself.
    pub(super) fn arguments(&self) -> String {
        self.arguments.map(text_of).unwrap_or_default()
    }

    /// Returns the free text for a custom tool.
    pub(super) fn input(&self) -> String {
        self.input.map(text_of).unwrap_or_default()
    }

    /// Returns the contents of a message; a text alone is one of them.
    pub(super) fn contents(&self) -> Result<Vec<Content<'_>>, Fault> {
        let Some(content) = self.content else { return Ok(Vec::new()) };
        match content.get().as_bytes().first() {
            Some(b'[') => {
                let parts: Vec<&RawValue> = parse(content.get().as_bytes())?;
                parts.into_iter().map(Content::read).collect()
            }
            Some(b'"') => Ok(vec![Content::Text { text: text_of(content), annotations: None }]),
            _ => Ok(Vec::new()),
        }
    }

    /// Returns the readable thought: the paragraphs of its summary, or else of its text.
    pub(super) fn thought(&self) -> Vec<(Paragraph, String)> {
        #[derive(Deserialize)]
        struct Read<'a> {
            #[serde(borrow, default, deserialize_with = "word")]
            text: Option<Cow<'a, str>>,
        }
        let paragraphs = |list: Option<&RawValue>, of: fn(u32) -> Paragraph| -> Vec<(Paragraph, String)> {
            let read: Vec<Read<'_>> = list.and_then(read).unwrap_or_default();
            let texts = (0..).zip(read).filter_map(|(place, read)| Some((of(place), read.text?.into_owned())));
            texts.filter(|(_, text)| !text.is_empty()).collect()
        };
        let summary = paragraphs(self.summary, Paragraph::Summary);
        if summary.is_empty() { paragraphs(self.content, Paragraph::Text) } else { summary }
    }
}

/// A paragraph of a thought: of its summary or of its text, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Paragraph {
    Summary(u32),
    Text(u32),
}

/// A part of a message.
pub(super) enum Content<'a> {
    Text { text: String, annotations: Option<&'a RawValue> },
    Refusal(String),
    Own(&'a RawValue),
}

impl<'a> Content<'a> {
    fn read(part: &'a RawValue) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow, default, rename = "type", deserialize_with = "word")]
            kind: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            text: Option<&'a RawValue>,
            #[serde(borrow, default)]
            refusal: Option<&'a RawValue>,
            #[serde(borrow, default)]
            annotations: Option<&'a RawValue>,
        }
        let fields: Fields<'_> = parse(part.get().as_bytes())?;
        let text = |raw: Option<&RawValue>| raw.map(text_of).unwrap_or_default();
        Ok(match fields.kind.as_deref() {
            Some("output_text" | "text") => Self::Text { text: text(fields.text), annotations: fields.annotations },
            Some("refusal") => Self::Refusal(text(fields.refusal)),
            _ => Self::Own(part),
        })
    }
}

/// Returns a text; of any other value its JSON.
pub(super) fn text_of(raw: &RawValue) -> String {
    match raw.get() {
        "null" => String::new(),
        json => read_text(raw).unwrap_or_else(|| json.to_owned()),
    }
}

/// Returns the annotations of a message's texts as the sources that its reader sees.
pub(super) fn sources<'a>(contents: impl IntoIterator<Item = &'a Content<'a>>) -> Option<Part> {
    let lists = contents.into_iter().filter_map(|content| match content {
        Content::Text { annotations: Some(list), .. } => read::<Vec<Value>>(list),
        _ => None,
    });
    let all: Vec<Value> = lists.flatten().collect();
    let fields = || Map::from_iter([("annotations".to_owned(), Value::Array(all.clone()))]);
    (!all.is_empty()).then(|| Part::Extra { of: ExtraOf::Answer, extra: Extra::new(Dialect::Responses, fields()) })
}
