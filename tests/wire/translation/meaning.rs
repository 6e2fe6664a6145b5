//! The meaning that two conversations must have in common for everything that was not reported as changed or lost.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use steadfast::{
    Chat,
    chat::{Media, Message, Part, Role, ToolChoice},
};

/// The conversation as values to compare, by feature: what `lost` names is left out.
pub(crate) fn of(chat: &Chat, lost: &BTreeSet<String>) -> Value {
    let is_lost = |feature: &str| lost.contains(feature);
    let mut tools: Vec<Value> = Vec::new();
    // Named by their schema elsewhere, and by nothing but their type at home.
    let own = ["bash", "computer", "memory", "str_replace_based_edit_tool", "str_replace_editor"];
    let is_own = |name: &str| is_lost("client_tool") && own.contains(&name);
    let tools_kept = chat.tools.iter().filter(|_| !is_lost("allowed_tools"));
    for tool in tools_kept.filter(|tool| !tool.runs_at_provider() && !is_own(&tool.name)) {
        let schema = if is_lost("schema_keywords") { Value::Null } else { schema(&tool.parameters.value().unwrap()) };
        // The description of a namespace stands before that of its first tool.
        let description = tool.description.as_ref().filter(|_| !is_lost("namespace"));
        tools.push(json!({"name": tool.name, "description": description, "schema": schema}));
    }
    // Leading system messages are the system prompt, wherever a dialect puts them; a turn of which nothing is left
    // leads no more.
    let mut turns = turns(&chat.messages, lost);
    let mut system: Vec<&str> = chat.system.as_deref().into_iter().collect();
    let leading = turns.iter().take_while(|turn| turn["role"] == "System").count();
    let leading: Vec<Value> = turns.drain(..leading).collect();
    system.extend(leading.iter().filter_map(|turn| turn["parts"][0].as_str()));
    let system = system.join("\n\n");
    let mut value = json!({
        "system": if is_lost("json_mode") || is_lost("json_in_words") || is_lost("forced_tool") { "" } else { system.trim() },
        "turns": turns,
        "tools": tools,
        "stop": if is_lost("stop") || is_lost("model_setting") { Vec::new() } else { chat.stop.clone() },
        // One is the default of both, so that nothing is told of it where a model takes neither.
        "top_p": chat.top_p.filter(|top_p| !is_lost("sampling") && *top_p != 1.0),
        "temperature": chat.temperature.filter(|t| !is_lost("sampling") && !is_lost("temperature") && *t != 1.0),
        "output": chat.output.as_ref().filter(|_| !is_lost("json_mode") && !is_lost("json_in_words")).map(|output| {
            output.schema.as_ref().filter(|_| !is_lost("schema_keywords")).map(|asked| schema(&asked.value().unwrap()))
        }),
    });
    if !is_lost("server_tool") && !is_lost("allowed_tools") && !is_lost("forced_tool") {
        // Anthropic writes the limit to one call into a choice, which is then the default one.
        let is_limited = chat.parallel_tool_calls == Some(false) && !is_lost("parallel_tool_calls");
        let limited = is_limited.then_some(&ToolChoice::Auto);
        let choice = chat.tool_choice.as_ref().or(limited).filter(|_| !chat.tools.is_empty());
        value["choice"] = format!("{choice:?}").into();
    }
    if !is_lost("parallel_tool_calls") && !is_lost("model_setting") {
        value["single"] = (chat.parallel_tool_calls == Some(false) && !chat.tools.is_empty()).into();
    }
    if !lost.iter().any(|feature| feature.starts_with("thinking") || feature == "model_reasoning") {
        value["thinking"] = format!("{:?}", chat.thinking).into();
    }
    value
}

/// A schema without what only closes it, and with a constant as the list of one that it is.
fn schema(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let mut plain = Map::new();
            for (name, value) in fields {
                match name.as_str() {
                    "additionalProperties" if value.is_boolean() => {}
                    "nullable" | "propertyOrdering" | "property_ordering" => {}
                    "type" if fields.get("nullable") == Some(&Value::Bool(true)) => {
                        plain.insert("type".to_owned(), json!([value, "null"]));
                    }
                    "$schema" | "$id" | "$comment" | "example" | "examples" => {}
                    "properties" if value.as_object().is_some_and(Map::is_empty) => {}
                    "const" => {
                        plain.insert("enum".to_owned(), json!([value]));
                    }
                    _ => {
                        plain.insert(name.clone(), self::schema(value));
                    }
                }
            }
            if plain.get("type").is_none() && fields.is_empty() {
                plain.insert("type".to_owned(), "object".into());
            }
            Value::Object(plain)
        }
        Value::Array(items) => items.iter().map(self::schema).collect(),
        other => other.clone(),
    }
}

/// The turns, equal neighbours put together; a call is known by its place, since ids may differ.
fn turns(messages: &[Message], lost: &BTreeSet<String>) -> Vec<Value> {
    let is_lost = |feature: &str| lost.contains(feature);
    let mut calls: Vec<String> = Vec::new();
    let mut turns: Vec<(Role, Vec<Value>)> = Vec::new();
    for message in messages {
        let mut parts = Vec::new();
        for part in &message.content {
            parts.extend(self::part(part, &mut calls, lost));
        }
        match turns.last_mut() {
            _ if parts.is_empty() => {}
            Some((role, last)) if *role == message.role => last.extend(parts),
            _ => turns.push((message.role, parts)),
        }
    }
    if is_lost("system_in_the_middle") {
        // It became a part of a user's turn.
        turns = turns
            .into_iter()
            .map(|(role, parts)| (if role == Role::System { Role::User } else { role }, parts))
            .fold(Vec::new(), |mut turns: Vec<(Role, Vec<Value>)>, (role, parts)| {
                match turns.last_mut() {
                    Some((before, last)) if *before == role => last.extend(parts),
                    _ => turns.push((role, parts)),
                }
                turns
            });
    }
    let mut shown = Vec::new();
    for (role, mut parts) in turns {
        // Results come first everywhere.
        parts.sort_by_key(|part| (part.get("result").is_none(), part["result"].as_u64()));
        // Texts side by side are one text: some dialects have no borders between them.
        let mut joined: Vec<Value> = Vec::new();
        for part in parts {
            if let (Some(text), Some(Value::String(last))) = (part.as_str(), joined.last_mut()) {
                last.push_str(text);
            } else {
                joined.push(part);
            }
        }
        shown.push(json!({"role": format!("{role:?}"), "parts": joined}));
    }
    if is_lost("first_turn") && shown.first().is_some_and(|first| first["parts"][0] == "(continued)") {
        shown.remove(0);
    }
    shown
}

fn part(part: &Part, calls: &mut Vec<String>, lost: &BTreeSet<String>) -> Option<Value> {
    let is_lost = |feature: &str| lost.contains(feature);
    let media = |media: &Media| match media {
        Media::Base64 { media_type, data } => json!([media_type, data]),
        Media::Url(url) => json!(url),
        Media::File(id) => json!({"file": id}),
    };
    Some(match part {
        Part::Text(text) if text.trim().is_empty() => return None,
        // A part that became a text is beside the texts that were there; its words are held elsewhere.
        Part::Text(_) | Part::Document(_) if is_lost("text_document") => return None,
        Part::Text(text) if is_lost("empty_text") && text == "(empty)" => return None,
        Part::Text(text) if is_lost("system_in_the_middle") => json!(text.strip_prefix("[system]\n").unwrap_or(text)),
        Part::Text(text) => json!(text),
        Part::Refusal(text) if is_lost("refusal") => json!(text),
        Part::Refusal(text) => json!({ "refusal": text }),
        Part::Image(_) if is_lost("tool_media") => return None,
        Part::Image(image) => json!({"image": media(&image.media)}),
        Part::Document(document) => json!({"document": media(&document.media)}),
        Part::ToolCall(call) => {
            calls.push(call.id.clone());
            let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
            let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| json!(call.arguments));
            json!({"call": calls.len() - 1, "name": call.name, "arguments": arguments})
        }
        Part::ToolResult(result) => {
            let call = calls.iter().rposition(|id| *id == result.call_id);
            let texts: Vec<&str> = result.content.iter().filter_map(Part::as_text).collect();
            let text = texts.join("\n");
            let text = if is_lost("tool_error") { text.trim_start_matches("Error: ") } else { &text };
            let text = if is_lost("tool_media") && text.starts_with("(what the tool gave back") { "" } else { text };
            let text = if is_lost("text_document") { "" } else { text };
            // A JSON object is the same object however it is written.
            let text = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
            let media = result.content.iter().filter(|part| part.as_text().is_none());
            let media: Vec<Value> = media.filter_map(|inner| self::part(inner, &mut Vec::new(), lost)).collect();
            json!({"result": call, "text": text, "error": result.is_error && !is_lost("tool_error"), "media": media})
        }
        // Signed by one provider and shown to no other: always reported.
        Part::Reasoning(reasoning) if is_lost("reasoning") || reasoning.text.is_empty() => return None,
        Part::Reasoning(reasoning) => json!({"thought": reasoning.text}),
        _ => return None,
    })
}
