//! Azure's addresses of OpenAI's paths: the model in the path, the key in a header of its own.

use serde_json::{Value, json};
use steadfast::{BoxLlmService, providers::OpenAi, providers::simulated::Fault};
use steadfast_stack::{Config, Format, Stack};

use super::harness::*;
use crate::limits::Settings;

const DEPLOYED: &str = "/openai/deployments/gpt-of-azure/chat/completions?api-version=2024-10-21";

fn ask() -> Value {
    json!({"messages": [{"role": "user", "content": "hello"}]})
}

#[tokio::test]
async fn the_deployments_name_is_the_model_whatever_the_body_says() {
    const ANSWER: &str = "{\"id\":\"c\",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"finish_reason\":\"stop\"}],\"unheard_of\": 1e400 }";
    for (body, sent_on) in [
        (r#"{ "messages":[],"x":1.50}"#, r#"{"model":"gpt-of-azure", "messages":[],"x":1.50}"#),
        (r#"{"x":1e400,  "model" : "other"}"#, r#"{"x":1e400,  "model" : "gpt-of-azure"}"#),
        (r#"{"model": "gpt-of-azure" }"#, r#"{"model": "gpt-of-azure" }"#),
    ] {
        let (url, seen) = raw_server("application/json", ANSWER).await;
        let leaf = OpenAi::new("sk-of-the-gateway").base_url(&format!("{url}/v1")).unwrap();
        let server = Server::start(BoxLlmService::new(leaf), Settings::default()).await;
        let mut client = server.connect().await;
        client.send(&request("POST", DEPLOYED, &[("api-key", "sk-of-the-caller")], body.as_bytes())).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ANSWER));
        let record = answer.header("x-steadfast-request-id").unwrap().to_owned();
        let record = server.gateway.records.find(&record).unwrap().json(false);
        assert_eq!((&record["model"], &record["dialect"]), (&json!("gpt-of-azure"), &json!("openai")), "{record}");
        let seen = seen.await.unwrap();
        let (head, sent) = seen.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
        assert!(!head.contains("caller") && !head.contains("api-version"), "{head}");
        assert_eq!(sent, sent_on);
    }
}

#[tokio::test]
async fn every_address_of_azures_is_openais_path_from_every_provider() {
    let providers = Providers::start().await;
    for service in [providers.claude(), providers.gpt(), providers.google()] {
        let server = Server::start(service, Settings::default()).await;
        for (address, path) in [
            (DEPLOYED, CHAT),
            ("/openai/v1/chat/completions?api-version=preview", CHAT),
            ("/openai/chat/completions", CHAT),
            ("/openai/v1/responses", RESPONSES),
            ("/openai/responses?api-version=2025-04-01-preview", RESPONSES),
        ] {
            for stream in [false, true] {
                let answer = server.post(address, &[], &spelled(path, &hello(stream))).await;
                assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from afar"), "{address}: {answer:?}");
                assert!(!stream || answer.is_whole(), "{address}: {}", answer.body);
            }
        }
        for address in ["/openai/models?api-version=2024-10-21", "/openai/v1/models"] {
            assert_eq!(server.get(address, &[]).await.json()["data"][1]["id"], "gpt-4o", "{address}");
        }
        assert_eq!(server.get("/openai/v1/models/gpt-4o", &[]).await.json()["id"], "gpt-4o");
    }
}

#[tokio::test]
async fn the_key_is_in_azures_header_or_a_bearer_and_errors_are_openais() {
    let providers = Providers::start().await;
    let keys = keys_of(&[entry("one", "sk-one", ", models: ['gpt-*']")]);
    let server = Server::with_keys(providers.gpt(), Some(keys), Settings::default()).await;
    for headers in [("api-key", "sk-one"), ("authorization", "Bearer sk-one")] {
        assert_eq!(server.post(DEPLOYED, &[headers], &ask()).await.status, 200, "{headers:?}");
    }
    let key = [("api-key", "sk-one")];
    for (address, headers, status) in [
        (DEPLOYED, &[][..], 401),
        (DEPLOYED, &[("api-key", "sk-two")], 401),
        // The path's model decides, not the body's.
        ("/openai/deployments/claude/chat/completions", &key, 403),
        ("/openai/deployments/gpt-4o/of/tomorrow", &key, 404),
        ("/openai/deployments//chat/completions", &key, 404),
    ] {
        let mut body = ask();
        body["model"] = "gpt-4o".into();
        let answer = server.post(address, headers, &body).await;
        assert_eq!(answer.status, status, "{address}: {answer:?}");
        assert!(answer.json()["error"]["message"].is_string(), "{address}: {answer:?}");
    }
    assert_eq!(server.get(DEPLOYED, &key).await.status, 405);
    providers.openai.handle().fail(Fault::ServerError);
    let failed = server.post(DEPLOYED, &key, &ask()).await;
    assert_eq!((failed.status, failed.header("x-should-retry")), (500, None), "{failed:?}");
    assert!(failed.json()["error"]["message"].is_string(), "{failed:?}");
}

/// What a lookup finds and what a call of the same name gets.
#[tokio::test]
async fn a_model_is_found_where_a_request_by_its_name_is_served() {
    let simulated = "tiers: [{ name: one, provider: simulated }]";
    let to_one = "{ tiers: [one] }";
    let some = format!(
        "{simulated}
models: {{ gpt-4o: {to_one}, 'claude-*': {to_one}, meta/llama+3: {to_one} }}"
    );
    for (file, has_all) in [(simulated, true), (&*some, false)] {
        let stack = Stack::builder().build(Config::from_str(file, Format::Yaml).unwrap()).unwrap();
        let server = Server::with_stack(&stack, None, Settings::default()).await;
        for (name, path, is_named) in [
            ("gpt-4o", "gpt-4o", true),
            ("claude-of-tomorrow", "claude-of-tomorrow", true),
            ("claude-a/b c", "claude-a%2Fb%20c", true),
            ("meta/llama+3", "meta/llama+3", true),
            ("meta/llama+3", "meta%2Fllama%2B3", true),
            ("none", "none", false),
            ("gpt-4o/", "gpt-4o%2F", false),
        ] {
            let mut body = hello(false);
            body["model"] = name.into();
            let called = server.post(CHAT, &[], &body).await.status == 200;
            assert_eq!(called, has_all || is_named, "{name}");
            for (headers, id, kind) in [
                (&[][..], "id", "type"),
                (&[("anthropic-version", "2023-06-01")], "id", "type"),
                (&[("x-goog-api-client", "g")], "name", "status"),
            ] {
                let found = server.get(&format!("/v1/models/{path}"), headers).await;
                assert_eq!((found.status == 200, found.status == 404), (called, !called), "{path}: {found:?}");
                let json = found.json();
                let says = if called { &json[id] } else { &json["error"][kind] };
                let said = says.as_str().unwrap_or_else(|| panic!("{path}: {found:?}"));
                assert!(!called || said.ends_with(name), "{path}: {said}");
                assert!(called || ["not_found_error", "invalid_request_error", "NOT_FOUND"].contains(&said), "{said}");
            }
        }
        for wrong in ["/v1/models/%zz", "/v1/models/%ff"] {
            let found = server.get(wrong, &[]).await;
            assert_eq!((found.status, found.json()["error"]["message"].is_string()), (404, true), "{wrong}: {found:?}");
        }
        let version = [("anthropic-version", "2023-06-01")];
        let listed = server.get("/v1/models/anthropic-compatible/gpt-4o", &version).await.json();
        assert_eq!((&listed["id"], &listed["type"]), (&json!("anthropic-compatible/gpt-4o"), &json!("model")));
    }
}
