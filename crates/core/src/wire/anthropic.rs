//! Messages, read of a caller's own bytes.

use crate::{
    Dialect, LlmError,
    chat::{
        Chat, Document, Effort, Extra, ExtraOf, Image, Json, Media, Message, Opaque, OutputSchema, Part, Reasoning,
        Role, Thinking, Tool, ToolCall, ToolChoice, ToolResult,
    },
    fields::{Object, bad, check_representable, count, each, is_list, is_null, text},
    raw_json::RawJson,
    wire::{
        Meter,
        foreign::{Unsealed, unmark_call, unseal, unseal_id},
        provider_data,
        tool_calls::arguments_of,
    },
};

/// The fields of a body that are read.
const BODY: &[&str] = &[
    "model",
    "stream",
    "messages",
    "tools",
    "system",
    "tool_choice",
    "max_tokens",
    "temperature",
    "top_p",
    "stop_sequences",
    "output_config",
    "output_format",
    "thinking",
];

/// Decodes a caller's request.
pub fn decode(body: RawJson<'_>, meter: &mut Meter<'_>) -> Result<Chat, LlmError> {
    let fields = Object::read(body, BODY)?;
    let mut chat = Chat { model: fields.text("model")?, ..Chat::default() };
    chat.stream = fields.flag("stream").unwrap_or(false);
    check_wishes(&fields)?;
    read_settings(&fields, &mut chat)?;
    let messages = fields.get("messages").filter(|list| is_list(list)).ok_or_else(|| bad("messages", "a list"))?;
    let length = count(messages);
    meter.messages(length)?;
    chat.messages.reserve_exact(length);
    each(messages, |message| {
        chat.messages.push(turn(message, meter)?);
        Ok(())
    })?;
    if let Some(tools) = fields.get("tools") {
        each(tools, |tool| {
            meter.tool()?;
            chat.tools.push(definition(tool)?);
            Ok(())
        })?;
    }
    // A system prompt that is a text fits the neutral form wholly.
    let in_whole = fields.get("system").is_some_and(|system| system.get().starts_with('"'));
    let known = ["model", "stream", "messages", "tools", "system"];
    let rest = provider_data::rest(body, if in_whole { &known } else { &known[..4] })?;
    chat.extra = Some(Extra::new(Dialect::Anthropic, rest.unwrap_or_else(Json::no_fields)));
    Ok(chat)
}

/// Checks that thinking and the output's form say what they are to be. Without that they would be as good as absent.
fn check_wishes(body: &Object<'_>) -> Result<(), LlmError> {
    if let Some(thinking) = body.object("thinking") {
        let thinking = Object::read(thinking, &["type", "budget_tokens"])?;
        match thinking.word("type").as_deref() {
            Some("enabled") if thinking.number("budget_tokens")?.is_none() => {
                return Err(bad("thinking.budget_tokens", "a whole number"));
            }
            Some(_) => {}
            None => return Err(bad("thinking.type", "enabled, disabled or adaptive")),
        }
    }
    let config = body.object("output_config").map(|config| Object::read(config, &["format"])).transpose()?;
    let formats = [
        ("output_config.format.schema", config.and_then(|config| config.object("format"))),
        ("output_format.schema", body.object("output_format")),
    ];
    for (name, format) in formats {
        if let Some(format) = format
            && Object::read(format, &["schema"])?.object("schema").is_none()
        {
            return Err(bad(name, "an object"));
        }
    }
    Ok(())
}

/// Decodes all but the conversation and the tools.
pub fn settings(body: RawJson<'_>, chat: &mut Chat) -> Result<(), LlmError> {
    read_settings(&Object::read(body, BODY)?, chat)
}

fn read_settings(body: &Object<'_>, chat: &mut Chat) -> Result<(), LlmError> {
    chat.system = match body.get("system") {
        Some(blocks) if is_list(blocks) => Some(joined(blocks)?),
        Some(system) => text(system)?,
        None => None,
    };
    if let Some(choice) = body.object("tool_choice") {
        let choice = Object::read(choice, &["type", "name", "disable_parallel_tool_use"])?;
        chat.tool_choice = match choice.word("type").as_deref() {
            Some("auto") => Some(ToolChoice::Auto),
            Some("any") => Some(ToolChoice::Required),
            Some("none") => Some(ToolChoice::None),
            Some("tool") => {
                Some(ToolChoice::Named(choice.text("name")?.ok_or_else(|| bad("tool_choice.name", "a text"))?))
            }
            _ => return Err(bad("tool_choice.type", "auto, any, tool or none")),
        };
        chat.parallel_tool_calls = choice.flag("disable_parallel_tool_use").map(|single| !single);
    }
    chat.max_tokens = body.number("max_tokens")?;
    chat.temperature = body.floating("temperature")?;
    chat.top_p = body.floating("top_p")?;
    chat.stop = body.strings("stop_sequences")?;
    let config = body.object("output_config").map(|config| Object::read(config, &["format", "effort"])).transpose()?;
    // `output_format` is its older place.
    let format = config.as_ref().and_then(|config| config.object("format")).or_else(|| body.object("output_format"));
    if let Some(format) = format {
        // No other kind of output exists here.
        let schema = Object::read(format, &["schema"])?.get("schema").filter(|schema| !is_null(schema)).map(Json::of);
        chat.output =
            schema.map(|schema| OutputSchema { name: "answer".to_owned(), schema: Some(schema), strict: true });
    }
    let effort = config.and_then(|config| config.word("effort")).and_then(|effort| match &*effort {
        "low" => Some(Effort::Low),
        "medium" => Some(Effort::Medium),
        "high" => Some(Effort::High),
        "xhigh" => Some(Effort::XHigh),
        "max" => Some(Effort::Max),
        _ => None,
    });
    chat.thinking = thinking(body, effort)?;
    Ok(())
}

fn thinking(body: &Object<'_>, effort: Option<Effort>) -> Result<Option<Thinking>, LlmError> {
    let Some(thinking) = body.object("thinking") else { return Ok(effort.map(Thinking::Effort)) };
    let thinking = Object::read(thinking, &["type", "budget_tokens"])?;
    Ok(match thinking.word("type").as_deref() {
        Some("disabled") => Some(Thinking::Off),
        Some("enabled") => thinking.number("budget_tokens")?.map(Thinking::Budget),
        Some(_) => Some(effort.map_or(Thinking::Auto, Thinking::Effort)),
        None => None,
    })
}

/// Decodes the definition of a tool.
pub fn definition(tool: RawJson<'_>) -> Result<Tool, LlmError> {
    let fields = Object::read(tool, &["name", "type", "input_schema", "description", "strict"])?;
    let whole = || {
        check_representable("tools", tool)?;
        Ok::<_, LlmError>(Extra::new(Dialect::Anthropic, Json::of(tool)))
    };
    let Some(schema) = fields.get("input_schema") else {
        // The provider's own tools (web search, a computer) have no schema, and no other provider has them.
        let name = match fields.text("name")? {
            None => fields.text("type")?,
            name => name,
        };
        let mut definition = Tool::new(name.ok_or_else(|| bad("tools.name", "a text"))?, Json::null());
        definition.extra = Some(whole()?);
        return Ok(definition);
    };
    let name = fields.text("name")?.ok_or_else(|| bad("tools.name", "a text"))?;
    let mut definition = Tool::new(name, Json::of(schema));
    definition.description = fields.text("description")?;
    definition.strict = fields.flag("strict");
    if provider_data::rest(tool, &["name", "input_schema", "description", "strict"])?.is_some() {
        definition.extra = Some(whole()?);
    }
    Ok(definition)
}

fn turn(message: RawJson<'_>, meter: &mut Meter<'_>) -> Result<Message, LlmError> {
    let fields = Object::read(message, &["role", "content"])?;
    let role = match fields.word("role").as_deref() {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => return Err(bad("messages.role", "user, assistant or system")),
    };
    let wrong = || bad("messages.content", "a text or a list");
    let content = fields.get("content").ok_or_else(wrong)?;
    let mut content = match is_list(content) {
        true => parts(content, meter, false)?,
        false => {
            meter.parts(1)?;
            vec![Part::Text(text(content)?.ok_or_else(wrong)?)]
        }
    };
    // Newer versions of the API know such a turn; older ones and other servers do not.
    let known: &[&str] = if role == Role::System { &["content"] } else { &["role", "content"] };
    provider_data::push_fields(&mut content, ExtraOf::Turn, Dialect::Anthropic, provider_data::rest(message, known)?);
    Ok(Message::new(role, content))
}

/// Decodes the parts, each followed by the fields that the neutral form lacks. `within`: those of a tool's result.
fn parts(blocks: RawJson<'_>, meter: &mut Meter<'_>, within: bool) -> Result<Vec<Part>, LlmError> {
    let length = count(blocks);
    meter.parts(length)?;
    let mut parts = Vec::new();
    parts.reserve_exact(length);
    // The signature and the id of the next call.
    let (mut of_call, mut id_of_call) = (None, None);
    each(blocks, |block| {
        let part = match part(block, meter, within)? {
            Block::Part(part) => part,
            Block::OfCall(opaque) => {
                of_call = Some(opaque);
                return Ok(());
            }
            Block::IdOfCall(id) => {
                id_of_call = Some(id);
                return Ok(());
            }
        };
        let part = match part {
            Part::ToolCall(call) => {
                let id = id_of_call.take().unwrap_or(call.id);
                Part::ToolCall(ToolCall { id, opaque: of_call.take(), ..call })
            }
            part => part,
        };
        let known: &[&str] = match &part {
            Part::Text(_) => &["type", "text"],
            Part::Image(_) => {
                &["type", "source.type", "source.media_type", "source.data", "source.url", "source.file_id"]
            }
            Part::Document(_) => {
                &["type", "title", "source.type", "source.media_type", "source.data", "source.url", "source.file_id"]
            }
            Part::ToolCall(_) => &["type", "id", "name", "input"],
            Part::ToolResult(_) => &["type", "tool_use_id", "content", "is_error"],
            Part::Reasoning(_) => &["type", "thinking", "signature", "data"],
            _ => {
                parts.push(part);
                return Ok(());
            }
        };
        provider_data::push(&mut parts, part, Dialect::Anthropic, provider_data::rest(block, known)?);
        Ok(())
    })?;
    Ok(parts)
}

/// The fields of a block of any kind that are read.
const BLOCK: &[&str] = &[
    "type",
    "text",
    "source",
    "title",
    "id",
    "name",
    "input",
    "tool_use_id",
    "content",
    "is_error",
    "thinking",
    "signature",
    "data",
];

/// A block that was read.
enum Block {
    Part(Part),
    /// The signature of the call behind it.
    OfCall(Opaque),
    /// The id of the call behind it.
    IdOfCall(String),
}

fn part(raw: RawJson<'_>, meter: &mut Meter<'_>, within: bool) -> Result<Block, LlmError> {
    let block = Object::read(raw, BLOCK)?;
    let field = |name| block.text(name).map(Option::unwrap_or_default);
    let opaque = |token: String, redacted| unseal(token, Dialect::Anthropic, redacted);
    let other = || Part::Other { dialect: Dialect::Anthropic, value: Json::of(raw) };
    Ok(Block::Part(match block.word("type").as_deref() {
        Some("text") => Part::Text(field("text")?),
        // A document that is a text or a list of blocks has no equivalent elsewhere.
        Some(kind @ ("image" | "document")) => match source(&block)? {
            Some(media) if kind == "image" => Part::Image(Image { media }),
            Some(media) => Part::Document(Document { media, name: block.text("title")? }),
            None => other(),
        },
        Some("tool_use") => {
            meter.tool_call()?;
            let arguments = arguments_of(block.get("input"))?;
            Part::ToolCall(ToolCall::new(unmark_call(field("id")?), field("name")?, arguments))
        }
        // The API knows no result within a result.
        Some("tool_result") if !within => {
            let mut result = ToolResult::new(unmark_call(field("tool_use_id")?), "");
            result.content = match block.get("content") {
                Some(content) if is_list(content) => parts(content, meter, true)?,
                Some(content) => text(content)?.map(Part::Text).into_iter().collect(),
                None => Vec::new(),
            };
            result.is_error = block.flag("is_error").unwrap_or(false);
            Part::ToolResult(result)
        }
        Some("thinking") => {
            let opaque = opaque(field("signature")?, false).map(|unsealed| unsealed.opaque);
            Part::Reasoning(Reasoning { text: field("thinking")?, opaque })
        }
        Some("redacted_thinking") if block.word("data").is_some_and(|data| unseal_id(&data).is_some()) => {
            return Ok(Block::IdOfCall(block.word("data").and_then(|data| unseal_id(&data)).unwrap_or_default()));
        }
        Some("redacted_thinking") => match opaque(field("data")?, true) {
            Some(Unsealed { opaque, of_call: true }) => return Ok(Block::OfCall(opaque)),
            unsealed => {
                let opaque = unsealed.map(|unsealed| unsealed.opaque);
                Part::Reasoning(Reasoning { text: String::new(), opaque })
            }
        },
        Some(_) => other(),
        None => return Err(bad("messages.content.type", "a text")),
    }))
}

/// Returns the location of the bytes, if other providers know its form.
fn source(block: &Object<'_>) -> Result<Option<Media>, LlmError> {
    let Some(source) = block.object("source") else { return Ok(None) };
    let source = Object::read(source, &["type", "media_type", "data", "url", "file_id"])?;
    Ok(match source.word("type").as_deref() {
        Some("base64") => match (source.text("media_type")?, source.text("data")?) {
            (Some(media_type), Some(data)) => Some(Media::Base64 { media_type, data }),
            _ => None,
        },
        Some("url") => source.text("url")?.map(Media::Url),
        Some("file") => source.text("file_id")?.map(Media::File),
        _ => None,
    })
}

/// Joins the texts of a list of blocks as paragraphs.
fn joined(blocks: RawJson<'_>) -> Result<String, LlmError> {
    let (mut joined, mut first) = (String::new(), true);
    each(blocks, |block| {
        if let Some(text) = Object::read(block, &["text"])?.text("text")? {
            if !std::mem::take(&mut first) {
                joined.push_str("\n\n");
            }
            joined.push_str(&text);
        }
        Ok(())
    })?;
    Ok(joined)
}
