use serde_json::Value;

use crate::{
    Dialect, LlmError,
    chat::{
        Chat, Effort, Image, Media, Message, Opaque, OutputSchema, Part, Reasoning, Role, Thinking, Tool, ToolCall,
        ToolChoice, ToolResult,
    },
    providers::neutral::{bad, floating, list, number, object, strings, text},
};

/// A field, which this API takes in `camelCase` and in `snake_case`.
fn either<'a>(value: &'a Value, camel: &str, snake: &str) -> Option<&'a Value> {
    value.get(camel).or_else(|| value.get(snake)).filter(|value| !value.is_null())
}

/// Reads a caller's request. The model and whether to stream are in its path.
pub(in crate::providers) fn decode(body: &Value) -> Result<Chat, LlmError> {
    let mut chat = Chat::default();
    if let Some(system) = either(body, "systemInstruction", "system_instruction") {
        let parts = list(system, "parts").unwrap_or_default();
        let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
        chat.system = Some(texts.join("\n\n"));
    }
    let mut calls = 0;
    for content in list(body, "contents").ok_or_else(|| bad("contents", "a list"))? {
        let role = match content.get("role").and_then(Value::as_str) {
            Some("model") => Role::Assistant,
            None | Some("user" | "function") => Role::User,
            Some(_) => return Err(bad("contents.role", "user or model")),
        };
        let parts = list(content, "parts").unwrap_or_default();
        let parts: Result<Vec<Part>, LlmError> = parts.iter().map(|value| part(value, &chat, &mut calls)).collect();
        chat.messages.push(Message::new(role, parts?));
    }
    for tool in list(body, "tools").unwrap_or_default() {
        let declarations = either(tool, "functionDeclarations", "function_declarations").and_then(Value::as_array);
        for declaration in declarations.into_iter().flatten() {
            let name = text(declaration, "name").ok_or_else(|| bad("functionDeclarations.name", "a text"))?;
            let schema = either(declaration, "parametersJsonSchema", "parameters_json_schema").cloned();
            let schema = schema.or_else(|| declaration.get("parameters").map(lower_types));
            let none = || serde_json::json!({"type": "object", "properties": {}});
            let mut definition = Tool::new(name, schema.unwrap_or_else(none));
            definition.description = text(declaration, "description");
            chat.tools.push(definition);
        }
    }
    let config = either(body, "toolConfig", "tool_config");
    if let Some(calling) = config.and_then(|config| either(config, "functionCallingConfig", "function_calling_config"))
    {
        let names = either(calling, "allowedFunctionNames", "allowed_function_names").and_then(Value::as_array);
        let only = names.filter(|names| names.len() == 1).and_then(|names| names[0].as_str());
        chat.tool_choice = match (calling.get("mode").and_then(Value::as_str), only) {
            (Some("ANY"), Some(name)) => Some(ToolChoice::Named(name.to_owned())),
            (Some("ANY"), None) => Some(ToolChoice::Required),
            (Some("NONE"), _) => Some(ToolChoice::None),
            (Some(_), _) => Some(ToolChoice::Auto),
            (None, _) => None,
        };
    }
    if let Some(config) = either(body, "generationConfig", "generation_config") {
        settings(config, &mut chat)?;
    }
    Ok(chat)
}

fn settings(config: &Value, chat: &mut Chat) -> Result<(), LlmError> {
    chat.temperature = floating(config, "temperature")?;
    chat.top_p = floating(config, "topP")?.or(floating(config, "top_p")?);
    chat.max_tokens = number(config, "maxOutputTokens")?.or(number(config, "max_output_tokens")?);
    chat.stop = strings(config, "stopSequences")?;
    let schema = either(config, "responseJsonSchema", "response_json_schema").cloned();
    let schema = schema.or_else(|| either(config, "responseSchema", "response_schema").map(lower_types));
    let json = either(config, "responseMimeType", "response_mime_type").and_then(Value::as_str);
    if schema.is_some() || json == Some("application/json") {
        let strict = schema.is_some();
        chat.output = Some(OutputSchema { name: "answer".to_owned(), schema, strict });
    }
    let Some(thinking) = either(config, "thinkingConfig", "thinking_config") else { return Ok(()) };
    let level = either(thinking, "thinkingLevel", "thinking_level").and_then(Value::as_str);
    let budget = either(thinking, "thinkingBudget", "thinking_budget").and_then(Value::as_i64);
    chat.thinking = match (level, budget) {
        (Some("MINIMAL"), _) => Some(Thinking::Effort(Effort::Minimal)),
        (Some("LOW"), _) => Some(Thinking::Effort(Effort::Low)),
        (Some("MEDIUM"), _) => Some(Thinking::Effort(Effort::Medium)),
        (Some("HIGH"), _) => Some(Thinking::Effort(Effort::High)),
        (Some("XHIGH"), _) => Some(Thinking::Effort(Effort::XHigh)),
        (_, Some(0)) => Some(Thinking::Off),
        (_, Some(tokens)) => Some(u32::try_from(tokens).map_or(Thinking::Auto, Thinking::Budget)),
        _ => None,
    };
    Ok(())
}

fn part(value: &Value, chat: &Chat, calls: &mut usize) -> Result<Part, LlmError> {
    let signature = either(value, "thoughtSignature", "thought_signature").and_then(Value::as_str);
    let opaque = signature.map(|token| Opaque { dialect: Dialect::Gemini, token: token.to_owned(), redacted: false });
    if let Some(text) = text(value, "text") {
        let thought = value.get("thought").and_then(Value::as_bool).unwrap_or(false);
        return Ok(match thought || (text.is_empty() && opaque.is_some()) {
            true => Part::Reasoning(Reasoning { text, opaque }),
            false => Part::Text(text),
        });
    }
    if let Some(call) = either(value, "functionCall", "function_call") {
        let name = text(call, "name").ok_or_else(|| bad("functionCall.name", "a text"))?;
        let id = text(call, "id").unwrap_or_else(|| format!("call_{calls}"));
        *calls += 1;
        let arguments = call.get("args").map_or_else(|| "{}".to_owned(), Value::to_string);
        let mut call = ToolCall::new(id, name, arguments);
        call.opaque = opaque;
        return Ok(Part::ToolCall(call));
    }
    if let Some(response) = either(value, "functionResponse", "function_response") {
        let name = text(response, "name").ok_or_else(|| bad("functionResponse.name", "a text"))?;
        // Without an id it answers the newest call of this name.
        let called = || chat.messages.iter().rev().flat_map(Message::tool_calls).find(|call| call.name == name);
        let id = text(response, "id").or_else(|| called().map(|call| call.id.clone())).unwrap_or_default();
        let given = response.get("response").cloned().unwrap_or_default();
        let (said, is_error) = match (given.get("error"), given.get("output")) {
            (Some(error), _) => (error, true),
            (None, Some(output)) => (output, false),
            (None, None) => (&given, false),
        };
        let said = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
        let mut result = ToolResult::new(id, said);
        result.name = Some(name);
        result.is_error = is_error;
        return Ok(Part::ToolResult(result));
    }
    if let Some(data) = either(value, "inlineData", "inline_data") {
        let media_type = either(data, "mimeType", "mime_type").and_then(Value::as_str);
        let media_type = media_type.ok_or_else(|| bad("inlineData.mimeType", "a text"))?.to_owned();
        let data = text(data, "data").ok_or_else(|| bad("inlineData.data", "a text"))?;
        let is_image = media_type.starts_with("image/");
        let media = Media::Base64 { media_type, data };
        return Ok(match is_image {
            true => Part::Image(Image { media }),
            false => Part::Document(crate::chat::Document { media, name: None }),
        });
    }
    if object(value, "fileData").is_some() || object(value, "file_data").is_some() {
        let file = either(value, "fileData", "file_data").unwrap_or(value);
        let uri = either(file, "fileUri", "file_uri").and_then(Value::as_str);
        let uri = uri.ok_or_else(|| bad("fileData.fileUri", "a text"))?;
        return Ok(Part::Image(Image { media: Media::File(uri.to_owned()) }));
    }
    Ok(Part::Other { dialect: Dialect::Gemini, value: value.clone() })
}

/// The types of an OpenAPI schema, which this API spells in capitals, as JSON Schema spells them.
fn lower_types(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let lowered = fields.iter().map(|(name, value)| {
                let value = match value {
                    Value::String(kind) if name == "type" => Value::String(kind.to_ascii_lowercase()),
                    other => lower_types(other),
                };
                (name.clone(), value)
            });
            Value::Object(lowered.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(lower_types).collect()),
        other => other.clone(),
    }
}
