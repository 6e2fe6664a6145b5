use std::{borrow::Cow, collections::HashMap};

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::decode::{Block, Tokens, citations, finish, opaque};
use crate::{
    Dialect, StreamEvent,
    chat::Part,
    json::{index, object, parse, read, text, word},
    prices::PriceTable,
    protocol::{Fault, StreamDecoder, TextFields, TextShape},
    sse::SseEvent,
};

/// Decodes a Messages stream. The end mark is `message_stop`.
pub struct Decoder {
    prices: PriceTable,
    pub(crate) shape: TextShape,
    /// True once the stream has begun.
    started: bool,
    model: Option<String>,
    tokens: Tokens,
    /// Blocks of other kinds than text, thinking and tool calls: each goes out whole at its end.
    open: Vec<OpenBlock>,
    /// The tool calls under way.
    calls: Vec<Call>,
    /// The citations of the texts under way.
    cited: HashMap<u32, Vec<Value>>,
    /// The thought under way, while no signature of it has come. Some servers of this dialect sign nothing.
    unsigned: Option<Unsigned>,
}

struct Unsigned {
    index: u32,
    has_words: bool,
}

impl std::fmt::Debug for Decoder {
    /// Writes nothing of the content.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

/// A tool call with the arguments of its block's start, usually `{}`, until a piece of them arrives.
struct Call {
    index: u32,
    whole: Option<String>,
}

struct OpenBlock {
    index: u32,
    value: Value,
    input: String,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "word")]
    kind: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "index")]
    index: Option<u32>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    /// Boxed: it would be half of what each event's decoding moves.
    #[serde(default, deserialize_with = "object")]
    usage: Option<Box<Tokens>>,
}

#[derive(Deserialize)]
struct Start {
    #[serde(default, deserialize_with = "text")]
    id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    #[serde(default, deserialize_with = "object")]
    usage: Option<Tokens>,
}

#[derive(Default, Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "word")]
    kind: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "text")]
    text: Option<String>,
    #[serde(default, deserialize_with = "text")]
    thinking: Option<String>,
    #[serde(default, deserialize_with = "text")]
    signature: Option<String>,
    #[serde(default, deserialize_with = "text")]
    partial_json: Option<String>,
    #[serde(borrow, default)]
    citation: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "word")]
    stop_reason: Option<Cow<'a, str>>,
}

impl StreamDecoder for Decoder {
    fn event(&mut self, sse: &SseEvent, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        if let Some((event, _)) = self.shape.read(sse.data(), &TEXT_FIELDS) {
            out.push(event);
            return Ok(());
        }
        let before = out.len();
        self.parsed(sse, out)?;
        self.shape.learn(sse.data(), &TEXT_FIELDS, &out[before..]);
        Ok(())
    }

    fn is_whole(&self, _: bool) -> bool {
        false
    }
}

const TEXT_FIELDS: TextFields = TextFields { text: "text", thought: Some("thinking"), other: None };

impl Decoder {
    pub(crate) fn new(prices: PriceTable) -> Self {
        Self {
            prices,
            shape: TextShape::default(),
            started: false,
            model: None,
            tokens: Tokens::default(),
            open: Vec::new(),
            calls: Vec::new(),
            cited: HashMap::new(),
            unsigned: None,
        }
    }

    fn parsed(&mut self, sse: &SseEvent, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        let event: Event<'_> = parse(sse.data())?;
        let index = event.index.unwrap_or(0);
        match event.kind.as_deref() {
            // An answer before another `message_start` is incomplete, without a mark that says so.
            Some("message_start") if std::mem::replace(&mut self.started, true) => {
                return Err(Fault::Malformed(serde::de::Error::custom("another answer begins within this one")));
            }
            Some("message_start") => {
                let start: Start = serde_json::from_str(event.message.map_or("{}", RawValue::get))?;
                let has_usage = start.usage.is_some();
                self.tokens = start.usage.unwrap_or_default();
                self.model.clone_from(&start.model);
                out.push(StreamEvent::Start { id: start.id, model: start.model });
                out.extend(has_usage.then(|| self.usage()));
            }
            Some("content_block_start") => self.begin(index, event.content_block.map_or("{}", RawValue::get), out)?,
            Some("content_block_delta") => {
                let json = event.delta.map_or("{}", RawValue::get);
                let delta: Delta<'_> = serde_json::from_str(json)?;
                self.delta(index, delta, json, out)?;
            }
            Some("content_block_stop") => self.end(index, out),
            Some("message_delta") => {
                let delta: Delta<'_> = serde_json::from_str(event.delta.map_or("{}", RawValue::get))?;
                if let Some(tokens) = event.usage {
                    self.tokens.update(*tokens);
                    out.push(self.usage());
                }
                out.extend(delta.stop_reason.as_deref().map(|reason| StreamEvent::Finish(finish(reason))));
            }
            Some("message_stop") => out.push(StreamEvent::End),
            Some("ping") => out.push(StreamEvent::KeepAlive),
            Some("error") => return Err(Fault::Reported(serde_json::from_slice(sse.data())?)),
            // A proxy in between reports in its own form.
            None if sse.event() == b"error" => return Err(Fault::Reported(serde_json::from_slice(sse.data())?)),
            None => {
                let value: Value = serde_json::from_slice(sse.data())?;
                if value.get("error").is_some_and(|error| !error.is_null()) {
                    return Err(Fault::Reported(value));
                }
            }
            // The API adds kinds of events, which are to be ignored.
            Some(_) => {}
        }
        Ok(())
    }

    fn usage(&self) -> StreamEvent {
        StreamEvent::Usage(self.tokens.usage(self.model.as_deref(), &self.prices))
    }

    fn begin(&mut self, index: u32, json: &str, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        let block: Block<'_> = serde_json::from_str(json)?;
        if self.open.len() + self.calls.len() >= MOST_OPEN {
            return Err(Fault::Malformed(serde::de::Error::custom("too many content blocks are open at once")));
        }
        match block.kind.as_deref() {
            Some("text") => {
                out.push(StreamEvent::Text { index, text: block.text.unwrap_or_default() });
                let cited: Option<Vec<Value>> = block.citations.and_then(read);
                if let Some(cited) = cited.filter(|cited| !cited.is_empty()) {
                    self.cited.entry(index).or_default().extend(cited);
                }
            }
            Some("thinking") => {
                let text = block.thinking.unwrap_or_default();
                let token = block.signature.filter(|token| !token.is_empty());
                self.unsigned = token.is_none().then_some(Unsigned { index, has_words: !text.is_empty() });
                out.push(StreamEvent::Reasoning { index, text });
                out.extend(token.map(|token| StreamEvent::Signature { index, opaque: opaque(token, false) }));
            }
            Some("redacted_thinking") => {
                let token = block.data.unwrap_or_default();
                out.push(StreamEvent::Signature { index, opaque: opaque(token, true) });
            }
            Some("tool_use") => {
                let (id, name) = (block.id.unwrap_or_default(), block.name.unwrap_or_default());
                out.push(StreamEvent::ToolCall { index, id, name, opaque: None });
                // If pieces follow, the arguments are these pieces alone, without those of the block's start.
                let whole = block.input.map_or("{}", RawValue::get);
                let whole = if is_empty_object(whole) { "{}" } else { whole };
                self.calls.push(Call { index, whole: Some(whole.to_owned()) });
            }
            _ => self.open.push(OpenBlock { index, value: serde_json::from_str(json)?, input: String::new() }),
        }
        Ok(())
    }

    fn delta(&mut self, index: u32, delta: Delta<'_>, json: &str, out: &mut Vec<StreamEvent>) -> Result<(), Fault> {
        match delta.kind.as_deref() {
            Some("text_delta") => out.push(StreamEvent::Text { index, text: delta.text.unwrap_or_default() }),
            Some("thinking_delta") => {
                let text = delta.thinking.unwrap_or_default();
                if let Some(unsigned) = self.unsigned.as_mut().filter(|unsigned| unsigned.index == index) {
                    unsigned.has_words |= !text.is_empty();
                }
                out.push(StreamEvent::Reasoning { index, text });
            }
            Some("signature_delta") => {
                if let Some(token) = delta.signature.filter(|token| !token.is_empty()) {
                    self.unsigned = None;
                    out.push(StreamEvent::Signature { index, opaque: opaque(token, false) });
                }
            }
            Some("input_json_delta") => {
                let json = delta.partial_json.unwrap_or_default();
                if let Some(call) = self.calls.iter_mut().find(|call| call.index == index) {
                    if !json.is_empty() {
                        call.whole = None;
                    }
                    out.push(StreamEvent::Arguments { index, json });
                } else if let Some(open) = self.open.iter_mut().find(|open| open.index == index) {
                    open.input.push_str(&json);
                }
            }
            Some("citations_delta") => {
                if let Some(citation) = delta.citation.and_then(read) {
                    self.cited.entry(index).or_default().push(citation);
                }
            }
            _ => {
                // Other kinds of blocks grow in their own way: texts by additions, other fields by replacement.
                let Some(open) = self.open.iter_mut().find(|open| open.index == index) else { return Ok(()) };
                let Some(fields) = open.value.as_object_mut() else { return Ok(()) };
                let more: Map<String, Value> = serde_json::from_str(json)?;
                for (name, value) in more.into_iter().filter(|(name, _)| name != "type") {
                    match (fields.get_mut(&name), value) {
                        (Some(Value::String(so_far)), Value::String(more)) => so_far.push_str(&more),
                        (_, value) => {
                            fields.insert(name, value);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, index: u32, out: &mut Vec<StreamEvent>) {
        if self.unsigned.take_if(|unsigned| unsigned.index == index).is_some_and(|unsigned| unsigned.has_words) {
            out.push(StreamEvent::Signature { index, opaque: opaque(String::new(), false) });
        }
        if let Some(place) = self.calls.iter().position(|call| call.index == index) {
            let whole = self.calls.swap_remove(place).whole;
            out.extend(whole.map(|json| StreamEvent::Arguments { index, json }));
        }
        let cited = self.cited.remove(&index).and_then(citations);
        out.extend(cited.map(|part| StreamEvent::Part { index, part }));
        let Some(place) = self.open.iter().position(|open| open.index == index) else { return };
        let mut open = self.open.swap_remove(place);
        if let (Some(fields), Ok(input)) = (open.value.as_object_mut(), serde_json::from_str(&open.input)) {
            let _replaced: Option<Value> = fields.insert("input".to_owned(), input);
        }
        out.push(StreamEvent::Part {
            index,
            part: Part::Other { dialect: Dialect::Anthropic, value: open.value.into() },
        });
    }
}

/// Today blocks come one after the other; the limit is far above any sensible number side by side.
const MOST_OPEN: usize = 256;

fn is_empty_object(json: &str) -> bool {
    json.bytes().all(|byte| matches!(byte, b'{' | b'}') || byte.is_ascii_whitespace())
}
