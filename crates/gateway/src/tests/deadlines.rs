//! The deadline of a whole answer, whatever the provider does meanwhile.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use steadfast_stack::{Config, Environment, Format, Stack};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tower::service_fn;

use super::{harness::*, logs::Log};
use crate::{
    Gateway,
    api::{Catalog, GatewayState},
    limits::Settings,
};

/// A provider's way of not answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Another event of content every tenth of a second.
    Events,
    /// Comments, one every tenth of a second.
    Comments,
    /// Pings of Anthropic's.
    Pings,
    /// A JSON text that goes on by a space every tenth of a second.
    Json,
    /// No head.
    Head,
    /// The beginning of an answer.
    Silence,
}

impl Cause {
    const ALL: [Self; 6] = [Self::Events, Self::Comments, Self::Pings, Self::Json, Self::Head, Self::Silence];

    /// Returns the answer of a provider: its type, its beginning, and what it repeats.
    fn answer(self, provider: &str) -> (&'static str, &'static str, &'static str) {
        let (begin, event) = match provider {
            "anthropic" => (
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"m\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n\
                 event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
                "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n",
            ),
            "gemini" => {
                ("", "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"}],\"role\":\"model\"}}]}\n\n")
            }
            "responses" => (
                "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"object\":\"response\",\"status\":\"in_progress\",\"model\":\"m\",\"output\":[]}}\n\n",
                "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"content_index\":0,\"item_id\":\"i\",\"delta\":\"x\"}\n\n",
            ),
            _ => (
                "",
                "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n",
            ),
        };
        const EVENTS: &str = "text/event-stream";
        match self {
            Self::Events => (EVENTS, begin, event),
            Self::Pings if provider == "anthropic" => (EVENTS, begin, "event: ping\ndata: {\"type\":\"ping\"}\n\n"),
            Self::Comments | Self::Pings => (EVENTS, begin, ": working\n\n"),
            Self::Json | Self::Head => ("application/json", "{\"id\":", " "),
            Self::Silence => (EVENTS, begin, ""),
        }
    }

    /// Returns the pieces of the body, which do not end.
    fn pieces(self, provider: &str) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + use<> {
        let (_, begin, again) = self.answer(provider);
        let again = stream::repeat(again).then(move |piece| async move {
            match self {
                Self::Silence => std::future::pending().await,
                _ => sleep(Duration::from_millis(100)).await,
            }
            piece
        });
        stream::iter([begin]).chain(again).map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))
    }
}

/// A gateway whose provider does that at the first tier, and answers at the second.
fn gateway(cause: Cause, provider: &'static str, config: &str) -> Gateway {
    let transport = service_fn(move |request: Request<Full<Bytes>>| async move {
        let answer = Response::builder();
        if request.uri().host() == Some("second.test") {
            let said = r#"{"choices":[{"message":{"role":"assistant","content":"in time"},"finish_reason":"stop"}],"data":[{"embedding":[1,2]}]}"#;
            let body = UnsyncBoxBody::new(Full::from(said));
            return Ok(answer.header("content-type", "application/json").body(body).unwrap());
        }
        if cause == Cause::Head {
            std::future::pending::<()>().await;
        }
        let body = UnsyncBoxBody::new(StreamBody::new(Box::pin(cause.pieces(provider))));
        Ok::<_, Infallible>(answer.header("content-type", cause.answer(provider).0).body(body).unwrap())
    });
    let keys = ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"].map(|name| (name, "a-key"));
    let stack = Stack::builder().environment(keys.into_iter().collect::<Environment>()).transport(transport).seed(5);
    let stack = stack.build(Config::from_str(config, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))).unwrap();
    Gateway::over(GatewayState::new(stack.service(), Catalog::Stack(stack.handle()), None, Settings::default()).into())
}

/// Returns the tier of a provider in a file.
fn tier(provider: &str) -> String {
    match provider {
        "responses" => "provider: openai, api: responses, model: m".to_owned(),
        "openai" => "provider: openai, api: chat, model: m".to_owned(),
        other => format!("provider: {other}, model: m"),
    }
}

/// Returns the answer and the time that it took.
async fn timed(gateway: Gateway, path: &str, headers: &[(&str, &str)], body: &Value) -> (Answer, Duration) {
    let begun = Instant::now();
    let (path, body) = (addressed(path, body), spelled(path, body));
    let answer = through(gateway, "POST", &path, &typed(&path, headers), body.to_string()).await;
    (answer, begun.elapsed())
}

const PROVIDERS: [&str; 4] = ["anthropic", "openai", "responses", "gemini"];

/// The headers of a request.
type Headers = &'static [(&'static str, &'static str)];

/// The kinds of limits: the file's for the whole, which a last tier has all of; its for a try; the caller's.
const LIMITS: [(&str, Headers, u64); 4] = [
    ("timeout: 10s", &[], 10),
    ("timeout: 60s\nretry: { max_attempts: 1 }", &[], 60),
    ("timeout: 60s\nretry: { max_attempts: 1, retry_timeouts: true }", &[], 30),
    ("timeout: 10s", &[("x-steadfast-deadline-ms", "3000")], 3),
];

#[tokio::test(start_paused = true)]
async fn a_whole_answer_ends_at_its_deadline_whatever_its_provider_does() {
    for (provider, cause) in PROVIDERS.into_iter().flat_map(|provider| Cause::ALL.map(|cause| (provider, cause))) {
        for (file, headers, limit) in LIMITS {
            let config = format!("tiers: [{{ name: a, {} }}]\n{file}", tier(provider));
            for path in PATHS {
                let (answer, took) = timed(gateway(cause, provider, &config), path, headers, &hello(false)).await;
                let what = format!("{provider} {cause:?} {file} {path}: {} {}", answer.status, answer.body);
                assert_eq!(answer.status, 504, "{what}");
                let limit = Duration::from_secs(limit);
                assert!((limit..limit + Duration::from_millis(500)).contains(&took), "{took:?}: {what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_tier_has_its_turn_after_a_try_that_does_not_end() {
    for (provider, cause) in PROVIDERS.into_iter().flat_map(|provider| Cause::ALL.map(|cause| (provider, cause))) {
        let config = format!(
            "tiers:\n  - {{ name: a, {}, timeout: {{ attempt: 4s }} }}\n  - {{ name: b, provider: openai, model: n, \
             base_url: 'https://second.test/v1' }}\n",
            tier(provider)
        );
        for path in PATHS {
            let (answer, took) = timed(gateway(cause, provider, &config), path, &[], &hello(false)).await;
            let what = format!("{provider} {cause:?} {path}: {} {}", answer.status, answer.body);
            assert_eq!((answer.status, answer.header("x-steadfast-tier")), (200, Some("b")), "{what}");
            assert!(answer.body.contains("in time"), "{what}");
            assert!((4..6).contains(&took.as_secs()), "{took:?}: {what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_of_the_lane_ends_at_its_deadline_too() {
    let config = |file: &str| {
        format!(
            "tiers: [{{ name: chat, provider: simulated }}]\nlane: {{ tiers: [{{ name: a, provider: openai, model: m, space: m/3, serves: [embeddings, completions, moderations, images] }}] }}\n{file}"
        )
    };
    let bodies = [
        ("/v1/embeddings", json!({"model": "m", "input": "hello"})),
        ("/v1/completions", json!({"model": "m", "prompt": "hello"})),
        ("/v1/moderations", json!({"model": "m", "input": "hello"})),
        ("/v1/images/generations", json!({"model": "m", "prompt": "hello"})),
    ];
    for (path, body) in bodies {
        for cause in Cause::ALL {
            for (file, headers, limit) in LIMITS {
                let (answer, took) = timed(gateway(cause, "openai", &config(file)), path, headers, &body).await;
                let what = format!("{cause:?} {file} {path}: {} {}", answer.status, answer.body);
                assert_eq!(answer.status, 504, "{what}");
                assert!((limit..=limit + 1).contains(&took.as_secs()), "{took:?}: {what}");
            }
        }
    }
}

/// A stream's caller sees its pieces, and so it has no end in time.
#[tokio::test(start_paused = true)]
async fn a_streams_deadline_ends_with_its_first_token() {
    let config = "tiers: [{ name: a, provider: openai, model: m }]\ntimeout: 10s";
    let service = gateway(Cause::Events, "openai", config);
    let request = Request::post(CHAT).header("content-type", "application/json");
    let request = request.body(Full::<Bytes>::from(hello(true).to_string())).unwrap();
    let mut body = tower::ServiceExt::oneshot(service, request).await.unwrap().into_body();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(100) {
        let frame = http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
        assert!(frame.into_data().unwrap().windows(7).all(|word| word != b"timeout"));
    }
}

/// A provider of objects that answers in pieces over a socket.
async fn trickling_server(head: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut read = [0; 4096];
                let _request = socket.read(&mut read).await;
                let begin =
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{\"data\":[";
                let mut rest = if head { begin.as_bytes() } else { b"" };
                if !head {
                    let _sent = socket.write_all(begin.as_bytes()).await;
                }
                loop {
                    let (piece, later) = if rest.is_empty() { (&b" "[..], rest) } else { rest.split_at(1) };
                    rest = later;
                    if socket.write_all(piece).await.is_err() {
                        return;
                    }
                    sleep(Duration::from_millis(500)).await;
                }
            });
        }
    });
    url
}

#[tokio::test(start_paused = true)]
async fn a_request_for_objects_ends_at_its_deadline_too() {
    for head in [true, false] {
        for (file, headers, limit) in [LIMITS[0], LIMITS[3]] {
            for (method, path) in [("GET", "/v1/files"), ("GET", "/v1/threads/t/messages"), ("POST", "/v1/assistants")]
            {
                let config = format!(
                    "tiers: [{{ name: a, provider: openai, model: m, base_url: '{}' }}]\n{file}",
                    trickling_server(head).await
                );
                let environment: Environment = [("OPENAI_API_KEY", "a-key")].into_iter().collect();
                let config = Config::from_str(&config, Format::Yaml).unwrap();
                let stack = Stack::builder().environment(environment).build(config).unwrap();
                let state =
                    GatewayState::new(stack.service(), Catalog::Stack(stack.handle()), None, Settings::default());
                let begun = Instant::now();
                let headers = typed(path, headers);
                let answer = through(Gateway::over(state.into()), method, path, &headers, "{}".to_owned()).await;
                let (took, what) = (begun.elapsed(), format!("{method} {path} {file}: {}", answer.body));
                assert_eq!(answer.status, 504, "{what}");
                assert!((limit..=limit + 1).contains(&took.as_secs()), "{took:?}: {what}");
            }
        }
    }
}

/// A caller's own time, under each of its names, on each kind of path: it ends there, and that is nobody's failure.
#[tokio::test(start_paused = true)]
async fn a_callers_own_time_is_told_as_its_own_on_every_path_under_each_name() {
    let names = [
        ("x-steadfast-deadline-ms", "3000"),
        ("x-steadfast-timeout-ms", "3000"),
        ("x-portkey-request-timeout", "3000"),
        ("cf-aig-request-timeout", "3000"),
        ("x-litellm-timeout", "3"),
        ("x-server-timeout", "3"),
    ];
    let log = Log::default();
    let writer = log.clone();
    let _here = log_to(tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish());
    let provider = trickling_server(true).await;
    let mut calls: Vec<(&str, &str, Value)> = PATHS.map(|path| ("POST", path, hello(false))).to_vec();
    calls.push(("POST", "/v1/embeddings", json!({"model": "e", "input": "hello"})));
    calls.extend([("GET", "/v1/files", Value::Null), ("POST", "/v1/assistants", json!({"model": "m"}))]);
    for (place, header) in names.into_iter().enumerate() {
        let tier = |name: &str| format!("{{ name: {name}, provider: openai, model: {name}, base_url: '{provider}' }}");
        let lane = tier("e").replace(" }", ", space: e/3 }");
        let config = format!("tiers: [{}]\nlane: {{ tiers: [{lane}] }}\ntimeout: 10s", tier("m"));
        let environment: Environment = [("OPENAI_API_KEY", "a-key")].into_iter().collect();
        let config = Config::from_str(&config, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
        let stack = Stack::builder().environment(environment).build(config).unwrap();
        let state = GatewayState::new(stack.service(), Catalog::Stack(stack.handle()), None, Settings::default());
        let state = std::sync::Arc::new(state);
        for (number, (method, path, body)) in calls.iter().enumerate() {
            let what = format!("{} {path}", header.0);
            let to = || Gateway::over(state.clone());
            let (address, body) = (addressed(path, body), spelled(path, body));
            let begun = Instant::now();
            let answer = through(to(), method, &address, &typed(&address, &[header]), body.to_string()).await;
            assert_eq!((answer.status, begun.elapsed().as_secs()), (504, 3), "{what}: {}", answer.body);
            let id = answer.header("x-steadfast-request-id").unwrap_or_else(|| panic!("{what}: no id")).to_owned();
            let record = through(to(), "GET", &format!("/requests/{id}"), &[], String::new()).await.json();
            let told = (&record["failure"], &record["refusal"]["reason"], &record["refusal"]["scope"]);
            assert_eq!(told, (&json!("deadline"), &json!("deadline"), &json!("caller")), "{what}: {record}");
            let series = format!("steadfast_refusals_total{{reason=\"deadline\",scope=\"caller\"}} {}", number + 1);
            assert!(state.counters().lines().any(|line| line == series), "{what}: {}", state.counters());
        }
        let said = log.said();
        assert!(!said.contains("request failed"), "{said}");
        let lines = said.lines().filter(|line| line.contains("reason=\"deadline\" scope=\"caller\""));
        // Seven requests of three seconds each.
        assert_eq!(lines.count(), (place + 1) * 2, "one in ten seconds: {said}");
    }
}

/// Two accounts for paths that are no conversation.
const LANE: &str = "
tiers: [{ name: chat, provider: simulated }]
lane:
  tiers:
    - { name: first, provider: openai, model: one, interchangeable: true }
    - { name: second, provider: openai, base_url: 'https://second.test/v1', model: two, interchangeable: true }
retry: { max_attempts: 1 }
";

/// A picture takes a minute or two of a healthy model, and a ranking does not.
#[tokio::test(start_paused = true)]
async fn a_first_tier_has_the_time_that_pictures_and_sound_take() {
    for (path, body, limit) in [
        ("/v1/images/generations", json!({"model": "one", "prompt": "a cat"}), 300),
        ("/v1/audio/speech", json!({"model": "one", "input": "hello", "voice": "alloy"}), 300),
        ("/v1/completions", json!({"model": "one", "prompt": "hello", "max_tokens": 4_000}), 112),
        ("/v1/completions", json!({"model": "one", "prompt": "hello", "max_tokens": 400}), 30),
        ("/v1/rerank", json!({"model": "one", "query": "q", "documents": ["a"]}), 30),
        ("/v1/moderations", json!({"model": "one", "input": "hello"}), 30),
    ] {
        for (long, tier) in [(limit - 2, "first"), (limit + 2, "second")] {
            let transport = service_fn(move |request: Request<Full<Bytes>>| async move {
                if request.uri().host() != Some("second.test") {
                    sleep(Duration::from_secs(long)).await;
                }
                let answer = Response::builder().header("content-type", "application/json");
                Ok::<_, Infallible>(answer.body(Full::from("{}")).unwrap())
            });
            let key = [("OPENAI_API_KEY", "a-key")].into_iter().collect::<Environment>();
            let stack = Stack::builder().environment(key).transport(transport).seed(5);
            let stack = stack.build(Config::from_str(LANE, Format::Yaml).unwrap()).unwrap();
            let state = GatewayState::new(stack.service(), Catalog::Stack(stack.handle()), None, Settings::default());
            let (answer, took) = timed(Gateway::over(state.into()), path, &[], &body).await;
            let what = format!("{path} {body} after {long} s: {took:?} {}", answer.body);
            assert_eq!((answer.status, answer.header("x-steadfast-tier")), (200, Some(tier)), "{what}");
            assert_eq!(took.as_secs(), long.min(limit), "{what}");
        }
    }
}
