use std::{collections::HashMap, fs, path::Path};

use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use steadfast::Dialect;

use super::{Received, events, read};
use crate::{answer::Call, caller::Caller};

fn received(status: u16, kind: &'static str, body: &str) -> Received {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(kind));
    Received { status, headers, body: body.into(), is_broken: false }
}

#[test]
fn events_end_at_each_of_the_standards_line_ends() {
    for end in ["\n", "\r\n", "\r"] {
        let text = ["event: a", "data: 1", ": no data", "data:  2", "", "data", "", "data:3"].join(end);
        let events = events(&text);
        let data: Vec<(&str, &str)> = events.iter().map(|event| (event.name, event.data.as_str())).collect();
        assert_eq!(data, [("a", "1\n 2"), ("", "3")], "{end:?}");
    }
}

#[test]
fn only_what_a_client_reads_counts_against_an_end() {
    let chunk =
        r#"data: {"object":"chat.completion.chunk","choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#;
    let response = r#"data: {"type":"response.completed","sequence_number":0,"response":{"object":"response","id":"r","status":"completed","output":[]}}"#;
    let done = "data: [DONE]";
    for (name, events, is_clean) in [
        ("chat-stream", [chunk, done, "data: {}"], true),
        ("chat-stream", [chunk, chunk, done], true),
        ("responses-stream", [response, done, ""], true),
        ("responses-stream", [response, response, ""], false),
    ] {
        let answer = read(Caller::of(name).unwrap(), &received(200, "text/event-stream", &events.join("\n\n")));
        assert!(answer.is_marked, "{name} {events:?}");
        assert_eq!(answer.defects.is_empty(), is_clean, "{name} {events:?}: {answer}");
    }
    // A connection that breaks behind the end meets a client that has left, and one before it a client that waits.
    for (events, is_told) in [(vec![chunk, done, ""], false), (vec![chunk, ""], true)] {
        let broken = Received { is_broken: true, ..received(200, "text/event-stream", &events.join("\n\n")) };
        let answer = read(Caller::of("chat-stream").unwrap(), &broken);
        assert_eq!((answer.error.is_some(), answer.is_marked), (is_told, !is_told), "{events:?}: {answer}");
    }
}

/// The marks of answers that no probe asks for, and the reasons.
const UNASKED: &[(&str, &str)] = &[
    ("\"function_call\":{", "the functions of 2023"),
    ("\"function_call\": {", "the functions of 2023"),
    ("custom_tool_call", "tools whose arguments are no JSON"),
    ("multiple-choices", "several answers at once"),
    ("chatgpt-responses", "the last event of ChatGPT's own server lacks the answer"),
    ("programmatic-tool-calling.1", "several answers in one recording"),
    ("shell-container.1", "a recording that was shortened by hand"),
];

/// The vendors' SDKs and these readers make the same of recorded answers: text, calls, and whether one ends in an
/// error.
#[test]
fn recorded_answers_are_read_as_the_vendors_sdks_read_them() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let (mut read_answers, mut unasked, mut differences) = (0, 0, Vec::new());
    for folder in ["fixtures", "fixtures2"].map(|name| shared.join(name)) {
        let Ok(oracle) = fs::read_to_string(folder.join("oracle.jsonl")) else {
            eprintln!("skipped: the recorded traffic is not here ({})", folder.display());
            return;
        };
        let index: Vec<Value> = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
        let files: HashMap<&str, &str> =
            index.iter().map(|line| (line["id"].as_str().unwrap(), line["file"].as_str().unwrap())).collect();
        for line in oracle.lines() {
            // Python writes numbers that are no JSON, in embeddings.
            let Ok(oracle) = serde_json::from_str::<Value>(line) else { continue };
            let dialect = match (oracle["provider"].as_str().unwrap(), oracle["api"].as_str().unwrap()) {
                ("anthropic", "messages") => Dialect::Anthropic,
                ("openai", "chat.completions") => Dialect::OpenAi,
                ("openai" | "openai-responses", "responses") => Dialect::Responses,
                ("gemini", "generateContent" | "streamGenerateContent") => Dialect::Gemini,
                _ => continue,
            };
            // Only what the SDK itself has read, and neither choked on.
            let is_read = oracle["skipped"].is_null() && oracle["how"] == "sdk" && oracle["status"] == 200;
            if !is_read || oracle["error_class"].as_str().is_some_and(|class| class.starts_with("builtins.")) {
                continue;
            }
            let file = folder.join(files[oracle["id"].as_str().unwrap()]);
            let exchange: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
            let response = &exchange["response"];
            let (kind, body) = match (response["sse"].as_str(), &response["body"]) {
                (Some(events), _) => ("text/event-stream", events.to_owned()),
                (None, body @ Value::Object(_)) => ("application/json", body.to_string()),
                _ => continue,
            };
            if UNASKED.iter().any(|(mark, _)| body.contains(mark) || oracle["id"].as_str().unwrap().contains(mark)) {
                unasked += 1;
                continue;
            }
            let caller = Caller { dialect, is_streamed: kind == "text/event-stream" };
            let answer = read(caller, &received(200, kind, &body));
            read_answers += 1;
            let calls: Vec<Call> = oracle["tool_calls"].as_array().into_iter().flatten().map(call).collect();
            let own: Vec<Call> = answer.calls.iter().map(normal).collect();
            let is_same = answer.text == oracle["text"].as_str().unwrap_or_default()
                && own == calls
                && answer.error.is_some() != oracle["error_class"].is_null();
            if !is_same {
                differences.push(format!("{}: {answer}", oracle["id"]));
            }
        }
    }
    println!("{read_answers} recorded answers, and {unasked} of kinds that no probe asks for");
    assert!(read_answers > 900 && unasked < 60, "{read_answers} and {unasked}");
    assert_eq!(differences, [""; 0], "of {read_answers}");
}

fn call(call: &Value) -> Call {
    let arguments = match &call["arguments"] {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    normal(&Call { name: call["name"].as_str().unwrap_or_default().to_owned(), arguments })
}

/// Returns the call with its arguments in one spelling.
fn normal(call: &Call) -> Call {
    let value: Result<Value, _> = serde_json::from_str(&call.arguments);
    let arguments = value.map_or_else(|_| call.arguments.clone(), |value| value.to_string());
    Call { name: call.name.clone(), arguments }
}
