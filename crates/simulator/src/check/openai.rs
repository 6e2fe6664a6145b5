//! OpenAI Chat Completions. Its fields are those of its SDK's types (openai 3.54.0).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{CheckResult, is_plain, list, schema, text, unknown, wrong};

const FIELDS: &[&str] = &[
    "model",
    "messages",
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "modalities",
    "moderation",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];

/// The keywords of strict mode (the structured outputs guide).
const STRICT: &[&str] = &[
    "$ref",
    "$defs",
    "definitions",
    "$schema",
    "$id",
    "$comment",
    "type",
    "anyOf",
    "title",
    "description",
    "properties",
    "required",
    "items",
    "enum",
    "const",
    "default",
    "format",
    "pattern",
    "additionalProperties",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "examples",
    "example",
    "uniqueItems",
    "deprecated",
    "readOnly",
    "writeOnly",
    "nullable",
];

pub(super) fn examine(body: &Value) -> CheckResult {
    if let Some(name) = unknown(body, FIELDS) {
        return Err(wrong("body", format!("Unrecognized request argument supplied: {name}")));
    }
    settings(body)?;
    tools(body)?;
    messages(list(body, "messages"))
}

fn settings(body: &Value) -> CheckResult {
    let stops = list(body, "stop").len();
    if stops > 4 {
        let words = "Expected an array with maximum length 4, but got an array with length";
        return Err(wrong("stop", format!("Invalid 'stop': array too long. {words} {stops} instead.")));
    }
    sampling(body)?;
    if body["metadata"].as_object().is_some_and(|metadata| !metadata.is_empty()) && body["store"] != true {
        return Err(wrong("metadata", "The 'metadata' parameter is only allowed when 'store' is enabled."));
    }
    if body["prompt_cache_key"].as_str().is_some_and(|key| key.len() > 64) {
        let words = "string too long. Expected a string with maximum length 64";
        return Err(wrong("prompt_cache_key", format!("Invalid 'prompt_cache_key': {words}.")));
    }
    if body.get("stream_options").is_some_and(Value::is_object) && body["stream"] != true {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(wrong("stream_options", message));
    }
    if !body["max_tokens"].is_null() && !body["max_completion_tokens"].is_null() {
        let message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.";
        return Err(wrong("max_tokens", message));
    }
    response_format(body)
}

fn sampling(body: &Value) -> CheckResult {
    if body["temperature"].as_f64().is_some_and(|value| !(0.0..=2.0).contains(&value)) {
        return Err(wrong("temperature", "Invalid 'temperature': expected a value between 0 and 2."));
    }
    for (name, least, most) in [("top_p", 0.0, 1.0), ("presence_penalty", -2.0, 2.0), ("frequency_penalty", -2.0, 2.0)]
    {
        if let Some(value) = body[name].as_f64().filter(|value| !(least..=most).contains(value)) {
            let (word, bound) = if value < least { ("below minimum", least) } else { ("above maximum", most) };
            let sign = if value < least { ">=" } else { "<=" };
            let message = format!(
                "Invalid '{name}': decimal {word} value. Expected a value {sign} {bound}, but got {value} instead."
            );
            return Err(wrong(name, message));
        }
    }
    Ok(())
}

fn response_format(body: &Value) -> CheckResult {
    let format = &body["response_format"];
    match text(format, "type") {
        "json_object" => {
            let says_json = list(body, "messages")
                .iter()
                .any(|message| message["content"].to_string().to_ascii_lowercase().contains("json"));
            if !says_json {
                let message = "'messages' must contain the word 'json' in some form, to use 'response_format' of type \
                               'json_object'.";
                return Err(wrong("messages", message));
            }
        }
        "json_schema" => {
            let asked = &format["json_schema"];
            if !is_plain(text(asked, "name"), 64) {
                let message = "Invalid 'response_format.json_schema.name': expected '^[a-zA-Z0-9_-]+$', at most 64.";
                return Err(wrong("response_format", message));
            }
            if let Some(fault) = schema_fault(&asked["schema"]) {
                let name = text(asked, "name");
                let message = format!("Invalid schema for response_format '{name}': {fault}.");
                return Err(wrong("response_format", message));
            }
            if asked["strict"] == true
                && let Some(fault) = strict_fault(&asked["schema"])
            {
                let name = text(asked, "name");
                let message = format!("Invalid schema for response_format '{name}': In context=(), {fault}.");
                return Err(wrong("response_format", message));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Returns the mistake in a schema, strict or not.
pub(super) fn schema_fault(schema: &Value) -> Option<String> {
    if let Some(fault) = schema::malformed(schema) {
        return Some(fault);
    }
    let is_bare = |schema: &Value| {
        schema["type"] == "array" && schema.get("items").is_none() && schema.get("prefixItems").is_none()
    };
    schema::find(schema, is_bare).map(|_| "array schema missing items".to_owned())
}

fn strict_fault(schema: &Value) -> Option<String> {
    const FORMATS: &[&str] = &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];
    let unknown = |schema: &Value| schema["format"].as_str().is_some_and(|format| !FORMATS.contains(&format));
    let fault = || schema::find(schema, unknown).map(|found| format!("{} is not a valid format", found["format"]));
    closed_fault(schema).or_else(fault)
}

/// Returns the mistake in a schema of strict mode, its formats aside.
pub(super) fn closed_fault(schema: &Value) -> Option<String> {
    if schema["type"] != "object" && schema.get("$ref").is_none() {
        return Some("schema must be a JSON Schema of 'type: \"object\"'".to_owned());
    }
    if schema.get("anyOf").is_some() {
        return Some("'anyOf' is not permitted at the top level".to_owned());
    }
    schema::fault(schema, STRICT, true, true)
}

/// Returns the mistake in a function's parameters.
pub(super) fn parameters_fault(parameters: &Value) -> Option<String> {
    let empty = parameters.as_object().is_some_and(serde_json::Map::is_empty);
    if !empty && parameters["type"] != "object" {
        return Some("schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'".to_owned());
    }
    if !empty && parameters.get("properties").is_none() && parameters.get("$ref").is_none() {
        return Some("object schema missing properties".to_owned());
    }
    schema_fault(parameters)
}

fn tools(body: &Value) -> CheckResult {
    let tools = list(body, "tools");
    if tools.len() > 128 {
        let words = "array too long. Expected an array with maximum length 128, but got an array with length";
        return Err(wrong("tools", format!("Invalid 'tools': {words} {} instead.", tools.len())));
    }
    for (place, tool) in tools.iter().enumerate() {
        if tool["type"] == "custom" {
            continue;
        }
        let function = &tool["function"];
        if tool["type"] != "function" || !function.is_object() {
            return Err(wrong("tools", format!("Missing required parameter: 'tools[{place}].function'.")));
        }
        let name = text(function, "name");
        if !is_plain(name, 64) {
            let words = "string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'";
            return Err(wrong("tools", format!("Invalid 'tools[{place}].function.name': {words}.")));
        }
        let Some(parameters) = function.get("parameters").filter(|schema| !schema.is_null()) else { continue };
        let strict = || (function["strict"] == true).then(|| strict_fault(parameters)).flatten();
        if let Some(fault) = parameters_fault(parameters).or_else(strict) {
            let context = format!("Invalid schema for function '{name}': In context=(),");
            return Err(wrong("tools", format!("{context} {fault}.")));
        }
    }
    let choice = &body["tool_choice"];
    if tools.is_empty() && !choice.is_null() && choice != "none" {
        return Err(wrong("tool_choice", "Invalid value for 'tool_choice': only allowed when 'tools' are specified."));
    }
    if tools.is_empty() && !body["parallel_tool_calls"].is_null() {
        let message = "Invalid value for 'parallel_tool_calls': only allowed when 'tools' are specified.";
        return Err(wrong("parallel_tool_calls", message));
    }
    let named = text(&choice["function"], "name");
    if !named.is_empty() && !tools.iter().any(|tool| tool["function"]["name"] == named) {
        let message = format!("Tool choice '{named}' not found in 'tools' parameter.");
        return Err(wrong("tool_choice", message));
    }
    Ok(())
}

fn messages(messages: &[Value]) -> CheckResult {
    // The ids of the calls without a result.
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for (place, message) in messages.iter().enumerate() {
        let role = text(message, "role");
        if !open.is_empty() && role != "tool" {
            let ids: Vec<&str> = open.into_iter().collect();
            let words = "An assistant message with 'tool_calls' must be followed by tool messages responding to each \
                         'tool_call_id'. The following tool_call_ids did not have response messages:";
            return Err(wrong("messages", format!("{words} {}", ids.join(", "))));
        }
        let kinds: &[&str] = match role {
            "system" | "developer" | "tool" => &["text"],
            "user" => &["text", "image_url", "input_audio", "file"],
            "assistant" => &["text", "refusal"],
            "function" => &[],
            other => {
                let words = "Supported values are: 'system', 'assistant', 'user', 'function', 'tool', and 'developer'";
                let message = format!("Invalid value: '{other}'. {words}.");
                return Err(wrong("messages", message));
            }
        };
        content(place, message, role, kinds)?;
        if role == "tool" {
            let id = text(message, "tool_call_id");
            if !open.remove(id) {
                let words = "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.";
                return Err(wrong("messages", format!("Invalid parameter: {words}")));
            }
        }
        let Some(calls) = message.get("tool_calls").filter(|calls| !calls.is_null()) else { continue };
        if role == "assistant" {
            for call in calls_of(place, calls)? {
                open.insert(text(call, "id"));
            }
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    let words =
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.";
    Err(wrong("messages", words))
}

fn content(place: usize, message: &Value, role: &str, kinds: &[&str]) -> CheckResult {
    let invalid =
        |words: String| Err(wrong("messages", format!("Invalid value for 'messages[{place}].content': {words}")));
    match message.get("content") {
        Some(Value::String(_)) => Ok(()),
        Some(Value::Array(parts)) => {
            if parts.is_empty() {
                return invalid("expected at least one part.".to_owned());
            }
            let unknown = parts.iter().map(|part| text(part, "type")).find(|kind| !kinds.contains(kind));
            match unknown {
                Some(kind) => invalid(format!("'{kind}'. Supported values are: {}.", kinds.join(", "))),
                None => parts.iter().try_for_each(media),
            }
        }
        _ => {
            let stands_for_it =
                ["tool_calls", "function_call", "refusal", "audio"].iter().any(|name| !message[*name].is_null());
            if role == "assistant" && stands_for_it || role == "function" {
                Ok(())
            } else {
                invalid("expected a string, got null.".to_owned())
            }
        }
    }
}

/// Checks the location and type of a picture or a document.
fn media(part: &Value) -> CheckResult {
    let url = text(&part["image_url"], "url");
    if part["type"] == "image_url" {
        picture(url).map_err(|words| wrong("messages", words))?;
    }
    let data = text(&part["file"], "file_data");
    if part["type"] == "file" && !data.is_empty() && !data.starts_with("data:application/pdf;base64,") {
        let words = "Expected a base64-encoded data URL with an application/pdf MIME type";
        return Err(wrong("messages", format!("Invalid file data: 'file_data'. {words}.")));
    }
    Ok(())
}

/// Checks the location and type of a picture.
pub(super) fn picture(url: &str) -> Result<(), &'static str> {
    let kinds = ["png", "jpeg", "jpg", "gif", "webp"];
    let is_picture = |data: &str| kinds.iter().any(|kind| data.starts_with(&format!("image/{kind};base64,")));
    if url.strip_prefix("data:").is_some_and(|data| !is_picture(data)) {
        return Err(
            "You uploaded an unsupported image. Please make sure your image has of one the following formats: \
                    ['png', 'jpeg', 'gif', 'webp'].",
        );
    }
    if !["data:", "https://", "http://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err("Invalid image URL. Expected a valid URL or a base64-encoded data URL.");
    }
    Ok(())
}

fn calls_of(place: usize, calls: &Value) -> Result<&[Value], super::Refusal> {
    let at = |words: &str| wrong("messages", format!("Invalid 'messages[{place}].tool_calls{words}"));
    let calls = calls.as_array().map(Vec::as_slice).unwrap_or_default();
    if calls.is_empty() {
        return Err(at("': empty array. Expected an array with minimum length 1, but got an empty array instead."));
    }
    for (n, call) in calls.iter().enumerate() {
        let id = text(call, "id");
        if id.is_empty() {
            return Err(at(&format!("[{n}].id': expected a string.")));
        }
        if id.len() > 40 {
            let words = "string too long. Expected a string with maximum length 40";
            return Err(at(&format!("[{n}].id': {words}, but got a string with length {} instead.", id.len())));
        }
        if call["type"] == "custom" {
            continue;
        }
        if call["type"] != "function" || !is_plain(text(&call["function"], "name"), 64) {
            let words = "string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'";
            return Err(at(&format!("[{n}].function.name': {words}.")));
        }
        if !call["function"]["arguments"].is_string() {
            return Err(at(&format!("[{n}].function.arguments': expected a string, got an object instead.")));
        }
    }
    Ok(calls)
}
