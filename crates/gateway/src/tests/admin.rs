//! The operators' paths and their permissions.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use steadfast::{
    events::Subscription,
    providers::simulated::{Fault, Simulated, SimulatedHandle},
};
use steadfast_stack::{Config, Feature, Stack, StackHandle, Tier};
use steadfast_subscribers::Logs;
use tokio::time::timeout;

use super::{harness::*, logs::Log};
use crate::{api::Keys, limits::Settings};

const ADMIN: (&str, &str) = ("authorization", "Bearer sk-of-ana");
const CALLER: (&str, &str) = ("x-api-key", "sk-of-a-caller");

/// A gateway with a stack of two tiers, of levels 1 and 3.
struct Operated {
    server: Server,
    stack: StackHandle,
    sonnet: SimulatedHandle,
    _subscription: Subscription,
}

impl Operated {
    async fn start() -> Self {
        Self::of(Some(keys())).await
    }

    async fn of(keys: Option<Keys>) -> Self {
        let tier = |name: &str, level| Tier { name: name.into(), level: Some(level), ..Tier::default() };
        let mut config = Config { tiers: vec![tier("sonnet", 1), tier("a/b", 3)], ..Config::default() };
        // One request opens a circuit.
        config.retry.max_attempts = Some(3);
        config.features.insert("code".into(), Feature { worst_level: Some(1), ..Feature::default() });
        let [sonnet, small] = ["sonnet", "small"].map(|name| Simulated::new(name).reply("Hello from afar"));
        let handle = sonnet.handle();
        let stack = Stack::builder().leaf("sonnet", sonnet).leaf("a/b", small).build(config).unwrap();
        let subscription = stack.handle().events().follow(Logs::new());
        stack.handle().status();
        let server = Server::with_stack(&stack, keys, Settings::default()).await;
        Self { server, stack: stack.handle(), sonnet: handle, _subscription: subscription }
    }

    async fn order(&self, path: &str, body: Value) -> Answer {
        self.server.post(path, &[ADMIN], &body).await
    }

    /// An order that is obeyed.
    async fn done(&self, path: &str, body: Value) -> Value {
        let answer = self.order(path, body).await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{answer:?}");
        answer.json()
    }

    /// The message of an order that is refused with this status and type.
    async fn refused(&self, path: &str, body: Value, status: u16, kind: &str) -> String {
        said(&self.order(path, body).await, status, kind)
    }

    async fn tiers(&self) -> Value {
        let answer = self.server.get("/admin/tiers", &[ADMIN]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// The tiers that serve both protocols, plain and streamed.
    async fn serving(&self) -> String {
        let mut tiers = Vec::new();
        for path in PATHS {
            for stream in [false, true] {
                let answer = self.server.post(path, &[CALLER], &hello(stream)).await;
                assert_eq!((answer.status, answer.text().as_str()), (200, "Hello from afar"), "{answer:?}");
                tiers.push(answer.header("x-steadfast-tier").unwrap().to_owned());
            }
        }
        tiers.dedup();
        assert_eq!(tiers.len(), 1, "{tiers:?}");
        tiers.remove(0)
    }
}

/// A caller's key and one of an administrator, `ana`.
fn keys() -> Keys {
    keys_of(&[entry("ana", "sk-of-ana", ", admin: true"), entry("caller", "sk-of-a-caller", "")])
}

fn said(answer: &Answer, status: u16, kind: &str) -> String {
    let json = answer.json();
    assert_eq!((answer.status, json["error"]["type"].as_str()), (status, Some(kind)), "{answer:?}");
    assert_eq!(json.as_object().unwrap().len(), 1, "{answer:?}");
    json["error"]["message"].as_str().unwrap().to_owned()
}

/// Everything that an administrator's key is for.
const ALL: [(&str, &str, &str); 7] = [
    ("GET", "/admin/tiers", ""),
    ("GET", "/admin/targets", ""),
    ("POST", "/admin/tiers/sonnet/circuit", r#"{"action":"open"}"#),
    ("POST", "/admin/tiers/sonnet/drain", r#"{"drained":true}"#),
    ("POST", "/admin/level", r#"{"level":3}"#),
    ("POST", "/admin/cache/forget", "{}"),
    ("POST", "/admin/reload", ""),
];

async fn ask(server: &Server, (method, path, body): (&str, &str, &str), headers: &[(&str, &str)]) -> Answer {
    let mut client = server.connect().await;
    client.send(&request(method, path, headers, body.as_bytes())).await;
    client.answer().await
}

#[tokio::test]
async fn only_an_administrators_key_opens_anything() {
    let operated = Operated::start().await;
    let unauthorized = (401, "authentication_error");
    let callers = [
        (&[][..], unauthorized, "no key"),
        (&[("authorization", "Basic c2stb2YtYW5h")], unauthorized, "no key"),
        (&[("x-api-key", "sk-of-nobody")], unauthorized, "does not know"),
        (&[CALLER], (403, "permission_error"), "admin: true"),
        (&[CALLER, ("origin", "https://example.com")], (403, "permission_error"), "admin: true"),
    ];
    for order in ALL {
        for (headers, (status, kind), words) in callers {
            let message = said(&ask(&operated.server, order, headers).await, status, kind);
            assert!(message.contains(words) && !message.contains("sk-of"), "{order:?}: {message}");
        }
    }
    assert!(operated.stack.drained().is_empty() && operated.stack.pinned_level().is_none());
    assert_eq!(operated.serving().await, "sonnet");
}

#[tokio::test]
async fn without_keys_nobody_may_not_even_from_this_machine() {
    let operated = Operated::of(None).await;
    for order in ALL {
        for headers in [&[][..], &[ADMIN], &[("origin", "http://localhost:8080")]] {
            let message = said(&ask(&operated.server, order, headers).await, 403, "permission_error");
            assert!(message.contains("--keys FILE") && message.contains("admin: true"), "{message}");
        }
    }
    assert!(operated.stack.drained().is_empty());
}

#[tokio::test]
async fn a_circuit_is_forced_open_and_closed_and_left_to_itself() {
    let operated = Operated::start().await;
    let path = "/admin/tiers/sonnet/circuit";
    let open = operated.done(path, json!({"action": "open"})).await;
    assert_eq!(
        (&open["changed"], &open["tier"]["circuit"], &open["tier"]["forced"]),
        (&true.into(), &"open".into(), &"open".into())
    );
    assert!(open["tier"]["since"].as_str().is_some_and(|date| date.ends_with('Z')), "{open}");
    assert_eq!((&open["tier"]["reason"], &open["tier"]["until"]), (&"by hand".into(), &Value::Null));
    assert_eq!(operated.serving().await, "a/b");
    assert_eq!(operated.done(path, json!({"action": "open"})).await["changed"], false);

    operated.sonnet.fail(Fault::ServerError);
    let closed = operated.done(path, json!({"action": "close"})).await;
    assert_eq!((&closed["tier"]["circuit"], &closed["tier"]["forced"]), (&"closed".into(), &"closed".into()));
    assert_eq!(operated.serving().await, "a/b", "it is asked, and fails");
    let tiers = operated.tiers().await;
    assert_eq!((&tiers["tiers"][0]["forced"], &tiers["tiers"][0]["circuit"]), (&"closed".into(), &"closed".into()));
    assert!(tiers["tiers"][0]["failures"].as_u64().unwrap() >= 4, "{tiers}");

    operated.sonnet.heal();
    let auto = operated.done(path, json!({"action": "auto"})).await;
    assert_eq!((&auto["tier"]["circuit"], &auto["tier"]["forced"]), (&"closed".into(), &Value::Null));
    assert_eq!(operated.serving().await, "sonnet");
}

#[tokio::test]
async fn what_trips_by_itself_says_since_when_why_and_until_when() {
    let operated = Operated::start().await;
    operated.sonnet.fail(Fault::ServerError);
    operated.serving().await;
    let tiers = operated.tiers().await;
    let [sonnet, small] = [&tiers["tiers"][0], &tiers["tiers"][1]];
    assert_eq!(
        (&sonnet["name"], &sonnet["circuit"], &sonnet["reason"]),
        (&"sonnet".into(), &"open".into(), &"failures".into())
    );
    let date = |field: &str| sonnet[field].as_str().unwrap().to_owned();
    assert!(date("since") < date("until"), "{sonnet}");
    assert_eq!((&sonnet["forced"], &sonnet["drained"], &sonnet["level"]), (&Value::Null, &false.into(), &1.into()));
    assert_eq!((&small["name"], &small["provider"], &small["level"]), (&"a/b".into(), &"simulated".into(), &3.into()));
    assert_eq!((&small["circuit"], &small["inFlight"], &small["since"]), (&"closed".into(), &0.into(), &Value::Null));
    assert_eq!(small["calls"], 2 * PATHS.len());
    let targets = operated.server.get("/admin/targets", &[ADMIN]).await.json();
    assert_eq!(targets["tiers"][0]["since"], tiers["tiers"][0]["since"]);
}

#[tokio::test]
async fn a_drained_tier_finishes_its_streams_and_gets_no_more() {
    let operated = Operated::start().await;
    operated.sonnet.pace(Duration::from_millis(150));
    let mut streaming = operated.server.connect().await;
    streaming.post(MESSAGES, &[CALLER], &hello(true)).await;
    streaming.until("Hello").await;
    let drained = operated.done("/admin/tiers/sonnet/drain", json!({"drained": true})).await;
    assert_eq!(
        (&drained["changed"], &drained["tier"]["drained"], &drained["tier"]["inFlight"]),
        (&true.into(), &true.into(), &1.into())
    );
    assert_eq!(operated.serving().await, "a/b");
    let answer = operated.server.post(CHAT, &[CALLER, ("x-steadfast-explain", "1")], &hello(false)).await;
    assert_eq!(answer.header("x-steadfast-fallback-reason"), Some("out_of_service"));
    assert!(
        answer.headers.values().any(|value| value.to_str().is_ok_and(|text| text.contains("is drained by hand"))),
        "{answer:?}"
    );
    let stream = streaming.answer().await;
    assert!(stream.is_whole() && stream.text() == "Hello from afar", "{stream:?}");
    assert_eq!(operated.tiers().await["tiers"][0]["inFlight"], 0);

    // With every tier drained, each dialect has its own error, and no error asks the caller to come back.
    let path = "/admin/tiers/a%2Fb/drain";
    operated.done(path, json!({"drained": true})).await;
    for (dialect, status, kind) in [(MESSAGES, 529, "overloaded_error"), (CHAT, 503, "server_error")] {
        let refused = operated.server.post(dialect, &[CALLER], &hello(false)).await;
        assert_eq!((refused.status, refused.json()["error"]["type"].as_str()), (status, Some(kind)), "{refused:?}");
        assert_eq!(refused.header("x-should-retry"), Some("false"));
    }
    assert_eq!(operated.done(path, json!({"drained": false})).await["tier"]["drained"], false);
    operated.done("/admin/tiers/sonnet/drain", json!({"drained": false})).await;
    operated.sonnet.pace(Duration::ZERO);
    assert_eq!(operated.serving().await, "sonnet");
}

#[tokio::test]
async fn a_deployment_is_drained_and_forced_like_a_tier() {
    let list = "tiers: [{ name: sonnet, provider: simulated, deployments: [{ name: east }, { name: west }] }]";
    let stack = Stack::from_config(Config::from_str(list, steadfast_stack::Format::Yaml).unwrap()).unwrap();
    stack.handle().status();
    let server = Server::with_stack(&stack, Some(keys()), Settings::default()).await;
    let order = async |path: &str, body: Value| server.post(path, &[ADMIN], &body).await;
    let drained = order("/admin/tiers/sonnet%2Fwest/drain", json!({ "drained": true })).await;
    assert_eq!(drained.status, 200, "{drained:?}");
    let drained = drained.json();
    assert_eq!((&drained["changed"], &drained["tier"]["name"]), (&json!(true), &json!("sonnet")));
    assert_eq!(drained["tier"]["drained"], false, "only its deployment is");
    let [east, west] = [0, 1].map(|at| drained["tier"]["deployments"][at].clone());
    assert_eq!((&east["drained"], &west["drained"]), (&json!(false), &json!(true)));
    assert_eq!(west["availability"], "drained");
    for _ in 0..20 {
        let answer = server.post(PATHS[0], &[CALLER], &hello(false)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(stack.handle().deployments("sonnet")[1].status.answered, 0);
    let answer = server.post(PATHS[0], &[CALLER], &hello(false)).await;
    let id = answer.header("x-steadfast-request-id").unwrap().to_owned();
    let record = server.get(&format!("/requests/{id}"), &[ADMIN]).await.json();
    assert_eq!((&record["tier"], &record["deployment"]), (&json!("sonnet"), &json!("east")), "{record}");
    let forced = order("/admin/tiers/sonnet%2Feast/circuit", json!({ "action": "open" })).await.json();
    assert_eq!(forced["tier"]["deployments"][0]["forced"], "open");
    let unknown = order("/admin/tiers/sonnet%2Fnorth/drain", json!({ "drained": true })).await;
    let message = said(&unknown, 404, "not_found_error");
    assert!(message.contains("sonnet/north") && message.contains("east, west"), "{message}");
}

#[tokio::test]
async fn a_level_is_pinned_for_all_and_for_a_feature() {
    let operated = Operated::start().await;
    let pinned = operated.done("/admin/level", json!({"level": 3})).await;
    assert_eq!(
        (&pinned["changed"], &pinned["pinnedLevel"], &pinned["pinnedFeatures"]),
        (&json!(true), &json!(3), &json!({}))
    );
    assert_eq!(pinned["scope"], "process");
    assert_eq!(operated.serving().await, "a/b");
    assert_eq!(operated.stack.status().pinned_level, Some(3));
    let degraded = operated.server.post(MESSAGES, &[CALLER], &hello(false)).await;
    assert!(degraded.header("x-steadfast-degraded").is_some(), "{degraded:?}");
    let code = [CALLER, ("x-steadfast-feature", "code")];
    let answer = operated.server.post(CHAT, &code, &hello(false)).await;
    assert_eq!(answer.header("x-steadfast-tier"), Some("sonnet"), "it accepts no less");

    let pinned = operated.done("/admin/level", json!({"level": 1, "feature": "chat"})).await;
    assert_eq!(pinned["pinnedFeatures"], json!({"chat": 1}));
    let chat = [CALLER, ("x-steadfast-feature", "chat")];
    let answer = operated.server.post(CHAT, &chat, &hello(false)).await;
    assert_eq!(answer.header("x-steadfast-tier"), Some("sonnet"));
    assert_eq!(operated.tiers().await["pinnedLevel"], 3);

    assert_eq!(operated.done("/admin/level", json!({"level": null, "feature": "chat"})).await["changed"], true);
    assert_eq!(operated.done("/admin/level", json!({"level": null})).await["pinnedLevel"], Value::Null);
    assert_eq!(operated.done("/admin/level", json!({"level": null})).await["changed"], false);
    assert_eq!(operated.serving().await, "sonnet");
}

#[tokio::test]
async fn what_is_wrong_with_an_order_is_named() {
    let operated = Operated::start().await;
    let (circuit, drain) = ("/admin/tiers/sonnet/circuit", "/admin/tiers/sonnet/drain");
    for (path, body) in [
        ("/admin/tiers/opus/circuit", json!({"action": "open"})),
        ("/admin/tiers/opus/drain", json!({"drained": true})),
    ] {
        let message = operated.refused(path, body, 404, "not_found_error").await;
        assert_eq!(message, "unknown tier `opus`; the tiers are sonnet, a/b");
    }
    for (path, body, words) in [
        (circuit, json!({"action": "shut"}), "unknown action `shut`; the actions are open, close and auto"),
        (circuit, json!({}), "missing field `action`"),
        (circuit, json!({"action": 1}), r#"the body must be {"action": "open" | "close" | "auto"}"#),
        (circuit, json!({"action": "open", "tier": "x"}), "unknown field `tier`"),
        (circuit, json!("open"), "invalid type"),
        (drain, json!({"drained": "yes"}), "the body must be {\"drained\": true | false}"),
        (drain, json!({}), "missing field `drained`"),
        ("/admin/level", json!({}), "missing field `level`"),
        ("/admin/level", json!({"level": 0}), "from 1 (full service) to 5"),
        ("/admin/level", json!({"level": 6}), "or null to unpin"),
        ("/admin/level", json!({"level": 2.5}), "or null to unpin"),
        ("/admin/level", json!({"level": "2"}), "or null to unpin"),
        ("/admin/level", json!({"level": 5}), "no tier has level 5 or worse; the tiers are sonnet (1), a/b (3)"),
        ("/admin/level", json!({"level": 2, "feature": ""}), "leave it out for all"),
        ("/admin/level", json!({"level": 2, "feature": "x".repeat(300)}), "at most 256 bytes"),
        ("/admin/level", json!({"level": 2, "feature": "x".repeat(30_000)}), "over the gateway's limit"),
    ] {
        let message = operated.refused(path, body, 400, "invalid_request_error").await;
        assert!(message.contains(words), "{path}: {message}");
    }
    for body in ["", "{", "\u{1}", r#"{"action":"open"}x"#] {
        let message =
            said(&ask(&operated.server, ("POST", circuit, body), &[ADMIN]).await, 400, "invalid_request_error");
        assert!(message.contains("the body must be"), "{message}");
    }
    for order in [("GET", circuit, ""), ("DELETE", "/admin/tiers", ""), ("POST", "/admin/tiers", "{}")] {
        assert_eq!(ask(&operated.server, order, &[ADMIN]).await.status, 405, "{order:?}");
    }
    assert_eq!(ask(&operated.server, ("GET", "/admin/nothing", ""), &[ADMIN]).await.status, 404);
    let message = operated.refused("/admin/reload", json!({}), 422, "invalid_configuration").await;
    assert!(message.contains("the stack was not built from a file"), "{message}");
    // The gateway has carried out none of these orders.
    assert_eq!(operated.serving().await, "sonnet");
    assert!(operated.stack.pinned_features().is_empty());
}

#[tokio::test]
async fn a_reload_says_what_it_kept_and_what_is_wrong() {
    let folder = std::env::temp_dir().join(format!("steadfast-admin-reload-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("steadfast.yaml");
    let file = "tiers: [{ name: a, provider: simulated }, { name: b, provider: simulated }]\n";
    std::fs::write(&path, file).unwrap();
    let stack = Stack::from_path(&path).unwrap();
    let server = Server::with_stack(&stack, Some(keys()), Settings::default()).await;
    let order = async |path: &str, body: Value| server.post(path, &[ADMIN], &body).await;
    assert_eq!(order("/admin/tiers/b/drain", json!({"drained": true})).await.status, 200);
    assert_eq!(order("/admin/tiers/a/circuit", json!({"action": "open"})).await.status, 200);

    std::fs::write(&path, file.replace("name: b,", "name: b, model: other,")).unwrap();
    let answer = order("/admin/reload", json!({})).await;
    let outcome = json!({"kept": ["a"], "changed": ["b"], "removed": [], "settings": ["tiers.b"]});
    assert_eq!(answer.json(), outcome, "{answer:?}");
    let tiers = server.get("/admin/tiers", &[ADMIN]).await.json();
    assert_eq!((&tiers["tiers"][0]["forced"], &tiers["tiers"][1]["drained"]), (&"open".into(), &true.into()));
    assert_eq!(tiers["tiers"][1]["model"], "other");

    std::fs::write(&path, "tiers: [{ name: a, provder: simulated }]\n").unwrap();
    let message = said(&order("/admin/reload", json!({})).await, 422, "invalid_configuration");
    assert!(message.contains("provder"), "{message}");
    assert_eq!(stack.handle().tiers().len(), 2, "it goes on as it was");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn an_order_is_waited_for_as_long_as_the_configuration_says_now() {
    let operated = Operated::start().await;
    let reloaded = Settings { body_timeout: Duration::from_millis(50), ..Settings::default() };
    operated.server.gateway.lifecycle.current.store(Arc::new(reloaded));
    let whole = request("POST", "/admin/level", &[ADMIN], br#"{"level": 3}"#);
    let mut client = operated.server.connect().await;
    client.send(&whole[..whole.len() - 1]).await;
    // At the start the limit was half a minute.
    let answer = timeout(Duration::from_secs(5), client.answer()).await.expect("it is given up");
    assert!(said(&answer, 400, "invalid_request_error").contains("did not arrive in time"));
}

#[tokio::test]
async fn each_order_is_in_the_log_once_with_the_keys_name_and_no_key_is() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _here = log_to(subscriber);
    let operated = Operated::start().await;
    let path = "/admin/tiers/sonnet/drain";
    for _ in 0..2 {
        operated.done(path, json!({"drained": true})).await;
    }
    operated.done("/admin/level", json!({"level": 3, "feature": "chat"})).await;
    operated.done("/admin/tiers/sonnet/circuit", json!({"action": "close"})).await;
    operated.order("/admin/reload", json!({})).await;
    operated.server.post(path, &[CALLER], &json!({"drained": true})).await;
    tokio::task::yield_now().await;
    let log = log.said();
    let lines = |words: &[&str]| log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!(lines(&["event=\"operated\" operation=\"drain\" tier=\"sonnet\" by=\"ana\""]), 1, "{log}");
    assert_eq!(lines(&["order without effect", "by=\"ana\"", "action=\"drain\""]), 1, "{log}");
    assert_eq!(lines(&["operation=\"pin_level\" feature=\"chat\" level=3 by=\"ana\""]), 1, "{log}");
    assert_eq!(lines(&["operation=\"force_close\" tier=\"sonnet\" by=\"ana\""]), 1, "{log}");
    assert_eq!(lines(&["action=\"reload\"", "by=\"ana\""]), 1, "{log}");
    assert_eq!(
        lines(&["event=\"request_refused\" reason=\"permission\" scope=\"key\" key=\"caller\"", path]),
        1,
        "{log}"
    );
    assert!(!log.contains("sk-of"), "{log}");
}
