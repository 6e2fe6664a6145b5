//! Surveys a caller's bytes for fields that the neutral form has no place for. Each is carried, or handled by a rule;
//! none is ignored in silence.

use serde_json::Value;

use super::{content, report::Report, responses};
use crate::{
    Dialect, ErrorKind, LlmError,
    chat::Json,
    fields::{self, Object, each, is_list, is_object},
    raw_json::RawJson,
    translate::rules::{Feature, HIDDEN},
    wire::wishes::{self, ThinkingWish},
};

/// Reads the whole request for the fields that [`Chat`](crate::Chat) does not hold.
pub(super) fn survey(source: Dialect, body: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    match source {
        Dialect::Anthropic => anthropic(body, report),
        Dialect::OpenAi => openai(body, report),
        Dialect::Gemini => gemini(body, report),
        Dialect::Responses => responses::survey(body, report),
    }
}

fn is_set(value: RawJson<'_>) -> bool {
    let json = value.get();
    let is_empty = |text: &str| text.bytes().all(|byte| byte.is_ascii_whitespace());
    match json.as_bytes() {
        b"null" | b"false" => false,
        [b'[', .., b']'] | [b'{', .., b'}'] => !is_empty(&json[1..json.len() - 1]),
        _ => true,
    }
}

/// Calls `visit` with each field of an object that is set.
pub(super) fn set<'a>(
    object: RawJson<'a>,
    mut visit: impl FnMut(&str, RawJson<'a>) -> Result<(), LlmError>,
) -> Result<(), LlmError> {
    fields::fields(object, |name, value| if is_set(value) { visit(name, value) } else { Ok(()) }).map(drop)
}

/// Reports the fields of an object that are set and not known, by their names.
pub(super) fn others(object: RawJson<'_>, known: &[&str], within: &str, report: &mut Report) -> Result<(), LlmError> {
    set(object, |name, _| {
        if !known.contains(&name) {
            report.record_field(Feature::OtherField, format!("{within}.{name}"));
        }
        Ok(())
    })
}

/// A target's name for a field. A point stands before the name of a nested field.
pub(super) type TargetName = (Dialect, &'static str);

/// Carries a field under the target's name for it; if the target has none, reports the feature.
pub(super) fn carried(report: &mut Report, feature: Feature, names: &[TargetName], value: RawJson<'_>) {
    match names.iter().find(|(target, _)| *target == report.target()) {
        Some((_, name)) => report.carry(feature, name, Json::of(value)),
        None => report.record(feature),
    }
}

/// Returns the feature and the name of a setting that OpenAI's two dialects spell alike.
pub(super) fn shared(name: &str) -> Option<(Feature, &'static str)> {
    Some(match name {
        "user" => (Feature::EndUser, "user"),
        "safety_identifier" => (Feature::EndUser, "safety_identifier"),
        "metadata" => (Feature::Metadata, "metadata"),
        "store" => (Feature::Metadata, "store"),
        "service_tier" => (Feature::ServiceTier, "service_tier"),
        "prompt_cache_key" => (Feature::Cache, "prompt_cache_key"),
        "prompt_cache_options" => (Feature::Cache, "prompt_cache_options"),
        "prompt_cache_retention" => (Feature::Cache, "prompt_cache_retention"),
        _ => return None,
    })
}

fn top_k(report: &mut Report, value: RawJson<'_>) {
    carried(report, Feature::TopK, &[(Dialect::Anthropic, "top_k"), (Dialect::Gemini, "topK")], value);
}

fn seed(report: &mut Report, value: RawJson<'_>) {
    carried(report, Feature::Seed, &[(Dialect::OpenAi, "seed"), (Dialect::Gemini, "seed")], value);
}

fn presence(report: &mut Report, value: RawJson<'_>) {
    let names = &[(Dialect::OpenAi, "presence_penalty"), (Dialect::Gemini, "presencePenalty")];
    carried(report, Feature::Penalties, names, value);
}

fn frequency(report: &mut Report, value: RawJson<'_>) {
    let names = &[(Dialect::OpenAi, "frequency_penalty"), (Dialect::Gemini, "frequencyPenalty")];
    carried(report, Feature::Penalties, names, value);
}

fn anthropic(body: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    set(body, |name, value| {
        match name {
            "model" | "tool_choice" | "max_tokens" | "temperature" | "top_p" | "stop_sequences" | "stream" => {}
            "system" => return each(value, |block| anthropic_block(block, report)).map(drop),
            "messages" => return each(value, |message| anthropic_message(message, report)).map(drop),
            "tools" => return each(value, |tool| anthropic_tool(tool, report)).map(drop),
            "output_config" | "output_format" => {
                return others(value, &["format", "effort", "type", "schema"], "output_config", report);
            }
            "thinking" => return others(value, &["type", "budget_tokens"], "thinking", report),
            "top_k" => top_k(report, value),
            "metadata" => {
                return set(value, |name, _| {
                    report.record(if name == "user_id" { Feature::EndUser } else { Feature::Metadata });
                    Ok(())
                });
            }
            "cache_control" => report.record_mark(),
            "service_tier" | "speed" | "inference_geo" => report.record(Feature::ServiceTier),
            "container" | "mcp_servers" => report.record_field(Feature::ServerTool, name),
            // Without them it would be another request.
            "thread" if Object::read(value, &["previous_message_id"])?.get("previous_message_id").is_some() => {
                return Err(elsewhere("state (thread): the conversation's state is at another provider"));
            }
            "compaction" => return Err(elsewhere("compaction: only Anthropic summarizes the conversation")),
            other => report.record_field(Feature::OtherField, other),
        }
        Ok(())
    })
}

fn elsewhere(what: &'static str) -> LlmError {
    LlmError::new(ErrorKind::UnsupportedFeature, what)
}

fn anthropic_message(message: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    report.check_stopped()?;
    set(message, |name, value| {
        match name {
            "role" => {}
            "content" => return each(value, |block| anthropic_block(block, report)).map(drop),
            name => report.record_field(Feature::OtherField, format!("messages.{name}")),
        }
        Ok(())
    })
}

fn anthropic_tool(tool: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    let known = Object::read(tool, &["input_schema", "name", "type"])?;
    if known.get("input_schema").is_none() {
        if known.word("type").is_some_and(|kind| content::runs_at_caller(&kind)) {
            return Ok(());
        }
        report.record_field(Feature::ServerTool, known.word("name").unwrap_or_default());
        return Ok(());
    }
    set(tool, |name, _| {
        match name {
            "name" | "description" | "input_schema" | "strict" | "type" => {}
            "cache_control" => report.record_mark(),
            other => report.record_field(Feature::ToolSetting, other),
        }
        Ok(())
    })
}

fn anthropic_block(block: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    let kind = Object::read(block, &["type"])?.word("type").unwrap_or_default();
    let known: &[&str] = match &*kind {
        "text" => &["text"],
        "image" => &["source"],
        "document" => {
            let source = Object::read(block, &["source"])?.object("source");
            let kind = source.map(|source| Object::read(source, &["type"])).transpose()?.and_then(|s| s.word("type"));
            // The text in it goes as text.
            match kind.as_deref() {
                Some("text" | "content") => &["source", "title", "context"],
                _ => &["source", "title"],
            }
        }
        "tool_use" => &["id", "name", "input", "caller"],
        "tool_result" => &["tool_use_id", "content", "is_error"],
        "thinking" => &["thinking", "signature"],
        "redacted_thinking" => &["data"],
        // Handled as a part of its own.
        _ => return Ok(()),
    };
    set(block, |name, value| {
        match name {
            "type" => {}
            "cache_control" => report.record_mark(),
            "citations" => report.record(Feature::Citations),
            // A result within a result is a part of its own.
            "content" if kind == "tool_result" => {
                return each(value, |inner| {
                    let is_result = Object::read(inner, &["type"])?.word("type").as_deref() == Some("tool_result");
                    if is_result { Ok(()) } else { anthropic_block(inner, report) }
                })
                .map(drop);
            }
            name if known.contains(&name) => {}
            other => report.record_field(Feature::OtherField, format!("{kind}.{other}")),
        }
        Ok(())
    })
}

/// Reports what a wish for thoughts says beside its amount.
fn openai_wish(body: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    let body = Object::read(body, wishes::FIELDS)?;
    let wish = ThinkingWish::of(&body)?;
    wish.others.into_iter().for_each(|name| report.record_field(Feature::OtherField, name));
    if wish.is_hidden {
        match report.target() {
            Dialect::Anthropic => report.carry(Feature::HiddenThoughts, HIDDEN, Value::from("omitted").into()),
            Dialect::Gemini => report.carry(Feature::HiddenThoughts, HIDDEN, Value::from(false).into()),
            // Its thoughts cannot be read without a wish for their summary.
            Dialect::OpenAi | Dialect::Responses => {}
        }
    }
    if let Some(reasoning) = body.object("reasoning") {
        set(reasoning, |name, _| {
            if matches!(name, "summary" | "generate_summary") {
                report.record(Feature::ThoughtSummary);
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn openai(body: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    let mut has_wish = false;
    fields::fields(body, |name, value| {
        has_wish |= wishes::FIELDS.contains(&name);
        match name {
            // An empty object switches the search on.
            "web_search_options" if is_object(value) => report.record_field(Feature::ServerTool, name),
            _ if !is_set(value) => {}
            "model"
            | "parallel_tool_calls"
            | "max_completion_tokens"
            | "max_tokens"
            | "temperature"
            | "top_p"
            | "stop"
            | "tool_choice"
            | "stream"
            | "stream_options"
            | "reasoning_effort"
            | "enable_thinking"
            | "thinking_budget"
            | "include_reasoning"
            | "functions"
            | "function_call" => {}
            "messages" => return each(value, |message| openai_message(message, report)).map(drop),
            "tools" => return each(value, |tool| openai_tool(tool, report)).map(drop),
            "response_format" => {
                if let Some(schema) = Object::read(value, &["json_schema"])?.get("json_schema")
                    && Object::read(schema, &["description"])?.get("description").is_some_and(is_set)
                {
                    report.record_field(Feature::OtherField, "response_format.json_schema.description");
                }
            }
            "reasoning" => {
                let known = &["effort", "max_tokens", "enabled", "exclude", "summary", "generate_summary"];
                return others(value, known, name, report);
            }
            "thinking" => return others(value, &["type", "budget_tokens", "display"], name, report),
            "n" if value.get() == "1" => {}
            "n" => report.record(Feature::Choices),
            "logprobs" | "top_logprobs" => report.record(Feature::Logprobs),
            "seed" => seed(report, value),
            "presence_penalty" => presence(report, value),
            "frequency_penalty" => frequency(report, value),
            "top_k" => top_k(report, value),
            "logit_bias" => report.record(Feature::LogitBias),
            "cache_control" => report.record_mark(),
            "verbosity" => carried(report, Feature::Verbosity, &[(Dialect::Responses, "text.verbosity")], value),
            "prediction" => report.record(Feature::Prediction),
            "modalities" if are_all(value, "text")? => {}
            "modalities" | "audio" => report.record(Feature::Modalities),
            other => match shared(other) {
                Some((feature, name)) => carried(report, feature, &[(Dialect::Responses, name)], value),
                None => report.record_field(Feature::OtherField, other),
            },
        }
        Ok(())
    })?;
    if has_wish { openai_wish(body, report) } else { Ok(()) }
}

/// Returns true if a list contains nothing but this word.
fn are_all(list: RawJson<'_>, word: &str) -> Result<bool, LlmError> {
    let mut all = is_list(list);
    each(list, |item| {
        all &= fields::word(item).as_deref() == Some(word);
        Ok(())
    })?;
    Ok(all)
}

fn openai_message(message: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    report.check_stopped()?;
    let role = Object::read(message, &["role"])?.word("role");
    let tool = matches!(role.as_deref(), Some("tool" | "function"));
    set(message, |name, value| {
        match name {
            "role" | "tool_calls" | "function_call" | "tool_call_id" | "refusal" | "reasoning"
            | "reasoning_content" | "reasoning_details" | "thinking_blocks" => {}
            "content" => return each(value, |part| openai_part(part, report)).map(drop),
            "name" if tool => {}
            "name" => report.record(Feature::ParticipantName),
            "annotations" => report.record(Feature::Citations),
            "audio" => report.record_field(Feature::OwnPart, name),
            "cache_control" => report.record_mark(),
            other => report.record_field(Feature::OtherField, format!("messages.{other}")),
        }
        Ok(())
    })
}

fn openai_part(part: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    set(part, |name, value| {
        match name {
            "image_url" => {
                let detail = Object::read(value, &["detail"])?.get("detail");
                if detail.is_some_and(is_set) {
                    // `content` carries it to Responses.
                    report.record(Feature::ImageDetail);
                }
            }
            "cache_control" | "prompt_cache_breakpoint" => report.record_mark(),
            _ => {}
        }
        Ok(())
    })
}

fn openai_tool(tool: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    let known = Object::read(tool, &["function", "custom", "type"])?;
    let Some(function) = known.object("function") else {
        if let Some(custom) = known.object("custom") {
            report
                .record_field(Feature::CustomTool, Object::read(custom, &["name"])?.text("name")?.unwrap_or_default());
            return Ok(());
        }
        report.record_field(Feature::ServerTool, known.word("type").unwrap_or_default());
        return Ok(());
    };
    set(tool, |name, _| {
        match name {
            "type" | "function" => {}
            "cache_control" => report.record_mark(),
            other => report.record_field(Feature::ToolSetting, other),
        }
        Ok(())
    })?;
    set(function, |name, _| {
        match name {
            "name" | "description" | "parameters" | "strict" => {}
            "cache_control" => report.record_mark(),
            other => report.record_field(Feature::ToolSetting, other),
        }
        Ok(())
    })
}

fn gemini(body: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    set(body, |name, value| {
        match camel(name).as_str() {
            "model" | "contents" | "systemInstruction" => {}
            // One tool, or a list of them.
            "tools" if is_object(value) => return gemini_tool(value, report),
            "tools" => return each(value, |tool| gemini_tool(tool, report)).map(drop),
            "toolConfig" => {
                return set(value, |name, _| {
                    match camel(name).as_str() {
                        "functionCallingConfig" => {}
                        other => report.record_field(Feature::ServerTool, other),
                    }
                    Ok(())
                });
            }
            "generationConfig" => return gemini_settings(value, report),
            "safetySettings" | "modelArmorConfig" => report.record(Feature::Safety),
            "cachedContent" => report.record(Feature::CachedContent),
            "labels" | "store" => report.record(Feature::Metadata),
            "serviceTier" => report.record(Feature::ServiceTier),
            other => report.record_field(Feature::OtherField, other),
        }
        Ok(())
    })
}

fn gemini_tool(tool: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    fields::fields(tool, |name, value| {
        if camel(name) != "functionDeclarations" {
            report.record_field(Feature::ServerTool, name);
            return Ok(());
        }
        each(value, |declaration| {
            set(declaration, |name, _| {
                if !matches!(camel(name).as_str(), "name" | "description" | "parameters" | "parametersJsonSchema") {
                    report.record_field(Feature::ToolSetting, name);
                }
                Ok(())
            })
        })
        .map(drop)
    })
    .map(drop)
}

fn gemini_settings(settings: RawJson<'_>, report: &mut Report) -> Result<(), LlmError> {
    set(settings, |name, value| {
        match camel(name).as_str() {
            "temperature" | "topP" | "maxOutputTokens" | "stopSequences" | "responseMimeType" | "responseSchema"
            | "responseJsonSchema" | "thinkingConfig" => {}
            "topK" => top_k(report, value),
            "seed" => seed(report, value),
            "presencePenalty" => presence(report, value),
            "frequencyPenalty" => frequency(report, value),
            "candidateCount" if value.get() == "1" => {}
            "candidateCount" => report.record(Feature::Choices),
            "responseLogprobs" | "logprobs" => report.record(Feature::Logprobs),
            "responseModalities" if are_all(value, "TEXT")? => {}
            "responseModalities" | "speechConfig" | "imageConfig" => report.record(Feature::Modalities),
            other => report.record_field(Feature::OtherField, format!("generationConfig.{other}")),
        }
        Ok(())
    })
}

/// Returns a name in `camelCase`: the API takes `snake_case` too.
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
