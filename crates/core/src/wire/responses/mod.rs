//! A request of OpenAI's Responses.
//!
//! `input` is a flat list of items; the neutral form has turns of parts. [`decode`] and the encoder of
//! `providers::responses` agree on the following form, so that a decoded request means the same once it is encoded.
//!
//! - `instructions` is [`Chat::system`]. The texts of leading `system` and `developer` messages follow as further
//!   paragraphs; the messages themselves stand in the chat's extra as its `input` (see [`SystemPrefix`]).
//! - A message of a user, the system or a developer is a turn. Consecutive items of the model (`reasoning`, assistant
//!   messages, calls, items of the provider) are one assistant turn. Consecutive outputs are one user turn.
//! - The fields of an item that the neutral form lacks stand under the key `item` in the [`Part::Extra`] behind the
//!   item's first part, beside the fields of that part: `{"item":{"id":"msg_1"},"annotations":[]}`. The key also marks
//!   a part that begins a new item: a message directly behind another one has it even if it is empty. `type`, `role`,
//!   `name` and `namespace` are there if they differ from what the part and the [`ToolNames`] give.
//! - An item that only this dialect knows is a [`Part::Other`] of the whole item, without an extra. A content part that
//!   only this dialect knows is a [`Part::Other`] too, and a message's always has an extra behind it.
//! - A `reasoning` item keeps its `summary` and `content` in the extra's `item` unless they are a single summary text,
//!   and its id in the token beside its `encrypted_content` ([`sealed`]).
//! - A `custom_tool_call` has the arguments `{"input":"the text"}`.
//! - Tools: see [`tools`].

mod content;
mod items;
pub mod sealed;
#[cfg(test)]
mod tests;
pub mod tool_names;
pub mod tools;

use self::{items::Conversation, tool_names::ToolNames, tools::Lists};
use crate::{
    Dialect, LlmError,
    chat::{Chat, Extra, Json, Message, OutputSchema, Part, Role, Thinking, ToolChoice},
    fields::{Object, bad, check_representable, count, each, is_list, is_null, is_object, text},
    raw_json::RawJson,
    wire::{Meter, provider_data, provider_data::RawObject},
};

/// The fields of a body that are read.
const BODY: &[&str] = &[
    "model",
    "stream",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_output_tokens",
    "temperature",
    "top_p",
    "text",
    "reasoning",
    "previous_response_id",
    "conversation",
    "prompt",
];

/// Decodes a caller's request.
pub fn decode(body: RawJson<'_>, meter: &mut Meter<'_>) -> Result<Chat, LlmError> {
    crate::fields::fields(body, check_representable)?;
    let fields = Object::read(body, BODY)?;
    let mut chat = Chat { model: fields.text("model")?, ..Chat::default() };
    chat.stream = fields.flag("stream").unwrap_or(false);
    chat.tools = tools::definitions(&Lists::find(fields.get("tools"), fields.get("input"))?, meter)?;
    let names = ToolNames::of(&chat);
    read_settings(&fields, &names, &mut chat)?;
    let mut leading = SystemPrefix::default();
    leading.instructions(&fields)?;
    match fields.get("input").filter(|input| !is_null(input)) {
        Some(list) if is_list(list) => {
            meter.messages(count(list))?;
            let mut conversation = Conversation::new(&mut chat, meter, &names, &mut leading);
            each(list, |item| conversation.item(item))?;
        }
        Some(input) => {
            meter.parts(1)?;
            let text = text(input)?.ok_or_else(|| bad("input", "a text or a list"))?;
            let content = if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] };
            chat.messages.push(Message::new(Role::User, content));
        }
        // The provider has the conversation.
        None if fields.either(&["previous_response_id", "conversation", "prompt"]).is_some() => {}
        None => return Err(bad("input", "a text or a list")),
    }
    chat.messages.shrink_to_fit();
    let rest = provider_data::rest(body, &["model", "stream", "input", "tools"])?;
    let rest = match &*leading.items {
        "" => rest,
        items => Some(provider_data::with_list(rest, "input", items)?),
    };
    chat.system = leading.system;
    chat.extra = Some(Extra::new(Dialect::Responses, rest.unwrap_or_else(Json::no_fields)));
    Ok(chat)
}

/// The system prompt: the instructions, and the messages of the system before all other items.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct SystemPrefix {
    system: Option<String>,
    /// The messages unchanged, separated by commas.
    items: String,
}

impl SystemPrefix {
    fn instructions(&mut self, body: &Object<'_>) -> Result<(), LlmError> {
        let Some(raw) = body.get("instructions").filter(|raw| !is_null(raw)) else { return Ok(()) };
        let text = text(raw)?.ok_or_else(|| bad("instructions", "a text"))?;
        self.system = Some(text).filter(|text| !text.is_empty());
        Ok(())
    }

    /// Adds the texts of a message, each as a paragraph.
    fn add(&mut self, item: RawJson<'_>, content: &[Part]) {
        for text in content.iter().filter_map(Part::as_text) {
            match &mut self.system {
                Some(system) => system.extend(["\n\n", text]),
                None => self.system = Some(text.to_owned()),
            }
        }
        if !self.items.is_empty() {
            self.items.push(',');
        }
        self.items.push_str(item.get());
    }

    /// Returns the system prompt that a decoded request had: `settings` are the fields of its extra.
    pub fn read(settings: RawJson<'_>) -> Result<Option<String>, LlmError> {
        let stop = crate::wire::Stop::default();
        let mut meter = Meter::of(b"", crate::wire::WireLimits::unlimited(), &stop)?;
        let fields = Object::read(settings, BODY)?;
        let mut prefix = Self::default();
        prefix.instructions(&fields)?;
        if let Some(items) = fields.get("input") {
            each(items, |item| {
                let content = content::of_item(&Object::read(item, &["content"])?, Role::System, &mut meter)?;
                prefix.add(item, &content);
                Ok(())
            })?;
        }
        Ok(prefix.system)
    }
}

/// Decodes all but the conversation and the tools.
pub fn settings(body: RawJson<'_>, names: &ToolNames, chat: &mut Chat) -> Result<(), LlmError> {
    read_settings(&Object::read(body, BODY)?, names, chat)
}

fn read_settings(body: &Object<'_>, names: &ToolNames, chat: &mut Chat) -> Result<(), LlmError> {
    chat.tool_choice = match body.get("tool_choice").filter(|choice| !is_null(choice)) {
        None => None,
        Some(choice) if is_object(choice) => Some(tool_choice(choice, names)?),
        Some(_) => Some(match body.word("tool_choice").as_deref() {
            Some("auto") => ToolChoice::Auto,
            Some("required") => ToolChoice::Required,
            Some("none") => ToolChoice::None,
            _ => return Err(bad("tool_choice", "auto, required, none or an object")),
        }),
    };
    chat.parallel_tool_calls = body.flag("parallel_tool_calls");
    chat.max_tokens = match body.signed("max_output_tokens") {
        // Servers of local models, and theirs alone, take -1 for no limit.
        Some(..0) => None,
        _ => body.number("max_output_tokens")?,
    };
    chat.temperature = body.floating("temperature")?;
    chat.top_p = body.floating("top_p")?;
    chat.output = match body.object("text") {
        Some(text) => output(text)?,
        None => None,
    };
    chat.thinking = match body.object("reasoning") {
        Some(reasoning) => thinking(reasoning)?,
        None => None,
    };
    Ok(())
}

fn thinking(reasoning: RawJson<'_>) -> Result<Option<Thinking>, LlmError> {
    let effort = Object::read(reasoning, &["effort"])?.word("effort");
    Ok(effort.and_then(|word| Thinking::of_word(&word)))
}

fn tool_choice(raw: RawJson<'_>, names: &ToolNames) -> Result<ToolChoice, LlmError> {
    let choice = Object::read(raw, &["type", "mode", "name", "namespace"])?;
    match choice.word("type").as_deref() {
        Some("allowed_tools") => Ok(match choice.word("mode").as_deref() {
            Some("required") => ToolChoice::Required,
            _ => ToolChoice::Auto,
        }),
        Some("function" | "custom") => {
            let name = choice.text("name")?.ok_or_else(|| bad("tool_choice.name", "a text"))?;
            Ok(ToolChoice::Named(match choice.text("namespace")? {
                Some(namespace) => names.neutral(&namespace, &name),
                None => name,
            }))
        }
        // A tool that runs at the provider is named by its type.
        Some(kind) => Ok(ToolChoice::Named(kind.to_owned())),
        None => Err(bad("tool_choice.type", "a text")),
    }
}

fn output(text: RawJson<'_>) -> Result<Option<OutputSchema>, LlmError> {
    let Some(format) = Object::read(text, &["format"])?.object("format") else { return Ok(None) };
    let format = Object::read(format, &["type", "name", "schema", "strict"])?;
    Ok(match format.word("type").as_deref() {
        Some("json_object") => Some(OutputSchema { name: "answer".to_owned(), schema: None, strict: false }),
        Some("json_schema") => Some(OutputSchema {
            name: format.text("name")?.unwrap_or_else(|| "answer".to_owned()),
            schema: format.get("schema").filter(|schema| !is_null(schema)).map(Json::of),
            strict: format.flag("strict").unwrap_or(false),
        }),
        _ => None,
    })
}

/// Joins the fields of an item, if a part begins one, and those of the part.
fn joined(item: Option<Json>, part: Option<Json>) -> Result<Option<Json>, LlmError> {
    let Some(item) = item else { return Ok(part) };
    let mut fields = RawObject::default();
    fields.add("item", item.raw())?;
    if let Some(part) = part {
        crate::fields::fields(part.raw(), |name, value| if name == "item" { Ok(()) } else { fields.add(name, value) })?;
    }
    fields.finish()
}
