use serde_json::Value;

use crate::{
    Dialect, LlmError,
    chat::{
        Chat, Document, Effort, Image, Media, Message, Opaque, OutputSchema, Part, Reasoning, Role, Thinking, Tool,
        ToolCall, ToolChoice, ToolResult,
    },
    providers::neutral::{bad, floating, list, number, object, strings, text},
};

/// Reads a caller's request.
pub(in crate::providers) fn decode(body: &Value) -> Result<Chat, LlmError> {
    let mut chat = Chat { model: text(body, "model"), ..Chat::default() };
    chat.system = match body.get("system") {
        Some(Value::String(system)) => Some(system.clone()),
        Some(Value::Array(blocks)) => Some(joined(blocks)),
        _ => None,
    };
    for message in list(body, "messages").ok_or_else(|| bad("messages", "a list"))? {
        chat.messages.push(turn(message)?);
    }
    for tool in list(body, "tools").unwrap_or_default() {
        chat.tools.push(definition(tool)?);
    }
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
    chat.stream = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
    let config = object(body, "output_config");
    if let Some(format) = config.and_then(|config| object(config, "format")) {
        let schema = format.get("schema").cloned();
        chat.output = Some(OutputSchema { name: "answer".to_owned(), schema, strict: true });
    }
    chat.thinking = thinking(body)?;
    Ok(chat)
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

fn definition(tool: &Value) -> Result<Tool, LlmError> {
    let name = text(tool, "name").ok_or_else(|| bad("tools.name", "a text"))?;
    let Some(schema) = tool.get("input_schema") else {
        // The provider's own tools (web search, a computer) have no schema, and nobody else has them.
        return Err(bad("tools.input_schema", "there: tools that run at the provider cannot go to another one"));
    };
    let mut definition = Tool::new(name, schema.clone());
    definition.description = text(tool, "description");
    definition.strict = tool.get("strict").and_then(Value::as_bool);
    Ok(definition)
}

fn turn(message: &Value) -> Result<Message, LlmError> {
    let role = match message.get("role").and_then(Value::as_str) {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => return Err(bad("messages.role", "user, assistant or system")),
    };
    let content = match message.get("content") {
        Some(Value::String(text)) => vec![Part::Text(text.clone())],
        Some(Value::Array(blocks)) => blocks.iter().map(part).collect::<Result<_, _>>()?,
        _ => return Err(bad("messages.content", "a text or a list")),
    };
    Ok(Message::new(role, content))
}

fn part(block: &Value) -> Result<Part, LlmError> {
    let field = |name| text(block, name).unwrap_or_default();
    let opaque = |token: String, redacted| Some(Opaque { dialect: Dialect::Anthropic, token, redacted });
    Ok(match block.get("type").and_then(Value::as_str) {
        Some("text") => Part::Text(field("text")),
        Some("image") => Part::Image(Image { media: source(block)? }),
        // A document that is a text or a list of blocks has no equal elsewhere.
        Some("document") => match source(block) {
            Ok(media) => Part::Document(Document { media, name: text(block, "title") }),
            Err(_) => Part::Other { dialect: Dialect::Anthropic, value: block.clone() },
        },
        Some("tool_use") => {
            let input = block.get("input").map_or_else(|| "{}".to_owned(), Value::to_string);
            Part::ToolCall(ToolCall::new(field("id"), field("name"), input))
        }
        Some("tool_result") => {
            let mut result = ToolResult::new(field("tool_use_id"), "");
            result.content = match block.get("content") {
                Some(Value::String(text)) => vec![Part::Text(text.clone())],
                Some(Value::Array(blocks)) => blocks.iter().map(part).collect::<Result<_, _>>()?,
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
