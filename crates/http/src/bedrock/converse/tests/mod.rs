mod answers;
mod linear;
mod requests;
mod streams;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{AnswerHead, answer, request, sse};
use crate::{
    ErrorKind,
    bedrock::event_stream::{HeaderValue, encode},
};

/// The request of Converse for one of Messages, and its notes.
fn converted(messages: &Value) -> (Value, Vec<String>) {
    let converted = request(messages.to_string().as_bytes()).unwrap();
    let notes: Vec<String> = converted.notes.iter().map(|note| note.to_string()).collect();
    (serde_json::from_slice(&converted.body).unwrap(), notes)
}

fn user(content: &Value) -> Value {
    json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]})
}

fn refusal(content: &Value) -> (ErrorKind, String) {
    let error = request(user(content).to_string().as_bytes()).unwrap_err();
    (error.kind(), error.message().to_owned())
}

fn answered(body: &Value) -> Value {
    let head = AnswerHead::default().id("r").model("m");
    serde_json::from_slice(&answer(body.to_string().as_bytes(), &head).unwrap()).unwrap()
}

/// One event of `ConverseStream`.
fn event(kind: &str, payload: &Value) -> Vec<u8> {
    let headers = [(":event-type", HeaderValue::Text(kind)), (":message-type", HeaderValue::Text("event"))];
    encode(&headers, payload.to_string().as_bytes()).unwrap()
}

fn exception(kind: &str, payload: &str) -> Vec<u8> {
    let headers = [(":exception-type", HeaderValue::Text(kind)), (":message-type", HeaderValue::Text("exception"))];
    encode(&headers, payload.as_bytes()).unwrap()
}

/// The events of Messages, and the error that ends them.
async fn messages(events: &[Vec<u8>]) -> (Vec<Value>, Option<String>) {
    let body = stream::iter([Ok(Bytes::from(events.concat()))]);
    let head = AnswerHead::default().id("r").model("m");
    let (mut text, mut error) = (String::new(), None);
    let mut sse = sse(body, head);
    while let Some(piece) = sse.next().await {
        match piece {
            Ok(piece) => text.push_str(str::from_utf8(&piece).unwrap()),
            Err(broken) => error = Some(broken.to_string()),
        }
    }
    let read = |block: &str| {
        let (name, data) = block.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        data
    };
    (text.split("\n\n").filter(|block| !block.is_empty()).map(read).collect(), error)
}

fn kinds(events: &[Value]) -> Vec<String> {
    let name = |event: &Value| match event["index"].as_u64() {
        Some(index) => format!("{} {index}", event["type"].as_str().unwrap()),
        None => event["type"].as_str().unwrap().to_owned(),
    };
    events.iter().map(name).collect()
}
