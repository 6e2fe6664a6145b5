//! Bedrock's Converse and ConverseStream (the API reference; the answers as recorded).
//!
//! A request is checked in Converse's own form, then as the Messages request that the model gets.

use std::borrow::Cow;

use http::{HeaderMap, StatusCode, request::Parts};
use serde_json::{Map, Value, json};

use super::{
    VERSION,
    aws::{EXCEPTIONS, claude_only, exception_event, headers, latency, refuse, split_path},
    with_headers,
};
use crate::{
    anthropic::Anthropic,
    event_stream::{Framing, padding},
    protocol::{Answer, ParsedRequest, Protocol},
    refusal::Refusal,
};
use steadfast::{Dialect, providers::simulated::RateStatus};

#[derive(Debug)]
pub(super) struct Converse;

const FIELDS: &[&str] = &[
    "additionalModelRequestFields",
    "additionalModelResponseFieldPaths",
    "guardrailConfig",
    "inferenceConfig",
    "messages",
    "modelId",
    "outputConfig",
    "performanceConfig",
    "promptVariables",
    "requestMetadata",
    "serviceTier",
    "system",
    "toolConfig",
];

const BLOCKS: &[&str] = &[
    "audio",
    "cachePoint",
    "citationsContent",
    "document",
    "guardContent",
    "image",
    "reasoningContent",
    "searchResult",
    "text",
    "toolResult",
    "toolUse",
    "video",
];

type Converted<T = Value> = Result<T, Refusal>;

fn wrong(at: &str, words: &str) -> Refusal {
    Refusal::invalid("body", format!("Value at '{at}' failed to satisfy constraint: {words}"))
}

fn object<'a>(value: &'a Value, at: &str) -> Converted<&'a Map<String, Value>> {
    value.as_object().ok_or_else(|| wrong(at, "Member must be a structure"))
}

fn known(value: &Value, names: &[&str], at: &str) -> Converted<()> {
    match object(value, at)?.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(wrong(at, &format!("Member '{name}' is not known"))),
        None => Ok(()),
    }
}

/// Converts a list of blocks; a cache point becomes the mark of the block before it.
fn blocks(list: &Value, at: &str) -> Converted<Vec<Value>> {
    let list = list.as_array().ok_or_else(|| wrong(at, "Member must be a list"))?;
    let mut converted: Vec<Value> = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let at = format!("{at}.{}.member", index + 1);
        let fields = object(item, &at)?;
        let Some((name, value)) = fields.iter().next().filter(|_| fields.len() == 1) else {
            return Err(wrong(&at, "Member must have one and only one of the union's members"));
        };
        if name == "cachePoint" {
            if value["type"] != "default" {
                return Err(wrong(&at, "Member must satisfy enum value set: [default]"));
            }
            match converted.last_mut() {
                Some(last) => last["cache_control"] = json!({ "type": "ephemeral" }),
                None => return Err(wrong(&at, "A cache point must follow another block")),
            }
            continue;
        }
        converted.push(block(name, value, &at)?);
    }
    Ok(converted)
}

fn bytes<'a>(source: &'a Value, at: &str) -> Converted<&'a str> {
    source["source"]["bytes"].as_str().ok_or_else(|| wrong(at, "Member 'source.bytes' must not be null"))
}

fn block(name: &str, value: &Value, at: &str) -> Converted {
    if !BLOCKS.contains(&name) {
        return Err(wrong(at, &format!("Member '{name}' is not known")));
    }
    Ok(match name {
        "text" => {
            let text = value.as_str().ok_or_else(|| wrong(at, "Member must be a string"))?;
            if text.trim().is_empty() {
                let words = format!(
                    "The text field in the ContentBlock object at {at} is blank. Add text to the text field, and try again."
                );
                return Err(Refusal::invalid("body", words));
            }
            json!({ "type": "text", "text": text })
        }
        "toolUse" => {
            known(value, &["toolUseId", "name", "input", "type"], at)?;
            json!({ "type": "tool_use", "id": value["toolUseId"], "name": value["name"], "input": value["input"] })
        }
        "toolResult" => {
            known(value, &["toolUseId", "content", "status", "type"], at)?;
            let mut content = Vec::new();
            for item in value["content"].as_array().into_iter().flatten() {
                match item.get("json") {
                    Some(said) => content.push(json!({ "type": "text", "text": said.to_string() })),
                    None => content.extend(blocks(&json!([item]), at)?),
                }
            }
            let mut result = json!({ "type": "tool_result", "tool_use_id": value["toolUseId"], "content": content });
            match value["status"].as_str() {
                None | Some("success") => {}
                Some("error") => result["is_error"] = true.into(),
                Some(_) => return Err(wrong(at, "Member must satisfy enum value set: [success, error]")),
            }
            result
        }
        "image" => {
            let format = value["format"].as_str().filter(|format| matches!(*format, "png" | "jpeg" | "gif" | "webp"));
            let format =
                format.ok_or_else(|| wrong(at, "Member must satisfy enum value set: [png, jpeg, gif, webp]"))?;
            let source =
                json!({ "type": "base64", "media_type": format!("image/{format}"), "data": bytes(value, at)? });
            json!({ "type": "image", "source": source })
        }
        "document" => {
            if value["name"].as_str().is_none_or(str::is_empty) {
                return Err(wrong(at, "Member 'name' must not be null"));
            }
            let source = match value["source"]["text"].as_str() {
                Some(text) => json!({ "type": "text", "media_type": "text/plain", "data": text }),
                None => json!({ "type": "base64", "media_type": "application/pdf", "data": bytes(value, at)? }),
            };
            json!({ "type": "document", "source": source })
        }
        "searchResult" => {
            let content = blocks(&value["content"], at)?;
            json!({ "type": "search_result", "source": value["source"], "title": value["title"], "content": content })
        }
        "reasoningContent" => match value.get("reasoningText") {
            Some(said) => json!({ "type": "thinking", "thinking": said["text"], "signature": said["signature"] }),
            None => json!({ "type": "redacted_thinking", "data": value["redactedContent"] }),
        },
        _ => return Err(Refusal::invalid("body", format!("This model doesn't support the {name} content block."))),
    })
}

fn tools(config: &Value, body: &mut Map<String, Value>) -> Converted<()> {
    known(config, &["tools", "toolChoice"], "toolConfig")?;
    let list = config["tools"].as_array().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| wrong("toolConfig.tools", "Member must have length greater than or equal to 1"))?;
    let mut converted: Vec<Value> = Vec::new();
    for item in list {
        if item.get("cachePoint").is_some() {
            if let Some(last) = converted.last_mut() {
                last["cache_control"] = json!({ "type": "ephemeral" });
            }
            continue;
        }
        let spec = &item["toolSpec"];
        known(spec, &["name", "description", "inputSchema", "strict"], "toolConfig.tools.member.toolSpec")?;
        let mut tool = json!({ "name": spec["name"], "input_schema": spec["inputSchema"]["json"] });
        for name in ["description", "strict"] {
            if !spec[name].is_null() {
                tool[name] = spec[name].clone();
            }
        }
        converted.push(tool);
    }
    body.insert("tools".into(), converted.into());
    let choice = match config.get("toolChoice").filter(|choice| !choice.is_null()) {
        None => return Ok(()),
        Some(choice) if choice.get("auto").is_some() => json!({ "type": "auto" }),
        Some(choice) if choice.get("any").is_some() => json!({ "type": "any" }),
        Some(choice) if choice.get("tool").is_some() => json!({ "type": "tool", "name": choice["tool"]["name"] }),
        Some(_) => return Err(wrong("toolConfig.toolChoice", "Member must be one of auto, any, tool")),
    };
    body.insert("tool_choice".into(), choice);
    Ok(())
}

/// Converts a request into the Messages request that the model gets.
fn messages(model: &str, stream: bool, request: &Value) -> Converted {
    known(request, FIELDS, "body")?;
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    body.insert("stream".into(), stream.into());
    let mut turns = Vec::new();
    for (index, turn) in request["messages"].as_array().into_iter().flatten().enumerate() {
        let at = format!("messages.{}.member", index + 1);
        known(turn, &["role", "content"], &at)?;
        turns.push(json!({ "role": turn["role"], "content": blocks(&turn["content"], &format!("{at}.content"))? }));
    }
    if turns.is_empty() {
        return Err(Refusal::invalid("messages", "A conversation must start with a user message. Try again with one."));
    }
    body.insert("messages".into(), turns.into());
    if let Some(system) = request.get("system").filter(|system| !system.is_null()) {
        body.insert("system".into(), blocks(system, "system")?.into());
    }
    let settings = &request["inferenceConfig"];
    if !settings.is_null() {
        known(settings, &["maxTokens", "temperature", "topP", "stopSequences"], "inferenceConfig")?;
    }
    for (name, own) in [("temperature", "temperature"), ("topP", "top_p"), ("stopSequences", "stop_sequences")] {
        if !settings[name].is_null() {
            body.insert(own.into(), settings[name].clone());
        }
    }
    if let Some(config) = request.get("toolConfig").filter(|config| !config.is_null()) {
        tools(config, &mut body)?;
    }
    for (name, value) in request["additionalModelRequestFields"].as_object().into_iter().flatten() {
        match name.as_str() {
            "anthropic_beta" => {}
            // Its older name there, as recorded.
            "reasoning_config" => drop(body.insert("thinking".into(), value.clone())),
            name => drop(body.insert(name.into(), value.clone())),
        }
    }
    // The model's own limit, where the request has none: room for an answer beside its thoughts.
    let thoughts = body.get("thinking").and_then(|thinking| thinking["budget_tokens"].as_u64()).unwrap_or(0);
    let limit = Some(&settings["maxTokens"]).filter(|limit| !limit.is_null()).cloned();
    body.insert("max_tokens".into(), limit.unwrap_or_else(|| (4096 + thoughts).into()));
    Ok(body.into())
}

fn stop_reason(answer: &Answer) -> &'static str {
    if answer.tool.is_some() {
        "tool_use"
    } else if answer.cut_short {
        "max_tokens"
    } else {
        "end_turn"
    }
}

fn usage(answer: &Answer) -> Value {
    json!({
        "inputTokens": answer.prompt_tokens,
        "outputTokens": answer.tokens,
        "totalTokens": answer.prompt_tokens.saturating_add(u64::from(answer.tokens)),
        "serverToolUsage": {},
    })
}

fn event(to: &mut String, name: &str, mut data: Value) {
    data["p"] = padding(&data.to_string()).into();
    to.push_str(&format!("event: {name}\ndata: {data}\n\n"));
}

impl Protocol for Converse {
    fn dialect(&self) -> Dialect {
        Dialect::Anthropic
    }

    fn ask(&self, request: &Parts, body: &Value, account: &str) -> Result<ParsedRequest, Refusal> {
        let path = request.uri.path();
        let (model, action) = split_path(path).ok_or_else(|| Refusal::UnknownPath(path.to_owned()))?;
        claude_only(&model)?;
        let body = messages(&model, action == "converse-stream", body)?;
        let asked = Anthropic.ask(&with_headers(request, &[VERSION]), &body, account);
        let mut ask = asked.map_err(|refusal| match refusal {
            Refusal::Invalid { field, message } => {
                Refusal::invalid(field, format!("The model returned the following errors: {message}"))
            }
            other => other,
        })?;
        ask.dialect_body = Some(body);
        Ok(ask)
    }

    fn refuse(&self, refusal: &Refusal, _: &str) -> (StatusCode, Value) {
        refuse(refusal)
    }

    fn headers(&self, to: &mut HeaderMap, request_id: &str, _: &RateStatus, refusal: Option<&Refusal>) {
        headers(to, request_id, refusal);
    }

    fn framing(&self) -> Framing {
        Framing::Events
    }

    fn whole(&self, answer: &Answer) -> Value {
        let content = match &answer.tool {
            Some(tool) => json!([{ "toolUse": {
                "toolUseId": format!("tooluse_{}", tool.id),
                "name": tool.name,
                "input": tool.input,
            } }]),
            None if answer.tokens == 0 => json!([]),
            None => json!([{ "text": answer.text() }]),
        };
        json!({
            "metrics": { "latencyMs": latency(answer) },
            "output": { "message": { "content": content, "role": "assistant" } },
            "stopReason": stop_reason(answer),
            "usage": usage(answer),
        })
    }

    fn opening(&self, answer: &Answer, to: &mut String) {
        event(to, "messageStart", json!({ "role": "assistant" }));
        if let Some(tool) = &answer.tool {
            let start = json!({ "toolUse": { "toolUseId": format!("tooluse_{}", tool.id), "name": tool.name } });
            event(to, "contentBlockStart", json!({ "contentBlockIndex": 0, "start": start }));
        }
    }

    fn token(&self, answer: &Answer, index: u32, to: &mut String) {
        let piece = answer.piece(index);
        let delta = match &answer.tool {
            Some(_) => json!({ "toolUse": { "input": piece } }),
            None => json!({ "text": piece }),
        };
        event(to, "contentBlockDelta", json!({ "contentBlockIndex": 0, "delta": delta }));
    }

    fn ending(&self, answer: &Answer, to: &mut String) {
        if answer.tokens > 0 {
            event(to, "contentBlockStop", json!({ "contentBlockIndex": 0 }));
        }
        to.push_str(&self.end_mark(answer));
    }

    /// Returns `messageStop` and the metadata, which comes last and has the usage.
    fn end_mark(&self, answer: &Answer) -> Cow<'static, str> {
        let mut to = String::new();
        event(&mut to, "messageStop", json!({ "stopReason": stop_reason(answer) }));
        // One latency for both readings of the mark's length.
        let metrics = json!({ "latencyMs": 100 });
        event(&mut to, "metadata", json!({ "metrics": metrics, "usage": usage(answer) }));
        to.into()
    }

    fn error_event(&self, answer: &Answer, _: u32, to: &mut String) {
        exception_event(answer, &EXCEPTIONS[..4], to);
    }

    fn keep_alive(&self) -> &'static str {
        "event: contentBlockDelta\ndata: {\"contentBlockIndex\":0,\"delta\":{\"text\":\"\"},\"p\":\"abc\"}\n\n"
    }
}
