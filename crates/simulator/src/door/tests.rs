//! The doors in process: addresses, credentials, faults, and what the real ones accepted.

use std::{fs, path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use steadfast::providers::simulated::{Fault, Simulated};
use tower::ServiceExt;

use super::*;
use crate::{InProcess, event_stream::crc32};

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    /// True if the body ended as HTTP requires.
    whole: bool,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn provider() -> Simulated {
    Simulated::new("sonnet").reply("Hello from afar").latency(Duration::ZERO)
}

async fn send(door: &InProcess, request: Request<Full<Bytes>>) -> Reply {
    let response = door.clone().oneshot(request).await.unwrap();
    let (parts, mut body) = response.into_parts();
    let (mut bytes, mut whole) = (Vec::new(), true);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend(frame.into_data().unwrap_or_default()),
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    Reply { status: parts.status, headers: parts.headers, body: bytes, whole }
}

fn post(url: &str, body: &Value) -> Request<Full<Bytes>> {
    Request::post(url)
        .header("authorization", "Bearer good")
        .header("anthropic-version", "2023-06-01")
        .body(Full::from(body.to_string()))
        .unwrap()
}

const CLAUDE: &str = "us.anthropic.claude-haiku-4-5-20251001-v1%3A0";

/// Every door: an address for a whole answer and one for a stream, and a body.
fn doors() -> Vec<(&'static str, String, String, Value, Value)> {
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    let runtime = "https://bedrock-runtime.us-east-1.amazonaws.com";
    let mantle = "https://bedrock-mantle.us-east-1.api.aws";
    let vertex = "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers";
    let regional = "https://europe-west1-aiplatform.googleapis.com/v1/projects/p/locations/europe-west1/publishers";
    let both = |name, url: String, body: Value| {
        let mut streamed = body.clone();
        streamed["stream"] = true.into();
        (name, url.clone(), url, body, streamed)
    };
    let native = |model: &str| json!({ "model": model, "max_tokens": 9, "messages": messages });
    let chat = |model: &str| json!({ "model": model, "messages": messages });
    let input = |model: &str| json!({ "model": model, "input": "Hi" });
    let invoke = json!({ "anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": messages });
    let converse = json!({ "messages": [{ "role": "user", "content": [{ "text": "Hi" }] }] });
    let raw = json!({ "anthropic_version": "vertex-2023-10-16", "max_tokens": 9, "messages": messages });
    let mut raw_streamed = raw.clone();
    raw_streamed["stream"] = true.into();
    let gemini = json!({ "contents": [{ "role": "user", "parts": [{ "text": "Hi" }] }] });
    vec![
        both("mantle", format!("{mantle}/anthropic/v1/messages"), native("anthropic.claude-haiku-4-5")),
        both(
            "runtime",
            format!("{runtime}/anthropic/v1/messages"),
            native("us.anthropic.claude-haiku-4-5-20251001-v1:0"),
        ),
        both("mantle chat", format!("{mantle}/v1/chat/completions"), chat("openai.gpt-oss-120b")),
        both("mantle responses", format!("{mantle}/openai/v1/responses"), input("openai.gpt-oss-120b")),
        (
            "invoke",
            format!("{runtime}/model/{CLAUDE}/invoke"),
            format!("{runtime}/model/{CLAUDE}/invoke-with-response-stream"),
            invoke.clone(),
            invoke,
        ),
        (
            "converse",
            format!("{runtime}/model/{CLAUDE}/converse"),
            format!("{runtime}/model/{CLAUDE}/converse-stream"),
            converse.clone(),
            converse,
        ),
        both("azure", "https://r.openai.azure.com/openai/v1/chat/completions".into(), chat("my-gpt")),
        both(
            "azure deployment",
            "https://r.openai.azure.com/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21".into(),
            chat("my-gpt"),
        ),
        both("azure responses", "https://r.openai.azure.com/openai/v1/responses".into(), input("my-gpt")),
        both("foundry", "https://r.services.ai.azure.com/anthropic/v1/messages".into(), native("claude-haiku-4-5")),
        (
            "vertex claude",
            format!("{vertex}/anthropic/models/claude-haiku-4-5@20251001:rawPredict"),
            format!("{vertex}/anthropic/models/claude-haiku-4-5@20251001:streamRawPredict"),
            raw,
            raw_streamed,
        ),
        (
            "vertex gemini",
            format!("{regional}/google/models/gemini-2.5-flash:generateContent"),
            format!("{regional}/google/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
            gemini.clone(),
            gemini,
        ),
    ]
}

fn is_aws(name: &str) -> bool {
    ["mantle", "runtime", "invoke", "converse"].iter().any(|of| name.starts_with(of))
}

/// Reads a binary stream and checks each length and checksum: what went before a broken message, and if one was.
fn messages_in(mut bytes: &[u8]) -> (Vec<(String, String)>, bool) {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let Some(length) = number(0).map(|length| length as usize).filter(|length| *length <= bytes.len()) else {
            return (messages, true);
        };
        let head = number(4).unwrap() as usize;
        if number(8) != Some(crc32(&bytes[..8])) || number(length - 4) != Some(crc32(&bytes[..length - 4])) {
            return (messages, true);
        }
        // The first header is the type of the event or of the exception.
        let name = usize::from(bytes[12]);
        let value = &bytes[12 + 1 + name + 1..];
        let size = usize::from(u16::from_be_bytes([value[0], value[1]]));
        let kind = String::from_utf8(value[2..2 + size].to_vec()).unwrap();
        messages.push((kind, String::from_utf8(bytes[12 + head..length - 4].to_vec()).unwrap()));
        bytes = &bytes[length..];
    }
    (messages, false)
}

#[tokio::test(start_paused = true)]
async fn each_door_answers_and_streams_in_its_own_form() {
    let door = InProcess::new(provider());
    for (name, whole, streamed, body, stream_body) in doors() {
        let got = send(&door, post(&whole, &body)).await;
        assert_eq!(got.status, 200, "{name}: {}", String::from_utf8_lossy(&got.body));
        assert!(got.json().to_string().contains("Hello from afar"), "{name}");
        let got = send(&door, post(&streamed, &stream_body)).await;
        assert_eq!((got.status.as_u16(), got.whole), (200, true), "{name}");
        let is_binary = ["invoke", "converse"].contains(&name);
        let kind = if is_binary { "application/vnd.amazon.eventstream" } else { "text/event-stream; charset=utf-8" };
        assert_eq!(got.header("content-type"), kind, "{name}");
        if is_binary {
            let (messages, broken) = messages_in(&got.body);
            assert!(!broken, "{name}");
            let kinds: Vec<&str> = messages.iter().map(|(kind, _)| kind.as_str()).collect();
            let (first, last) = if name == "invoke" { ("chunk", "chunk") } else { ("messageStart", "metadata") };
            assert_eq!((kinds.first(), kinds.last()), (Some(&first), Some(&last)), "{name}");
        }
    }
}

/// The statuses of each fault, and that an error is one in the door's own form.
#[tokio::test(start_paused = true)]
async fn each_fault_happens_at_each_door() {
    let provider = provider().tokens(5..=5);
    let handle = provider.handle();
    let door = InProcess::new(provider);
    let wait = Some(Duration::from_millis(1500));
    for (name, whole, streamed, body, stream_body) in doors() {
        for (url, body) in [(&whole, &body), (&streamed, &stream_body)] {
            for (fault, statuses) in [
                (Fault::ServerError, &[500][..]),
                (Fault::Unavailable, &[503]),
                (Fault::Overloaded, &[429, 503, 529]),
                (Fault::RateLimited { retry_after: wait }, &[429]),
                (Fault::InsufficientQuota, &[400, 429]),
                (Fault::Unauthorized, &[401, 403]),
                (Fault::BadRequest, &[400]),
                (Fault::ContextLength, &[400]),
                (Fault::Status(530), &[530]),
                (Fault::ComeBackLater, &[429]),
            ] {
                handle.fail_next(1, &fault);
                let got = send(&door, post(url, body)).await;
                assert!(statuses.contains(&got.status.as_u16()), "{name} {fault}: {}", got.status);
                if matches!(fault, Fault::RateLimited { .. }) {
                    let waits = (got.header("retry-after"), got.header("retry-after-ms"));
                    let expected = match name {
                        name if name.starts_with("azure") || name == "foundry" => ("2", "1500"),
                        // Neither AWS's front nor Google's names a wait.
                        _ => ("", ""),
                    };
                    assert_eq!(waits, expected, "{name}");
                }
                if is_aws(name) && matches!(fault, Fault::RateLimited { .. } | Fault::Unauthorized) {
                    assert!(got.header("x-amzn-errortype").contains("Exception"), "{name} {fault}");
                    assert!(got.json()["message"].is_string(), "{name} {fault}");
                }
            }
        }
        for fault in [Fault::CutAfter(2), Fault::TruncatedAfter(2), Fault::NoEndMark, Fault::ErrorEventAfter(2)] {
            handle.fail_next(1, &fault);
            let got = send(&door, post(&streamed, &stream_body)).await;
            assert_eq!(got.whole, fault != Fault::CutAfter(2), "{name} {fault}");
            let (messages, broken) = match name {
                "invoke" | "converse" => messages_in(&got.body),
                _ => continue,
            };
            assert_eq!(broken, fault == Fault::CutAfter(2), "{name} {fault}");
            let last = &messages.last().unwrap().0;
            assert_eq!(last.ends_with("Exception"), fault == Fault::ErrorEventAfter(2), "{name} {fault}: {last}");
            assert_ne!(last, "metadata", "{name} {fault}");
        }
        let mut wrong_checksums = 0;
        for _ in 0..4 {
            handle.fail_next(1, &Fault::MalformedAfter(2));
            let got = send(&door, post(&streamed, &stream_body)).await;
            wrong_checksums += usize::from(messages_in(&got.body).1);
        }
        if ["invoke", "converse"].contains(&name) {
            assert_eq!(wrong_checksums, 2, "{name}: and two with a payload that is no JSON");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_door_does_not_take_is_refused() {
    let door = InProcess::new(provider().models(["my-gpt", "claude-haiku-4-5@20251001"]));
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    let vertex = |rest: &str| format!("https://aiplatform.googleapis.com/v1/projects/p/locations/{rest}");
    let claude = "publishers/anthropic/models/claude-haiku-4-5@20251001:rawPredict";
    let raw = json!({ "anthropic_version": "vertex-2023-10-16", "max_tokens": 9, "messages": messages });
    let with = |name: &str, value: Value| {
        let mut body = raw.clone();
        body[name] = value;
        body
    };
    let chat = json!({ "model": "my-gpt", "messages": messages });
    let azure = |rest: &str| format!("https://r.openai.azure.com/openai/{rest}");
    for (url, body, status, words) in [
        (vertex(&format!("global/{claude}")), with("model", "claude-haiku-4-5".into()), 400, "model: Extra inputs"),
        (
            vertex(&format!("global/{claude}")),
            with("cache_control", json!({ "type": "ephemeral" })),
            400,
            "Extra inputs",
        ),
        (
            vertex(&format!("global/{claude}")),
            with("anthropic_version", "bedrock-2023-05-31".into()),
            400,
            "not supported",
        ),
        (vertex(&format!("global/{claude}")), with("anthropic_version", Value::Null), 400, "Field required"),
        // A region has a host of its own.
        (vertex(&format!("europe-west1/{claude}")), raw.clone(), 404, "not found"),
        (vertex("global/publishers/anthropic/models/claude-x:rawPredict"), raw.clone(), 404, "does not have access"),
        (azure("deployments/other/chat/completions?api-version=2024-10-21"), chat.clone(), 404, "DeploymentNotFound"),
        (azure("deployments/my-gpt/chat/completions"), chat.clone(), 404, "Resource not found"),
        (azure("v1/chat/completions?api-version=2024-10-21"), chat, 404, "Resource not found"),
    ] {
        let got = send(&door, post(&url, &body)).await;
        let text = String::from_utf8_lossy(&got.body).into_owned();
        assert_eq!(got.status, status, "{url}: {text}");
        assert!(text.contains(words), "{url}: {text}");
    }
    let beta = |value: &'static str| {
        let mut request = post(&vertex(&format!("global/{claude}")), &raw);
        request.headers_mut().insert("anthropic-beta", HeaderValue::from_static(value));
        request
    };
    assert_eq!(send(&door, beta("interleaved-thinking-2025-05-14")).await.status, 200);
    let refused = send(&door, beta("interleaved-thinking-2025-05-14, prompt-caching-scope-2026-01-05")).await;
    assert_eq!(refused.status, 400);
}

#[tokio::test(start_paused = true)]
async fn an_account_without_a_credential_an_access_or_a_cloud_is_told_so() {
    let accounts = Accounts::new().token(Cloud::Aws, "good").token(Cloud::Azure, "good").token(Cloud::Google, "good");
    let door = InProcess::new(provider()).accounts(&accounts);
    for (name, url, _, body, _) in doors() {
        assert_eq!(send(&door, post(&url, &body)).await.status, 200, "{name}");
        let mut without = post(&url, &body);
        without.headers_mut().remove("authorization");
        let refused = if is_aws(name) { 403 } else { 401 };
        let got = send(&door, without).await;
        assert_eq!(got.status, refused, "{name}");
        if is_aws(name) {
            assert!(got.header("x-amzn-errortype").starts_with("MissingAuthenticationTokenException"), "{name}");
            assert!(got.header("date").ends_with(" GMT"), "{name}");
        }
    }
    accounts.close_model(Cloud::Google, "gemini-2.5-flash");
    let (_, url, _, body, _) = doors().pop().unwrap();
    let got = send(&door, post(&url, &body)).await;
    assert_eq!((got.status.as_u16(), &got.json()["error"]["status"]), (403, &json!("PERMISSION_DENIED")));
    let aws_only = InProcess::new(provider()).accounts(&Accounts::new().only(Cloud::Aws));
    let path = "/v1/projects/p/locations/global/publishers/google/models/gemini-2.5-flash:generateContent";
    assert_eq!(send(&aws_only, post(path, &body)).await.status, 404);
}

/// Each recorded request that a real door answered gets an answer from the simulated one.
#[tokio::test(start_paused = true)]
async fn what_the_real_doors_accepted_is_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures2");
    let door = InProcess::new(provider());
    let mut accepted = std::collections::BTreeMap::<&str, usize>::new();
    let mut refused = Vec::new();
    for kind in ["bedrock", "vertex", "azure"] {
        let Ok(files) = fs::read_dir(folder.join(kind)) else {
            eprintln!("skipped: no recordings in ../shared/fixtures2/{kind}");
            return;
        };
        for file in files {
            let exchange: Value = serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
            let request = &exchange["request"];
            let path = request["path"].as_str().unwrap_or_default();
            // Models of other makers have bodies of their own; some recorders kept no body.
            let older = request["body"]["prompt"].is_string() || path.contains("unrecorded");
            let theirs = kind == "bedrock" && !path.contains("anthropic")
                || path.contains("count")
                || path.contains("/models/chat")
                || older;
            if theirs
                || exchange["response"]["status"] != 200
                || !request["body"].is_object()
                || path.contains(":predict")
            {
                continue;
            }
            let host = match kind {
                "bedrock" => "bedrock-runtime.us-east-1.amazonaws.com",
                "azure" if path.contains("/anthropic/") => "r.services.ai.azure.com",
                "azure" => "r.openai.azure.com",
                // A location that the recorder replaced has no host.
                _ => "localhost",
            };
            // Recorders write placeholders into addresses, and leave out queries and keys.
            let mut url = format!("https://{host}{path}").replace(['<', '>', '{', '}', ' '], "x");
            if path.contains("/deployments/") && !path.contains('?') {
                url.push_str("?api-version=2024-10-21");
            }
            let mut asked = post(&url, &request["body"]);
            if !path.contains("/projects/") {
                asked.headers_mut().insert("x-goog-api-key", HeaderValue::from_static("good"));
            }
            let got = send(&door, asked).await;
            if got.status == 200 {
                *accepted.entry(kind).or_default() += 1;
            } else {
                refused.push(format!("{}: {} {}", exchange["id"], got.status, String::from_utf8_lossy(&got.body)));
            }
        }
    }
    println!("accepted: {accepted:?}, refused: {}", refused.len());
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(accepted.values().sum::<usize>() > 200, "{accepted:?}");
}
