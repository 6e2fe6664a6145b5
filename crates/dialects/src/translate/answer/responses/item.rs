//! The items of a response's output.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::{
    super::{free_text::FreeText, new_id},
    echo::RequestEcho,
};
use crate::{
    Dialect,
    chat::{Extra, Json, Opaque},
    translate::{
        answer::anthropic::Balance,
        ids::{Target, envelope_of_id, fit_id},
        request::Report,
        rules::Feature,
    },
    wire::{
        foreign::{seal, seal_call, seal_own},
        provider_data,
        responses::sealed,
    },
};

/// The status of an item, and of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }
}

/// The ids of a response's items and calls. Clients tell items apart by them.
#[derive(Debug, Default)]
pub(super) struct Ids {
    items: HashSet<String>,
    calls: HashSet<String>,
}

impl Ids {
    /// Returns the id if no other item has it, else a new one.
    fn item(&mut self, own: Option<&str>, prefix: &str) -> String {
        match own.filter(|own| !own.is_empty() && self.items.insert((*own).to_owned())) {
            Some(own) => own.to_owned(),
            None => format!("{prefix}_{}", new_id()),
        }
    }

    /// Returns the id that a call's result refers to.
    fn call(&mut self, own: &str) -> String {
        let own = fit_id(own, Target::new(Dialect::Responses));
        if self.calls.insert(own.clone()) {
            return own;
        }
        let new = format!("call_{}", new_id());
        self.calls.insert(new.clone());
        new
    }
}

/// A content part of a message.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) declined: bool,
    pub(super) text: String,
    annotations: Vec<Value>,
}

impl Content {
    pub(super) fn new(declined: bool, text: impl Into<String>) -> Self {
        Self { declined, text: text.into(), annotations: Vec::new() }
    }

    pub(super) fn value(&self) -> Value {
        if self.declined {
            return json!({"type": "refusal", "refusal": self.text});
        }
        json!({"type": "output_text", "text": self.text, "annotations": self.annotations, "logprobs": []})
    }

    pub(super) fn annotations(&self) -> usize {
        self.annotations.len()
    }

    /// Adds the annotations in the fields that only this dialect has. Returns those that are new.
    pub(super) fn annotate(&mut self, extra: &Extra) -> &[Value] {
        let start = self.annotations.len();
        if !self.declined && extra.dialect == Dialect::Responses {
            self.annotations.extend(annotations(extra));
        }
        &self.annotations[start..]
    }
}

/// Returns the annotations of a text in the fields that only this dialect has.
pub(crate) fn annotations(extra: &Extra) -> Vec<Value> {
    extra.fields.get("annotations").and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
}

/// Returns an item's fields in the extra behind its first part.
fn item_fields(extra: &Extra) -> Map<String, Value> {
    extra.fields.get("item").and_then(|item| serde_json::from_str(item.get()).ok()).unwrap_or_default()
}

/// Returns true if the part before these fields begins an item.
pub(super) fn begins_item(extra: &Extra) -> bool {
    extra.fields.get("item").is_some()
}

/// Returns true if the call before these fields is one with free text.
pub(super) fn is_custom(extra: &Extra) -> bool {
    item_fields(extra).get("type").is_some_and(|kind| kind == "custom_tool_call")
}

/// A message of the model's.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) content: Vec<Content>,
    /// The fields that only this dialect has.
    more: Map<String, Value>,
}

impl Message {
    pub(super) fn new() -> Self {
        Self { id: format!("msg_{}", new_id()), content: Vec::new(), more: Map::new() }
    }

    /// Creates the message of this id, with this text so far.
    pub(super) fn begun(id: String, text: String) -> Self {
        Self { id, content: vec![Content::new(false, text)], more: Map::new() }
    }

    /// Restores the fields that only this dialect has, such as the phase.
    pub(super) fn restore(&mut self, extra: &Extra) {
        self.more.extend(item_fields(extra).into_iter().filter(|(_, value)| !value.is_null()));
    }

    pub(super) fn is_refusal(&self) -> bool {
        self.content.iter().any(|content| content.declined)
    }

    pub(super) fn value(&self, status: Status) -> Value {
        let content: Vec<Value> = self.content.iter().map(Content::value).collect();
        let mut item = json!({
            "id": self.id, "type": "message", "role": "assistant", "status": status.name(), "content": content,
        });
        provider_data::merge(&mut item, &self.more);
        item
    }
}

/// A thought.
#[derive(Debug)]
pub(super) struct Thought {
    pub(super) id: String,
    pub(super) text: String,
    sealed: String,
}

impl Thought {
    /// Creates a thought with the signature that is known by now.
    pub(super) fn new(opaque: Option<&Opaque>, ids: &mut Ids) -> Self {
        let own = opaque.filter(|opaque| opaque.dialect == Dialect::Responses).map(|own| sealed::split(&own.token).0);
        let mut thought = Self { id: ids.item(own, "rs"), text: String::new(), sealed: String::new() };
        thought.sign(opaque);
        thought
    }

    /// Creates the thought that bears the signature of the call behind it: a call has no place for one.
    pub(super) fn of_call(opaque: &Opaque, ids: &mut Ids) -> Self {
        Self { id: ids.item(None, "rs"), text: String::new(), sealed: seal_call(opaque) }
    }

    /// Creates the thought that bears the id of the call behind it, if the dialect takes no such id.
    pub(super) fn of_id(id: &str, ids: &mut Ids) -> Option<Self> {
        let sealed = envelope_of_id(id, Dialect::Responses)?;
        Some(Self { id: ids.item(None, "rs"), text: String::new(), sealed })
    }

    /// Sets the signature. The item's id is part of what OpenAI seals, so that content of another id is in an envelope,
    /// as that of other providers.
    pub(super) fn sign(&mut self, opaque: Option<&Opaque>) {
        let token = seal(opaque, Dialect::Responses);
        self.sealed = match opaque {
            Some(own) if own.dialect == Dialect::Responses => match sealed::split(&token) {
                (id, encrypted) if id.is_empty() || id == self.id => encrypted.to_owned(),
                _ => seal_own(own),
            },
            _ => token.into_owned(),
        };
    }

    pub(super) fn value(&self, done: bool) -> Value {
        let summary: Vec<Value> = (!self.text.is_empty()).then(|| self.part()).into_iter().collect();
        let mut item = json!({"id": self.id, "type": "reasoning", "summary": summary});
        if done {
            item["encrypted_content"] = self.sealed.as_str().into();
        }
        item
    }

    /// Returns the one part of the summary.
    pub(super) fn part(&self) -> Value {
        json!({"type": "summary_text", "text": self.text})
    }
}

/// A call of a function, or of a tool that takes free text.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: String,
    call_id: String,
    name: String,
    namespace: Option<String>,
    balance: Balance,
    pub(super) input: Input,
}

#[derive(Debug)]
pub(super) enum Input {
    Arguments(String),
    Free(FreeText),
}

impl Call {
    /// Creates a call without arguments. Its name is the caller's own.
    pub(super) fn new(id: &str, name: &str, custom: bool, echo: &RequestEcho, ids: &mut Ids) -> Self {
        let own = echo.own(name);
        let custom = custom || echo.is_custom(name);
        let prefix = if custom { "ctc" } else { "fc" };
        Self {
            id: format!("{prefix}_{}", new_id()),
            call_id: ids.call(id),
            name: own.map_or(name, |own| &own.name).to_owned(),
            namespace: own.and_then(|own| own.namespace.clone()),
            balance: Balance::default(),
            input: if custom { Input::Free(FreeText::default()) } else { Input::Arguments(String::new()) },
        }
    }

    /// Reads more of the arguments. Returns the text that this adds.
    pub(super) fn read<'a>(&'a mut self, json: &'a str) -> &'a str {
        self.balance.read(json);
        match &mut self.input {
            Input::Arguments(arguments) => {
                arguments.push_str(json);
                json
            }
            Input::Free(text) => text.read(json),
        }
    }

    /// Ends the arguments. Returns the text that this adds.
    pub(super) fn finish(&mut self, complete: bool, report: &mut Report) -> &str {
        match &mut self.input {
            // A call without arguments is one with an empty object.
            Input::Arguments(arguments) if complete && arguments.trim().is_empty() => {
                let start = arguments.len();
                arguments.push_str("{}");
                &arguments[start..]
            }
            Input::Arguments(_) => "",
            Input::Free(text) => {
                let start = text.text().len();
                text.finish();
                if text.is_strange() {
                    report.record(Feature::Arguments);
                }
                &text.text()[start..]
            }
        }
    }

    /// Returns true if the arguments so far are a whole object.
    pub(super) fn is_whole(&self) -> bool {
        self.balance.is_whole()
    }

    pub(super) fn value(&self, status: Status) -> Value {
        let (kind, field, input) = match &self.input {
            Input::Arguments(arguments) => ("function_call", "arguments", arguments.as_str()),
            Input::Free(text) => ("custom_tool_call", "input", text.text()),
        };
        let mut item = json!({
            "id": self.id, "type": kind, "status": status.name(), "call_id": self.call_id, "name": self.name,
        });
        item[field] = input.into();
        if let Some(namespace) = &self.namespace {
            item["namespace"] = namespace.as_str().into();
        }
        item
    }
}

/// Returns an item that only this dialect has, under an id.
pub(super) fn own(value: &Json, ids: &mut Ids) -> Option<Value> {
    let mut item: Map<String, Value> = value.read().ok()?;
    let kind = item.get("type")?.as_str()?;
    let id = ids.item(item.get("id").and_then(Value::as_str), kind);
    item.insert("id".to_owned(), id.into());
    Some(item.into())
}
