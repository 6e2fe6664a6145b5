use serde_json::{Map, Value};

use crate::{
    Dialect, LlmError,
    chat::{
        Chat, Effort, Extra, ExtraOf, Image, Media, Message, OutputSchema, Part, Reasoning, Role, Thinking, Tool,
        ToolCall, ToolChoice, ToolResult,
    },
    providers::{
        fields::{bad, floating, number, strings, text},
        own,
        tool_calls::arguments_of,
    },
    translate::{FOREIGN_CALL, foreign::unseal},
};

/// A field, which this API takes in `camelCase` and in `snake_case`.
fn either<'a>(value: &'a Value, camel: &str, snake: &str) -> Option<&'a Value> {
    value.get(camel).or_else(|| value.get(snake)).filter(|value| !value.is_null())
}

/// Reads a caller's request. The model and whether to stream are in its path.
pub(in crate::providers) fn decode(body: &Value) -> Result<Chat, LlmError> {
    let mut chat = Chat::default();
    settings(body, &mut chat)?;
    let mut calls = 0;
    // The API takes a single turn, part or tool without a list around it.
    for content in one_or_many(body.get("contents")).ok_or_else(|| bad("contents", "a list"))? {
        let role = match content.get("role").and_then(Value::as_str) {
            Some("model") => Role::Assistant,
            None | Some("" | "user" | "function") => Role::User,
            Some(_) => return Err(bad("contents.role", "user or model")),
        };
        let mut parts = Vec::new();
        for value in one_or_many(content.get("parts")).unwrap_or_default() {
            let part = part(value, &chat, &parts, &mut calls)?;
            let rest = lacking(&part, value);
            parts.extend(own::with_rest(part, Dialect::Gemini, rest));
        }
        let extra = Extra::some(Dialect::Gemini, own::rest(content, &["role", "parts"]));
        parts.extend(extra.map(|extra| Part::Extra { of: ExtraOf::Turn, extra }));
        chat.messages.push(Message::new(role, parts));
    }
    for tool in one_or_many(body.get("tools")).unwrap_or_default() {
        chat.tools.extend(definitions(tool)?);
    }
    chat.extra = Some(Extra::new(Dialect::Gemini, own::rest(body, &["model", "contents", "tools"])));
    Ok(chat)
}

fn one_or_many(value: Option<&Value>) -> Option<&[Value]> {
    match value? {
        Value::Array(many) => Some(many),
        one @ Value::Object(_) => Some(std::slice::from_ref(one)),
        _ => None,
    }
}

/// What the neutral form does not carry of a part.
fn lacking(part: &Part, value: &Value) -> Map<String, Value> {
    let known: &[&str] = match part {
        Part::Text(_) => &["text"],
        Part::Reasoning(reasoning) if reasoning.opaque.is_some() => {
            &["text", "thought", "thoughtSignature", "thought_signature"]
        }
        // A thought without a signature is this provider's only by this mark.
        Part::Reasoning(_) => &["text"],
        Part::ToolCall(_) => &[
            "functionCall.name",
            "functionCall.args",
            "function_call.name",
            "function_call.args",
            "thoughtSignature",
            "thought_signature",
        ],
        Part::ToolResult(_) => &[
            "functionResponse.name",
            "functionResponse.response",
            "function_response.name",
            "function_response.response",
        ],
        Part::Image(_) | Part::Document(_) => &[
            "inlineData.mimeType",
            "inlineData.data",
            "inline_data.mime_type",
            "inline_data.mimeType",
            "inline_data.data",
            "fileData.fileUri",
            "file_data.file_uri",
            "file_data.fileUri",
        ],
        _ => return Map::new(),
    };
    let mut rest = Map::new();
    for (name, value) in own::rest(value, known) {
        // One spelling, so that it meets the field that it belongs to.
        let name = match name.as_str() {
            "function_call" => "functionCall".to_owned(),
            "function_response" => "functionResponse".to_owned(),
            "inline_data" => "inlineData".to_owned(),
            "file_data" => "fileData".to_owned(),
            _ => name,
        };
        rest.insert(name, value);
    }
    rest
}

/// The functions of an entry of `tools`; what else it has is a tool that runs at the provider.
pub(super) fn definitions(tool: &Value) -> Result<Vec<Tool>, LlmError> {
    let mut tools = Vec::new();
    let declarations = either(tool, "functionDeclarations", "function_declarations");
    for declaration in one_or_many(declarations).into_iter().flatten() {
        tools.push(definition(declaration)?);
    }
    let rest = own::rest(tool, &["functionDeclarations", "function_declarations"]);
    if let Some(name) = rest.keys().next() {
        let mut own = Tool::new(name.clone(), Value::Null);
        own.extra = Extra::some(Dialect::Gemini, rest);
        tools.push(own);
    }
    Ok(tools)
}

pub(super) fn definition(declaration: &Value) -> Result<Tool, LlmError> {
    let name = text(declaration, "name").ok_or_else(|| bad("functionDeclarations.name", "a text"))?;
    let schema = either(declaration, "parametersJsonSchema", "parameters_json_schema").cloned();
    let schema = schema.or_else(|| declaration.get("parameters").map(lower_types)).filter(Value::is_object);
    let none = || serde_json::json!({"type": "object", "properties": {}});
    let mut definition = Tool::new(name, schema.unwrap_or_else(none));
    definition.description = text(declaration, "description");
    if !own::rest(declaration, &["name", "description", "parametersJsonSchema"]).is_empty()
        || declaration.get("parametersJsonSchema").is_none()
    {
        definition.extra = declaration.as_object().cloned().map(|fields| Extra::new(Dialect::Gemini, fields));
    }
    Ok(definition)
}

/// Reads all but the conversation and the tools.
pub(super) fn settings(body: &Value, chat: &mut Chat) -> Result<(), LlmError> {
    if let Some(system) = either(body, "systemInstruction", "system_instruction") {
        let parts = one_or_many(system.get("parts")).unwrap_or_default();
        let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
        chat.system = Some(texts.join("\n\n"));
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
        generation(config, chat)?;
    }
    Ok(())
}

fn generation(config: &Value, chat: &mut Chat) -> Result<(), LlmError> {
    chat.temperature = floating(config, "temperature")?;
    chat.top_p = floating(config, "topP")?.or(floating(config, "top_p")?);
    chat.max_tokens = number(config, "maxOutputTokens")?.or(number(config, "max_output_tokens")?);
    chat.stop = strings(config, "stopSequences")?;
    if chat.stop.is_empty() {
        chat.stop = strings(config, "stop_sequences")?;
    }
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
        _ if either(thinking, "includeThoughts", "include_thoughts") == Some(&Value::Bool(true)) => {
            Some(Thinking::Auto)
        }
        _ => None,
    };
    Ok(())
}

fn part(value: &Value, chat: &Chat, before: &[Part], calls: &mut usize) -> Result<Part, LlmError> {
    let signature = either(value, "thoughtSignature", "thought_signature").and_then(Value::as_str);
    let signature = signature.filter(|token| *token != FOREIGN_CALL);
    let opaque = signature.and_then(|token| unseal(token.to_owned(), Dialect::Gemini, false));
    if let Some(text) = text(value, "text") {
        let thought = value.get("thought").and_then(Value::as_bool).unwrap_or(false);
        return Ok(match thought || (text.is_empty() && opaque.is_some()) {
            true => Part::Reasoning(Reasoning { text, opaque }),
            false => Part::Text(text),
        });
    }
    if let Some(call) = either(value, "functionCall", "function_call")
        && let Some(name) = text(call, "name")
    {
        let id = text(call, "id").unwrap_or_else(|| format!("call_{calls}"));
        *calls += 1;
        let arguments = arguments_of(call.get("args"));
        let mut call = ToolCall::new(id, name, arguments);
        call.opaque = opaque;
        return Ok(Part::ToolCall(call));
    }
    if let Some(response) = either(value, "functionResponse", "function_response")
        && let Some(name) = text(response, "name")
    {
        // Without an id it answers the first call of this name in the turn before that has no answer yet.
        let has_answer =
            |id: &str| before.iter().any(|part| matches!(part, Part::ToolResult(result) if result.call_id == *id));
        let turns = || chat.messages.iter().rev().filter(|message| message.tool_calls().next().is_some());
        let called = || {
            let mut calls = turns().flat_map(Message::tool_calls).filter(|call| call.name == name);
            calls.find(|call| !has_answer(&call.id))
        };
        let id = text(response, "id").or_else(|| called().map(|call| call.id.clone())).unwrap_or_default();
        let given = response.get("response").cloned().unwrap_or_default();
        // `output` and `error` alone are what the documentation calls them; other objects are a tool's own.
        let only = given.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.iter().next());
        let (said, is_error) = match only.map(|(name, value)| (name.as_str(), value)) {
            Some(("error", Value::String(error))) => (error.clone(), true),
            Some(("output", Value::String(output))) if !is_object(output) => (output.clone(), false),
            Some(("error", error)) if error.is_object() => (error.to_string(), true),
            _ => (given.to_string(), false),
        };
        let mut result = ToolResult::new(id, said);
        result.name = Some(name);
        result.is_error = is_error;
        return Ok(Part::ToolResult(result));
    }
    if let Some(inline) = either(value, "inlineData", "inline_data")
        && let Some(media_type) = either(inline, "mimeType", "mime_type").and_then(Value::as_str)
        && let Some(data) = text(inline, "data")
    {
        let media_type = media_type.to_owned();
        let is_image = media_type.starts_with("image/");
        let media = Media::Base64 { media_type, data };
        return Ok(match is_image {
            true => Part::Image(Image { media }),
            false => Part::Document(crate::chat::Document { media, name: None }),
        });
    }
    if let Some(file) = either(value, "fileData", "file_data")
        && let Some(uri) = either(file, "fileUri", "file_uri").and_then(Value::as_str)
    {
        return Ok(Part::Image(Image { media: Media::File(uri.to_owned()) }));
    }
    Ok(Part::Other { dialect: Dialect::Gemini, value: value.clone() })
}

/// Whether a text is a JSON object.
fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<Map<String, Value>>(text).is_ok()
}

/// The types of an OpenAPI schema, which this API spells in capitals, as JSON Schema spells them.
fn lower_types(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let lowered = fields.iter().map(|(name, value)| {
                let value = match value {
                    Value::String(kind) if name == "type" => Value::String(kind.to_ascii_lowercase()),
                    // The enumeration's numbers, which the API takes too.
                    Value::Number(number) if name == "type" => {
                        let names = ["string", "number", "integer", "boolean", "array", "object", "null"];
                        let place = number.as_u64().and_then(|number| number.checked_sub(1));
                        let named = place.and_then(|place| names.get(usize::try_from(place).ok()?));
                        named.map_or_else(|| value.clone(), |name| Value::from(*name))
                    }
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
