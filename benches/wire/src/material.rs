//! The streams and requests that are read.

use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};

/// A word after the other, with what has to be escaped in between.
fn words(count: usize) -> impl Iterator<Item = &'static str> {
    let words = [
        "the ",
        "model ",
        "says ",
        "\u{201c}caf\u{e9}\u{201d} ",
        "and\n",
        "then ",
        "\"quotes\", ",
        "numbers ",
        "12 ",
        "again. ",
    ];
    words.into_iter().cycle().take(count)
}

/// An answer of Anthropic's: 600 pieces of text, then a tool call.
pub fn anthropic() -> Bytes {
    let mut events = vec![
        json!({"type": "message_start", "message": {"id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": [], "stop_reason": null, "usage": {"input_tokens": 472, "output_tokens": 2}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
    ];
    events.extend(
        words(600).map(
            |text| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
        ),
    );
    events.push(json!({"type": "content_block_stop", "index": 0}));
    events.push(json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "toolu_01T1x1fJ34qAmk2tNTrN7Up6", "name": "get_weather", "input": {}}}));
    let arguments = "{\"location\": \"San Francisco, CA\", \"unit\": \"fahrenheit\"}".as_bytes().chunks(5);
    events.extend(arguments.map(|piece| {
        let piece = String::from_utf8_lossy(piece);
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": piece}})
    }));
    events.push(json!({"type": "content_block_stop", "index": 1}));
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 89}}));
    events.push(json!({"type": "message_stop"}));
    let text = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    events.iter().map(text).collect::<String>().into()
}

/// An answer of OpenAI's: 600 pieces of text.
pub fn openai() -> Bytes {
    let chunk = |delta: Value, finish: Value| {
        let chunk = json!({"id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion.chunk", "created": 1_741_569_952, "model": "gpt-5.2-2025-12-11", "service_tier": "default", "system_fingerprint": "fp_44709d6fcb", "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}], "usage": null, "obfuscation": "AbCdEf1"});
        format!("data: {chunk}\n\n")
    };
    let mut text = chunk(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null);
    text.extend(words(600).map(|word| chunk(json!({ "content": word }), Value::Null)));
    text += &chunk(json!({}), json!("stop"));
    text += "data: [DONE]\n\n";
    text.into()
}

/// An answer of OpenAI's in Responses: 600 pieces of text, which the last four events repeat.
pub fn responses() -> Bytes {
    let text: String = words(600).collect();
    let part = |text: &str| json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text});
    let item = |status: &str, content: Value| json!({"id": "msg_08e8bb3a41af56b1", "type": "message", "status": status, "content": content, "role": "assistant"});
    let response = |status: &str, output: Value, usage: Value| json!({"id": "resp_08e8bb3a41af56b1", "object": "response", "created_at": 1_741_569_952, "status": status, "background": false, "error": null, "incomplete_details": null, "instructions": null, "max_output_tokens": null, "model": "gpt-5.2-2025-12-11", "output": output, "parallel_tool_calls": true, "previous_response_id": null, "reasoning": {"effort": "medium", "summary": null}, "service_tier": "default", "store": true, "temperature": 1.0, "text": {"format": {"type": "text"}, "verbosity": "medium"}, "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled", "usage": usage, "user": null, "metadata": {}});
    let of_part = |kind: &str, field: &str, value: Value| {
        let mut event = json!({"type": kind, "item_id": "msg_08e8bb3a41af56b1", "output_index": 0, "content_index": 0});
        event[field] = value;
        event
    };
    let begun = response("in_progress", json!([]), Value::Null);
    let ended = item("completed", json!([part(&text)]));
    let usage = json!({"input_tokens": 472, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 600, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 1072});
    let mut events = vec![
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": item("in_progress", json!([]))}),
        of_part("response.content_part.added", "part", part("")),
    ];
    events.extend(words(600).map(|word| {
        let mut event = of_part("response.output_text.delta", "delta", word.into());
        (event["logprobs"], event["obfuscation"]) = (json!([]), "AbCdEf1".into());
        event
    }));
    events.push(of_part("response.output_text.done", "text", text.as_str().into()));
    events.push(of_part("response.content_part.done", "part", part(&text)));
    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": ended}));
    events.push(json!({"type": "response.completed", "response": response("completed", json!([ended]), usage)}));
    let mut stream = String::new();
    for (number, mut event) in events.into_iter().enumerate() {
        event["sequence_number"] = number.into();
        stream += &format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    }
    stream.into()
}

/// A stream with one event of four megabytes: an image.
pub fn picture() -> Bytes {
    let data = "iVBORw0KGgoAAAANSUhEUgAA".repeat((4 << 20) / 24);
    let chunk = json!({"candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": data}}], "role": "model"}, "finishReason": "STOP"}], "modelVersion": "gemini-2.5-flash-image"});
    format!("data: {chunk}\r\n\r\n").into()
}

/// Returns the recordings of Anthropic's, if there are any.
fn records() -> impl Iterator<Item = Value> {
    let folder = std::env::var_os("STEADFAST_FIXTURES").map(|folder| Path::new(&folder).join("anthropic"));
    let files = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    let mut files: Vec<_> = files.into_iter().flatten().flatten().map(|file| file.path()).collect();
    files.sort();
    files.into_iter().filter_map(|file| serde_json::from_slice(&std::fs::read(file).ok()?).ok())
}

/// A request of about this many bytes, of the turns that were recorded, over and over; `None` without recordings.
pub fn recorded_request(size: usize) -> Option<Bytes> {
    let turns =
        records().filter_map(|record| Some(record["request"]["body"]["messages"].as_array()?.clone())).flatten();
    // A picture is a text without end, and has a row of its own.
    let turns: Vec<String> = turns.map(|turn| turn.to_string()).filter(|turn| turn.len() < 64 << 10).collect();
    let mut messages = String::new();
    for turn in turns.iter().cycle().take_while(|_| !turns.is_empty()) {
        messages.push_str(turn);
        if messages.len() >= size {
            break;
        }
        messages.push(',');
    }
    let request = format!(r#"{{"max_tokens":1024,"messages":[{messages}],"model":"claude-sonnet-4-5"}}"#);
    (!turns.is_empty()).then(|| request.into())
}

/// The streams of Anthropic's that were recorded, if there are recordings.
pub fn recorded() -> Vec<Bytes> {
    let whole = records().filter_map(|record| record["response"]["sse"].as_str().map(str::to_owned));
    whole.filter(|text| text.contains("message_stop") && !text.contains("event: error")).map(Bytes::from).collect()
}

/// A conversation of about this many bytes.
pub fn request(size: usize) -> Bytes {
    let turn: String = words(40).collect();
    let mut messages = Vec::new();
    let mut length = 300;
    while messages.is_empty() || length < size {
        let role = if messages.len() % 2 == 0 { "user" } else { "assistant" };
        messages.push(json!({"role": role, "content": [{"type": "text", "text": turn}]}));
        length += messages.last().map_or(0, |message| message.to_string().len() + 1);
    }
    json!({"messages": messages, "max_tokens": 1024, "model": "claude-sonnet-4-5", "system": "Be brief.", "temperature": 0.5}).to_string().into()
}

/// A request of about this many bytes, nearly all of them a picture.
pub fn with_picture(size: usize) -> Bytes {
    let data = "iVBORw0KGgoAAAANSUhEUgAA".repeat(size / 24);
    json!({"max_tokens": 1024, "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}, {"type": "text", "text": "What is this?"}]}], "model": "claude-sonnet-4-5"}).to_string().into()
}

/// Returns the pieces of a body as a socket gives them.
pub fn pieces(body: &Bytes, size: usize) -> Vec<Bytes> {
    body.chunks(size).map(Bytes::copy_from_slice).collect()
}
