//! Both protocols, whole and streamed, from providers of either.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::json;
use steadfast::{CommitPoint, ErrorKind, LlmError, LlmResponse, provider_fn, providers::simulated::Fault};
use steadfast_stack::{Config, Format, Stack};

use super::harness::*;
use crate::{Gateway, limits::Settings};

#[tokio::test]
async fn every_caller_is_answered_by_every_provider() {
    let providers = Providers::start().await;
    let services = [("anthropic", providers.claude()), ("openai", providers.gpt()), ("gemini", providers.google())];
    for (served_by, service) in services {
        let server = Server::start(service, Settings::default()).await;
        for path in PATHS {
            for stream in [false, true] {
                let answer = server.post(path, &[], &hello(stream)).await;
                let case = format!("{path} by {served_by}, stream: {stream}: {}", answer.body);
                assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from afar"), "{case}");
                assert_eq!(stream, answer.header("content-type").unwrap().starts_with("text/event-stream"), "{case}");
                assert!(!stream || answer.is_whole(), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn the_query_is_ignored() {
    let providers = Providers::start().await;
    let server = Server::start(providers.claude(), Settings::default()).await;
    assert_eq!(server.post("/v1/messages?beta=true", &[], &hello(false)).await.status, 200);
}

#[tokio::test]
async fn a_provider_of_the_callers_dialect_sees_its_bytes_and_headers_and_not_its_key() {
    let (service, seen) = raw_provider("{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}],\"stop_reason\":\"end_turn\",\"unheard_of\": 1e400 ,\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}").await;
    let server = Server::start(service, Settings::default()).await;
    let body = r#"{"messages":[{"role":"user","content":"h\u00e9llo"}],  "max_tokens":1.0e2, "unheard_of":12345678901234567890123,"model":"claude-sonnet-4-5"}"#;
    let headers = [
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "fine-grained,  of-tomorrow-2031"),
        ("authorization", "Bearer sk-of-the-caller"),
        ("x-api-key", "sk-of-the-caller"),
        ("cookie", "a=b"),
    ];
    let mut client = server.connect().await;
    client.send(&request("POST", MESSAGES, &headers, body.as_bytes())).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("\"unheard_of\": 1e400 ,"), "{}", answer.body);
    assert_eq!(answer.header("anthropic-ratelimit-requests-remaining"), Some("41"));
    assert_eq!(answer.header("request-id"), Some("req_raw"));
    assert_eq!(answer.header("set-cookie"), None);

    let seen = seen.await.unwrap();
    let (head, sent) = seen.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("anthropic-beta: fine-grained,  of-tomorrow-2031\r\n"), "{head}");
    assert!(head.contains("x-api-key: sk-of-the-gateway") || head.contains("Bearer sk-of-the-gateway"), "{head}");
    assert!(!head.contains("caller") && !head.contains("cookie"), "{head}");
    for kept in [r#""content":"h\u00e9llo""#, r#"  "max_tokens":1.0e2"#, r#""unheard_of":12345678901234567890123"#] {
        assert!(sent.contains(kept), "{sent}");
    }
}

#[tokio::test]
async fn a_stream_of_the_callers_dialect_passes_byte_for_byte() {
    let events = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"c\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n\
        event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
        event: ping\ndata: {\"type\": \"ping\"}\n\n\
        event: of_tomorrow\ndata: {\"type\":\"of_tomorrow\", \"x\":1.0}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n\
        event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":2}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let (service, _seen) = raw_provider_of("text/event-stream", events).await;
    let server = Server::start(service, Settings::default()).await;
    assert_eq!(server.post(MESSAGES, &[], &hello(true)).await.body, events);
}

#[tokio::test]
async fn failover_serves_both_protocols_and_says_so() {
    for path in PATHS {
        for stream in [false, true] {
            let providers = Providers::start().await;
            providers.anthropic.handle().fail(Fault::Overloaded);
            let server = Server::start(providers.both(), Settings::default()).await;
            let answer = server.post(path, &[], &hello(stream)).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from afar"), "{path} {stream}");
            assert_eq!(answer.header("x-steadfast-tier"), Some("backup"));
            assert_eq!(answer.header("x-steadfast-model"), Some("gpt-4o"));
            assert_eq!(answer.header("x-steadfast-attempts"), Some("2"));
            assert_eq!(answer.header("x-steadfast-fallback-reason"), Some("overloaded"));
            assert!(answer.header("x-steadfast-overhead-ms").unwrap().parse::<f64>().unwrap() < 1000.0);
        }
    }
}

#[tokio::test]
async fn a_caller_that_wants_no_fallback_gets_the_first_tiers_error() {
    let providers = Providers::start().await;
    providers.anthropic.handle().fail(Fault::Overloaded);
    let server = Server::start(providers.both(), Settings::default()).await;
    let answer = server.post(MESSAGES, &[("x-steadfast-no-fallback", "1")], &hello(false)).await;
    assert_eq!((answer.status, providers.openai.handle().stats().calls), (529, 0));
}

#[tokio::test]
async fn a_failure_before_the_first_token_has_its_own_status_and_type() {
    let cases = [
        (Fault::Overloaded, [529, 503], ["overloaded_error", "server_error", "UNAVAILABLE"]),
        (Fault::ServerError, [500, 500], ["api_error", "server_error", "INTERNAL"]),
        (
            Fault::RateLimited { retry_after: Some(Duration::from_secs(7)) },
            [429, 429],
            ["rate_limit_error", "requests", "RESOURCE_EXHAUSTED"],
        ),
        (Fault::BadRequest, [400, 400], ["invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"]),
        (Fault::ErrorEventAfter(0), [529, 503], ["overloaded_error", "server_error", "UNAVAILABLE"]),
    ];
    for (fault, statuses, types) in cases {
        for (at, path) in PATHS.into_iter().enumerate() {
            for stream in [false, true] {
                let providers = Providers::start().await;
                let (service, provider) = providers.of(path);
                provider.fail(fault.clone());
                let server = Server::start(service, Settings::default()).await;
                let answer = server.post(path, &[], &hello(stream)).await;
                let case = format!("{fault} {path} {stream}: {answer:?}");
                if fault != Fault::ErrorEventAfter(0) {
                    assert_eq!(answer.status, statuses[at.min(1)], "{case}");
                    // The provider speaks the caller's own protocol, but for Responses: then the type is the kind's.
                    let kind = types[if path == GEMINI { 2 } else { at.min(1) }];
                    assert!(path == RESPONSES || answer.error_type().contains(kind), "{case}");
                }
                assert!(answer.status >= 400, "{case}");
                let waits = matches!(fault, Fault::RateLimited { .. });
                assert_eq!(answer.header("retry-after"), waits.then_some("7"), "{case}");
                assert_eq!(answer.header("x-should-retry"), (fault == Fault::BadRequest).then_some("false"), "{case}");
                assert!(answer.json()["error"]["message"].is_string(), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_an_error_and_never_with_an_end_mark() {
    for fault in [Fault::CutAfter(2), Fault::TruncatedAfter(2), Fault::ErrorEventAfter(2)] {
        for path in PATHS {
            for provider_path in PATHS {
                let providers = Providers::start().await;
                let (service, provider) = providers.of(provider_path);
                provider.fail(fault.clone());
                let server = Server::start(service, Settings::default()).await;
                let answer = server.post(path, &[], &hello(true)).await;
                let case = format!("{fault}: {path} from {provider_path}: {}", answer.body);
                assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from "), "{case}");
                assert!(!answer.is_whole() && !answer.body.contains("[DONE]"), "{case}");
                assert!(answer.error_event()["message"].is_string(), "{case}");
                let last = answer.events().pop().unwrap();
                assert_eq!(last["type"] == "error", path == MESSAGES, "{case}");
                assert_eq!(last["type"] == "response.failed", path == RESPONSES, "{case}");
                assert_eq!(answer.body.contains("event: error\n"), path == MESSAGES, "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_whole_answer_that_breaks_is_an_error() {
    for fault in [Fault::CutAfter(2), Fault::TruncatedAfter(2), Fault::ErrorEventAfter(2), Fault::HtmlPage] {
        for path in PATHS {
            let providers = Providers::start().await;
            let (service, provider) = providers.of(path);
            provider.fail(fault.clone());
            let server = Server::start(service, Settings::default()).await;
            let answer = server.post(path, &[], &hello(false)).await;
            assert!(answer.status >= 500 && answer.json()["error"]["message"].is_string(), "{fault} {path} {answer:?}");
        }
    }
}

#[tokio::test]
async fn with_everything_held_back_a_broken_stream_fails_over_unseen() {
    for path in PATHS {
        for fault in [Fault::CutAfter(2), Fault::TruncatedAfter(2), Fault::ErrorEventAfter(2)] {
            let providers = Providers::start().await.commit(CommitPoint::Complete);
            providers.anthropic.handle().fail(fault.clone());
            let server = Server::start(providers.both(), Settings::default()).await;
            let answer = server.post(path, &[], &hello(true)).await;
            assert_eq!(answer.text(), "Hello from afar", "{fault} {path}");
            assert!(answer.is_whole(), "{fault} {path}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn when_all_tiers_fail_each_protocols_caller_hears_of_all() {
    let providers = Providers::start().await;
    providers.anthropic.handle().fail(Fault::Overloaded);
    providers.openai.handle().fail(Fault::ServerError);
    let server = Server::start(providers.both(), Settings::default()).await;
    for (path, status) in PATHS.into_iter().zip([529, 503, 503, 503]) {
        let answer = server.post(path, &[], &hello(false)).await;
        assert_eq!((answer.status, answer.header("x-steadfast-attempts")), (status, Some("2")), "{path}");
        assert_eq!(answer.header("x-should-retry"), None, "{path}");
        let told = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        let all = "all 2 tiers failed: sonnet 529 overloaded, backup 500 failed; the first said: Overloaded";
        assert!(told.starts_with(all), "{path}: {told}");
    }
}

#[tokio::test]
async fn usage_at_the_end_of_a_stream_is_told_to_openais_callers_who_ask() {
    let providers = Providers::start().await;
    let server = Server::start(providers.claude(), Settings::default()).await;
    let mut asked = hello(true);
    assert!(!server.post(CHAT, &[], &asked).await.body.contains("prompt_tokens"));
    asked["stream_options"] = json!({"include_usage": true});
    assert!(server.post(CHAT, &[], &asked).await.body.contains("prompt_tokens"));
}

/// A caller is told what the only provider has said, also while its circuit keeps to the wait.
#[tokio::test(start_paused = true)]
async fn a_circuit_that_waits_for_a_rate_limit_refuses_with_a_rate_limit() {
    let said = [(ErrorKind::RateLimited, [429; 4]), (ErrorKind::Overloaded, [529, 503, 503, 503])];
    for (kind, statuses) in said {
        for (path, status) in [MESSAGES, CHAT, RESPONSES, GEMINI].into_iter().zip(statuses) {
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = calls.clone();
            let leaf = provider_fn(move |_| {
                counted.fetch_add(1, SeqCst);
                async move { Err::<LlmResponse, _>(LlmError::new(kind, "wait").with_retry_after(Duration::from_secs(40))) }
            });
            let file = "{ tiers: [{ name: one, provider: simulated }], timeout: 20s }";
            let stack =
                Stack::builder().leaf("one", leaf).build(Config::from_str(file, Format::Yaml).unwrap()).unwrap();
            for (number, stream) in [false, false, true].into_iter().enumerate() {
                let body = spelled(path, &hello(stream)).to_string();
                let address = addressed(path, &hello(stream));
                let answer = through(Gateway::from(&stack), "POST", &address, &typed(path, &[]), body).await;
                let what = format!("{path}, {kind}, {number}: {answer:?}");
                assert_eq!(answer.status, status, "{what}");
                assert!(answer.header("retry-after").is_some(), "{what}");
                let name = match path {
                    MESSAGES => answer.json()["error"]["type"].as_str().map(str::to_owned),
                    GEMINI => answer.json()["error"]["status"].as_str().map(str::to_owned),
                    _ => answer.json()["error"]["code"].as_str().map(str::to_owned),
                };
                let limits = ["rate_limit_error", "rate_limit_exceeded", "RESOURCE_EXHAUSTED"];
                assert_eq!(limits.contains(&name.unwrap().as_str()), kind == ErrorKind::RateLimited, "{what}");
            }
            assert_eq!(calls.load(SeqCst), 1, "the circuit keeps to the wait");
        }
    }
}
