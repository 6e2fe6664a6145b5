use std::{borrow::Cow, collections::HashSet};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    content::{Block, Content, block, replace, without_item},
    tools::AnyTool,
};
use crate::{
    Dialect, ErrorKind, LlmError,
    chat::{Chat, Extra, Json, Message, OutputSchema, Part, Role, ToolCall, ToolChoice, ToolResult},
    fields::Object,
    models::Family,
    openai::JsonSchema,
    protocol::{to_json, to_value},
    translate::{ASK_FOR_JSON, Extras, Feature, Report, Settings, Situation, settle},
    wire::{
        provider_data,
        responses::{
            self, SystemPrefix, sealed,
            tool_names::{CallKind, ToolNames},
        },
    },
};

/// The body of a request.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    input: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<AnyTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    include: Option<&'static [&'static str]>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    /// The fields that the neutral form lacks.
    #[serde(flatten)]
    extras: Extras,
}

#[derive(Serialize)]
struct Text<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<Json>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<'a> {
    JsonObject,
    JsonSchema(JsonSchema<'a>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Item<'a> {
    Message {
        role: &'static str,
        content: Content<'a>,
    },
    Reasoning {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        summary: Vec<Summary<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<&'a str>,
    },
    FunctionCall {
        call_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        name: &'a str,
        arguments: &'a str,
    },
    CustomToolCall {
        call_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        name: &'a str,
        input: String,
    },
    FunctionCallOutput {
        call_id: &'a str,
        output: Content<'a>,
    },
    CustomToolCallOutput {
        call_id: &'a str,
        output: Content<'a>,
    },
    #[serde(untagged)]
    Own(&'a Json),
    /// Rebuilt with fields of this dialect's own.
    #[serde(untagged)]
    Made(Value),
}

#[derive(Serialize)]
struct Summary<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'a str,
}

/// The provider refuses a smaller limit.
const LEAST_TOKENS: u32 = 16;

/// The field by which an answer brings its sealed reasoning along.
pub(super) const SEALED: &[&str] = &["reasoning.encrypted_content"];

impl<'a> Body<'a> {
    fn of(
        chat: &'a Chat,
        names: &'a ToolNames,
        (model, family): (&'a str, &Family),
        settled: &Settings,
        stream: bool,
        report: &mut Report,
    ) -> Result<Self, LlmError> {
        let own = came_in_this_dialect(chat);
        if !chat.stop.is_empty() {
            report.record(Feature::Stops);
        }
        let mut instructions = settled
            .with_words(chat.system.as_deref())
            .map(Cow::Owned)
            .or_else(|| chat.system.as_deref().filter(|system| !system.is_empty()).map(Cow::Borrowed));
        let mut input = items(chat, names, settled, report)?;
        if input.is_empty() && !own {
            // The API refuses a request without an item.
            let words = instructions
                .take()
                .ok_or_else(|| LlmError::new(ErrorKind::InvalidRequest, "the conversation has no content"))?;
            input.push(Item::Message { role: "system", content: Content::Joined(words.into_owned()) });
        }
        let mut extras = report.take_extras();
        let output = chat.output.as_ref().filter(|_| settled.holds_output);
        let format = output.map(|output| JsonSchema::of(output).map_or(Format::JsonObject, Format::JsonSchema));
        let verbosity = extras.remove("text.verbosity");
        let mut max_output_tokens = settled.max_tokens;
        if let Some(tokens) = max_output_tokens.filter(|tokens| *tokens < LEAST_TOKENS && !own) {
            report.record_field(Feature::MaxOutput, format!("{LEAST_TOKENS} tokens in place of {tokens}"));
            max_output_tokens = Some(LEAST_TOKENS);
        }
        Ok(Self {
            model,
            instructions,
            input,
            tools: AnyTool::list(&chat.tools, names, own)?,
            tool_choice: settled.tool_choice.as_ref().map(|choice| spelled_choice(choice, chat, names)),
            // Refused without tools.
            parallel_tool_calls: settled.parallel_tool_calls.filter(|_| !chat.tools.is_empty()),
            max_output_tokens,
            temperature: settled.temperature,
            top_p: settled.top_p,
            text: (format.is_some() || verbosity.is_some()).then_some(Text { format, verbosity }),
            reasoning: settled.reasoning.effort_word().map(|effort| json!({ "effort": effort })),
            // Without the field the provider keeps the conversation.
            store: (!own).then(|| extras.remove("store").unwrap_or_else(|| Value::from(false).into())),
            include: (!own && family.reasons()).then_some(SEALED),
            stream,
            extras,
        })
    }
}

/// Returns true if the request came in this dialect, so that its caller's own settings count.
fn came_in_this_dialect(chat: &Chat) -> bool {
    chat.extra.as_ref().is_some_and(|extra| extra.dialect == Dialect::Responses)
}

/// Returns the choice of a tool, by the caller's own name.
fn spelled_choice(choice: &ToolChoice, chat: &Chat, names: &ToolNames) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::Required => json!("required"),
        ToolChoice::None => json!("none"),
        ToolChoice::Named(name) if chat.tools.iter().any(|tool| tool.name == *name && tool.runs_at_provider()) => {
            json!({ "type": name })
        }
        ToolChoice::Named(name) => {
            let Some(own) = names.own(name) else { return json!({"type": "function", "name": name}) };
            let kind = if own.kind == CallKind::Custom { "custom" } else { "function" };
            let mut choice = json!({"type": kind, "name": own.name});
            if let Some(namespace) = &own.namespace {
                choice["namespace"] = namespace.as_str().into();
            }
            choice
        }
    }
}

/// Encodes a request. Settings that were read in this dialect are written unchanged, unless a layer changed them or the
/// model refuses them.
pub(super) fn body(
    chat: &Chat,
    (model, family): (&str, &Family),
    stream: bool,
    is_other_model: bool,
    report: &mut Report,
) -> Result<Bytes, LlmError> {
    let names = ToolNames::of(chat);
    let situation = Situation { has_tools: !chat.tools.is_empty(), ..Situation::default() };
    let mut settled = settle(chat, situation, family, report);
    let extra = chat.extra.as_ref().filter(|extra| extra.dialect == Dialect::Responses);
    let keeps = !is_other_model && extra.is_some();
    if keeps {
        settled.keep(chat, report);
    }
    let body = Body::of(chat, &names, (model, family), &settled, stream, report)?;
    let Some(extra) = extra else { return to_json(&body) };
    let mut body = to_value(&body)?;
    let mut was = Chat::default();
    responses::settings(extra.fields.raw(), &names, &mut was)?;
    if keeps {
        report.withdraw_settings();
    }
    let mut fields = extra.fields.fields();
    let leading = fields.remove("input");
    let has_same_system = settled.in_words.is_none() && SystemPrefix::read(extra.fields.raw())? == chat.system;
    if has_same_system && let Some(Value::Array(mut items)) = leading {
        if let Some(Value::Array(rest)) = body.get_mut("input") {
            items.append(rest);
        }
        body["input"] = Value::Array(items);
    }
    let same_output = was.output == chat.output && (keeps || settled.holds_output);
    let same_thinking = was.thinking == chat.thinking && keeps;
    // An object that has other settings too.
    for (same, name, changed) in [(same_output, "text", "format"), (same_thinking, "reasoning", "effort")] {
        let Some(Value::Object(mut before)) = fields.get(name).filter(|_| !same).cloned() else { continue };
        before.remove(changed);
        if !before.is_empty() && (name != "reasoning" || family.reasons()) {
            let mut now = body.get_mut(name).map_or_else(|| json!({}), Value::take);
            provider_data::merge(&mut now, &before);
            body[name] = now;
        }
    }
    if is_other_model && !family.reasons() && !family.is_careful() {
        without_sealed(&mut fields);
    }
    provider_data::restore(
        &mut body,
        &fields,
        &[
            (has_same_system, &["instructions"]),
            (was.tool_choice == chat.tool_choice && keeps, &["tool_choice"]),
            (was.parallel_tool_calls == chat.parallel_tool_calls && keeps, &["parallel_tool_calls"]),
            (was.max_tokens == chat.max_tokens && keeps, &["max_output_tokens"]),
            (was.temperature == chat.temperature && keeps, &["temperature"]),
            (was.top_p == chat.top_p && keeps, &["top_p"]),
            (same_output, &["text"]),
            (same_thinking, &["reasoning"]),
            (keeps || settled.samples, &["top_logprobs", "top_k"]),
            (keeps || family.penalties(), &["presence_penalty", "frequency_penalty"]),
            (stream, &["stream_options"]),
        ],
    );
    to_json(&body)
}

/// Removes the request for sealed reasoning, which a model without reasoning refuses.
fn without_sealed(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(include)) = fields.get_mut("include") {
        include.retain(|name| name != SEALED[0]);
    }
}

fn items<'a>(
    chat: &'a Chat,
    names: &'a ToolNames,
    settled: &Settings,
    report: &mut Report,
) -> Result<Vec<Item<'a>>, LlmError> {
    let own = came_in_this_dialect(chat);
    let mut items = Items { own, names, free_calls: HashSet::new(), list: Vec::with_capacity(chat.messages.len() + 1) };
    if !own && settled.holds_output && wants_the_word_json(chat) {
        report.record(Feature::JsonMode);
        items.list.push(Item::Message { role: "system", content: Content::Text(ASK_FOR_JSON) });
    }
    for message in &chat.messages {
        report.check_stopped()?;
        items.turn(message, report)?;
    }
    if !own && chat.messages.last().is_some_and(|last| last.role == Role::Assistant) {
        report.record(Feature::Prefill);
    }
    Ok(items.list)
}

/// Returns true if the request asks for JSON without a schema, and no item has the word: the API refuses that, whatever
/// the instructions say.
fn wants_the_word_json(chat: &Chat) -> bool {
    matches!(chat.output, Some(OutputSchema { schema: None, .. }))
        && !chat.messages.iter().any(|message| message.text().to_ascii_lowercase().contains("json"))
}

/// The items of a conversation, as far as they are written.
struct Items<'a> {
    /// True if the request came in this dialect.
    own: bool,
    names: &'a ToolNames,
    /// The ids of calls of tools that take free text.
    free_calls: HashSet<&'a str>,
    list: Vec<Item<'a>>,
}

/// A message whose parts are not all there yet.
struct OpenMessage<'a> {
    blocks: Vec<Block<'a>>,
    /// The fields that only this dialect knows.
    extra: Map<String, Value>,
}

impl<'a> Items<'a> {
    /// Writes a turn. Other dialects have a turn's results of tools before all else in it.
    fn turn(&mut self, message: &'a Message, report: &mut Report) -> Result<(), LlmError> {
        let before = self.list.len();
        let is_result = |part: &Part| matches!(part, Part::ToolResult(_));
        if self.own {
            self.parts(message, |_| true, report)?;
        } else {
            self.parts(message, is_result, report)?;
            self.parts(message, |part| !is_result(part), report)?;
        }
        if message.content.is_empty() && (self.own || message.role == Role::User) && self.list.len() == before {
            self.list.push(Item::Message { role: role(message.role), content: Content::Text("") });
        }
        Ok(())
    }

    fn parts(
        &mut self,
        message: &'a Message,
        wanted: impl Fn(&Part) -> bool,
        report: &mut Report,
    ) -> Result<(), LlmError> {
        let is_models = message.role == Role::Assistant;
        let mut open: Option<OpenMessage<'a>> = None;
        for (place, part) in message.content.iter().enumerate().filter(|(_, part)| wanted(part)) {
            let beside = provider_data::beside(&message.content, place, Dialect::Responses);
            let item = match part {
                Part::Extra { .. } => {
                    report.record_extra(part);
                    continue;
                }
                Part::Text(text) if text.is_empty() && is_models && beside.is_none() => continue,
                Part::Reasoning(reasoning) => self.reasoning(reasoning, report),
                Part::ToolCall(call) => Some(self.call(call, beside, report)?),
                Part::ToolResult(result) => Some(self.result(result, beside, report)?),
                Part::Other { dialect: Dialect::Responses, value } if beside.is_none() => Some(Item::Own(value)),
                Part::Image(_) | Part::Document(_) if is_models && !self.own => {
                    report.record_field(Feature::OwnPart, "a picture or file of the model's");
                    None
                }
                part => {
                    let extra = item_fields(beside);
                    if extra.is_some() {
                        self.close(message.role, open.take())?;
                    }
                    let message = open.get_or_insert_with(|| OpenMessage { blocks: Vec::new(), extra: Map::new() });
                    message.extra.extend(extra.into_iter().flatten());
                    // An empty text bears the fields of a message without content.
                    let is_bearer = matches!(part, Part::Text(text) if text.is_empty()) && self.own;
                    if !is_bearer {
                        message.blocks.extend(block(part, without_item(beside), is_models, report)?);
                    }
                    continue;
                }
            };
            let Some(item) = item else { continue };
            self.close(message.role, open.take())?;
            self.list.push(with_fields(item, item_fields(beside).as_ref())?);
        }
        self.close(message.role, open)
    }

    /// Ends a message.
    fn close(&mut self, of: Role, open: Option<OpenMessage<'a>>) -> Result<(), LlmError> {
        let Some(OpenMessage { blocks, extra }) = open else { return Ok(()) };
        if blocks.is_empty() && !self.own {
            return Ok(());
        }
        let item = Item::Message { role: role(of), content: Content::of(blocks) };
        self.list.push(with_fields(item, (!extra.is_empty()).then_some(&extra))?);
        Ok(())
    }

    /// Writes a thought that its provider sealed. A caller of this dialect may send others too.
    fn reasoning(&self, reasoning: &'a crate::chat::Reasoning, report: &mut Report) -> Option<Item<'a>> {
        let sealed = reasoning.opaque.as_ref();
        let (id, encrypted_content) = match sealed {
            Some(opaque) if opaque.dialect == Dialect::Responses && opaque.redacted => {
                let (id, encrypted) = sealed::split(&opaque.token);
                (Some(id).filter(|id| !id.is_empty()), Some(encrypted))
            }
            None if self.own => (None, None),
            _ => {
                report.record(Feature::Reasoning);
                return None;
            }
        };
        let summary = Summary { kind: "summary_text", text: &reasoning.text };
        let summary = if reasoning.text.is_empty() { Vec::new() } else { vec![summary] };
        Some(Item::Reasoning { id, summary, encrypted_content })
    }

    fn call(&mut self, call: &'a ToolCall, beside: Option<&Extra>, report: &mut Report) -> Result<Item<'a>, LlmError> {
        if call.opaque.is_some() {
            report.record(Feature::CallSignature);
        }
        let own = self.names.own(&call.name);
        let is_custom = match kind_of(beside)?.as_deref() {
            Some(kind) => kind == "custom_tool_call",
            None => own.is_some_and(|own| own.kind == CallKind::Custom),
        };
        let namespace = own.and_then(|own| own.namespace.as_deref());
        let name = own.map_or(call.name.as_str(), |own| &own.name);
        let call_id = call.id.as_str();
        if is_custom {
            self.free_calls.insert(call_id);
            return Ok(Item::CustomToolCall { call_id, namespace, name, input: free_text(&call.arguments) });
        }
        let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        Ok(Item::FunctionCall { call_id, namespace, name, arguments })
    }

    /// Writes a result. A failure goes into words.
    fn result(
        &mut self,
        result: &'a ToolResult,
        beside: Option<&Extra>,
        report: &mut Report,
    ) -> Result<Item<'a>, LlmError> {
        let mut blocks = Vec::with_capacity(result.content.len());
        for (place, part) in result.content.iter().enumerate() {
            if let Part::Extra { .. } = part {
                report.record_extra(part);
                continue;
            }
            let extra = provider_data::beside(&result.content, place, Dialect::Responses);
            blocks.extend(block(part, without_item(extra), false, report)?);
        }
        let mut output = if self.own { Content::of(blocks) } else { Content::joined(blocks) };
        if result.is_error {
            report.record(Feature::ToolError);
            output = output.after("Error: ");
        }
        let is_custom = match kind_of(beside)?.as_deref() {
            Some(kind) => kind == "custom_tool_call_output",
            None => self.free_calls.contains(result.call_id.as_str()),
        };
        let call_id = result.call_id.as_str();
        Ok(match is_custom {
            true => Item::CustomToolCallOutput { call_id, output },
            false => Item::FunctionCallOutput { call_id, output },
        })
    }
}

fn role(of: Role) -> &'static str {
    match of {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

/// Returns the fields of the item that begins with a part.
fn item_fields(beside: Option<&Extra>) -> Option<Map<String, Value>> {
    let item = beside?.fields.get("item")?;
    Some(Json::of(item).fields())
}

/// Returns the type of the item in the fields beside its part.
fn kind_of(beside: Option<&Extra>) -> Result<Option<String>, LlmError> {
    let Some(item) = beside.and_then(|extra| extra.fields.get("item")) else { return Ok(None) };
    Object::read(item, &["type"])?.text("type")
}

/// Writes the fields that only this dialect knows into an item. They replace those of the same name.
fn with_fields<'a>(item: Item<'a>, extra: Option<&Map<String, Value>>) -> Result<Item<'a>, LlmError> {
    let Some(extra) = extra else { return Ok(item) };
    let mut value = to_value(&item)?;
    replace(&mut value, extra);
    Ok(Item::Made(value))
}

/// Returns the free text in the arguments that stand for it.
fn free_text(arguments: &str) -> String {
    let read: Option<Value> = serde_json::from_str(arguments).ok();
    let input = read.as_ref().and_then(|arguments| arguments.get("input")?.as_str());
    input.map_or_else(|| arguments.to_owned(), str::to_owned)
}
