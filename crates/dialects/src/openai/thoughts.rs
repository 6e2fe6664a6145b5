//! A turn's thoughts, as the server gave them and wants them back.

use serde_json::{Map, Value, json, value::RawValue};

use super::decode::{Call, Turn};
use crate::{
    Dialect,
    chat::Opaque,
    json::read,
    wire::thoughts::{self, is_thought},
};

/// The thoughts so far: a whole answer's, or those of a stream since the last one was sealed.
#[derive(Default)]
pub(super) struct Thoughts {
    fields: Map<String, Value>,
    /// True if any of them can be read.
    is_readable: bool,
}

impl Thoughts {
    /// Adds those of a message or a chunk. Returns their text, under either of its names; some servers write both.
    pub(super) fn add(&mut self, turn: &mut Turn<'_>) -> Option<String> {
        if !turn.has_thoughts() {
            return None;
        }
        let mut text = None;
        for (name, said) in [("reasoning_content", turn.reasoning_content.take()), ("reasoning", turn.reasoning.take())]
        {
            let Some(said) = said.filter(|said| !said.is_empty()) else { continue };
            self.is_readable = true;
            match self.fields.get_mut(name) {
                Some(Value::String(so_far)) => so_far.push_str(&said),
                _ => _ = self.fields.insert(name.to_owned(), said.clone().into()),
            }
            text.get_or_insert(said);
        }
        for detail in turn.reasoning_details.and_then(read::<Vec<Value>>).into_iter().flatten() {
            self.detail("reasoning_details", detail);
        }
        for detail in turn.thinking_blocks.and_then(read::<Vec<Value>>).into_iter().flatten() {
            self.detail("thinking_blocks", detail);
        }
        for (name, raw) in [
            ("extra_content", turn.extra_content),
            ("thought_signature", turn.thought_signature),
            (thoughts::PROVIDER_FIELDS, turn.provider_specific_fields),
        ] {
            self.fields.extend(field(name, raw));
        }
        text
    }

    /// Adds a thought of a `content` that is a list of typed parts, as Mistral writes it.
    pub(super) fn think(&mut self, text: &str) {
        self.is_readable = true;
        let parts = self.fields.entry("content").or_insert_with(|| json!([]));
        match parts.pointer_mut("/0/thinking/0/text") {
            Some(Value::String(so_far)) => so_far.push_str(text),
            _ => *parts = json!([{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]),
        }
    }

    /// Adds what came for a call after its begin.
    pub(super) fn add_to_call(&mut self, id: &str, fields: Map<String, Value>) {
        let calls = self.fields.entry("tool_calls").or_insert_with(|| json!({}));
        calls[id] = fields.into();
    }

    /// Adds a piece of a router's list. It continues the one before it if kind and index are the same and only its text
    /// grows.
    fn detail(&mut self, list: &'static str, mut detail: Value) {
        let Value::Array(details) = self.fields.entry(list).or_insert_with(|| json!([])) else { return };
        let last = details.last_mut().filter(|last| {
            (&last["type"], &last["index"]) == (&detail["type"], &detail["index"])
                && last.get("signature").is_none_or(Value::is_null)
        });
        if let Some(last) = last {
            for name in ["text", "summary", "thinking"] {
                if let (Some(Value::String(so_far)), Some(Value::String(more))) = (last.get_mut(name), detail.get(name))
                {
                    so_far.push_str(more);
                    for name in ["signature", "id"] {
                        if let Some(token) = detail.get_mut(name).map(Value::take).filter(|token| !token.is_null()) {
                            last[name] = token;
                        }
                    }
                    return;
                }
            }
        }
        details.push(detail);
    }

    /// Returns true if there are any.
    pub(super) fn is_any(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Takes them as the token that goes back with them; `None` if there are none.
    pub(super) fn take(&mut self) -> Option<Opaque> {
        let Self { fields, is_readable } = std::mem::take(self);
        (!fields.is_empty()).then(|| opaque(fields, !is_readable))
    }
}

/// Returns what a server gave with a call and wants back.
pub(super) fn of_call(call: &Call<'_>) -> Option<Map<String, Value>> {
    let fields = [
        ("extra_content", call.extra_content),
        ("thought_signature", call.thought_signature),
        (thoughts::PROVIDER_FIELDS, call.provider_specific_fields),
    ];
    let fields: Map<String, Value> = fields.into_iter().filter_map(|(name, raw)| field(name, raw)).collect();
    (!fields.is_empty()).then_some(fields)
}

fn field(name: &str, raw: Option<&RawValue>) -> Option<(String, Value)> {
    let raw = raw.filter(|raw| is_thought(name, raw.get()))?;
    Some((name.to_owned(), read(raw)?))
}

pub(super) fn opaque(fields: Map<String, Value>, redacted: bool) -> Opaque {
    Opaque { dialect: Dialect::OpenAi, token: Value::Object(fields).to_string(), redacted }
}
