//! Embeddings, completions, audio, images and reranking through the official SDKs, with the first provider well and
//! down. The provider computes its vectors by a rule that the scripts know too.

use std::{
    convert::Infallible,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::drive;
use crate::common::{
    sdk,
    serve::{Serve, Served},
};

/// A provider of everything but conversations, whose vectors have so many numbers.
#[derive(Clone)]
struct Provider {
    url: String,
    shared: Arc<Shared>,
}

struct Shared {
    numbers: usize,
    is_down: AtomicBool,
    calls: AtomicUsize,
}

impl Provider {
    async fn start(numbers: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { numbers, is_down: AtomicBool::new(false), calls: AtomicUsize::new(0) });
        let provider = Self { url, shared: shared.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                let service = service_fn(move |request| answer(shared.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        provider
    }

    fn calls(&self) -> usize {
        self.shared.calls.load(Relaxed)
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    shared.calls.fetch_add(1, Relaxed);
    let (status, kind, answer) = match shared.is_down.load(Relaxed) {
        true => {
            (503, "application/json", json!({"error": {"message": "down", "type": "server_error"}}).to_string().into())
        }
        false => match shared.said(head.uri.path(), &body) {
            Said::Json(value) => (200, "application/json", value.to_string().into()),
            Said::Bytes(kind, bytes) => (200, kind, bytes),
            Said::Nothing => {
                (404, "application/json", json!({"error": {"message": "no such path"}}).to_string().into())
            }
        },
    };
    let answer = Response::builder().status(status).header(CONTENT_TYPE, kind).body(Full::new(answer)).unwrap();
    Ok(answer)
}

enum Said {
    Json(Value),
    Bytes(&'static str, Bytes),
    Nothing,
}

/// The byte that files of the scripts are made of.
const OF_FILES: u8 = 7;

impl Shared {
    /// Returns the vector of a text.
    fn vector(&self, text: &str) -> Vec<f32> {
        let sum: usize = text.bytes().map(usize::from).sum();
        (0..self.numbers).map(|at| ((sum + 7 * at) % 128) as f32 / 64.0 - 1.0).collect()
    }

    fn said(&self, path: &str, body: &[u8]) -> Said {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let texts = |value: &Value| match value {
            Value::String(text) => vec![text.clone()],
            other => other.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect(),
        };
        let model = asked["model"].clone();
        // A form has no JSON: its file is counted, and its model found.
        let of_file = body.iter().filter(|byte| **byte == OF_FILES).count();
        let names = |model: &str| body.windows(model.len()).any(|part| part == model.as_bytes());
        let usage = json!({"prompt_tokens": 5, "total_tokens": 5});
        Said::Json(match path {
            "/v1/embeddings" => {
                let vector = |text: &String| match asked["encoding_format"].as_str() {
                    Some("base64") => {
                        let bytes: Vec<u8> = self.vector(text).into_iter().flat_map(f32::to_le_bytes).collect();
                        json!(BASE64_STANDARD.encode(bytes))
                    }
                    _ => json!(self.vector(text)),
                };
                let texts = texts(&asked["input"]);
                let data = texts.iter().enumerate();
                let data =
                    data.map(|(at, text)| json!({"object": "embedding", "index": at, "embedding": vector(text)}));
                json!({"object": "list", "data": data.collect::<Vec<_>>(), "model": model, "usage": usage})
            }
            "/v2/embed" => {
                let vectors: Vec<_> = texts(&asked["texts"]).iter().map(|text| self.vector(text)).collect();
                json!({
                    "id": "e-1", "response_type": "embeddings_by_type", "texts": asked["texts"],
                    "embeddings": {"float": vectors}, "meta": {"billed_units": {"input_tokens": 5}},
                })
            }
            "/v1/rerank" | "/v2/rerank" => {
                // The shortest document is the best.
                let mut order: Vec<(usize, usize)> =
                    texts(&asked["documents"]).iter().map(String::len).enumerate().collect();
                order.sort_by_key(|(_, length)| *length);
                let result =
                    |(at, length): (usize, usize)| json!({"index": at, "relevance_score": 1.0 / length as f64});
                let results: Vec<_> = order.into_iter().map(result).collect();
                json!({"id": "r-1", "results": results, "meta": {"billed_units": {"search_units": 1}}})
            }
            "/v1/completions" if asked["stream"] == true => {
                let chunk = |text: &str, finish: Value| {
                    let choice = json!({"index": 0, "text": text, "logprobs": null, "finish_reason": finish});
                    let chunk = json!({"id": "c-1", "object": "text_completion", "created": 1, "model": model,
                        "choices": [choice]});
                    format!("data: {chunk}\n\n")
                };
                let events = [chunk("calm ", Value::Null), chunk("sea", json!("stop")), "data: [DONE]\n\n".to_owned()];
                return Said::Bytes("text/event-stream", events.concat().into());
            }
            "/v1/completions" => json!({
                "id": "c-1", "object": "text_completion", "created": 1, "model": model,
                "choices": [{"index": 0, "text": "calm sea", "logprobs": null, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
            }),
            "/v1/moderations" => {
                let flagged = asked["input"].as_str().is_some_and(|text| text.contains("bad"));
                let result = json!({"flagged": flagged, "categories": {"violence": flagged},
                    "category_scores": {"violence": 0.5}, "category_applied_input_types": {"violence": ["text"]}});
                json!({"id": "m-1", "model": model, "results": [result]})
            }
            "/v1/audio/speech" => {
                let length = asked["input"].as_str().map_or(0, str::len) * 1000;
                return Said::Bytes("audio/mpeg", (0..length).map(|at| (at % 251) as u8).collect());
            }
            "/v1/audio/transcriptions" | "/v1/audio/translations" => {
                json!({"text": format!("{of_file} bytes, whisper-1: {}", names("whisper-1"))})
            }
            "/v1/images/generations" => {
                let image = json!({"b64_json": BASE64_STANDARD.encode(asked["prompt"].as_str().unwrap())});
                json!({"created": 1, "data": vec![image; asked["n"].as_u64().unwrap_or(1) as usize]})
            }
            "/v1/images/edits" => {
                let image = format!("{of_file} bytes, gpt-image-1: {}", names("gpt-image-1"));
                json!({"created": 1, "data": [{"b64_json": BASE64_STANDARD.encode(image)}]})
            }
            _ if path.ends_with(":batchEmbedContents") => {
                let text = |one: &Value| one["content"]["parts"][0]["text"].as_str().unwrap().to_owned();
                let texts = asked["requests"].as_array().unwrap().iter().map(text);
                json!({"embeddings": texts.map(|text| json!({"values": self.vector(&text)})).collect::<Vec<_>>()})
            }
            _ => return Said::Nothing,
        })
    }
}

/// Two deployments of everything, and one of another vector space between them.
struct World {
    first: Provider,
    second: Provider,
    other: Provider,
    gateway: Served,
}

impl World {
    async fn start() -> Self {
        let (first, second, other) = (Provider::start(8).await, Provider::start(8).await, Provider::start(5).await);
        let mut tiers = String::new();
        let mut add = |name: &str, provider: &str, model: &str, url: &str, space: &str| {
            tiers.push_str(&format!(
                "    - {{ name: {name}-{model}, provider: {provider}, model: {model}, base_url: '{url}', \
                 api_key: '${{KEY}}'{space} }}\n"
            ));
        };
        for (name, provider) in [("first", &first), ("other", &other), ("second", &second)] {
            let (url, numbers) = (&provider.url, provider.shared.numbers);
            let space = |model: &str| format!(", space: {model}/{numbers}");
            if name == "other" {
                add(name, "openai", "wide", &format!("{url}/v1"), &space("wide"));
                continue;
            }
            for model in ["small", "embed-v4.0"] {
                add(name, "openai", model, &format!("{url}/v1"), &space(model));
            }
            add(name, "gemini", "gemini-embedding-001", url, &space("gemini-embedding-001"));
            for model in ["gpt-3.5-turbo-instruct", "omni-moderation-latest", "tts-1", "whisper-1", "gpt-image-1"] {
                add(name, "openai", model, &format!("{url}/v1"), "");
            }
            add(name, "openai", "rerank-v3.5", &format!("{url}/v1"), "");
        }
        let config = format!(
            "tiers: [{{ name: chat, provider: simulated }}]\nlane:\n  tiers:\n{tiers}retry: {{ max_attempts: 1 }}\n\
             circuit_breaker: {{ consecutive_failures: 0, max_throttle: 1ms }}\n"
        );
        let gateway = Serve::with(&config).env("KEY", "sk-of-the-operator").start();
        Self { first, second, other, gateway }
    }

    /// Runs a client twice: with the first provider well, and with it down.
    async fn drive(&self, client: impl Fn() -> Command, more: Option<&str>) {
        let run = || {
            let mut client = client();
            client.arg(self.gateway.address()).args(more).env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
            drive(client)
        };
        run().await;
        let (asked, wide) = (self.first.calls(), self.other.calls());
        assert!(asked > 0 && self.second.calls() == 0, "{asked} {}", self.second.calls());
        self.first.shared.is_down.store(true, Relaxed);
        run().await;
        // Each call went to the first one, and on to the second. Those of the other space stay there.
        let calls = [self.first.calls() - asked, self.second.calls(), self.other.calls() - wide];
        assert_eq!(calls, [asked, asked, wide]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdks_use_the_lane() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/lane.py");
    if sdk::python(script).is_some() {
        World::start().await.drive(|| sdk::python(script).unwrap(), None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn popular_python_clients_use_the_lane() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/lane_clients.py");
    let client =
        || sdk::python_with("STEADFAST_SDK_CLIENTS", script, &["cohere", "langchain_openai", "litellm", "openai"]);
    if client().is_some() {
        World::start().await.drive(|| client().unwrap(), None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_sdks_use_the_lane() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/lane.mjs");
    let client = || sdk::node_with(script, &["openai", "@google/genai", "ai", "@ai-sdk/openai"]);
    if let Some((_, folder)) = client() {
        World::start().await.drive(|| client().unwrap().0, Some(&folder)).await;
    }
}
