//! The memory of whole answers, in every path that holds one.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use steadfast_stack::{Config, Environment, Format, Stack};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, sleep, timeout},
};
use tower::{ServiceExt, service_fn};

use super::harness::*;
use crate::{
    Gateway,
    api::{Catalog, GatewayState},
    limits::{Settings, answers::AnswerSpace},
};

/// The memory of these gateways: answers have 3.5 MiB of it, of which each byte counts twice.
const MEMORY: u64 = 8 << 20;
/// The length of an answer's text.
const TEXT: usize = 1 << 20;

/// The form of a provider's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Its length is in the head.
    Long,
    /// In pieces, without one.
    Pieces,
    /// As a stream of events, which nobody asked for.
    Events,
}

/// Returns the type of an answer of this length, and the answer.
fn answer_of(provider: &str, form: Form) -> (&'static str, String) {
    let text = "x".repeat(TEXT);
    if form == Form::Events {
        let event = |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
        let body = match provider {
            "anthropic" => [
                json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}),
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}),
                json!({"type": "message_stop"}),
            ]
            .map(event)
            .concat(),
            "gemini" => format!("data: {}\n\n", gemini(&text)),
            _ => {
                let chunk = json!({"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]});
                format!("data: {chunk}\n\ndata: [DONE]\n\n")
            }
        };
        return ("text/event-stream", body);
    }
    let body = match provider {
        "anthropic" => {
            json!({"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}})
        }
        "gemini" => gemini(&text),
        "responses" => {
            json!({"id": "r", "object": "response", "status": "completed", "model": "m", "output": [{"type": "message", "id": "i", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": text, "annotations": []}]}]})
        }
        "embeddings" => {
            json!({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [1, 2, 3]}], "more": text})
        }
        "list" => json!({"object": "list", "data": [{"id": "file-1", "text": text}], "has_more": false}),
        _ => {
            json!({"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
        }
    };
    ("application/json", body.to_string())
}

fn gemini(text: &str) -> Value {
    json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP"}]})
}

/// A gateway of this file, whose provider gives that answer.
fn gateway(config: &str, provider: &'static str, form: Form) -> Arc<GatewayState> {
    let transport = service_fn(move |_: Request<Full<Bytes>>| async move {
        let (kind, body) = answer_of(provider, form);
        let body = Bytes::from(body);
        let body = match form {
            Form::Long => UnsyncBoxBody::new(Full::from(body)),
            _ => {
                let pieces: Vec<_> =
                    body.chunks(16 << 10).map(Bytes::copy_from_slice).map(Frame::data).map(Ok).collect();
                UnsyncBoxBody::new(StreamBody::new(stream::iter(pieces).then(|piece| async {
                    tokio::task::yield_now().await;
                    piece
                })))
            }
        };
        Ok::<_, Infallible>(Response::builder().header("content-type", kind).body(body).unwrap())
    });
    let keys = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"].map(|name| (name, "a-key"));
    let stack = Stack::builder().environment(keys.into_iter().collect::<Environment>()).transport(transport).seed(5);
    of_stack(&stack.build(Config::from_str(config, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))).unwrap())
}

fn of_stack(stack: &Stack) -> Arc<GatewayState> {
    let settings = Settings { memory: MEMORY, ..Settings::default() };
    GatewayState::new(stack.service(), Catalog::Stack(stack.handle()), None, settings).into()
}

async fn call(gateway: &Arc<GatewayState>, path: &str, body: &Value) -> Response<Body> {
    let (path, body) = (addressed(path, body), spelled(path, body));
    let mut request = Request::post(&*path).header("host", "gateway");
    for (name, value) in typed(&path, &[]) {
        request = request.header(name, value);
    }
    let request = request.body(Full::<Bytes>::from(body.to_string())).unwrap();
    Gateway::over(gateway.clone()).oneshot(request).await.unwrap().map(Body::new)
}

/// The paths, each with its file, its provider, its provider's form and its body.
fn paths() -> Vec<(String, &'static str, Form, &'static str, Value)> {
    let mut rows = Vec::new();
    for provider in ["anthropic", "openai", "responses", "gemini"] {
        let tier = match provider {
            "responses" => "provider: openai, api: responses".to_owned(),
            "openai" => "provider: openai, api: chat".to_owned(),
            other => format!("provider: {other}"),
        };
        for form in [Form::Long, Form::Pieces, Form::Events] {
            if provider == "responses" && form == Form::Events {
                continue;
            }
            for more in ["", "\ncache: { ttl: 1h, max_answer: 4MiB }"] {
                for path in PATHS {
                    let file = format!("tiers: [{{ name: a, {tier}, model: m }}]{more}");
                    rows.push((file, provider, form, path, hello(false)));
                }
            }
        }
    }
    let file = "tiers: [{ name: chat, provider: simulated }]\nlane: { tiers: [{ name: a, provider: openai, model: m, space: m/3, serves: [embeddings, completions, moderations, images] }] }";
    for form in [Form::Long, Form::Pieces] {
        rows.push((file.to_owned(), "embeddings", form, "/v1/embeddings", json!({"model": "m", "input": "hello"})));
        for path in ["/v1/completions", "/v1/moderations", "/v1/images/generations"] {
            rows.push((
                file.to_owned(),
                "openai",
                form,
                path,
                json!({"model": "m", "prompt": "hello", "input": "hello"}),
            ));
        }
    }
    rows
}

/// Takes all of the memory, as answers that nobody reads.
async fn taken(gateway: &Arc<GatewayState>) -> Vec<Arc<AnswerSpace>> {
    let mut all = Vec::new();
    loop {
        let space = gateway.memory.answers(None);
        match timeout(Duration::from_millis(1), space.grow(64 << 10)).await {
            Ok(Ok(())) => all.push(space),
            _ => return all,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_counts_until_its_caller_has_it_in_every_path() {
    for (file, provider, form, path, body) in paths() {
        let gateway = gateway(&file, provider, form);
        // The second one may be a kept one.
        for turn in 0..2 {
            let what = format!("{provider} {form:?} {path} {turn} {file}");
            let answer = call(&gateway, path, &body).await;
            assert_eq!(answer.status(), 200, "{what}");
            assert!(gateway.memory.used() >= TEXT, "{what}: {} are counted", gateway.memory.used());
            assert!(gateway.memory.used() <= 2 * TEXT + (512 << 10), "{what}: {} are counted", gateway.memory.used());
            let mut body = answer.into_body();
            let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
            drop(body);
            assert!(gateway.memory.used() >= TEXT, "{what}: the connection still writes it");
            drop(first);
            assert_eq!(gateway.memory.used(), 0, "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_its_memory_and_is_refused_with_a_reason_where_there_is_none() {
    for (file, provider, form, path, body) in paths() {
        let gateway = gateway(&file, provider, form);
        let all = taken(&gateway).await;
        let (begun, what) = (Instant::now(), format!("{provider} {form:?} {path} {file}"));
        let answer = call(&gateway, path, &body).await;
        assert_eq!((answer.status().as_u16(), begun.elapsed().as_secs_f32().round()), (503, 30.0), "{what}");
        assert!(answer.headers().contains_key("retry-after"), "{what}");
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        let error: Value = serde_json::from_slice(&text).unwrap();
        assert!(error["error"]["message"].as_str().unwrap().contains("gateway.memory"), "{what}: {error}");
        let counted = gateway.refusals.metrics(0);
        assert!(counted.contains("{reason=\"memory\",scope=\"gateway\"} 1\n"), "{what}: {counted}");

        let (waiting, freed) = (call(&gateway, path, &body), async {
            sleep(Duration::from_secs(5)).await;
            drop(all);
        });
        let (answer, ()) = tokio::join!(waiting, freed);
        // The provider was not at fault before, so its circuit is closed.
        assert_eq!((answer.status().as_u16(), begun.elapsed().as_secs_f32().round()), (200, 35.0), "{what}");
        drop(answer);
        assert_eq!(gateway.memory.used(), 0, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_counts_nothing() {
    let file = "tiers: [{ name: a, provider: openai, model: m }]";
    let gateway = gateway(file, "openai", Form::Events);
    let all = taken(&gateway).await;
    let used = gateway.memory.used();
    let answer = call(&gateway, CHAT, &hello(true)).await;
    assert_eq!((answer.status().as_u16(), gateway.memory.used()), (200, used));
    assert!(answer.into_body().collect().await.unwrap().to_bytes().len() > TEXT);
    drop(all);
}

/// Lists of objects come over a socket of their own.
#[tokio::test]
async fn a_list_of_objects_counts_until_its_caller_has_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut read = [0; 4096];
            let _request = socket.read(&mut read).await;
            let (_, body) = answer_of("list", Form::Long);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _sent = socket.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await;
        }
    });
    let config = format!("tiers: [{{ name: a, provider: openai, model: m, base_url: '{url}' }}]\ntimeout: 2s");
    let environment: Environment = [("OPENAI_API_KEY", "a-key")].into_iter().collect();
    let config = Config::from_str(&config, Format::Yaml).unwrap();
    let gateway = of_stack(&Stack::builder().environment(environment).build(config).unwrap());
    for path in ["/v1/files", "/v1/threads/t/messages", "/v1/vector_stores"] {
        let request = || Request::get(path).body(Full::<Bytes>::default()).unwrap();
        let answer = Gateway::over(gateway.clone()).oneshot(request()).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert!(gateway.memory.used() >= TEXT, "{path}: {} are counted", gateway.memory.used());
        assert!(answer.into_body().collect().await.unwrap().to_bytes().len() > TEXT);
        assert_eq!(gateway.memory.used(), 0, "{path}");
    }
}

/// Sixty answers in pieces, of which none says its length, and memory for three of them.
#[tokio::test(start_paused = true)]
async fn answers_that_are_half_there_do_not_stop_each_other() {
    for key in [None, Some(Arc::default())] {
        let memory = Arc::new(crate::limits::Memory::new(256 << 20));
        let answers = (0..60).map(|number| {
            let space = memory.answers(key.as_ref());
            let memory = memory.clone();
            async move {
                for piece in 1..=15 {
                    sleep(Duration::from_millis(1 + number % 7)).await;
                    space.grow(piece << 20).await?;
                    assert!(memory.used() <= 112 << 20);
                }
                let response = Response::new(Body::from(vec![b'x'; 15 << 20]));
                let counted = space.counted(response).await?;
                // Its caller reads.
                sleep(Duration::from_millis(20)).await;
                drop(counted);
                Ok::<_, steadfast::body::OutOfMemory>(())
            }
        });
        let ended = futures_util::future::join_all(answers).await;
        assert_eq!(ended.iter().filter(|ended| ended.is_ok()).count(), 60, "{ended:?}");
        assert_eq!(memory.used(), 0);
    }
}

/// An answer in pieces of nine tenths of the memory: alone it is served, beside one that waits for it it is refused
/// at once, and after that one it is served.
#[tokio::test(start_paused = true)]
async fn an_answer_takes_what_no_other_holds_that_is_half_there() {
    let memory = Arc::new(crate::limits::Memory::new(256 << 20));
    let long = async |memory: &Arc<crate::limits::Memory>| {
        let space = memory.answers(None);
        for piece in 1..=50 {
            space.grow(piece << 20).await?;
        }
        Ok::<_, steadfast::body::OutOfMemory>(space)
    };
    drop(long(&memory).await.unwrap());
    let other = memory.answers(None);
    other.grow(8 << 20).await.unwrap();
    let begun = Instant::now();
    let refused = long(&memory).await.unwrap_err();
    assert!(refused.retry_after.is_some() && begun.elapsed() < Duration::from_secs(1), "{}", refused.message);
    drop(other);
    drop(long(&memory).await.unwrap());
    assert_eq!((memory.used(), memory.growing()), (0, 0));
}

/// Six answers of unknown length, of which the memory holds one or two: each caller that reads has its own.
#[tokio::test(start_paused = true)]
async fn more_answers_than_there_is_memory_for_are_all_served_to_callers_that_read() {
    for (file, provider, form, path, body) in paths().into_iter().filter(|row| row.2 != Form::Long) {
        let gateway = gateway(&file, provider, form);
        let calls = (0..6).map(|number| {
            let (gateway, mut body) = (&gateway, body.clone());
            body["user"] = number.to_string().into();
            async move {
                let answer = call(gateway, path, &body).await;
                let status = answer.status().as_u16();
                let text = answer.into_body().collect().await.unwrap().to_bytes();
                (status, text.len() > TEXT)
            }
        });
        let ended = futures_util::future::join_all(calls).await;
        assert_eq!(ended, [(200, true); 6], "{provider} {form:?} {path} {file}");
        assert_eq!((gateway.memory.used(), gateway.memory.growing()), (0, 0));
    }
}
