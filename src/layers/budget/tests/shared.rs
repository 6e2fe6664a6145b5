//! Tests of caps that several keys share: reservations are bounded, and each key keeps its part.

use super::*;

/// The prices of the README's model.
fn sonnet() -> PriceTable {
    PriceTable::empty().with(MODEL, Price::dollars(3.0, 15.0).unwrap())
}

const MODEL: &str = "claude-sonnet-4-5";
/// Between two honest calls: fifteen in a second.
const GAP: Duration = Duration::from_micros(66_667);

/// Begins in a month that does not end meanwhile.
fn layer_of(prices: PriceTable) -> BudgetLayer {
    BudgetLayer::new(prices).starting_at(UNIX_EPOCH)
}

fn month(dollars: f64) -> BudgetLayer {
    layer_of(sonnet()).cap(Cap::new("month", usd(dollars), Period::Month))
}

fn of(key: &str, max_tokens: u32) -> LlmRequest {
    let chat = Chat::new([Message::user("hello")]).model(MODEL).max_tokens(max_tokens);
    LlmRequest::from(chat).with_extension(BudgetKey::new(key))
}

/// A provider that refuses limits beyond its model's with a 400, answers small requests, and is slow at large ones.
fn provider()
-> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static {
    provider_fn(|request: LlmRequest| async move {
        let asked = request.chat().unwrap().max_tokens.unwrap_or_default();
        let takes = if (1000..=64_000).contains(&asked) { Duration::from_secs(600) } else { Duration::from_millis(50) };
        tokio::time::sleep(takes).await;
        if asked > 64_000 {
            return Err(LlmError::new(ErrorKind::InvalidRequest, "max_tokens is too large"));
        }
        let mut message = Message::assistant("hello");
        message.usage = Some(Usage::new(8, 5));
        Ok::<_, LlmError>(LlmResponse::from_message(message).with_model("anthropic", MODEL))
    })
}

/// Sends calls of an honest key at their pace, and returns how many were refused.
async fn honest<S>(llm: S, count: u32, max_tokens: u32) -> u32
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send + 'static,
{
    let mut calls = Vec::new();
    for _ in 0..count {
        calls.push(tokio::spawn(llm.clone().oneshot(of("honest", max_tokens))));
        tokio::time::sleep(GAP).await;
    }
    let mut refused = 0;
    for call in calls {
        refused += u32::from(call.await.unwrap().is_err());
    }
    refused
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_an_absurd_limit_refuses_nobody_else() {
    let layer = month(2000.0);
    let (handle, llm) = (layer.handle(), layer.layer(provider()));
    let hostile = tokio::spawn({
        let llm = llm.clone();
        async move {
            loop {
                let error = llm.clone().oneshot(of("hostile", 133_333_280)).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidRequest);
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    // 64,000 tokens for $15 a million, and a prompt of a token.
    assert_eq!(handle.reserved("month"), Usd::from_nanos(960_003_000));
    assert_eq!(honest(llm, 104, 1).await, 0);
    hostile.abort();
    assert!(hostile.await.unwrap_err().is_cancelled());
    assert_eq!(handle.reserved("month"), Usd::ZERO);
    // The last hostile call was under way for 50 ms at most.
    let of_hostile = handle.spent("month").nanos() - 104 * 99_000;
    assert!(of_hostile <= 3_000 + 13 * 15_000, "{of_hostile}");
}

#[tokio::test(start_paused = true)]
async fn slow_streams_of_one_key_leave_the_others_their_part_of_a_cap() {
    for (streams, max_tokens) in [(6, 222_215), (6, 64_000), (100, 64_000), (1000, 20_000)] {
        let layer = month(20.0);
        let (handle, llm) = (layer.handle(), layer.layer(provider()));
        let first = tokio::spawn(llm.clone().oneshot(of("honest", 1)));
        tokio::time::sleep(Duration::from_millis(1)).await;
        let hostile: Vec<_> =
            (0..streams).map(|_| tokio::spawn(llm.clone().oneshot(of("hostile", max_tokens.min(64_000))))).collect();
        assert!(first.await.unwrap().is_ok());
        assert_eq!(honest(llm, 266, 900).await, 0, "{streams} streams of {max_tokens}");
        for call in hostile {
            call.abort();
            let _ = call.await;
        }
        assert_eq!(handle.reserved("month"), Usd::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_alone_may_reserve_the_whole_cap() {
    let layer = month(20.0);
    let (handle, llm) = (layer.handle(), layer.layer(provider()));
    let calls: Vec<_> = (0..30).map(|_| tokio::spawn(llm.clone().oneshot(of("alone", 64_000)))).collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(handle.reserved("month"), Usd::from_nanos(20 * 960_003_000), "twenty fit");
    drop(calls);
}

#[tokio::test(start_paused = true)]
async fn what_is_reserved_is_worth_asking_for_again_and_what_is_spent_is_not() {
    let layer = month(1.0);
    let llm = layer.layer(provider());
    let _held = tokio::spawn(llm.clone().oneshot(of("one", 64_000)));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let error = llm.clone().oneshot(of("one", 20_000)).await.unwrap_err();
    assert_eq!((error.kind(), error.kind_for_caller()), (ErrorKind::Budget, ErrorKind::RateLimited));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    assert!(error.reached_limit().unwrap().is_momentary_cap(), "{error:?}");
    assert!(error.message().ends_with("is free again as its requests end"), "{}", error.message());
    let never = llm.oneshot(of("two", 1)).await;
    assert!(never.is_ok(), "a small one fits");

    let layer = month(1.0);
    let spent = provider_fn(|_| async {
        let mut message = Message::assistant("hello");
        message.usage = Some(Usage::new(0, 70_000));
        Ok::<_, LlmError>(LlmResponse::from_message(message).with_model("anthropic", MODEL))
    });
    let llm = layer.layer(spent);
    llm.clone().oneshot(of("one", 64_000)).await.unwrap();
    let error = llm.oneshot(of("two", 20_000)).await.unwrap_err();
    assert_eq!((error.kind(), error.kind_for_caller()), (ErrorKind::Budget, ErrorKind::Budget));
    assert!(!error.reached_limit().unwrap().is_momentary_cap(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_beyond_its_share_is_told_so_and_a_step_down_is_its_own() {
    let llm = month(20.0).layer(provider());
    llm.clone().oneshot(of("honest", 1)).await.unwrap();
    let calls: Vec<_> = (0..30).map(|_| task::spawn(llm.clone().oneshot(of("hostile", 64_000)))).collect();
    let mut refused = Vec::new();
    for mut call in calls {
        match call.poll() {
            Poll::Ready(Err(error)) => refused.push((error, None)),
            _ => refused.push((LlmError::new(ErrorKind::Other, "held"), Some(call))),
        }
    }
    let held = refused.iter().filter(|(_, call)| call.is_some()).count();
    assert_eq!(held, 15, "$15 of $20: a quarter stays for others");
    let (error, _) = refused.iter().find(|(_, call)| call.is_none()).unwrap();
    assert!(matches!(error.reached_limit(), Some(ReachedLimit::Share(_))), "{error:?}");
    assert_eq!((error.kind_for_caller(), error.retry_after()), (ErrorKind::RateLimited, Some(Duration::from_secs(1))));
    assert!(error.message().contains(r#"by the key "hostile""#), "{}", error.message());

    let layer = layer_of(sonnet()).cap(Cap::new("month", usd(20.0), Period::Month).at_cap(AtCap::StepDown(2)));
    let strict = Strict::new().takes(Duration::from_secs(600));
    let mut llm = layer.layer(strict.clone());
    let mut all = vec![task::spawn(llm.call(of("honest", 1)))];
    all.extend((0..30).map(|_| task::spawn(llm.call(of("hostile", 64_000)))));
    all.push(task::spawn(llm.call(of("honest", 1000))));
    all.iter_mut().for_each(|call| assert_pending!(call.poll()));
    let levels: Vec<u8> = strict.seen().iter().map(|request| request.context().min_level).collect();
    let own = ask().context().min_level;
    assert_eq!((levels[0], levels[31]), (own, own), "the honest key goes on as before");
    assert_eq!(levels.iter().filter(|level| **level == 2).count(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_reservation_is_given_back_wherever_its_request_ends() {
    let layer = month(20.0);
    let (handle, llm) = (layer.handle(), layer.layer(Strict::new().pending(3).takes(Duration::from_secs(1))));
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..200 {
        let mut calls: Vec<_> = (0..rng.usize(1..30))
            .map(|_| {
                let key = ["one", "two", "three"][rng.usize(..3)];
                let mut llm = llm.clone();
                task::spawn(llm.call(of(key, rng.u32(1..64_000))))
            })
            .collect();
        for _ in 0..rng.usize(..6) {
            calls.retain_mut(|call| (!call.is_woken() && rng.bool()) || call.poll().is_pending());
            tokio::time::advance(Duration::from_millis(rng.u64(..600))).await;
        }
        drop(calls);
        assert_eq!(handle.reserved("month"), Usd::ZERO, "round {round}");
    }
}

/// A provider of a coding agent's turns: each takes 20 s and 500 tokens, in frames or whole. One that tells its tokens
/// has 20,000 of prompt besides; of another the text counts.
#[derive(Clone, Copy, Debug)]
struct Turns {
    streams: bool,
    tells: bool,
}

impl Turns {
    /// The cost of a turn: $3 and $15 for a million tokens.
    fn cost(self) -> f64 {
        if self.tells { 0.0675 } else { 0.0075 }
    }

    fn leaf(self) -> impl Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone + Send {
        provider_fn(move |_: LlmRequest| async move {
            tokio::time::sleep(Duration::from_secs(20)).await;
            let (text, usage) = ("word".repeat(500), self.tells.then(|| Usage::new(20_000, 500)));
            let response = if self.streams {
                let text = StreamEvent::Text { index: 0, text };
                let events = [Some(text), usage.map(StreamEvent::Usage), Some(StreamEvent::End)];
                let frames = events.into_iter().flatten().map(|event| Ok::<_, LlmError>(Frame::event(event)));
                LlmResponse::new(LlmBody::from_frames(stream::iter(frames.collect::<Vec<_>>())))
            } else {
                let mut message = Message::assistant(text);
                message.usage = usage;
                LlmResponse::from_message(message)
            };
            Ok::<_, LlmError>(response.with_model("anthropic", MODEL))
        })
    }
}

/// The requests of an agent of this key: it obeys what a refusal says of the time, as SDKs do, until the money is spent
/// or its work is done. Returns the number of its turns, and the time that they took.
async fn agent<S>(llm: S, asks: impl Fn() -> LlmRequest, most: u32) -> (u32, Duration)
where
    S: Service<LlmRequest, Response = LlmResponse, Error = LlmError, Future: Send> + Clone,
{
    let (begun, mut turns) = (Instant::now(), 0);
    while turns < most {
        match llm.clone().oneshot(asks()).await {
            Ok(answer) => {
                answer.text().await.unwrap();
                turns += 1;
            }
            Err(error) if error.reached_limit().unwrap().is_momentary_cap() => {
                let wait = error.retry_after().unwrap();
                assert!(wait <= Duration::from_secs(1), "{error}");
                tokio::time::sleep(wait).await;
            }
            Err(_) => break,
        }
        assert!(begun.elapsed() < Duration::from_secs(3600), "{turns} turns, and no end");
    }
    (turns, begun.elapsed())
}

/// The requests of an agent of this key, with the longest answer that the model has.
fn asks(key: Option<&'static str>, streams: bool) -> impl Fn() -> LlmRequest {
    move || {
        let chat = Chat::new([Message::user("hello")]).model(MODEL).max_tokens(128_000);
        let request = LlmRequest::from(chat).with_stream(streams).with_feature("code");
        match key {
            Some(key) => request.with_extension(BudgetKey::new(key)),
            None => request,
        }
    }
}

/// Four coding agents work until the cap is spent, whoever they are and however their provider answers.
#[tokio::test(start_paused = true)]
async fn four_agents_use_their_cap_up_and_pass_it_by_their_last_turns() {
    type Caller = (&'static str, [Option<&'static str>; 4], fn(Cap) -> Cap);
    let callers: [Caller; 6] = [
        ("nobody in particular", [None; 4], |cap| cap),
        ("one key", [Some("ada"); 4], |cap| cap),
        ("two keys", [Some("ada"), Some("bob"), Some("ada"), Some("bob")], |cap| cap),
        ("four keys", [Some("ada"), Some("bob"), Some("cyd"), Some("dan")], |cap| cap),
        ("a key with a cap of its own", [Some("ada"); 4], Cap::each_key),
        ("a feature", [Some("ada"); 4], |cap| cap.feature("code")),
    ];
    for (caller, keys, counts) in callers {
        for (streams, tells) in [(false, true), (false, false), (true, true), (true, false)] {
            for most in [7.4, 14.8, 74.0] {
                let provider = Turns { streams, tells };
                let (turn, case) = (provider.cost(), format!("{caller}, {provider:?}, {most} turns"));
                let cap = Cap::new("month", usd(turn * most), Period::Month);
                let layer = layer_of(sonnet()).cap(counts(cap));
                let (handle, llm) = (layer.handle(), layer.layer(provider.leaf()));
                let agents = keys.map(|key| agent(llm.clone(), asks(key, streams), u32::MAX));
                let ended = futures_util::future::join_all(agents).await;
                let spent = handle.spent("month").nanos() as f64 / 1e9;
                let turns: u32 = ended.iter().map(|(turns, _)| turns).sum();
                assert!((spent - turn * f64::from(turns)).abs() < turn * 0.01 * f64::from(turns), "{case}: {spent}");
                assert!(
                    most < 14.0 || ended.iter().all(|(turns, _)| *turns > 0),
                    "{case}: one never passed: {ended:?}"
                );
                assert!(spent >= turn * most, "{case}: the cap is reached: ${spent}");
                assert!(spent <= turn * (most + 4.1), "{case}: and passed by four turns at the most: ${spent}");
                // The first turn of a key goes alone; those after side by side, as they would without a cap.
                let rest = if tells { 60.0 } else { 80.0 };
                let limit = Duration::from_secs_f64(20.0 * (most / 4.0) + rest);
                assert!(ended.iter().all(|(_, lasted)| *lasted <= limit), "{case}: {ended:?} of {limit:?}");
            }
        }
    }
}

/// A cap that steps down learns too: no agent is kept at the cheaper tier by what its turns might have cost.
#[tokio::test(start_paused = true)]
async fn four_agents_stay_at_their_level_until_their_cap_is_spent() {
    for keys in [[None; 4], [Some("ada"); 4], [Some("ada"), Some("bob"), Some("ada"), Some("bob")]] {
        for streams in [false, true] {
            let provider = Turns { streams, tells: true };
            let cap = Cap::new("month", usd(1.0), Period::Month).at_cap(AtCap::StepDown(2));
            let layer = layer_of(sonnet()).cap(cap);
            let levels = Arc::new(Mutex::new(Vec::new()));
            let (leaf, seen) = (provider.leaf(), levels.clone());
            let llm = layer.layer(provider_fn(move |request: LlmRequest| {
                seen.lock().unwrap().push(request.context().min_level);
                leaf.clone().oneshot(request)
            }));
            futures_util::future::join_all(keys.map(|key| agent(llm.clone(), asks(key, streams), 5))).await;
            let levels = levels.lock().unwrap();
            let own = ask().context().min_level;
            // Fourteen turns fit; the first ones may cost two dollars each, for all that is known.
            let kept = levels.iter().filter(|level| **level == own).count();
            assert!((8..=14).contains(&kept), "{keys:?}, {streams}: {levels:?}");
            assert_eq!(levels.last(), Some(&2), "{keys:?}, {streams}: the cap is spent");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_remainder_too_small_to_reserve_is_none() {
    for key in [None, Some("ada")] {
        let leaf = provider_fn(|_| async {
            let mut message = Message::assistant("hello");
            message.usage = Some(Usage::new(0, 1));
            Ok::<_, LlmError>(LlmResponse::from_message(message).with_model("anthropic", MODEL))
        });
        let layer = layer_of(sonnet()).cap(Cap::new("month", Usd::from_nanos(16_000), Period::Month));
        let llm = layer.layer(leaf);
        llm.clone().oneshot(asks(key, false)()).await.unwrap();
        // $0.000001 is left, and nobody holds any.
        let error = llm.oneshot(asks(key, false)()).await.unwrap_err();
        assert!(!error.reached_limit().unwrap().is_momentary_cap(), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_follows_expects_what_its_predecessor_did() {
    let answers = Turns { streams: false, tells: true };
    let before = month(20.0);
    before.layer(answers.leaf()).oneshot(of("ada", 128_000)).await.unwrap();
    let reserved = async |layer: &BudgetLayer| {
        let mut call = task::spawn(layer.layer(answers.leaf()).oneshot(of("ada", 128_000)));
        assert_pending!(call.poll());
        layer.handle().reserved("month")
    };
    let expected = reserved(&before).await;
    assert!(expected < usd(0.1), "{expected}");
    assert_eq!(reserved(&month(10.0).state(&before.handle())).await, expected);
    let other = PriceTable::empty().with("other", Price::free()).with(MODEL, Price::dollars(3.0, 15.0).unwrap());
    let other = layer_of(other).cap(Cap::new("month", usd(20.0), Period::Month)).state(&before.handle());
    assert!(reserved(&other).await > usd(0.9), "its models have other places");
}
