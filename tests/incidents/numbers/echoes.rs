//! A caller's words never count as the provider's: the class of a failure does not depend on the words that the
//! provider repeats.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use steadfast::{
    BoxLlmService, CircuitBreakerLayer, ErrorKind, FallbackLayer, LlmRequest, RetryWithJitterLayer,
    events::CircuitState,
    providers::{Anthropic, Canned, Gemini, OpenAi},
};
use steadfast_stack::{Config, Environment, Format, Stack};
use tower::{Layer, ServiceBuilder, ServiceExt};

#[derive(Clone, Copy, Debug)]
pub(super) enum Provider {
    Anthropic,
    OpenAi,
    Compatible,
    Gemini,
}

use Provider::{Anthropic as A, Compatible as C, Gemini as G, OpenAi as O};

/// The leaf of a provider that gives this answer to everything.
pub(super) fn leaf(
    provider: Provider,
    status: u16,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> BoxLlmService {
    let body = body.into();
    let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let mut response = Response::new(Full::new(body.clone()));
        *response.status_mut() = status.try_into().unwrap();
        response.headers_mut().insert("content-type", content_type.parse().unwrap());
        std::future::ready(Ok::<_, Infallible>(response))
    });
    match provider {
        A => BoxLlmService::new(Anthropic::new("key").model("m").transport(transport)),
        O => BoxLlmService::new(OpenAi::new("key").model("m").transport(transport)),
        C => {
            let leaf = OpenAi::compatible("server", "http://server.example/v1").unwrap();
            BoxLlmService::new(leaf.key("key").model("m").transport(transport))
        }
        G => BoxLlmService::new(Gemini::new("key").model("m").transport(transport)),
    }
}

/// An error body in the provider's own shape, or in one of those of compatible servers.
fn body(provider: Provider, shape: usize, status: u16, message: &str, param: &str) -> Value {
    match (provider, shape % 4) {
        (A, _) => json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}}),
        (O, 0) => json!({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": null}}),
        (O, _) => {
            json!({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": "invalid_value"}})
        }
        (C, 0) => json!({"error": {"message": message, "code": status}}),
        (C, 1) => {
            json!({"object": "error", "message": message, "type": "BadRequestError", "param": param, "code": status})
        }
        (C, 2) => json!({"error": message}),
        (C, _) => json!({"detail": message}),
        (G, _) => json!({"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}}),
    }
}

async fn class(provider: Provider, shape: usize, status: u16, message: &str, param: &str) -> ErrorKind {
    let body = body(provider, shape, status, message, param).to_string();
    let leaf = leaf(provider, status, "application/json", body);
    leaf.oneshot(LlmRequest::prompt("hello")).await.expect_err("a failure").kind()
}

/// The forms in which providers repeat a caller's words.
const TEMPLATES: &[&str] = &[
    "Unexpected value(s) `{}` for the `anthropic-beta` header.",
    "Invalid value: '{}'. Supported values are: 'auto' and 'default'.",
    "Unknown parameter: '{}'.",
    "Unrecognized request argument supplied: {}",
    "{}: Extra inputs are not permitted",
    "{} is not of type 'array' - 'messages'",
    "messages.0.role: Input should be 'user' or 'assistant', not {}",
    "Invalid JSON payload received. Unknown name \"{}\"",
    "tools.0.name: {}. It does not match the pattern.",
    "Failed to deserialize: {}",
    "Please try again without {}",
];

/// Words with a meaning in some provider's mouth.
const WORDS: &[&str] = &[
    "usage limit",
    "insufficient credits",
    "insufficient_quota",
    "credit balance is too low",
    "Your credit balance is too low to access the Anthropic API.",
    "You have reached your specified API usage limits.",
    "You exceeded your current quota, please check your plan and billing details.",
    "spend limit",
    "billing",
    "prompt is too long: 3 tokens > 2 maximum",
    "context window",
    "maximum context length",
    "This model's maximum context length is 5 tokens.",
    "exceeds the maximum number of tokens",
    "Output blocked by content filtering policy",
    "content management policy",
    "our safety system",
    "requires moderation",
    "overloaded",
    "at capacity",
    "Service tier capacity exceeded for this model.",
    "invalid api key",
    "API key not valid. Please pass a valid API key.",
    "API_KEY_INVALID",
    "unknown model",
    "model not found",
    "is not a valid model ID",
    "Request too large for gpt-4o",
    "payload size",
    "limit: 0",
    "rate limit",
    "too many requests",
    "Provider returned error",
    "please try again in 300s",
    "retry after 300 seconds",
    "429",
    "401 Unauthorized",
];

/// Words of a request: those that mean something, random ones, and both together.
fn said(random: &mut fastrand::Rng) -> String {
    let mut said: Vec<String> = Vec::new();
    for _ in 0..random.usize(1..4) {
        said.push(match random.bool() {
            true => random.choice(WORDS).unwrap().to_string(),
            false => {
                let letters = ["a", "ä", "z", " ", "0", "-", ".", ",", ":", "'", "`", "\"", "\\", "{", ")", "<", "\n"];
                (0..random.usize(1..9)).map(|_| random.choice(letters).unwrap()).collect()
            }
        });
    }
    said.join(random.choice([" ", "", ". ", "\n", ": "]).unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_class_of_a_failure_does_not_depend_on_the_words_that_are_repeated() {
    let mut random = fastrand::Rng::with_seed(16);
    let mut seen = 0;
    for provider in [A, O, C, G] {
        for status in [400_u16, 403, 404, 409, 413, 422, 429, 500, 503] {
            for shape in 0..4 {
                for template in TEMPLATES {
                    let usual = class(provider, shape, status, &template.replace("{}", "x"), "x").await;
                    for _ in 0..6 {
                        let said = said(&mut random);
                        let found = class(provider, shape, status, &template.replace("{}", &said), &said).await;
                        assert_eq!(found, usual, "{provider:?} {status} {template}: {said:?}");
                        seen += 1;
                    }
                }
            }
        }
    }
    println!("{seen} repeated texts, none of which made a difference");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_time_closes_nobody_off() {
    for status in [400, 500, 504] {
        let message = "Unknown parameter: 'please try again in 300s'.";
        let leaf = leaf(O, status, "application/json", body(O, 0, status, message, "x").to_string());
        let failure = leaf.oneshot(LlmRequest::prompt("hello")).await.unwrap_err();
        assert_eq!(failure.retry_after(), None, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_firewalls_page_is_one_requests_failure_and_goes_to_the_next_tier() {
    let page = "<html><head><title>Request blocked</title></head></html>";
    for (provider, ok) in [
        (
            A,
            r#"{"type":"message","role":"assistant","content":[{"type":"text","text":"yes"}],"stop_reason":"end_turn"}"#,
        ),
        (O, r#"{"choices":[{"message":{"content":"yes"},"finish_reason":"stop"}]}"#),
        (G, r#"{"candidates":[{"content":{"parts":[{"text":"yes"}]},"finishReason":"STOP"}]}"#),
    ] {
        let breaker = CircuitBreakerLayer::new("tier");
        let retry = RetryWithJitterLayer::new().seed(1);
        breaker.layer(leaf(provider, 200, "application/json", ok)).oneshot(LlmRequest::prompt("hi")).await.unwrap();
        let blocked =
            ServiceBuilder::new().layer(retry).layer(&breaker).service(leaf(provider, 403, "text/html", page));
        let llm = FallbackLayer::new("tier").tier("other", Canned::text("later")).layer(blocked);
        for _ in 0..10 {
            let answer = llm.clone().oneshot(LlmRequest::prompt("a prompt").explain()).await.unwrap();
            assert_eq!(answer.served_by().tier, Some("other"));
            let [first, ..] = answer.attempts() else { panic!("no record") };
            assert_eq!(first.failure, Some(ErrorKind::Blocked));
            assert!(
                first.message.as_str().contains("HTML page") && first.message.as_str().contains("Request blocked"),
                "{}",
                first.message
            );
            assert_eq!(answer.attempts().iter().filter(|step| step.failure.is_some()).count(), 1, "not repeated there");
        }
        assert_eq!(breaker.handle().state(), CircuitState::Closed);
    }
}

/// A stack of the file over Anthropic and OpenAI: its own probe tells one caller's doing from an account that is used
/// up.
#[tokio::test(start_paused = true)]
async fn a_stack_asks_for_itself_before_it_believes_one_caller() {
    const CREDIT: &str = "Your credit balance is too low to access the Anthropic API.";
    let (all_fail, pings) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (fails, pinged) = (all_fail.clone(), pings.clone());
    let transport = tower::service_fn(move |request: Request<Full<Bytes>>| {
        let (fails, pinged) = (fails.clone(), pinged.clone());
        async move {
            let is_first = request.uri().host() == Some("api.anthropic.com");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            pinged.fetch_add(usize::from(body.contains("ping")), SeqCst);
            let fails = is_first && (fails.load(SeqCst) || body.contains("poison"));
            let (status, body) = match (fails, is_first) {
                (true, _) => (400, body_of(CREDIT)),
                (false, true) => (200, ANTHROPICS.to_owned()),
                (false, false) => (200, OPENAIS.to_owned()),
            };
            let mut response = Response::new(Full::new(Bytes::from(body)));
            *response.status_mut() = status.try_into().unwrap();
            response.headers_mut().insert("content-type", "application/json".parse().unwrap());
            Ok::<_, Infallible>(response)
        }
    });
    let file = "tiers:\n\
                - { name: sonnet, provider: anthropic, model: a, retry: { max_attempts: 1 } }\n\
                - { name: gpt, provider: openai, model: o }\n";
    let keys: Environment =
        ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"].map(|name| (name, "good-key")).into_iter().collect();
    let stack = Stack::builder().environment(keys).transport(transport).seed(5);
    let stack = stack.build(Config::from_str(file, Format::Yaml).unwrap()).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let ask = async |prompt: &'static str| {
        let answer = llm.clone().oneshot(LlmRequest::prompt(prompt)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        answer.served_by().tier.unwrap().to_owned()
    };
    for _ in 0..30 {
        assert_eq!([ask("poison").await, ask("hello").await], ["gpt", "sonnet"]);
    }
    assert_eq!(handle.circuit("sonnet").unwrap().state(), CircuitState::Closed);
    assert!((3..=7).contains(&pings.load(SeqCst)), "one in ten seconds: {pings:?}");

    all_fail.store(true, SeqCst);
    for _ in 0..15 {
        assert_eq!(ask("hello").await, "gpt");
    }
    assert_eq!(handle.circuit("sonnet").unwrap().state(), CircuitState::Open);
}

fn body_of(message: &str) -> String {
    body(A, 0, 400, message, "").to_string()
}

const ANTHROPICS: &str =
    r#"{"type":"message","role":"assistant","content":[{"type":"text","text":"yes"}],"stop_reason":"end_turn"}"#;
const OPENAIS: &str = r#"{"choices":[{"message":{"content":"yes"},"finish_reason":"stop"}]}"#;
