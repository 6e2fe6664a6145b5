//! The Responses API: what only it has.

use std::time::Duration;

use serde_json::{Value, json};
use steadfast::{
    BoxLlmService, Dialect, FallbackLayer, TimeoutLayer,
    providers::{
        Anthropic,
        simulated::{Fault, Simulated},
    },
};
use steadfast_simulator::SimulatedServer;
use tokio::time::Instant;
use tower::ServiceBuilder;

use super::harness::*;
use crate::{Gateway, limits::Settings};

fn request(more: Value) -> Value {
    let mut request = json!({"model": "claude-of-the-caller", "input": "hello"});
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

#[tokio::test]
async fn what_the_gateway_does_not_serve_is_refused_in_the_dialect_with_its_name() {
    let providers = Providers::start().await;
    let server = Server::start(providers.claude(), Settings::default()).await;
    let send = async |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let mut client = server.connect().await;
        client.send(&super::harness::request(method, path, headers, body.as_bytes())).await;
        client.answer().await
    };
    let socket = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    for (method, path, headers, body, status, message) in [
        ("GET", "/v1/responses/resp_1", &[][..], "", 404, "Response with id 'resp_1' not found."),
        ("DELETE", "/v1/responses/resp_1", &[], "", 404, "Response with id 'resp_1' not found."),
        ("GET", "/v1/responses/resp_1/input_items?limit=9", &[], "", 404, "Response with id 'resp_1' not found."),
        ("POST", "/responses/resp_1/cancel", &[], "", 404, "Response with id 'resp_1' not found."),
        ("POST", "/v1/responses/compact", &[], "{}", 404, "/v1/responses/compact"),
        ("GET", RESPONSES, &socket, "", 400, "Sec-WebSocket-Key"),
        ("GET", "/responses", &socket, "", 400, "Sec-WebSocket-Key"),
        ("GET", RESPONSES, &socket[..2], "", 426, "version 13"),
        ("GET", RESPONSES, &[], "", 405, "the path takes POST"),
        ("POST", RESPONSES, &[], r#"{"model":"m","input":"x","background":true}"#, 400, "`background`"),
        ("POST", RESPONSES, &[], r#"{"model":"m","input":7}"#, 400, "input must be a text or a list"),
    ] {
        let answer = send(method, path, headers, body).await;
        let error = &answer.json()["error"];
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(error["message"].as_str().unwrap().contains(message), "{method} {path}: {answer:?}");
        assert_eq!((error["type"].as_str(), error.get("code").is_some()), (Some("invalid_request_error"), true));
    }
    assert_eq!(providers.anthropic.handle().stats().calls, 0);
    // A request that says no is one like the others.
    let answer = server.post(RESPONSES, &[], &request(json!({"background": false}))).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from afar"), "{answer:?}");
}

#[tokio::test]
async fn a_prompts_tokens_are_estimated() {
    let providers = Providers::start().await;
    let server = Server::start(providers.claude(), Settings::default()).await;
    let counted = server.post("/v1/responses/input_tokens", &[], &request(json!({"instructions": "be kind"}))).await;
    let count = counted.json();
    assert_eq!((counted.status, count["object"].as_str()), (200, Some("response.input_tokens")), "{count}");
    let same =
        json!({"model": "m", "max_tokens": 9, "system": "be kind", "messages": [{"role": "user", "content": "hello"}]});
    let other = server.post("/v1/messages/count_tokens", &[], &same).await;
    assert_eq!(count["input_tokens"], other.json()["input_tokens"]);
}

/// State that only the caller's own provider has is of no use at tiers of another dialect.
#[tokio::test]
async fn state_at_another_provider_is_refused_with_the_fields_name() {
    let providers = Providers::start().await;
    let alone = Server::start(providers.claude(), Settings::default()).await;
    let two = FallbackLayer::new("sonnet").tier("backup", providers.gpt());
    let two = Server::start(
        BoxLlmService::new(ServiceBuilder::new().layer(two).service(providers.claude())),
        Settings::default(),
    )
    .await;
    for (field, more) in [
        ("previous_response_id", json!({"previous_response_id": "resp_1"})),
        ("conversation", json!({"conversation": "conv_1"})),
        ("item_reference", json!({"input": [{"type": "item_reference", "id": "msg_1"}]})),
    ] {
        for server in [&alone, &two] {
            for stream in [false, true] {
                let mut asked = request(more.clone());
                asked["stream"] = stream.into();
                let answer = server.post(RESPONSES, &[], &asked).await;
                assert_eq!(answer.status, 400, "{field}: {answer:?}");
                let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
                assert!(message.contains(field), "{field}: {message}");
            }
        }
    }
    let calls = |server: &SimulatedServer| server.handle().stats().calls;
    assert_eq!((calls(&providers.anthropic), calls(&providers.openai)), (0, 0));
}

/// A model of another provider calls a tool of free text, and one in a namespace, as functions.
#[tokio::test]
async fn tools_of_other_forms_come_back_in_their_own_form() {
    let patch = json!({"type": "custom", "name": "apply_patch", "description": "Edits files."});
    let issues = json!({"type": "namespace", "name": "tracker", "description": "The tracker.", "tools": [
        {"type": "function", "name": "find", "parameters": {"type": "object", "properties": {"id": {"type": "string"}}}}]});
    for (tool, arguments, kind, name, field) in [
        (patch, json!({"input": "*** \"Begin\"\n"}), "custom_tool_call", "apply_patch", ("input", "*** \"Begin\"\n")),
        (issues, json!({"id": "7"}), "function_call", "find", ("arguments", "{\"id\":\"7\"}")),
    ] {
        let provider = SimulatedServer::start(Simulated::new("a").call_tools(arguments)).await.unwrap();
        let leaf = Anthropic::new("sk").base_url(&provider.base_url()).unwrap().model("claude-sonnet-4-5");
        let server = Server::start(BoxLlmService::new(leaf), Settings::default()).await;
        for stream in [false, true] {
            let answer =
                server.post(RESPONSES, &[], &request(json!({"tools": [tool.clone()], "stream": stream}))).await;
            let response = if stream { answer.events().pop().unwrap()["response"].clone() } else { answer.json() };
            assert_eq!(response["status"], "completed", "{answer:?}");
            let call = response["output"].as_array().unwrap().iter().find(|item| item["type"] == kind);
            let call = call.unwrap_or_else(|| panic!("{kind}: {answer:?}"));
            assert_eq!((call["name"].as_str(), call[field.0].as_str()), (Some(name), Some(field.1)), "{call}");
            if kind == "function_call" {
                assert_eq!(call["namespace"], "tracker", "{call}");
            }
        }
    }
}

/// Codex never repeats a 429 by itself.
#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_waited_out_here_and_nowhere_else() {
    for (path, limit, expected) in [(RESPONSES, 20, 200), (CHAT, 20, 429), (MESSAGES, 20, 429), (RESPONSES, 300, 429)] {
        let main = Simulated::new("main").reply("At last.");
        main.handle().fail_next(1, &Fault::RateLimited { retry_after: Some(Duration::from_secs(limit)) });
        let stack = ServiceBuilder::new()
            .layer(TimeoutLayer::new(Duration::from_secs(90)))
            .layer(FallbackLayer::new("main"))
            .service(main);
        let begun = Instant::now();
        let body = spelled(path, &hello(false)).to_string();
        let answer = through(Gateway::new(stack), "POST", path, &typed(path, &[]), body).await;
        assert_eq!(answer.status, expected, "{path}: {answer:?}");
        let waited = begun.elapsed().as_secs();
        if expected == 200 {
            assert_eq!(answer.text(), "At last.");
            assert!((20..=21).contains(&waited), "{waited}");
        } else {
            assert_eq!(waited, 0, "{path}");
            assert_eq!(answer.header("retry-after"), Some(&*limit.to_string()), "{answer:?}");
            let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert_eq!(message.contains(&format!("try again in {limit}s")), path == RESPONSES, "{message}");
        }
    }
}

#[tokio::test]
async fn a_record_names_the_protocol_and_the_session_of_codex_counts() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let answer = server.post(RESPONSES, &[("session-id", "s-1"), ("x-codex-window-id", "w")], &hello(false)).await;
    let id = answer.header("x-steadfast-request-id").unwrap();
    assert_eq!(answer.header("x-request-id"), Some(id));
    let record = server.gateway.records.find(id).unwrap().json(true);
    assert_eq!(record["dialect"], Dialect::Responses.to_string());
    assert_eq!((record["tier"].as_str(), record["outcome"].as_str()), (Some("sonnet"), Some("answered")));
    assert!(record["usage"]["output"].as_u64().unwrap() > 0, "{record}");
}
