//! Responses in the background, by OpenAI's guide "Background mode": statuses, numbers of events, `cancel`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use steadfast::layers::cache::AnswerOwner;
use steadfast::{
    providers::simulated::{Fault, Simulated, SimulatedHandle},
    store::{StoreError, StoreErrorKind},
};
use steadfast_stack::{Config, Environment, Format, Responses, Size, Span, Stack};
use steadfast_stores::{
    responses::{MemoryResponses, PathLimits, ResponsePath, ResponseStore, StoreFuture, StoredResponse},
    sqlite::Sqlite,
};
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;

use super::{
    conversations::{Chain, says},
    harness::*,
};
use crate::{
    Gateway,
    api::{Catalog, GatewayState, Keys},
    limits::Settings,
};

const WORDS: &str = "one two three four five six seven eight nine ten";
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Two simulated tiers behind a gateway that keeps responses. A token takes a second.
struct Rig {
    gateway: Arc<GatewayState>,
    first: SimulatedHandle,
    second: SimulatedHandle,
    _stack: Stack,
}

impl Rig {
    fn new() -> Self {
        Self::over(MemoryResponses::new(), Responses::default(), None, Settings::default())
    }

    fn over(store: impl ResponseStore, responses: Responses, keys: Option<Keys>, settings: Settings) -> Self {
        let file = "
tiers:
  - { name: first, provider: simulated, model: m }
  - { name: second, provider: simulated, model: n }
retry: { max_attempts: 1 }
circuit_breaker: { consecutive_failures: 0, max_throttle: 1ms }
timeout: 10m
";
        let mut config = Config::from_str(file, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
        config.responses = Some(Responses { keep: Some(Span(HOUR)), ..responses });
        let leaf = |name| Simulated::new(name).reply(WORDS).pace(SECOND);
        let (first, second) = (leaf("one"), leaf("two"));
        let handles = (first.handle(), second.handle());
        let stack = Stack::builder()
            .environment(Environment::default())
            .responses(store)
            .leaf("first", first)
            .leaf("second", second)
            .build(config)
            .unwrap();
        let state = GatewayState::new(stack.service(), Catalog::Stack(stack.handle()), keys, settings);
        Self { gateway: Arc::new(state), first: handles.0, second: handles.1, _stack: stack }
    }

    async fn send(&self, method: &str, path: &str, key: &[(&str, &str)], body: String) -> Answer {
        through(Gateway::over(self.gateway.clone()), method, path, &typed(path, key), body).await
    }

    async fn begin(&self, request: &Value) -> Value {
        let answer = self.send("POST", RESPONSES, &[], request.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    async fn get(&self, id: &Value) -> Value {
        self.send("GET", &path(id, ""), &[], String::new()).await.json()
    }

    async fn cancel(&self, id: &Value) -> Answer {
        self.send("POST", &path(id, "/cancel"), &[], String::new()).await
    }

    /// Returns the response once it has ended.
    async fn end(&self, id: &Value) -> Value {
        for _ in 0..600 {
            let response = self.get(id).await;
            if response["status"].is_string() && response["status"] != "in_progress" {
                return response;
            }
            sleep(SECOND).await;
        }
        panic!("{id} goes on");
    }
}

fn path(id: &Value, more: &str) -> String {
    format!("{RESPONSES}/{}{more}", id.as_str().unwrap())
}

fn asks(text: &str, stream: bool) -> Value {
    let mut request = says(text, None, stream);
    request["background"] = true.into();
    request
}

fn text(response: &Value) -> &str {
    response["output"][0]["content"][0]["text"].as_str().unwrap_or_default()
}

/// The numbers of events.
fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_response_is_there_for_whoever_asks_by_its_id_and_can_be_continued() {
    let rig = Rig::new();
    let begun = Instant::now();
    let queued = rig.begin(&asks("a", false)).await;
    assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waits for the model");
    let id = &queued["id"];
    let form =
        |of: &Value| (of["object"].clone(), of["status"].clone(), of["background"].clone(), of["output"].clone());
    assert_eq!(form(&queued), (json!("response"), json!("queued"), json!(true), json!([])));
    assert_eq!(form(&rig.get(id).await), (json!("response"), json!("in_progress"), json!(true), json!([])));
    let early = rig.send("POST", RESPONSES, &[], says("b", id.as_str(), false).to_string()).await;
    assert!(early.status == 400 && early.body.contains("is in_progress"), "{early:?}");
    let whole = rig.end(id).await;
    assert_eq!((&whole["id"], &whole["status"], &whole["background"]), (id, &json!("completed"), &json!(true)));
    assert_eq!(text(&whole), WORDS);
    assert!(whole["usage"]["output_tokens"].as_u64().unwrap() > 0, "{whole}");
    // It is a turn of a conversation as any other.
    let next = rig.send("POST", RESPONSES, &[], says("b", id.as_str(), false).to_string()).await;
    assert_eq!((next.status, next.text().as_str()), (200, WORDS), "{next:?}");
    let input = rig.send("GET", &path(id, "/input_items"), &[], String::new()).await.json();
    assert_eq!(input["data"][0]["content"][0]["text"], "a", "{input}");
    assert_eq!(rig.gateway.memory.used(), 0);
    assert_eq!(rig.gateway.lifecycle.calls.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_the_same_as_in_the_request_itself() {
    let rig = Rig::new();
    let alone = rig.begin(&says("a", None, false)).await;
    let id = rig.begin(&asks("a", false)).await["id"].clone();
    let mut whole = rig.end(&id).await;
    for own in ["id", "created_at", "completed_at"] {
        whole[own] = alone[own].clone();
    }
    whole["output"][0]["id"] = alone["output"][0]["id"].clone();
    whole["background"] = false.into();
    assert_eq!(whole, alone);
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_from_each_of_its_events_while_it_runs_and_afterwards() {
    let rig = Rig::new();
    let answer = rig.send("POST", RESPONSES, &[], asks("a", true).to_string()).await;
    let all = answer.events();
    assert_eq!(answer.text(), WORDS);
    assert_eq!(numbers(&all), (0..all.len() as u64).collect::<Vec<_>>());
    assert_eq!(kinds(&all)[..3], ["response.created", "response.queued", "response.in_progress"]);
    assert_eq!(kinds(&all).iter().filter(|kind| **kind == "response.created").count(), 1);
    assert_eq!(all.last().unwrap()["type"], "response.completed");
    let id = &all[0]["response"]["id"];
    let mut with_response = all.iter().filter(|event| !event["response"].is_null());
    assert!(with_response.all(|event| event["response"]["id"] == *id && event["response"]["background"] == true));
    let resumed = async |rig: &Rig, id: &Value, after: usize| {
        let query = format!("?stream=true&starting_after={after}");
        rig.send("GET", &path(id, &query), &[], String::new()).await
    };
    for after in 0..all.len() {
        assert_eq!(resumed(&rig, id, after).await.events(), all[after + 1..], "{after}");
    }
    assert_eq!(rig.send("GET", &path(id, "?stream=true"), &[], String::new()).await.events(), all);
    for beyond in [all.len(), usize::MAX] {
        let refused = resumed(&rig, id, beyond).await;
        assert!(refused.status == 400 && refused.body.contains("starting_after"), "{refused:?}");
    }
    // Its caller leaves after some seconds, and comes back while it runs.
    for leaves in [0, 3, 6] {
        let request = http::Request::post(RESPONSES).header("host", "gateway");
        let request = request.header("content-type", "application/json").body(asks("b", true).to_string()).unwrap();
        let response = Gateway::over(rig.gateway.clone()).oneshot(request).await.unwrap();
        let mut body = Box::pin(response.into_body());
        let mut seen = Vec::new();
        let left = Instant::now() + SECOND * leaves;
        while let Ok(Some(frame)) =
            tokio::time::timeout_at(left.max(Instant::now() + Duration::from_millis(1)), body.frame()).await
        {
            seen.extend_from_slice(&frame.unwrap().into_data().unwrap());
            if Instant::now() >= left {
                break;
            }
        }
        drop(body);
        let seen = Answer { status: 200, headers: Default::default(), body: String::from_utf8(seen).unwrap() };
        let id = &seen.events()[0]["response"]["id"];
        assert_eq!(rig.get(id).await["status"], "in_progress");
        let rest = resumed(&rig, id, seen.events().len() - 1).await;
        assert_eq!(seen.text() + &rest.text(), WORDS, "{leaves}");
        let both = [seen.events(), rest.events()].concat();
        assert_eq!(numbers(&both), (0..both.len() as u64).collect::<Vec<_>>());
    }
    // They are gone five minutes after the end; the response stays.
    sleep(SECOND * 301).await;
    let gone = resumed(&rig, id, 0).await;
    assert!(gone.status == 400 && gone.body.contains("five minutes"), "{gone:?}");
    assert_eq!(rig.get(id).await["status"], "completed");
    assert_eq!(rig.gateway.memory.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_a_silent_response_gets_signs_of_life() {
    let rig = Rig::new();
    rig.first.fail(Fault::Slow(SECOND * 100));
    rig.second.fail(Fault::Slow(SECOND * 100));
    let answer = rig.send("POST", RESPONSES, &[], asks("a", true).to_string()).await;
    assert_eq!(answer.text(), WORDS);
    assert!(answer.body.matches(": keep-alive").count() >= 3, "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn another_tier_answers_without_anybodys_notice() {
    let rig = Rig::new();
    for (fault, stream) in [(Fault::Overloaded, false), (Fault::Refused, true), (Fault::Hang, false)] {
        rig.first.fail_next(1, &fault);
        let id = match stream {
            true => {
                let answer = rig.send("POST", RESPONSES, &[], asks(fault.name(), true).to_string()).await;
                answer.events()[0]["response"]["id"].clone()
            }
            false => rig.begin(&asks(fault.name(), false)).await["id"].clone(),
        };
        let whole = rig.end(&id).await;
        assert_eq!((text(&whole), &whole["model"]), (WORDS, &json!("two")), "{fault:?}: {whole}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_no_tier_gives_is_kept_as_failed() {
    for (fault, stream) in [(Fault::Overloaded, false), (Fault::CutAfter(3), false), (Fault::CutAfter(3), true)] {
        let rig = Rig::new();
        rig.first.fail(fault.clone());
        rig.second.fail(fault.clone());
        let id = match stream {
            true => {
                let answer = rig.send("POST", RESPONSES, &[], asks("a", true).to_string()).await;
                let (all, last) = (answer.events(), answer.events().pop().unwrap());
                assert_eq!(numbers(&all), (0..all.len() as u64).collect::<Vec<_>>());
                assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.failed"), &json!("failed")));
                last["response"]["id"].clone()
            }
            false => rig.begin(&asks("a", false)).await["id"].clone(),
        };
        let failed = rig.end(&id).await;
        assert_eq!((&failed["status"], &failed["background"], &failed["id"]), (&json!("failed"), &json!(true), &id));
        assert!(failed["error"]["code"].is_string() && failed["error"]["message"].is_string(), "{failed}");
        let next = rig.send("POST", RESPONSES, &[], says("b", id.as_str(), false).to_string()).await;
        assert!(next.status == 400 && next.body.contains("is failed"), "{next:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_response_costs_nothing_more() {
    for stream in [false, true] {
        let rig = Rig::new();
        let begun = async {
            match stream {
                false => rig.begin(&asks("a", false)).await["id"].clone(),
                true => {
                    let request = http::Request::post(RESPONSES).header("host", "gateway");
                    let request =
                        request.header("content-type", "application/json").body(asks("a", true).to_string()).unwrap();
                    let mut response = Gateway::over(rig.gateway.clone()).oneshot(request).await.unwrap();
                    let first = response.frame().await.unwrap().unwrap().into_data().unwrap();
                    let body = String::from_utf8(first.to_vec()).unwrap();
                    Answer { status: 200, headers: Default::default(), body }.events()[0]["response"]["id"].clone()
                }
            }
        };
        let id = begun.await;
        sleep(SECOND * 3).await;
        assert_eq!(rig.first.stats().in_flight, 1);
        for _ in 0..2 {
            let cancelled = rig.cancel(&id).await;
            let response = cancelled.json();
            assert_eq!((cancelled.status, &response["status"], &response["id"]), (200, &json!("cancelled"), &id));
            tokio::task::yield_now().await;
            assert_eq!((rig.first.stats().in_flight, rig.second.stats().calls), (0, 0));
        }
        sleep(SECOND * 30).await;
        assert_eq!(rig.get(&id).await["status"], "cancelled");
        assert_eq!((rig.first.stats().calls, rig.second.stats().calls), (1, 0));
        if stream {
            let all = rig.send("GET", &path(&id, "?stream=true"), &[], String::new()).await.events();
            let last = all.last().unwrap();
            assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.failed"), &json!("cancelled")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_response_that_runs_in_the_background_is_cancelled() {
    let rig = Rig::new();
    let foreground = rig.begin(&says("a", None, false)).await["id"].clone();
    let ended = rig.begin(&asks("a", false)).await["id"].clone();
    rig.end(&ended).await;
    for (id, word) in [(&foreground, "background: true"), (&ended, "completed already")] {
        let refused = rig.cancel(id).await;
        assert!(refused.status == 400 && refused.body.contains(word), "{refused:?}");
        assert_eq!(rig.get(id).await["status"], "completed");
    }
    assert_eq!(rig.cancel(&format!("resp_sf_{}", "0".repeat(48)).into()).await.status, 404);
    // One that is deleted while it runs is gone, and so is its call.
    let deleted = rig.begin(&asks("b", false)).await["id"].clone();
    sleep(SECOND).await;
    assert_eq!(rig.send("DELETE", &path(&deleted, ""), &[], String::new()).await.status, 200);
    tokio::task::yield_now().await;
    assert_eq!(rig.first.stats().in_flight, 0);
    sleep(SECOND * 60).await;
    assert_eq!(rig.send("GET", &path(&deleted, ""), &[], String::new()).await.status, 404);
    // One that has ended leaves no event behind.
    let answer = rig.send("POST", RESPONSES, &[], asks("c", true).to_string()).await;
    let deleted = answer.events()[0]["response"]["id"].clone();
    assert!(rig.gateway.memory.used() > 0);
    assert_eq!(rig.send("DELETE", &path(&deleted, ""), &[], String::new()).await.status, 200);
    assert_eq!(rig.gateway.memory.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_sees_or_stops_anothers_response() {
    let keys = keys_of(&[entry("one", "one", ""), entry("two", "two", "")]);
    let rig = Rig::over(MemoryResponses::new(), Responses::default(), Some(keys), Settings::default());
    let (one, two) = ([("authorization", "Bearer one")], [("authorization", "Bearer two")]);
    let id = rig.send("POST", RESPONSES, &one, asks("a", true).to_string()).await.events()[0]["response"]["id"].clone();
    for (method, more) in
        [("GET", ""), ("GET", "?stream=true"), ("POST", "/cancel"), ("DELETE", ""), ("GET", "/input_items")]
    {
        let refused = rig.send(method, &path(&id, more), &two, String::new()).await;
        assert_eq!(refused.status, 404, "{method} {more}: {refused:?}");
    }
    assert_eq!(rig.send("GET", &path(&id, "?stream=true"), &one, String::new()).await.text(), WORDS);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_run_in_the_background_is_refused_by_name() {
    let rig = Rig::new();
    let with = |name: &str, value: Value| {
        let mut request = asks("a", false);
        request[name] = value;
        request
    };
    for (request, word) in [
        (with("store", false.into()), "`store: true`"),
        (with("conversation", "conv_1".into()), "`conversation`"),
        (with("previous_response_id", "resp_of_a_provider".into()), "`previous_response_id`"),
        (with("input", json!([{"type": "item_reference", "id": "msg_1"}])), "`item_reference`"),
    ] {
        let refused = rig.send("POST", RESPONSES, &[], request.to_string()).await;
        assert!(refused.status == 400 && refused.body.contains(word), "{request}: {refused:?}");
    }
    let unknown = with("previous_response_id", format!("resp_sf_{}", "0".repeat(48)).into());
    assert_eq!(rig.send("POST", RESPONSES, &[], unknown.to_string()).await.status, 400);
    assert_eq!((rig.first.stats().calls, rig.gateway.lifecycle.calls.len(), rig.gateway.memory.used()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_stopped_gateway_left_may_be_repeated() {
    let store = MemoryResponses::new();
    let other = Rig::over(store.clone(), Responses::default(), None, Settings::default());
    // A process that is killed: nothing of it runs any more.
    let killed = std::thread::spawn({
        let store = store.clone();
        move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let rig = Rig::over(store, Responses::default(), None, Settings::default());
                let id = rig.begin(&asks("a", false)).await["id"].clone();
                tokio::task::yield_now().await;
                id
            })
        }
    });
    let id = killed.join().unwrap();
    assert_eq!(other.get(&id).await["status"], "in_progress");
    sleep(SECOND * 61).await;
    let failed = other.get(&id).await;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("server_error")));
    assert!(failed["error"]["message"].as_str().unwrap().contains("may be sent again"), "{failed}");
    let next = other.send("POST", RESPONSES, &[], says("b", id.as_str(), false).to_string()).await;
    assert!(next.status == 400 && next.body.contains("is failed"), "{next:?}");
    assert_eq!(other.cancel(&id).await.json()["status"], "cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_stops_says_so_at_once() {
    let rig = Rig::new();
    let id = rig.begin(&asks("a", false)).await["id"].clone();
    sleep(SECOND * 2).await;
    rig.gateway.lifecycle.calls.close();
    rig.gateway.lifecycle.cut.cancel();
    rig.gateway.lifecycle.calls.wait().await;
    let failed = rig.get(&id).await;
    assert!(failed["status"] == "failed" && failed["error"]["message"].to_string().contains("stopping"), "{failed}");
    assert_eq!(rig.first.stats().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn another_gateway_reads_and_cancels_it() {
    let store = MemoryResponses::new();
    let makes = Rig::over(store.clone(), Responses::default(), None, Settings::default());
    let other = Rig::over(store, Responses::default(), None, Settings::default());
    makes.first.pace(SECOND * 60);
    let long = makes.begin(&asks("a", false)).await["id"].clone();
    // Its lease is renewed for as long as it runs.
    sleep(SECOND * 300).await;
    assert_eq!(other.get(&long).await["status"], "in_progress");
    let events = other.send("GET", &path(&long, "?stream=true"), &[], String::new()).await;
    assert!(events.status == 400 && events.body.contains("by the gateway that makes it"), "{events:?}");
    assert_eq!(other.cancel(&long).await.json()["status"], "cancelled");
    sleep(SECOND * 11).await;
    assert_eq!((makes.first.stats().in_flight, makes.gateway.lifecycle.calls.len()), (0, 0));
    assert_eq!(makes.get(&long).await["status"], "cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_response_holds_its_keys_place_until_its_end() {
    let keys = keys_of(&[entry("one", "one", ", concurrency: 1")]);
    let rig = Rig::over(MemoryResponses::new(), Responses::default(), Some(keys), Settings::default());
    let one = [("authorization", "Bearer one")];
    rig.send("POST", RESPONSES, &one, asks("a", false).to_string()).await;
    sleep(SECOND).await;
    let refused = rig.send("POST", RESPONSES, &one, says("b", None, false).to_string()).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    // A second one in the background is told as failed, in the words of that refusal.
    let second = rig.send("POST", RESPONSES, &one, asks("c", false).to_string()).await.json()["id"].clone();
    tokio::task::yield_now().await;
    let failed = rig.send("GET", &path(&second, ""), &one, String::new()).await.json();
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &refused.json()["error"]["code"]));
    assert_eq!(failed["error"]["message"], refused.json()["error"]["message"]);
    sleep(SECOND * 20).await;
    let free = rig.send("POST", RESPONSES, &one, says("b", None, false).to_string()).await;
    assert_eq!(free.status, 200, "{free:?}");
}

/// A store that can be taken away.
#[derive(Debug)]
struct Flaky {
    store: MemoryResponses,
    is_away: Arc<AtomicBool>,
    /// True if its next end is kept, but told only after the gateway's patience.
    is_slow: Arc<AtomicBool>,
}

impl Flaky {
    fn call<'a, T: Send + 'a>(&self, call: StoreFuture<'a, T>) -> StoreFuture<'a, T> {
        match self.is_away.load(Relaxed) {
            true => Box::pin(async { Err(StoreError::new(StoreErrorKind::Unavailable, "it is away")) }),
            false => call,
        }
    }
}

impl ResponseStore for Flaky {
    fn put(&self, response: StoredResponse, keep: Duration) -> StoreFuture<'_, ()> {
        self.call(self.store.put(response, keep))
    }

    fn begin(&self, response: StoredResponse, keep: Duration, lease: Duration) -> StoreFuture<'_, ()> {
        self.call(self.store.begin(response, keep, lease))
    }

    fn renew<'a>(&'a self, owner: &'a str, id: &'a str, lease: Duration) -> StoreFuture<'a, bool> {
        self.call(self.store.renew(owner, id, lease))
    }

    fn end(&self, response: StoredResponse, keep: Duration) -> StoreFuture<'_, bool> {
        if self.is_slow.swap(false, Relaxed) {
            return Box::pin(async move {
                self.store.end(response, keep).await?;
                sleep(SECOND * 3).await;
                Ok(true)
            });
        }
        self.call(self.store.end(response, keep))
    }

    fn get<'a>(&'a self, owner: &'a str, id: &'a str) -> StoreFuture<'a, Option<StoredResponse>> {
        self.call(self.store.get(owner, id))
    }

    fn path<'a>(&'a self, owner: &'a str, id: &'a str, limits: PathLimits) -> StoreFuture<'a, ResponsePath> {
        self.call(self.store.path(owner, id, limits))
    }

    fn with_item<'a>(&'a self, owner: &'a str, item: &'a str) -> StoreFuture<'a, Option<StoredResponse>> {
        self.call(self.store.with_item(owner, item))
    }

    fn delete<'a>(&'a self, owner: &'a str, id: &'a str) -> StoreFuture<'a, bool> {
        self.call(self.store.delete(owner, id))
    }

    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        self.call(self.store.forget_owner(owner))
    }

    fn sweep(&self, bytes: u64) -> StoreFuture<'_, ()> {
        self.call(self.store.sweep(bytes))
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_its_store() {
    let is_away = Arc::new(AtomicBool::new(false));
    let store = Flaky { store: MemoryResponses::new(), is_away: is_away.clone(), is_slow: Arc::default() };
    let rig = Rig::over(store, Responses::default(), None, Settings::default());
    let (kept, lost) =
        (rig.begin(&asks("a", false)).await["id"].clone(), rig.begin(&asks("b", false)).await["id"].clone());
    sleep(SECOND * 2).await;
    rig.second.fail(Fault::Overloaded);
    is_away.store(true, Relaxed);
    let refused = rig.send("POST", RESPONSES, &[], asks("c", false).to_string()).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused:?}");
    sleep(SECOND * 90).await;
    is_away.store(false, Relaxed);
    for id in [&kept, &lost] {
        let response = rig.end(id).await;
        assert_eq!(text(&response), WORDS, "{response}");
    }
    assert_eq!(rig.gateway.memory.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_kept_a_moment_before_a_sign_of_life_is_no_cancelled_one() {
    let is_away = Arc::new(AtomicBool::new(false));
    let store = Flaky { store: MemoryResponses::new(), is_away, is_slow: Arc::new(AtomicBool::new(true)) };
    let rig = Rig::over(store, Responses::default(), None, Settings::default());
    // Its end is kept in second 19, as the store says in second 22; a sign of life is due in second 20.
    rig.first.pace(Duration::from_millis(1900));
    let answer = rig.send("POST", RESPONSES, &[], asks("a", true).to_string()).await;
    let last = answer.events().pop().unwrap();
    assert_eq!((&last["type"], answer.text().as_str()), (&json!("response.completed"), WORDS), "{last}");
    assert_eq!(rig.get(&last["response"]["id"]).await["status"], "completed");
}

#[tokio::test(start_paused = true)]
async fn an_answer_over_the_limit_is_told_as_failed() {
    let responses = Responses { max_response: Some(Size(900)), ..Responses::default() };
    let rig = Rig::over(MemoryResponses::new(), responses, None, Settings::default());
    let id = rig.begin(&asks("a", false)).await["id"].clone();
    let failed = rig.end(&id).await;
    assert!(
        failed["status"] == "failed" && failed["error"]["message"].to_string().contains("max_response"),
        "{failed}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_callers_responses_leave_memory_to_the_others() {
    let keys = keys_of(&[entry("one", "one", ""), entry("two", "two", "")]);
    let settings = Settings { memory: 8 << 20, ..Settings::default() };
    let rig = Rig::over(MemoryResponses::new(), Responses::default(), Some(keys), settings);
    let (one, two) = ([("authorization", "Bearer one")], [("authorization", "Bearer two")]);
    let mut begun = 0;
    let refused = loop {
        let answer = rig.send("POST", RESPONSES, &one, asks("a", false).to_string()).await;
        match answer.status {
            200 => begun += 1,
            _ => break answer,
        }
        assert!(begun < 1000, "no limit");
    };
    assert!(begun >= 10, "{begun}");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused:?}");
    let other = rig.send("POST", RESPONSES, &two, asks("a", false).to_string()).await;
    assert_eq!(other.status, 200, "{other:?}");
    sleep(SECOND * 60).await;
    assert_eq!((rig.gateway.memory.used(), rig.gateway.lifecycle.calls.len()), (0, 0));
}

#[tokio::test]
async fn every_dialect_answers_in_the_background_and_goes_on_after_a_failover() {
    for kind in ["responses", "chat", "messages", "gemini"] {
        let chain = Chain::start(kind).await;
        for (fails, words) in [(false, "I am the first."), (true, "I am the second.")] {
            for stream in [false, true] {
                if fails {
                    chain.fail_first();
                }
                let answer = chain.ask(&[], &asks(&format!("{fails} {stream}"), stream)).await;
                assert_eq!(answer.status, 200, "{kind}: {answer:?}");
                let first = if stream { answer.events()[0]["response"].clone() } else { answer.json() };
                let get = async || chain.send("GET", &path(&first["id"], ""), &[]).await.json();
                let mut response = get().await;
                while response["status"] == "in_progress" {
                    sleep(Duration::from_millis(5)).await;
                    response = get().await;
                }
                assert_eq!(text(&response), words, "{kind}: {response}");
                assert_eq!((&response["id"], &response["background"]), (&first["id"], &json!(true)), "{kind}");
                if stream {
                    let all = answer.events();
                    assert_eq!(answer.text(), words);
                    assert_eq!(numbers(&all), (0..all.len() as u64).collect::<Vec<_>>(), "{kind}: {answer:?}");
                    assert_eq!(kinds(&all).iter().filter(|kind| **kind == "response.created").count(), 1);
                }
                let next = chain.ask(&[], &says("next", first["id"].as_str(), false)).await;
                assert_eq!(next.status, 200, "{kind}: {next:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_of_sqlite_keeps_it_too() {
    let folder = std::env::temp_dir().join(format!("steadfast-background-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("responses.db");
    let store = Sqlite::open(&file).unwrap();
    let rig = Rig::over(store, Responses::default(), None, Settings::default());
    rig.first.pace(Duration::from_millis(1));
    let id = rig.begin(&asks("a", false)).await["id"].clone();
    let mut response = rig.get(&id).await;
    while response["status"] == "in_progress" {
        sleep(Duration::from_millis(5)).await;
        response = rig.get(&id).await;
    }
    assert_eq!(text(&response), WORDS, "{response}");
    std::fs::remove_dir_all(folder).unwrap();
}
