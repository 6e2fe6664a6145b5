//! Answers to callers of Responses against the OpenAPI document of the Open Responses specification: 0 violations.
//! Providers of each other dialect × situations × whole and streamed.
//!
//! The document is no part of the repository: it stands beside it, in `../shared`, or `STEADFAST_OPEN_RESPONSES` names
//! it. Without it the test says so and does nothing.

use std::{convert::Infallible, path::PathBuf};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::Full;
use jsonschema::Validator;
use serde_json::{Value, json};
use steadfast::{
    Dialect, LlmRequest, LlmResponse, Wire,
    providers::{Anthropic, Gemini, OpenAi},
    translate::{RequestEcho, SealMemory, StreamEncoder, encode_answer, encode_error},
};
use tower::{ServiceExt, service_fn};

use crate::thoughts::{Leaf, kinds, leaf};

const PLACE: &str = "shared/judges/openresponses/public/openapi/openapi.json";

/// Returns the document, if it is there.
fn document() -> Option<Value> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let beside = root.ancestors().map(|folder| folder.join(PLACE)).find(|path| path.is_file());
    let path = std::env::var_os("STEADFAST_OPEN_RESPONSES").map(PathBuf::from).or(beside)?;
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

/// The schemas of an answer, of each event, and of an error.
struct Schemas {
    document: Value,
    response: Validator,
    error: Validator,
}

impl Schemas {
    fn new(document: Value) -> Self {
        let [response, error] = ["ResponseResource", "ErrorPayload"].map(|name| schema(&document, name));
        Self { document, response, error }
    }

    /// Returns the schema of an event, by its type.
    fn of_event(&self, kind: &str) -> Option<Validator> {
        let schemas = self.document["components"]["schemas"].as_object().unwrap();
        let is = |schema: &Value| {
            schema["properties"]["type"]["enum"] == json!([kind]) || schema["properties"]["type"]["const"] == kind
        };
        let name = schemas.iter().find(|(name, value)| name.ends_with("StreamingEvent") && is(value))?.0;
        Some(schema(&self.document, name))
    }
}

fn schema(document: &Value, name: &str) -> Validator {
    let whole = json!({"$ref": format!("#/components/schemas/{name}"), "components": document["components"]});
    jsonschema::options().with_draft(jsonschema::Draft::Draft202012).build(&whole).unwrap()
}

fn violations(schema: &Validator, value: &Value) -> Vec<String> {
    schema.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Leaves at a provider of each other dialect, with a name for the situation.
fn situations() -> Vec<(String, Leaf)> {
    let memory = SealMemory::new();
    let mut leaves: Vec<(String, Leaf)> = Vec::new();
    // A text, a call, and a thought of each kind.
    for kind in kinds().into_iter().filter(|kind| kind.speaks != Dialect::Responses) {
        let leaf = leaf(&kind, &memory, "a").0;
        leaves.push((format!("turn of {}", kind.name), leaf));
    }
    let chat = |finish: &str, message: Value, usage: Value| {
        json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}]})
    };
    let claude = |stop: &str, content: Value| {
        json!({"type": "message", "role": "assistant", "id": "m", "model": "claude", "stop_reason": stop, "content": content,
            "usage": {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}})
    };
    let google = |finish: &str, parts: Value| {
        json!({"responseId": "r", "modelVersion": "g", "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": finish}],
            "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 7, "thoughtsTokenCount": 2, "totalTokenCount": 14}})
    };
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2}});
    let said = json!({"role": "assistant", "content": "hi"});
    let two_calls = json!([
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
        {"id": "functions.a_name_of_many_letters_in_all_and_some_more_of_them:0", "type": "function",
            "function": {"name": "g", "arguments": "{}"}}]);
    let whole = [
        ("chat text", Dialect::OpenAi, chat("stop", said.clone(), usage.clone())),
        ("chat cut", Dialect::OpenAi, chat("length", said.clone(), usage.clone())),
        ("chat without usage", Dialect::OpenAi, chat("stop", said.clone(), Value::Null)),
        ("chat filter", Dialect::OpenAi, chat("content_filter", said, usage.clone())),
        (
            "chat refusal",
            Dialect::OpenAi,
            chat("stop", json!({"role": "assistant", "content": null, "refusal": "no"}), usage.clone()),
        ),
        (
            "chat calls",
            Dialect::OpenAi,
            chat("tool_calls", json!({"role": "assistant", "content": null, "tool_calls": two_calls}), usage),
        ),
        ("claude text", Dialect::Anthropic, claude("end_turn", json!([{"type": "text", "text": "hi"}]))),
        ("claude cut", Dialect::Anthropic, claude("max_tokens", json!([{"type": "text", "text": "hi"}]))),
        ("claude refusal", Dialect::Anthropic, claude("refusal", json!([{"type": "text", "text": "no"}]))),
        ("claude pause", Dialect::Anthropic, claude("pause_turn", json!([{"type": "text", "text": "hi"}]))),
        (
            "claude search",
            Dialect::Anthropic,
            claude(
                "end_turn",
                json!([
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                {"type": "text", "text": "hi", "citations": [{"type": "web_search_result_location", "url": "https://a", "title": "t", "encrypted_index": "e", "cited_text": "c"}]}]),
            ),
        ),
        ("gemini text", Dialect::Gemini, google("STOP", json!([{"text": "hi"}]))),
        ("gemini cut", Dialect::Gemini, google("MAX_TOKENS", json!([{"text": "hi"}]))),
        ("gemini filter", Dialect::Gemini, google("SAFETY", json!([{"text": "hi"}]))),
        (
            "gemini code",
            Dialect::Gemini,
            google("STOP", json!([{"executableCode": {"language": "PYTHON", "code": "1"}}, {"text": "hi"}])),
        ),
    ];
    for (name, dialect, body) in whole {
        leaves.push((name.to_owned(), answering(dialect, 200, body)));
    }
    for (name, dialect, status, body) in [
        ("chat overload", Dialect::OpenAi, 503, json!({"error": {"message": "busy", "type": "server_error"}})),
        (
            "chat mistake",
            Dialect::OpenAi,
            400,
            json!({"error": {"message": "bad", "type": "invalid_request_error", "param": "x", "code": "c"}}),
        ),
        (
            "claude overload",
            Dialect::Anthropic,
            529,
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        ),
        (
            "claude limit",
            Dialect::Anthropic,
            429,
            json!({"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}),
        ),
        (
            "gemini mistake",
            Dialect::Gemini,
            400,
            json!({"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}}),
        ),
        (
            "gemini key",
            Dialect::Gemini,
            403,
            json!({"error": {"code": 403, "message": "no", "status": "PERMISSION_DENIED"}}),
        ),
    ] {
        leaves.push((name.to_owned(), answering(dialect, status, body)));
    }
    leaves
}

/// A leaf whose server gives this answer.
fn answering(dialect: Dialect, status: u16, body: Value) -> Leaf {
    let transport = service_fn(move |_: Request<Full<Bytes>>| {
        let body = body.to_string();
        async move {
            let response = Response::builder().status(status).header("content-type", "application/json");
            Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
        }
    });
    match dialect {
        Dialect::Anthropic => Leaf::new(Anthropic::new("k").model("claude-sonnet-4-5").transport(transport)),
        Dialect::Gemini => Leaf::new(Gemini::new("k").model("gemini-2.5-pro").transport(transport)),
        _ => {
            let leaf = OpenAi::compatible("server", "https://server.example/v1").unwrap().key("k").model("m");
            Leaf::new(leaf.transport(transport))
        }
    }
}

fn request(stream: bool) -> LlmRequest {
    let function =
        |name: &str| json!({"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}});
    let body = json!({"model": "any", "stream": stream, "store": false, "input": "?", "tools": [function("look"), function("f"), function("g")]});
    LlmRequest::from(Wire::new(Dialect::Responses, body.to_string()).unwrap())
}

async fn events(response: LlmResponse, echo: &RequestEcho) -> Vec<Value> {
    let mut encoder = StreamEncoder::new(Dialect::Responses).echo(echo.clone());
    let (mut body, mut bytes) = (response.into_body(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&encoder.frame(&frame)),
            Err(error) => bytes.extend_from_slice(&encoder.error(&error)),
        }
    }
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn answers_to_callers_of_responses_follow_the_published_schemas() {
    let Some(document) = document() else {
        println!("skipped: {PLACE} is not there, and STEADFAST_OPEN_RESPONSES names no file");
        return;
    };
    let schemas = Schemas::new(document);
    let (mut answers, mut checked, mut faults) = (0, 0, Vec::new());
    for (name, leaf) in situations() {
        for stream in [false, true] {
            answers += 1;
            let mut check = |schema: &Validator, value: &Value, what: &str| {
                checked += 1;
                let found = violations(schema, value);
                faults
                    .extend(found.into_iter().map(|fault| format!("{name} stream {stream}, {what}: {fault}: {value}")));
            };
            let asked = request(stream);
            let echo = RequestEcho::of(asked.chat().unwrap());
            match leaf.clone().oneshot(asked).await {
                Ok(response) if stream => {
                    for event in events(response, &echo).await {
                        let kind = event["type"].as_str().unwrap().to_owned();
                        match schemas.of_event(&kind) {
                            Some(schema) => check(&schema, &event, &kind),
                            None => panic!("{name}: the specification has no event {kind}"),
                        }
                    }
                }
                Ok(response) => {
                    let message = response.collect().await.unwrap();
                    let body = encode_answer(&message, Dialect::Responses, &echo).body;
                    check(&schemas.response, &serde_json::from_slice(&body).unwrap(), "answer");
                }
                Err(error) => {
                    let body: Value = serde_json::from_slice(&encode_error(&error, Dialect::Responses).1).unwrap();
                    check(&schemas.error, &body["error"], "error");
                }
            }
        }
    }
    let shown: Vec<String> = faults.iter().take(25).map(|fault| fault.chars().take(500).collect()).collect();
    assert!(
        faults.is_empty(),
        "{} violations in {answers} answers, {checked} bodies and events:\n{}",
        faults.len(),
        shown.join("\n")
    );
    assert!(answers >= 80 && checked > 400, "{answers} {checked}");
}
