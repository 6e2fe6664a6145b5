use serde_json::Value;

use crate::{
    Dialect, LlmError,
    chat::{
        Chat, Document, Effort, Image, Media, Message, OutputSchema, Part, Reasoning, Role, Thinking, Tool, ToolCall,
        ToolChoice, ToolResult,
    },
    providers::neutral::{bad, floating, list, number, object, strings, text},
};

/// Reads a caller's request.
pub(in crate::providers) fn decode(body: &Value) -> Result<Chat, LlmError> {
    let mut chat = Chat { model: text(body, "model"), ..Chat::default() };
    for message in list(body, "messages").ok_or_else(|| bad("messages", "a list"))? {
        turn(&mut chat, message)?;
    }
    for tool in list(body, "tools").unwrap_or_default() {
        let function = object(tool, "function").ok_or_else(|| bad("tools.function", "an object"))?;
        let name = text(function, "name").ok_or_else(|| bad("tools.function.name", "a text"))?;
        let none = || serde_json::json!({"type": "object", "properties": {}});
        let mut definition = Tool::new(name, function.get("parameters").cloned().unwrap_or_else(none));
        definition.description = text(function, "description");
        definition.strict = function.get("strict").and_then(Value::as_bool);
        chat.tools.push(definition);
    }
    chat.tool_choice = match body.get("tool_choice") {
        None | Some(Value::Null) => None,
        Some(Value::String(choice)) => Some(match choice.as_str() {
            "auto" => ToolChoice::Auto,
            "required" | "any" => ToolChoice::Required,
            "none" => ToolChoice::None,
            _ => return Err(bad("tool_choice", "auto, required, none or an object")),
        }),
        Some(choice) => {
            let name = object(choice, "function").and_then(|function| text(function, "name"));
            Some(ToolChoice::Named(name.ok_or_else(|| bad("tool_choice.function.name", "a text"))?))
        }
    };
    chat.parallel_tool_calls = body.get("parallel_tool_calls").and_then(Value::as_bool);
    chat.max_tokens = number(body, "max_completion_tokens")?.or(number(body, "max_tokens")?);
    chat.temperature = floating(body, "temperature")?;
    chat.top_p = floating(body, "top_p")?;
    chat.stop = strings(body, "stop")?;
    chat.stream = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
    chat.output = output(body)?;
    chat.thinking = match body.get("reasoning_effort").and_then(Value::as_str) {
        Some("none") => Some(Thinking::Off),
        Some("minimal") => Some(Thinking::Effort(Effort::Minimal)),
        Some("low") => Some(Thinking::Effort(Effort::Low)),
        Some("medium") => Some(Thinking::Effort(Effort::Medium)),
        Some("high") => Some(Thinking::Effort(Effort::High)),
        Some("xhigh") => Some(Thinking::Effort(Effort::XHigh)),
        Some("max") => Some(Thinking::Effort(Effort::Max)),
        _ => None,
    };
    Ok(chat)
}

fn output(body: &Value) -> Result<Option<OutputSchema>, LlmError> {
    let Some(format) = object(body, "response_format") else { return Ok(None) };
    Ok(match format.get("type").and_then(Value::as_str) {
        Some("json_object") => Some(OutputSchema { name: "answer".to_owned(), schema: None, strict: false }),
        Some("json_schema") => {
            let json = object(format, "json_schema").ok_or_else(|| bad("response_format.json_schema", "an object"))?;
            Some(OutputSchema {
                name: text(json, "name").unwrap_or_else(|| "answer".to_owned()),
                schema: json.get("schema").cloned(),
                strict: json.get("strict").and_then(Value::as_bool).unwrap_or(false),
            })
        }
        _ => None,
    })
}

fn turn(chat: &mut Chat, message: &Value) -> Result<(), LlmError> {
    let content = match message.get("content") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::String(text)) => vec![Part::Text(text.clone())],
        Some(Value::Array(parts)) => parts.iter().map(part).collect::<Result<_, _>>()?,
        Some(_) => return Err(bad("messages.content", "a text or a list")),
    };
    match message.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => {
            let said = Message::new(Role::System, content);
            if chat.messages.is_empty() {
                // The leading ones are the system prompt.
                let text = said.text();
                let system = chat.system.take();
                chat.system = Some(system.map_or_else(|| text.clone(), |before| format!("{before}\n\n{text}")));
            } else {
                chat.messages.push(said);
            }
        }
        Some("user") => chat.messages.push(Message::new(Role::User, content)),
        Some("assistant") => chat.messages.push(assistant(message, content)?),
        Some("tool" | "function") => {
            let id = text(message, "tool_call_id").or_else(|| text(message, "name")).unwrap_or_default();
            let mut result = ToolResult::new(id, "");
            result.name = text(message, "name");
            result.content = content;
            // The results of parallel calls are one turn.
            let result = Part::ToolResult(result);
            match chat.messages.last_mut() {
                Some(last) if last.role == Role::User && last.content.iter().all(is_result) => {
                    last.content.push(result)
                }
                _ => chat.messages.push(Message::new(Role::User, vec![result])),
            }
        }
        _ => return Err(bad("messages.role", "developer, system, user, assistant or tool")),
    }
    Ok(())
}

fn is_result(part: &Part) -> bool {
    matches!(part, Part::ToolResult(_))
}

fn assistant(message: &Value, mut content: Vec<Part>) -> Result<Message, LlmError> {
    let reasoning = text(message, "reasoning_content").or_else(|| text(message, "reasoning"));
    if let Some(text) = reasoning.filter(|text| !text.is_empty()) {
        content.insert(0, Part::Reasoning(Reasoning { text, opaque: None }));
    }
    content.extend(text(message, "refusal").filter(|text| !text.is_empty()).map(Part::Refusal));
    for call in list(message, "tool_calls").unwrap_or_default() {
        let function = object(call, "function").ok_or_else(|| bad("tool_calls.function", "an object"))?;
        let name = text(function, "name").ok_or_else(|| bad("tool_calls.function.name", "a text"))?;
        let arguments = text(function, "arguments").unwrap_or_default();
        content.push(Part::ToolCall(ToolCall::new(text(call, "id").unwrap_or_default(), name, arguments)));
    }
    if let Some(function) = object(message, "function_call") {
        let name = text(function, "name").unwrap_or_default();
        content.push(Part::ToolCall(ToolCall::new(
            name.clone(),
            name,
            text(function, "arguments").unwrap_or_default(),
        )));
    }
    Ok(Message::new(Role::Assistant, content))
}

fn part(part: &Value) -> Result<Part, LlmError> {
    Ok(match part.get("type").and_then(Value::as_str) {
        Some("text") => Part::Text(text(part, "text").unwrap_or_default()),
        Some("refusal") => Part::Refusal(text(part, "refusal").unwrap_or_default()),
        Some("image_url") => {
            let url = object(part, "image_url").and_then(|image| text(image, "url"));
            let url = url.or_else(|| text(part, "image_url")).ok_or_else(|| bad("image_url.url", "a text"))?;
            Part::Image(Image { media: data_url(&url).unwrap_or(Media::Url(url)) })
        }
        Some("file") => {
            let file = object(part, "file").ok_or_else(|| bad("file", "an object"))?;
            let media = match (text(file, "file_data"), text(file, "file_id")) {
                (Some(data), _) => data_url(&data).ok_or_else(|| bad("file.file_data", "a data: URL with base64"))?,
                (None, Some(id)) => Media::File(id),
                (None, None) => return Err(bad("file", "one with file_data or file_id")),
            };
            Part::Document(Document { media, name: text(file, "filename") })
        }
        Some(_) => Part::Other { dialect: Dialect::OpenAi, value: part.clone() },
        None => return Err(bad("messages.content.type", "a text")),
    })
}

/// The bytes of a `data:` URL in base64.
fn data_url(url: &str) -> Option<Media> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let media_type = head.strip_suffix(";base64")?;
    Some(Media::Base64 { media_type: media_type.to_owned(), data: data.to_owned() })
}
