//! Providers' streams, piece by piece.

use serde_json::{Value, json};

/// The first event of Anthropic's streams.
pub(super) const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\
    \"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\"stop_reason\":null,\
    \"stop_sequence\":null,\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n";
pub(super) const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
pub(super) const END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\
    \"stop_sequence\":null},\"usage\":{\"output_tokens\":3}}\n\n\
    event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
pub(super) const DONE: &str = "data: [DONE]\n\n";

/// An event of Anthropic's; its name is its type.
pub(super) fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap())
}

/// Returns a whole block of Anthropic's, as events.
pub(super) fn block(index: u32, start: &Value, deltas: &[Value]) -> String {
    let mut text = event(&json!({"type": "content_block_start", "index": index, "content_block": start}));
    for delta in deltas {
        text += &event(&json!({"type": "content_block_delta", "index": index, "delta": delta}));
    }
    text + &event(&json!({"type": "content_block_stop", "index": index}))
}

pub(super) fn text_block(index: u32, text: &str) -> String {
    let deltas: Vec<Value> =
        text.split_inclusive(' ').map(|text| json!({"type": "text_delta", "text": text})).collect();
    block(index, &json!({"type": "text", "text": ""}), &deltas)
}

pub(super) fn thinking_block(index: u32) -> String {
    let start = json!({"type": "thinking", "thinking": "", "signature": ""});
    let deltas = [
        json!({"type": "thinking_delta", "thinking": "Let me see."}),
        json!({"type": "signature_delta", "signature": "c2lnbmVk"}),
    ];
    block(index, &start, &deltas)
}

pub(super) fn tool_block(index: u32, id: &str) -> String {
    let start = json!({"type": "tool_use", "id": id, "name": "run", "input": {}});
    block(index, &start, &[json!({"type": "input_json_delta", "partial_json": "{\"cmd\":\"ls\"}"})])
}

/// An error in Anthropic's stream.
pub(super) fn error_event(kind: &str, message: &str) -> String {
    event(&json!({"type": "error", "error": {"type": kind, "message": message}}))
}

/// A chunk of OpenAI's.
pub(super) fn chunk(delta: &Value, finish: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
    let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": [choice]});
    format!("data: {chunk}\n\n")
}

pub(super) fn role() -> String {
    chunk(&json!({"role": "assistant", "content": ""}), None)
}

/// Anthropic's whole stream that says what the simulated providers say.
pub(super) fn anthropic_stream() -> [String; 3] {
    [START.to_owned(), text_block(0, "Hello from afar"), END.to_owned()]
}

pub(super) fn openai_stream() -> [String; 4] {
    let text = chunk(&json!({"content": "Hello from afar"}), None);
    [role(), text, chunk(&json!({}), Some("stop")), DONE.to_owned()]
}

/// Anthropic's whole answer.
pub(super) fn anthropic_answer() -> String {
    let content = json!([{"type": "text", "text": "Hello from afar"}]);
    anthropic_answer_of(&content)
}

pub(super) fn anthropic_answer_of(content: &Value) -> String {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": content,
        "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": 7, "output_tokens": 3},
    })
    .to_string()
}
