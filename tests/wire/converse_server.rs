//! A server of Bedrock's Converse, for a turn that is written as Messages.

use serde_json::{Value, json};
use steadfast::providers::bedrock::event_stream::{HeaderValue, encode};

/// Returns a turn's blocks in Converse's form.
fn blocks(turn: &Value) -> Vec<Value> {
    let block = |block: &Value| match block["type"].as_str().unwrap() {
        "thinking" => {
            let mut text = json!({"text": block["thinking"]});
            if let Some(signature) = block.get("signature") {
                text["signature"] = signature.clone();
            }
            json!({"reasoningContent": {"reasoningText": text}})
        }
        "text" => json!({"text": block["text"]}),
        _ => json!({"toolUse": {"toolUseId": block["id"], "name": block["name"], "input": block["input"]}}),
    };
    turn["content"].as_array().unwrap().iter().map(block).collect()
}

/// Returns the turn as a whole answer.
pub(crate) fn whole(turn: &Value) -> Value {
    json!({"output": {"message": {"role": "assistant", "content": blocks(turn)}}, "stopReason": "tool_use",
        "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}})
}

/// Returns the turn as a stream.
pub(crate) fn events(turn: &Value) -> Vec<u8> {
    let event = |kind: &str, payload: Value| {
        let headers = [(":event-type", HeaderValue::Text(kind)), (":message-type", HeaderValue::Text("event"))];
        encode(&headers, payload.to_string().as_bytes()).unwrap()
    };
    let mut stream = event("messageStart", json!({"role": "assistant"}));
    for (index, block) in blocks(turn).into_iter().enumerate() {
        let mut delta = |delta: Value| {
            stream.extend(event("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta})))
        };
        if let Some(thought) = block["reasoningContent"]["reasoningText"].as_object() {
            for name in ["text", "signature"] {
                if let Some(said) = thought.get(name) {
                    delta(json!({"reasoningContent": {name: said}}));
                }
            }
        } else if let Some(text) = block.get("text") {
            delta(json!({"text": text}));
        } else {
            let call = &block["toolUse"];
            let start = json!({"toolUse": {"toolUseId": call["toolUseId"], "name": call["name"]}});
            stream.extend(event("contentBlockStart", json!({"contentBlockIndex": index, "start": start})));
            let input = json!({"toolUse": {"input": call["input"].to_string()}});
            stream.extend(event("contentBlockDelta", json!({"contentBlockIndex": index, "delta": input})));
        }
        stream.extend(event("contentBlockStop", json!({"contentBlockIndex": index})));
    }
    stream.extend(event("messageStop", json!({"stopReason": "tool_use"})));
    let usage = json!({"usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}, "metrics": {"latencyMs": 1}});
    stream.extend(event("metadata", usage));
    stream
}

/// Returns the thoughts in the first turn of the model's that a request brings back, written as Messages.
pub(crate) fn thoughts(body: &Value) -> Value {
    let turn = body["messages"].as_array().unwrap().iter().find(|turn| turn["role"] == "assistant").unwrap();
    let thought = |block: &Value| {
        let text = block["reasoningContent"]["reasoningText"].as_object()?;
        let mut thought = json!({"type": "thinking", "thinking": text["text"]});
        if let Some(signature) = text.get("signature") {
            thought["signature"] = signature.clone();
        }
        Some(thought)
    };
    turn["content"].as_array().unwrap().iter().filter_map(thought).collect()
}
