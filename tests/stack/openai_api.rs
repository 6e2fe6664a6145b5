//! The choice of OpenAI's API at a tier of the file.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use steadfast::{Dialect, ErrorKind, LlmError, LlmRequest, Wire};
use steadfast_stack::{Config, Environment, Format, Stack};
use tower::{ServiceExt, service_fn};

const RESPONSES: &str = r#"{"model":"gpt-5.2", "input":"hello",  "unheard_of":{"a":[1.0]}}"#;
const CHAT: &str = r#"{"model":"gpt-5.2", "messages":[{"role":"user","content":"hello"}],  "unheard_of":1.0}"#;

/// Returns the address and the body of what a tier with these settings sends for a request.
async fn sent(settings: &str, request: LlmRequest) -> (String, Bytes) {
    let tiers = format!("{{ name: main, provider: openai, model: gpt-5.2{settings} }}");
    let (mut sent, _) = sent_by(&tiers, 400, request).await;
    sent.pop().expect("a request is sent")
}

/// Returns the addresses and the bodies of what these tiers send for a request, with this status of every answer, and
/// the error.
async fn sent_by(tiers: &str, status: u16, request: LlmRequest) -> (Vec<(String, Bytes)>, LlmError) {
    let config = Config::from_str(&format!("tiers: [{tiers}]"), Format::Yaml).unwrap();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let record = sent.clone();
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let record = record.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            record.lock().unwrap().push((head.uri.to_string(), body));
            // An error in the form of both APIs, which no tier repeats at 400.
            let refusal = r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":"no"}}"#;
            Ok::<_, Infallible>(Response::builder().status(status).body(Full::from(refusal)).unwrap())
        }
    });
    let keys = [("OPENAI_API_KEY", "good-key"), ("OTHER_KEY", "other-key"), ("ANTHROPIC_API_KEY", "another-key")];
    let environment: Environment = keys.into_iter().collect();
    let stack = Stack::builder().environment(environment).transport(transport).seed(5).build(config).unwrap();
    let error = stack.service().oneshot(request).await.unwrap_err();
    (std::mem::take(&mut sent.lock().unwrap()), error)
}

fn of(dialect: Dialect, body: &'static str) -> LlmRequest {
    Wire::new(dialect, body).unwrap().into()
}

#[tokio::test(start_paused = true)]
async fn openais_own_server_gets_each_request_at_the_api_of_its_dialect() {
    for settings in ["", ", api: auto", ", base_url: 'https://eu.api.openai.com/v1', api_key: '${OPENAI_API_KEY}'"] {
        let (url, body) = sent(settings, of(Dialect::Responses, RESPONSES)).await;
        assert!(url.ends_with("api.openai.com/v1/responses"), "{settings}: {url}");
        assert_eq!(body, RESPONSES, "{settings}");
        let (url, body) = sent(settings, of(Dialect::OpenAi, CHAT)).await;
        assert!(url.ends_with("api.openai.com/v1/chat/completions"), "{settings}: {url}");
        assert_eq!(body, CHAT, "{settings}");
        let (url, _) = sent(settings, LlmRequest::prompt("hello")).await;
        assert!(url.ends_with("api.openai.com/v1/chat/completions"), "{settings}: {url}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_compatible_server_has_responses_if_the_file_says_so() {
    let server = ", base_url: 'http://127.0.0.1:9/v1'";
    for (settings, path) in [("", "/v1/chat/completions"), (", api: auto", "/v1/responses")] {
        let (url, _) = sent(&format!("{server}{settings}"), of(Dialect::Responses, RESPONSES)).await;
        assert_eq!(url, format!("http://127.0.0.1:9{path}"), "{settings}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_with_one_api_sends_every_request_there() {
    for (api, path) in [("chat", "/v1/chat/completions"), ("responses", "/v1/responses")] {
        for request in [of(Dialect::Responses, RESPONSES), of(Dialect::OpenAi, CHAT), LlmRequest::prompt("hello")] {
            let (url, _) = sent(&format!(", api: {api}"), request).await;
            assert_eq!(url, format!("https://api.openai.com{path}"));
        }
    }
}

fn compaction() -> LlmRequest {
    Wire::compaction(RESPONSES).unwrap().into()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_known_to_compact_gets_compactions() {
    let azure = ", base_url: 'https://me.openai.azure.com/openai/v1', api: responses";
    for settings in ["", ", api: responses", &format!("{azure}, compaction: true")] {
        let (url, body) = sent(settings, compaction()).await;
        assert!(url.ends_with("/v1/responses/compact"), "{settings}: {url}");
        assert_eq!(body, RESPONSES, "{settings}");
    }
    for settings in [", api: chat", ", compaction: false", azure, ", base_url: 'http://127.0.0.1:9/v1', api: auto"] {
        let tiers = format!("{{ name: main, provider: openai, model: gpt-5.2{settings} }}");
        let (sent, error) = sent_by(&tiers, 400, compaction()).await;
        assert!(sent.is_empty(), "{settings}: {sent:?}");
        assert_eq!(error.kind(), ErrorKind::UnsupportedFeature, "{settings}");
        assert!(error.message().contains("main lacks /v1/responses/compact"), "{settings}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_compaction_stays_at_the_account_of_the_first_tier_that_compacts() {
    let tiers = "
        { name: claude, provider: anthropic, model: claude-sonnet-4-5 },
        { name: first, provider: openai, model: gpt-5.2 },
        { name: paid-by-another, provider: openai, model: gpt-5.1, headers: { OpenAI-Organization: org-2 } },
        { name: other-key, provider: openai, model: gpt-5, api_key: '${OTHER_KEY}' },
        { name: elsewhere, provider: openai, model: gpt-5, base_url: 'https://eu.api.openai.com/v1' },
        { name: second, provider: openai, model: gpt-5.2-mini, api: responses }";
    let (sent, error) = sent_by(tiers, 500, compaction()).await;
    assert_eq!(error.kind(), ErrorKind::Server);
    let mut models: Vec<&[u8]> = Vec::new();
    for (_, body) in &sent {
        let model = body.split(|byte| *byte == b'"').nth(3).unwrap();
        models.push(model);
    }
    models.dedup();
    assert_eq!(models, [&b"gpt-5.2"[..], b"gpt-5.2-mini"]);
}
