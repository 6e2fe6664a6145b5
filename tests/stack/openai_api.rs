//! The choice of OpenAI's API at a tier of the file.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use steadfast::{Dialect, LlmRequest, Wire};
use steadfast_stack::{Config, Environment, Format, Stack};
use tower::{ServiceExt, service_fn};

const RESPONSES: &str = r#"{"model":"gpt-5.2", "input":"hello",  "unheard_of":{"a":[1.0]}}"#;
const CHAT: &str = r#"{"model":"gpt-5.2", "messages":[{"role":"user","content":"hello"}],  "unheard_of":1.0}"#;

/// Returns the address and the body of what a tier with these settings sends for a request.
async fn sent(settings: &str, request: LlmRequest) -> (String, Bytes) {
    let text = format!("tiers: [{{ name: main, provider: openai, model: gpt-5.2{settings} }}]");
    let config = Config::from_str(&text, Format::Yaml).unwrap();
    let sent = Arc::new(Mutex::new(None));
    let record = sent.clone();
    let transport = service_fn(move |request: Request<Full<Bytes>>| {
        let record = record.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            *record.lock().unwrap() = Some((head.uri.to_string(), body));
            // An error in the form of both APIs, which no tier repeats.
            let refusal = r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":"no"}}"#;
            Ok::<_, Infallible>(Response::builder().status(400).body(Full::from(refusal)).unwrap())
        }
    });
    let environment: Environment = [("OPENAI_API_KEY", "good-key")].into_iter().collect();
    let stack = Stack::builder().environment(environment).transport(transport).seed(5).build(config).unwrap();
    stack.service().oneshot(request).await.unwrap_err();
    sent.lock().unwrap().take().expect("a request is sent")
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
