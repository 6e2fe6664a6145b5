//! Every refusal on this side is told as what it is, in the caller's protocol and on every surface.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use steadfast::{BoxLlmService, providers::simulated::Simulated};
use steadfast_stack::{Config, Environment, Format, Stack};
use tower::service_fn;

use super::{harness::*, logs::Log};
use crate::limits::Settings;

const EMBEDDINGS: &str = "/v1/embeddings";
const FILES: &str = "/v1/files";
const COUNT: &str = "/v1/messages/count_tokens";

/// One tier and a lane. The first stands for more of the file.
const FILE: &str = "
tiers: [{ name: main, provider: simulated, model: main }]
lane: { tiers: [{ name: small, provider: openai, model: small, space: small/3 }] }
prices: { main: { input: 1000, output: 1000 }, small: { input: 1000, output: 0 } }
";

/// A cause of a refusal, and what is told of it.
struct Cause {
    reason: &'static str,
    scope: &'static str,
    status: u16,
    /// The text of the record's limit holds this.
    limit: &'static str,
    /// The end of the file, and of the entry of the key `one`.
    file: &'static str,
    key: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: usize,
    /// True if the head alone decides, on each path.
    at_door: bool,
    /// The headers of a stream that is under way already; none for no stream.
    busy: &'static [(&'static str, &'static str)],
    may_repeat: bool,
}

const ONE: (&str, &str) = ("x-api-key", "sk-one");
const TWO: (&str, &str) = ("x-api-key", "sk-two");
const ADMIN: (&str, &str) = ("x-api-key", "sk-admin");

const BASE: Cause = Cause {
    reason: "",
    scope: "key",
    status: 429,
    limit: "",
    file: "",
    key: "",
    headers: &[ONE],
    body: 1 << 20,
    at_door: true,
    busy: &[],
    may_repeat: true,
};

/// A limit of the team, which another of its keys has used up.
const OF_TEAM: Cause = Cause { scope: "team", key: ", team: search", busy: &[TWO], ..BASE };

/// A refusal that names a permission, or a key that is none.
const fn denied(reason: &'static str, status: u16, headers: &'static [(&'static str, &'static str)]) -> Cause {
    Cause { reason, status, headers, may_repeat: false, ..BASE }
}

const CAUSES: [Cause; 17] = [
    denied("key_missing", 401, &[]),
    denied("key_unknown", 401, &[("x-api-key", "sk-nobody")]),
    Cause { key: ", expires: 2020-01-01", ..denied("key_expired", 401, &[ONE]) },
    Cause {
        limit: "features: search",
        key: ", features: [search]",
        ..denied("feature", 403, &[ONE, ("x-steadfast-feature", "chat")])
    },
    Cause { limit: "models: gpt-*", key: ", models: ['gpt-*']", at_door: false, ..denied("model", 403, &[ONE]) },
    Cause {
        reason: "requests_per_minute",
        limit: "requests_per_minute: 1",
        key: ", requests_per_minute: 1",
        busy: &[ONE],
        ..BASE
    },
    Cause {
        reason: "tokens_per_minute",
        limit: "tokens_per_minute: 1",
        key: ", tokens_per_minute: 1",
        at_door: false,
        busy: &[ONE],
        ..BASE
    },
    Cause {
        reason: "concurrency",
        limit: "concurrency: 1",
        key: ", concurrency: 1",
        at_door: false,
        busy: &[ONE],
        ..BASE
    },
    Cause {
        reason: "requests_per_minute",
        limit: "gateway.teams.search.requests_per_minute: 1",
        file: "gateway: { teams: { search: { requests_per_minute: 1 } } }",
        ..OF_TEAM
    },
    Cause {
        reason: "tokens_per_minute",
        limit: "gateway.teams.search.tokens_per_minute: 1",
        file: "gateway: { teams: { search: { tokens_per_minute: 1 } } }",
        at_door: false,
        ..OF_TEAM
    },
    Cause {
        reason: "concurrency",
        limit: "gateway.teams.search.concurrency: 1",
        file: "gateway: { teams: { search: { concurrency: 1 } } }",
        at_door: false,
        ..OF_TEAM
    },
    Cause {
        reason: "concurrency",
        scope: "feature",
        status: 503,
        limit: "feature \"chat\": 1 in flight (limit 1)",
        file: "features: { chat: { concurrency: 1 } }",
        headers: &[ONE, ("x-steadfast-feature", "chat")],
        at_door: false,
        busy: &[ONE, ("x-steadfast-feature", "chat")],
        ..BASE
    },
    Cause {
        reason: "budget",
        limit: "\"key one\"",
        key: ", budget: { usd: 0, period: day }",
        at_door: false,
        may_repeat: false,
        ..BASE
    },
    Cause {
        reason: "budget",
        scope: "gateway",
        limit: "\"of all\"",
        file: "budgets: [{ name: of all, usd: 0, period: day }]",
        at_door: false,
        may_repeat: false,
        ..BASE
    },
    Cause {
        reason: "budget",
        scope: "feature",
        limit: "\"of chat\"",
        file: "budgets: [{ name: of chat, usd: 0, period: day, feature: chat }]",
        headers: &[ONE, ("x-steadfast-feature", "chat")],
        at_door: false,
        may_repeat: false,
        ..BASE
    },
    Cause {
        reason: "deadline",
        scope: "caller",
        status: 504,
        headers: &[ONE, ("x-steadfast-timeout-ms", "30")],
        at_door: false,
        ..BASE
    },
    Cause {
        reason: "body_size",
        scope: "gateway",
        status: 413,
        limit: "gateway.max_body",
        body: 10,
        at_door: false,
        may_repeat: false,
        ..BASE
    },
];

async fn served(cause: &Cause) -> (Server, Stack) {
    let slow = service_fn(async |_: Request<Full<Bytes>>| {
        tokio::time::sleep(Duration::from_secs(600)).await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    // A stream begins at once, and a request with a deadline of its own has no answer in time.
    let latency = if cause.reason == "deadline" { Duration::from_secs(600) } else { Duration::ZERO };
    let leaf = Simulated::new("main").reply("An answer").latency(latency).pace(Duration::from_secs(600));
    let environment: Environment = [("OPENAI_API_KEY", "a-key")].into_iter().collect();
    let config = Config::from_str(&format!("{FILE}{}\n", cause.file), Format::Yaml).unwrap();
    let stack = Stack::builder().environment(environment).transport(slow).leaf("main", leaf).build(config).unwrap();
    let two = entry("two", "sk-two", ", team: search");
    let keys = keys_of(&[entry("one", "sk-one", cause.key), two, entry("admin", "sk-admin", ", admin: true")]);
    let keys = keys.with_budgets_in(stack.handle()).unwrap();
    let settings = Settings { body: cause.body, ..Settings::default() };
    (Server::with_stack(&stack, Some(keys), settings).await, stack)
}

/// Each call: its path, and whether to stream.
fn calls(cause: &Cause) -> Vec<(&'static str, bool)> {
    let mut calls: Vec<_> = PATHS.into_iter().flat_map(|path| [(path, false), (path, true)]).collect();
    // A lane has no feature's cap below, but all that a key and the gateway limit.
    calls.push((EMBEDDINGS, false));
    if cause.at_door {
        calls.extend([(FILES, false), (COUNT, false)]);
    }
    calls
}

fn body(path: &str, stream: bool) -> Value {
    if path == EMBEDDINGS { json!({"model": "small", "input": ["hello"]}) } else { hello(stream) }
}

/// Returns the message of an error in the protocol of the path.
fn message(path: &str, answer: &Answer) -> String {
    let json = answer.json();
    let error = &json["error"];
    match path {
        // Both vendors have files; the headers say whose are meant.
        FILES => assert!(error["type"].is_string(), "{json}"),
        MESSAGES | COUNT => assert_eq!((&json["type"], error["type"].is_string()), (&json!("error"), true), "{json}"),
        GEMINI => assert_eq!((&error["code"], error["status"].is_string()), (&json!(answer.status), true), "{json}"),
        _ => {
            assert!(error["type"].is_string() && error.get("param").is_some() && error.get("code").is_some(), "{json}")
        }
    }
    error["message"].as_str().unwrap().to_owned()
}

/// Returns the counter of a refusal.
fn count(server: &Server, cause: &Cause) -> u64 {
    let series = format!("steadfast_refusals_total{{reason=\"{}\",scope=\"{}\"}} ", cause.reason, cause.scope);
    let text = server.gateway.counters();
    text.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or_else(|| panic!("{series}")).parse().unwrap()
}

#[tokio::test]
async fn each_refusal_is_told_as_what_it_is_on_every_surface() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _here = log_to(subscriber);
    for cause in &CAUSES {
        let (server, _stack) = served(cause).await;
        let mut client = server.connect().await;
        if !cause.busy.is_empty() {
            client.post(MESSAGES, cause.busy, &hello(true)).await;
            client.until("content_block_delta").await;
        }
        let mut refused = 0;
        for (path, stream) in calls(cause) {
            let name = format!("{} of {}, {path}, stream {stream}", cause.reason, cause.scope);
            let answer = server.post(path, cause.headers, &body(path, stream)).await;
            let status = match (path, cause.status) {
                // Anthropic's clients know 529, and Google's have one status for all mistakes in a request.
                (MESSAGES, 503) => 529,
                (GEMINI, 413) => 400,
                (_, status) => status,
            };
            assert_eq!(answer.status, status, "{name}: {}", answer.body);
            refused += 1;
            let told = message(path, &answer);
            assert!(!told.contains("sk-") && !told.contains("::"), "{name}: {told}");
            let should_retry = answer.header("x-should-retry");
            assert_eq!(should_retry, if cause.may_repeat { None } else { Some("false") }, "{name}");
            assert_eq!(answer.header("x-steadfast-attempts"), Some(sent(cause)), "{name}");
            let id = answer.header("x-steadfast-request-id").unwrap_or_else(|| panic!("{name}: no id"));
            let record = server.get(&format!("/requests/{id}"), &[ADMIN]).await.json();
            let refusal = &record["refusal"];
            assert_eq!((&record["failure"], &record["outcome"]), (&json!(cause.reason), &json!("failed")), "{name}");
            assert_eq!((&refusal["reason"], &refusal["scope"]), (&json!(cause.reason), &json!(cause.scope)), "{name}");
            let limit = refusal["limit"].as_str().unwrap_or_default();
            assert!(limit.contains(cause.limit), "{name}: {limit}");
            let key = if cause.headers.contains(&ONE) { json!("one") } else { Value::Null };
            assert_eq!(record["key"], key, "{name}");
            assert_eq!(refusal["key_hash"].is_string(), cause.reason == "key_unknown", "{name}");
            assert_eq!(count(&server, cause), refused, "{name}");
            let listed = server.get("/requests", &[ADMIN]).await.json();
            assert!(listed["requests"].as_array().unwrap().iter().any(|one| one["id"] == id), "{name}");
        }
        tokio::task::yield_now().await;
        let said = log.said();
        let line = format!("reason=\"{}\" scope=\"{}\"", cause.reason, cause.scope);
        let lines: Vec<&str> = said.lines().filter(|said| said.contains(&line)).collect();
        assert_eq!(lines.len(), 1, "one in ten seconds: {lines:?}");
        assert!(lines[0].contains("event=\"request_refused\"") && lines[0].contains("request=\"sf-"), "{lines:?}");
        assert_eq!(lines[0].contains("key=\"one\""), cause.headers.contains(&ONE), "{lines:?}");
        assert_eq!(lines[0].contains("key_hash=sha256:"), cause.reason == "key_unknown", "{lines:?}");
    }
    let said = log.said();
    assert!(!said.contains("sk-one") && !said.contains("sk-nobody") && !said.contains("hello"), "{said}");
    assert!(!said.contains("request failed"), "a refusal is no failure: {said}");
}

/// The attempts of a request that is refused. One that had its caller's time is with the provider when that ends.
fn sent(cause: &Cause) -> &'static str {
    if cause.reason == "deadline" { "1" } else { "0" }
}

#[tokio::test]
async fn a_request_that_a_provider_fails_is_no_refusal() {
    let failing = BoxLlmService::new(steadfast::provider_fn(async |_| {
        Err::<steadfast::LlmResponse, _>(steadfast::LlmError::new(steadfast::ErrorKind::Timeout, "it failed"))
    }));
    let server = Server::start(failing, Settings::default()).await;
    for path in PATHS {
        let answer = server.post(path, &[("x-steadfast-timeout-ms", "60000")], &hello(false)).await;
        let record = server.get(&format!("/requests/{}", answer.header("x-steadfast-request-id").unwrap()), &[]).await;
        assert_eq!((&record.json()["failure"], record.json().get("refusal")), (&json!("timeout"), None), "{path}");
    }
    assert!(server.gateway.counters().lines().all(|line| !line.contains("_total{") || line.ends_with(" 0")));
}

/// The shares of a key: the file, the reason, the scope, the words of the limit, and the status. A stream of each key
/// is
/// under way, of 200 tokens each.
const SHARES: [(&str, &str, &str, &str, u16); 4] = [
    (
        "features: { chat: { concurrency: 3 } }",
        "concurrency_share",
        "feature",
        "other keys want the rest of the places",
        503,
    ),
    (
        "features: { chat: { tokens_per_minute: 700 } }",
        "tokens_share",
        "feature",
        "other keys want the rest of the rate of tokens",
        503,
    ),
    (
        "budgets: [{ name: of all, usd: 0.7, period: month }]",
        "budget_share",
        "gateway",
        "other keys want the rest",
        429,
    ),
    ("budgets: [{ name: of all, usd: 0.5, period: month }]", "budget_reserved", "gateway", "is free again", 429),
];

/// Refusals for what others want or have reserved are worth another try in a second: they are no empty account.
#[tokio::test]
async fn shares_and_reservations_are_told_as_what_they_are_and_when_to_ask_again() {
    const CHAT_FEATURE: (&str, &str) = ("x-steadfast-feature", "chat");
    let long = |stream: bool| {
        json!({"model": "main", "max_tokens": 200, "stream": stream,
        "messages": [{"role": "user", "content": "hello"}]})
    };
    for (file, reason, scope, limit, status) in SHARES {
        let cause = Cause { file, reason, scope, ..BASE };
        let (server, _stack) = served(&cause).await;
        let mut under_way = Vec::new();
        for key in [ADMIN, ONE] {
            let mut client = server.connect().await;
            client.post(MESSAGES, &[key, CHAT_FEATURE], &long(true)).await;
            client.until("content_block_delta").await;
            under_way.push(client);
        }
        let mut refused = 0;
        for path in PATHS {
            for stream in [false, true] {
                let name = format!("{reason}, {path}, stream {stream}");
                let answer = server.post(path, &[ONE, CHAT_FEATURE], &long(stream)).await;
                let status = if (path, status) == (MESSAGES, 503) { 529 } else { status };
                assert_eq!(answer.status, status, "{name}: {}", answer.body);
                refused += 1;
                assert_eq!(answer.header("retry-after"), Some("1"), "{name}");
                assert_eq!(answer.header("x-should-retry"), None, "{name}");
                assert!(!answer.body.contains("insufficient_quota"), "{name}: {}", answer.body);
                assert!(!message(path, &answer).contains("sk-"), "{name}");
                let id = answer.header("x-steadfast-request-id").unwrap();
                let record = server.get(&format!("/requests/{id}"), &[ADMIN]).await.json();
                let refusal = &record["refusal"];
                assert_eq!(
                    (&refusal["reason"], &refusal["scope"]),
                    (&json!(reason), &json!(scope)),
                    "{name}: {record}"
                );
                assert!(refusal["limit"].as_str().unwrap_or_default().contains(limit), "{name}: {refusal}");
                assert_eq!(count(&server, &cause), refused, "{name}");
            }
        }
        let by_key = format!("steadfast_share_refusals_total{{key=\"one\",reason=\"{reason}\"}} 8");
        assert_eq!(server.gateway.counters().contains(&by_key), reason.ends_with("_share"), "{reason}");
    }
}
