//! OpenAI's `chat.completion`, and its stream of chunks up to `[DONE]`.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{RequestEcho, free_text::FreeText, json_of, left_out, new_id};
use crate::{
    Dialect, StreamEvent,
    chat::{FinishReason, Message, Opaque, Part, Usage},
    internal::wall_clock,
    sse::Decoder,
    translate::{
        ids::{Target, envelope_of_id, fit_id},
        request::Report,
        rules::Feature,
    },
    wire::{
        foreign::{MARK, format_name, mark},
        thoughts,
    },
};

pub(super) fn whole(message: &Message, echo: &RequestEcho, report: &mut Report) -> Value {
    let (mut text, mut refusal, mut thought) = (String::new(), String::new(), String::new());
    let (mut details, mut calls) = (Vec::new(), Vec::new());
    let (mut more, mut own) = (Map::new(), Map::new());
    for part in &message.content {
        match part {
            Part::Text(said) => text.push_str(said),
            Part::Refusal(said) => refusal.push_str(said),
            Part::Reasoning(reasoning) => {
                if let Some(fields) = own_fields(reasoning.opaque.as_ref()) {
                    thoughts::add(&mut own, fields);
                    continue;
                }
                thought.push_str(&reasoning.text);
                details.extend(reasoning.opaque.as_ref().map(|opaque| detail(&reasoning.text, opaque, details.len())));
            }
            Part::ToolCall(call) if echo.is_custom(&call.name) => {
                let mut text = FreeText::default();
                text.read(&call.arguments);
                text.finish();
                if text.is_strange() {
                    report.record(Feature::Arguments);
                }
                calls.push(custom_call(&call.id, &call.name, text.text()));
            }
            Part::ToolCall(call) => {
                let arguments = if call.arguments.trim().is_empty() { "{}" } else { call.arguments.as_str() };
                let function = json!({"name": call.name, "arguments": arguments});
                calls.push(tool_call(&call.id, function, call.opaque.as_ref()));
            }
            Part::Other { dialect: Dialect::OpenAi, value } if value.get("audio").is_some() => {
                more.extend(value.fields());
            }
            other => left_out(other, report),
        }
    }
    let filled = |text: String| if text.is_empty() { Value::Null } else { text.into() };
    let declined = !refusal.is_empty();
    let mut said = json!({"role": "assistant", "content": filled(text), "refusal": filled(refusal)});
    let called = !calls.is_empty();
    if called {
        said["tool_calls"] = calls.into();
    }
    if !thought.is_empty() {
        said["reasoning_content"] = thought.into();
    }
    if !details.is_empty() {
        said["reasoning_details"] = details.into();
    }
    if let Some(later) = own.remove("tool_calls") {
        for call in said["tool_calls"].as_array_mut().into_iter().flatten() {
            let fields = call["id"].as_str().and_then(|id| later.get(id)?.as_object().cloned());
            call.as_object_mut().into_iter().for_each(|call| call.extend(fields.clone().unwrap_or_default()));
        }
    }
    if let Some(Value::Array(mut parts)) = own.remove("content") {
        parts.extend(said["content"].as_str().map(|text| json!({"type": "text", "text": text})));
        said["content"] = parts.into();
    }
    for (name, value) in own.into_iter().chain(more) {
        said[name] = value;
    }
    let finish = finish_reason(message.finish.as_ref(), called, declined);
    let mut body = json!({
        "id": message.id.clone().unwrap_or_else(|| format!("chatcmpl-{}", new_id())),
        "object": "chat.completion",
        "created": wall_clock::since_1970().as_secs(),
        "model": message.model.as_deref().unwrap_or_default(),
        "choices": [{"index": 0, "message": said, "logprobs": null, "finish_reason": finish}],
    });
    if let Some(used) = message.usage {
        body["usage"] = usage(used);
    }
    body
}

/// Returns the fields of a thought that a server of this dialect gave.
fn own_fields(opaque: Option<&Opaque>) -> Option<Map<String, Value>> {
    let own = opaque.filter(|opaque| opaque.dialect == Dialect::OpenAi)?;
    serde_json::from_str(thoughts::split(&own.token).1).ok()
}

/// Encodes a signed thought in OpenRouter's form, which clients of this dialect send back.
fn detail(text: &str, opaque: &Opaque, index: usize) -> Value {
    let mut detail = json!({"id": mark(opaque), "format": format_name(opaque.dialect), "index": index});
    if opaque.redacted && text.is_empty() {
        detail["type"] = "reasoning.encrypted".into();
        detail["data"] = opaque.token.as_str().into();
    } else {
        detail["type"] = "reasoning.text".into();
        detail["text"] = text.into();
        detail["signature"] = opaque.token.as_str().into();
    }
    detail
}

/// Creates a call. An id that servers of the dialect do not take stands in an envelope beside the one in its place.
fn new_call(id: &str, kind: &str, called: Value) -> Value {
    let mut call = json!({"id": fit_id(id, Target::new(Dialect::OpenAi)), "type": kind, kind: called});
    if let Some(envelope) = envelope_of_id(id, Dialect::OpenAi) {
        call["extra_content"] = json!({ "id": envelope });
    }
    call
}

fn tool_call(id: &str, function: Value, opaque: Option<&Opaque>) -> Value {
    let mut call = new_call(id, "function", function);
    if let Some(opaque) = opaque.filter(|opaque| opaque.dialect == Dialect::Gemini) {
        // Google's own endpoint of this dialect puts the signature here.
        call["extra_content"]["google"] = json!({"thought_signature": opaque.token});
        call["extra_content"][MARK] = mark(opaque).into();
    }
    for (name, value) in own_fields(opaque).into_iter().flatten() {
        call[name] = value;
    }
    call
}

/// Writes a call of a tool that takes free text.
fn custom_call(id: &str, name: &str, input: &str) -> Value {
    new_call(id, "custom", json!({"name": name, "input": input}))
}

#[warn(clippy::wildcard_enum_match_arm, reason = "each reason has its word")]
fn finish_reason(finish: Option<&FinishReason>, called: bool, declined: bool) -> &'static str {
    match finish.map(FinishReason::nearest) {
        None | Some(FinishReason::Stop) if called => "tool_calls",
        None | Some(FinishReason::Stop) => "stop",
        Some(FinishReason::ToolUse) => "tool_calls",
        Some(
            FinishReason::Length
            | FinishReason::ContextFull
            | FinishReason::Paused
            | FinishReason::ModelError(_)
            | FinishReason::Other(_),
        ) => "length",
        Some(FinishReason::Refusal) if declined => "stop",
        Some(FinishReason::Filtered | FinishReason::Refusal) => "content_filter",
        Some(_) => "length",
    }
}

fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total(),
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    })
}

/// OpenAI's stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    begun: bool,
    /// The fields that all chunks have.
    frame: Map<String, Value>,
    /// The index of each part's newest call among the calls, and the number of calls.
    calls: HashMap<u32, usize>,
    count: usize,
    /// The calls with free text, by their index among the calls.
    free: BTreeMap<usize, FreeText>,
    echo: RequestEcho,
    thought: String,
    details: usize,
    declined: bool,
    finished: bool,
}

impl Stream {
    pub(super) fn set_echo(&mut self, echo: RequestEcho) {
        self.echo = echo;
    }

    pub(super) fn begin(&mut self, id: &str, model: &str, with_usage: bool, to: &mut String) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let created = wall_clock::since_1970().as_secs();
        let frame = [
            ("id", id.into()),
            ("object", "chat.completion.chunk".into()),
            ("created", created.into()),
            ("model", model.into()),
        ];
        let usage = with_usage.then_some(("usage", Value::Null));
        self.frame = frame.into_iter().chain(usage).map(|(name, value)| (name.to_owned(), value)).collect();
        self.chunk(json!({"role": "assistant", "content": "", "refusal": null}), None, to);
    }

    /// Goes on after the server's own chunks, of which this is the first: with its id, its model and its time.
    pub(super) fn resume(&mut self, first: &Bytes) {
        let mut decoder = Decoder::new(first.len());
        decoder.push(first.clone());
        let data = decoder.finish().ok().flatten().map(|event| event.data_bytes()).unwrap_or_default();
        let Ok(Value::Object(mut frame)) = serde_json::from_slice(&data) else { return };
        for name in ["choices", "usage"] {
            frame.remove(name);
        }
        (self.frame, self.begun) = (frame, true);
    }

    pub(super) fn event(&mut self, event: &StreamEvent, report: &mut Report, to: &mut String) {
        let delta = match event {
            StreamEvent::Text { text, .. } if !text.is_empty() => {
                return self.chunk(TextDelta { content: text }, None, to);
            }
            StreamEvent::Refusal { text, .. } if !text.is_empty() => {
                self.declined = true;
                json!({"refusal": text})
            }
            StreamEvent::Reasoning { text, .. } if !text.is_empty() => {
                self.thought.push_str(text);
                json!({"reasoning_content": text})
            }
            StreamEvent::Signature { opaque, .. } if opaque.dialect == Dialect::OpenAi => {
                // The text is there already.
                let mut fields = own_fields(Some(opaque)).unwrap_or_default();
                fields
                    .retain(|name, _| !["reasoning_content", "reasoning", "content", "tool_calls"].contains(&&**name));
                if fields.is_empty() {
                    return;
                }
                fields.into()
            }
            StreamEvent::Signature { opaque, .. } => {
                let thought = std::mem::take(&mut self.thought);
                self.details += 1;
                json!({"reasoning_details": [detail(&thought, opaque, self.details - 1)]})
            }
            StreamEvent::ToolCall { index, id, name, .. } if self.echo.is_custom(name) => {
                let mut call = custom_call(id, name, "");
                let place = self.add(*index);
                self.free.insert(place, FreeText::default());
                call["index"] = place.into();
                json!({"tool_calls": [call]})
            }
            StreamEvent::ToolCall { index, id, name, opaque } => {
                let mut call = tool_call(id, json!({"name": name, "arguments": ""}), opaque.as_ref());
                call["index"] = self.add(*index).into();
                json!({"tool_calls": [call]})
            }
            StreamEvent::Arguments { index, json } => {
                let place = self.calls.get(index).copied().unwrap_or_else(|| self.add(*index));
                match self.free.get_mut(&place).map(|text| text.read(json)) {
                    Some("") => return,
                    Some(text) => json!({"tool_calls": [{"index": place, "custom": {"input": text}}]}),
                    None => json!({"tool_calls": [{"index": place, "function": {"arguments": json}}]}),
                }
            }
            StreamEvent::Part { part, .. } => return left_out(part, report),
            _ => return,
        };
        self.chunk(delta, None, to);
    }

    /// Adds a call, and returns its index.
    fn add(&mut self, part: u32) -> usize {
        self.calls.insert(part, self.count);
        self.count += 1;
        self.count - 1
    }

    /// Writes the chunk with the finish reason, behind the free text that was held back.
    pub(super) fn finish(&mut self, finish: Option<&FinishReason>, report: &mut Report, to: &mut String) {
        if !std::mem::replace(&mut self.finished, true) {
            for (place, mut text) in std::mem::take(&mut self.free) {
                let rest = text.finish();
                if !rest.is_empty() {
                    let delta = json!({"tool_calls": [{"index": place, "custom": {"input": rest}}]});
                    self.chunk(delta, None, to);
                }
                if text.is_strange() {
                    report.record(Feature::Arguments);
                }
            }
            let reason = finish_reason(finish, self.count > 0, self.declined).to_owned();
            self.chunk(json!({}), Some(&reason), to);
        }
    }

    pub(super) fn end(&mut self, used: Option<Usage>, to: &mut String) {
        if let Some(used) = used {
            let mut last = self.frame.clone();
            last.extend([("choices".to_owned(), json!([])), ("usage".to_owned(), usage(used))]);
            put(to, &last);
        }
        to.push_str(END_MARK);
    }

    fn chunk(&self, delta: impl Serialize, finish_reason: Option<&str>, to: &mut String) {
        let choices = [Choice { index: 0, delta, logprobs: (), finish_reason }];
        put(to, &Chunk { frame: &self.frame, choices });
    }
}

#[derive(Serialize)]
struct Chunk<'a, D> {
    #[serde(flatten)]
    frame: &'a Map<String, Value>,
    choices: [Choice<'a, D>; 1],
}

#[derive(Serialize)]
struct Choice<'a, D> {
    index: u32,
    delta: D,
    logprobs: (),
    finish_reason: Option<&'a str>,
}

/// The most frequent delta.
#[derive(Serialize)]
struct TextDelta<'a> {
    content: &'a str,
}

/// The end of every stream.
pub(super) const END_MARK: &str = "data: [DONE]\n\n";

/// Writes one chunk.
pub(super) fn put(to: &mut String, chunk: &impl Serialize) {
    to.extend(["data: ", &json_of(chunk), "\n\n"]);
}
