//! Equality of two requests' meaning: the rest of them once everything is written in one way.
//!
//! The rules, and nothing else:
//! - `null`, empty lists and empty texts of a turn are as good as absent, and so are `stream: false`, `is_error:
//!   false`, `thought: false` and the type `function` of an OpenAI tool;
//! - a text is the same as a list with one text in it, and the URL of a picture the same as an object with it; the
//!   arguments of a call are JSON, however spelled, and `{}` where there are none; `1.0` is `1`;
//! - neighbours of the same role are one turn (Anthropic and Gemini say so themselves);
//! - in Responses an item without a type is a message, and a content or an output that is a text is the same as a list
//!   with one text in it;
//! - Gemini takes `snake_case` and `camelCase`, one element without its list, and functions in one tool or in many; the
//!   model is in its path.

use serde_json::{Map, Value, json};
use steadfast::Dialect;

pub(crate) fn of(dialect: Dialect, request: &Value) -> Value {
    let mut request = plain(request);
    let Some(fields) = request.as_object_mut() else { return request };
    if fields.get("stream") == Some(&Value::Bool(false)) {
        fields.remove("stream");
    }
    match dialect {
        Dialect::Anthropic => anthropic(fields),
        Dialect::Gemini => gemini(fields),
        Dialect::Responses => responses(fields),
        _ => openai(fields),
    }
    request
}

/// Without nulls and empty lists, except in what is a caller's own: schemas, arguments, results.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null() && **value != json!([]));
            let kept = kept.map(|(name, value)| {
                let own = ["input_schema", "parameters", "schema", "input", "args", "response"];
                let own = own.contains(&name.as_str()) || name.ends_with("Schema");
                (name.clone(), if own { numbers(value) } else { plain(value) })
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        other => numbers(other),
    }
}

/// With whole numbers as such.
fn numbers(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), numbers(value))).collect(),
        Value::Array(items) => Value::Array(items.iter().map(numbers).collect()),
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => json!(float as i64),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

fn take_list(fields: &mut Map<String, Value>, name: &str) -> Vec<Value> {
    match fields.remove(name) {
        Some(Value::Array(items)) => items,
        Some(one) => vec![one],
        None => Vec::new(),
    }
}

/// A text as the list of its one part; empty texts without anything beside them are gone.
fn blocks(content: Option<Value>) -> Vec<Value> {
    let list = match content {
        Some(Value::Array(list)) => list,
        Some(Value::String(text)) => vec![json!({"type": "text", "text": text})],
        _ => Vec::new(),
    };
    let empty = |block: &Value| block["type"] == "text" && block["text"].as_str().is_some_and(str::is_empty);
    list.into_iter().filter(|block| !empty(block)).collect()
}

/// Turns of the same role that follow each other as one, by the list in `name`.
fn merged(turns: Vec<Value>, name: &str) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::new();
    for mut turn in turns {
        match merged.last_mut() {
            Some(last) if last["role"] == turn["role"] => {
                let more = turn[name].take();
                let more = more.as_array().cloned().unwrap_or_default();
                if let Some(list) = last[name].as_array_mut() {
                    list.extend(more);
                }
            }
            _ => merged.push(turn),
        }
    }
    merged
}

fn anthropic(fields: &mut Map<String, Value>) {
    let system = blocks(fields.remove("system"));
    if !system.is_empty() {
        fields.insert("system".to_owned(), system.into());
    }
    let mut turns = take_list(fields, "messages");
    for turn in &mut turns {
        let mut content = blocks(turn.get_mut("content").map(Value::take));
        for block in content.iter_mut().filter(|block| block["type"] == "tool_result") {
            let inner = blocks(block.get_mut("content").map(Value::take));
            block["content"] = inner.into();
            if block["is_error"] == false {
                block.as_object_mut().expect("an object").remove("is_error");
            }
        }
        turn["content"] = content.into();
    }
    fields.insert("messages".to_owned(), merged(turns, "content").into());
}

fn openai(fields: &mut Map<String, Value>) {
    let mut turns = take_list(fields, "messages");
    for turn in &mut turns {
        let mut content = blocks(turn.get_mut("content").map(Value::take));
        for block in content.iter_mut().filter(|block| block["image_url"].is_string()) {
            block["image_url"] = json!({ "url": block["image_url"] });
        }
        turn["content"] = content.into();
        if turn["refusal"] == "" {
            turn.as_object_mut().expect("an object").remove("refusal");
        }
        let calls = turn.get_mut("tool_calls").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten() {
            call.as_object_mut().expect("an object").entry("type").or_insert("function".into());
            arguments(&mut call["function"]);
        }
        if turn.get("function_call").is_some() {
            arguments(&mut turn["function_call"]);
        }
    }
    fields.insert("messages".to_owned(), turns.into());
    for tool in fields.get_mut("tools").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(tool) = tool.as_object_mut() {
            tool.entry("type").or_insert("function".into());
        }
    }
}

fn responses(fields: &mut Map<String, Value>) {
    let items = match fields.remove("input") {
        Some(Value::String(text)) => vec![json!({"role": "user", "content": text})],
        Some(list) => plain(&list).as_array().cloned().unwrap_or_default(),
        None => Vec::new(),
    };
    let texts = |content: Option<Value>, kind: &str| -> Vec<Value> {
        let list = match content {
            Some(Value::Array(list)) => list,
            Some(Value::String(text)) => vec![json!({"type": kind, "text": text})],
            _ => Vec::new(),
        };
        list.into_iter().filter(|part| part["text"] != "").collect()
    };
    let mut input = Vec::new();
    for mut item in items {
        let Some(fields) = item.as_object_mut() else { continue };
        let is_message = fields.get("type").is_none_or(|kind| kind == "message") && fields.contains_key("role");
        if is_message {
            let kind = if fields["role"] == "assistant" { "output_text" } else { "input_text" };
            let content = texts(fields.remove("content"), kind);
            fields.insert("type".to_owned(), "message".into());
            fields.insert("content".to_owned(), content.into());
        } else if fields.contains_key("output") {
            let output = texts(fields.remove("output"), "input_text");
            fields.insert("output".to_owned(), output.into());
        } else if fields.get("type").is_some_and(|kind| kind == "function_call") {
            arguments(&mut item);
        }
        input.push(item);
    }
    fields.insert("input".to_owned(), input.into());
}

fn arguments(function: &mut Value) {
    if function["arguments"].is_object() {
        function["arguments"] = numbers(&function["arguments"]);
        return;
    }
    let text = function["arguments"].as_str().unwrap_or_default();
    let text = if text.trim().is_empty() { "{}" } else { text };
    if let Ok(json) = serde_json::from_str::<Value>(text) {
        function["arguments"] = numbers(&json);
    }
}

fn gemini(fields: &mut Map<String, Value>) {
    fields.remove("model");
    let Value::Object(mut renamed) = camel(&Value::Object(std::mem::take(fields))) else {
        unreachable!("an object stays one")
    };
    let mut turns = take_list(&mut renamed, "contents");
    for turn in &mut turns {
        let Some(turn) = turn.as_object_mut() else { continue };
        let mut parts = take_list(turn, "parts");
        for part in parts.iter_mut().filter_map(Value::as_object_mut) {
            if part.get("thought") == Some(&Value::Bool(false)) {
                part.remove("thought");
            }
            if let Some(call) = part.get_mut("functionCall").and_then(Value::as_object_mut) {
                call.entry("args").or_insert_with(|| json!({}));
            }
        }
        parts.retain(|part| *part != json!({"text": ""}));
        turn.insert("parts".to_owned(), parts.into());
        let role = turn.remove("role").filter(|role| role != "function").unwrap_or_else(|| "user".into());
        turn.insert("role".to_owned(), role);
    }
    turns.retain(|turn| turn["parts"] != json!([]));
    renamed.insert("contents".to_owned(), merged(turns, "parts").into());
    if let Some(system) = renamed.get_mut("systemInstruction").and_then(Value::as_object_mut) {
        let parts = take_list(system, "parts");
        system.insert("parts".to_owned(), parts.into());
    }
    let (mut functions, mut others) = (Vec::new(), Map::new());
    for tool in take_list(&mut renamed, "tools") {
        for (name, value) in tool.as_object().into_iter().flatten() {
            match name.as_str() {
                "functionDeclarations" => functions.extend(value.as_array().cloned().unwrap_or_default()),
                _ => {
                    others.insert(name.clone(), value.clone());
                }
            }
        }
    }
    renamed.insert("functions of all tools".to_owned(), functions.into());
    renamed.insert("other tools".to_owned(), others.into());
    renamed.retain(|_, value| *value != json!({}));
    *fields = renamed;
}

/// With the names of fields in `camelCase`, except in what is a caller's own.
fn camel(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let renamed = fields.iter().map(|(name, value)| {
                let mut words = name.split('_');
                let mut renamed = words.next().unwrap_or_default().to_owned();
                for word in words {
                    let mut letters = word.chars();
                    renamed.extend(letters.next().map(|first| first.to_ascii_uppercase()));
                    renamed.push_str(letters.as_str());
                }
                let own = ["args", "response", "parameters", "labels"].contains(&renamed.as_str())
                    || renamed.ends_with("Schema");
                let value = if own { value.clone() } else { camel(value) };
                (renamed, value)
            });
            Value::Object(renamed.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(camel).collect()),
        other => other.clone(),
    }
}
