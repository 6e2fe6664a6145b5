//! Kept responses: conversations that go on by an id, wherever they are served.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use steadfast::{
    BoxLlmService, Dialect, LlmBody, LlmError, LlmRequest, LlmResponse,
    chat::Message,
    layers::cache::AnswerOwner,
    provider_fn,
    providers::{
        Anthropic, Canned, Gemini, OpenAi,
        simulated::{Fault, Simulated},
    },
    store::{StoreError, StoreErrorKind},
};
use steadfast_simulator::SimulatedServer;
use steadfast_stack::{Config, Environment, Format, Responses, Size, Span, Stack};
use steadfast_stores::{
    responses::{MemoryResponses, PathLimits, ResponsePath, ResponseStore, StoreFuture, StoredResponse},
    sqlite::Sqlite,
};
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

use super::harness::*;
use crate::{Gateway, api::Keys, limits::Settings};

const ONE: (&str, &str) = ("authorization", "Bearer one");
const TWO: (&str, &str) = ("authorization", "Bearer two");
const HOUR: Duration = Duration::from_secs(3600);
const FIRST: &str = "I am the first.";
const SECOND: &str = "I am the second.";

/// The requests that leaves received: each tier's name, and the caller's bytes as they reached it.
type Sent = Arc<Mutex<Vec<(&'static str, String)>>>;

/// A tier of OpenAI's Responses, and a second one of any dialect, over real HTTP.
pub(super) struct Chain {
    stack: Stack,
    server: Server,
    pub(super) first: SimulatedServer,
    sent: Sent,
}

fn keep() -> Responses {
    Responses { keep: Some(Span(HOUR)), ..Responses::default() }
}

fn keys() -> Keys {
    keys_of(&[entry("one", "one", ""), entry("two", "two", "")])
}

fn config(second: &str, responses: Option<Responses>) -> Config {
    let provider = match second {
        "messages" => "anthropic, model: claude-sonnet-4-5",
        "gemini" => "gemini, model: gemini-2.5-flash",
        "chat" => "openai, api: chat, model: gpt-4o, base_url: 'http://localhost:1/v1'",
        _ => "openai, api: responses, model: gpt-4o, base_url: 'http://localhost:1/v1'",
    };
    let file = format!(
        "
tiers:
  - name: first
    provider: openai
    api: responses
    model: gpt-4o
    base_url: 'http://localhost:1/v1'
    compaction: true
  - {{ name: second, provider: {provider}, api_key: '${{KEY}}' }}
retry: {{ max_attempts: 1 }}
circuit_breaker: {{ consecutive_failures: 0, max_throttle: 1ms }}
"
    );
    let environment = Environment::default();
    let loader = steadfast_stack::Loader::new().environment(environment);
    let mut config = loader.text(&file, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
    config.responses = responses;
    config
}

/// A leaf that notes the bytes that it gets.
fn noted<S>(name: &'static str, leaf: S, sent: &Sent) -> BoxLlmService
where
    S: tower::Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let sent = sent.clone();
    BoxLlmService::new(provider_fn(move |request: LlmRequest| {
        let body = String::from_utf8(request.wire().unwrap().body().to_vec()).unwrap();
        sent.lock().unwrap().push((name, body));
        leaf.clone().oneshot(request)
    }))
}

impl Chain {
    pub(super) async fn start(second: &str) -> Self {
        Self::over(second, MemoryResponses::new(), Some(keep()), None).await
    }

    async fn with_keys() -> Self {
        Self::over("messages", MemoryResponses::new(), Some(keep()), Some(keys())).await
    }

    async fn over(kind: &str, store: impl ResponseStore, responses: Option<Responses>, keys: Option<Keys>) -> Self {
        let first = SimulatedServer::start(Simulated::new("one").reply(FIRST)).await.unwrap();
        let second = SimulatedServer::start(Simulated::new("two").reply(SECOND)).await.unwrap();
        let sent = Sent::default();
        let openai = |server: &SimulatedServer| {
            OpenAi::new("sk").base_url(&format!("{}/v1", server.base_url())).unwrap().model("gpt-4o")
        };
        let url = second.base_url();
        let own = match kind {
            "messages" => {
                noted("second", Anthropic::new("sk").base_url(&url).unwrap().model("claude-sonnet-4-5"), &sent)
            }
            "gemini" => noted("second", Gemini::new("sk").base_url(&url).unwrap().model("gemini-2.5-flash"), &sent),
            "chat" => noted("second", openai(&second), &sent),
            _ => noted("second", openai(&second).responses(), &sent),
        };
        let stack = Stack::builder()
            .environment(Environment::default())
            .responses(store)
            .leaf("first", noted("first", openai(&first).responses(), &sent))
            .leaf("second", own)
            .build(config(kind, responses))
            .unwrap();
        let server = Server::with_stack(&stack, keys, Settings::default()).await;
        // It serves as long as the tests run.
        std::mem::forget(second);
        Self { stack, server, first, sent }
    }

    pub(super) async fn ask(&self, key: &[(&str, &str)], request: &Value) -> Answer {
        self.server.post(RESPONSES, key, request).await
    }

    /// Returns the response object of an answer that is complete, and its text.
    async fn turn(&self, key: &[(&str, &str)], request: &Value) -> (Value, String) {
        let answer = self.ask(key, request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let response = match request["stream"] == true {
            true => answer.events().pop().unwrap()["response"].clone(),
            false => answer.json(),
        };
        assert_eq!(response["status"], "completed", "{answer:?}");
        if request["stream"] == true {
            for event in answer.events().iter().filter(|event| !event["response"].is_null()) {
                assert_eq!(event["response"]["id"], response["id"], "{answer:?}");
            }
        }
        (response, answer.text())
    }

    pub(super) fn fail_first(&self) {
        self.first.handle().fail_next(1, &Fault::ServerError);
    }

    /// Returns the tiers and the bodies since the last look.
    fn sent(&self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut *self.sent.lock().unwrap())
    }

    pub(super) async fn send(&self, method: &str, path: &str, key: &[(&str, &str)]) -> Answer {
        let mut client = self.server.connect().await;
        client.send(&request(method, path, key, b"")).await;
        client.answer().await
    }
}

pub(super) fn says(text: &str, previous: Option<&str>, stream: bool) -> Value {
    let mut request = json!({"model": "any", "input": text, "stream": stream});
    if let Some(previous) = previous {
        request["previous_response_id"] = previous.into();
    }
    request
}

fn id(response: &Value) -> &str {
    response["id"].as_str().unwrap()
}

fn is_ours(id: &str) -> bool {
    id.starts_with("resp_sf_")
}

/// The texts of a request's input.
fn texts(body: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(body).unwrap();
    let items = body["input"].as_array().cloned().unwrap_or_else(|| vec![json!({"content": body["input"]})]);
    let text =
        |item: &Value| item["content"].as_str().or_else(|| item["content"][0]["text"].as_str()).map(str::to_owned);
    items.iter().filter_map(text).collect()
}

#[tokio::test]
async fn a_conversation_goes_on_at_the_account_that_keeps_it_by_that_accounts_id() {
    for stream in [false, true] {
        let chain = Chain::start("messages").await;
        let (one, _) = chain.turn(&[], &says("one", None, stream)).await;
        assert!(is_ours(id(&one)), "{one}");
        let asked = says("two", Some(id(&one)), stream);
        let (two, text) = chain.turn(&[], &asked).await;
        assert_eq!(
            (text.as_str(), two["previous_response_id"].as_str(), is_ours(id(&two))),
            (FIRST, Some(id(&one)), true)
        );
        let sent = chain.sent();
        assert_eq!(sent.iter().map(|(tier, _)| *tier).collect::<Vec<_>>(), ["first", "first"]);
        // The caller's own bytes, but for the id.
        let own: Value = serde_json::from_str(&sent[1].1).unwrap();
        let native = own["previous_response_id"].as_str().unwrap();
        assert!(!is_ours(native), "{own}");
        assert_eq!(sent[1].1, asked.to_string().replace(id(&one), native));
    }
}

#[tokio::test]
async fn a_conversation_survives_a_failover_to_any_dialect_and_back() {
    for kind in ["responses", "chat", "messages", "gemini"] {
        for stream in [false, true] {
            let chain = Chain::start(kind).await;
            let (one, _) = chain.turn(&[], &says("one", None, stream)).await;
            chain.fail_first();
            let (two, text) = chain.turn(&[], &says("two", Some(id(&one)), stream)).await;
            assert_eq!((text.as_str(), two["previous_response_id"].as_str()), (SECOND, Some(id(&one))), "{kind}");
            let (three, text) = chain.turn(&[], &says("three", Some(id(&two)), stream)).await;
            assert_eq!(text, FIRST, "{kind}");
            let (_, text) = chain.turn(&[], &says("four", Some(id(&three)), stream)).await;
            assert_eq!(text, FIRST, "{kind}");
            let sent = chain.sent();
            let seen: Vec<_> = sent.iter().map(|(tier, body)| (*tier, texts(body))).collect();
            let all = ["one", FIRST, "two", SECOND, "three"];
            assert_eq!(
                seen,
                [
                    ("first", vec!["one".to_owned()]),
                    ("first", vec!["two".to_owned()]),
                    ("second", all[..3].iter().map(ToString::to_string).collect()),
                    ("first", all.map(str::to_owned).to_vec()),
                    // The first account has all of it again.
                    ("first", vec!["four".to_owned()]),
                ],
                "{kind}"
            );
        }
    }
}

#[tokio::test]
async fn an_account_that_lost_the_conversation_gets_all_of_it_and_its_circuit_sees_no_failure() {
    let store = MemoryResponses::new();
    let chain = Chain::over("messages", store.clone(), Some(keep()), None).await;
    let (one, _) = chain.turn(&[], &says("one", None, false)).await;
    // The provider has deleted its own.
    let mut lost = store.get("", id(&one)).await.unwrap().unwrap();
    assert!(store.delete("", id(&one)).await.unwrap());
    lost.origin.as_mut().unwrap().id = "resp_gone".to_owned();
    store.put(lost, HOUR).await.unwrap();
    chain.sent();
    let (two, text) = chain.turn(&[], &says("two", Some(id(&one)), false)).await;
    assert_eq!((text.as_str(), two["previous_response_id"].as_str()), (FIRST, Some(id(&one))));
    let sent = chain.sent();
    assert_eq!(
        sent.iter().map(|(tier, body)| (*tier, texts(body).len())).collect::<Vec<_>>(),
        [("first", 1), ("first", 3)]
    );
}

/// The simulated provider has no compaction, so that the account gets the request in both forms.
#[tokio::test]
async fn a_kept_conversation_is_compacted_by_its_id() {
    const COMPACT: &str = "/v1/responses/compact";
    let chain = Chain::start("messages").await;
    let (one, _) = chain.turn(&[], &says("one", None, false)).await;
    chain.sent();
    let compact = |id: &str| json!({"model": "any", "previous_response_id": id});
    let asked = compact(id(&one));
    assert_eq!(chain.server.post(COMPACT, &[], &asked).await.status, 404);
    let sent = chain.sent();
    assert_eq!(sent.iter().map(|(tier, _)| *tier).collect::<Vec<_>>(), ["first", "first"]);
    let native: Value = serde_json::from_str(&sent[0].1).unwrap();
    let native = native["previous_response_id"].as_str().unwrap();
    assert!(!is_ours(native), "{native}");
    assert_eq!(sent[0].1, asked.to_string().replace(id(&one), native));
    assert_eq!(texts(&sent[1].1), ["one", FIRST]);
    let unknown = chain.server.post(COMPACT, &[], &compact(&format!("resp_sf_{}", "0".repeat(48)))).await;
    assert_eq!(unknown.json()["error"]["code"], "previous_response_not_found", "{unknown:?}");
    assert!(chain.sent().is_empty());
}

#[tokio::test]
async fn a_response_is_read_listed_and_deleted_by_its_id() {
    let chain = Chain::start("messages").await;
    let (one, _) = chain.turn(&[], &json!({"model": "m", "input": [{"role": "user", "content": "one"}]})).await;
    let (two, _) = chain.turn(&[], &says("two", Some(id(&one)), true)).await;
    for response in [&one, &two] {
        let read = chain.send("GET", &format!("/v1/responses/{}", id(response)), &[]).await;
        assert_eq!((read.status, &read.json()), (200, response));
    }
    let path = format!("/v1/responses/{}/input_items", id(&two));
    let list = |query: &str| {
        let path = format!("{path}{query}");
        let chain = &chain;
        async move { chain.send("GET", &path, &[]).await }
    };
    let all = list("?order=asc").await.json();
    let texts: Vec<_> =
        all["data"].as_array().unwrap().iter().map(|item| item["content"][0]["text"].as_str().unwrap()).collect();
    assert_eq!((texts, &all["object"], &all["has_more"]), (vec!["one", FIRST, "two"], &json!("list"), &json!(false)));
    let ids: Vec<&Value> = all["data"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
    assert!(ids.iter().all(|id| id.as_str().unwrap().starts_with("msg_")), "{all}");
    assert_eq!((&all["first_id"], &all["last_id"]), (ids[0], ids[2]));
    let newest = list("?limit=2").await.json();
    assert_eq!((&newest["data"][0]["id"], &newest["last_id"], &newest["has_more"]), (ids[2], ids[1], &json!(true)));
    let rest = list(&format!("?limit=2&after={}", ids[1].as_str().unwrap())).await.json();
    assert_eq!(
        (&rest["data"][0]["id"], rest["data"].as_array().unwrap().len(), &rest["has_more"]),
        (ids[0], 1, &json!(false))
    );
    for wrong in ["?limit=0", "?limit=101", "?limit=x", "?order=up", "?after=msg_none", "?order=%zz"] {
        assert_eq!(list(wrong).await.status, 400, "{wrong}");
    }
    let path = format!("/v1/responses/{}", id(&one));
    for (method, path, name) in
        [("GET", format!("{path}?stream=true"), "`stream`"), ("POST", format!("{path}/cancel"), "`cancel`")]
    {
        let refused = chain.send(method, &path, &[]).await;
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(refused.status == 400 && message.contains(name), "{refused:?}");
    }
    let deleted = chain.send("DELETE", &path, &[]).await;
    assert_eq!(deleted.json(), json!({"id": id(&one), "object": "response", "deleted": true}));
    assert_eq!((chain.send("GET", &path, &[]).await.status, chain.send("DELETE", &path, &[]).await.status), (404, 404));
    // Nor does what was built on it go on.
    for gone in [&one, &two] {
        assert_eq!(chain.ask(&[], &says("more", Some(id(gone)), false)).await.status, 400);
    }
}

/// The words are OpenAI's, as recorded.
#[tokio::test]
async fn a_response_that_a_caller_does_not_have_is_unknown_in_openais_words() {
    let chain = Chain::with_keys().await;
    let (one, _) = chain.turn(&[ONE], &says("a secret", None, false)).await;
    let unknown = format!("resp_sf_{}", "0".repeat(48));
    chain.sent();
    for gone in [id(&one), &unknown] {
        for stream in [false, true] {
            let refused = chain.ask(&[TWO], &says("go on", Some(gone), stream)).await;
            let error = json!({"error": {
                "message": format!("Previous response with id '{gone}' not found."),
                "type": "invalid_request_error", "param": "previous_response_id", "code": "previous_response_not_found"}});
            assert_eq!((refused.status, refused.json()), (400, error));
        }
        for (method, path) in [("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")] {
            let refused = chain.send(method, &format!("/v1/responses/{gone}{path}"), &[TWO]).await;
            let message = refused.json()["error"]["message"].clone();
            assert_eq!((refused.status, message), (404, json!(format!("Response with id '{gone}' not found."))));
        }
    }
    // Nor does an item's id open another caller's response.
    let item = one["output"][0]["id"].as_str().unwrap();
    let asked =
        json!({"model": "m", "input": [{"type": "item_reference", "id": item}, {"role": "user", "content": "x"}]});
    let answer = chain.ask(&[TWO], &asked).await;
    let sent = chain.sent();
    assert!(sent.iter().all(|(_, body)| !body.contains(FIRST) && !body.contains("secret")), "{sent:?}");
    assert!(!answer.body.contains("secret"));
    assert_eq!(chain.send("GET", &format!("/v1/responses/{}", id(&one)), &[ONE]).await.status, 200);
}

#[tokio::test]
async fn where_nothing_is_kept_request_and_ids_pass_as_they_are() {
    let without = Chain::over("messages", MemoryResponses::new(), None, None).await;
    let with = Chain::start("messages").await;
    for stream in [false, true] {
        let mut unstored = says("one", None, stream);
        unstored["store"] = false.into();
        for (chain, request) in [(&without, says("one", None, stream)), (&with, unstored)] {
            let (response, _) = chain.turn(&[], &request).await;
            assert!(!is_ours(id(&response)), "{response}");
            let read = chain.send("GET", &format!("/v1/responses/{}", id(&response)), &[]).await;
            assert_eq!(read.status, 404);
            assert_eq!(chain.sent().pop().unwrap().1, request.to_string());
        }
    }
    // A kept conversation goes on without being kept.
    let (one, _) = with.turn(&[], &says("one", None, false)).await;
    let mut unstored = says("two", Some(id(&one)), true);
    unstored["store"] = false.into();
    let (two, _) = with.turn(&[], &unstored).await;
    assert_eq!((is_ours(id(&two)), two["previous_response_id"].as_str()), (false, Some(id(&one))));
}

#[tokio::test]
async fn a_conversation_that_a_provider_alone_knows_stays_the_providers() {
    let chain = Chain::start("messages").await;
    // The provider's id, from a time without `keep`.
    let without = Chain::over("messages", MemoryResponses::new(), None, None).await;
    let (old, _) = without.turn(&[], &says("one", None, false)).await;
    let request = says("two", Some(id(&old)), false);
    let (next, _) = chain.turn(&[], &request).await;
    assert_eq!((is_ours(id(&next)), next["previous_response_id"].as_str()), (false, Some(id(&old))));
    assert_eq!(chain.sent(), [("first", request.to_string())]);
    // No other tier has it: the refusal names the field.
    chain.fail_first();
    let refused = chain.ask(&[], &request).await;
    assert!(refused.status >= 400 && !refused.text().contains(SECOND), "{refused:?}");
}

#[tokio::test]
async fn an_item_is_named_by_its_id_wherever_it_is_served() {
    let chain = Chain::start("messages").await;
    let (one, _) = chain.turn(&[], &says("one", None, false)).await;
    let item = one["output"].as_array().unwrap().iter().find(|item| item["type"] == "message").unwrap();
    let asked = json!({"model": "m", "input": [
        {"type": "item_reference", "id": item["id"]}, {"role": "user", "content": "go on"}]});
    chain.sent();
    chain.turn(&[], &asked).await;
    assert_eq!(chain.sent(), [("first", asked.to_string())], "its own account finds it");
    chain.fail_first();
    let (two, text) = chain.turn(&[], &asked).await;
    assert_eq!((text.as_str(), is_ours(id(&two))), (SECOND, true));
    assert_eq!(texts(&chain.sent()[1].1), [FIRST, "go on"]);
    // What is kept has the item, and not its name.
    let kept = chain.send("GET", &format!("/v1/responses/{}/input_items?order=asc", id(&two)), &[]).await.json();
    assert_eq!(kept["data"][0], *item);
}

#[tokio::test]
async fn two_requests_that_continue_the_same_response_are_two_branches() {
    let chain = Chain::start("messages").await;
    let (one, _) = chain.turn(&[], &says("one", None, false)).await;
    let asked: Vec<Value> =
        ["left", "right", "middle", "other"].map(|word| says(word, Some(id(&one)), word.len() > 5)).to_vec();
    let (a, b, c, d) = tokio::join!(
        chain.turn(&[], &asked[0]),
        chain.turn(&[], &asked[1]),
        chain.turn(&[], &asked[2]),
        chain.turn(&[], &asked[3]),
    );
    for ((branch, _), asked) in [a, b, c, d].iter().zip(&asked) {
        let path = format!("/v1/responses/{}/input_items?order=asc", id(branch));
        let list = chain.send("GET", &path, &[]).await.json();
        let texts: Vec<_> =
            list["data"].as_array().unwrap().iter().map(|item| item["content"][0]["text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["one", FIRST, asked["input"].as_str().unwrap()]);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_or_is_left_keeps_nothing() {
    let store = MemoryResponses::new();
    let chain = Chain::over("messages", store.clone(), Some(keep()), None).await;
    let (one, _) = chain.turn(&[], &says("one", None, false)).await;
    chain.first.handle().fail_next(1, &Fault::CutAfter(2));
    let broken = chain.ask(&[], &says("two", Some(id(&one)), true)).await;
    let last = broken.events().pop().unwrap();
    assert_eq!(last["type"], "response.failed", "{broken:?}");
    let failed = id(&last["response"]).to_owned();
    assert!(is_ours(&failed) && broken.events()[0]["response"]["id"] == failed.as_str(), "{broken:?}");
    assert_eq!(chain.send("GET", &format!("/v1/responses/{failed}"), &[]).await.status, 404);

    chain.first.handle().pace(Duration::from_millis(200));
    let mut client = chain.server.connect().await;
    client.post(RESPONSES, &[], &says("three", Some(id(&one)), true)).await;
    let begun = client.until("response.output_text.delta").await;
    let left = begun.split("\"id\":\"").find(|text| text.starts_with("resp_sf_")).unwrap();
    let left = left.split('"').next().unwrap().to_owned();
    drop(client);
    chain.first.handle().until(|stats| stats.cancelled == 1).await;
    assert_eq!(chain.send("GET", &format!("/v1/responses/{left}"), &[]).await.status, 404);
    // The conversation before it goes on.
    chain.first.handle().pace(Duration::ZERO);
    chain.turn(&[], &says("four", Some(id(&one)), false)).await;
}

#[tokio::test]
async fn a_kept_response_that_breaks_is_gone_on_with_and_kept_whole() {
    let chain = Chain::start("messages").await;
    let (one, _) = chain.turn(&[], &says("one", None, false)).await;
    chain.first.handle().fail_next(1, &Fault::CutAfter(2));
    chain.sent();
    let (two, text) = chain.turn(&[("x-steadfast-on-break", "continue")], &says("two", Some(id(&one)), true)).await;
    assert_eq!(text, "I am the second.", "the beginning is the first one's");
    let (tier, asked) = chain.sent().pop().unwrap();
    assert_eq!((tier, &*texts(&asked)), ("second", &["one", FIRST, "two", "I am"].map(str::to_owned)[..]));
    chain.turn(&[], &says("three", Some(id(&two)), false)).await;
    let (_, asked) = chain.sent().pop().unwrap();
    assert_eq!(texts(&asked), ["one", FIRST, "two", "I am the second.", "three"]);
}

#[tokio::test]
async fn a_conversation_survives_a_restart_and_is_every_replicas() {
    let folder = std::env::temp_dir().join(format!("steadfast-conversations-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("kept.db");
    let open = || Sqlite::open(&file).unwrap();
    let one = Chain::over("messages", open(), Some(keep()), Some(keys())).await;
    let replica = Chain::over("messages", open(), Some(keep()), Some(keys())).await;
    let (first, _) = one.turn(&[ONE], &says("one", None, true)).await;
    let (second, _) = replica.turn(&[ONE], &says("two", Some(id(&first)), true)).await;
    drop((one, replica));
    let again = Chain::over("chat", open(), Some(keep()), Some(keys())).await;
    again.fail_first();
    let (_, text) = again.turn(&[ONE], &says("three", Some(id(&second)), false)).await;
    assert_eq!(text, SECOND);
    assert_eq!(texts(&again.sent()[1].1), ["one", FIRST, "two", FIRST, "three"]);
    assert_eq!(again.ask(&[TWO], &says("three", Some(id(&second)), false)).await.status, 400);
    // An order to forget a caller takes its responses too.
    let forgotten = again.stack.handle().forget_owner(&AnswerOwner::tenant("one")).await.unwrap();
    assert_eq!(forgotten, 3);
    assert_eq!(again.ask(&[ONE], &says("four", Some(id(&second)), false)).await.status, 400);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_response_over_its_limit_is_not_kept_and_stays_its_providers() {
    let store = MemoryResponses::new();
    let small = Responses { max_response: Some(Size(2000)), ..keep() };
    let chain = Chain::over("messages", store, Some(small), None).await;
    let long = "x".repeat(2000);
    for stream in [false, true] {
        let (response, _) = chain.turn(&[], &says(&long, None, stream)).await;
        assert!(!is_ours(id(&response)), "{response}");
    }
    // The provider's own conversation goes on there.
    let (own, _) = chain.turn(&[], &says(&long, None, false)).await;
    chain.turn(&[], &says("more", Some(id(&own)), false)).await;
}

/// The text of an answer in its provider's own spelling.
const RAW: &str = r#"{ "object":"response", "id" :"resp_1","status":"completed","store":true,
  "output":[ {"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"\u00e9","annotations":[]}]} ],
  "previous_response_id" : null, "temperature":1.0, "unheard_of":{"id":"resp_1"} }"#;

#[tokio::test]
async fn a_kept_answer_is_its_providers_bytes_but_for_its_ids() {
    let leaf = provider_fn(|_| async {
        let message = Message::assistant("\u{e9}");
        Ok::<_, LlmError>(LlmResponse::new(LlmBody::from_wire(Dialect::Responses, RAW.into(), message)))
    });
    for kept in [false, true] {
        let stack = Stack::builder()
            .environment(Environment::default())
            .responses(MemoryResponses::new())
            .leaf("first", leaf)
            .leaf("second", Canned::text(SECOND))
            .build(config("messages", kept.then(keep)))
            .unwrap();
        let server = Server::with_stack(&stack, None, Settings::default()).await;
        let one = server.post(RESPONSES, &[], &says("one", None, false)).await;
        let ours = one.json()["id"].as_str().unwrap().to_owned();
        assert_eq!((is_ours(&ours), &one.body), (kept, &RAW.replacen("resp_1", &ours, 1)));
        if kept {
            let two = server.post(RESPONSES, &[], &says("two", Some(&ours), false)).await;
            let next = two.json()["id"].as_str().unwrap().to_owned();
            let expected = RAW.replacen("resp_1", &next, 1).replacen("null", &format!("\"{ours}\""), 1);
            assert_eq!(two.body, expected);
            let read = server.get(&format!("/v1/responses/{next}"), &[]).await;
            assert_eq!(read.body, expected);
        }
    }
}

#[tokio::test]
async fn a_prompts_count_is_of_the_whole_conversation() {
    let chain = Chain::start("messages").await;
    let (one, _) = chain.turn(&[], &says(&"one ".repeat(100), None, false)).await;
    let count = |request: Value| {
        let server = &chain.server;
        async move { server.post("/v1/responses/input_tokens", &[], &request).await }
    };
    let alone = count(says("two", None, false)).await.json()["input_tokens"].as_u64().unwrap();
    let whole = count(says("two", Some(id(&one)), false)).await.json()["input_tokens"].as_u64().unwrap();
    assert!(whole > alone + 90, "{whole} {alone}");
    let unknown = format!("resp_sf_{}", "0".repeat(48));
    assert_eq!(count(says("two", Some(&unknown), false)).await.status, 400);
}

/// A record waits in `gateway.memory`, as bodies do.
#[tokio::test]
async fn an_answer_without_memory_for_its_record_goes_out_and_is_not_kept() {
    let long = "word ".repeat(4000);
    let leaf = Simulated::new("one").reply(&long).latency(Duration::ZERO).pace(Duration::ZERO);
    // The second has room for the answer, and none for its record.
    for (memory, kept) in [(1 << 20, true), (104 << 10, false)] {
        let store = MemoryResponses::new();
        let stack = Stack::builder()
            .environment(Environment::default())
            .responses(store.clone())
            .leaf("first", leaf.clone())
            .leaf("second", Canned::text(SECOND))
            .build(config("messages", Some(keep())))
            .unwrap();
        let server = Server::with_stack(&stack, None, Settings { memory, ..Settings::default() }).await;
        for stream in [false, true] {
            let answer = server.post(RESPONSES, &[], &says("one", None, stream)).await;
            assert_eq!((answer.status, answer.text().trim()), (200, long.trim()), "{answer:?}");
            let response = if stream { answer.events().pop().unwrap()["response"].clone() } else { answer.json() };
            assert_eq!(store.get("", id(&response)).await.unwrap().is_some(), kept, "{memory} {stream}");
            // A whole answer can still have its provider's id.
            assert_eq!(is_ours(id(&response)), kept || stream);
        }
        assert_eq!(server.gateway.memory.used(), 0);
    }
}

/// A store that is down, or slow.
#[derive(Debug)]
struct BadStore(Duration);

impl BadStore {
    fn fail<T: Send + 'static>(&self) -> StoreFuture<'_, T> {
        let wait = self.0;
        Box::pin(async move {
            sleep(wait).await;
            Err(StoreError::new(StoreErrorKind::Unavailable, "it is down"))
        })
    }
}

impl ResponseStore for BadStore {
    fn put(&self, _: StoredResponse, _: Duration) -> StoreFuture<'_, ()> {
        self.fail()
    }

    fn begin(&self, _: StoredResponse, _: Duration, _: Duration) -> StoreFuture<'_, ()> {
        self.fail()
    }

    fn renew<'a>(&'a self, _: &'a str, _: &'a str, _: Duration) -> StoreFuture<'a, bool> {
        self.fail()
    }

    fn end(&self, _: StoredResponse, _: Duration) -> StoreFuture<'_, bool> {
        self.fail()
    }

    fn get<'a>(&'a self, _: &'a str, _: &'a str) -> StoreFuture<'a, Option<StoredResponse>> {
        self.fail()
    }

    fn path<'a>(&'a self, _: &'a str, _: &'a str, _: PathLimits) -> StoreFuture<'a, ResponsePath> {
        self.fail()
    }

    fn with_item<'a>(&'a self, _: &'a str, _: &'a str) -> StoreFuture<'a, Option<StoredResponse>> {
        self.fail()
    }

    fn delete<'a>(&'a self, _: &'a str, _: &'a str) -> StoreFuture<'a, bool> {
        self.fail()
    }

    fn forget_owner<'a>(&'a self, _: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        self.fail()
    }

    fn sweep(&self, _: u64) -> StoreFuture<'_, ()> {
        self.fail()
    }
}

#[tokio::test]
async fn a_store_that_is_down_takes_no_answer_along() {
    let chain = Chain::over("messages", BadStore(Duration::ZERO), Some(keep()), None).await;
    for stream in [false, true] {
        let (response, text) = chain.turn(&[], &says("one", None, stream)).await;
        // A whole answer can still have its provider's id.
        assert_eq!((text.as_str(), is_ours(id(&response))), (FIRST, stream), "{response}");
    }
    let (own, _) = chain.turn(&[], &says("one", None, false)).await;
    chain.turn(&[], &says("two", Some(id(&own)), false)).await;
    let ours = format!("resp_sf_{}", "0".repeat(48));
    let refused = chain.ask(&[], &says("two", Some(&ours), false)).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused:?}");
    for (method, path) in [("GET", ""), ("DELETE", ""), ("GET", "/input_items")] {
        assert_eq!(chain.send(method, &format!("/v1/responses/{ours}{path}"), &[]).await.status, 503);
    }
    let ready = chain.send("GET", "/readyz", &[]).await;
    assert!(ready.status == 200 && ready.body.contains("responses"), "{ready:?}");
    assert!(chain.stack.handle().forget_owner(&AnswerOwner::tenant("one")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_delays_one_answer_by_its_limit() {
    let file = "tiers: [{ name: only, provider: simulated, model: m, simulated: { reply: Hello, latency: 0s } }]";
    for stream in [false, true] {
        let mut config = Config::from_str(file, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
        config.responses = Some(keep());
        let stack = Stack::builder().responses(BadStore(HOUR)).build(config).unwrap();
        let mut waits = Vec::new();
        for _ in 0..2 {
            let begun = Instant::now();
            let body = says("one", None, stream).to_string();
            let answer = through(Gateway::from(&stack), "POST", RESPONSES, &typed(RESPONSES, &[]), body).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "Hello"), "{answer:?}");
            waits.push(begun.elapsed().as_secs());
        }
        assert_eq!(waits, [2, 0], "{stream}");
    }
}
