//! A person on call: ten incidents, each with the first line of the log, the alert and the status that this person
//! looks at. Each is read against what was done to the stack.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use steadfast::{
    BoxLlmService, ErrorKind, Event, LlmError, LlmRequest, LlmResponse,
    events::Subscription,
    provider_fn,
    providers::simulated::{Fault, Simulated, SimulatedHandle},
};
use steadfast_stack::{AlertTask, Environment, Format, Loader, Stack, StackHandle};
use steadfast_subscribers::Logs;
use tokio::time::{Instant, sleep};
use tower::{BoxError, service_fn};
use tracing::{Dispatch, Level, subscriber::DefaultGuard};

use super::{harness::*, logs::Log};
use crate::{
    api::{Catalog, GatewayState, Keys},
    limits::Settings,
};

const SECOND: Duration = Duration::from_secs(1);

/// Three tiers, of which the first two begin chains, and a webhook.
const FILE: &str = "
tiers:
  - { name: sonnet, provider: simulated, model: claude-sonnet-4-5 }
  - { name: gpt, provider: simulated, model: gpt-4o }
  - { name: gemini, provider: simulated, model: gemini-2.5-flash }
models: { claude-*: { tiers: [sonnet, gpt] }, gpt-4o: { tiers: [gpt, gemini] } }
prices: { sonnet: { input: 3000, output: 3000 } }
alerts: { source: production, webhooks: [{ url: 'https://hook.example/', format: json }] }
";

/// A gateway, and what the person on call can see of it.
struct Watch {
    gateway: Arc<GatewayState>,
    stack: StackHandle,
    tiers: [SimulatedHandle; 3],
    messages: Arc<Mutex<Vec<Value>>>,
    text: Log,
    _alerting: AlertTask,
    _lines: (Subscription, Dispatch, DefaultGuard),
}

impl Watch {
    fn begin(file: &str, keys: Option<Keys>) -> Self {
        Self::over(file, keys, BoxLlmService::new)
    }

    /// Begins with the tiers' providers changed.
    fn over(file: &str, keys: Option<Keys>, provider: impl Fn(Simulated) -> BoxLlmService) -> Self {
        let text = Log::default();
        let writer = text.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).without_time();
        let (second, here) = log_to(lines.with_max_level(Level::INFO).finish());
        let messages = Arc::new(Mutex::new(Vec::new()));
        let received = messages.clone();
        let webhook = service_fn(move |request: Request<Full<Bytes>>| {
            let received = received.clone();
            async move {
                let body = request.into_body().collect().await?.to_bytes();
                received.lock().unwrap().push(serde_json::from_slice(&body)?);
                Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
            }
        });
        let environment: Environment = [("HOSTNAME", "pod-1")].into_iter().collect();
        let config = Loader::new().environment(environment.clone()).text(file, Format::Yaml);
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        let tiers = ["sonnet", "gpt", "gemini"].map(|name| Simulated::new(name).latency(SECOND / 5));
        let handles = [0, 1, 2].map(|place: usize| tiers[place].handle());
        let mut builder = Stack::builder().environment(environment).transport(webhook).seed(3);
        for (name, tier) in ["sonnet", "gpt", "gemini"].into_iter().zip(tiers) {
            builder = builder.leaf(name, provider(tier));
        }
        let stack = builder.build(config).unwrap();
        let handle = stack.handle();
        let _ = handle.status();
        let following = handle.events().follow(Logs::new().stack(handle.clone()).requests(Level::DEBUG));
        let catalog = Catalog::Stack(handle.clone());
        let gateway = Arc::new(GatewayState::new(stack.service(), catalog, keys, Settings::default()));
        let alerting = handle.alert();
        Self {
            gateway,
            stack: handle,
            tiers: handles,
            messages,
            text,
            _alerting: alerting,
            _lines: (following, second, here),
        }
    }

    /// Asks once a second. Returns the statuses.
    async fn ask(&self, times: usize, question: &Value, key: &str) -> Vec<u16> {
        let mut statuses = Vec::new();
        for _ in 0..times {
            let begun = Instant::now();
            let service = crate::Gateway::over(self.gateway.clone());
            let answer =
                through(service, "POST", CHAT, &typed(CHAT, &[("x-api-key", key)]), question.to_string()).await;
            statuses.push(answer.status);
            sleep(SECOND.saturating_sub(begun.elapsed())).await;
        }
        statuses
    }

    /// Returns the lines of the log that are warnings or worse.
    fn lines(&self) -> Vec<String> {
        let text = self.text.said();
        assert!(!text.contains("secret question"), "no word of a prompt: {text}");
        let is_warning = |line: &&str| line.starts_with("WARN") || line.starts_with("ERROR");
        text.lines().map(str::trim).filter(is_warning).map(str::to_owned).collect()
    }

    /// Returns the alerts: `rule: summary`.
    async fn alerts(&self) -> Vec<String> {
        sleep(SECOND / 100).await;
        let messages = self.messages.lock().unwrap();
        let text = |message: &Value, field: &str| message[field].as_str().unwrap_or_default().to_owned();
        for message in messages.iter() {
            assert_eq!((text(message, "source"), text(message, "instance")), ("production".into(), "pod-1".into()));
        }
        messages.iter().map(|one| format!("{}: {}", text(one, "rule"), text(one, "summary"))).collect()
    }

    fn status(&self) -> Value {
        serde_json::to_value(self.stack.status()).unwrap()
    }

    /// Checks that each of these words is in the first warning of the log, in the first alert and in the status.
    async fn shows(&self, line: &[&str], alert: &[&str], status: &[&str]) {
        let (alerts, lines, shown) = (self.alerts().await, self.lines(), self.status().to_string());
        let first = |all: &[String]| all.first().cloned().unwrap_or_default();
        for (what, text, words) in
            [("log", first(&lines), line), ("alert", first(&alerts), alert), ("status", shown.clone(), status)]
        {
            for word in words {
                assert!(text.contains(word), "{what}: no {word:?} in {text}\n{lines:#?}\n{alerts:#?}\n{shown}");
            }
        }
    }
}

/// A question for a model, whole or as a stream.
fn question(model: &str, stream: bool) -> Value {
    let mut body = hello(stream);
    body["model"] = model.into();
    body["messages"][0]["content"] = "a secret question".into();
    body
}

fn claude() -> Value {
    question("claude-sonnet-4-5", false)
}

const ONE: &str = "sk-one";

#[tokio::test(start_paused = true)]
async fn a_tier_of_another_chain_is_down() {
    let watch = Watch::begin(FILE, None);
    watch.ask(3, &claude(), ONE).await;
    watch.tiers[1].fail(Fault::Unavailable);
    assert_eq!(watch.ask(30, &question("gpt-4o", false), ONE).await, [200; 30]);
    watch
        .shows(
            &[
                "model_switched",
                "from=\"gpt\"",
                "to=\"gemini\"",
                "status=503",
                "service unavailable",
                "request_id=\"sf-",
            ],
            &["failover: gemini serves in place of gpt (overloaded 503: service unavailable)"],
            &["\"state\":\"fallback\"", "\"first\":\"gpt\",\"from\":\"gpt\"", "\"message\":\"service unavailable\""],
        )
        .await;
    let opened = watch.lines().into_iter().find(|line| line.contains("circuit_changed")).unwrap();
    assert!(opened.contains("status=503") && opened.contains("request_id=\"sf-"), "{opened}");
    assert_eq!(watch.alerts().await.len(), 1, "nothing else is told of it");
}

#[tokio::test(start_paused = true)]
async fn a_keys_limit() {
    let keys = keys_of(&[entry("team-a", ONE, ", requests_per_minute: 3"), entry("team-b", "sk-two", "")]);
    let watch = Watch::begin(FILE, Some(keys));
    let statuses = watch.ask(10, &claude(), ONE).await;
    assert!(statuses.contains(&200) && statuses.ends_with(&[429; 3]), "{statuses:?}");
    let line = ["request_refused", "reason=\"requests_per_minute\"", "scope=\"key\"", "key=\"team-a\""];
    watch.shows(&line, &[], &["\"state\":\"primary\""]).await;
    assert!(watch.alerts().await.is_empty(), "no provider has failed");
    assert_eq!(watch.ask(2, &claude(), "sk-two").await, [200; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key() {
    let watch = Watch::begin(FILE, None);
    watch.ask(3, &claude(), ONE).await;
    watch.tiers[0].fail(Fault::Unauthorized);
    assert_eq!(watch.ask(20, &claude(), ONE).await, [200; 20]);
    watch
        .shows(
            &["model_switched", "from=\"sonnet\"", "reason=\"auth\"", "status=401", "error=\"invalid key\""],
            &["failover: gpt serves in place of sonnet for model claude-* (auth 401: invalid key)"],
            &["\"state\":\"fallback\"", "\"circuitReason\":\"key refused\"", "\"status\":401"],
        )
        .await;
    // The circuit opens once its own probe has met the same.
    let (lines, alerts) = (watch.lines(), watch.alerts().await);
    let opened = lines.iter().find(|line| line.contains("circuit_changed")).unwrap();
    assert!(opened.contains("reason=\"key refused\"") && opened.contains("status=401"), "{opened}");
    assert!(
        alerts.iter().any(|alert| alert.starts_with("key_refused: the key of sonnet is refused (auth 401")),
        "{alerts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn names_are_not_resolved() {
    let watch = Watch::over(FILE, None, |_| {
        BoxLlmService::new(provider_fn(async |_: LlmRequest| {
            let words = "dns error: lookup of the host failed";
            Err::<LlmResponse, _>(LlmError::new(ErrorKind::Connect, words))
        }))
    });
    let statuses = watch.ask(20, &claude(), ONE).await;
    assert!(statuses.iter().all(|status| *status >= 500), "{statuses:?}");
    watch
        .shows(
            &["request failed", "kind=\"connect\"", "error=\"dns error: lookup"],
            &["every tier failed", "sonnet connect: dns error"],
            &["dns error", "\"kind\":\"connect\""],
        )
        .await;
    let opened = watch.lines().into_iter().find(|line| line.contains("circuit_changed")).unwrap();
    assert!(opened.contains("dns error"), "{opened}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_provider() {
    let watch = Watch::begin(FILE, None);
    watch.tiers[0].latency(SECOND * 25);
    watch.ask(10, &question("claude-sonnet-4-5", true), ONE).await;
    watch
        .shows(
            &[],
            &["slow: 100.0 % of 6 calls to sonnet within 5 min were slow", "the last took 25 s"],
            &["\"p50Ms\":2"],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_spent_cap() {
    let watch = Watch::begin(&format!("{FILE}budgets: [{{ name: all, usd: 0.35, period: day }}]"), None);
    let statuses = watch.ask(50, &claude(), ONE).await;
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    watch
        .shows(
            &["budget_reached", "cap=\"all\"", "percent=80", "limit_usd=0.35"],
            &["budget: 80 % of the cap all is used"],
            &[],
        )
        .await;
    assert!(watch.alerts().await[1].starts_with("budget: 100 % of the cap all is used"));
}

#[tokio::test(start_paused = true)]
async fn a_bad_reload() {
    let watch = Watch::begin(FILE, None);
    watch.ask(3, &claude(), ONE).await;
    let mut wrong = watch.stack.config().as_ref().clone();
    wrong.tiers[1].name = "sonnet".into();
    let refused = watch.stack.reload(wrong).unwrap_err();
    let problem = refused.to_string();
    let first = problem.lines().next().unwrap();
    watch.shows(&["reload_refused", first], &["reload_refused: a new configuration was refused", first], &[]).await;
    assert_eq!(watch.ask(1, &claude(), ONE).await, [200], "the one before goes on");
}

#[tokio::test(start_paused = true)]
async fn a_store_is_away() {
    let watch = Watch::begin(FILE, None);
    let store = "idempotency".into();
    watch.stack.events().send(Event::StoreChanged { store, available: false, at: Instant::now() });
    // The store's own package logs it, with the cause.
    watch.shows(&[], &["store_away: the store for idempotency does not answer"], &[]).await;
}

/// In real time, which the store's file takes.
#[tokio::test]
async fn people_are_the_last_tier() {
    let store = std::env::temp_dir().join(format!("steadfast-incidents-{}.db", std::process::id()));
    let people = format!(
        "  - {{ name: people, provider: handoff }}\nstores: {{ durable: 'sqlite:{}' }}\nmodels:",
        store.display()
    );
    let file = FILE.replace("models:", &people).replace("[sonnet, gpt]", "[sonnet, gpt, people]");
    let watch = Watch::begin(&file, None);
    watch.tiers.iter().for_each(|tier| tier.fail(Fault::Unavailable));
    assert_eq!(watch.ask(2, &claude(), ONE).await, [200; 2], "each caller has its task");
    watch
        .shows(
            &["model_switched", "to=\"people\"", "status=503", "error=\"service unavailable\""],
            &["failover: people serves in place of sonnet for model claude-* (overloaded 503: service unavailable)"],
            &["\"activeTier\":\"people\""],
        )
        .await;
    assert_eq!(watch.status()["state"], "people");
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", store.display()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_an_outage() {
    let watch = Watch::begin(FILE, None);
    assert_eq!(watch.status()["state"], "untried", "nobody has asked it");
    watch.tiers.iter().for_each(|tier| tier.fail(Fault::Unavailable));
    let statuses = watch.ask(10, &claude(), ONE).await;
    assert!(statuses.iter().all(|status| *status >= 500), "{statuses:?}");
    watch
        .shows(
            &["request failed", "kind=\"overloaded\"", "status=503", "error=\"service unavailable\""],
            &["every tier failed", "sonnet overloaded 503: service unavailable", "gpt "],
            &["\"message\":\"service unavailable\"", "\"status\":503"],
        )
        .await;
    let state = watch.status()["state"].clone();
    assert!(state == "unavailable" || state == "failing", "{state}");
}
