//! Work and memory in proportion to the input, by what is allocated.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use serde_json::{Value, json};

use super::{event, user};
use crate::bedrock::converse::{AnswerHead, answer, request, sse};

const FEW: usize = 500;
const TIMES: usize = 8;

/// Holds the bytes allocated for eight times the parts to little more than eight times those for the parts.
fn grows_in_proportion(name: &str, work: impl Fn(usize) -> Box<dyn FnOnce()>) {
    let bytes = |parts: usize| {
        let work = work(parts);
        let allocated = allocation_counter::measure(work);
        (allocated.bytes_total, allocated.count_total)
    };
    let (few, many) = (bytes(FEW), bytes(FEW * TIMES));
    // Buffers that double take up to twice what they need.
    let most = |few: u64| few * TIMES as u64 * 2;
    assert!(many.0 <= most(few.0) && many.1 <= most(few.1), "{name}: {few:?} became {many:?}");
}

fn of_request(name: &str, body: impl Fn(usize) -> Value) {
    grows_in_proportion(name, |parts| {
        let body = body(parts).to_string();
        Box::new(move || {
            request(body.as_bytes()).unwrap();
        })
    });
}

fn times(parts: usize, part: &Value) -> Value {
    vec![part.clone(); parts].into()
}

#[test]
fn requests_take_work_in_proportion() {
    of_request("blocks", |parts| user(&times(parts, &json!({"type": "text", "text": "hi"}))));
    of_request("turns", |parts| {
        let turns =
            (0..parts).map(|at| json!({"role": if at % 2 == 0 { "user" } else { "assistant" }, "content": "hi"}));
        json!({"messages": turns.collect::<Vec<_>>()})
    });
    let document = json!({"type": "document", "title": "same", "source": {"type": "text", "data": "a"}});
    of_request("documents of one name", |parts| user(&times(parts, &document)));
    of_request("parts of unknown kinds", |parts| {
        let parts = (0..parts).map(|at| json!({"type": format!("kind {at}")}));
        user(&parts.collect())
    });
    of_request("parts of a result", |parts| {
        let parts = times(parts, &json!({"type": "text", "text": "hi"}));
        user(&json!([{"type": "tool_result", "tool_use_id": "t", "content": parts}]))
    });
    of_request("tools of the history", |parts| {
        let calls = (0..parts).map(|at| json!({"type": "tool_use", "id": "t", "name": format!("f{at}"), "input": {}}));
        json!({"messages": [{"role": "assistant", "content": calls.collect::<Vec<_>>()}]})
    });
    let tool =
        json!({"name": "f", "input_schema": {"type": "object"}, "odd": 1, "cache_control": {"type": "ephemeral"}});
    of_request("tools", |parts| json!({"messages": [], "tools": times(parts, &tool)}));
    of_request("unknown fields", |parts| {
        let fields = (0..parts).map(|at| (format!("field {at}"), at.into()));
        let mut body: serde_json::Map<String, Value> = fields.collect();
        body.insert("messages".to_owned(), json!([]));
        body.into()
    });
}

#[test]
fn answers_take_work_in_proportion() {
    let citation = json!({"sourceContent": [{"text": "a"}], "location": {"web": {"url": "u"}}});
    for block in [
        json!({"text": "hi"}),
        json!({"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}),
        json!({"citationsContent": {"content": [{"text": "a"}], "citations": [citation]}}),
    ] {
        grows_in_proportion("blocks", |parts| {
            let content = times(parts, &block);
            let body = json!({"output": {"message": {"content": content}}}).to_string();
            Box::new(move || {
                answer(body.as_bytes(), &AnswerHead::default()).unwrap();
            })
        });
    }
}

#[test]
fn streams_take_work_in_proportion() {
    let call = json!({"toolUse": {"toolUseId": "t", "name": "f"}});
    type Events = Box<dyn Fn(u64) -> Vec<u8>>;
    let shapes: [(&str, Events); 4] = [
        ("deltas", Box::new(|_| event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "hi"}})))),
        (
            "blocks without an end",
            Box::new(|at| event("contentBlockDelta", &json!({"contentBlockIndex": at, "delta": {"text": "hi"}}))),
        ),
        (
            "calls without an end",
            Box::new(move |at| event("contentBlockStart", &json!({"contentBlockIndex": at, "start": call}))),
        ),
        (
            "redacted thinking in pieces",
            Box::new(|_| {
                let delta = json!({"reasoningContent": {"redactedContent": "YWJj"}});
                event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": delta}))
            }),
        ),
    ];
    for (name, shape) in shapes {
        for piece in [7, 1 << 14] {
            grows_in_proportion(name, |parts| {
                let mut body: Vec<u8> = (0..parts as u64).flat_map(&shape).collect();
                body.extend(event("messageStop", &json!({"stopReason": "end_turn"})));
                let pieces: Vec<_> = body.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
                Box::new(move || {
                    let events = sse(stream::iter(pieces), AnswerHead::default()).collect::<Vec<_>>();
                    assert!(events.now_or_never().unwrap().iter().all(Result::is_ok));
                })
            });
        }
    }
}
