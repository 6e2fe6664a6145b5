//! Bodies are what they are: whatever their labels say of them, in content codings, and with halves of characters.

use std::convert::Infallible;

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Full, StreamBody};
use serde_json::{Value, json};
use steadfast::{
    BoxLlmService,
    providers::{Anthropic, Gemini, OpenAi, OpenAiResponses},
};
use steadfast_stack::{Config, Environment, Format, Stack};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::service_fn;

use super::harness::*;
use crate::limits::Settings;

/// Providers of the paths' protocols.
const PROVIDERS: [&str; 4] = PATHS;

/// A provider's answer.
#[derive(Clone, Default)]
struct Told {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// The bytes of a piece; 0 for one piece.
    piece: usize,
}

impl Told {
    fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = match content_type {
            "" => Vec::new(),
            content_type => vec![("content-type", content_type.to_owned())],
        };
        Self { status, headers, body: body.into(), piece: 0 }
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn in_pieces_of(mut self, piece: usize) -> Self {
        self.piece = piece;
        self
    }

    /// Returns the provider of a path's protocol that answers so, without layers.
    async fn by(self, provider: &str) -> Server {
        let transport = service_fn(move |_: Request<Full<Bytes>>| {
            let told = self.clone();
            async move {
                let mut answer = Response::builder().status(told.status);
                for (name, value) in &told.headers {
                    answer = answer.header(*name, value);
                }
                let piece = if told.piece == 0 { told.body.len().max(1) } else { told.piece };
                let pieces: Vec<_> = told.body.chunks(piece).map(Bytes::copy_from_slice).collect();
                let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(http_body::Frame::data(piece)));
                Ok::<_, Infallible>(answer.body(StreamBody::new(futures_util::stream::iter(frames))).unwrap())
            }
        });
        let service = match provider {
            MESSAGES => BoxLlmService::new(Anthropic::new("sk-1234567890").model("m").transport(transport)),
            CHAT => BoxLlmService::new(OpenAi::new("sk-1234567890").model("m").transport(transport)),
            RESPONSES => BoxLlmService::new(OpenAiResponses::new("sk-1234567890").model("m").transport(transport)),
            _ => BoxLlmService::new(Gemini::new("sk-1234567890").model("m").transport(transport)),
        };
        Server::start(service, Settings::default()).await
    }
}

/// A whole answer with these words, as JSON has them between quotes.
fn whole(provider: &str, words: &str) -> String {
    match provider {
        MESSAGES => format!(
            r#"{{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{{"type":"text","text":"{words}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":1,"output_tokens":2}}}}"#
        ),
        CHAT => format!(
            r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{words}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}}}"#
        ),
        RESPONSES => response("completed", &format!("[{}]", item("completed", &format!("[{}]", output(words))))),
        _ => format!(
            r#"{{"candidates":[{{"content":{{"role":"model","parts":[{{"text":"{words}"}}]}},"finishReason":"STOP","index":0}}],"usageMetadata":{{"promptTokenCount":1,"candidatesTokenCount":2,"totalTokenCount":3}},"modelVersion":"m"}}"#
        ),
    }
}

fn response(status: &str, output: &str) -> String {
    format!(
        r#"{{"id":"resp_1","object":"response","created_at":1,"status":"{status}","model":"m","output":{output},"usage":{{"input_tokens":1,"output_tokens":2,"total_tokens":3}}}}"#
    )
}

fn item(status: &str, content: &str) -> String {
    format!(r#"{{"id":"msg_1","type":"message","role":"assistant","status":"{status}","content":{content}}}"#)
}

fn output(words: &str) -> String {
    format!(r#"{{"type":"output_text","text":"{words}","annotations":[]}}"#)
}

/// A streamed answer with these words, an event each.
fn events(provider: &str, words: &[&str]) -> String {
    let named = |(name, data): (&str, String)| format!("event: {name}\ndata: {data}\n\n");
    let deltas = |event: &dyn Fn(&str) -> String| words.iter().map(|words| event(words)).collect::<String>();
    match provider {
        MESSAGES => {
            let start = named(("message_start", r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":1,"output_tokens":1}}}"#.to_owned()))
                + &named(("content_block_start", r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#.to_owned()));
            let delta = |words: &str| {
                named((
                    "content_block_delta",
                    format!(
                        r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{words}"}}}}"#
                    ),
                ))
            };
            let end = named(("content_block_stop", r#"{"type":"content_block_stop","index":0}"#.to_owned()))
                + &named(("message_delta", r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}"#.to_owned()))
                + &named(("message_stop", r#"{"type":"message_stop"}"#.to_owned()));
            start + &deltas(&delta) + &end
        }
        CHAT => {
            let chunk = |delta: String, finish: &str| {
                format!(
                    r#"data: {{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}"#
                ) + "\n\n"
            };
            let delta = |words: &str| chunk(format!(r#"{{"content":"{words}"}}"#), "null");
            chunk(r#"{"role":"assistant","content":""}"#.to_owned(), "null")
                + &deltas(&delta)
                + &chunk("{}".to_owned(), r#""stop""#)
                + "data: [DONE]\n\n"
        }
        RESPONSES => {
            let delta = |words: &str| {
                named((
                    "response.output_text.delta",
                    format!(
                        r#"{{"type":"response.output_text.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"{words}"}}"#
                    ),
                ))
            };
            let begun = item("in_progress", "[]");
            let done = item("completed", &format!("[{}]", output(&words.concat())));
            [
                (
                    "response.created",
                    format!(r#"{{"type":"response.created","response":{}}}"#, response("in_progress", "[]")),
                ),
                (
                    "response.output_item.added",
                    format!(r#"{{"type":"response.output_item.added","output_index":0,"item":{begun}}}"#),
                ),
            ]
            .map(named)
            .concat()
                + &deltas(&delta)
                + &[
                    (
                        "response.output_item.done",
                        format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{done}}}"#),
                    ),
                    (
                        "response.completed",
                        format!(
                            r#"{{"type":"response.completed","response":{}}}"#,
                            response("completed", &format!("[{done}]"))
                        ),
                    ),
                ]
                .map(named)
                .concat()
        }
        _ => {
            let chunk = |words: &str, finish: &str| {
                format!(
                    r#"data: {{"candidates":[{{"content":{{"role":"model","parts":[{{"text":"{words}"}}]}},"index":0{finish}}}],"modelVersion":"m"}}"#
                ) + "\r\n\r\n"
            };
            let (last, before) = words.split_last().unwrap();
            before.iter().map(|words| chunk(words, "")).collect::<String>() + &chunk(last, r#","finishReason":"STOP""#)
        }
    }
}

/// Asks as a caller of this path.
async fn ask(server: &Server, caller: &str, stream: bool) -> Answer {
    server.post(caller, &[], &hello(stream)).await
}

/// Checks that an answer of the caller's form has these words.
fn check(answer: &Answer, stream: bool, words: &str, of: &str) {
    assert_eq!(answer.status, 200, "{of}: {}", answer.body);
    // A provider's own bytes keep the lines in front of them.
    let answer = &Answer { body: answer.body.trim_start().to_owned(), ..answer.clone() };
    assert_eq!(answer.text(), words, "{of}: {}", answer.body);
    assert_eq!(answer.body.starts_with('{'), !stream, "{of}: {}", answer.body);
    assert!(!stream || answer.is_whole(), "{of}: {}", answer.body);
}

#[tokio::test]
async fn an_answer_is_read_by_what_it_is_and_not_by_its_label() {
    const LABELS: [&str; 8] = [
        "application/json",
        "text/event-stream",
        "text/event-stream; charset=utf-8",
        "text/plain",
        "text/html",
        "application/octet-stream",
        "application/x-ndjson",
        "",
    ];
    for provider in PROVIDERS {
        let bodies = [
            ("JSON", whole(provider, "hi there")),
            ("JSON behind a mark", format!("\u{feff}{}", whole(provider, "hi there"))),
            ("JSON behind blank lines", format!("\n\n \r\n{}", whole(provider, "hi there"))),
            ("events", events(provider, &["hi", " there"])),
            ("events behind a mark", format!("\u{feff}{}", events(provider, &["hi", " there"]))),
            ("events behind a comment", format!(": processing\n\n{}", events(provider, &["hi", " there"]))),
            ("events behind blank lines", format!("\n\n{}", events(provider, &["hi", " there"]))),
            ("events with an id", format!("id: 1\nretry: 5\n{}", events(provider, &["hi", " there"]))),
        ];
        for (what, body) in &bodies {
            for label in LABELS {
                for piece in [0, 1] {
                    let server = Told::new(200, label, body.as_str()).in_pieces_of(piece).by(provider).await;
                    for caller in PATHS {
                        for stream in [false, true] {
                            let of = format!("{provider} {what} as {label:?} in {piece} for {caller}, stream {stream}");
                            check(&ask(&server, caller, stream).await, stream, "hi there", &of);
                        }
                    }
                }
            }
        }
    }
}

async fn packed(coding: &str, text: &[u8]) -> Vec<u8> {
    macro_rules! with {
        ($encoder:ident) => {{
            let mut encoder = $encoder::new(Vec::new());
            encoder.write_all(text).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder.into_inner()
        }};
    }
    match coding {
        "gzip" | "x-gzip" | "GZIP" => with!(GzipEncoder),
        "deflate" => with!(ZlibEncoder),
        "br" => with!(BrotliEncoder),
        "zstd" => with!(ZstdEncoder),
        "identity" => text.to_vec(),
        other => panic!("{other}"),
    }
}

/// Packs a text in each coding of a list.
pub(super) async fn packed_in(list: &str, text: &[u8]) -> Vec<u8> {
    let mut packing = text.to_vec();
    for coding in list.split(", ") {
        packing = packed(coding, &packing).await;
    }
    packing
}

const CODINGS: [&str; 7] = ["gzip", "x-gzip", "zstd", "br", "deflate", "identity", "gzip, zstd"];

#[tokio::test]
async fn an_answer_in_a_coding_that_nobody_asked_for_is_opened() {
    for provider in PROVIDERS {
        for coding in CODINGS {
            for (label, body) in [
                ("application/json", whole(provider, "hi there")),
                ("text/event-stream", events(provider, &["hi", " there"])),
            ] {
                let body = packed_in(coding, body.as_bytes()).await;
                for piece in [0, 3] {
                    let told = Told::new(200, label, body.as_slice()).header("content-encoding", coding);
                    let server = told.in_pieces_of(piece).by(provider).await;
                    for caller in PATHS {
                        for stream in [false, true] {
                            let answer = ask(&server, caller, stream).await;
                            check(&answer, stream, "hi there", &format!("{provider} {coding} {label} for {caller}"));
                            assert_eq!(answer.header("content-encoding"), None);
                        }
                    }
                }
            }
            let refusal = json!({"error": {"message": "slow down, please", "type": "rate_limit_error", "code": 429, "status": "RESOURCE_EXHAUSTED"}, "type": "error"});
            let body = packed_in(coding, refusal.to_string().as_bytes()).await;
            let server = Told::new(429, "application/json", body).header("content-encoding", coding).by(provider).await;
            for caller in PATHS {
                let answer = ask(&server, caller, false).await;
                assert_eq!(answer.status, 429, "{provider} {coding} for {caller}: {}", answer.body);
                assert!(answer.body.contains("slow down, please"), "{provider} {coding} for {caller}: {}", answer.body);
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_does_not_open_is_a_502_in_our_words() {
    for (coding, body) in [("gzip", &b"\x1f\x8b\x08 no gzip"[..]), ("zstd", b"\xff\xff"), ("compress", b"{}")] {
        for provider in PROVIDERS {
            let server = Told::new(200, "application/json", body).header("content-encoding", coding).by(provider).await;
            for caller in PATHS {
                let answer = ask(&server, caller, false).await;
                assert!((500..=504).contains(&answer.status), "{provider} {coding} for {caller}: {}", answer.body);
                assert!(
                    answer.json()["error"]["message"].is_string(),
                    "{provider} {coding} for {caller}: {}",
                    answer.body
                );
            }
        }
    }
}

/// Starts a server that answers every request with these bytes, and returns its address.
async fn serving(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.windows(4).any(|four| four == b"\r\n\r\n") {
                assert!(stream.read_buf(&mut asked).await.unwrap() > 0);
            }
            stream.write_all(&answer).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn an_object_in_a_coding_that_nobody_asked_for_is_opened() {
    let text = json!({"id": "file-1", "object": "file", "filename": "a.jsonl"}).to_string();
    for coding in CODINGS {
        for kind in ["application/json", "application/octet-stream"] {
            let body = packed_in(coding, text.as_bytes()).await;
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-encoding: {coding}\r\ncontent-length: {length}\r\n\
                 connection: close\r\n\r\n"
            );
            let address = serving([head.as_bytes(), &body].concat()).await;
            let file = format!("tiers: [{{ name: a, provider: openai, model: m, base_url: '{address}' }}]\n");
            let environment: Environment = [("OPENAI_API_KEY", "sk-of-the-gateway")].into_iter().collect();
            let config = Config::from_str(&file, Format::Yaml).unwrap();
            let stack = Stack::builder().environment(environment).build(config).unwrap();
            let server = Server::with_stack(&stack, None, Settings::default()).await;
            for path in ["/v1/files/file-1", "/v1/files/file-1/content"] {
                let answer = server.get(path, &[]).await;
                assert_eq!((answer.status, &*answer.body), (200, &*text), "{path} {kind} {coding}");
                assert_eq!(answer.header("content-encoding"), None, "{path} {kind} {coding}");
            }
        }
    }
}

#[tokio::test]
async fn halves_of_characters_in_an_answer_are_joined_or_replaced() {
    for (pieces, expected) in [
        (&[r"a\ud83d", r"\ude00b"][..], "a\u{1f600}b"),
        (&[r"\uD83D", r"\uDE00"], "\u{1f600}"),
        (&[r"\ud83d", r"\ude00\ud83d", r"\ude01"], "\u{1f600}\u{1f601}"),
        (&[r"a\ud83d"], "a\u{fffd}"),
        (&[r"a\ud83d", "b"], "a\u{fffd}b"),
        (&["a", r"\ude00b"], "a\u{fffd}b"),
        (&[r"\ud83d!", r"\ude00"], "\u{fffd}!\u{fffd}"),
        (&[r"\ud83d\ude00", r"\\ud83d"], "\u{1f600}\\ud83d"),
    ] {
        for provider in PROVIDERS {
            for caller in PATHS {
                for stream in [false, true] {
                    let of = format!("{provider} {pieces:?} for {caller}, stream {stream}");
                    let server = Told::new(200, "text/event-stream", events(provider, pieces)).by(provider).await;
                    check(&ask(&server, caller, stream).await, stream, expected, &of);
                }
            }
        }
    }
    let alone = [(r"a\ud83d", "a\u{fffd}"), (r"\ude00", "\u{fffd}"), (r"\ud83d\ude00\ud83d x", "\u{1f600}\u{fffd} x")];
    for (words, expected) in alone {
        for provider in PROVIDERS {
            let server = Told::new(200, "application/json", whole(provider, words)).by(provider).await;
            for caller in PATHS {
                for stream in [false, true] {
                    let of = format!("{provider} {words} for {caller}, stream {stream}");
                    check(&ask(&server, caller, stream).await, stream, expected, &of);
                }
            }
        }
    }
}

#[tokio::test]
async fn halves_of_characters_in_a_request_are_replaced_where_it_is_translated() {
    for provider in PROVIDERS {
        let server = Told::new(200, "application/json", whole(provider, "hi")).by(provider).await;
        for caller in PATHS {
            let mut asked = hello(false);
            asked["messages"][0]["content"] = json!("HALF");
            let text = spelled(caller, &asked).to_string().replace("HALF", r"half \ud83d of \ude00 it");
            let mut client = server.connect().await;
            let path = addressed(caller, &asked);
            client.send(&request("POST", &path, &typed(caller, &[]), text.as_bytes())).await;
            check(&client.answer().await, false, "hi", &format!("{provider} for {caller}"));
        }
    }
}

#[tokio::test]
async fn a_200_that_is_no_answer_is_told_in_our_words() {
    for provider in PROVIDERS {
        let bodies = [
            r#"{"detail":"Not Found"}"#,
            r#"{"ok":true}"#,
            r#"{"message":"hello"}"#,
            r#"{"status":"ok","data":{"id":1}}"#,
            "null",
            "[]",
            "[1]",
            "\"words\"",
            "true",
        ];
        let bodies = bodies.into_iter().map(str::to_owned);
        let others = PROVIDERS.into_iter().filter(|other| *other != provider);
        let bodies = bodies.chain(others.map(|other| whole(other, "secret words")));
        for body in bodies {
            for label in ["application/json", "text/event-stream"] {
                let server = Told::new(200, label, body.as_str()).by(provider).await;
                for caller in PATHS {
                    for stream in [false, true] {
                        let answer = ask(&server, caller, stream).await;
                        let of = format!(
                            "{provider} {body} as {label} for {caller}, stream {stream}: {} {}",
                            answer.status, answer.body
                        );
                        assert!((500..=504).contains(&answer.status), "{of}");
                        let error = &answer.json()["error"];
                        assert!(error["message"].as_str().is_some_and(|words| !words.is_empty()), "{of}");
                        assert!(!answer.body.contains("Not Found") && !answer.body.contains("secret words"), "{of}");
                        assert_ne!(Value::from(answer.body.as_str()), Value::from(body.as_str()), "{of}");
                    }
                }
            }
        }
    }
}
