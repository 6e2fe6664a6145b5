//! Answers given again: to whom, how it is said, and what callers and operators do about it.

use serde_json::{Value, json};
use steadfast::providers::simulated::Fault;
use steadfast_stack::{Config, Environment, Format, Stack};

use super::harness::*;
use crate::{api::Keys, limits::Settings};

/// A tier of each protocol's provider over real HTTP, with this beside them in the file.
struct Kept {
    providers: Providers,
    stack: Stack,
    server: Server,
}

impl Kept {
    async fn start(more: &str) -> Self {
        Self::with_keys(more, None).await
    }

    async fn with_keys(more: &str, keys: Option<Keys>) -> Self {
        let providers = Providers::start().await;
        let (anthropic, openai) = (providers.anthropic.base_url(), providers.openai.base_url());
        let file = format!(
            "
tiers:
  - {{ name: sonnet, provider: anthropic, model: claude-sonnet-4-5, base_url: '{anthropic}' }}
  - {{ name: kept, provider: cached, similar: {{ threshold: 0.6 }} }}
  - {{ name: gpt, provider: openai, model: gpt-4o, base_url: '{openai}/v1', level: 5 }}
models: {{ 'claude-*': {{ tiers: [sonnet, kept] }}, 'gpt-*': {{ tiers: [gpt] }} }}
retry: {{ max_attempts: 1 }}
{more}
"
        );
        let config = Config::from_str(&file, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
        let stack = Stack::builder().environment(Environment::default()).build(config).unwrap();
        let settings = Settings::of(&stack.handle().config(), None);
        let server = Server::with_stack(&stack, keys, settings).await;
        Self { providers, stack, server }
    }

    fn calls(&self) -> u64 {
        self.providers.anthropic.handle().stats().calls
    }

    async fn ask(&self, path: &str, headers: &[(&str, &str)], stream: bool, text: &str) -> Answer {
        let mut body = hello(stream);
        body["messages"][0]["content"] = text.into();
        let answer = self.server.post(path, headers, &body).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from afar"), "{path}: {answer:?}");
        assert!(!stream || answer.is_whole(), "{path}: {answer:?}");
        answer
    }

    async fn record(&self, answer: &Answer) -> Value {
        let id = answer.header("x-steadfast-request-id").unwrap();
        self.server.get(&format!("/requests/{id}"), &[]).await.json()
    }
}

/// Returns an answer's cache header, and whether it has an age.
fn said(answer: &Answer) -> (Option<&str>, bool) {
    (answer.header("x-steadfast-cache"), answer.header("age").is_some())
}

const PRIVATE: &str = "my name is Ana";

#[tokio::test]
async fn the_same_is_answered_from_memory_whole_and_streamed_in_both_protocols() {
    for path in PATHS {
        for first in [false, true] {
            let kept = Kept::start("cache: {}").await;
            let made = kept.ask(path, &[], first, PRIVATE).await;
            assert_eq!(said(&made), (Some("miss"), false), "{path}");
            let again = kept.ask(path, &[], first, PRIVATE).await;
            assert_eq!(said(&again), (Some("hit"), true), "{path}");
            assert_eq!(again.header("age"), Some("0"));
            if path == MESSAGES {
                assert_eq!(again.body, made.body, "the provider's own bytes");
            }
            // Headers about the first answer's call do not hold for this answer.
            let own =
                ["request-id", "x-request-id"].map(|name| again.header(name).is_some_and(|id| id.starts_with("sf-")));
            assert!(own.contains(&true), "{again:?}");
            let theirs =
                |name: &str| name.starts_with("anthropic-ratelimit") || name == "set-cookie" || name == "connection";
            assert!(!again.headers.keys().any(|name| theirs(name.as_str())), "{again:?}");
            let other = kept.ask(path, &[], !first, PRIVATE).await;
            assert_eq!((said(&other), kept.calls()), ((Some("hit"), true), 1), "{path}");
            assert_eq!(other.header("content-type").unwrap().starts_with("text/event-stream"), !first);
            let record = kept.record(&other).await;
            assert_eq!(record["cache"], json!({"result": "hit", "age_s": 0, "similarity": null}), "{record}");
            assert_eq!(kept.record(&made).await["cache"]["result"], "miss");
            assert_eq!(said(&kept.ask(path, &[], false, "another").await).0, Some("miss"));
        }
    }
}

#[tokio::test]
async fn where_nothing_is_kept_nothing_is_said_of_it() {
    let kept = Kept::start("cache: { ttl: 1m }\nfeatures: { code: { cache: off } }").await;
    let code = kept.ask(CHAT, &[("x-steadfast-feature", "code")], false, PRIVATE).await;
    assert_eq!(said(&code), (Some("bypass"), false));
    let providers = Providers::start().await;
    let server = Server::start(providers.both(), Settings::default()).await;
    let answer = server.post(MESSAGES, &[("cache-control", "no-store")], &hello(false)).await;
    assert_eq!((answer.status, said(&answer)), (200, (None, false)));
}

#[tokio::test]
async fn callers_ask_for_a_new_answer_in_their_own_words() {
    let kept = Kept::start("cache: {}").await;
    kept.ask(MESSAGES, &[], false, PRIVATE).await;
    let mut calls = 1;
    for header in [
        ("cache-control", "no-cache"),
        ("cache-control", "no-store"),
        ("cf-aig-skip-cache", "true"),
        ("helicone-cache-enabled", "false"),
        ("x-portkey-cache-force-refresh", "true"),
    ] {
        let anew = kept.ask(MESSAGES, &[header], false, PRIVATE).await;
        calls += 1;
        assert_eq!((said(&anew), kept.calls()), ((Some("bypass"), false), calls), "{header:?}");
        assert_eq!(said(&kept.ask(MESSAGES, &[], true, PRIVATE).await).0, Some("hit"), "{header:?}");
    }
    // The cache does not keep an answer under `no-store`.
    kept.ask(MESSAGES, &[("cache-control", "no-store")], false, "a secret").await;
    assert_eq!(said(&kept.ask(MESSAGES, &[], false, "a secret").await).0, Some("miss"));
}

/// The keys `sk-ana`, an administrator's, and `sk-bo`.
fn keys() -> Option<Keys> {
    Some(keys_of(&[entry("ana", "sk-ana", ", admin: true"), entry("bo", "sk-bo", "")]))
}

const ANA: (&str, &str) = ("authorization", "Bearer sk-ana");
const BO: (&str, &str) = ("x-api-key", "sk-bo");

#[tokio::test]
async fn one_keys_answers_are_never_anothers_unless_the_file_says_so() {
    for path in PATHS {
        let kept = Kept::with_keys("cache: {}", keys()).await;
        for (key, result) in [(ANA, "miss"), (BO, "miss"), (ANA, "hit"), (BO, "hit")] {
            assert_eq!(said(&kept.ask(path, &[key], false, PRIVATE).await).0, Some(result), "{path} {key:?}");
        }
        // The same holds in an outage, and for a similar question.
        kept.ask(path, &[ANA], false, "What is on my card?").await;
        kept.stack.handle().force_open("sonnet").unwrap();
        for question in ["What is on my card?", "What is on my card now?"] {
            let mut body = hello(false);
            body["messages"][0]["content"] = question.into();
            assert_ne!(kept.server.post(path, &[BO], &body).await.status, 200, "{path}: {question}");
            assert_eq!(kept.server.post(path, &[ANA], &body).await.status, 200, "{path}: {question}");
        }

        let shared = Kept::with_keys("cache: { across: [tenants] }", keys()).await;
        for (key, result) in [(ANA, "miss"), (BO, "hit")] {
            assert_eq!(said(&shared.ask(path, &[key], false, PRIVATE).await).0, Some(result), "{path} {key:?}");
        }
    }
}

#[tokio::test]
async fn an_old_answer_and_a_similar_questions_say_what_they_are_and_nothing_of_the_prompt() {
    for path in PATHS {
        for stream in [false, true] {
            let kept = Kept::start("cache: { ttl: 0s, stale_for: 1h }").await;
            kept.ask(path, &[], stream, "How do I reset my password?").await;
            kept.providers.anthropic.handle().fail(Fault::ServerError);
            let stale = kept.ask(path, &[], stream, "How do I reset my password?").await;
            assert_eq!(said(&stale), (Some("stale"), true), "{path}: {stale:?}");
            assert_eq!(stale.header("x-steadfast-degraded"), Some("4;reason=server"));
            assert_eq!(
                (stale.header("x-steadfast-similarity"), stale.header("x-steadfast-tier")),
                (None, Some("kept"))
            );

            let similar = kept.ask(path, &[], stream, "How can I reset my password?").await;
            assert_eq!(said(&similar), (Some("similar"), true), "{path}: {similar:?}");
            assert!(similar.header("x-steadfast-degraded").unwrap().starts_with("4;"));
            let much: f32 = similar.header("x-steadfast-similarity").unwrap().parse().unwrap();
            assert!((0.6..1.0).contains(&much), "{much}");
            let notes = similar.header("x-steadfast-notes").unwrap();
            assert!(notes.contains("similar question") && !notes.contains("password"), "{notes}");
            let record = kept.record(&similar).await;
            assert_eq!((&record["cache"]["result"], &record["degraded"]["level"]), (&"similar".into(), &4.into()));
            assert!((record["cache"]["similarity"].as_f64().unwrap() as f32 - much).abs() < 0.01, "{record}");
        }
    }
}

#[tokio::test]
async fn a_degraded_answer_says_so_in_its_body_too_where_the_file_asks_for_it() {
    for marks in [false, true] {
        for (path, stream) in PATHS.into_iter().flat_map(|path| [(path, false), (path, true)]) {
            let file = format!("cache: {{ ttl: 0s, stale_for: 1h }}\ngateway: {{ mark_degraded: {marks} }}");
            let kept = Kept::start(&file).await;
            // The answer's own object, or that of a stream's first event.
            let mark = |answer: &Answer| {
                let body = answer.body.as_str();
                let object = match stream {
                    true => body.lines().find_map(|line| line.strip_prefix("data:")).unwrap(),
                    false => body,
                };
                serde_json::from_str::<Value>(object).unwrap()["steadfast"].clone()
            };
            let full = kept.ask(path, &[], stream, "hello").await;
            assert_eq!(mark(&full), Value::Null, "it is what was asked for");
            kept.providers.anthropic.handle().fail(Fault::ServerError);
            let stale = kept.ask(path, &[], stream, "hello").await;
            // A whole answer that the gateway puts together has room for the mark in any case.
            let is_marked = marks || path != MESSAGES && !stream;
            let expected = json!({"degraded": {"level": 4, "reason": "server"}});
            assert_eq!(mark(&stale), if is_marked { expected } else { Value::Null }, "{path}, {stream}, {marks}");
        }
    }
}

#[tokio::test]
async fn an_operator_has_answers_forgotten() {
    let kept = Kept::with_keys("cache: {}", keys()).await;
    for feature in ["chat", "mail"] {
        kept.ask(CHAT, &[ANA, ("x-steadfast-feature", feature)], false, PRIVATE).await;
    }
    let forget = async |key, body: Value| kept.server.post("/admin/cache/forget", &[key], &body).await;
    assert_eq!(forget(BO, json!({})).await.status, 403);
    for wrong in [json!({"feature": ""}), json!({"feture": "chat"}), json!("all")] {
        assert_eq!(forget(ANA, wrong).await.status, 400);
    }
    assert_eq!(forget(ANA, json!({"feature": "chat"})).await.json(), json!({"forgotten": 1, "kept": 1}));
    for (feature, result) in [("chat", "miss"), ("mail", "hit")] {
        let answer = kept.ask(CHAT, &[ANA, ("x-steadfast-feature", feature)], false, PRIVATE).await;
        assert_eq!(said(&answer).0, Some(result), "{feature}");
    }
    assert_eq!(forget(ANA, json!({})).await.json(), json!({"forgotten": 2, "kept": 0}));

    let mut without = (*kept.stack.handle().config()).clone();
    without.tiers.remove(1);
    without.models.clear();
    without.cache = None;
    kept.stack.handle().reload(without).unwrap();
    assert_eq!(forget(ANA, json!({})).await.status, 404);
}

#[tokio::test]
async fn an_administrator_has_all_that_is_kept_of_a_caller_forgotten() {
    let keys = keys_of(&[
        entry("ada", "sk-of-ada", ""),
        entry("bob", "sk-of-bob", ""),
        entry("root", "sk-of-root", ", admin: true"),
    ]);
    let (ada, bob, root) = (("x-api-key", "sk-of-ada"), ("x-api-key", "sk-of-bob"), ("x-api-key", "sk-of-root"));
    let kept = Kept::with_keys("cache: { ttl: 1h }\nidempotency: { ttl: 1h }", Some(keys)).await;
    let keyed = ("idempotency-key", "k");
    let all = async || {
        for key in [ada, bob] {
            kept.ask(MESSAGES, &[key], false, "hello").await;
            kept.ask(MESSAGES, &[key, keyed], false, "another thing").await;
        }
        kept.calls()
    };
    assert_eq!((all().await, all().await), (4, 4));
    let order = async |key, body: Value| kept.server.post("/admin/forget", &[key], &body).await;
    assert_eq!(order(ada, json!({"tenant": "ada"})).await.status, 403);
    let forgotten = order(root, json!({"tenant": "ada"})).await;
    assert_eq!((forgotten.status, forgotten.json()), (200, json!({"answers": 1, "tasks": 0})), "{forgotten:?}");
    assert_eq!(all().await, 6, "both of hers were asked for again, and nobody else's");
    let session = ("x-steadfast-session", "s-1");
    kept.ask(MESSAGES, &[bob, session, ("idempotency-key", "k-2")], false, "a third").await;
    let forgotten = order(root, json!({"session": "s-1", "tenant": "bob"})).await;
    assert_eq!(forgotten.json(), json!({"answers": 1, "tasks": 0}), "{forgotten:?}");
    for wrong in [json!({}), json!({"tenant": ""}), json!({"feature": "chat"})] {
        assert_eq!(order(root, wrong).await.status, 400);
    }
}
