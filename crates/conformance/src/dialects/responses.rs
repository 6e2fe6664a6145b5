//! OpenAI's Responses (platform.openai.com/docs/api-reference/responses, "Streaming events").

use serde_json::{Value, json};

use crate::{
    answer::{Answer, Call, End},
    prompt::{Prompt, Tool},
};

pub(super) fn body(prompt: &Prompt) -> Value {
    let mut items = Vec::new();
    if let Some([user, model]) = &prompt.earlier {
        items.push(json!({"role": "user", "content": user}));
        items.push(json!({"role": "assistant", "content": model}));
    }
    let content = match prompt.picture {
        Some(data) => json!([
            {"type": "input_text", "text": prompt.words},
            {"type": "input_image", "image_url": format!("data:image/png;base64,{data}")},
        ]),
        None => prompt.words.as_str().into(),
    };
    items.push(json!({"role": "user", "content": content}));
    if let Some(result) = &prompt.result {
        items.push(json!({
            "type": "function_call",
            "call_id": Tool::CALL,
            "name": Tool::NAME,
            "arguments": Tool::arguments().to_string(),
        }));
        items.push(json!({"type": "function_call_output", "call_id": Tool::CALL, "output": result}));
    }
    if let Some(begun) = &prompt.begun {
        items.push(json!({"role": "assistant", "content": begun}));
    }
    let mut body = json!({ "input": items, "store": false });
    if let Some(system) = &prompt.system {
        body["instructions"] = system.as_str().into();
    }
    if let Some(most) = prompt.max_tokens {
        body["max_output_tokens"] = most.into();
    }
    if let Some(tool) = &prompt.tool {
        body["tools"] = json!([{
            "type": "function",
            "name": Tool::NAME,
            "description": tool.description,
            "parameters": Tool::schema(),
            "strict": false,
        }]);
        if tool.is_required {
            body["tool_choice"] = "required".into();
        }
    }
    if let Some(schema) = &prompt.schema {
        let format = json!({"type": "json_schema", "name": "answer", "strict": true, "schema": schema});
        body["text"] = json!({ "format": format });
    }
    if let Some(temperature) = prompt.temperature {
        body["temperature"] = temperature.into();
    }
    body
}

/// Reads a response: its items, and the reason for its end or its failure.
pub(super) fn whole(value: &Value, answer: &mut Answer) {
    if value["object"] != "response" || !value["id"].is_string() {
        answer.stumble("the body is no response");
    }
    for item in value["output"].as_array().into_iter().flatten() {
        match item["type"].as_str() {
            Some("message") => {
                let parts = item["content"].as_array().into_iter().flatten();
                answer.text.extend(parts.filter_map(|part| part["text"].as_str()));
            }
            Some("function_call") => {
                let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
                answer.calls.push(Call { name: text("name"), arguments: text("arguments") });
            }
            _ => {}
        }
    }
    answer.model = value["model"].as_str().map(str::to_owned);
    answer.input_tokens = value["usage"]["input_tokens"].as_u64();
    answer.output_tokens = value["usage"]["output_tokens"].as_u64();
    // The dialect has no reason of its own for a call.
    answer.end = match value["status"].as_str() {
        Some("completed") if answer.calls.is_empty() => Some(End::Stop),
        Some("completed") => Some(End::Call),
        Some("incomplete") => match value["incomplete_details"]["reason"].as_str() {
            Some("max_output_tokens") => Some(End::Length),
            other => Some(End::Other(other.unwrap_or_default().to_owned())),
        },
        _ => None,
    };
    if value["status"] == "failed" {
        answer.tell(&value["error"]);
    }
}

/// The state of a stream, whose events have numbers.
#[derive(Debug, Default)]
pub(super) struct Reader {
    number: u64,
    /// The text of the deltas.
    text: String,
}

impl Reader {
    pub(super) fn event(&mut self, name: &str, value: &Value, answer: &mut Answer) {
        let kind = value["type"].as_str().unwrap_or_default();
        // The SDKs go by the type in the data.
        if !name.is_empty() && name != kind {
            answer.stumble(format!("the event {name:?} contains {kind:?}"));
        }
        if value["sequence_number"] != self.number {
            answer.stumble(format!("event {} has the number {}", self.number, value["sequence_number"]));
        }
        self.number += 1;
        match kind {
            "response.output_text.delta" => {
                self.text.push_str(value["delta"].as_str().unwrap_or_default());
                answer.text.clone_from(&self.text);
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                answer.text.clear();
                whole(&value["response"], answer);
                answer.is_marked = answer.error.is_none();
                if answer.text != self.text && kind != "response.failed" {
                    answer.stumble("the last event has another text than the deltas");
                }
                answer.text.clone_from(&self.text);
            }
            "error" => answer.tell(value),
            _ => {}
        }
    }
}
