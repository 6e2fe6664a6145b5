//! Anthropic's Messages (platform.claude.com/docs/en/api/messages, "Streaming messages").

use serde_json::{Value, json};

use crate::{
    answer::{Answer, Call, End},
    prompt::{Prompt, Tool},
};

pub(super) fn body(prompt: &Prompt) -> Value {
    let mut turns = Vec::new();
    if let Some([user, model]) = &prompt.earlier {
        turns.push(json!({"role": "user", "content": user}));
        turns.push(json!({"role": "assistant", "content": model}));
    }
    let mut content = Vec::new();
    if let Some(data) = prompt.picture {
        content.push(json!({
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": data},
        }));
    }
    content.push(json!({"type": "text", "text": prompt.words}));
    turns.push(json!({"role": "user", "content": content}));
    if let Some(result) = &prompt.result {
        let call = json!({"type": "tool_use", "id": Tool::CALL, "name": Tool::NAME, "input": Tool::arguments()});
        turns.push(json!({"role": "assistant", "content": [call]}));
        let result = json!({"type": "tool_result", "tool_use_id": Tool::CALL, "content": result});
        turns.push(json!({"role": "user", "content": [result]}));
    }
    if let Some(begun) = &prompt.begun {
        turns.push(json!({"role": "assistant", "content": begun}));
    }
    let mut body = json!({"max_tokens": prompt.max_tokens.unwrap_or(1024), "messages": turns});
    if let Some(system) = &prompt.system {
        body["system"] = system.as_str().into();
    }
    if let Some(tool) = &prompt.tool {
        body["tools"] = json!([{
            "name": Tool::NAME,
            "description": tool.description,
            "input_schema": Tool::schema(),
        }]);
        if tool.is_required {
            body["tool_choice"] = json!({"type": "any"});
        }
    }
    if let Some(schema) = &prompt.schema {
        body["output_config"] = json!({"format": {"type": "json_schema", "schema": schema}});
    }
    if let Some(temperature) = prompt.temperature {
        body["temperature"] = temperature.into();
    }
    if let Some(stop) = &prompt.stop {
        body["stop_sequences"] = json!([stop]);
    }
    body
}

pub(super) fn whole(value: &Value, answer: &mut Answer) {
    if value["type"] != "message" || value["role"] != "assistant" || !value["id"].is_string() {
        answer.stumble("the body is no message");
    }
    for block in value["content"].as_array().into_iter().flatten() {
        match block["type"].as_str() {
            Some("text") => answer.text.push_str(block["text"].as_str().unwrap_or_default()),
            Some("tool_use") => answer.calls.push(call(block, block["input"].to_string())),
            _ => {}
        }
    }
    answer.model = value["model"].as_str().map(str::to_owned);
    answer.end = end(&value["stop_reason"]);
    count(&value["usage"], answer);
}

pub(super) fn event(name: &str, value: &Value, answer: &mut Answer) {
    let kind = value["type"].as_str().unwrap_or_default();
    if name != kind {
        answer.stumble(format!("the event {name:?} contains {kind:?}"));
    }
    match kind {
        "message_start" => {
            answer.model = value["message"]["model"].as_str().map(str::to_owned);
            count(&value["message"]["usage"], answer);
        }
        "content_block_start" if value["content_block"]["type"] == "tool_use" => {
            answer.calls.push(call(&value["content_block"], String::new()));
        }
        "content_block_delta" => {
            let delta = &value["delta"];
            answer.text.push_str(delta["text"].as_str().unwrap_or_default());
            if let (Some(json), Some(call)) = (delta["partial_json"].as_str(), answer.calls.last_mut()) {
                call.arguments.push_str(json);
            }
        }
        // A call without arguments has no delta, and its object is in the start.
        "content_block_stop" => {
            if let Some(call) = answer.calls.last_mut().filter(|call| call.arguments.is_empty()) {
                call.arguments.push_str("{}");
            }
        }
        "message_delta" => {
            answer.end = end(&value["delta"]["stop_reason"]);
            count(&value["usage"], answer);
        }
        "message_stop" => answer.is_marked = true,
        "error" => answer.tell(&value["error"]),
        _ => {}
    }
}

fn call(block: &Value, arguments: String) -> Call {
    Call { name: block["name"].as_str().unwrap_or_default().to_owned(), arguments }
}

fn count(usage: &Value, answer: &mut Answer) {
    answer.input_tokens = usage["input_tokens"].as_u64().or(answer.input_tokens);
    answer.output_tokens = usage["output_tokens"].as_u64().or(answer.output_tokens);
}

fn end(reason: &Value) -> Option<End> {
    Some(match reason.as_str()? {
        "end_turn" | "stop_sequence" => End::Stop,
        "max_tokens" => End::Length,
        "tool_use" => End::Call,
        other => End::Other(other.to_owned()),
    })
}
