//! WebSockets of `/v1/responses`, by OpenAI's guide to its WebSocket mode and the Open Responses specification.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::{Value, json};
use steadfast::{
    BoxLlmService, FallbackLayer, LlmError, LlmRequest, LlmResponse,
    chat::{Part, Role},
    layers::fallback::{Tier, TierSettings},
    provider_fn,
    providers::simulated::{Fault, FaultMix, Simulated},
};
use steadfast_stack::{Config, Format, Stack};
use tokio::{
    io::{AsyncWriteExt as _, DuplexStream},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        self, Message,
        protocol::{Role as Side, frame::coding::CloseCode},
    },
};

use tower::{Layer as _, ServiceExt as _};

use super::harness::*;
use crate::{
    Gateway,
    api::{Catalog, GatewayState, Session},
    limits::Settings,
};

const LONG: Duration = Duration::from_secs(20);

/// A client of a socket, on paused time.
struct Client {
    socket: WebSocketStream<DuplexStream>,
    served: JoinHandle<()>,
}

impl Client {
    async fn open(gateway: &Arc<GatewayState>, headers: &[(&'static str, &'static str)]) -> Self {
        let (own, other) = tokio::io::duplex(1 << 16);
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers: HeaderMap = headers.iter().map(header).collect();
        let key = gateway.keys.as_ref().map(|keys| keys.authenticate(&headers, None).unwrap());
        let session = Session::new(gateway.clone(), &headers, key);
        let served = tokio::spawn(session.run(Box::new(other), Default::default()));
        Self { socket: WebSocketStream::from_raw_socket(own, Side::Client, None).await, served }
    }

    async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// Returns the next message; pings are answered meanwhile.
    async fn next(&mut self) -> Value {
        loop {
            match self.socket.next().await.expect("the socket goes on").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns the events of a turn.
    async fn turn(&mut self, message: Value) -> Vec<Value> {
        self.send(message).await;
        self.events().await
    }

    async fn events(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            let kind = event["type"].as_str().unwrap().to_owned();
            events.push(event);
            if ["error", "response.completed", "response.incomplete", "response.failed"].contains(&kind.as_str()) {
                return events;
            }
        }
    }

    /// Returns the code with which the gateway closes.
    async fn closed(&mut self) -> Option<CloseCode> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }
}

fn gateway_of(service: BoxLlmService) -> Arc<GatewayState> {
    Arc::new(GatewayState::new(service, Catalog::Listed(Arc::default()), None, Settings::default()))
}

fn create(input: impl Into<Value>) -> Value {
    json!({"type": "response.create", "model": "gpt-4o", "store": false, "input": input.into()})
}

fn after(id: &Value, input: impl Into<Value>) -> Value {
    let mut create = create(input);
    create["previous_response_id"] = id.clone();
    create
}

/// Returns the response of the last event.
fn response(events: &[Value]) -> &Value {
    &events.last().unwrap()["response"]
}

fn text(events: &[Value]) -> String {
    events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .map(|event| event["delta"].as_str().unwrap())
        .collect()
}

/// Returns status and code of a turn's error.
fn error(events: &[Value]) -> (u64, String) {
    let last = events.last().unwrap();
    assert_eq!(last["type"], "error", "{last}");
    assert!(last["error"]["message"].is_string(), "{last}");
    (last["status"].as_u64().unwrap(), last["error"]["code"].as_str().unwrap().to_owned())
}

/// The conversations that a model was asked to go on with, as role and text.
type Asked = Arc<Mutex<Vec<Vec<(Role, String)>>>>;

/// A model that answers with the number of the call.
fn counting() -> (BoxLlmService, Asked) {
    let asked = Asked::default();
    let noted = asked.clone();
    let service = provider_fn(move |request: LlmRequest| {
        let answer = request.chat().map(|chat| {
            let of = |part: &Part| if let Part::Text(text) = part { text.clone() } else { String::new() };
            let said = chat.messages.iter().map(|turn| (turn.role, turn.content.iter().map(of).collect::<String>()));
            let mut asked = noted.lock().unwrap();
            asked.push(said.collect());
            LlmResponse::from_text(format!("answer {}", asked.len())).with_model("simulated", "m")
        });
        async { answer }
    });
    (BoxLlmService::new(service), asked)
}

fn said(turns: &[(Role, &str)]) -> Vec<(Role, String)> {
    turns.iter().map(|(role, text)| (*role, (*text).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn turns_follow_one_another_and_the_last_may_be_continued_though_nobody_keeps_it() {
    let (service, asked) = counting();
    let gateway = gateway_of(service);
    let mut client = Client::open(&gateway, &[]).await;
    let first = client.turn(create("cobalt")).await;
    assert_eq!((&first[0]["type"], text(&first)), (&json!("response.created"), "answer 1".to_owned()));
    let second = client.turn(after(&response(&first)["id"], "which word?")).await;
    let third = client.turn(after(&response(&second)["id"], json!([{"role": "user", "content": "sure?"}]))).await;
    assert_eq!((text(&second), text(&third)), ("answer 2".to_owned(), "answer 3".to_owned()));
    // A turn of its own begins anew, and is the last response then. Codex says `stream` too, and no word of it counts.
    let mut other = create("another matter");
    (other["stream"], other["background"]) = (json!(false), json!(true));
    let other = client.turn(other).await;
    assert_eq!(error(&client.turn(after(&response(&third)["id"], "late")).await), (400, NOT_FOUND.to_owned()));
    assert_eq!(response(&other)["status"], "completed");
    let (user, model) = (Role::User, Role::Assistant);
    assert_eq!(
        *asked.lock().unwrap(),
        [
            said(&[(user, "cobalt")]),
            said(&[(user, "cobalt"), (model, "answer 1"), (user, "which word?")]),
            said(&[(user, "cobalt"), (model, "answer 1"), (user, "which word?"), (model, "answer 2"), (user, "sure?")]),
            said(&[(user, "another matter")]),
        ]
    );
    // Each turn is a call with a record of its own.
    let records = gateway.records.newest(9, |_| true);
    assert_eq!(records.len(), 4);
}

const NOT_FOUND: &str = "previous_response_not_found";

#[tokio::test(start_paused = true)]
async fn a_response_that_nobody_keeps_is_known_to_its_connection_and_until_a_turn_fails() {
    let (service, asked) = counting();
    let gateway = gateway_of(service);
    let mut client = Client::open(&gateway, &[]).await;
    assert_eq!(error(&client.turn(after(&json!("resp_missing"), "go on")).await), (400, NOT_FOUND.to_owned()));
    let first = client.turn(create("copper")).await;
    let id = response(&first)["id"].clone();
    // Another connection knows it not, and goes on by itself.
    let mut other = Client::open(&gateway, &[]).await;
    assert_eq!(error(&other.turn(after(&id, "go on")).await), (400, NOT_FOUND.to_owned()));
    assert_eq!(text(&other.turn(create("anew")).await), "answer 2");
    // The result of a call that was never made is a mistake, and takes the response with it.
    let result = json!([{"type": "function_call_output", "call_id": "call_none", "output": "lost"}]);
    assert_eq!(error(&client.turn(after(&id, result)).await), (400, "invalid_request_error".to_owned()));
    assert_eq!(error(&client.turn(after(&id, "stale")).await), (400, NOT_FOUND.to_owned()));
    assert_eq!(asked.lock().unwrap().len(), 2, "no model was asked");
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_calls_nobody_and_is_continued() {
    let (service, asked) = counting();
    let mut client = Client::open(&gateway_of(service), &[]).await;
    let mut warm = create("be ready");
    warm["generate"] = json!(false);
    let warm = client.turn(warm).await;
    assert_eq!((response(&warm)["output"].as_array().unwrap().len(), asked.lock().unwrap().len()), (0, 0));
    assert_eq!(text(&client.turn(after(&response(&warm)["id"], "go")).await), "answer 1");
    assert_eq!(asked.lock().unwrap()[0], said(&[(Role::User, "be ready"), (Role::User, "go")]));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_turn_is_told_and_the_socket_goes_on() {
    let (service, _) = counting();
    let mut client = Client::open(&gateway_of(service), &[]).await;
    for (message, code) in [
        ("", "invalid_json"),
        ("[1]", "invalid_json"),
        ("{", "invalid_json"),
        (r#"{"model": "m"}"#, "missing_type"),
        (r#"{"type": "response.dream"}"#, "unknown_event"),
        (r#"{"type": "response.create", "model": "m", "input": 7}"#, "invalid_request_error"),
        (r#"{"type": "response.create"}"#, "invalid_request_error"),
    ] {
        client.socket.send(Message::text(message)).await.unwrap();
        assert_eq!(error(&client.events().await), (400, code.to_owned()), "{message}");
    }
    client.send(json!({"type": "response.cancel"})).await;
    assert_eq!(text(&client.turn(create("hello")).await), "answer 1");
}

/// The chain of tiers is below: a turn fails over like any call, and one that fails is no failure of the socket.
#[tokio::test(start_paused = true)]
async fn a_turn_fails_over_like_a_call_and_its_failure_is_none_of_the_socket() {
    let config =
        "tiers: [{ name: first, provider: simulated, model: a }, { name: backup, provider: simulated, model: b }]";
    let leaf = |words| Simulated::new("m").reply(words).latency(Duration::ZERO).pace(Duration::ZERO);
    let (first, backup) = (leaf("from the first"), leaf("from the backup"));
    let (of_first, of_backup) = (first.handle(), backup.handle());
    let stack = Stack::builder().leaf("first", first).leaf("backup", backup);
    let stack = stack.build(Config::from_str(config, Format::Yaml).unwrap()).unwrap();
    let catalog = Catalog::Stack(stack.handle());
    let gateway = Arc::new(GatewayState::new(stack.service(), catalog, None, Settings::default()));
    let mut client = Client::open(&gateway, &[]).await;
    let mut create = create("hello");
    create.as_object_mut().unwrap().remove("model");
    assert_eq!(text(&client.turn(create.clone()).await), "from the first");
    of_first.fail(Fault::Unavailable);
    let turn = client.turn(create.clone()).await;
    assert_eq!(text(&turn), "from the backup");
    of_backup.fail(Fault::Unavailable);
    let (status, code) = error(&client.turn(after(&response(&turn)["id"], "go on")).await);
    assert!((500..600).contains(&status), "{status} {code}");
    of_backup.heal();
    // Its circuit opens again; pings are answered meanwhile.
    let _no_message = timeout(Duration::from_secs(120), client.next()).await;
    assert_eq!(text(&client.turn(create).await), "from the backup");
}

#[tokio::test(start_paused = true)]
async fn another_call_goes_on_with_a_turn_that_breaks() {
    let goes_on = || TierSettings::new().goes_on();
    let first = Simulated::new("first").reply("one two three four");
    let second = Tier::new("second", Simulated::new("second").reply("one two three four")).settings(goes_on());
    first.handle().fail_next(1, &Fault::CutAfter(2));
    let layer = FallbackLayer::new("first").primary(goes_on()).push(second);
    let gateway = gateway_of(BoxLlmService::new(layer.layer(first)));
    let mut client =
        Client::open(&gateway, &[("x-steadfast-on-break", "continue"), ("x-steadfast-notices", "1")]).await;
    let one = client.turn(create("count")).await;
    assert_eq!((text(&one).as_str(), &response(&one)["status"]), ("one two three four", &json!("completed")));
    for (number, event) in one.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
    }
    let notices: Vec<_> = one.iter().filter_map(|event| event["steadfast"].get("notice")).collect();
    assert!(matches!(&notices[..], [notice] if notice["type"] == "continues" && notice["after"] == 8), "{notices:?}");
    let two = client.turn(after(&response(&one)["id"], "again")).await;
    assert_eq!(response(&two)["status"], "completed");
}

/// A leaf that counts its calls, and checks that each has its socket's whole conversation, in order.
fn checked(leaf: Simulated, words: &'static str, calls: &Arc<AtomicUsize>) -> BoxLlmService {
    let calls = calls.clone();
    BoxLlmService::new(provider_fn(move |request: LlmRequest| {
        calls.fetch_add(1, Relaxed);
        let chat = request.chat().unwrap();
        let of = |part: &Part| if let Part::Text(text) = part { text.clone() } else { String::new() };
        let said = chat.messages.iter().map(|turn| (turn.role, turn.content.iter().map(of).collect::<String>()));
        let said: Vec<_> = said.collect();
        let socket = said[0].1.split(' ').next().unwrap().to_owned();
        for (place, (role, text)) in said.iter().enumerate() {
            match place % 2 {
                0 => assert_eq!((*role, text), (Role::User, &format!("{socket} {}", place / 2))),
                // The last may be an answer so far, which the call goes on with.
                _ => assert!(*role == Role::Assistant && words.starts_with(text.trim_end()), "{said:?}"),
            }
        }
        leaf.clone().oneshot(request)
    }))
}

#[tokio::test(start_paused = true)]
async fn turns_of_many_sockets_are_lost_by_no_failing_tier_and_keep_their_order() {
    const WORDS: &str = "one two three four five";
    let is_full = std::env::var_os("STEADFAST_SCALE").is_some_and(|size| size == "full");
    let (sockets, turns) = if is_full { (100, 100) } else { (20, 15) };
    let faults = FaultMix::new()
        .with(0.1, Fault::ServerError)
        .with(0.1, Fault::Refused)
        .with(0.1, Fault::Overloaded)
        .with(0.1, Fault::Empty)
        .with(0.2, Fault::CutAfter(2));
    let calls = [Arc::<AtomicUsize>::default(), Arc::default()];
    let first = checked(Simulated::new("first").seed(7).reply(WORDS).fault_mix(faults), WORDS, &calls[0]);
    let second = checked(Simulated::new("second").seed(8).reply(WORDS), WORDS, &calls[1]);
    let goes_on = || TierSettings::new().goes_on();
    let layer = FallbackLayer::new("first").primary(goes_on()).push(Tier::new("second", second).settings(goes_on()));
    let gateway = gateway_of(BoxLlmService::new(layer.layer(first)));
    let mut clients = tokio::task::JoinSet::new();
    for socket in 0..sockets {
        let gateway = gateway.clone();
        clients.spawn(async move {
            let mut client = Client::open(&gateway, &[("x-steadfast-on-break", "continue")]).await;
            let mut last = Value::Null;
            for turn in 0..turns {
                let words = format!("socket{socket} {turn}");
                let events = match last.is_null() {
                    true => client.turn(create(words)).await,
                    false => client.turn(after(&last, words)).await,
                };
                assert_eq!((text(&events).as_str(), &response(&events)["status"]), (WORDS, &json!("completed")));
                assert_eq!(response(&events)["previous_response_id"], last);
                for (number, event) in events.iter().enumerate() {
                    assert_eq!(event["sequence_number"], number, "{event}");
                }
                last = response(&events)["id"].clone();
            }
        });
    }
    let answered = clients.join_all().await.len() * turns;
    let [first, second] = calls.map(|calls| calls.load(Relaxed));
    println!("{answered} turns over {sockets} sockets: {first} calls of the first tier, {second} of the second");
    assert_eq!(first, answered, "each turn begins at the first");
    // Six of ten fail there.
    assert!(second > answered / 2 && second < answered * 7 / 10, "{second} of {answered}");
}

/// A model that answers when it is let.
fn held() -> (BoxLlmService, Arc<Notify>, Arc<Mutex<[usize; 2]>>) {
    /// Counts a call that is dropped before its answer.
    struct Call(Arc<Mutex<[usize; 2]>>);
    impl Drop for Call {
        fn drop(&mut self) {
            self.0.lock().unwrap()[1] += 1;
        }
    }
    let (let_go, counts) = (Arc::new(Notify::new()), Arc::<Mutex<[usize; 2]>>::default());
    let (waits, counted) = (let_go.clone(), counts.clone());
    let service = provider_fn(move |_: LlmRequest| {
        counted.lock().unwrap()[0] += 1;
        let (waits, call) = (waits.clone(), Call(counted.clone()));
        async move {
            waits.notified().await;
            std::mem::forget(call);
            Ok::<_, LlmError>(LlmResponse::from_text("at last").with_model("simulated", "m"))
        }
    });
    (BoxLlmService::new(service), let_go, counts)
}

#[tokio::test(start_paused = true)]
async fn two_turns_at_once_run_one_after_the_other() {
    let (service, let_go, counts) = held();
    let mut client = Client::open(&gateway_of(service), &[]).await;
    for input in ["one", "two", "three"] {
        client.send(create(input)).await;
    }
    for number in 1..=3 {
        // Nothing is read while another turn waits, and so nobody is pinged: no answer is missed.
        sleep(Duration::from_secs(if number < 3 { 200 } else { 1 })).await;
        assert_eq!(*counts.lock().unwrap(), [number, 0]);
        let_go.notify_one();
        assert_eq!(text(&client.events().await), "at last");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_the_turn_and_its_call_and_so_does_leaving() {
    let (service, let_go, counts) = held();
    let gateway = gateway_of(service);
    let mut client = Client::open(&gateway, &[]).await;
    client.send(create("one")).await;
    sleep(Duration::from_secs(1)).await;
    client.send(json!({"type": "response.cancel"})).await;
    assert_eq!(error(&client.events().await), (400, "response_cancelled".to_owned()));
    assert_eq!(*counts.lock().unwrap(), [1, 1]);
    client.send(create("two")).await;
    sleep(Duration::from_secs(1)).await;
    let_go.notify_one();
    assert_eq!(text(&client.events().await), "at last");
    client.send(create("three")).await;
    sleep(Duration::from_secs(1)).await;
    drop(client.socket);
    timeout(LONG, client.served).await.unwrap().unwrap();
    assert_eq!(*counts.lock().unwrap(), [3, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_answers_no_ping_is_closed_off_and_another_may_rest_for_an_hour() {
    let (service, _) = counting();
    let gateway = gateway_of(service);
    let silent = Client::open(&gateway, &[]).await;
    let began = Instant::now();
    timeout(LONG * 10, silent.served).await.expect("its pings have no answer").unwrap();
    assert_eq!(began.elapsed().as_secs(), 90 + 2, "three times half a minute, and two seconds for its goodbye");
    let mut rests = Client::open(&gateway, &[]).await;
    let began = Instant::now();
    let end = rests.next().await;
    assert_eq!(end["error"]["code"], "websocket_connection_limit_reached");
    assert_eq!((rests.closed().await, began.elapsed().as_secs() / 60), (Some(CloseCode::Normal), 60));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_never_reads_is_left_with_its_call() {
    let model = Simulated::new("model").reply("word ".repeat(50_000));
    let handle = model.handle();
    let gateway = gateway_of(BoxLlmService::new(model));
    let mut client = Client::open(&gateway, &[]).await;
    client.send(create("go on")).await;
    let unread = Settings::default().unread;
    let begun = Instant::now();
    timeout(unread * 2, client.served).await.expect("it ends").unwrap();
    assert!((unread..unread + LONG).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!((handle.stats().calls, handle.stats().cancelled), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_socket_that_rests_at_once_and_another_after_its_turn() {
    let (service, let_go, _) = held();
    let gateway = gateway_of(service);
    let (mut rests, mut works) = (Client::open(&gateway, &[]).await, Client::open(&gateway, &[]).await);
    works.send(create("one")).await;
    sleep(Duration::from_secs(1)).await;
    gateway.lifecycle.stop.cancel();
    assert_eq!(rests.closed().await, Some(CloseCode::Away));
    let_go.notify_one();
    assert_eq!(text(&works.events().await), "at last");
    assert_eq!(works.closed().await, Some(CloseCode::Away));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_waits_prolongs_neither_a_stop_nor_the_hour() {
    for is_stop in [true, false] {
        let (service, let_go, counts) = held();
        let gateway = gateway_of(service);
        let mut client = Client::open(&gateway, &[]).await;
        if !is_stop {
            let _no_message = timeout(Duration::from_secs(59 * 60), client.next()).await;
        }
        for input in ["one", "two"] {
            client.send(create(input)).await;
        }
        sleep(Duration::from_secs(61)).await;
        if is_stop {
            gateway.lifecycle.stop.cancel();
        }
        let_go.notify_one();
        assert_eq!(text(&client.events().await), "at last");
        if !is_stop {
            let end = timeout(LONG, client.events()).await.expect("the hour is over");
            assert_eq!(error(&end), (400, "websocket_connection_limit_reached".to_owned()));
        }
        let code = if is_stop { CloseCode::Away } else { CloseCode::Normal };
        let closed = timeout(LONG, client.closed()).await.expect("it ends");
        assert_eq!((closed, *counts.lock().unwrap()), (Some(code), [1, 0]));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_ends_the_socket_with_its_code() {
    let (service, asked) = counting();
    let settings = Settings { body: 1 << 16, ..Settings::default() };
    let gateway = Arc::new(GatewayState::new(service, Catalog::Listed(Arc::default()), None, settings));
    // A text of two bytes: final, masked with zeros.
    let frame = |first: u8, second: u8, rest: &[u8]| [&[first, second][..], rest].concat();
    for (bytes, code) in [
        (frame(0x82, 0x82, b"\0\0\0\0hi"), CloseCode::Unsupported),
        (frame(0x81, 0x82, b"\0\0\0\0\xc3\x28"), CloseCode::Invalid),
        (frame(0x81, 0x02, b"hi"), CloseCode::Protocol),
        (frame(0xf1, 0x82, b"\0\0\0\0hi"), CloseCode::Protocol),
        // Announced as 64 MiB: nothing of it is waited for.
        (frame(0x81, 0xff, b"\0\0\0\0\x04\0\0\0\0\0\0\0"), CloseCode::Size),
    ] {
        let mut client = Client::open(&gateway, &[]).await;
        client.socket.get_mut().write_all(&bytes).await.unwrap();
        assert_eq!(timeout(LONG, client.closed()).await.unwrap(), Some(code), "{bytes:?}");
    }
    // Half a frame and no more: no ping is answered.
    let mut client = Client::open(&gateway, &[]).await;
    client.socket.get_mut().write_all(&frame(0x81, 0x82, b"\0\0")).await.unwrap();
    timeout(LONG * 10, client.served).await.expect("it ends").unwrap();
    assert!(asked.lock().unwrap().is_empty());
}

/// The caller's memory: a message under way is a part of `gateway.memory`, and what a connection remembers is too.
#[tokio::test(start_paused = true)]
async fn messages_under_way_take_memory_and_give_it_back() {
    let (service, _) = counting();
    let settings = Settings { body: 1 << 20, memory: 12 << 20, ..Settings::default() };
    let gateway = Arc::new(GatewayState::new(service, Catalog::Listed(Arc::default()), None, settings));
    let half = |size: u64| [&[0x81, 0xff][..], &size.to_be_bytes(), &[0; 4], &vec![b'a'; size as usize - 1]].concat();
    let (mut open, mut refused) = (Vec::new(), 0);
    for _ in 0..12 {
        let mut client = Client::open(&gateway, &[]).await;
        let bytes = half(1 << 20);
        let sent = timeout(LONG, client.socket.get_mut().write_all(&bytes)).await;
        if matches!(sent, Ok(Ok(()))) {
            open.push(client);
        } else {
            assert_eq!(timeout(LONG, client.closed()).await.unwrap(), Some(CloseCode::Again));
            refused += 1;
        }
    }
    assert!(refused > 0 && !open.is_empty(), "{refused} refused, {} open", open.len());
    assert!(gateway.memory.used() > 0);
    for client in open {
        drop(client.socket);
        timeout(LONG, client.served).await.unwrap().unwrap();
    }
    assert_eq!(gateway.memory.used(), 0);
    // A turn that waits holds its memory, and the next one too while it goes on.
    let (service, let_go, _) = held();
    let busy = Arc::new(GatewayState::new(service, Catalog::Listed(Arc::default()), None, Settings::default()));
    let mut client = Client::open(&busy, &[]).await;
    client.send(create("short")).await;
    client.send(create("word ".repeat(40_000))).await;
    sleep(Duration::from_secs(1)).await;
    assert!(busy.memory.used() > 0);
    for _ in 0..2 {
        let_go.notify_one();
        assert_eq!(text(&client.events().await), "at last");
    }
    drop(client.socket);
    timeout(LONG, client.served).await.unwrap().unwrap();
    assert_eq!(busy.memory.used(), 0);
    // A conversation that is remembered.
    let mut client = Client::open(&gateway, &[]).await;
    client.turn(create("word ".repeat(40_000))).await;
    assert!(gateway.memory.used() > 0);
    drop(client.socket);
    timeout(LONG, client.served).await.unwrap().unwrap();
    assert_eq!(gateway.memory.used(), 0);
}

#[tokio::test]
async fn a_socket_has_its_callers_key_and_each_turn_counts() {
    let (service, _) = counting();
    let keys = keys_of(&[entry("one", "one", ", requests_per_minute: 2")]);
    let server = Server::with_keys(service, Some(keys), Settings::default()).await;
    let url = format!("ws://{}/v1/responses", server.address);
    let connect = async |key: Option<&'static str>| {
        let mut request = tungstenite::client::IntoClientRequest::into_client_request(&*url).unwrap();
        if let Some(key) = key {
            request.headers_mut().insert("authorization", HeaderValue::from_static(key));
        }
        client_async(request, TcpStream::connect(server.address).await.unwrap()).await
    };
    for key in [None, Some("Bearer nobody")] {
        let Err(tungstenite::Error::Http(refused)) = connect(key).await else { panic!("{key:?} is let in") };
        assert_eq!(refused.status(), 401, "{key:?}");
    }
    let (mut socket, opened) = connect(Some("Bearer one")).await.unwrap();
    assert_eq!(opened.status(), 101);
    for turn in 1..=3 {
        socket.send(Message::text(create("hello").to_string())).await.unwrap();
        let last = loop {
            let message = timeout(LONG, socket.next()).await.unwrap().unwrap().unwrap();
            let event: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            if ["error", "response.completed"].contains(&event["type"].as_str().unwrap()) {
                break event;
            }
        };
        assert_eq!(last["type"] == "error", turn == 3, "{last}");
        if turn == 3 {
            assert_eq!((&last["status"], &last["error"]["code"]), (&json!(429), &json!("rate_limit_exceeded")));
            assert!(last["headers"]["retry-after"].is_string(), "{last}");
        }
    }
    let records = server.gateway.records.newest(9, |record| record.is_by("one"));
    assert_eq!(records.len(), 3);
}

/// Within another program's server, by hyper's own upgrade.
#[tokio::test]
async fn a_gateway_within_another_server_has_sockets_too() {
    let (service, _) = counting();
    let app = axum::Router::new().nest_service("/llm", Gateway::new(service));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
        serving.with_upgrades().await.unwrap();
    });
    let url = format!("ws://{address}/llm/v1/responses");
    let (mut socket, _) = client_async(url, TcpStream::connect(address).await.unwrap()).await.unwrap();
    socket.send(Message::text(create("hello").to_string())).await.unwrap();
    let first = timeout(LONG, socket.next()).await.unwrap().unwrap().unwrap();
    assert!(first.to_text().unwrap().contains("response.created"), "{first}");
    served.abort();
}

/// A caller's own service in the same process has no connection to leave.
#[tokio::test]
async fn where_no_connection_can_leave_http_the_refusal_says_what_to_use() {
    use tower::ServiceExt as _;
    let gateway = Gateway::new(counting().0);
    let request = Request::get("/v1/responses")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let response = gateway.oneshot(request.body(String::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 426);
}
