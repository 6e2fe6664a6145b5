//! Gemini's answer, and its stream of answers.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{anthropic::Balance, arguments, json_of, left_out, new_id};
use crate::{
    Dialect, StreamEvent,
    chat::{FinishReason, Media, Message, Opaque, Part, ToolCall, Usage},
    translate::request::Report,
    wire::foreign::{FOREIGN_CALL, seal},
};

pub(super) fn whole(message: &Message, report: &mut Report) -> Value {
    let mut parts = Vec::new();
    let mut signed = false;
    for part in &message.content {
        match part {
            Part::Text(text) | Part::Refusal(text) if text.is_empty() => {}
            Part::Text(text) | Part::Refusal(text) => parts.push(json!({"text": text})),
            Part::Reasoning(reasoning) => {
                if !reasoning.text.is_empty() || reasoning.opaque.is_some() {
                    parts.push(thought(&reasoning.text, reasoning.opaque.as_ref()));
                }
            }
            Part::ToolCall(made) => {
                parts.push(call(made, !std::mem::replace(&mut signed, true), report));
            }
            other => match own(other) {
                Some(part) => parts.push(part),
                None => left_out(other, report),
            },
        }
    }
    let id = message.id.clone().unwrap_or_else(new_id);
    let finish = finish_reason(message.finish.as_ref());
    answer(&id, message.model.as_deref().unwrap_or_default(), parts, Some(finish), message.usage)
}

/// Encodes a thought. A signature of another provider is in an envelope.
fn thought(text: &str, opaque: Option<&Opaque>) -> Value {
    let own = opaque.is_some_and(|opaque| opaque.dialect == Dialect::Gemini);
    // A signature beside an empty thought arrived with a text.
    let mut part = if text.is_empty() && own { json!({"text": ""}) } else { json!({"text": text, "thought": true}) };
    part["thoughtSignature"] = seal(opaque, Dialect::Gemini).into();
    part
}

fn call(call: &ToolCall, first: bool, report: &mut Report) -> Value {
    let mut part = json!({"functionCall": {"id": call.id, "name": call.name, "args": arguments(call, report)}});
    match &call.opaque {
        Some(opaque) => part["thoughtSignature"] = seal(Some(opaque), Dialect::Gemini).into(),
        // The model requires a signature at the first of parallel calls when they come back.
        _ if first => part["thoughtSignature"] = FOREIGN_CALL.into(),
        _ => {}
    }
    part
}

fn own(part: &Part) -> Option<Value> {
    let media = |media: &Media| match media {
        Media::Base64 { media_type, data } => Some(json!({"inlineData": {"mimeType": media_type, "data": data}})),
        _ => None,
    };
    match part {
        Part::Image(image) => media(&image.media),
        Part::Document(document) => media(&document.media),
        Part::Other { dialect: Dialect::Gemini, value } => value.value().ok(),
        _ => None,
    }
}

#[warn(clippy::wildcard_enum_match_arm, reason = "each reason has its word")]
fn finish_reason(finish: Option<&FinishReason>) -> &str {
    match finish {
        None | Some(FinishReason::Stop | FinishReason::ToolUse) => "STOP",
        Some(FinishReason::Length | FinishReason::ContextFull) => "MAX_TOKENS",
        Some(FinishReason::Filtered | FinishReason::Refusal) => "SAFETY",
        Some(FinishReason::Paused) => "CONTINUATION",
        Some(FinishReason::ModelError(_)) => "MALFORMED_RESPONSE",
        Some(FinishReason::Other(_)) => "OTHER",
        Some(_) => "OTHER",
    }
}

fn answer(id: &str, model: &str, parts: Vec<Value>, finish: Option<&str>, used: Option<Usage>) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
    if let Some(finish) = finish {
        candidate["finishReason"] = finish.into();
    }
    let mut answer = json!({"candidates": [candidate], "modelVersion": model, "responseId": id});
    if let Some(used) = used {
        // Some servers count more reasoning than output.
        let thoughts = used.reasoning.min(used.output);
        answer["usageMetadata"] = json!({
            "promptTokenCount": used.input,
            "cachedContentTokenCount": used.cache_read,
            "candidatesTokenCount": used.output - thoughts,
            "thoughtsTokenCount": thoughts,
            "totalTokenCount": used.total(),
        });
    }
    answer
}

/// Gemini's stream. Calls arrive whole in this dialect, so the encoder holds each until it is complete.
#[derive(Debug, Default)]
pub(super) struct Stream {
    id: String,
    model: String,
    held: Vec<(ToolCall, Balance)>,
    /// The index in `held` of each part's newest call.
    newest: HashMap<u32, usize>,
    /// The number of held calls that are incomplete.
    unfinished: usize,
    signed: bool,
}

impl Stream {
    pub(super) fn begin(&mut self, id: &str, model: &str) {
        (self.id, self.model) = (id.to_owned(), model.to_owned());
    }

    pub(super) fn event(&mut self, event: &StreamEvent, report: &mut Report, to: &mut String) {
        let part = match event {
            StreamEvent::Text { text, .. } | StreamEvent::Refusal { text, .. } if !text.is_empty() => {
                json!({"text": text})
            }
            StreamEvent::Reasoning { text, .. } if !text.is_empty() => thought(text, None),
            StreamEvent::Signature { opaque, .. } if opaque.dialect == Dialect::Gemini => thought("", Some(opaque)),
            StreamEvent::Signature { opaque, .. } => {
                json!({"text": "", "thought": true, "thoughtSignature": seal(Some(opaque), Dialect::Gemini)})
            }
            StreamEvent::ToolCall { index, id, name, opaque } => {
                let mut call = ToolCall::new(id.as_str(), name.as_str(), "");
                call.opaque.clone_from(opaque);
                self.hold(*index, call);
                return;
            }
            StreamEvent::Arguments { index, json } => {
                let place = self.newest.get(index).copied();
                let place = place.unwrap_or_else(|| self.hold(*index, ToolCall::new(new_id(), "", "")));
                let (call, balance) = &mut self.held[place];
                let before = balance.is_whole();
                call.arguments.push_str(json);
                balance.read(json);
                match (before, balance.is_whole()) {
                    (false, true) => self.unfinished -= 1,
                    (true, false) => self.unfinished += 1,
                    _ => {}
                }
                return;
            }
            StreamEvent::Part { part, .. } => match own(part) {
                Some(part) => part,
                None => return left_out(part, report),
            },
            _ => return,
        };
        // Content after a call goes out after it, once the call is complete.
        if self.unfinished == 0 {
            self.release(report, to);
        }
        put(to, &answer(&self.id, &self.model, vec![part], None, None));
    }

    /// Holds a call until it is complete, and returns its index.
    fn hold(&mut self, index: u32, call: ToolCall) -> usize {
        self.held.push((call, Balance::default()));
        self.unfinished += 1;
        self.newest.insert(index, self.held.len() - 1);
        self.held.len() - 1
    }

    fn release(&mut self, report: &mut Report, to: &mut String) {
        self.newest.clear();
        self.unfinished = 0;
        for (held, _) in std::mem::take(&mut self.held) {
            let part = call(&held, !std::mem::replace(&mut self.signed, true), report);
            put(to, &answer(&self.id, &self.model, vec![part], None, None));
        }
    }

    pub(super) fn end(
        &mut self,
        finish: Option<&FinishReason>,
        used: Option<Usage>,
        report: &mut Report,
        to: &mut String,
    ) {
        self.release(report, to);
        let last = vec![json!({"text": ""})];
        put(to, &answer(&self.id, &self.model, last, Some(finish_reason(finish)), used));
    }
}

/// Writes one answer of the stream.
pub(super) fn put(to: &mut String, answer: &Value) {
    to.extend(["data: ", &json_of(answer), "\r\n\r\n"]);
}
