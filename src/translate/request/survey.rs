//! What a caller's bytes say that the neutral form has no place for: each field is carried, or met by a rule; none is
//! passed over in silence.

use serde_json::Value;

use super::report::Report;
use crate::{Dialect, translate::rules::Feature};

/// Reads the whole request for what [`Chat`](crate::Chat) does not hold.
pub(super) fn survey(source: Dialect, body: &Value, report: &mut Report) {
    match source {
        Dialect::Anthropic => anthropic(body, report),
        Dialect::OpenAi => openai(body, report),
        Dialect::Gemini => gemini(body, report),
    }
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value))
        .filter(|(_, value)| is_set(value))
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// A field that the target spells `name` in its own place; `None` where it has none.
fn carried(
    report: &mut Report,
    feature: Feature,
    openai: Option<&str>,
    anthropic: Option<&str>,
    gemini: Option<&str>,
    value: &Value,
) {
    let name = match report.target() {
        Dialect::Anthropic => anthropic,
        Dialect::OpenAi => openai,
        Dialect::Gemini => gemini,
    };
    match name {
        Some(name) => report.carry(name, value.clone()),
        None => report.say(feature),
    }
}

fn top_k(report: &mut Report, value: &Value) {
    carried(report, Feature::TopK, None, Some("top_k"), Some("topK"), value);
}

fn seed(report: &mut Report, value: &Value) {
    carried(report, Feature::Seed, Some("seed"), None, Some("seed"), value);
}

fn presence(report: &mut Report, value: &Value) {
    carried(report, Feature::Penalties, Some("presence_penalty"), None, Some("presencePenalty"), value);
}

fn frequency(report: &mut Report, value: &Value) {
    carried(report, Feature::Penalties, Some("frequency_penalty"), None, Some("frequencyPenalty"), value);
}

fn anthropic(body: &Value, report: &mut Report) {
    for (name, value) in fields(body) {
        match name {
            "model" | "messages" | "system" | "tools" | "tool_choice" | "max_tokens" | "temperature" | "top_p"
            | "stop_sequences" | "stream" => {}
            "output_config" | "output_format" => {
                for (name, _) in
                    fields(value).filter(|(name, _)| !matches!(*name, "format" | "effort" | "type" | "schema"))
                {
                    report.say_in(Feature::OtherField, format!("output_config.{name}"));
                }
            }
            "thinking" => {
                for (name, _) in fields(value).filter(|(name, _)| !matches!(*name, "type" | "budget_tokens")) {
                    report.say_in(Feature::OtherField, format!("thinking.{name}"));
                }
            }
            "top_k" => top_k(report, value),
            "metadata" => {
                for (name, _) in fields(value) {
                    report.say(if name == "user_id" { Feature::EndUser } else { Feature::Metadata });
                }
            }
            "cache_control" => report.say(Feature::Cache),
            "service_tier" | "speed" | "inference_geo" => report.say(Feature::ServiceTier),
            "container" | "mcp_servers" => report.say_in(Feature::ServerTool, name),
            other => report.say_in(Feature::OtherField, other),
        }
    }
    for block in items(body, "system") {
        anthropic_block(block, report);
    }
    for message in items(body, "messages") {
        for (name, _) in fields(message).filter(|(name, _)| !matches!(*name, "role" | "content")) {
            report.say_in(Feature::OtherField, format!("messages.{name}"));
        }
        for block in items(message, "content") {
            anthropic_block(block, report);
        }
    }
    for tool in items(body, "tools") {
        if tool.get("input_schema").is_none() {
            report.say_in(Feature::ServerTool, text(tool, "name"));
            continue;
        }
        for (name, _) in fields(tool) {
            match name {
                "name" | "description" | "input_schema" | "strict" | "type" => {}
                "cache_control" => report.say(Feature::Cache),
                other => report.say_in(Feature::ToolSetting, other),
            }
        }
    }
}

fn anthropic_block(block: &Value, report: &mut Report) {
    let kind = text(block, "type");
    let known: &[&str] = match kind {
        "text" => &["text"],
        "image" => &["source"],
        "document" => &["source", "title"],
        "tool_use" => &["id", "name", "input", "caller"],
        "tool_result" => &["tool_use_id", "content", "is_error"],
        "thinking" => &["thinking", "signature"],
        "redacted_thinking" => &["data"],
        // Met as a part of its own.
        _ => return,
    };
    for (name, _) in fields(block) {
        match name {
            "type" => {}
            "cache_control" => report.say(Feature::Cache),
            "citations" => report.say(Feature::Citations),
            name if known.contains(&name) => {}
            other => report.say_in(Feature::OtherField, format!("{kind}.{other}")),
        }
    }
    if kind == "tool_result" {
        items(block, "content").for_each(|inner| anthropic_block(inner, report));
    }
}

fn openai(body: &Value, report: &mut Report) {
    for (name, value) in fields(body) {
        match name {
            "model"
            | "messages"
            | "tools"
            | "tool_choice"
            | "parallel_tool_calls"
            | "max_completion_tokens"
            | "max_tokens"
            | "temperature"
            | "top_p"
            | "stop"
            | "stream"
            | "stream_options"
            | "response_format"
            | "reasoning_effort"
            | "functions"
            | "function_call" => {}
            "n" if value.as_u64() == Some(1) => {}
            "n" => report.say(Feature::Choices),
            "logprobs" | "top_logprobs" => report.say(Feature::Logprobs),
            "seed" => seed(report, value),
            "presence_penalty" => presence(report, value),
            "frequency_penalty" => frequency(report, value),
            "top_k" => top_k(report, value),
            "logit_bias" => report.say(Feature::LogitBias),
            "user" | "safety_identifier" => report.say(Feature::EndUser),
            "metadata" | "store" => report.say(Feature::Metadata),
            "service_tier" => report.say(Feature::ServiceTier),
            "prompt_cache_key" | "prompt_cache_options" | "prompt_cache_retention" | "cache_control" => {
                report.say(Feature::Cache);
            }
            "prediction" => report.say(Feature::Prediction),
            "modalities" if items(body, "modalities").all(|kind| kind == "text") => {}
            "modalities" | "audio" => report.say(Feature::Modalities),
            "web_search_options" => report.say_in(Feature::ServerTool, name),
            other => report.say_in(Feature::OtherField, other),
        }
    }
    if text(&body["tool_choice"], "type") == "allowed_tools" {
        report.say(Feature::AllowedTools);
    }
    for message in items(body, "messages") {
        let tool = matches!(text(message, "role"), "tool" | "function");
        for (name, _) in fields(message) {
            match name {
                "role" | "content" | "tool_calls" | "function_call" | "tool_call_id" | "refusal" | "reasoning"
                | "reasoning_content" | "reasoning_details" => {}
                "name" if tool => {}
                "name" => report.say(Feature::ParticipantName),
                "annotations" => report.say(Feature::Citations),
                "audio" => report.say_in(Feature::OwnPart, name),
                "cache_control" => report.say(Feature::Cache),
                other => report.say_in(Feature::OtherField, format!("messages.{other}")),
            }
        }
        for part in items(message, "content") {
            if part["image_url"].get("detail").is_some_and(is_set) {
                report.say(Feature::ImageDetail);
            }
            if fields(part).any(|(name, _)| matches!(name, "cache_control" | "prompt_cache_breakpoint")) {
                report.say(Feature::Cache);
            }
        }
    }
    for tool in items(body, "tools") {
        if tool.get("function").is_none_or(|function| !function.is_object()) {
            report.say_in(Feature::ServerTool, text(tool, "type"));
            continue;
        }
        for (name, _) in fields(tool) {
            match name {
                "type" | "function" => {}
                "cache_control" => report.say(Feature::Cache),
                other => report.say_in(Feature::ToolSetting, other),
            }
        }
        for (name, _) in fields(&tool["function"]) {
            if !matches!(name, "name" | "description" | "parameters" | "strict") {
                report.say_in(Feature::ToolSetting, name);
            }
        }
    }
    if body["response_format"]["json_schema"].get("description").is_some_and(is_set) {
        report.say_in(Feature::OtherField, "response_format.json_schema.description");
    }
}

fn gemini(body: &Value, report: &mut Report) {
    for (name, value) in fields(body) {
        match camel(name).as_str() {
            "model" | "contents" | "systemInstruction" | "tools" => {}
            "toolConfig" => {
                for (name, value) in fields(value) {
                    match camel(name).as_str() {
                        "functionCallingConfig" => {
                            let names = fields(value).find(|(name, _)| camel(name) == "allowedFunctionNames");
                            if names.and_then(|(_, names)| names.as_array()).is_some_and(|names| names.len() > 1) {
                                report.say(Feature::AllowedTools);
                            }
                        }
                        other => report.say_in(Feature::ServerTool, other),
                    }
                }
            }
            "generationConfig" => gemini_settings(value, report),
            "safetySettings" | "modelArmorConfig" => report.say(Feature::Safety),
            "cachedContent" => report.say(Feature::CachedContent),
            "labels" | "store" => report.say(Feature::Metadata),
            "serviceTier" => report.say(Feature::ServiceTier),
            other => report.say_in(Feature::OtherField, other),
        }
    }
    // One tool, or a list of them.
    let tools =
        body.get("tools").map(|tools| tools.as_array().map_or_else(|| std::slice::from_ref(tools), Vec::as_slice));
    for tool in tools.into_iter().flatten() {
        for (name, value) in tool.as_object().into_iter().flatten() {
            if camel(name) != "functionDeclarations" {
                report.say_in(Feature::ServerTool, name);
                continue;
            }
            for (name, _) in value.as_array().into_iter().flatten().flat_map(fields) {
                if !matches!(camel(name).as_str(), "name" | "description" | "parameters" | "parametersJsonSchema") {
                    report.say_in(Feature::ToolSetting, name);
                }
            }
        }
    }
}

fn gemini_settings(settings: &Value, report: &mut Report) {
    for (name, value) in fields(settings) {
        match camel(name).as_str() {
            "temperature" | "topP" | "maxOutputTokens" | "stopSequences" | "responseMimeType" | "responseSchema"
            | "responseJsonSchema" | "thinkingConfig" => {}
            "topK" => top_k(report, value),
            "seed" => seed(report, value),
            "presencePenalty" => presence(report, value),
            "frequencyPenalty" => frequency(report, value),
            "candidateCount" if value.as_u64() == Some(1) => {}
            "candidateCount" => report.say(Feature::Choices),
            "responseLogprobs" | "logprobs" => report.say(Feature::Logprobs),
            "responseModalities" if value.as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind == "TEXT")) => {}
            "responseModalities" | "speechConfig" | "imageConfig" => report.say(Feature::Modalities),
            other => report.say_in(Feature::OtherField, format!("generationConfig.{other}")),
        }
    }
}

/// A name in `camelCase`: the API takes `snake_case` too.
fn camel(name: &str) -> String {
    let mut up = false;
    let mut camel = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '_' => up = true,
            letter if up => {
                camel.push(letter.to_ascii_uppercase());
                up = false;
            }
            letter => camel.push(letter),
        }
    }
    camel
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}
