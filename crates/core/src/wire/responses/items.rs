//! The items of a conversation, decoded one by one.

use super::{
    SystemPrefix,
    content::{self, Whose},
    joined, sealed,
    tool_names::ToolNames,
};
use crate::{
    Dialect, LlmError,
    chat::{Chat, Extra, ExtraOf, Json, Message, Opaque, Part, Reasoning, Role, ToolCall, ToolResult},
    fields::{Object, bad, count, each, is_list, is_null, text},
    raw_json::RawJson,
    wire::{
        Meter,
        foreign::{ENVELOPE, Unsealed, unseal, unseal_id},
        provider_data::{self, RawObject},
    },
};

/// The fields of an item of any type that are read.
const ITEM: &[&str] = &[
    "type",
    "role",
    "content",
    "id",
    "summary",
    "encrypted_content",
    "call_id",
    "name",
    "namespace",
    "arguments",
    "input",
    "output",
];

/// The last turn, as far as the next item depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The model's; true if a message is its last item.
    Model(bool),
    /// Outputs of tools.
    Outputs,
    /// A turn that takes no further item.
    Closed,
}

/// A conversation that is decoded item by item.
pub(super) struct Conversation<'a, 'm> {
    chat: &'a mut Chat,
    meter: &'a mut Meter<'m>,
    names: &'a ToolNames,
    leading: &'a mut SystemPrefix,
    /// True once an item came that is not the system's.
    begun: bool,
    last: Turn,
    /// The signature and the id of the next call.
    of_call: Option<Opaque>,
    id_of_call: Option<String>,
}

impl<'a, 'm> Conversation<'a, 'm> {
    pub(super) fn new(
        chat: &'a mut Chat,
        meter: &'a mut Meter<'m>,
        names: &'a ToolNames,
        leading: &'a mut SystemPrefix,
    ) -> Self {
        Self { chat, meter, names, leading, begun: false, last: Turn::Closed, of_call: None, id_of_call: None }
    }

    pub(super) fn item(&mut self, item: RawJson<'_>) -> Result<(), LlmError> {
        let fields = Object::read(item, ITEM)?;
        let kind = fields.word("type");
        let is_message = match kind.as_deref() {
            Some(kind) => kind == "message",
            None => fields.either(&["role"]).is_some(),
        };
        if is_message {
            return self.message(item, &fields);
        }
        if !self.begun && kind.as_deref() == Some("additional_tools") {
            self.leading.add(item, &[]);
            return Ok(());
        }
        self.begun = true;
        match kind.as_deref() {
            Some("reasoning") => match reasoning(item, &fields, self.meter)? {
                Thought::Own(reasoning, rest) => self.model(Part::Reasoning(reasoning), rest),
                Thought::OfCall(opaque) => {
                    self.of_call = Some(opaque);
                    Ok(())
                }
                Thought::IdOfCall(id) => {
                    self.id_of_call = Some(id);
                    Ok(())
                }
            },
            Some("function_call") => {
                let arguments = arguments(&fields)?;
                self.call(item, &fields, arguments, &["type", "call_id", "arguments"])
            }
            Some("custom_tool_call") => {
                let arguments = free_text(&fields)?;
                // The type is kept: it tells the call from a function's.
                self.call(item, &fields, arguments, &["call_id", "input"])
            }
            Some("function_call_output") => self.output(item, &fields, &["type", "call_id", "output"]),
            Some("custom_tool_call_output") => self.output(item, &fields, &["call_id", "output"]),
            Some(kind) => {
                let other = Part::Other { dialect: Dialect::Responses, value: Json::of(item) };
                self.meter.parts(1)?;
                if kind.ends_with("_output") || kind == "mcp_approval_response" {
                    self.push(Turn::Outputs, other, None);
                    return Ok(());
                }
                self.model(other, None)
            }
            // A reference needs no type.
            None if fields.either(&["id"]).is_some() => {
                self.meter.parts(1)?;
                self.model(Part::Other { dialect: Dialect::Responses, value: Json::of(item) }, None)
            }
            None => Err(bad("input.type", "a text")),
        }
    }

    fn message(&mut self, item: RawJson<'_>, fields: &Object<'_>) -> Result<(), LlmError> {
        let role = fields.word("role");
        let (role, known): (Role, &[&str]) = match role.as_deref() {
            Some("system") => (Role::System, &["type", "role", "content"]),
            Some("developer") => (Role::System, &["type", "content"]),
            Some("user") => (Role::User, &["type", "role", "content"]),
            Some("assistant") => (Role::Assistant, &["type", "role", "content"]),
            _ => return Err(bad("input.role", "developer, system, user or assistant")),
        };
        if role == Role::System && !self.begun {
            let content = content::of_item(fields, role, self.meter)?;
            self.leading.add(item, &content);
            return Ok(());
        }
        self.begun = true;
        (self.of_call, self.id_of_call) = (None, None);
        let rest = provider_data::rest(item, known)?;
        if role != Role::Assistant {
            let content = content::of_message(fields, role, rest, self.meter)?;
            self.chat.messages.push(Message::new(role, content));
            self.last = Turn::Closed;
            return Ok(());
        }
        // Without a mark it would continue the message before it.
        let mark = rest.or_else(|| (self.last == Turn::Model(true)).then(Json::no_fields));
        let content = content::of_message(fields, role, mark, self.meter)?;
        if !content.is_empty() {
            self.turn(Turn::Model(true)).extend(content);
        }
        Ok(())
    }

    /// Adds a part of the model's that is an item.
    fn model(&mut self, part: Part, rest: Option<Json>) -> Result<(), LlmError> {
        let fields = joined(rest, None)?;
        self.push(Turn::Model(false), part, fields);
        Ok(())
    }

    fn call(
        &mut self,
        item: RawJson<'_>,
        fields: &Object<'_>,
        arguments: String,
        known: &'static [&'static str],
    ) -> Result<(), LlmError> {
        self.meter.parts(1)?;
        self.meter.tool_call()?;
        let name = fields.text("name")?.ok_or_else(|| bad("input.name", "a text"))?;
        let mut rest = provider_data::rest(item, known)?;
        let name = match fields.text("namespace")? {
            None => {
                rest = without(rest, &["name"])?;
                name
            }
            Some(namespace) => {
                let neutral = self.names.neutral(&namespace, &name);
                // Kept only where the tools do not tell.
                let own = self.names.own(&neutral);
                if own.is_some_and(|own| own.namespace.as_ref() == Some(&namespace) && own.name == name) {
                    rest = without(rest, &["name", "namespace"])?;
                }
                neutral
            }
        };
        let id = self.id_of_call.take().or(fields.text("call_id")?).unwrap_or_default();
        let mut call = ToolCall::new(id, name, arguments);
        call.opaque = self.of_call.take();
        self.model(Part::ToolCall(call), rest)
    }

    /// Adds a tool's output; consecutive ones are one turn.
    fn output(&mut self, item: RawJson<'_>, fields: &Object<'_>, known: &[&str]) -> Result<(), LlmError> {
        (self.of_call, self.id_of_call) = (None, None);
        self.meter.parts(1)?;
        let output = fields.get("output").filter(|output| !is_null(output));
        let output = output.ok_or_else(|| bad("input.output", "a text or a list"))?;
        let mut result = ToolResult::new(fields.text("call_id")?.unwrap_or_default(), "");
        result.content = content::of_value(Some(output), "input.output", Role::User, Whose::Output, self.meter)?;
        let rest = joined(provider_data::rest(item, known)?, None)?;
        self.push(Turn::Outputs, Part::ToolResult(result), rest);
        Ok(())
    }

    fn push(&mut self, turn: Turn, part: Part, fields: Option<Json>) {
        let content = self.turn(turn);
        content.push(part);
        content.extend(fields.map(|fields| {
            let extra = Extra { dialect: Dialect::Responses, fields };
            Part::Extra { of: ExtraOf::Part, extra }
        }));
    }

    /// Returns the content of the turn that an item joins: the last one, or one that begins here.
    fn turn(&mut self, turn: Turn) -> &mut Vec<Part> {
        let goes_on = matches!((self.last, turn), (Turn::Model(_), Turn::Model(_)) | (Turn::Outputs, Turn::Outputs));
        if !goes_on || self.chat.messages.is_empty() {
            let role = if turn == Turn::Outputs { Role::User } else { Role::Assistant };
            self.chat.messages.push(Message::new(role, Vec::new()));
        }
        self.last = turn;
        let place = self.chat.messages.len() - 1;
        &mut self.chat.messages[place].content
    }
}

/// Removes fields of an object.
fn without(object: Option<Json>, names: &[&str]) -> Result<Option<Json>, LlmError> {
    object.map_or(Ok(None), |object| provider_data::rest(object.raw(), names))
}

/// Returns the arguments: a text of JSON; some clients write the object itself.
fn arguments(fields: &Object<'_>) -> Result<String, LlmError> {
    let Some(raw) = fields.get("arguments").filter(|raw| !is_null(raw)) else { return Ok(String::new()) };
    Ok(text(raw)?.unwrap_or_else(|| raw.get().to_owned()))
}

/// Returns the free text of a call as the argument `input`.
fn free_text(fields: &Object<'_>) -> Result<String, LlmError> {
    let mut arguments = RawObject::default();
    match fields.get("input").filter(|input| !is_null(input)) {
        Some(input) => arguments.add("input", input)?,
        None => arguments.add("input", Json::from(serde_json::Value::from("")).raw())?,
    }
    Ok(arguments.finish()?.map_or_else(String::new, |arguments| arguments.as_str().to_owned()))
}

/// A reasoning item that was read.
enum Thought {
    /// A thought, and the fields of its item that the neutral form lacks.
    Own(Reasoning, Option<Json>),
    /// The signature of the call behind it.
    OfCall(Opaque),
    /// The id of the call behind it.
    IdOfCall(String),
}

fn reasoning(item: RawJson<'_>, fields: &Object<'_>, meter: &mut Meter<'_>) -> Result<Thought, LlmError> {
    meter.parts(1)?;
    let summary = texts(fields.get("summary"), "summary_text", meter)?;
    let content = texts(fields.get("content"), "reasoning_text", meter)?;
    let encrypted = fields.text("encrypted_content")?.filter(|encrypted| !encrypted.is_empty());
    let is_foreign = encrypted.as_ref().is_some_and(|encrypted| encrypted.starts_with(ENVELOPE));
    let id = fields.text("id")?.unwrap_or_default();
    if let Some(id) = encrypted.as_deref().filter(|_| is_foreign).and_then(unseal_id) {
        return Ok(Thought::IdOfCall(id));
    }
    let opaque = match encrypted {
        Some(encrypted) if is_foreign => match unseal(encrypted, Dialect::Responses, true) {
            Some(Unsealed { opaque, of_call: true }) => return Ok(Thought::OfCall(opaque)),
            unsealed => unsealed.map(|unsealed| unsealed.opaque),
        },
        Some(encrypted) => {
            Some(Opaque { dialect: Dialect::Responses, token: sealed::join(&id, &encrypted), redacted: true })
        }
        None => None,
    };
    // The token has the id of the item that was sealed.
    let is_sealed = opaque.as_ref().is_some_and(|opaque: &Opaque| opaque.dialect == Dialect::Responses);
    let mut known = vec!["type", "encrypted_content"];
    if is_sealed {
        known.push("id");
    }
    if content.is_none() && summary.as_ref().is_none_or(|summary| summary.is_plain) {
        known.extend(["summary", "content"]);
    }
    let text = summary.filter(|summary| !summary.text.is_empty()).or(content).map(|texts| texts.text);
    Ok(Thought::Own(Reasoning { text: text.unwrap_or_default(), opaque }, provider_data::rest(item, &known)?))
}

/// The texts of a thought.
struct Texts {
    /// The texts, as paragraphs.
    text: String,
    /// True if it is one text without other fields, or none.
    is_plain: bool,
}

/// Reads the texts of a list of parts of this type, unless the list is absent or empty.
fn texts(list: Option<RawJson<'_>>, kind: &str, meter: &mut Meter<'_>) -> Result<Option<Texts>, LlmError> {
    let Some(list) = list.filter(|list| is_list(list)) else { return Ok(None) };
    let length = count(list);
    if length == 0 {
        return Ok(None);
    }
    meter.parts(length)?;
    let mut texts = Texts { text: String::new(), is_plain: length == 1 };
    each(list, |raw| {
        let part = Object::read(raw, &["type", "text"])?;
        let text = part.text("text")?.filter(|_| part.word("type").as_deref() == Some(kind));
        texts.is_plain &= text.as_ref().is_some_and(|text| !text.is_empty())
            && provider_data::rest(raw, &["type", "text"])?.is_none();
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            if !texts.text.is_empty() {
                texts.text.push_str("\n\n");
            }
            texts.text.push_str(&text);
        }
        Ok(())
    })?;
    Ok(Some(texts))
}
