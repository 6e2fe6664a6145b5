//! OpenAI's chat completions, read of a caller's own bytes.

use serde_json::json;

use crate::{
    Dialect, LlmError,
    chat::{
        Chat, Document, Extra, ExtraOf, Image, Json, Media, Message, Opaque, OutputSchema, Part, Reasoning, Role, Tool,
        ToolCall, ToolChoice, ToolResult,
    },
    fields::{Object, bad, check_representable, count, each, is_list, is_null, is_object, text, word},
    raw_json::RawJson,
    wire::{
        Meter,
        foreign::{MARK, is_marked_well, of_format_name, unseal, unseal_id},
        provider_data,
        responses::tools::free_text,
        wishes::ThinkingWish,
    },
};

/// The fields of a body that are read.
const BODY: &[&str] = &[
    "model",
    "stream",
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "response_format",
    "reasoning_effort",
    "reasoning",
    "thinking",
    "enable_thinking",
    "thinking_budget",
    "include_reasoning",
];

/// Decodes a caller's request.
pub fn decode(body: RawJson<'_>, meter: &mut Meter<'_>) -> Result<Chat, LlmError> {
    let fields = Object::read(body, BODY)?;
    let mut chat = Chat { model: fields.text("model")?, ..Chat::default() };
    chat.stream = fields.flag("stream").unwrap_or(false);
    read_settings(&fields, &mut chat)?;
    let messages = fields.get("messages").filter(|list| is_list(list)).ok_or_else(|| bad("messages", "a list"))?;
    let length = count(messages);
    meter.messages(length)?;
    chat.messages.reserve_exact(length);
    let mut conversation =
        Conversation { chat: &mut chat, meter, leading: SystemPrefix::default(), begun: false, results: false };
    each(messages, |message| conversation.turn(message))?;
    let leading = conversation.leading;
    // Results are turns of their own here, and parts of one in the neutral form.
    chat.messages.shrink_to_fit();
    chat.system = leading.system;
    if let Some(tools) = fields.get("tools") {
        each(tools, |tool| {
            meter.tool()?;
            chat.tools.push(definition(tool)?);
            Ok(())
        })?;
    }
    let rest = provider_data::rest(body, &["model", "stream", "messages", "tools"])?;
    // The unchanged system prompt, behind the settings.
    let rest = match (rest, leading.stood) {
        (rest, stood) if (leading.plain && leading.count == 1) || stood.is_empty() => rest,
        (rest, stood) => Some(provider_data::with_list(rest, "messages", &stood)?),
    };
    chat.extra = Some(Extra::new(Dialect::OpenAi, rest.unwrap_or_else(Json::no_fields)));
    Ok(chat)
}

/// The messages of the system before all others.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "it holds words of callers or models")]
pub struct SystemPrefix {
    /// Their texts, as paragraphs.
    pub system: Option<String>,
    /// The messages unchanged, separated by commas.
    stood: String,
    count: usize,
    /// True if each is only a text of the system's.
    plain: bool,
}

impl SystemPrefix {
    fn add(&mut self, message: RawJson<'_>, fields: &Object<'_>, meter: &mut Meter<'_>) -> Result<(), LlmError> {
        // The texts of one message are as separate as those of several.
        let parts = content(fields, meter)?;
        let texts: Vec<&str> = parts.iter().filter_map(Part::as_text).collect();
        let text = texts.join("\n\n");
        match &mut self.system {
            Some(system) => system.extend(["\n\n", &text]),
            None => self.system = Some(text),
        }
        let is_plain = fields.word("role").as_deref() == Some("system")
            && fields.get("content").is_some_and(|content| content.get().starts_with('"'))
            && provider_data::rest(message, &["role", "content"])?.is_none();
        self.plain = (self.plain || self.count == 0) && is_plain;
        if self.count > 0 {
            self.stood.push(',');
        }
        self.stood.push_str(message.get());
        self.count += 1;
        Ok(())
    }

    /// Returns the system prompt of such messages.
    pub fn read(messages: RawJson<'_>) -> Result<Option<String>, LlmError> {
        let stop = crate::wire::Stop::default();
        let mut meter = Meter::of(b"", crate::wire::WireLimits::unlimited(), &stop)?;
        let mut leading = Self::default();
        each(messages, |message| leading.add(message, &Object::read(message, MESSAGE)?, &mut meter))?;
        Ok(leading.system)
    }
}

/// Decodes all but the conversation and the tools.
pub fn settings(body: RawJson<'_>, chat: &mut Chat) -> Result<(), LlmError> {
    read_settings(&Object::read(body, BODY)?, chat)
}

fn read_settings(body: &Object<'_>, chat: &mut Chat) -> Result<(), LlmError> {
    chat.tool_choice = match body.get("tool_choice").filter(|choice| !is_null(choice)) {
        None => None,
        Some(choice) if is_object(choice) => Some(tool_choice(choice)?),
        Some(_) => Some(match body.word("tool_choice").as_deref() {
            Some("auto") => ToolChoice::Auto,
            Some("required" | "any") => ToolChoice::Required,
            Some("none") => ToolChoice::None,
            _ => return Err(bad("tool_choice", "auto, required, none or an object")),
        }),
    };
    chat.parallel_tool_calls = body.flag("parallel_tool_calls");
    chat.max_tokens = limit(body, "max_completion_tokens")?.or(limit(body, "max_tokens")?);
    chat.temperature = body.floating("temperature")?;
    chat.top_p = body.floating("top_p")?;
    chat.stop = body.strings("stop")?;
    chat.output = output(body)?;
    chat.thinking = ThinkingWish::of(body)?.amount;
    Ok(())
}

fn tool_choice(raw: RawJson<'_>) -> Result<ToolChoice, LlmError> {
    let choice = Object::read(raw, &["allowed_tools", "function", "custom", "name"])?;
    if let Some(allowed) = choice.object("allowed_tools") {
        let mode = Object::read(allowed, &["mode"])?.word("mode");
        return Ok(if mode.as_deref() == Some("required") { ToolChoice::Required } else { ToolChoice::Auto });
    }
    let named = choice.object("function").or_else(|| choice.object("custom")).unwrap_or(raw);
    let name = Object::read(named, &["name"])?.text("name")?;
    name.map(ToolChoice::Named).ok_or_else(|| bad("tool_choice.function.name", "a text"))
}

/// Reads a number of tokens; servers of local models, and theirs alone, take -1 for no limit.
fn limit(body: &Object<'_>, field: &str) -> Result<Option<u32>, LlmError> {
    match body.signed(field) {
        Some(..0) => Ok(None),
        _ => body.number(field),
    }
}

/// Decodes the definition of a tool.
pub fn definition(tool: RawJson<'_>) -> Result<Tool, LlmError> {
    let fields = Object::read(tool, &["type", "function", "custom"])?;
    let whole = || {
        check_representable("tools", tool)?;
        Ok::<_, LlmError>(is_object(tool).then(|| Extra::new(Dialect::OpenAi, Json::of(tool))))
    };
    let Some(function) = fields.object("function") else {
        if let Some(custom) = fields.object("custom") {
            let mut definition = custom_tool(custom)?;
            definition.extra = whole()?;
            return Ok(definition);
        }
        // A tool that runs at the provider.
        let named = Object::read(tool, &["name"])?.text("name")?;
        let name = match named {
            None => fields.text("type")?,
            name => name,
        };
        let mut definition = Tool::new(name.ok_or_else(|| bad("tools.type", "a text"))?, Json::null());
        definition.extra = whole()?;
        return Ok(definition);
    };
    let function = Object::read(function, &["name", "parameters", "description", "strict"])?;
    let name = function.text("name")?.ok_or_else(|| bad("tools.function.name", "a text"))?;
    let schema = function.object("parameters").map(Json::of);
    let has_schema = schema.is_some();
    let none = || Json::from(json!({"type": "object", "properties": {}}));
    let mut definition = Tool::new(name, schema.unwrap_or_else(none));
    definition.description = function.text("description")?;
    definition.strict = function.flag("strict");
    let known = ["type", "function.name", "function.description", "function.parameters", "function.strict"];
    if !has_schema || provider_data::rest(tool, &known)?.is_some() {
        definition.extra = whole()?;
    }
    Ok(definition)
}

/// Decodes a tool that takes free text: one with the one argument `input`.
fn custom_tool(custom: RawJson<'_>) -> Result<Tool, LlmError> {
    let custom = Object::read(custom, &["name", "description", "format"])?;
    let name = custom.text("name")?.ok_or_else(|| bad("tools.custom.name", "a text"))?;
    let grammar = match custom.object("format") {
        Some(format) => Object::read(format, &["grammar"])?.object("grammar"),
        None => None,
    };
    let mut definition = Tool::new(name, free_text(grammar)?);
    definition.description = custom.text("description")?;
    Ok(definition)
}

fn output(body: &Object<'_>) -> Result<Option<OutputSchema>, LlmError> {
    let Some(format) = body.object("response_format") else { return Ok(None) };
    let format = Object::read(format, &["type", "json_schema"])?;
    Ok(match format.word("type").as_deref() {
        Some("json_object") => Some(OutputSchema { name: "answer".to_owned(), schema: None, strict: false }),
        Some("json_schema") => {
            let json = format.object("json_schema").ok_or_else(|| bad("response_format.json_schema", "an object"))?;
            let json = Object::read(json, &["name", "schema", "strict"])?;
            Some(OutputSchema {
                name: json.text("name")?.unwrap_or_else(|| "answer".to_owned()),
                schema: json.get("schema").map(Json::of),
                strict: json.flag("strict").unwrap_or(false),
            })
        }
        _ => None,
    })
}

/// The fields of a message of any role that are read.
const MESSAGE: &[&str] = &[
    "role",
    "content",
    "name",
    "tool_call_id",
    "tool_calls",
    "function_call",
    "refusal",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "thinking_blocks",
];

fn content(message: &Object<'_>, meter: &mut Meter<'_>) -> Result<Vec<Part>, LlmError> {
    match message.get("content").filter(|content| !is_null(content)) {
        None => Ok(Vec::new()),
        Some(content) if is_list(content) => parts(content, meter),
        Some(content) => {
            meter.parts(1)?;
            let text = text(content)?.ok_or_else(|| bad("messages.content", "a text or a list"))?;
            Ok(if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] })
        }
    }
}

/// A conversation that is decoded message by message.
struct Conversation<'a, 'm> {
    chat: &'a mut Chat,
    meter: &'a mut Meter<'m>,
    leading: SystemPrefix,
    /// True once a message came that is not the system's.
    begun: bool,
    /// True if the last turn has only tool results.
    results: bool,
}

impl Conversation<'_, '_> {
    fn turn(&mut self, message: RawJson<'_>) -> Result<(), LlmError> {
        let fields = Object::read(message, MESSAGE)?;
        let role = fields.word("role");
        if !self.begun && matches!(role.as_deref(), Some("system" | "developer")) {
            return self.leading.add(message, &fields, self.meter);
        }
        self.begun = true;
        let mut content = content(&fields, self.meter)?;
        let (role, known): (Role, &[&str]) = match role.as_deref() {
            Some("system") => (Role::System, &["role", "content"]),
            Some("developer") => (Role::System, &["content"]),
            Some("user") => (Role::User, &["role", "content"]),
            Some("assistant") => {
                content = assistant(&fields, content, self.meter)?;
                // Reasoning stays here too: servers differ in the name and the form that they take back.
                (Role::Assistant, &["role", "content", "refusal", "tool_calls", "function_call"])
            }
            Some("tool") => return self.result(message, &fields, content, &["role", "tool_call_id", "content"]),
            Some("function") => return self.result(message, &fields, content, &["content"]),
            _ => return Err(bad("messages.role", "developer, system, user, assistant or tool")),
        };
        provider_data::push_fields(&mut content, ExtraOf::Turn, Dialect::OpenAi, provider_data::rest(message, known)?);
        // An empty turn takes results as well as one of results does.
        self.results = role == Role::User && content.is_empty();
        self.chat.messages.push(Message::new(role, content));
        Ok(())
    }

    /// Adds a result; those of parallel calls are one turn.
    fn result(
        &mut self,
        message: RawJson<'_>,
        fields: &Object<'_>,
        content: Vec<Part>,
        known: &[&str],
    ) -> Result<(), LlmError> {
        let name = fields.text("name")?;
        let id = match fields.text("tool_call_id")? {
            None => name.clone(),
            id => id,
        };
        let mut result = ToolResult::new(id.unwrap_or_default(), "");
        result.name = name;
        result.content = content;
        self.meter.parts(1)?;
        if !std::mem::replace(&mut self.results, true) {
            self.chat.messages.push(Message::new(Role::User, Vec::new()));
        }
        let mut rest = provider_data::rest(message, known)?;
        if known.contains(&"tool_call_id") && fields.get("tool_call_id").is_none_or(is_null) {
            rest = provider_data::absent(rest, "tool_call_id")?;
        }
        if let Some(turn) = self.chat.messages.last_mut() {
            provider_data::push(&mut turn.content, Part::ToolResult(result), Dialect::OpenAi, rest);
        }
        Ok(())
    }
}

fn assistant(message: &Object<'_>, said: Vec<Part>, meter: &mut Meter<'_>) -> Result<Vec<Part>, LlmError> {
    let mut content = Vec::new();
    if let Some(details) = message.get("reasoning_details") {
        each(details, |raw| {
            meter.parts(1)?;
            content.extend(detail(raw)?);
            Ok(())
        })?;
    }
    if let Some(blocks) = message.get("thinking_blocks").filter(|_| content.is_empty()) {
        each(blocks, |raw| {
            meter.parts(1)?;
            content.extend(thinking_block(raw)?);
            Ok(())
        })?;
    }
    if content.is_empty() {
        let reasoning = match message.text("reasoning_content")? {
            None => message.text("reasoning")?,
            reasoning => reasoning,
        };
        let thought = reasoning.filter(|text| !text.is_empty());
        content.extend(thought.map(|text| Part::Reasoning(Reasoning { text, opaque: None })));
    }
    content.extend(said);
    content.extend(message.text("refusal")?.filter(|text| !text.is_empty()).map(Part::Refusal));
    if let Some(calls) = message.get("tool_calls").filter(|calls| is_list(calls)) {
        let length = count(calls);
        meter.parts(length)?;
        content.reserve_exact(length);
        each(calls, |raw| {
            meter.tool_call()?;
            call(raw, &mut content)
        })?;
    }
    if let Some(raw) = message.object("function_call") {
        let function = Object::read(raw, &["name", "arguments"])?;
        let name = function.text("name")?.unwrap_or_default();
        let part = Part::ToolCall(ToolCall::new(name.clone(), name, arguments(&function)?));
        // The older form of a call, which is to be written as such again.
        let mut older = provider_data::RawObject::default();
        older.add("function_call", raw)?;
        provider_data::push(&mut content, part, Dialect::OpenAi, older.finish()?);
    }
    Ok(content)
}

fn call(raw: RawJson<'_>, content: &mut Vec<Part>) -> Result<(), LlmError> {
    let call = Object::read(raw, &["id", "function", "custom", "extra_content"])?;
    let Some(function) = call.object("function") else {
        if !is_object(raw) {
            return Err(bad("tool_calls", "a list of objects"));
        }
        let Some(custom) = call.object("custom") else {
            content.push(Part::Other { dialect: Dialect::OpenAi, value: Json::of(raw) });
            return Ok(());
        };
        let custom = Object::read(custom, &["name", "input"])?;
        let name = custom.text("name")?.ok_or_else(|| bad("tool_calls.custom.name", "a text"))?;
        let arguments = json!({"input": custom.text("input")?.unwrap_or_default()}).to_string();
        let made = ToolCall::new(id_of(&call)?, name, arguments);
        // The type stays, so that this dialect gets the call back in its form.
        let rest = provider_data::rest(raw, &["id", "custom.name", "custom.input"])?;
        provider_data::push(content, Part::ToolCall(made), Dialect::OpenAi, rest);
        return Ok(());
    };
    let function = Object::read(function, &["name", "arguments"])?;
    let name = function.text("name")?.ok_or_else(|| bad("tool_calls.function.name", "a text"))?;
    let mut made = ToolCall::new(id_of(&call)?, name, arguments(&function)?);
    // Google's own endpoint of this dialect has the signature here.
    if let Some(extra) = call.object("extra_content")
        && let Some(google) = Object::read(extra, &["google"])?.object("google")
    {
        let token = Object::read(google, &["thought_signature"])?.text("thought_signature")?;
        let mark = Object::read(extra, &[MARK])?.word(MARK);
        made.opaque = token
            .map(|token| Opaque { dialect: Dialect::Gemini, token, redacted: false })
            .filter(|opaque| is_marked_well(opaque, mark.as_deref()));
    }
    let known = ["id", "type", "function.name", "function.arguments"];
    provider_data::push(content, Part::ToolCall(made), Dialect::OpenAi, provider_data::rest(raw, &known)?);
    Ok(())
}

/// Returns the id of a call: its own in an envelope, or the one in its place.
fn id_of(call: &Object<'_>) -> Result<String, LlmError> {
    let extra = call.object("extra_content").map(|extra| Object::read(extra, &["id"])).transpose()?;
    let own = extra.and_then(|extra| extra.word("id")).and_then(|envelope| unseal_id(&envelope));
    Ok(own.or(call.text("id")?).unwrap_or_default())
}

/// Decodes a thought in LiteLLM's form, which is Anthropic's own block.
fn thinking_block(raw: RawJson<'_>) -> Result<Option<Part>, LlmError> {
    let block = Object::read(raw, &["type", "thinking", "signature", "data"])?;
    let (text, token, redacted) = match block.word("type").as_deref() {
        Some("thinking") => (block.text("thinking")?.unwrap_or_default(), block.text("signature")?, false),
        Some("redacted_thinking") => (String::new(), block.text("data")?, true),
        _ => return Ok(None),
    };
    let token = token.filter(|token| !token.is_empty());
    let unsealed = token.and_then(|token| unseal(token, Dialect::Anthropic, redacted));
    let opaque = unsealed.filter(|unsealed| !unsealed.of_call).map(|unsealed| unsealed.opaque);
    Ok((!text.is_empty() || opaque.is_some()).then_some(Part::Reasoning(Reasoning { text, opaque })))
}

/// Decodes a thought in OpenRouter's form: readable and signed, or encrypted.
fn detail(raw: RawJson<'_>) -> Result<Option<Part>, LlmError> {
    let detail = Object::read(raw, &["type", "format", "text", "signature", "data", "summary", "id"])?;
    let whose = detail.word("format").and_then(|format| of_format_name(&format));
    let mark = detail.word("id");
    let opaque = |token, redacted| {
        whose
            .map(|dialect| Opaque { dialect, token, redacted })
            .filter(|opaque| is_marked_well(opaque, mark.as_deref()))
    };
    let reasoning = match detail.word("type").as_deref() {
        Some("reasoning.text") => Reasoning {
            text: detail.text("text")?.unwrap_or_default(),
            // A summary beside a sealed thought.
            opaque: detail.text("signature")?.and_then(|token| opaque(token, whose == Some(Dialect::Responses))),
        },
        Some("reasoning.encrypted") => match detail.text("data")?.and_then(|token| opaque(token, true)) {
            Some(opaque) => Reasoning { text: String::new(), opaque: Some(opaque) },
            None => return Ok(None),
        },
        Some("reasoning.summary") => Reasoning { text: detail.text("summary")?.unwrap_or_default(), opaque: None },
        _ => return Ok(None),
    };
    Ok(Some(Part::Reasoning(reasoning)))
}

/// Returns the arguments: a text of JSON; some clients write the object itself.
fn arguments(function: &Object<'_>) -> Result<String, LlmError> {
    let Some(raw) = function.get("arguments").filter(|raw| !is_null(raw)) else { return Ok(String::new()) };
    Ok(text(raw)?.unwrap_or_else(|| raw.get().to_owned()))
}

/// Decodes the parts, each followed by the fields that the neutral form lacks.
fn parts(list: RawJson<'_>, meter: &mut Meter<'_>) -> Result<Vec<Part>, LlmError> {
    let length = count(list);
    meter.parts(length)?;
    let mut parts = Vec::new();
    parts.reserve_exact(length);
    each(list, |raw| {
        let part = part(raw)?;
        let known: &[&str] = match &part {
            Part::Text(_) => &["type", "text"],
            // Marked as a part of the list, and not a field of the turn.
            Part::Refusal(_) => &["refusal"],
            Part::Image(_) => &["type", "image_url.url"],
            Part::Document(_) => &["type", "file.file_data", "file.filename", "file.file_id"],
            _ => {
                parts.push(part);
                return Ok(());
            }
        };
        let rest = provider_data::rest(raw, known)?;
        let rest = match &part {
            Part::Document(Document { name: None, media: Media::Base64 { .. } }) => {
                provider_data::absent(rest, "file.filename")?
            }
            _ => rest,
        };
        provider_data::push(&mut parts, part, Dialect::OpenAi, rest);
        Ok(())
    })?;
    Ok(parts)
}

fn part(raw: RawJson<'_>) -> Result<Part, LlmError> {
    let part = Object::read(raw, &["type", "text", "refusal", "image_url", "file"])?;
    let other = || Part::Other { dialect: Dialect::OpenAi, value: Json::of(raw) };
    Ok(match part.word("type").as_deref() {
        Some("text") => Part::Text(part.text("text")?.unwrap_or_default()),
        Some("refusal") => Part::Refusal(part.text("refusal")?.unwrap_or_default()),
        Some("image_url") => {
            let url = match part.object("image_url") {
                Some(image) => Object::read(image, &["url"])?.get("url"),
                None => part.get("image_url"),
            };
            // The neutral form has a copy of bytes in base64; there is no other.
            match url.and_then(word) {
                Some(url) => {
                    Part::Image(Image { media: data_url(&url).unwrap_or_else(|| Media::Url(url.into_owned())) })
                }
                // A server's own form of the address.
                None => other(),
            }
        }
        Some("file") => {
            let Some(file) = part.object("file") else { return Ok(other()) };
            let file = Object::read(file, &["file_data", "file_id", "filename"])?;
            let media = match (file.word("file_data"), file.text("file_id")?) {
                (Some(data), _) => data_url(&data),
                (None, id) => id.map(Media::File),
            };
            match media {
                Some(media) => Part::Document(Document { media, name: file.text("filename")? }),
                // A server's own form of the location.
                None => other(),
            }
        }
        Some(_) => other(),
        None => return Err(bad("messages.content.type", "a text")),
    })
}

/// Returns the bytes of a `data:` URL in base64.
pub(crate) fn data_url(url: &str) -> Option<Media> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let media_type = head.strip_suffix(";base64")?;
    Some(Media::Base64 { media_type: media_type.to_owned(), data: data.to_owned() })
}
