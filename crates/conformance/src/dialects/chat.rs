//! OpenAI's Chat Completions (platform.openai.com/docs/api-reference/chat, "Streaming").

use serde_json::{Value, json};

use crate::{
    answer::{Answer, Call, End},
    prompt::{Prompt, Tool},
};

pub(super) fn body(prompt: &Prompt, is_streamed: bool) -> Value {
    let mut turns = Vec::new();
    if let Some(system) = &prompt.system {
        turns.push(json!({"role": "system", "content": system}));
    }
    if let Some([user, model]) = &prompt.earlier {
        turns.push(json!({"role": "user", "content": user}));
        turns.push(json!({"role": "assistant", "content": model}));
    }
    let content = match prompt.picture {
        Some(data) => json!([
            {"type": "text", "text": prompt.words},
            {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}},
        ]),
        None => prompt.words.as_str().into(),
    };
    turns.push(json!({"role": "user", "content": content}));
    if let Some(result) = &prompt.result {
        let function = json!({"name": Tool::NAME, "arguments": Tool::arguments().to_string()});
        let call = json!({"id": Tool::CALL, "type": "function", "function": function});
        turns.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        turns.push(json!({"role": "tool", "tool_call_id": Tool::CALL, "content": result}));
    }
    if let Some(begun) = &prompt.begun {
        turns.push(json!({"role": "assistant", "content": begun}));
    }
    let mut body = json!({ "messages": turns });
    if is_streamed {
        body["stream_options"] = json!({"include_usage": true});
    }
    if let Some(most) = prompt.max_tokens {
        body["max_tokens"] = most.into();
    }
    if let Some(tool) = &prompt.tool {
        let function = json!({"name": Tool::NAME, "description": tool.description, "parameters": Tool::schema()});
        body["tools"] = json!([{"type": "function", "function": function}]);
        if tool.is_required {
            body["tool_choice"] = "required".into();
        }
    }
    if let Some(schema) = &prompt.schema {
        let format = json!({"name": "answer", "strict": true, "schema": schema});
        body["response_format"] = json!({"type": "json_schema", "json_schema": format});
    }
    if let Some(temperature) = prompt.temperature {
        body["temperature"] = temperature.into();
    }
    if let Some(stop) = &prompt.stop {
        body["stop"] = json!([stop]);
    }
    body
}

pub(super) fn whole(value: &Value, answer: &mut Answer) {
    if value["object"] != "chat.completion" || !value["id"].is_string() {
        answer.stumble("the body is no chat completion");
    }
    let choice = &value["choices"][0];
    let message = &choice["message"];
    answer.text.push_str(message["content"].as_str().unwrap_or_default());
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        answer.calls.push(begun(call));
    }
    answer.model = value["model"].as_str().map(str::to_owned);
    answer.end = end(&choice["finish_reason"]);
    count(&value["usage"], answer);
}

pub(super) fn event(value: &Value, answer: &mut Answer) {
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        return answer.tell(error);
    }
    if value["object"] != "chat.completion.chunk" {
        answer.stumble("an event is no chunk");
    }
    let choice = &value["choices"][0];
    answer.text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
    for part in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
        let index = part["index"].as_u64().and_then(|index| usize::try_from(index).ok());
        match index {
            Some(index) if index < answer.calls.len() => {
                let next = begun(part);
                answer.calls[index].name.push_str(&next.name);
                answer.calls[index].arguments.push_str(&next.arguments);
            }
            Some(index) if index == answer.calls.len() => answer.calls.push(begun(part)),
            _ => answer.stumble("a tool call has no index, or one that leaves out another"),
        }
    }
    answer.model = value["model"].as_str().map(str::to_owned).or_else(|| answer.model.take());
    answer.end = end(&choice["finish_reason"]).or_else(|| answer.end.take());
    count(&value["usage"], answer);
}

/// Returns a call, or its first part.
fn begun(part: &Value) -> Call {
    let text = |field: &str| part["function"][field].as_str().unwrap_or_default().to_owned();
    Call { name: text("name"), arguments: text("arguments") }
}

fn count(usage: &Value, answer: &mut Answer) {
    answer.input_tokens = usage["prompt_tokens"].as_u64().or(answer.input_tokens);
    answer.output_tokens = usage["completion_tokens"].as_u64().or(answer.output_tokens);
}

fn end(reason: &Value) -> Option<End> {
    Some(match reason.as_str()? {
        "stop" => End::Stop,
        "length" => End::Length,
        "tool_calls" => End::Call,
        other => End::Other(other.to_owned()),
    })
}
