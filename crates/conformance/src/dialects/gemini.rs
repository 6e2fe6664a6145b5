//! Google's Gemini (ai.google.dev/api/generate-content).

use serde_json::{Value, json};

use crate::{
    answer::{Answer, Call, End},
    prompt::{Prompt, Tool},
};

pub(super) fn body(prompt: &Prompt) -> Value {
    let text = |role: &str, words: &str| json!({"role": role, "parts": [{"text": words}]});
    let mut turns = Vec::new();
    if let Some([user, model]) = &prompt.earlier {
        turns.extend([text("user", user), text("model", model)]);
    }
    let mut parts = vec![json!({"text": prompt.words})];
    if let Some(data) = prompt.picture {
        parts.push(json!({"inlineData": {"mimeType": "image/png", "data": data}}));
    }
    turns.push(json!({"role": "user", "parts": parts}));
    if let Some(result) = &prompt.result {
        let call = json!({"functionCall": {"name": Tool::NAME, "args": Tool::arguments()}});
        turns.push(json!({"role": "model", "parts": [call]}));
        let result = json!({"functionResponse": {"name": Tool::NAME, "response": {"result": result}}});
        turns.push(json!({"role": "user", "parts": [result]}));
    }
    if let Some(begun) = &prompt.begun {
        turns.push(text("model", begun));
    }
    let mut body = json!({ "contents": turns });
    if let Some(system) = &prompt.system {
        body["systemInstruction"] = json!({"parts": [{"text": system}]});
    }
    if let Some(tool) = &prompt.tool {
        let function = json!({"name": Tool::NAME, "description": tool.description, "parameters": Tool::schema()});
        body["tools"] = json!([{"functionDeclarations": [function]}]);
        if tool.is_required {
            body["toolConfig"] = json!({"functionCallingConfig": {"mode": "ANY"}});
        }
    }
    let mut config = json!({});
    if let Some(most) = prompt.max_tokens {
        config["maxOutputTokens"] = most.into();
    }
    if let Some(schema) = &prompt.schema {
        config["responseMimeType"] = "application/json".into();
        config["responseJsonSchema"] = schema.clone();
    }
    if let Some(temperature) = prompt.temperature {
        config["temperature"] = temperature.into();
    }
    if let Some(stop) = &prompt.stop {
        config["stopSequences"] = json!([stop]);
    }
    if config != json!({}) {
        body["generationConfig"] = config;
    }
    body
}

/// Reads an answer, or an event of a stream: both have one form.
pub(super) fn event(value: &Value, answer: &mut Answer) {
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        return answer.tell(error);
    }
    let candidate = &value["candidates"][0];
    for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
        // A thought is no part of the answer.
        if part["thought"] != true {
            answer.text.push_str(part["text"].as_str().unwrap_or_default());
        }
        if let Some(call) = part.get("functionCall") {
            let name = call["name"].as_str().unwrap_or_default().to_owned();
            answer.calls.push(Call { name, arguments: call["args"].to_string() });
        }
    }
    answer.model = value["modelVersion"].as_str().map(str::to_owned).or_else(|| answer.model.take());
    let usage = &value["usageMetadata"];
    answer.input_tokens = usage["promptTokenCount"].as_u64().or(answer.input_tokens);
    answer.output_tokens = usage["candidatesTokenCount"].as_u64().or(answer.output_tokens);
    // The dialect has no reason of its own for a call.
    answer.end = match candidate["finishReason"].as_str() {
        Some("STOP") if answer.calls.is_empty() => Some(End::Stop),
        Some("STOP") => Some(End::Call),
        Some("MAX_TOKENS") => Some(End::Length),
        Some(other) => Some(End::Other(other.to_owned())),
        None => answer.end.take(),
    };
}
