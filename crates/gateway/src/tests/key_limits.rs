//! Keys' budgets, rates and concurrency.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use steadfast::{
    BoxLlmService, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent, chat::Usage, provider_fn,
    providers::simulated::Simulated,
};
use steadfast_stack::{Config, Format, Stack};
use tokio::{sync::Semaphore, time::timeout};
use tower::Service;

use super::harness::*;
use crate::{api::Keys, limits::Settings};

pub(super) const ONE: (&str, &str) = ("x-api-key", "sk-one");
pub(super) const TWO: (&str, &str) = ("x-api-key", "sk-two");
const ADMIN: (&str, &str) = ("x-api-key", "sk-admin");

/// A file of the keys `sk-one`, with these limits, `sk-two` and `sk-admin`.
struct File(PathBuf);

impl File {
    fn new(test: &str, limits: &str) -> Self {
        let file = Self(std::env::temp_dir().join(format!("steadfast-limits-{test}-{}.yaml", std::process::id())));
        file.write(limits);
        file
    }

    fn write(&self, limits: &str) {
        let entries =
            [entry("one", "sk-one", limits), entry("two", "sk-two", ""), entry("admin", "sk-admin", ", admin: true")];
        std::fs::write(&self.0, format!("keys:\n{}", entries.concat())).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A stack of one model, at a dollar for a thousand tokens.
const STACK: &str = "
tiers: [{ name: main, provider: simulated, model: main }]
prices: { main: { input: 1000, output: 1000 } }
idempotency: { grace: 10m }
budgets:
  - { name: of two, usd: 1000, period: month, key: two }
  - { name: of each, usd: 1000, period: month, each_key: true }
";

pub(super) struct Limited {
    pub(super) server: Server,
    file: File,
    stack: Stack,
}

impl Limited {
    pub(super) async fn start<S>(test: &str, limits: &str, provider: S) -> Self
    where
        S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + 'static,
    {
        let file = File::new(test, limits);
        let stack = Stack::builder().leaf("main", provider).build(Config::from_str(STACK, Format::Yaml).unwrap());
        let stack = stack.unwrap();
        let keys = Keys::load(&file.0).and_then(|keys| keys.with_budgets_in(stack.handle())).ok();
        assert!(keys.is_some());
        let server = Server::with_keys(BoxLlmService::new(stack.service()), keys, Settings::default()).await;
        Self { server, file, stack }
    }

    pub(super) async fn ask(&self, key: (&str, &str), path: &str) -> Answer {
        self.server.post(path, &[key], &hello(false)).await
    }

    /// Returns the number of requests served before the first refusal.
    async fn served(&self, key: (&str, &str)) -> usize {
        for served in 0..1000 {
            if self.ask(key, MESSAGES).await.status != 200 {
                return served;
            }
        }
        panic!("none is refused");
    }

    /// The entry of a key, as an administrator sees it.
    async fn seen(&self, name: &str) -> Value {
        let list = self.server.get("/admin/keys", &[ADMIN]).await.json();
        let keys = list["keys"].as_array().unwrap().clone();
        keys.into_iter().find(|key| key["name"] == name).unwrap()
    }
}

fn provider() -> Simulated {
    Simulated::new("main").reply("An answer of some words").latency(Duration::ZERO).pace(Duration::ZERO)
}

/// A number about a cap that counts a key.
fn of_cap(key: &Value, what: &str, cap: &str) -> Option<f64> {
    key["budgets"].as_array().unwrap().iter().find(|budget| budget["cap"] == cap)?[what].as_f64()
}

fn error(answer: &Answer) -> (u16, String, String) {
    let json = answer.json();
    let text = |name: &str| json["error"][name].as_str().unwrap_or_default().to_owned();
    (answer.status, text("type"), text("message"))
}

#[tokio::test]
async fn a_key_that_has_spent_its_budget_is_refused_until_it_begins_anew() {
    let limited = Limited::start("budget", ", budget: { usd: 0.5, per: day }", provider()).await;
    assert!(limited.served(ONE).await > 0);
    let (status, kind, message) = error(&limited.ask(ONE, MESSAGES).await);
    assert_eq!((status, &*kind), (429, "billing_error"));
    assert!(message.contains("\"key one\"") && message.contains("resets at"), "{message}");
    let refused = limited.ask(ONE, CHAT).await;
    assert_eq!((error(&refused).0, &*error(&refused).1), (429, "insufficient_quota"));
    assert_eq!(refused.json()["error"]["code"], "insufficient_quota");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=24 * 3600).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(limited.ask(TWO, MESSAGES).await.status, 200, "another key has its own money");
}

#[tokio::test]
async fn what_a_key_has_spent_stays_spent_over_a_reload_and_a_higher_budget_lets_it_in() {
    let limited = Limited::start("reload", ", budget: { usd: 0.5, period: day }", provider()).await;
    limited.served(ONE).await;
    let spent = of_cap(&limited.seen("one").await, "spentDollars", "key one").unwrap();
    assert!(spent > 0.2, "{spent}");
    let keys = limited.server.gateway.keys.as_ref().unwrap();
    keys.reload();
    assert_eq!(limited.ask(ONE, MESSAGES).await.status, 429);
    limited.file.write(", budget: { usd: 5, period: day }");
    keys.reload();
    assert_eq!(limited.ask(ONE, MESSAGES).await.status, 200);
    assert!(of_cap(&limited.seen("one").await, "spentDollars", "key one").unwrap() > spent);
    // A budget that the stack cannot keep is a wrong file: nothing changes.
    limited.file.write(", budget: { usd: 0, period: day, at_cap: { step_down: 5 } }");
    keys.reload();
    assert_eq!(of_cap(&limited.seen("one").await, "limitDollars", "key one"), Some(5.0));
    limited.file.write("");
    keys.reload();
    assert_eq!(limited.seen("one").await["budgets"].as_array().unwrap().len(), 1, "the file's own for each key");
    assert_eq!(limited.stack.handle().spend().len(), 2, "the file's");
}

#[tokio::test]
async fn the_configurations_caps_count_by_the_gateways_keys() {
    let limited = Limited::start("caps", "", provider()).await;
    for key in [ONE, TWO, TWO] {
        assert_eq!(limited.ask(key, CHAT).await.status, 200);
    }
    let (one, two) = (limited.seen("one").await, limited.seen("two").await);
    assert_eq!(of_cap(&one, "spentDollars", "of two"), None);
    assert!(of_cap(&one, "spentDollars", "of each").unwrap() > 0.0);
    assert_eq!(of_cap(&two, "spentDollars", "of two"), of_cap(&two, "spentDollars", "of each"));
    assert!(of_cap(&two, "spentDollars", "of two").unwrap() > 1.5 * of_cap(&one, "spentDollars", "of each").unwrap());
}

#[tokio::test]
async fn only_an_administrator_sees_what_keys_have_spent() {
    let limited = Limited::start("admin", ", concurrency: 3, expires: 2999-01-01", provider()).await;
    for (key, status) in [(&[][..], 401), (&[ONE][..], 403), (&[ADMIN][..], 200)] {
        let answer = limited.server.get("/admin/keys", key).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(!answer.body.contains("sha256"), "{answer:?}");
    }
    let one = limited.seen("one").await;
    assert_eq!((&one["concurrency"], &one["inFlight"]), (&3.into(), &0.into()));
    assert_eq!(
        (&one["expired"], &one["admin"], &one["requestsPerMinute"]),
        (&false.into(), &false.into(), &Value::Null)
    );
    let open = Server::start(BoxLlmService::new(provider()), Settings::default()).await;
    assert_eq!(open.get("/admin/keys", &[]).await.status, 403, "without keys nobody is an administrator");
}

#[tokio::test]
async fn a_caller_sees_its_own_key_and_no_other() {
    let limits = ", team: search, requests_per_minute: 60, budget: { usd: 100, period: day }";
    let limited = Limited::start("own", limits, provider()).await;
    assert_eq!(limited.ask(ONE, "/v1/chat/completions").await.status, 200);
    let own = limited.server.get("/v1/key", &[ONE]).await.json()["key"].clone();
    assert_eq!((&own["name"], &own["team"], &own["requestsPerMinute"]), (&"one".into(), &"search".into(), &60.into()));
    let [budget, _of_each] = &own["budgets"].as_array().unwrap()[..] else { panic!("{own}") };
    let dollars = |what: &str| budget[what].as_f64().unwrap();
    assert!(dollars("spentDollars") > 0.0 && budget["resetsInSeconds"].as_u64().unwrap() <= 86_400, "{budget}");
    assert!((dollars("leftDollars") + dollars("spentDollars") - 100.0).abs() < 1e-6, "{budget}");
    let seen = limited.seen("one").await;
    assert_eq!(
        (&seen["name"], of_cap(&seen, "spentDollars", "key one")),
        (&own["name"], Some(dollars("spentDollars")))
    );
    assert_eq!(limited.server.get("/v1/key", &[]).await.status, 401);
    let open = Server::start(BoxLlmService::new(provider()), Settings::default()).await;
    assert_eq!(open.get("/v1/key", &[]).await.status, 404);
}

#[tokio::test]
async fn a_key_has_so_many_requests_in_flight_and_no_more() {
    let slow = provider().pace(Duration::from_secs(600));
    let limited = Limited::start("flight", ", concurrency: 2", slow).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = limited.server.connect().await;
        client.post(MESSAGES, &[ONE], &hello(true)).await;
        client.until("content_block_delta").await;
        open.push(client);
    }
    let (status, kind, message) = error(&limited.ask(ONE, MESSAGES).await);
    assert_eq!((status, &*kind), (429, "rate_limit_error"), "{message}");
    assert!(message.contains("in flight"), "{message}");
    let record = &limited.server.get("/requests", &[ONE]).await.json()["requests"][0];
    assert_eq!((&record["failure"], &record["attempts"]), (&"concurrency".into(), &0.into()), "{record}");
    assert_eq!(limited.seen("one").await["inFlight"], 2);
    let mut other = limited.server.connect().await;
    other.post(MESSAGES, &[TWO], &hello(true)).await;
    other.until("content_block_delta").await;
    // The same holds over a reload that changes the limit.
    limited.file.write(", concurrency: 1");
    limited.server.gateway.keys.as_ref().unwrap().reload();
    assert_eq!(limited.seen("one").await["inFlight"], 2);
    drop(open);
    let freed = async { while limited.seen("one").await["inFlight"] != 0 {} };
    timeout(Duration::from_secs(20), freed).await.expect("who leaves frees the place");
    let mut client = limited.server.connect().await;
    client.post(MESSAGES, &[ONE], &hello(true)).await;
    client.until("content_block_delta").await;
}

const COUNT: &str = "/v1/messages/count_tokens";

#[tokio::test]
async fn what_a_key_has_counted_is_within_its_limits_too() {
    let slow = provider().pace(Duration::from_secs(600));
    let limited = Limited::start("counted", ", concurrency: 1, features: [chat], models: ['claude-*']", slow).await;
    let count = async |headers: &[(&str, &str)], body: &Value| error(&limited.server.post(COUNT, headers, body).await);
    assert_eq!(count(&[ONE], &hello(false)).await.0, 200);
    let mut other = hello(false);
    other["model"] = "gpt-4o".into();
    assert_eq!(count(&[ONE], &other).await.0, 403);
    let (status, kind, message) = count(&[ONE, ("x-steadfast-feature", "search")], &hello(false)).await;
    assert_eq!((status, &*kind), (403, "permission_error"), "{message}");
    let mut open = limited.server.connect().await;
    open.post(MESSAGES, &[ONE], &hello(true)).await;
    open.until("content_block_delta").await;
    let (status, kind, message) = count(&[ONE], &hello(false)).await;
    assert_eq!((status, &*kind), (429, "rate_limit_error"), "{message}");
    assert!(message.contains("in flight"), "{message}");
    assert_eq!(count(&[TWO], &hello(false)).await.0, 200);
    drop(open);
    let freed = async { while count(&[ONE], &hello(false)).await.0 != 200 {} };
    timeout(Duration::from_secs(20), freed).await.expect("who leaves frees the place");
}

/// Bodies that are still to come are work under way as well.
#[tokio::test]
async fn a_body_that_is_to_be_counted_has_a_place_from_its_head_on() {
    let limited = Limited::start("counting", ", concurrency: 2", provider()).await;
    let body = hello(false).to_string();
    let whole = request("POST", COUNT, &[ONE], body.as_bytes());
    let mut half = Vec::new();
    for _ in 0..2 {
        let mut client = limited.server.connect().await;
        client.send(&whole[..whole.len() - 5]).await;
        half.push(client);
    }
    let denied = async { while limited.server.post(COUNT, &[ONE], &hello(false)).await.status != 429 {} };
    timeout(Duration::from_secs(20), denied).await.expect("both places are taken");
    for mut client in half {
        client.send(&whole[whole.len() - 5..]).await;
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(limited.server.post(COUNT, &[ONE], &hello(false)).await.status, 200);
}

#[tokio::test]
async fn every_path_that_asks_for_a_key_counts_by_its_rate() {
    let limited = Limited::start("paths", "", provider()).await;
    let keys = Keys::load(&limited.file.0).ok();
    let server = Server::with_stack(&limited.stack, keys, Settings::default()).await;
    let get = ["/v1/models", "/v1/models/main", "/requests", "/admin/keys", "/handoff/answers/task_1"];
    let more = ["/admin/tiers", "/handoff/tasks"];
    let post = [MESSAGES, CHAT, COUNT, "/admin/level", "/handoff/redrive"];
    for (number, path) in get.iter().chain(&more).chain(&post).enumerate() {
        // A changed limit starts with a full count.
        let rate = 3 + number;
        limited.file.write(&format!(", admin: true, requests_per_minute: {rate}"));
        server.gateway.keys.as_ref().unwrap().reload();
        for asked in 0..=rate {
            let answer = match post.contains(path) {
                true => server.post(path, &[ONE], &hello(false)).await,
                false => server.get(path, &[ONE]).await,
            };
            assert_eq!(answer.status == 429, asked == rate, "{path}, {asked}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_key_has_so_many_tokens_in_a_minute() {
    let limited = Limited::start("tokens", ", tokens_per_minute: 250", provider()).await;
    // A request reserves its hundred tokens, and takes a few.
    assert!(limited.served(ONE).await > 3);
    let refused = limited.ask(ONE, CHAT).await;
    assert_eq!((error(&refused).0, &*error(&refused).1), (429, "tokens"));
    assert!(error(&refused).2.contains("tokens per minute"), "{refused:?}");
    assert!((1..=60).contains(&refused.header("retry-after").unwrap().parse::<u64>().unwrap()));
    assert_eq!(limited.ask(TWO, CHAT).await.status, 200);
}

/// A provider that says what its prompt took, gives 80,000 tokens and never ends.
fn endless() -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync {
    provider_fn(|_| async {
        let begun = StreamEvent::Usage(Usage::new(8000, 1));
        let text = |text: String| Ok::<_, LlmError>(Frame::event(StreamEvent::Text { index: 0, text }));
        let frames: Vec<_> = std::iter::once(Ok(Frame::event(begun)))
            .chain((0..100).map(|_| text("word".repeat(800))))
            .chain([text(" the last of it".to_owned())])
            .collect();
        let body = LlmBody::from_frames(stream::iter(frames).chain(stream::pending()));
        Ok::<_, LlmError>(LlmResponse::new(body).with_model("simulated", "main"))
    })
}

#[tokio::test]
async fn who_leaves_before_the_last_event_has_used_its_budget_and_its_tokens() {
    let limits = ", budget: { usd: 1000, period: month }, tokens_per_minute: 60000";
    let limited = Limited::start("left", limits, endless()).await;
    let mut client = limited.server.connect().await;
    client.post(MESSAGES, &[ONE], &hello(true)).await;
    client.until("the last of it").await;
    drop(client);
    let spent = async {
        loop {
            let spent = of_cap(&limited.seen("one").await, "spentDollars", "key one").unwrap();
            if spent > 0.0 {
                return spent;
            }
        }
    };
    let spent = timeout(Duration::from_secs(20), spent).await.expect("it is settled once its caller is gone");
    assert!((88.0..89.0).contains(&spent), "8,000 tokens of prompt and 80,000 of answer came: {spent}");
    let refused = limited.ask(ONE, CHAT).await;
    assert_eq!((refused.status, &*error(&refused).1), (429, "tokens"), "{}", refused.body);
}

/// A provider that answers when it is let, with how many calls it has had, and how many at once.
#[derive(Clone)]
struct Held {
    calls: Arc<AtomicUsize>,
    at_once: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    answers: Arc<Semaphore>,
}

impl Held {
    fn new() -> Self {
        let zero = Arc::<AtomicUsize>::default;
        Self { calls: zero(), at_once: zero(), most: zero(), answers: Arc::new(Semaphore::new(0)) }
    }

    fn provider(
        &self,
    ) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + Sync + use<>
    {
        let held = self.clone();
        provider_fn(move |_| {
            let held = held.clone();
            async move {
                held.calls.fetch_add(1, SeqCst);
                held.most.fetch_max(held.at_once.fetch_add(1, SeqCst) + 1, SeqCst);
                held.answers.acquire().await.unwrap().forget();
                held.at_once.fetch_sub(1, SeqCst);
                Ok::<_, LlmError>(LlmResponse::from_text("at last").with_model("simulated", "main"))
            }
        })
    }

    async fn has_had(&self, calls: usize) {
        let called = async {
            while self.calls.load(SeqCst) < calls {
                tokio::time::sleep(Duration::from_millis(2)).await
            }
        };
        timeout(Duration::from_secs(20), called).await.expect("the provider is called");
    }
}

#[tokio::test]
async fn a_call_that_outlives_its_caller_keeps_its_place() {
    for stream in [false, true] {
        let held = Held::new();
        let limited = Limited::start(&format!("outlives-{stream}"), ", concurrency: 1", held.provider()).await;
        let mut client = limited.server.connect().await;
        client.post(MESSAGES, &[ONE, ("idempotency-key", "first")], &hello(stream)).await;
        held.has_had(1).await;
        drop(client);
        // Each caller leaves as soon as the gateway may have sent its request on.
        for left in 0..30 {
            let key = format!("left-{left}");
            let mut client = limited.server.connect().await;
            client.post(MESSAGES, &[ONE, ("idempotency-key", &key)], &hello(stream)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(held.most.load(SeqCst), 1, "under way at the provider at once");
        let refused = limited.server.post(MESSAGES, &[ONE, ("idempotency-key", "one more")], &hello(stream)).await;
        assert_eq!((refused.status, error(&refused).2.contains("in flight")), (429, true), "{}", refused.body);
        assert_eq!(limited.seen("one").await["inFlight"], 1);
        // A repeat joins the call under way: it takes no place, and gets the answer.
        let mut again = limited.server.connect().await;
        again.post(MESSAGES, &[ONE, ("idempotency-key", "first")], &hello(stream)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        held.answers.add_permits(1);
        let answer = again.answer().await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "at last"), "{}", answer.body);
        held.answers.add_permits(1);
        let next = limited.server.post(MESSAGES, &[ONE, ("idempotency-key", "next")], &hello(stream)).await;
        assert_eq!((next.status, held.calls.load(SeqCst)), (200, 2), "{}", next.body);
    }
}
