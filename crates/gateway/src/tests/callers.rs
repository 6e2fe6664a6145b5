//! Signs of life, headers, records, the list of models, and callers' own errors.

use std::time::Duration;

use serde_json::{Value, json};
use steadfast::{BoxLlmService, ErrorKind, LlmError, provider_fn, providers::simulated::Fault};

use super::harness::*;
use crate::limits::Settings;

fn impatient() -> Settings {
    let soon = Duration::from_millis(40);
    Settings { first_sign: soon, keep_alive: soon, ..Settings::default() }
}

#[tokio::test]
async fn a_caller_of_a_slow_stream_gets_the_head_and_signs_of_life_before_the_answer() {
    for (path, sign) in [(MESSAGES, "event: ping\n"), (CHAT, ": keep-alive\n")] {
        let providers = Providers::start().await;
        let (service, provider) = providers.of(path);
        provider.latency(Duration::from_millis(500));
        let server = Server::start(service, impatient()).await;
        let answer = server.post(path, &[], &hello(true)).await;
        let before = answer.body.split("data: {").next().unwrap();
        assert!(answer.body.matches(sign).count() >= 2, "{before}");
        assert_eq!((answer.status, answer.text().as_str(), answer.is_whole()), (200, "Hello from afar", true));
        // A whole answer cannot have keep-alives.
        let answer = server.post(path, &[], &hello(false)).await;
        assert!(answer.body.starts_with('{'), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_caller_chooses_its_commit_point_and_is_told_of_a_word_that_is_none() {
    for path in PATHS {
        let providers = Providers::start().await;
        providers.anthropic.handle().fail(Fault::CutAfter(2));
        let server = Server::start(providers.both(), Settings::default()).await;
        let broken = server.post(path, &[], &hello(true)).await;
        assert!(!broken.is_whole() && broken.header("x-steadfast-tier") == Some("sonnet"), "{broken:?}");
        let whole = server.post(path, &[("x-steadfast-commit", "complete")], &hello(true)).await;
        assert_eq!((whole.text().as_str(), whole.is_whole()), ("Hello from afar", true), "{whole:?}");
        let wrong = server.post(path, &[("x-steadfast-commit", "whole")], &hello(true)).await;
        let error = &wrong.json()["error"];
        assert_eq!((wrong.status, &*wrong.error_type()), (400, invalid(path)), "{wrong:?}");
        let names = "first_event, first_token, first_text, complete";
        assert!(error["message"].as_str().unwrap().contains(names), "{wrong:?}");
        assert_eq!(wrong.json()["type"] == "error", path == MESSAGES, "{wrong:?}");
    }
}

#[tokio::test]
async fn a_failure_after_the_head_went_out_is_an_event_in_the_stream() {
    for path in PATHS {
        let providers = Providers::start().await;
        let (service, provider) = providers.of(path);
        provider.latency(Duration::from_millis(120));
        provider.fail(Fault::Overloaded);
        let server = Server::start(service, impatient()).await;
        let answer = server.post(path, &[], &hello(true)).await;
        assert_eq!((answer.status, answer.is_whole()), (200, false));
        assert!(answer.error_event()["message"].is_string(), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_cancels_the_providers_call() {
    for path in PATHS {
        for stream in [false, true] {
            // The caller hangs up before the answer, and in its middle.
            for fault in [Fault::Hang, Fault::StallAfter(2)] {
                let providers = Providers::start().await;
                let (service, provider) = providers.of(path);
                provider.fail(fault.clone());
                let server = Server::start(service, Settings::default()).await;
                let mut client = server.connect().await;
                client.post(path, &[], &hello(stream)).await;
                provider.until(|stats| stats.in_flight == 1).await;
                if stream && fault != Fault::Hang {
                    client.until("from ").await;
                }
                drop(client);
                provider.until(|stats| stats.in_flight == 0).await;
                assert_eq!(provider.stats().cancelled, 1, "{path} {stream} {fault}");
                assert_eq!(server.gateway.records.newest(1, |_| true)[0].json(true)["outcome"], "abandoned");
            }
        }
    }
}

#[tokio::test]
async fn the_decision_record_comes_when_asked_for_and_is_kept() {
    let providers = Providers::start().await;
    providers.anthropic.handle().fail(Fault::Overloaded);
    let server = Server::start(providers.both(), Settings::default()).await;
    for stream in [false, true] {
        let headers = [("x-steadfast-explain", "1"), ("x-steadfast-feature", "chat")];
        let answer = server.post(MESSAGES, &headers, &hello(stream)).await;
        let record: Value = serde_json::from_str(answer.header("x-steadfast-decision").unwrap()).unwrap();
        let steps: Vec<_> = record["steps"].as_array().unwrap().iter().map(|step| &step["tier"]).collect();
        assert_eq!(steps, ["sonnet", "backup"]);
        assert_eq!(record["steps"][0]["failure"], "overloaded");

        let id = answer.header("x-steadfast-request-id").unwrap();
        let kept = server.get(&format!("/requests/{id}"), &[]).await.json();
        assert_eq!(
            (&kept["outcome"], &kept["feature"], &kept["tier"]),
            (&json!("answered"), &json!("chat"), &json!("backup"))
        );
        assert_eq!((&kept["stream"], &kept["steps"]), (&json!(stream), &record["steps"]));
        assert!(kept["usage"]["output"].as_u64().unwrap() > 0, "{kept}");
    }
    let plain = server.post(MESSAGES, &[], &hello(false)).await;
    assert_eq!(plain.header("x-steadfast-decision"), None);
    assert_eq!(server.get("/requests", &[]).await.json()["requests"].as_array().unwrap().len(), 3);
    assert_eq!(server.get("/requests/sf-0-0", &[]).await.status, 404);
}

#[tokio::test]
async fn a_decision_record_of_any_size_fits_into_a_header() {
    let service = BoxLlmService::new(provider_fn(async |_| {
        Err::<steadfast::LlmResponse, _>(LlmError::new(ErrorKind::Server, "é".repeat(60_000)))
    }));
    let stack = tower::ServiceBuilder::new().layer(steadfast::FallbackLayer::new("only")).service(service);
    let server = Server::start(BoxLlmService::new(stack), Settings::default()).await;
    let answer = server.post(CHAT, &[("x-steadfast-explain", "1")], &hello(false)).await;
    let record = answer.header("x-steadfast-decision").unwrap();
    assert!(record.len() <= 4096, "{}", record.len());
    assert_eq!(serde_json::from_str::<Value>(record).unwrap()["steps"][0]["failure"], "server");
}

#[tokio::test]
async fn what_was_left_out_on_the_way_is_noted() {
    let providers = Providers::start().await;
    let server = Server::start(providers.claude(), Settings::default()).await;
    let mut request = hello(false);
    request["seed"] = 7.into();
    let answer = server.post(CHAT, &[], &request).await;
    assert!(answer.header("x-steadfast-notes").is_some_and(|notes| notes.contains("seed")), "{answer:?}");
}

#[tokio::test]
async fn models_are_listed_in_the_callers_form() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let openai = server.get("/v1/models", &[]).await.json();
    assert_eq!((&openai["object"], &openai["data"][1]["id"]), (&json!("list"), &json!("gpt-4o")));
    let version = [("anthropic-version", "2023-06-01")];
    let anthropic = server.get("/v1/models?limit=1000", &version).await.json();
    assert_eq!(anthropic["data"][0]["id"], "claude-sonnet-4-5");
    assert_eq!(
        (&anthropic["data"][1]["id"], &anthropic["has_more"]),
        (&json!("anthropic-compatible/gpt-4o"), &json!(false))
    );
    assert_eq!(server.get("/v1/models/gpt-4o", &[]).await.json()["id"], "gpt-4o");
    assert_eq!(server.get("/v1/models/anthropic-compatible/gpt-4o", &version).await.status, 200);
    // This gateway serves requests for any name.
    assert_eq!(server.get("/v1/models/claude-of-tomorrow", &version).await.json()["type"], "model");
}

/// The AI SDK's and LiteLLM's clients ask for what stands after the base URL that they were given.
#[tokio::test]
async fn paths_without_their_version_are_the_same_paths() {
    let providers = Providers::start().await;
    let keys = || Some(keys_of(&[entry("one", "sk-one", ", requests_per_minute: 15")]));
    let server = Server::with_keys(providers.both(), keys(), Settings::default()).await;
    let key = [("authorization", "Bearer sk-one")];
    for path in PATHS {
        let (short, query) = match path {
            GEMINI => ("/models/m:streamGenerateContent", "?alt=sse"),
            path => (path.strip_prefix("/v1").unwrap(), "?beta=true"),
        };
        let denied = server.post(short, &[], &hello(false)).await;
        let denied = match denied.body.strip_prefix('[').and_then(|body| body.strip_suffix(']')) {
            Some(element) => Answer { body: element.to_owned(), ..denied },
            None => denied,
        };
        assert_eq!((denied.status, denied.json()["type"] == "error"), (401, path == MESSAGES), "{denied:?}");
        for stream in [false, true] {
            let body = spelled(path, &hello(stream));
            let answer = server.post(&format!("{short}{query}"), &key, &body).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from afar"), "{answer:?}");
            let id = answer.header("x-steadfast-request-id").unwrap();
            let record = server.gateway.records.find(id).unwrap().json(false);
            let dialect = match path {
                MESSAGES => "anthropic",
                RESPONSES => "responses",
                GEMINI => "gemini",
                _ => "openai",
            };
            assert_eq!((record["key"].as_str(), record["dialect"].as_str()), (Some("one"), Some(dialect)), "{record}");
        }
    }
    let version = ("anthropic-version", "2023-06-01");
    for path in ["/models", "/models/gpt-4o", "/models/none"] {
        let (short, long) =
            (server.get(path, &[key[0], version]).await, server.get(&format!("/v1{path}"), &[key[0], version]).await);
        assert_eq!((short.status, short.json()), (long.status, long.json()), "{path}");
    }
    let count = server.post("/messages/count_tokens", &key, &hello(false)).await;
    assert_eq!((count.status, count.json()["estimated"].as_bool()), (200, Some(true)));
    // The key's rate has counted each of them.
    for path in ["/messages", "/messages/", "//messages"] {
        assert_eq!(server.post(path, &key, &hello(false)).await.status, 429, "{path}");
    }

    let (short, long) = (
        server.post("/embeddings", &key, &hello(false)).await,
        server.post("/v1/embeddings", &key, &hello(false)).await,
    );
    assert_eq!((short.status, short.json()), (long.status, long.json()));
    for path in ["/chat", "/v1/v1/messages", "/v1messages"] {
        assert_eq!(server.post(path, &key, &hello(false)).await.status, 404, "{path}");
    }
    assert_eq!(server.get("/messages", &[]).await.status, 405);
}

#[tokio::test]
async fn tokens_are_estimated_and_the_estimate_says_so() {
    let providers = Providers::start().await;
    let server = Server::start(providers.claude(), Settings::default()).await;
    let body = json!({"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "word ".repeat(400)}]});
    let answer = server.post("/v1/messages/count_tokens?beta=true", &[], &body).await;
    assert_eq!((answer.status, answer.json()["estimated"].as_bool()), (200, Some(true)));
    assert_eq!(answer.json()["input_tokens"], 500);
    // Tools are of the prompt: four bytes of name, purpose and schema are a token.
    let mut with_tool = body.clone();
    let schema = json!({"type": "object", "properties": {"city": {"type": "string", "description": "d".repeat(4000)}}});
    with_tool["tools"] = json!([{"name": "weather", "description": "Tells it.", "input_schema": schema}]);
    let answer = server.post("/v1/messages/count_tokens", &[], &with_tool).await;
    let bytes = "weather".len() + "Tells it.".len() + schema.to_string().len();
    assert_eq!(answer.json()["input_tokens"], (2000 + bytes) / 4);
    assert_eq!(providers.anthropic.handle().stats().calls, 0);
}

#[tokio::test]
async fn the_server_says_that_it_lives() {
    let providers = Providers::start().await;
    let server = Server::start(providers.claude(), Settings::default()).await;
    for path in ["/healthz", "/readyz", "/"] {
        assert_eq!(server.get(path, &[]).await.status, 200, "{path}");
    }
    let mut client = server.connect().await;
    client.send(&request("HEAD", "/", &[("connection", "close")], b"")).await;
    assert!(client.rest().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_callers_mistake_is_told_in_its_own_dialect() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let broken = [
        "{",
        "[]",
        "\"text\"",
        "",
        "null",
        "{\"model\":1}",
        "{\"model\":\"a\",\"model\":\"b\"}",
        "{\"stream\":\"yes\"}",
        "\u{feff}{}",
        "{} {}",
        "{\"messages\":[{\"role\":",
    ];
    for path in PATHS {
        for body in broken {
            let mut client = server.connect().await;
            client.send(&request("POST", &addressed(path, &Value::Null), &[], body.as_bytes())).await;
            let answer = client.answer().await;
            assert_eq!((answer.status, &*answer.error_type()), (400, invalid(path)), "{body}");
            assert_eq!(answer.json()["type"] == "error", path == MESSAGES);
        }
        // The provider itself reports a missing field, in its own words.
        let answer = server.post(path, &[], &json!({"model": "claude-sonnet-4-5", "max_tokens": 5})).await;
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    assert_eq!(providers.openai.handle().stats().calls + providers.anthropic.handle().stats().calls, 0);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_in_the_callers_dialect() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let openai = server.get("/v1/nothing", &[]).await;
    assert_eq!((openai.status, openai.json()["error"]["code"].as_str()), (404, Some("unknown_path")));
    let message = openai.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("/v1/nothing;") && message.contains("POST /v1/chat/completions"), "{message}");
    assert!(!message.contains("model "), "no client takes it for a model that was not found: {message}");
    let anthropic = server.get("/v1/nothing", &[("anthropic-version", "2023-06-01")]).await;
    assert_eq!((anthropic.status, anthropic.json()["error"]["type"].as_str()), (404, Some("not_found_error")));
    assert_eq!(anthropic.json()["error"]["code"], "unknown_path");
    assert_eq!(server.get("/v1/messages/batches", &[]).await.json()["type"], "error");
    let method = server.get(MESSAGES, &[]).await;
    assert_eq!(
        (method.status, method.header("allow"), method.json()["type"].as_str()),
        (405, Some("POST"), Some("error"))
    );
    assert!(method.json()["error"]["message"].as_str().unwrap().contains("takes POST, not GET"), "{method:?}");
    assert_eq!(method.json()["error"]["code"], "method_not_allowed");
    let models = server.post("/v1/models", &[], &json!({})).await;
    assert_eq!((models.status, models.header("allow")), (405, Some("GET,HEAD")));
    assert!(models.json()["error"]["message"].as_str().unwrap().contains("takes GET, HEAD, not POST"), "{models:?}");
}

#[tokio::test]
async fn every_path_that_is_named_to_who_asked_for_another_is_served() {
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let told = server.get("/nothing", &[]).await.json();
    let paths: Vec<&str> =
        told["error"]["paths"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    // These paths show the stack, and this server has none.
    let observed = ["/status", "/overview", "/metrics"];
    for path in paths.iter().filter(|path| !observed.iter().any(|observed| path.ends_with(observed))) {
        let (method, path) = path.split_once(' ').unwrap();
        let path = path.replace("{model}", "gpt-4o").replace("{id}", "7");
        let answer = match method {
            "POST" => server.post(&path, &[], &json!({})).await,
            _ => server.get(&path, &[]).await,
        };
        assert!(answer.status != 405 && !answer.body.contains("unknown_path"), "{method} {path}: {answer:?}");
    }
}
