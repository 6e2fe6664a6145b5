//! Anthropic's `message`, and its stream from `message_start` to `message_stop`.

use std::collections::{HashMap, HashSet, VecDeque};

use memchr::memmem;
use serde::{Serialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::{arguments, error, json_of, left_out, new_id};
use crate::{
    Dialect, ErrorKind, Frame, LlmError, StreamEvent,
    chat::{FinishReason, Message, Opaque, Part, Usage},
    translate::{envelope_of_id, mark_call, request::Report, rules::Feature},
    wire::foreign::{seal, seal_call},
};

pub(super) fn whole(message: &Message, report: &mut Report) -> Value {
    let mut content = Vec::new();
    for part in &message.content {
        match part {
            Part::Text(text) | Part::Refusal(text) if text.is_empty() => {}
            Part::Text(text) | Part::Refusal(text) => content.push(text_block(text)),
            Part::Reasoning(reasoning) => content.extend(thought(&reasoning.text, reasoning.opaque.as_ref())),
            Part::ToolCall(call) => {
                content.extend(call.opaque.as_ref().map(of_call));
                content.extend(of_id(&call.id));
                let input = arguments(call, report);
                content.push(call_block(&mark_call(&call.id), &call.name, &input));
            }
            Part::Other { dialect: Dialect::Anthropic, value } => content.push(value.value().unwrap_or_default()),
            other => left_out(other, report),
        }
    }
    let called = message.tool_calls().next().is_some();
    let matched = message.content.iter().find_map(Part::matched_stop);
    let (reason, sequence) = stop_reason(message.finish.as_ref(), called, matched);
    json!({
        "id": message.id.clone().unwrap_or_else(|| format!("msg_{}", new_id())),
        "type": "message",
        "role": "assistant",
        "model": message.model.as_deref().unwrap_or_default(),
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "stop_details": null,
        "container": null,
        "usage": usage(message.usage.unwrap_or_default()),
    })
}

/// Returns a block of text. Anthropic's published schema requires each field of an answer, `null` or not.
fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text, "citations": null})
}

fn call_block(id: &str, name: &str, input: &Value) -> Value {
    json!({"type": "tool_use", "id": id, "name": name, "input": input, "caller": {"type": "direct"}})
}

/// Returns a whole thought; `None` if nothing of it would be left. A signature without a text is a thought that cannot
/// be read.
fn thought(text: &str, opaque: Option<&Opaque>) -> Option<Value> {
    let token = seal(opaque, Dialect::Anthropic);
    match opaque {
        Some(opaque) if text.is_empty() && (opaque.redacted || opaque.dialect != Dialect::Anthropic) => {
            Some(json!({"type": "redacted_thinking", "data": token}))
        }
        None if text.is_empty() => None,
        _ => Some(json!({"type": "thinking", "thinking": text, "signature": token})),
    }
}

/// Returns the thought that bears the signature of the call behind it: a call has no place for one.
fn of_call(opaque: &Opaque) -> Value {
    json!({"type": "redacted_thinking", "data": seal_call(opaque)})
}

/// Returns the thought that bears the id of the call behind it, if the dialect takes no such id.
fn of_id(id: &str) -> Option<Value> {
    envelope_of_id(id, Dialect::Anthropic).map(|data| json!({"type": "redacted_thinking", "data": data}))
}

/// Returns the reason, and the stop text that ended the answer.
#[warn(clippy::wildcard_enum_match_arm, reason = "each reason has its word")]
fn stop_reason(finish: Option<&FinishReason>, called: bool, matched: Option<String>) -> (&'static str, Option<String>) {
    let reason = match finish.map(FinishReason::nearest) {
        None | Some(FinishReason::Stop) if called => "tool_use",
        None | Some(FinishReason::Stop) => "end_turn",
        Some(FinishReason::ToolUse) => "tool_use",
        Some(FinishReason::Length | FinishReason::ModelError(_) | FinishReason::Other(_)) => "max_tokens",
        Some(FinishReason::ContextFull) => "model_context_window_exceeded",
        Some(FinishReason::Filtered | FinishReason::Refusal) => "refusal",
        Some(FinishReason::Paused) => "pause_turn",
        Some(_) => "max_tokens",
    };
    match matched {
        Some(text) if reason == "end_turn" => ("stop_sequence", Some(text)),
        _ => (reason, None),
    }
}

/// Returns the tokens of a whole answer, or of the beginning of a stream.
fn usage(usage: Usage) -> Value {
    let mut tokens = used(usage);
    for name in ["cache_creation", "inference_geo", "service_tier"] {
        tokens[name] = Value::Null;
    }
    tokens
}

/// Returns the tokens so far.
fn used(usage: Usage) -> Value {
    // Some servers count more tokens from the cache than in all.
    let read = usage.cache_read.min(usage.input);
    let written = usage.cache_write.min(usage.input - read);
    let thoughts = (usage.reasoning > 0).then(|| json!({ "thinking_tokens": usage.reasoning }));
    json!({
        "input_tokens": usage.input - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.output,
        "output_tokens_details": thoughts,
        "server_tool_use": null,
    })
}

/// Anthropic's stream. The dialect has one block open at a time, so a call that another provider sends beside an
/// unfinished one waits for its turn.
#[derive(Debug, Default)]
pub(super) struct Stream {
    begun: bool,
    blocks: u32,
    open: Option<OpenBlock>,
    waiting: EventQueue,
    closed_calls: HashSet<u32>,
    called: bool,
    /// The stop text that ended the answer.
    matched_stop: Option<String>,
    /// True once the arguments of a call have turned out to be no JSON, or to go on after their end.
    has_broken_call: bool,
}

/// The blocks of a provider's own events: the number of the newest, and its state.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    newest: u32,
    is_text: bool,
    is_closed: bool,
}

impl Blocks {
    /// Notes an event that passes unchanged.
    pub(super) fn note(&mut self, frame: &Frame, raw: &[u8]) {
        match frame.events().first() {
            Some(StreamEvent::Text { index, .. }) => *self = Self { newest: *index, is_text: true, is_closed: false },
            Some(StreamEvent::Reasoning { index, .. }) => {
                *self = Self { newest: *index, is_text: false, is_closed: false };
            }
            _ => self.is_closed |= memmem::find(raw, b"content_block_stop").is_some(),
        }
    }
}

#[derive(Debug)]
struct OpenBlock {
    kind: Kind,
    index: u32,
    signed: bool,
    arguments: Balance,
    /// The arguments of a call so far.
    json: String,
}

/// Events that wait, grouped by part: the part that began first goes out first.
#[derive(Debug, Default)]
struct EventQueue {
    parts: VecDeque<Vec<StreamEvent>>,
    /// The number of each part, counted from the stream's begin.
    places: HashMap<(Kind, u32), usize>,
    gone: usize,
}

impl EventQueue {
    fn push(&mut self, event: StreamEvent) {
        let part = place(&event);
        let at = part.and_then(|part| self.places.get(&part)).and_then(|at| at.checked_sub(self.gone));
        if let Some(events) = at.and_then(|at| self.parts.get_mut(at)) {
            return events.push(event);
        }
        if let Some(part) = part {
            self.places.insert(part, self.gone + self.parts.len());
        }
        self.parts.push_back(vec![event]);
    }

    fn pop(&mut self) -> Option<Vec<StreamEvent>> {
        let events = self.parts.pop_front()?;
        self.gone += 1;
        Some(events)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Text,
    Refusal,
    Thinking,
    Call,
}

/// Tells if the JSON text so far is a whole value, without reading it twice.
#[derive(Debug, Default)]
pub(super) struct Balance {
    depth: i64,
    begun: bool,
    in_text: bool,
    escaped: bool,
}

impl Balance {
    pub(super) fn read(&mut self, json: &str) {
        for byte in json.bytes() {
            if std::mem::take(&mut self.escaped) {
                continue;
            }
            match byte {
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' | b'[' => {
                    self.begun = true;
                    self.depth += 1;
                }
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.begun && self.depth <= 0 && !self.in_text
    }
}

fn place(event: &StreamEvent) -> Option<(Kind, u32)> {
    Some(match event {
        StreamEvent::Text { index, .. } => (Kind::Text, *index),
        StreamEvent::Refusal { index, .. } => (Kind::Refusal, *index),
        StreamEvent::Reasoning { index, .. } | StreamEvent::Signature { index, .. } => (Kind::Thinking, *index),
        StreamEvent::ToolCall { index, .. } | StreamEvent::Arguments { index, .. } => (Kind::Call, *index),
        _ => return None,
    })
}

impl Stream {
    pub(super) fn begin(&mut self, id: &str, model: &str, tokens: Usage, to: &mut String) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let message = json!({
            "id": id, "type": "message", "role": "assistant", "model": model, "content": [],
            "stop_reason": null, "stop_sequence": null, "stop_details": null, "container": null, "usage": usage(tokens),
        });
        put(to, &json!({"type": "message_start", "message": message}));
    }

    /// Goes on with the text of this index, after the provider's own events. Returns false if another block is open.
    pub(super) fn resume(&mut self, index: u32, passed: &Blocks) -> bool {
        self.begun = true;
        self.blocks = if passed.is_closed { passed.newest + 1 } else { passed.newest };
        if !passed.is_closed {
            let arguments = Balance::default();
            self.open = Some(OpenBlock { kind: Kind::Text, index, signed: false, arguments, json: String::new() });
        }
        passed.is_closed || passed.is_text
    }

    pub(super) fn event(&mut self, event: &StreamEvent, report: &mut Report, to: &mut String) {
        let at = place(event);
        let unfinished = self.open.as_ref().filter(|open| open.kind == Kind::Call && !open.arguments.is_whole());
        if unfinished.is_some_and(|open| at != Some((open.kind, open.index))) {
            self.waiting.push(event.clone());
            return;
        }
        self.write(event, report, to);
        while self.open.as_ref().is_none_or(|open| open.kind != Kind::Call || open.arguments.is_whole())
            && let Some(part) = self.waiting.pop()
        {
            part.iter().for_each(|event| self.write(event, report, to));
        }
    }

    pub(super) fn end(&mut self, finish: Option<&FinishReason>, tokens: Usage, report: &mut Report, to: &mut String) {
        let had_broken_call = self.has_broken_call;
        self.close(to);
        // Each part that still waits, joined.
        while let Some(part) = self.waiting.pop() {
            part.iter().for_each(|event| self.write(event, report, to));
            self.close(to);
        }
        // The reason says that the last call is cut.
        let is_cut = matches!(finish, Some(FinishReason::Length | FinishReason::ContextFull));
        // The dialect's SDKs make an empty object of broken arguments, and an agent would act on it.
        if had_broken_call || self.has_broken_call && !is_cut {
            let message = "the arguments of a tool call are not JSON";
            return put(to, &error::value(&LlmError::new(ErrorKind::InvalidOutput, message), Dialect::Anthropic).1);
        }
        let (reason, sequence) = stop_reason(finish, self.called, self.matched_stop.take());
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence, "stop_details": null, "container": null});
        put(to, &json!({"type": "message_delta", "delta": delta, "usage": used(tokens)}));
        put(to, &json!({"type": "message_stop"}));
    }

    fn write(&mut self, event: &StreamEvent, report: &mut Report, to: &mut String) {
        match event {
            StreamEvent::Text { text, .. }
            | StreamEvent::Refusal { text, .. }
            | StreamEvent::Reasoning { text, .. }
                if text.is_empty() => {}
            StreamEvent::Text { text, .. } | StreamEvent::Refusal { text, .. } => {
                self.turn_to(place(event), to, || text_block(""));
                self.delta(to, TextDelta { r#type: "text_delta", text });
            }
            StreamEvent::Reasoning { text, .. } => {
                self.turn_to(place(event), to, new_thought);
                self.delta(to, json!({"type": "thinking_delta", "thinking": text}));
            }
            // A sealed thought with a summary is one block.
            StreamEvent::Signature { opaque, .. }
                if (opaque.redacted || opaque.dialect != Dialect::Anthropic)
                    && self.open.as_ref().is_none_or(|open| Some((open.kind, open.index)) != place(event)) =>
            {
                self.close(to);
                self.alone(thought("", Some(opaque)), to);
            }
            StreamEvent::Signature { opaque, .. } => {
                self.turn_to(place(event), to, new_thought);
                self.sign(Some(opaque), to);
            }
            StreamEvent::ToolCall { id, name, opaque, .. } => {
                self.called = true;
                self.close(to);
                self.alone(opaque.as_ref().map(of_call), to);
                self.alone(of_id(id), to);
                self.turn_to(place(event), to, || call_block(&mark_call(id), name, &json!({})));
            }
            StreamEvent::Arguments { index, json } => self.arguments(*index, json, report, to),
            StreamEvent::Part { part: Part::Other { dialect: Dialect::Anthropic, value }, .. } => {
                self.close(to);
                self.alone(value.value().ok(), to);
            }
            StreamEvent::Part { part, .. } => {
                self.matched_stop = part.matched_stop().or_else(|| self.matched_stop.take());
                left_out(part, report);
            }
            _ => {}
        }
    }

    /// Writes more of a tool call's arguments. Those that follow the end of their block are dropped.
    fn arguments(&mut self, index: u32, json: &str, report: &mut Report, to: &mut String) {
        if self.closed_calls.contains(&index) {
            if !json.trim().is_empty() {
                report.record(Feature::Arguments);
                self.has_broken_call = true;
            }
            return;
        }
        let nameless = || call_block(&mark_call(&new_id()), "", &json!({}));
        self.turn_to(Some((Kind::Call, index)), to, nameless);
        if let Some(open) = &mut self.open {
            open.arguments.read(json);
            open.json.push_str(json);
        }
        self.delta(to, json!({"type": "input_json_delta", "partial_json": json}));
    }

    /// Makes the block of this part the open one.
    fn turn_to(&mut self, part: Option<(Kind, u32)>, to: &mut String, block: impl FnOnce() -> Value) {
        let Some((kind, index)) = part else { return };
        if self.open.as_ref().is_some_and(|open| (open.kind, open.index) == (kind, index) && !open.signed) {
            return;
        }
        self.close(to);
        put(to, &json!({"type": "content_block_start", "index": self.blocks, "content_block": block()}));
        self.open = Some(OpenBlock { kind, index, signed: false, arguments: Balance::default(), json: String::new() });
    }

    fn delta(&self, to: &mut String, delta: impl Serialize) {
        let name = "content_block_delta";
        put_named(to, name, &BlockDelta { r#type: name, index: self.blocks, delta });
    }

    fn sign(&mut self, opaque: Option<&Opaque>, to: &mut String) {
        self.delta(to, json!({"type": "signature_delta", "signature": seal(opaque, Dialect::Anthropic)}));
        if let Some(open) = &mut self.open {
            open.signed = true;
        }
    }

    fn close(&mut self, to: &mut String) {
        // Every thinking block needs a signature before it ends; the caller must send it back.
        if self.open.as_ref().is_some_and(|open| open.kind == Kind::Thinking && !open.signed) {
            self.sign(None, to);
        }
        if let Some(open) = self.open.take() {
            if open.kind == Kind::Call {
                self.closed_calls.insert(open.index);
                let is_json = open.json.trim().is_empty() || serde_json::from_str::<IgnoredAny>(&open.json).is_ok();
                self.has_broken_call |= !is_json;
            }
            self.stop(to);
        }
    }

    fn alone(&mut self, block: Option<Value>, to: &mut String) {
        let Some(block) = block else { return };
        put(to, &json!({"type": "content_block_start", "index": self.blocks, "content_block": block}));
        self.stop(to);
    }

    fn stop(&mut self, to: &mut String) {
        put(to, &json!({"type": "content_block_stop", "index": self.blocks}));
        self.blocks += 1;
    }

    pub(super) fn keep_alive(&self) -> &'static str {
        // The API itself begins with `message_start`, and some clients rely on that.
        if self.begun { "event: ping\ndata: {\"type\":\"ping\"}\n\n" } else { "" }
    }
}

fn new_thought() -> Value {
    json!({"type": "thinking", "thinking": "", "signature": ""})
}

/// Writes one event.
pub(super) fn put(to: &mut String, event: &Value) {
    put_named(to, event.get("type").and_then(Value::as_str).unwrap_or_default(), event);
}

fn put_named(to: &mut String, name: &str, event: &impl Serialize) {
    to.extend(["event: ", name, "\ndata: ", &json_of(event), "\n\n"]);
}

/// An event with more of the open block.
#[derive(Serialize)]
struct BlockDelta<D> {
    r#type: &'static str,
    index: u32,
    delta: D,
}

/// The most frequent one.
#[derive(Serialize)]
struct TextDelta<'a> {
    r#type: &'static str,
    text: &'a str,
}
