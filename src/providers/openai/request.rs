use serde_json::Value;

use crate::{
    Dialect, LlmError,
    chat::{
        Chat, Document, Effort, Extra, ExtraOf, Image, Media, Message, Opaque, OutputSchema, Part, Reasoning, Role,
        Thinking, Tool, ToolCall, ToolChoice, ToolResult,
    },
    providers::{
        fields::{bad, floating, list, number, object, strings, text},
        own,
    },
    translate::foreign::of_format_name,
};

/// Reads a caller's request.
pub(in crate::providers) fn decode(body: &Value) -> Result<Chat, LlmError> {
    let mut chat = Chat { model: text(body, "model"), ..Chat::default() };
    chat.stream = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
    settings(body, &mut chat)?;
    let messages = list(body, "messages").ok_or_else(|| bad("messages", "a list"))?;
    let leading = messages.iter().take_while(|message| is_system(message)).count();
    chat.system = leading_system(&messages[..leading])?;
    for message in &messages[leading..] {
        turn(&mut chat, message)?;
    }
    for tool in list(body, "tools").unwrap_or_default() {
        chat.tools.push(definition(tool)?);
    }
    let mut rest = own::rest(body, &["model", "stream", "messages", "tools"]);
    let plain = |message: &Value| message["role"] == "system" && own::rest(message, &["role", "content"]).is_empty();
    let plain = |message: &Value| plain(message) && message["content"].is_string();
    if leading > 1 || !messages[..leading].iter().all(plain) {
        // The system prompt as it stood.
        rest.insert("messages".to_owned(), messages[..leading].into());
    }
    chat.extra = Some(Extra::new(Dialect::OpenAi, rest));
    Ok(chat)
}

fn is_system(message: &Value) -> bool {
    matches!(message.get("role").and_then(Value::as_str), Some("system" | "developer"))
}

/// The system prompt that the leading messages are, as paragraphs.
pub(super) fn leading_system(messages: &[Value]) -> Result<Option<String>, LlmError> {
    let texts = messages.iter().map(|message| Ok(Message::new(Role::System, content(message)?).text()));
    let texts: Vec<String> = texts.collect::<Result<_, LlmError>>()?;
    Ok((!texts.is_empty()).then(|| texts.join("\n\n")))
}

/// Reads all but the conversation and the tools.
pub(super) fn settings(body: &Value, chat: &mut Chat) -> Result<(), LlmError> {
    chat.tool_choice = match body.get("tool_choice") {
        None | Some(Value::Null) => None,
        Some(Value::String(choice)) => Some(match choice.as_str() {
            "auto" => ToolChoice::Auto,
            "required" | "any" => ToolChoice::Required,
            "none" => ToolChoice::None,
            _ => return Err(bad("tool_choice", "auto, required, none or an object")),
        }),
        Some(choice) => match object(choice, "allowed_tools") {
            Some(allowed) if allowed["mode"] == "required" => Some(ToolChoice::Required),
            Some(_) => Some(ToolChoice::Auto),
            None => {
                let named = object(choice, "function").or_else(|| object(choice, "custom")).unwrap_or(choice);
                let name = text(named, "name").ok_or_else(|| bad("tool_choice.function.name", "a text"))?;
                Some(ToolChoice::Named(name))
            }
        },
    };
    chat.parallel_tool_calls = body.get("parallel_tool_calls").and_then(Value::as_bool);
    chat.max_tokens = limit(body, "max_completion_tokens")?.or(limit(body, "max_tokens")?);
    chat.temperature = floating(body, "temperature")?;
    chat.top_p = floating(body, "top_p")?;
    chat.stop = strings(body, "stop")?;
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
    Ok(())
}

/// A number of tokens; servers of local models take -1 for as many as there are.
fn limit(body: &Value, field: &str) -> Result<Option<u32>, LlmError> {
    match body.get(field).and_then(Value::as_i64) {
        Some(..0) => Ok(None),
        _ => number(body, field),
    }
}

pub(super) fn definition(tool: &Value) -> Result<Tool, LlmError> {
    let whole = || tool.as_object().cloned().map(|fields| Extra::new(Dialect::OpenAi, fields));
    let Some(function) = object(tool, "function") else {
        // A tool of another kind: a custom one, or one that runs at the provider.
        let named = object(tool, "custom").unwrap_or(tool);
        let name = text(named, "name").or_else(|| text(tool, "type")).ok_or_else(|| bad("tools.type", "a text"))?;
        let mut definition = Tool::new(name, Value::Null);
        definition.extra = whole();
        return Ok(definition);
    };
    let name = text(function, "name").ok_or_else(|| bad("tools.function.name", "a text"))?;
    let schema = function.get("parameters").filter(|schema| schema.is_object()).cloned();
    let has_schema = schema.is_some();
    let none = || serde_json::json!({"type": "object", "properties": {}});
    let mut definition = Tool::new(name, schema.unwrap_or_else(none));
    definition.description = text(function, "description");
    definition.strict = function.get("strict").and_then(Value::as_bool);
    let known = ["type", "function.name", "function.description", "function.parameters", "function.strict"];
    if !has_schema || !own::rest(tool, &known).is_empty() {
        definition.extra = whole();
    }
    Ok(definition)
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

fn content(message: &Value) -> Result<Vec<Part>, LlmError> {
    match message.get("content") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::Text(text.clone())]),
        Some(Value::Array(list)) => parts(list),
        Some(_) => Err(bad("messages.content", "a text or a list")),
    }
}

fn turn(chat: &mut Chat, message: &Value) -> Result<(), LlmError> {
    let mut content = content(message)?;
    let (role, known): (Role, &[&str]) = match message.get("role").and_then(Value::as_str) {
        Some("system") => (Role::System, &["role", "content"]),
        Some("developer") => (Role::System, &["content"]),
        Some("user") => (Role::User, &["role", "content"]),
        Some("assistant") => {
            content = assistant(message, content)?;
            // Reasoning stays here too: servers differ in the name and the form in which they want it back.
            (Role::Assistant, &["role", "content", "refusal", "tool_calls", "function_call"])
        }
        Some(role @ ("tool" | "function")) => {
            let id = text(message, "tool_call_id").or_else(|| text(message, "name")).unwrap_or_default();
            let mut result = ToolResult::new(id, "");
            result.name = text(message, "name");
            result.content = content;
            let known: &[&str] = match role {
                "tool" => &["role", "tool_call_id", "content"],
                _ => &["content"],
            };
            let parts = own::with_rest(Part::ToolResult(result), Dialect::OpenAi, own::rest(message, known));
            // The results of parallel calls are one turn.
            match chat.messages.last_mut() {
                Some(last) if last.role == Role::User && last.content.iter().all(is_result) => {
                    last.content.extend(parts);
                }
                _ => chat.messages.push(Message::new(Role::User, parts.collect())),
            }
            return Ok(());
        }
        _ => return Err(bad("messages.role", "developer, system, user, assistant or tool")),
    };
    let extra = Extra::some(Dialect::OpenAi, own::rest(message, known));
    content.extend(extra.map(|extra| Part::Extra { of: ExtraOf::Turn, extra }));
    chat.messages.push(Message::new(role, content));
    Ok(())
}

fn is_result(part: &Part) -> bool {
    matches!(part, Part::ToolResult(_) | Part::Extra { of: ExtraOf::Part, .. })
}

fn assistant(message: &Value, mut content: Vec<Part>) -> Result<Vec<Part>, LlmError> {
    let reasoning = text(message, "reasoning_content").or_else(|| text(message, "reasoning"));
    let signed: Vec<Part> = list(message, "reasoning_details").unwrap_or_default().iter().filter_map(detail).collect();
    if !signed.is_empty() {
        content.splice(0..0, signed);
    } else if let Some(text) = reasoning.filter(|text| !text.is_empty()) {
        content.insert(0, Part::Reasoning(Reasoning { text, opaque: None }));
    }
    content.extend(text(message, "refusal").filter(|text| !text.is_empty()).map(Part::Refusal));
    for call in list(message, "tool_calls").unwrap_or_default() {
        let Some(function) = object(call, "function") else {
            if !call.is_object() {
                return Err(bad("tool_calls", "a list of objects"));
            }
            content.push(Part::Other { dialect: Dialect::OpenAi, value: call.clone() });
            continue;
        };
        let name = text(function, "name").ok_or_else(|| bad("tool_calls.function.name", "a text"))?;
        let id = text(call, "id").unwrap_or_default();
        let mut made = ToolCall::new(id, name, arguments(function));
        // Where Google's own endpoint of this dialect has it.
        let google = object(call, "extra_content").and_then(|extra| object(extra, "google"));
        let token = google.and_then(|google| text(google, "thought_signature"));
        made.opaque = token.map(|token| Opaque { dialect: Dialect::Gemini, token, redacted: false });
        let part = Part::ToolCall(made);
        let known = ["id", "type", "function.name", "function.arguments"];
        content.extend(own::with_rest(part, Dialect::OpenAi, own::rest(call, &known)));
    }
    if let Some(function) = object(message, "function_call") {
        let name = text(function, "name").unwrap_or_default();
        let part = Part::ToolCall(ToolCall::new(name.clone(), name, arguments(function)));
        // The older form of a call, which is to be written as such again.
        content.extend(own::with_rest(part, Dialect::OpenAi, only("function_call", message)));
    }
    Ok(content)
}

/// A thought in the form that OpenRouter gave it: readable and signed, or encrypted.
fn detail(detail: &Value) -> Option<Part> {
    let whose = text(detail, "format").and_then(|format| of_format_name(&format));
    let opaque = |token, redacted| whose.map(|dialect| Opaque { dialect, token, redacted });
    let reasoning = match detail.get("type").and_then(Value::as_str)? {
        "reasoning.text" => Reasoning {
            text: text(detail, "text").unwrap_or_default(),
            opaque: text(detail, "signature").and_then(|token| opaque(token, false)),
        },
        "reasoning.encrypted" => Reasoning { text: String::new(), opaque: Some(opaque(text(detail, "data")?, true)?) },
        "reasoning.summary" => Reasoning { text: text(detail, "summary").unwrap_or_default(), opaque: None },
        _ => return None,
    };
    Some(Part::Reasoning(reasoning))
}

fn only(field: &str, value: &Value) -> serde_json::Map<String, Value> {
    value.get(field).map(|value| (field.to_owned(), value.clone())).into_iter().collect()
}

/// The arguments are a text of JSON; some clients write the object itself.
fn arguments(function: &Value) -> String {
    match function.get("arguments") {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

/// The parts, each with what the neutral form does not carry of it behind it.
fn parts(list: &[Value]) -> Result<Vec<Part>, LlmError> {
    let mut parts = Vec::with_capacity(list.len());
    for value in list {
        let part = part(value)?;
        let known: &[&str] = match &part {
            Part::Text(_) => &["type", "text"],
            // Marked as a part of the list, and not a field of the turn.
            Part::Refusal(_) => &["refusal"],
            Part::Image(_) => &["type", "image_url.url"],
            Part::Document(_) => &["type", "file.file_data", "file.filename", "file.file_id"],
            _ => {
                parts.push(part);
                continue;
            }
        };
        parts.extend(own::with_rest(part, Dialect::OpenAi, own::rest(value, known)));
    }
    Ok(parts)
}

fn part(part: &Value) -> Result<Part, LlmError> {
    Ok(match part.get("type").and_then(Value::as_str) {
        Some("text") => Part::Text(text(part, "text").unwrap_or_default()),
        Some("refusal") => Part::Refusal(text(part, "refusal").unwrap_or_default()),
        Some("image_url") => {
            let url = object(part, "image_url").and_then(|image| text(image, "url"));
            match url.or_else(|| text(part, "image_url")) {
                Some(url) => Part::Image(Image { media: data_url(&url).unwrap_or(Media::Url(url)) }),
                // A server's own way to say where it is.
                None => Part::Other { dialect: Dialect::OpenAi, value: part.clone() },
            }
        }
        Some("file") => {
            let file = object(part, "file").unwrap_or(&Value::Null);
            let media = match (text(file, "file_data"), text(file, "file_id")) {
                (Some(data), _) => data_url(&data),
                (None, id) => id.map(Media::File),
            };
            match media {
                Some(media) => Part::Document(Document { media, name: text(file, "filename") }),
                // A server's own way to say where the bytes are.
                None => Part::Other { dialect: Dialect::OpenAi, value: part.clone() },
            }
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
