use serde_json::Value;

use crate::{
    Dialect, LlmError,
    chat::{
        Chat, Document, Effort, Extra, ExtraOf, Image, Media, Message, OutputSchema, Part, Reasoning, Role, Thinking,
        Tool, ToolCall, ToolChoice, ToolResult,
    },
    providers::{
        fields::{bad, floating, list, number, object, strings, text},
        own,
        tool_calls::arguments_of,
    },
    translate::foreign::{unmark_call, unseal},
};

/// Reads a caller's request.
pub(in crate::providers) fn decode(body: &Value) -> Result<Chat, LlmError> {
    let mut chat = Chat { model: text(body, "model"), ..Chat::default() };
    chat.stream = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
    settings(body, &mut chat)?;
    for message in list(body, "messages").ok_or_else(|| bad("messages", "a list"))? {
        chat.messages.push(turn(message)?);
    }
    for tool in list(body, "tools").unwrap_or_default() {
        chat.tools.push(definition(tool)?);
    }
    let mut rest = own::rest(body, &["model", "stream", "messages", "tools"]);
    if rest.get("system").is_some_and(Value::is_string) {
        rest.remove("system");
    }
    chat.extra = Some(Extra::new(Dialect::Anthropic, rest));
    Ok(chat)
}

/// Reads all but the conversation and the tools.
pub(super) fn settings(body: &Value, chat: &mut Chat) -> Result<(), LlmError> {
    chat.system = match body.get("system") {
        Some(Value::String(system)) => Some(system.clone()),
        Some(Value::Array(blocks)) => Some(joined(blocks)),
        _ => None,
    };
    if let Some(choice) = object(body, "tool_choice") {
        chat.tool_choice = match choice.get("type").and_then(Value::as_str) {
            Some("auto") => Some(ToolChoice::Auto),
            Some("any") => Some(ToolChoice::Required),
            Some("none") => Some(ToolChoice::None),
            Some("tool") => {
                Some(ToolChoice::Named(text(choice, "name").ok_or_else(|| bad("tool_choice.name", "a text"))?))
            }
            _ => return Err(bad("tool_choice.type", "auto, any, tool or none")),
        };
        let single = choice.get("disable_parallel_tool_use").and_then(Value::as_bool);
        chat.parallel_tool_calls = single.map(|single| !single);
    }
    chat.max_tokens = number(body, "max_tokens")?;
    chat.temperature = floating(body, "temperature")?;
    chat.top_p = floating(body, "top_p")?;
    chat.stop = strings(body, "stop_sequences")?;
    let config = object(body, "output_config");
    // `output_format` is the older place of it.
    if let Some(format) = config.and_then(|config| object(config, "format")).or_else(|| object(body, "output_format")) {
        let schema = format.get("schema").cloned();
        chat.output = Some(OutputSchema { name: "answer".to_owned(), schema, strict: true });
    }
    chat.thinking = thinking(body)?;
    Ok(())
}

fn thinking(body: &Value) -> Result<Option<Thinking>, LlmError> {
    let effort = object(body, "output_config").and_then(|config| config.get("effort")).and_then(Value::as_str);
    let effort = match effort {
        Some("low") => Some(Effort::Low),
        Some("medium") => Some(Effort::Medium),
        Some("high") => Some(Effort::High),
        Some("xhigh") => Some(Effort::XHigh),
        Some("max") => Some(Effort::Max),
        _ => None,
    };
    let Some(thinking) = object(body, "thinking") else { return Ok(effort.map(Thinking::Effort)) };
    Ok(match thinking.get("type").and_then(Value::as_str) {
        Some("disabled") => Some(Thinking::Off),
        Some("enabled") => number(thinking, "budget_tokens")?.map(Thinking::Budget),
        Some(_) => Some(effort.map_or(Thinking::Auto, Thinking::Effort)),
        None => None,
    })
}

pub(super) fn definition(tool: &Value) -> Result<Tool, LlmError> {
    let Some(schema) = tool.get("input_schema") else {
        // The provider's own tools (web search, a computer) have no schema, and nobody else has them.
        let name = text(tool, "name").or_else(|| text(tool, "type")).ok_or_else(|| bad("tools.name", "a text"))?;
        let mut definition = Tool::new(name, Value::Null);
        definition.extra = tool.as_object().cloned().map(|fields| Extra::new(Dialect::Anthropic, fields));
        return Ok(definition);
    };
    let name = text(tool, "name").ok_or_else(|| bad("tools.name", "a text"))?;
    let mut definition = Tool::new(name, schema.clone());
    definition.description = text(tool, "description");
    definition.strict = tool.get("strict").and_then(Value::as_bool);
    if !own::rest(tool, &["name", "input_schema", "description", "strict"]).is_empty() {
        definition.extra = tool.as_object().cloned().map(|fields| Extra::new(Dialect::Anthropic, fields));
    }
    Ok(definition)
}

fn turn(message: &Value) -> Result<Message, LlmError> {
    let role = match message.get("role").and_then(Value::as_str) {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => return Err(bad("messages.role", "user, assistant or system")),
    };
    let mut content = match message.get("content") {
        Some(Value::String(text)) => vec![Part::Text(text.clone())],
        Some(Value::Array(blocks)) => parts(blocks)?,
        _ => return Err(bad("messages.content", "a text or a list")),
    };
    // Newer versions of the API know such a turn, older ones and others do not.
    let known: &[&str] = if role == Role::System { &["content"] } else { &["role", "content"] };
    let extra = Extra::some(Dialect::Anthropic, own::rest(message, known));
    content.extend(extra.map(|extra| Part::Extra { of: ExtraOf::Turn, extra }));
    Ok(Message::new(role, content))
}

/// The parts, each with what the neutral form does not carry of it behind it.
fn parts(blocks: &[Value]) -> Result<Vec<Part>, LlmError> {
    let mut parts = Vec::with_capacity(blocks.len());
    for block in blocks {
        let part = part(block)?;
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
                continue;
            }
        };
        parts.extend(own::with_rest(part, Dialect::Anthropic, own::rest(block, known)));
    }
    Ok(parts)
}

fn part(block: &Value) -> Result<Part, LlmError> {
    let field = |name| text(block, name).unwrap_or_default();
    let opaque = |token: String, redacted| unseal(token, Dialect::Anthropic, redacted);
    Ok(match block.get("type").and_then(Value::as_str) {
        Some("text") => Part::Text(field("text")),
        // A document that is a text or a list of blocks has no equal elsewhere.
        Some(kind @ ("image" | "document")) => match source(block) {
            Ok(media) if kind == "image" => Part::Image(Image { media }),
            Ok(media) => Part::Document(Document { media, name: text(block, "title") }),
            Err(_) => Part::Other { dialect: Dialect::Anthropic, value: block.clone() },
        },
        Some("tool_use") => {
            let arguments = arguments_of(block.get("input"));
            Part::ToolCall(ToolCall::new(unmark_call(field("id")), field("name"), arguments))
        }
        Some("tool_result") => {
            let mut result = ToolResult::new(unmark_call(field("tool_use_id")), "");
            result.content = match block.get("content") {
                Some(Value::String(text)) => vec![Part::Text(text.clone())],
                Some(Value::Array(blocks)) => parts(blocks)?,
                _ => Vec::new(),
            };
            result.is_error = block.get("is_error").and_then(Value::as_bool).unwrap_or(false);
            Part::ToolResult(result)
        }
        Some("thinking") => {
            Part::Reasoning(Reasoning { text: field("thinking"), opaque: opaque(field("signature"), false) })
        }
        Some("redacted_thinking") => {
            Part::Reasoning(Reasoning { text: String::new(), opaque: opaque(field("data"), true) })
        }
        Some(_) => Part::Other { dialect: Dialect::Anthropic, value: block.clone() },
        None => return Err(bad("messages.content.type", "a text")),
    })
}

fn source(block: &Value) -> Result<Media, LlmError> {
    let source = object(block, "source").ok_or_else(|| bad("source", "an object"))?;
    let field = |name: &'static str| text(source, name).ok_or_else(|| bad(name, "a text"));
    match source.get("type").and_then(Value::as_str) {
        Some("base64") => Ok(Media::Base64 { media_type: field("media_type")?, data: field("data")? }),
        Some("url") => Ok(Media::Url(field("url")?)),
        Some("file") => Ok(Media::File(field("file_id")?)),
        _ => Err(bad("source.type", "base64, url or file")),
    }
}

/// The texts of a list of blocks, as paragraphs.
fn joined(blocks: &[Value]) -> String {
    let texts: Vec<&str> = blocks.iter().filter_map(|block| block.get("text").and_then(Value::as_str)).collect();
    texts.join("\n\n")
}
