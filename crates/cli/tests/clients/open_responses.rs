//! The seven cases of the Open Responses specification's conformance suite (openresponses.org: a basic answer, a
//! stream, a system prompt, tools, tools in a stream, a picture, several turns), written from the specification:
//! through the gateway in process, at a provider of each protocol, on paused time.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use steadfast::providers::{Anthropic, Gemini, OpenAi, Simulated, simulated::SimulatedHandle};
use steadfast_gateway::Gateway;
use steadfast_simulator::InProcess;
use tower::ServiceExt;

const SAID: &str = "Hello from afar";

/// A gateway before a provider of each protocol.
fn gateways() -> Vec<(&'static str, Gateway, SimulatedHandle)> {
    let provider = |name| Simulated::new(name).reply(SAID);
    let [responses, chat, messages, gemini] = ["responses", "chat", "messages", "gemini"].map(provider);
    let handles = [&responses, &chat, &messages, &gemini].map(Simulated::handle);
    let gateways = [
        Gateway::new(OpenAi::new("key").model("gpt-4o").responses().transport(InProcess::new(responses))),
        Gateway::new(OpenAi::new("key").model("gpt-4o").transport(InProcess::new(chat))),
        Gateway::new(Anthropic::new("key").model("claude-sonnet-4-5").transport(InProcess::new(messages))),
        Gateway::new(Gemini::new("key").model("gemini-2.5-flash").transport(InProcess::new(gemini))),
    ];
    let names = ["responses", "chat", "messages", "gemini"];
    names.into_iter().zip(gateways).zip(handles).map(|((name, gateway), handle)| (name, gateway, handle)).collect()
}

async fn ask(gateway: &Gateway, body: Value) -> String {
    let request = Request::post("/v1/responses")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let (head, body) = gateway.clone().oneshot(request).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.into()).unwrap();
    assert_eq!(head.status, StatusCode::OK, "{text}");
    text
}

/// Asks for a whole answer, and checks the fields that the specification requires of every response.
async fn whole(gateway: &Gateway, body: Value) -> Value {
    let response: Value = serde_json::from_str(&ask(gateway, body).await).unwrap();
    assert_response(&response);
    response
}

/// By the specification's schema `ResponseResource`.
fn assert_response(response: &Value) {
    assert!(response["id"].as_str().is_some_and(|id| !id.is_empty()), "{response}");
    assert_eq!(response["object"], "response", "{response}");
    assert!(response["created_at"].is_u64() && response["model"].is_string(), "{response}");
    assert!(["completed", "in_progress"].contains(&response["status"].as_str().unwrap()), "{response}");
    for item in response["output"].as_array().expect("a list of items") {
        assert!(item["id"].as_str().is_some_and(|id| !id.is_empty()), "{item}");
        match item["type"].as_str().unwrap() {
            "message" => {
                assert_eq!(item["role"], "assistant", "{item}");
                assert!(item["status"].is_string() && item["content"].is_array(), "{item}");
                for part in item["content"].as_array().unwrap() {
                    assert!(part["type"] == "output_text" && part["text"].is_string(), "{part}");
                    assert!(part["annotations"].is_array(), "{part}");
                }
            }
            "function_call" => {
                for field in ["call_id", "name", "arguments", "status"] {
                    assert!(item[field].is_string(), "{item}");
                }
            }
            "reasoning" => assert!(item["summary"].is_array(), "{item}"),
            kind => panic!("{kind}: {item}"),
        }
    }
}

/// Asks for a stream, and checks its events as the specification has them: their names and numbers, each item between
/// its beginning and its end, deltas that add up. Returns the last response.
async fn streamed(gateway: &Gateway, mut body: Value) -> Value {
    body["stream"] = true.into();
    let text = ask(gateway, body).await;
    let mut events = Vec::new();
    for block in text.trim_end().split("\n\n") {
        let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let Some(data) = line("data:") else { continue };
        if data == "[DONE]" {
            continue;
        }
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!(line("event:"), event["type"].as_str(), "{block}");
        assert_eq!(event["sequence_number"], events.len(), "{event}");
        events.push(event);
    }
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["response.created", "response.in_progress"]);
    assert_eq!(kinds.iter().filter(|kind| **kind == "response.completed").count(), 1);
    let (mut open, mut done) = (BTreeMap::new(), Vec::new());
    let mut text_of: BTreeMap<String, String> = BTreeMap::new();
    for event in &events {
        let id = || event["item_id"].as_str().unwrap().to_owned();
        match event["type"].as_str().unwrap() {
            "response.output_item.added" => {
                assert_eq!(event["output_index"], open.len() + done.len(), "{event}");
                open.insert(event["item"]["id"].as_str().unwrap().to_owned(), event["output_index"].clone());
            }
            "response.output_text.delta" | "response.function_call_arguments.delta" => {
                assert_eq!(open.get(&id()), Some(&event["output_index"]), "{event}");
                text_of.entry(id()).or_default().push_str(event["delta"].as_str().unwrap());
            }
            "response.output_text.done" => assert_eq!(event["text"], *text_of[&id()], "{event}"),
            "response.function_call_arguments.done" => assert_eq!(event["arguments"], *text_of[&id()], "{event}"),
            "response.output_item.done" => {
                let item = event["item"].clone();
                assert!(open.remove(item["id"].as_str().unwrap()).is_some(), "{event}");
                done.push(item);
            }
            _ => {}
        }
    }
    let (first, last) = (&events[0]["response"], &events.last().unwrap()["response"]);
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(first["id"], last["id"]);
    assert_eq!((&last["status"], &last["output"]), (&json!("completed"), &Value::Array(done)));
    assert_response(last);
    last.clone()
}

fn message(role: &str, content: impl Into<Value>) -> Value {
    json!({"type": "message", "role": role, "content": content.into()})
}

/// Returns the text of an answer that is a message and nothing else.
fn text(response: &Value) -> String {
    let messages: Vec<_> =
        response["output"].as_array().unwrap().iter().filter(|item| item["type"] == "message").collect();
    let [message] = messages[..] else { panic!("{response}") };
    message["content"].as_array().unwrap().iter().map(|part| part["text"].as_str().unwrap()).collect()
}

fn tools() -> Value {
    let parameters =
        json!({"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]});
    json!([{"type": "function", "name": "get_weather", "description": "The weather.", "parameters": parameters}])
}

fn called(response: &Value) -> Value {
    let item = response["output"].as_array().unwrap().iter().find(|item| item["type"] == "function_call").unwrap();
    assert_eq!(item["name"], "get_weather");
    let arguments: Value = serde_json::from_str(item["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"location": "San Francisco, \"CA\""}));
    item.clone()
}

#[tokio::test(start_paused = true)]
async fn a_basic_answer() {
    for (name, gateway, _) in gateways() {
        let body = json!({"model": "any", "input": [message("user", "Say hello in exactly 3 words.")]});
        assert_eq!(text(&whole(&gateway, body).await), SAID, "{name}");
        assert_eq!(text(&whole(&gateway, json!({"model": "any", "input": "Hello"})).await), SAID, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream() {
    for (name, gateway, _) in gateways() {
        let body = json!({"model": "any", "input": [message("user", "Count from 1 to 5.")]});
        assert_eq!(text(&streamed(&gateway, body).await), SAID, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_system_prompt() {
    for (name, gateway, _) in gateways() {
        for role in ["system", "developer"] {
            let input = json!([message(role, "You are a pirate."), message("user", "Say hello.")]);
            let body = json!({"model": "any", "input": input});
            assert_eq!(text(&whole(&gateway, body).await), SAID, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_whole_and_streamed_and_its_output() {
    for (name, gateway, handle) in gateways() {
        handle.plan_calls([("get_weather", json!({"location": "San Francisco, \"CA\""}))]);
        let question = message("user", "What's the weather like in San Francisco?");
        let body = json!({"model": "any", "input": [question], "tools": tools()});
        let first = called(&whole(&gateway, body.clone()).await);
        let second = called(&streamed(&gateway, body).await);
        for call in [first, second] {
            let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "Sunny"});
            let body = json!({"model": "any", "input": [question, call, output], "tools": tools()});
            assert_eq!(text(&whole(&gateway, body.clone()).await), SAID, "{name}");
            assert_eq!(text(&streamed(&gateway, body).await), SAID, "{name}");
        }
        assert_eq!(handle.stats().rejected, 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_picture() {
    const PICTURE: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    for (name, gateway, _) in gateways() {
        let parts = json!([
            {"type": "input_text", "text": "What do you see in this image? Answer in one sentence."},
            {"type": "input_image", "image_url": PICTURE},
        ]);
        let body = json!({"model": "any", "input": [message("user", parts)]});
        assert_eq!(text(&whole(&gateway, body).await), SAID, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn several_turns() {
    for (name, gateway, _) in gateways() {
        let input = json!([
            message("user", "My name is Alice."),
            message("assistant", "Hello Alice! Nice to meet you. How can I help you today?"),
            message("user", "What is my name?"),
        ]);
        assert_eq!(text(&whole(&gateway, json!({"model": "any", "input": input})).await), SAID, "{name}");
        // And as the answer itself goes back.
        let first = whole(&gateway, json!({"model": "any", "input": "My name is Alice."})).await;
        let mut input = vec![message("user", "My name is Alice.")];
        input.extend(first["output"].as_array().unwrap().iter().cloned());
        input.push(message("user", "What is my name?"));
        assert_eq!(text(&streamed(&gateway, json!({"model": "any", "input": input})).await), SAID, "{name}");
    }
}
