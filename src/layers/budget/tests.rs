use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::{Duration, UNIX_EPOCH},
};

use futures_util::stream;
use tokio::{sync::broadcast::Receiver, time::Instant};
use tokio_test::{assert_pending, task};
use tower::{Layer, Service, ServiceExt};

mod replicas;
mod shared;

use super::{AtCap, Budget, BudgetHandle, BudgetKey, BudgetLayer, Cap, KeyGroup, Period};
use crate::{
    Attempt, ErrorKind, Event, Events, Frame, LlmBody, LlmError, LlmRequest, LlmResponse, StreamEvent,
    chat::{Chat, Message, Usage},
    error::ReachedLimit,
    layers::testing::Strict,
    ledger::Ledger,
    prices::{Price, PriceTable, Usd},
    provider_fn,
    request::Team,
};

fn usd(dollars: f64) -> Usd {
    Usd::from_dollars(dollars).unwrap()
}

/// Prices at which a token costs a thousandth of a dollar, in or out.
fn prices() -> PriceTable {
    PriceTable::empty().with("m", Price::dollars(1000.0, 1000.0).unwrap())
}

fn cap(dollars: f64) -> Cap {
    Cap::new("cap", usd(dollars), Period::Day)
}

/// Starts at 2026-11-20, ten o'clock.
fn layer(cap: Cap) -> BudgetLayer {
    BudgetLayer::new(prices()).cap(cap).starting_at(UNIX_EPOCH + Duration::from_secs(1_795_168_800))
}

/// A request that may cost a dollar: an empty prompt, and 1,000 tokens of answer.
fn ask() -> LlmRequest {
    LlmRequest::from(Chat::new([Message::user("")]).model("m").max_tokens(1000))
}

fn tokens(output: u64) -> LlmResponse {
    let mut message = Message::assistant("hello");
    message.usage = Some(Usage::new(0, output));
    LlmResponse::from_message(message).with_model("p", "m")
}

/// A leaf whose answers take so many tokens.
fn leaf(output: u64) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone {
    provider_fn(move |_| std::future::ready(Ok::<_, LlmError>(tokens(output))))
}

fn failing(error: LlmError) -> Budget<Strict> {
    layer(cap(10.0)).layer(Strict::new().fails(100, error))
}

/// Returns the spent and the reserved amount, in thousandths of a dollar.
fn books(handle: &BudgetHandle) -> (u64, u64) {
    let thousandths = |amount: Usd| amount.nanos() / 1_000_000;
    (thousandths(handle.spent("cap")), thousandths(handle.reserved("cap")))
}

fn told(heard: &mut Receiver<Event>) -> Vec<String> {
    std::iter::from_fn(|| heard.try_recv().ok())
        .map(|event| match event {
            Event::BudgetReached { cap, key: None, percent, spent, .. } => format!("{cap} {percent}% {spent}"),
            Event::BudgetReached { cap, key: Some(key), percent, .. } => format!("{cap} of {key} {percent}%"),
            Event::BudgetReset { cap, key, .. } => {
                format!("{cap}{} reset", key.map_or_else(String::new, |key| format!(" of {key}")))
            }
            other => format!("{other:?}"),
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_reserved_gives_way_to_what_was_spent() {
    let slow = provider_fn(|_| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, LlmError>(tokens(300))
    });
    let mut llm = layer(cap(10.0)).layer(slow);
    let handle = llm.handle();
    let mut call = task::spawn(llm.call(ask()));
    assert_pending!(call.poll());
    assert_eq!(books(&handle), (0, 1000));
    let response = call.await.unwrap();
    assert_eq!((books(&handle), response.cost()), ((300, 0), Some(usd(0.3))));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_has_used_tokens_counts_without_a_record_of_attempts() {
    for kind in [ErrorKind::ContentPolicy, ErrorKind::EmptyAnswer] {
        let error = LlmError::new(kind, "nothing is left").with_model("p", "m").with_usage(Some(Usage::new(0, 300)));
        let llm = failing(error);
        let handle = llm.handle();
        assert!(llm.oneshot(ask()).await.unwrap_err().attempts().is_empty());
        assert_eq!(books(&handle), (300, 0), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_prompt_counts_in_the_reservation() {
    let mut llm = layer(cap(10.0)).default_output(7).layer(Strict::new().takes(Duration::from_secs(1)));
    let handle = llm.handle();
    let asked = LlmRequest::from(Chat::new([Message::user("x".repeat(400))]).model("m"));
    let _call = llm.call(asked);
    assert_eq!(books(&handle), (0, 107));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_fit_is_refused_until_the_period_ends() {
    let layer = layer(cap(1.5).feature("chat"));
    let (handle, llm) = (layer.handle(), layer.layer(leaf(900)));
    let chat = || ask().with_feature("chat");
    llm.clone().oneshot(chat()).await.unwrap();
    llm.clone().oneshot(chat()).await.expect("it does not fit, and goes alone");
    let error = llm.clone().oneshot(chat()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Budget);
    assert_eq!(
        error.message(),
        "the cap \"cap\": of $1.50 per day, $1.80 is spent and $0.00 reserved, and the request may cost $1.00; it resets \
         at 2026-11-21T00:00:00Z"
    );
    assert_eq!(error.retry_after(), Some(Duration::from_secs(14 * 3600)));
    assert_eq!(error.retry_at(), handle.resets_at("cap"));
    assert!(error.attempts()[0].is_local());
    llm.clone().oneshot(ask()).await.expect("another feature");
    llm.clone().oneshot(chat().with_max_tokens(1)).await.unwrap_err();

    tokio::time::advance(Duration::from_secs(14 * 3600 - 1)).await;
    llm.clone().oneshot(chat()).await.unwrap_err();
    tokio::time::advance(Duration::from_secs(1)).await;
    llm.clone().oneshot(chat()).await.unwrap();
    assert_eq!(books(&handle), (900, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_fit_goes_alone() {
    let mut llm = layer(cap(0.5)).layer(Strict::new().takes(Duration::from_secs(1)));
    let (handle, mut other) = (llm.handle(), llm.clone());
    let first = llm.call(ask());
    assert_eq!(books(&handle), (0, 250), "half of what is left, for small ones beside it");
    let error = other.call(ask()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Budget);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)), "others are in the way, for a while");
    other.call(ask().with_max_tokens(250)).await.expect("a small one fits");
    drop(first);
    other.call(ask()).await.expect("it is alone");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_under_one_cap_takes_nothing_from_another() {
    let layer = layer(cap(10.0)).cap(Cap::new("small", usd(0.0), Period::Hour));
    let handle = layer.handle();
    layer.layer(Strict::new()).oneshot(ask()).await.unwrap_err();
    assert_eq!(books(&handle), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_step_down_and_a_warning_let_the_request_go_on() {
    let strict = Strict::new();
    let llm = layer(cap(0.001).at_cap(AtCap::StepDown(3)))
        .cap(Cap::new("told", usd(0.1), Period::Hour).at_cap(AtCap::Warn))
        .layer(strict.clone());
    llm.clone().oneshot(ask()).await.unwrap();
    assert_eq!(strict.seen()[0].context().min_level, 3);
    llm.oneshot(ask().with_max_tokens(0)).await.unwrap();
    assert_eq!(strict.seen()[1].context().min_level, 3, "a leaf that says nothing has cost what it wrote");
}

#[tokio::test(start_paused = true)]
async fn what_is_spent_and_what_is_reserved_are_told_apart() {
    let events = Events::new();
    let mut heard = events.subscribe();
    // Answers with 400 tokens, then hangs.
    let answers = std::sync::atomic::AtomicU32::new(0);
    let answers = Arc::new(answers);
    let leaf = provider_fn(move |_| {
        let first = answers.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        async move { if first { Ok::<_, LlmError>(tokens(400)) } else { std::future::pending().await } }
    });
    let llm = layer(cap(1.5)).events(events).layer(leaf);
    let ask = || ask().with_max_tokens(800);
    llm.clone().oneshot(ask()).await.unwrap();
    let mut under_way = task::spawn(llm.clone().oneshot(ask()));
    assert_pending!(under_way.poll());
    llm.oneshot(ask()).await.unwrap_err();
    let mut told = Vec::new();
    while let Ok(event) = heard.try_recv() {
        if let Event::BudgetReached { percent, spent, reserved, limit, .. } = event {
            told.push((percent, spent, reserved, limit));
        }
    }
    assert_eq!(told, [(80, usd(0.4), usd(0.8), usd(1.5)), (100, usd(0.4), usd(0.8), usd(1.5))]);
}

#[tokio::test(start_paused = true)]
async fn shares_are_told_of_once_a_period_and_so_is_its_end() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let layer = layer(cap(1.0)).events(events);
    let (handle, llm) = (layer.handle(), layer.layer(leaf(400)));
    let small = || ask().with_max_tokens(400);
    llm.clone().oneshot(small()).await.unwrap();
    assert_eq!(told(&mut heard), [""; 0]);
    llm.clone().oneshot(small()).await.unwrap();
    assert_eq!(told(&mut heard), ["cap 80% $0.80"]);
    llm.clone().oneshot(small()).await.expect("it does not fit, and goes alone");
    llm.clone().oneshot(small()).await.unwrap_err();
    assert_eq!(told(&mut heard), ["cap 100% $1.20"], "the cap acts");

    handle.set_limit("cap", usd(2.0)).unwrap();
    llm.clone().oneshot(small()).await.unwrap();
    assert_eq!(told(&mut heard), ["cap 80% $1.60"], "a share of the new limit");
    tokio::time::advance(Duration::from_secs(24 * 3600)).await;
    assert_eq!(books(&handle), (0, 0));
    assert_eq!(told(&mut heard), ["cap reset"]);
    tokio::time::advance(Duration::from_secs(24 * 3600)).await;
    llm.oneshot(small()).await.unwrap();
    assert_eq!(told(&mut heard), [""; 0], "of that period nothing was told");
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_limit_of_its_own() {
    let layer = layer(cap(1.0).each_key()).cap(Cap::new("vip", usd(0.5), Period::Day).key("ada"));
    let (handle, llm) = (layer.handle(), layer.layer(leaf(300)));
    let of = |key: &str| ask().with_max_tokens(400).with_extension(BudgetKey::new(key));
    for key in ["ada", "ada", "bob", "bob", "bob", "bob"] {
        llm.clone().oneshot(of(key)).await.unwrap();
    }
    let error = llm.clone().oneshot(of("ada")).await.unwrap_err();
    assert!(error.message().contains("\"vip\""), "{error}");
    let error = llm.clone().oneshot(of("bob")).await.unwrap_err();
    assert!(error.message().contains("\"cap (bob)\""), "{error}");
    llm.oneshot(ask()).await.expect("a request without a key is nobody's");
    let lines: Vec<_> = handle.snapshot().into_iter().map(|line| (line.key, line.spent)).collect();
    assert_eq!(lines, [(Some("ada".into()), usd(0.6)), (Some("bob".into()), usd(1.2)), (None, usd(0.6))]);
    assert_eq!(handle.of_key("cap", "bob").map(|line| (line.spent, line.limit)), Some((usd(1.2), usd(1.0))));
    assert_eq!((handle.of_key("cap", "eve"), handle.spent("vip"), handle.spent("none")), (None, usd(0.6), Usd::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_teams_keys_share_its_cap_beside_their_own() {
    let team = |name: &str, dollars: f64| Cap::new(format!("team {name}"), usd(dollars), Period::Day).team(name);
    let layer = BudgetLayer::new(prices()).cap(team("search", 2.0)).cap(team("ads", 1.0));
    let layer = layer.cap(Cap::new("a", usd(1.0), Period::Day).key("a"));
    let layer = layer.cap(Cap::new("each", usd(5.0), Period::Day).team("search").each_key());
    let (budget, handle) = (layer.layer(leaf(1000)), layer.handle());
    let asks = |key: &str, team: Option<&str>| {
        let request = ask().with_extension(BudgetKey::new(key));
        let request = match team {
            Some(team) => request.with_extension(Team::new(team)),
            None => request,
        };
        budget.clone().oneshot(request)
    };
    let cap_of = |refused: LlmError| refused.message().split('"').nth(1).unwrap().to_owned();
    asks("a", Some("search")).await.unwrap();
    assert_eq!(cap_of(asks("a", Some("search")).await.unwrap_err()), "a");
    asks("b", Some("search")).await.unwrap();
    assert_eq!(cap_of(asks("b", Some("search")).await.unwrap_err()), "team search");
    assert_eq!(cap_of(asks("c", Some("search")).await.unwrap_err()), "team search");
    asks("c", Some("ads")).await.unwrap();
    assert_eq!(cap_of(asks("d", Some("ads")).await.unwrap_err()), "team ads");
    // A caller without a team counts for none.
    for _ in 0..4 {
        asks("e", None).await.unwrap();
    }
    let of = |key: &str, team: Option<&str>| {
        let caps = handle.snapshot_of_key(key, team).into_iter();
        let mut caps: Vec<_> = caps.map(|cap| (cap.cap.to_string(), cap.spent.nanos() / 1_000_000_000)).collect();
        caps.sort();
        caps
    };
    let expected =
        |caps: &[(&str, u64)]| caps.iter().map(|(cap, spent)| ((*cap).to_owned(), *spent)).collect::<Vec<_>>();
    assert_eq!(of("a", Some("search")), expected(&[("a", 1), ("each", 1), ("team search", 2)]));
    assert_eq!(of("c", Some("ads")), expected(&[("team ads", 1)]));
    assert_eq!(of("e", None), []);
}

/// The only cap with a team counts one key of it.
#[tokio::test(start_paused = true)]
async fn a_cap_of_one_key_in_one_team_counts_it_there_alone() {
    let layer = BudgetLayer::new(prices()).cap(Cap::new("both", usd(1.0), Period::Day).key("a").team("search"));
    let (budget, handle) = (layer.layer(leaf(1000)), layer.handle());
    let asks =
        |team: &str| budget.clone().oneshot(ask().with_extension(BudgetKey::new("a")).with_extension(Team::new(team)));
    asks("ads").await.unwrap();
    asks("search").await.unwrap();
    let refused = asks("search").await.unwrap_err();
    let limit = refused.reached_limit().cloned();
    assert!(matches!(limit, Some(ReachedLimit::Spending { of_key: true, of_team: true, .. })), "{limit:?}");
    assert!(asks("ads").await.is_ok() && handle.spent("both") == usd(1.0));
    assert_eq!(
        (handle.snapshot_of_key("a", Some("ads")).len(), handle.snapshot_of_key("a", Some("search")).len()),
        (0, 1)
    );
}

/// A thousand keys have a cap each, beside one for all: a request counts under its own and under that.
#[tokio::test(start_paused = true)]
async fn of_many_keys_with_a_cap_each_a_request_counts_under_its_own() {
    let own = |number: usize| Cap::new(format!("key {number}"), usd(2.0), Period::Day).key(number.to_string());
    let layer = (0..1000).map(own).fold(layer(cap(10.0)), BudgetLayer::cap);
    let (budget, handle) = (layer.layer(leaf(1000)), layer.handle());
    let asks = |key: &str| budget.clone().oneshot(ask().with_extension(BudgetKey(key.into())));
    for key in ["7", "7", "999", "nobody"] {
        asks(key).await.unwrap();
    }
    assert!(asks("7").await.is_err());
    let spent = |cap: &str| handle.spent(cap).nanos() / 1_000_000_000;
    assert_eq!(["cap", "key 7", "key 999", "key 8", "key 0"].map(spent), [4, 2, 1, 0, 0]);
    // A layer that follows keeps what each has spent, and the limit of a name that is told again is the new one.
    let next = (0..1000).rev().map(own).fold(self::layer(cap(10.0)), BudgetLayer::cap);
    let next = next.cap(own(7)).cap(Cap::new("key 999", usd(1.0), Period::Day).key("999")).state(&handle);
    let (budget, handle) = (next.layer(leaf(1000)), next.handle());
    let asks = |key: &str| budget.clone().oneshot(ask().with_extension(BudgetKey(key.into())));
    assert!(asks("7").await.is_err() && asks("999").await.is_err() && asks("8").await.is_ok());
    assert_eq!(
        (handle.spent("key 7"), handle.spent("key 8"), handle.limit("key 999")),
        (usd(2.0), usd(1.0), Some(usd(1.0)))
    );
}

/// A group's keys may change between two requests; their spending stays.
#[tokio::test(start_paused = true)]
async fn a_cap_of_a_group_counts_its_keys_and_each_for_itself() {
    let members = Arc::new(Mutex::new(vec!["ann", "bob"]));
    let known = members.clone();
    let group = KeyGroup::new(move |key| known.lock().unwrap().contains(&key));
    let own = || Cap::new("own", usd(2.0), Period::Day).each_key().among(group.clone());
    let layer = layer(own());
    let handle = layer.handle();
    let llm = layer.layer(leaf(1000));
    let asks = async |key: &str| llm.clone().oneshot(ask().with_extension(BudgetKey::new(key))).await.map(drop);
    for _ in 0..4 {
        asks("eve").await.unwrap();
    }
    assert!(llm.clone().oneshot(ask()).await.is_ok(), "a request without a key is of no group");
    for key in ["ann", "bob"] {
        for _ in 0..2 {
            asks(key).await.unwrap();
        }
        assert_eq!(asks(key).await.unwrap_err().kind(), ErrorKind::Budget, "{key}");
    }
    let keys = |handle: &BudgetHandle| handle.snapshot().into_iter().filter_map(|cap| cap.key).collect::<Vec<_>>();
    assert_eq!(keys(&handle), ["ann".into(), "bob".into()]);
    *members.lock().unwrap() = vec!["bob"];
    asks("ann").await.unwrap();
    assert_eq!((keys(&handle), handle.snapshot_of_key("ann", None).len()), (vec!["bob".into()], 0));
    *members.lock().unwrap() = vec!["ann"];
    assert!(asks("ann").await.is_err() && asks("bob").await.is_ok());
    // A layer after it goes on with the same group's amounts.
    let next = BudgetLayer::new(prices()).cap(own()).state(&handle);
    assert_eq!(next.handle().snapshot()[0].spent, usd(2.0));
}

#[tokio::test(start_paused = true)]
async fn of_a_cap_for_each_key_it_is_told_whose_it_is() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let llm = layer(cap(1.0).each_key()).events(events).layer(leaf(850));
    let of = |key: &str| ask().with_max_tokens(900).with_extension(BudgetKey::new(key));
    llm.clone().oneshot(of("ada")).await.unwrap();
    assert_eq!(told(&mut heard), ["cap of ada 80%"]);
    tokio::time::advance(Duration::from_secs(24 * 3600)).await;
    llm.clone().oneshot(of("ada")).await.unwrap();
    assert_eq!(told(&mut heard), ["cap of ada reset", "cap of ada 80%"]);
}

#[tokio::test(start_paused = true)]
async fn the_memory_of_keys_is_bounded() {
    let layer = layer(cap(1.0).each_key()).keys(100);
    let (handle, llm) = (layer.handle(), layer.layer(leaf(300)));
    for key in 0..1000 {
        llm.clone().oneshot(ask().with_max_tokens(300).with_extension(BudgetKey::new(key.to_string()))).await.unwrap();
    }
    assert!(handle.snapshot().len() <= 100);
    assert!(handle.of_key("cap", "999").is_some());
}

#[tokio::test(start_paused = true)]
async fn what_failed_before_the_provider_worked_is_given_back() {
    for (kind, spent) in [
        (ErrorKind::Connect, 0),
        (ErrorKind::CircuitOpen, 0),
        (ErrorKind::RateLimited, 0),
        (ErrorKind::Server, 0),
        (ErrorKind::Timeout, 500),
        (ErrorKind::StreamBroken, 500),
    ] {
        let error = LlmError::new(kind, "scripted");
        let llm = layer(cap(10.0)).layer(Strict::new().takes(Duration::from_secs(2)).fails(100, error));
        let handle = llm.handle();
        llm.oneshot(ask()).await.unwrap_err();
        assert_eq!(books(&handle), (spent, 0), "{kind}");
    }
    let llm = layer(cap(10.0)).layer(Strict::new().fails_readiness(1));
    let handle = llm.handle();
    llm.oneshot(ask()).await.unwrap_err();
    assert_eq!(books(&handle), (0, 0));
}

/// A failed attempt, as an inner layer records it.
fn attempt(kind: ErrorKind, usage: Option<Usage>) -> Attempt {
    let mut ledger = Ledger::default();
    let mut error = LlmError::new(kind, "scripted").with_model("p", "m");
    ledger.failed(&mut error, Instant::now(), Instant::now());
    ledger.give_up(&mut error);
    Attempt { usage, ..error.attempts()[0].clone() }
}

#[tokio::test(start_paused = true)]
async fn failed_attempts_that_used_tokens_count() {
    let attempts = || {
        vec![
            attempt(ErrorKind::InvalidOutput, Some(Usage::new(100, 50))),
            attempt(ErrorKind::InvalidOutput, Some(Usage::new(0, 30))),
            attempt(ErrorKind::Server, None),
        ]
    };
    let mut error = LlmError::new(ErrorKind::InvalidOutput, "scripted");
    error.set_attempts(attempts());
    let llm = failing(error);
    let handle = llm.handle();
    llm.oneshot(ask()).await.unwrap_err();
    assert_eq!(books(&handle), (180, 0));

    for (silent, spent) in [(ErrorKind::Server, 280), (ErrorKind::Timeout, 530)] {
        let leaf = provider_fn(move |_| {
            let mut response = tokens(100);
            response.prepend_attempts([attempts(), vec![attempt(silent, None)]].concat());
            async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok::<_, LlmError>(response)
            }
        });
        let llm = layer(cap(10.0)).layer(leaf);
        let handle = llm.handle();
        llm.oneshot(ask()).await.unwrap();
        assert_eq!(books(&handle), (spent, 0), "{silent}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_leaves_no_reservation() {
    let mut unready = layer(cap(10.0)).layer(Strict::new().pending(5));
    let handle = unready.handle();
    drop(unready.call(ask()));
    assert_eq!(books(&handle), (0, 0), "it was never made");
    let mut silent = layer(cap(10.0)).layer(Strict::new().takes(Duration::from_secs(60)));
    let handle = silent.handle();
    let mut call = task::spawn(silent.call(ask()));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(books(&handle), (0, 0), "no time has passed for the provider to write in");
}

/// Leaving at once must not cost what the request might have: a caller could close a cap for all at no cost.
#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_costs_its_prompt_and_what_the_time_allows() {
    let left = |stream: bool, after: Duration| async move {
        let mut silent = layer(cap(10.0)).layer(Strict::new().takes(Duration::from_secs(600)));
        let handle = silent.handle();
        let mut chat = Chat::new([Message::user("word".repeat(100))]).model("m").max_tokens(1000);
        chat.stream = stream;
        let mut call = task::spawn(silent.call(chat.into()));
        assert_pending!(call.poll());
        tokio::time::advance(after).await;
        drop(call);
        books(&handle)
    };
    for (stream, seconds, spent) in
        [(false, 0, 100), (false, 2, 600), (false, 4, 1100), (false, 500, 1100), (true, 0, 100), (true, 500, 100)]
    {
        assert_eq!(left(stream, Duration::from_secs(seconds)).await, (spent, 0), "stream {stream}, {seconds} s");
    }
}

/// A leaf whose answer comes in frames.
fn streaming(
    events: Vec<Result<StreamEvent, ErrorKind>>,
) -> Budget<impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone> {
    let leaf = provider_fn(move |_| {
        let frames: Vec<_> = events
            .iter()
            .map(|event| event.clone().map(Frame::event).map_err(|kind| LlmError::new(kind, "scripted")))
            .collect();
        let body = LlmBody::from_frames(stream::iter(frames));
        std::future::ready(Ok::<_, LlmError>(LlmResponse::new(body).with_model("p", "m")))
    });
    layer(cap(10.0)).layer(leaf)
}

fn used(output: u64) -> Result<StreamEvent, ErrorKind> {
    Ok(StreamEvent::Usage(Usage::new(0, output)))
}

#[tokio::test(start_paused = true)]
async fn a_stream_counts_by_what_it_has_told() {
    let text = || Ok(StreamEvent::Text { index: 0, text: "hello".into() });
    let restarted = Ok(StreamEvent::Restarted { reason: ErrorKind::StreamBroken });
    let cases = [
        ("whole", vec![text(), used(70), Ok(StreamEvent::End)], 9, 70),
        ("whole, and silent", vec![text(), Ok(StreamEvent::End)], 9, 2),
        ("broken", vec![used(5), text(), Err(ErrorKind::StreamBroken)], 9, 5),
        ("broken, and silent", vec![text()], 9, 2),
        ("dropped", vec![used(5), text(), text()], 2, 5),
        ("dropped, and silent", vec![text(), text()], 1, 2),
        ("begun anew", vec![used(5), text(), restarted, used(7), Ok(StreamEvent::End)], 9, 12),
    ];
    for (name, events, read, spent) in cases {
        let llm = streaming(events);
        let handle = llm.handle();
        let mut response = llm.oneshot(ask()).await.unwrap();
        assert_eq!(books(&handle), (0, 1000), "{name}");
        for _ in 0..read {
            response.body_mut().frame().await;
        }
        drop(response);
        assert_eq!(books(&handle), (spent, 0), "{name}");
    }
}

/// A piece of text of so many tokens.
fn said(tokens: usize) -> Result<StreamEvent, ErrorKind> {
    Ok(StreamEvent::Text { index: 0, text: "word".repeat(tokens) })
}

#[tokio::test(start_paused = true)]
async fn who_leaves_a_stream_early_has_paid_for_what_came() {
    let begun = |input, output| Ok(StreamEvent::Usage(Usage::new(input, output)));
    let restarted = || Ok(StreamEvent::Restarted { reason: ErrorKind::StreamBroken });
    let cut = || Err(ErrorKind::StreamBroken);
    // The request reserves a dollar, which includes a hundred tokens of prompt.
    let cases = [
        ("told at the start, and left", vec![begun(80, 1), said(4000), said(1)], 2, 4080),
        ("told more than came", vec![begun(80, 1), said(5), begun(80, 4000), said(1)], 3, 4080),
        ("told nothing, and left", vec![said(4000), said(1)], 1, 4100),
        ("told nothing, and left at once", vec![said(1), said(1)], 1, 101),
        ("broken", vec![begun(80, 1), said(4000), cut()], 9, 4080),
        ("broken, and silent", vec![said(4000), cut()], 9, 4100),
        ("whole, and silent", vec![said(4000), Ok(StreamEvent::End)], 9, 4100),
        ("whole, and known", vec![said(4000), begun(80, 3000), Ok(StreamEvent::End)], 9, 3080),
        ("begun anew", vec![said(4000), restarted(), said(5), begun(80, 5), Ok(StreamEvent::End)], 9, 4185),
        ("begun anew, and left", vec![begun(80, 1), said(4000), restarted(), begun(80, 1), said(5), said(1)], 5, 4165),
    ];
    for (name, events, read, spent) in cases {
        let llm = streaming(events);
        let handle = llm.handle();
        let asked = LlmRequest::from(Chat::new([Message::user("word".repeat(100))]).model("m").max_tokens(900));
        let mut response = llm.oneshot(asked).await.unwrap();
        for _ in 0..read {
            response.body_mut().frame().await;
        }
        drop(response);
        assert_eq!(books(&handle), (spent, 0), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_that_tells_no_tokens_counts_by_its_length() {
    let leaf = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("word".repeat(4000))) });
    let llm = layer(cap(10.0)).layer(leaf);
    let handle = llm.handle();
    llm.oneshot(ask()).await.unwrap();
    assert_eq!(books(&handle), (4000, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_counts_in_the_period_in_which_it_began() {
    let slow = provider_fn(|_| async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Ok::<_, LlmError>(tokens(900))
    });
    let mut llm = layer(Cap::new("cap", usd(1.0), Period::Hour)).layer(slow);
    let handle = llm.handle();
    let mut old = task::spawn(llm.call(ask()));
    assert_pending!(old.poll());
    llm.clone().oneshot(ask()).await.unwrap_err();
    tokio::time::advance(Duration::from_secs(3600)).await;
    let new = llm.call(ask());
    assert!(old.is_woken());
    old.await.unwrap();
    assert_eq!(books(&handle), (0, 1000), "the old one is not paid for again");
    drop(new);
}

#[tokio::test(start_paused = true)]
async fn a_model_without_a_price_counts_as_nothing_and_is_found_at_the_start() {
    let unpriced = provider_fn(|_| std::future::ready(Ok::<_, LlmError>(tokens(900).with_model("p", "unheard-of"))));
    let layer = layer(cap(10.0));
    let (handle, llm) = (layer.handle(), layer.layer(unpriced));
    llm.oneshot(ask()).await.unwrap();
    assert_eq!(books(&handle), (0, 0));

    assert!(layer.check([(Some("p"), "m")]).is_ok());
    let error = layer.check([(None, "m"), (Some("p"), "unheard-of")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "prices: `unheard-of` of p has no price, so that no cap can be kept; add one to the prices"
    );
    assert!(layer.model(None, "unheard-of").checked().is_err());
    assert!(BudgetLayer::new(prices()).check([(None, "unheard-of")]).is_ok(), "without a cap nothing is to be kept");
}

#[tokio::test(start_paused = true)]
async fn the_layers_model_is_reserved_for_whatever_the_request_names() {
    let prices = prices().with("dear", Price::dollars(2000.0, 2000.0).unwrap());
    let mut llm = BudgetLayer::new(prices).cap(cap(10.0)).model(None, "dear").layer(Strict::new().takes(Duration::MAX));
    let handle = llm.handle();
    let _call = llm.call(ask());
    assert_eq!(books(&handle), (0, 2000));
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_nothing_is_closed_and_a_handle_opens_it() {
    let layer = layer(cap(0.0));
    let (handle, llm) = (layer.handle(), layer.layer(leaf(1)));
    llm.clone().oneshot(LlmRequest::prompt("of no model")).await.unwrap_err();
    handle.clone().set_limit("cap", usd(5.0)).unwrap();
    assert_eq!(handle.limit("cap"), Some(usd(5.0)));
    llm.oneshot(ask()).await.unwrap();
    let error = handle.set_limit("Cap", usd(1.0)).unwrap_err();
    assert_eq!(error.to_string(), "cap: no cap is named `Cap`; there are cap");
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_follows_goes_on_with_what_was_spent() {
    let before = layer(cap(10.0)).cap(Cap::new("keys", usd(10.0), Period::Day).each_key());
    let mut old = before.layer(leaf(100));
    let of = |key: &str| ask().with_extension(BudgetKey::new(key));
    old.call(of("ada")).await.unwrap();
    let mut hung = before.layer(Strict::new().takes(Duration::from_secs(5)));
    let in_flight = hung.call(of("ada").with_max_tokens(500));

    let after = BudgetLayer::new(prices().with("x", Price::free()))
        .cap(cap(1.5))
        .cap(Cap::new("keys", usd(5.0), Period::Day).each_key())
        .cap(Cap::new("new", usd(5.0), Period::Day))
        .state(&before.handle());
    let handle = after.handle();
    assert_eq!((books(&handle), handle.limit("cap")), ((100, 500), Some(usd(1.5))));
    assert_eq!(handle.of_key("keys", "ada").map(|line| (line.spent, line.limit)), Some((usd(0.1), usd(5.0))));
    assert_eq!((handle.spent("new"), handle.resets_at("new")), (Usd::ZERO, before.handle().resets_at("cap")));
    after.layer(leaf(1)).oneshot(ask()).await.unwrap_err();
    in_flight.await.unwrap();
    assert_eq!(books(&handle), (102, 0), "what began under the old layer is settled in both");
    let other = layer(cap(10.0).feature("chat")).state(&handle);
    assert_eq!(books(&other.handle()), (0, 0), "it counts something else");
}

#[tokio::test(start_paused = true)]
async fn keys_that_were_used_last_before_a_layer_that_follows_are_forgotten_last() {
    let keys = || layer(Cap::new("keys", usd(10.0), Period::Day).each_key()).keys(4);
    let spends = async |layer: &BudgetLayer, key: &str| {
        layer.layer(leaf(100)).oneshot(ask().with_extension(BudgetKey::new(key))).await.unwrap();
    };
    let before = keys();
    for key in ["ada", "bob", "cyd"] {
        spends(&before, key).await;
    }
    let after = keys().state(&before.handle());
    for key in ["dan", "eve"] {
        spends(&after, key).await;
    }
    assert_eq!(after.handle().of_key("keys", "cyd").map(|line| line.spent), Some(usd(0.1)));
}

#[tokio::test(start_paused = true)]
async fn a_healthy_call_allocates_nothing() {
    let leaf = provider_fn(|_| std::future::ready(Ok::<_, LlmError>(LlmResponse::from_text("hello"))));
    let builtin = BudgetLayer::new(PriceTable::builtin())
        .cap(Cap::new("all", usd(1e6), Period::Month))
        .cap(Cap::new("chat", usd(1e6), Period::Day).feature("chat"))
        .cap(Cap::new("each", usd(1e6), Period::Hour).each_key());
    let mut llm = builtin.layer(leaf);
    let chat = Chat::new([Message::user("hello")]).model("gpt-4o-2024-08-06");
    let request = LlmRequest::from(chat).with_feature("chat").with_extension(BudgetKey::new("ada"));
    let mut call = || {
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(pin!(llm.call(request.clone())).poll(&mut context), Poll::Ready(Ok(_))));
    };
    call();
    assert_eq!(allocation_counter::measure(call).count_total, 0);
    assert!(builtin.handle().spent("each") > Usd::ZERO);
}

#[tokio::test(start_paused = true)]
async fn neither_debug_nor_refusals_show_the_prompt() {
    let llm = layer(cap(0.0)).layer(Strict::new());
    let request = LlmRequest::prompt("secret plans").with_extension(BudgetKey::new("ada"));
    let error = llm.clone().oneshot(request).await.unwrap_err();
    assert!(!format!("{error} {error:?} {llm:?} {:?}", llm.handle()).contains("secret"));
}
