mod failures;
mod grammar;
mod others;
mod recordings;
mod streams;

use serde_json::{Value, json};

use super::RequestEcho;
use crate::{
    Dialect, Frame, StreamEvent,
    chat::{Chat, Extra, Opaque, Tool},
    translate::StreamEncoder,
};

/// The request's tools: a function, one within a namespace, and one that takes free text.
fn tools() -> Chat {
    let schema = json!({"type": "object"});
    let with = |name: &str, extra: Value| {
        let mut tool = Tool::new(name, schema.clone());
        tool.extra = Some(Extra::new(Dialect::Responses, extra));
        tool
    };
    Chat::default()
        .tool(Tool::new("f", schema.clone()))
        .tool(with("mcp__f", json!({"type": "function", "name": "f", "namespace": {"name": "mcp"}})))
        .tool(with("patch", json!({"type": "custom", "name": "patch"})))
}

fn encoder() -> StreamEncoder {
    StreamEncoder::new(Dialect::Responses).model("m").echo(RequestEcho::of(&tools()))
}

fn stream(encoder: &mut StreamEncoder, frames: &[Frame]) -> String {
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| encoder.frame(frame)).collect();
    String::from_utf8(bytes).unwrap()
}

fn text(index: u32, text: &str) -> StreamEvent {
    StreamEvent::Text { index, text: text.into() }
}

fn call(index: u32, id: &str, name: &str) -> StreamEvent {
    StreamEvent::ToolCall { index, id: id.into(), name: name.into(), opaque: None }
}

fn arguments(index: u32, json: &str) -> StreamEvent {
    StreamEvent::Arguments { index, json: json.into() }
}

fn opaque(dialect: Dialect, token: &str, redacted: bool) -> Opaque {
    Opaque { dialect, token: token.into(), redacted }
}

/// The events of a stream by their types, runs of one type as one.
fn types(stream: &str) -> Vec<&str> {
    let mut types: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("event: response.")).collect();
    types.dedup();
    types
}
