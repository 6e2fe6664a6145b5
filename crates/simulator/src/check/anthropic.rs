//! Anthropic Messages, version 2023-06-01. Its fields are those of its SDK's types (anthropic 2.12.0), beta ones
//! included.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{CheckResult, all_differ, is_base64, is_plain, list, schema, text, unknown, wrong};

const FIELDS: &[&str] = &[
    "model",
    "messages",
    "max_tokens",
    "system",
    "tools",
    "tool_choice",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "stream",
    "metadata",
    "thinking",
    "output_config",
    "output_format",
    "cache_control",
    "container",
    "context_management",
    "mcp_servers",
    "service_tier",
    "speed",
    "inference_geo",
    "diagnostics",
    "billing_policy",
    "compaction",
    "fallback_credit_token",
    "fallbacks",
    "thread",
];

/// The strict decoder's keywords.
const KEYWORDS: &[&str] = &[
    "$ref",
    "$defs",
    "definitions",
    "type",
    "anyOf",
    "allOf",
    "title",
    "description",
    "properties",
    "required",
    "items",
    "enum",
    "const",
    "default",
    "format",
    "additionalProperties",
    "minItems",
    "$schema",
];

pub(super) fn examine(body: &Value) -> CheckResult {
    if let Some(name) = unknown(body, FIELDS) {
        return Err(wrong("body", format!("{name}: Extra inputs are not permitted")));
    }
    settings(body)?;
    caching(body)?;
    tools(body)?;
    let turns = merged(list(body, "messages"))?;
    blocks(&turns)?;
    pairs(&turns)?;
    prefill(&turns)?;
    thinking(body, &turns)
}

/// At most four marks for the cache.
fn caching(body: &Value) -> CheckResult {
    fn marks(value: &Value) -> usize {
        match value {
            Value::Array(values) => values.iter().map(marks).sum(),
            Value::Object(fields) => {
                // A tool's arguments and its schema are the caller's own.
                let own = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "input" | "input_schema"));
                usize::from(fields.get("cache_control").is_some_and(Value::is_object))
                    + own.map(|(_, v)| marks(v)).sum::<usize>()
            }
            _ => 0,
        }
    }
    let found: usize = ["system", "tools", "messages"].iter().filter_map(|name| body.get(name)).map(marks).sum();
    if found > 4 {
        let words = format!("A maximum of 4 blocks with cache_control may be provided. Found {found}.");
        return Err(wrong("cache_control", words));
    }
    Ok(())
}

/// Refuses a begun answer that ends with white space.
fn prefill(turns: &[Turn<'_>]) -> CheckResult {
    if let Some(Turn { role: "assistant", blocks }) = turns.last()
        && let Some(Block::Text(text)) = blocks.last()
        && text.ends_with(char::is_whitespace)
    {
        let words = "messages: final assistant content cannot end with trailing whitespace";
        return Err(wrong("messages", words));
    }
    Ok(())
}

fn settings(body: &Value) -> CheckResult {
    for name in ["temperature", "top_p"] {
        let value = body.get(name).filter(|value| !value.is_null());
        if value.is_some_and(|value| value.as_f64().is_none_or(|value| !(0.0..=1.0).contains(&value))) {
            return Err(wrong("temperature", format!("{name}: range: 0..1")));
        }
    }
    if list(body, "stop_sequences").iter().any(|stop| stop.as_str().is_none_or(|stop| stop.trim().is_empty())) {
        let message = "stop_sequences: each stop sequence must contain non-whitespace";
        return Err(wrong("stop_sequences", message));
    }
    if let Some(metadata) = body.get("metadata").filter(|metadata| metadata.is_object()) {
        if let Some(name) = unknown(metadata, &["user_id"]) {
            return Err(wrong("metadata", format!("metadata.{name}: Extra inputs are not permitted")));
        }
        let user = text(metadata, "user_id");
        if user.len() > 256 {
            return Err(wrong("metadata", "metadata.user_id: String should have at most 256 characters"));
        }
        if user.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.')) {
            return Err(wrong("metadata", "metadata.user_id: user_id appears to contain an email address"));
        }
    }
    if !matches!(body["service_tier"].as_str(), None | Some("auto" | "standard_only")) {
        return Err(wrong("service_tier", "service_tier: Input should be 'auto' or 'standard_only'"));
    }
    if list(body, "system").iter().any(|block| text(block, "text").is_empty()) {
        return Err(wrong("system", "system: text content blocks must be non-empty"));
    }
    let format = body.get("output_format").or_else(|| body.get("output_config")?.get("format"));
    if let Some(schema) = format.and_then(|format| format.get("schema"))
        && let Some(fault) = schema::fault(schema, KEYWORDS, true, false)
    {
        return Err(wrong("output_config", format!("output_config.format.schema: {fault}")));
    }
    Ok(())
}

fn tools(body: &Value) -> CheckResult {
    let tools = list(body, "tools");
    for (place, tool) in tools.iter().enumerate() {
        let Some(input) = tool.get("input_schema") else {
            if tool.get("type").is_none() {
                return Err(wrong("tools", format!("tools.{place}.custom.input_schema: Field required")));
            }
            continue;
        };
        let name = text(tool, "name");
        if !is_plain(name, 128) {
            let pattern = "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'";
            return Err(wrong("tools", format!("tools.{place}.custom.name: {pattern}")));
        }
        if input["type"] != "object" {
            return Err(wrong("tools", format!("tools.{place}.custom.input_schema.type: Field required")));
        }
        if schema::malformed(input).is_some() || schema::find(input, |schema| schema["items"].is_array()).is_some() {
            let message = "JSON schema is invalid. It must match JSON Schema draft 2020-12";
            return Err(wrong("tools", format!("tools.{place}.custom.input_schema: {message}")));
        }
        let is_key =
            |key: &String| key.len() <= 64 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if input["properties"].as_object().is_some_and(|properties| !properties.keys().all(is_key)) {
            let message = "Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'";
            return Err(wrong("tools", format!("tools.{place}.custom.input_schema.properties: {message}")));
        }
        if ["anyOf", "oneOf", "allOf"].iter().any(|word| input.get(word).is_some()) {
            let message = "input_schema does not support oneOf, allOf, or anyOf at the top level";
            return Err(wrong("tools", format!("tools.{place}.custom.input_schema: {message}")));
        }
        if tool["strict"] == true
            && let Some(fault) = schema::fault(input, KEYWORDS, true, false)
        {
            return Err(wrong("tools", format!("tools.{place}.custom: {fault}")));
        }
    }
    strict(tools)?;
    if !all_differ(tools.iter().map(|tool| text(tool, "name"))) {
        return Err(wrong("tools", "tools: Tool names must be unique."));
    }
    let choice = &body["tool_choice"];
    if choice.is_object() {
        if tools.is_empty() && choice["type"] != "none" {
            return Err(wrong("tool_choice", "tool_choice: tool_choice may only be specified while providing tools"));
        }
        if choice["type"] == "tool" && !tools.iter().any(|tool| tool["name"] == choice["name"]) {
            let message = format!("Tool '{}' not found in provided tools", text(choice, "name"));
            return Err(wrong("tool_choice", message));
        }
    }
    Ok(())
}

/// Refuses tools beyond the bounds of a grammar, as recorded.
fn strict(tools: &[Value]) -> CheckResult {
    let strict: Vec<&Value> =
        tools.iter().filter(|tool| tool["strict"] == true).filter_map(|tool| tool.get("input_schema")).collect();
    if strict.len() > 20 {
        let words =
            "The maximum number of strict tools supported is 20. Try reducing the number of tools marked as strict.";
        return Err(wrong("tools", format!("Too many strict tools ({}). {words}", strict.len())));
    }
    let unions = |schema: &Value| schema["type"].is_array() || schema["anyOf"].is_array();
    let unions: usize = strict.iter().map(|input| schema::count(input, unions)).sum();
    if unions > 16 {
        let words = "Reduce the number of nullable or union-typed parameters (limit: 16 parameters with unions).";
        let message = format!("Schemas contains too many parameters with union types ({unions} parameters). {words}");
        return Err(wrong("tools", message));
    }
    Ok(())
}

struct Turn<'a> {
    role: &'a str,
    blocks: Vec<Block<'a>>,
}

enum Block<'a> {
    Text(&'a str),
    Typed(&'a str, &'a Value),
}

/// Merges neighbours of one role to turns.
fn merged(messages: &[Value]) -> Result<Vec<Turn<'_>>, super::Refusal> {
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for (place, message) in messages.iter().enumerate() {
        let role = match text(message, "role") {
            "system" => "user",
            role @ ("user" | "assistant") => role,
            other => {
                let message = format!("messages.{place}.role: Input should be 'user' or 'assistant', got '{other}'");
                return Err(wrong("messages", message));
            }
        };
        let blocks: Vec<Block<'_>> = match message.get("content") {
            Some(Value::String(text)) => vec![Block::Text(text)],
            Some(Value::Array(blocks)) => blocks
                .iter()
                .map(|block| match text(block, "type") {
                    "text" => Block::Text(text(block, "text")),
                    kind => Block::Typed(kind, block),
                })
                .collect(),
            _ => return Err(wrong("messages", format!("messages.{place}.content: Field required"))),
        };
        let last = place + 1 == messages.len() && role == "assistant";
        if !last && (blocks.is_empty() || matches!(blocks[..], [Block::Text("")])) {
            let words = "all messages must have non-empty content except for the optional final assistant message";
            return Err(wrong("messages", format!("messages.{place}: {words}")));
        }
        match turns.last_mut() {
            Some(turn) if turn.role == role => turn.blocks.extend(blocks),
            _ => turns.push(Turn { role, blocks }),
        }
    }
    // A turn that begins with the result of a provider's own tool is accepted, as recorded.
    let by_server = |block: &Block<'_>| matches!(block, Block::Typed("server_tool_use" | "mcp_tool_use", _));
    if turns.first().is_none_or(|first| first.role != "user" && !first.blocks.iter().any(by_server)) {
        return Err(wrong("messages", "messages: first message must use the \"user\" role"));
    }
    Ok(turns)
}

fn blocks(turns: &[Turn<'_>]) -> CheckResult {
    let mut ids = BTreeSet::new();
    for (place, turn) in turns.iter().enumerate() {
        for block in &turn.blocks {
            if let Some(fault) = block_fault(block, turn.role, &mut ids) {
                return Err(wrong("messages", format!("messages.{place}.content: {fault}")));
            }
        }
    }
    Ok(())
}

/// Returns the mistake in a block. `ids` are those of the tool calls before it.
fn block_fault<'a>(block: &Block<'a>, role: &str, ids: &mut BTreeSet<&'a str>) -> Option<String> {
    match block {
        Block::Text(text) if text.trim().is_empty() => {
            Some("text content blocks must contain non-whitespace text".to_owned())
        }
        Block::Text(_) => None,
        Block::Typed(kind @ ("tool_use" | "thinking" | "redacted_thinking"), _) if role == "user" => {
            Some(format!("`{kind}` blocks can only be in `assistant` messages"))
        }
        Block::Typed(kind @ ("tool_result" | "image" | "document"), _) if role == "assistant" => {
            Some(format!("`{kind}` blocks can only be in `user` messages"))
        }
        Block::Typed("tool_use", block) => call_fault(block, ids).map(str::to_owned),
        Block::Typed("thinking", block) if !is_base64(text(block, "signature")) => {
            Some("Invalid `signature` in `thinking` block".to_owned())
        }
        Block::Typed("redacted_thinking", block) if !is_base64(text(block, "data")) => {
            Some("Invalid `data` in `redacted_thinking` block".to_owned())
        }
        Block::Typed("tool_result", block) => {
            let kinds = ["text", "image", "document", "search_result", "tool_reference"];
            let part = list(block, "content").iter().find(|part| !kinds.contains(&text(part, "type")))?;
            let kind = text(part, "type");
            Some(format!("tool_result.content: Input tag '{kind}' does not match any of the expected tags"))
        }
        Block::Typed(kind @ ("image" | "document"), block) => source_fault(kind, &block["source"]),
        Block::Typed("", _) => Some("type: Field required".to_owned()),
        Block::Typed(..) => None,
    }
}

/// Returns the mistake in a tool call.
fn call_fault<'a>(block: &'a Value, ids: &mut BTreeSet<&'a str>) -> Option<&'static str> {
    let id = text(block, "id");
    if !is_plain(id, 256) {
        return Some("tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'");
    }
    if !ids.insert(id) {
        return Some("`tool_use` ids must be unique");
    }
    if !is_plain(text(block, "name"), 200) {
        return Some("tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{1,200}$'");
    }
    (!block["input"].is_object()).then_some("tool_use.input: Input should be a valid dictionary")
}

/// Returns the mistake in the source of a picture or a document.
fn source_fault(kind: &str, source: &Value) -> Option<String> {
    let media_type = text(source, "media_type");
    match (kind, text(source, "type")) {
        (kind, "url") => {
            let url = text(source, "url");
            let is_web = url.starts_with("https://") || url.starts_with("http://");
            (!is_web).then(|| format!("{kind}.source.url.url: Only HTTPS URLs are supported."))
        }
        ("image", "base64") => {
            let is_known = ["image/jpeg", "image/png", "image/gif", "image/webp"].contains(&media_type);
            (!is_known).then(|| {
                "image.source.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
                    .to_owned()
            })
        }
        ("document", "base64") => (media_type != "application/pdf")
            .then(|| "document.source.base64.media_type: Input should be 'application/pdf'".to_owned()),
        _ => None,
    }
}

/// Requires each tool call to have its result first in the turn after it, and each result its call.
fn pairs(turns: &[Turn<'_>]) -> CheckResult {
    for (place, turn) in turns.iter().enumerate() {
        let mut calls = BTreeSet::new();
        if let Some(before) = place.checked_sub(1) {
            let ids = turns[before].blocks.iter().filter_map(|block| match block {
                Block::Typed("tool_use", block) => Some(text(block, "id")),
                _ => None,
            });
            calls.extend(ids);
        }
        let mut said = false;
        for block in &turn.blocks {
            let Block::Typed("tool_result", block) = block else {
                said = true;
                continue;
            };
            if !calls.remove(text(block, "tool_use_id")) {
                let words = "unexpected `tool_use_id` found in `tool_result` blocks";
                return Err(wrong("messages", format!("messages.{place}.content: {words}")));
            }
            if said && !calls.is_empty() {
                let words = "`tool_result` blocks must come before other content";
                return Err(wrong("messages", format!("messages.{place}.content: {words}")));
            }
        }
        if !calls.is_empty() {
            let words = "`tool_use` ids were found without `tool_result` blocks immediately after";
            return Err(wrong("messages", format!("messages.{}: {words}", place.saturating_sub(1))));
        }
    }
    Ok(())
}

fn thinking(body: &Value, turns: &[Turn<'_>]) -> CheckResult {
    let thinking = &body["thinking"];
    let kind = text(thinking, "type");
    if kind == "enabled" {
        let budget = thinking["budget_tokens"].as_u64().unwrap_or(0);
        if budget < 1024 {
            let message = "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024";
            return Err(wrong("thinking", message));
        }
        if body["max_tokens"].as_u64().is_some_and(|most| most <= budget) {
            return Err(wrong("max_tokens", "`max_tokens` must be greater than `thinking.budget_tokens`"));
        }
    }
    if !matches!(kind, "enabled" | "adaptive") {
        let edits = list(&body["context_management"], "edits");
        return match edits.iter().map(|edit| text(edit, "type")).find(|kind| kind.starts_with("clear_thinking")) {
            Some(kind) => {
                let words = format!("`{kind}` strategy requires `thinking` to be enabled or adaptive");
                Err(wrong("context_management", words))
            }
            None => Ok(()),
        };
    }
    if body["temperature"].as_f64().is_some_and(|temperature| temperature != 1.0) {
        return Err(wrong("temperature", "`temperature` may only be set to 1 when thinking is enabled"));
    }
    if body["top_p"].as_f64().is_some_and(|mass| mass < 0.95) {
        return Err(wrong("top_p", "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled"));
    }
    if !body["top_k"].is_null() {
        return Err(wrong("top_k", "`top_k` must be unset when thinking is enabled"));
    }
    if kind == "enabled" && matches!(text(&body["tool_choice"], "type"), "any" | "tool") {
        return Err(wrong("thinking", "Thinking may not be enabled when tool_choice forces tool use."));
    }
    let is = |block: &Block<'_>, kinds: &[&str]| matches!(block, Block::Typed(kind, _) if kinds.contains(kind));
    let answered = turns.last().is_some_and(|last| last.blocks.iter().any(|block| is(block, &["tool_result"])));
    let begun = turns.last().is_some_and(|last| last.role == "assistant");
    let called = turns.iter().rev().find(|turn| turn.role == "assistant").filter(|_| answered || begun);
    if kind == "enabled"
        && let Some(turn) = called
        && !turn.blocks.first().is_some_and(|first| is(first, &["thinking", "redacted_thinking"]))
    {
        let words = "Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, a final \
                     `assistant` message must start with a thinking block";
        return Err(wrong("messages", words));
    }
    Ok(())
}
