//! An operator's orders to a running stack: circuits forced, tiers drained, levels pinned. No request is lost by it,
//! and each order is reported once.

use std::{sync::Arc, time::Duration};

use steadfast::{
    BoxLlmService, CircuitBreakerLayer, ErrorKind, Event, Events, FallbackHandle, FallbackLayer, LlmError, LlmRequest,
    LlmResponse,
    events::{CircuitReason, CircuitState, Operation},
    layers::fallback::{SessionPolicy, Tier as Place},
    provider_fn,
    providers::{
        Canned,
        simulated::{Fault, Simulated, SimulatedHandle},
    },
};
use steadfast_stack::{AllOpen, CircuitBreaker, Config, Feature, Route, RouteWhen, Span, Stack, StackHandle, Tier};
use steadfast_subscribers::{ServingState, Status, StatusBoard};
use tokio::{
    sync::broadcast::Receiver,
    task::JoinSet,
    time::{Instant, advance, sleep},
};
use tower::{Layer, ServiceBuilder, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn config(tiers: &[(&str, u8)]) -> Config {
    let tier = |(name, level): &(&str, u8)| Tier { name: (*name).into(), level: Some(*level), ..Tier::default() };
    let mut config = Config { tiers: tiers.iter().map(tier).collect(), ..Config::default() };
    // Two requests open a circuit.
    config.retry.max_attempts = Some(3);
    config
}

/// A stack of simulated providers, what it is steered by, and its providers.
struct Bench {
    llm: BoxLlmService,
    operator: StackHandle,
    heard: Receiver<Event>,
    providers: Vec<SimulatedHandle>,
}

impl Bench {
    /// Tiers of these levels, each answering with its own name after 200 ms.
    fn new(tiers: &[(&str, u8)]) -> Self {
        Self::of(config(tiers))
    }

    fn of(config: Config) -> Self {
        let mut builder = Stack::builder().seed(3);
        let mut providers = Vec::new();
        for tier in &config.tiers {
            let provider =
                Simulated::new(&tier.name).reply("one two three four five").latency(200 * MILLISECOND).seed(7);
            providers.push(provider.handle());
            builder = builder.leaf(&*tier.name, provider.pace(100 * MILLISECOND));
        }
        let stack = builder.build(config).unwrap();
        let operator = stack.handle().acting_as("ana");
        operator.status();
        let heard = operator.events().subscribe();
        Self { llm: stack.service(), operator, heard, providers }
    }

    async fn ask(&self, request: LlmRequest) -> Result<LlmResponse, LlmError> {
        self.llm.clone().oneshot(request).await
    }

    /// The tier that serves a request, whose whole answer is read.
    async fn tier(&self, request: LlmRequest) -> String {
        let response = self.ask(request).await.unwrap_or_else(|error| panic!("{error}"));
        let tier = response.served_by().tier.expect("a tier").to_owned();
        response.collect().await.expect("the whole answer");
        tier
    }

    fn calls(&self) -> Vec<u64> {
        self.providers.iter().map(|provider| provider.stats().calls).collect()
    }

    /// Returns the events since the last look, without those of requests.
    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(event) = self.heard.try_recv() {
            match event {
                Event::RequestEnded(_) | Event::LateResult { .. } => {}
                Event::Operated { operation, by, at } => {
                    assert!(at <= Instant::now());
                    told.push(format!("{} {operation}", by.as_deref().unwrap_or("somebody")));
                }
                Event::CircuitChanged { circuit, from, to, reason, .. } => {
                    told.push(format!("{circuit}: {from} to {to}, {reason}"));
                }
                Event::ModelSwitched { from, to, reason, .. } => {
                    told.push(format!("{from} gives way to {to}: {reason}"))
                }
                Event::ModelRecovered { from, to, .. } => told.push(format!("{to} is back after {from}")),
                Event::AllTiersFailed { reason, .. } => told.push(format!("all failed: {reason}")),
                Event::Reloaded { kept, changed, .. } => told.push(format!("reloaded, {kept} kept, {changed} changed")),
                other => told.push(format!("{other:?}")),
            }
        }
        told
    }

    async fn status(&self) -> Status {
        // The board is kept beside the requests.
        tokio::task::yield_now().await;
        self.operator.status()
    }
}

fn prompt() -> LlmRequest {
    LlmRequest::prompt("Why?").with_feature("chat")
}

fn steps(attempts: &[steadfast::Attempt]) -> Vec<String> {
    attempts.iter().map(ToString::to_string).collect()
}

/// Twenty clients, each with one request after another, half of them streams.
fn load(llm: &BoxLlmService, requests: u32) -> JoinSet<u32> {
    let mut clients = JoinSet::new();
    for client in 0..20 {
        let llm = llm.clone();
        clients.spawn(async move {
            for number in 0..requests {
                let answer = llm.clone().oneshot(prompt().with_stream((client + number) % 2 == 0)).await;
                let message = answer.expect("no request is lost").collect().await.expect("no answer is cut");
                assert_eq!(message.text(), "one two three four five");
            }
            requests
        });
    }
    clients
}

async fn answered(mut clients: JoinSet<u32>) -> u32 {
    let mut sum = 0;
    while let Some(answered) = clients.join_next().await {
        sum += answered.expect("no client panics");
    }
    sum
}

#[tokio::test(start_paused = true)]
async fn orders_under_load_lose_nothing() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1), ("c", 2)]);
    let clients = load(&bench.llm, 40);
    type Order = fn(&StackHandle) -> bool;
    let orders: [(Order, Order); 5] = [
        (|stack| stack.force_open("a").unwrap(), |stack| stack.release("a").unwrap()),
        (|stack| stack.drain("a").unwrap(), |stack| stack.undrain("a").unwrap()),
        (|stack| stack.pin_level(Some(2)), |stack| stack.pin_level(None)),
        (|stack| stack.pin_feature_level("chat", Some(2)), |stack| stack.pin_feature_level("chat", None)),
        (|stack| stack.drain("b").unwrap(), |stack| stack.undrain("b").unwrap()),
    ];
    for round in 0..20 {
        let (give, take_back) = orders[round % orders.len()];
        sleep(730 * MILLISECOND).await;
        assert!(give(&bench.operator), "round {round}");
        sleep(410 * MILLISECOND).await;
        assert!(take_back(&bench.operator), "round {round}");
    }
    assert_eq!(answered(clients).await, 20 * 40);
    let told = bench.told();
    assert_eq!(told.iter().filter(|event| event.starts_with("ana ")).count(), 40);
    assert!(!told.iter().any(|event| event.starts_with("all failed")), "{told:#?}");
    for (name, circuit) in bench.operator.circuits() {
        assert_eq!((circuit.in_flight(), circuit.forced()), (0, None), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_circuit_forced_open_sends_nothing_and_cuts_nothing() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    let stream = bench.ask(prompt().with_stream(true)).await.unwrap();
    assert_eq!(bench.operator.circuit("a").unwrap().in_flight(), 1);
    assert!(bench.operator.force_open("a").unwrap());
    assert!(!bench.operator.force_open("a").unwrap(), "it is open already");
    for _ in 0..3 {
        assert_eq!(bench.tier(prompt()).await, "b");
        sleep(60 * SECOND).await;
    }
    assert_eq!(bench.calls(), [1, 3], "no probe was sent");
    assert_eq!(stream.collect().await.unwrap().text(), "one two three four five");
    assert_eq!(bench.operator.circuit("a").unwrap().in_flight(), 0);
    let status = bench.status().await;
    let [a, b] = &status.tiers[..] else { panic!("{status:?}") };
    assert_eq!((a.circuit, a.forced, a.circuit_until.as_deref()), ("open", Some("open"), None));
    assert_eq!((b.circuit, b.forced), ("closed", None));
    assert_eq!(
        bench.told(),
        ["ana forced a open", "a: closed to open, by hand", "a gives way to b: circuit_open"],
        "an order is told once, and so is what comes of it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_circuit_forced_closed_stays_so_while_its_provider_is_sick() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    bench.providers[0].fail(Fault::ServerError);
    for _ in 0..2 {
        assert_eq!(bench.tier(prompt()).await, "b");
    }
    assert_eq!(bench.operator.circuit("a").unwrap().state(), CircuitState::Open);
    let until = bench.status().await.tiers[0].circuit_until.clone();
    assert!(until.is_some_and(|date| date.ends_with('Z')), "it says when it looks again");
    bench.told();

    assert!(bench.operator.force_close("a").unwrap());
    let before = bench.calls()[0];
    for _ in 0..10 {
        assert_eq!(bench.tier(prompt()).await, "b", "nothing is lost by it either");
    }
    assert!(bench.calls()[0] >= before + 10, "each asks the sick one");
    assert_eq!(
        (bench.status().await.tiers[0].circuit, bench.status().await.tiers[0].forced),
        ("closed", Some("closed"))
    );
    assert_eq!(bench.told(), ["ana forced a closed", "a: open to closed, by hand"]);

    // Back to its own judgement: it counts from nothing, and opens as it always does.
    assert!(bench.operator.release("a").unwrap());
    assert_eq!(bench.operator.circuit("a").unwrap().consecutive_failures(), 0);
    for _ in 0..5 {
        assert_eq!(bench.tier(prompt()).await, "b");
    }
    assert_eq!(bench.operator.circuit("a").unwrap().state(), CircuitState::Open);
    assert_eq!(bench.told(), ["ana released a", "a: closed to open, failures"]);
}

#[tokio::test(start_paused = true)]
async fn a_released_circuit_finds_out_with_one_probe_whether_its_provider_is_well() {
    for well in [true, false] {
        let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
        bench.operator.force_open("a").unwrap();
        if !well {
            bench.providers[0].fail(Fault::ServerError);
        }
        assert!(bench.operator.release("a").unwrap());
        assert!(!bench.operator.release("a").unwrap(), "it is not forced any more");
        assert_eq!(bench.operator.circuit("a").unwrap().state(), CircuitState::HalfOpen);
        let mut at_once = JoinSet::new();
        for _ in 0..10 {
            at_once.spawn(bench.llm.clone().oneshot(prompt()));
        }
        while let Some(answer) = at_once.join_next().await {
            answer.unwrap().expect("no request is lost");
        }
        assert_eq!(bench.calls()[0], 1, "one probe, not ten");
        let (state, reason) = if well { ("closed", "the probe succeeded") } else { ("open", "the probe failed") };
        assert_eq!(bench.operator.circuit("a").unwrap().state().name(), state);
        let told = bench.told();
        assert!(told.contains(&"ana released a".into()) && told.contains(&"a: open to half-open, by hand".into()));
        assert!(told.contains(&format!("a: half-open to {state}, {reason}")), "{told:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_nobody_forced_is_not_changed_by_a_release() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    bench.providers[0].fail(Fault::ServerError);
    for _ in 0..2 {
        bench.tier(prompt()).await;
    }
    bench.told();
    assert!(!bench.operator.release("a").unwrap());
    assert_eq!(bench.operator.circuit("a").unwrap().state(), CircuitState::Open);
    assert_eq!(bench.told(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_drained_tier_ends_what_it_has_begun_and_takes_no_more() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(bench.ask(prompt().with_stream(true)).await.unwrap());
    }
    // One more, of which there is not even a first token.
    let begun = tokio::spawn(bench.llm.clone().oneshot(prompt()));
    sleep(50 * MILLISECOND).await;
    assert_eq!(bench.operator.circuit("a").unwrap().in_flight(), 6);

    assert!(bench.operator.drain("a").unwrap());
    assert!(!bench.operator.drain("a").unwrap());
    let answer = bench.ask(prompt()).await.unwrap();
    assert_eq!(answer.served_by().tier, Some("b"));
    assert_eq!(steps(answer.attempts()), ["a: is drained by hand; not asked"]);
    assert_eq!(answer.attempts()[0].failure, Some(ErrorKind::OutOfService));
    assert_eq!(answer.served_by().attempts, 1, "it has cost none");
    for stream in streams {
        assert_eq!(stream.collect().await.unwrap().text(), "one two three four five");
    }
    assert_eq!(begun.await.unwrap().unwrap().served_by().tier, Some("a"));
    assert_eq!((bench.operator.circuit("a").unwrap().in_flight(), bench.calls()), (0, vec![6, 1]));

    let status = bench.status().await;
    assert!(status.tiers[0].drained && !status.tiers[1].drained);
    assert_eq!((status.state, status.active_tier.as_str()), (ServingState::Fallback, "b"), "everybody goes there");
    assert_eq!(bench.operator.drained(), [Arc::<str>::from("a")]);

    assert!(bench.operator.undrain("a").unwrap());
    assert_eq!(bench.tier(prompt()).await, "a");
    assert_eq!(
        bench.told(),
        ["ana drained a", "a gives way to b: out_of_service", "ana undrained a", "a is back after b"]
    );
    assert_eq!(bench.status().await.state, ServingState::Primary);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_over_passes_a_tier_that_was_drained_meanwhile() {
    let bench = Bench::new(&[("a", 1), ("b", 1), ("c", 1)]);
    bench.providers[0].fail(Fault::ServerError);
    let asking = tokio::spawn(bench.llm.clone().oneshot(prompt().explain()));
    sleep(50 * MILLISECOND).await;
    bench.operator.drain("b").unwrap();
    let answer = asking.await.unwrap().unwrap();
    assert_eq!(answer.served_by().tier, Some("c"));
    assert!(steps(answer.attempts()).contains(&"b: is drained by hand; not asked".into()), "{:?}", answer.attempts());
    assert_eq!(bench.calls()[1], 0);
}

#[tokio::test(start_paused = true)]
async fn where_every_tier_is_drained_requests_fail_at_once_and_say_so() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    for tier in ["a", "b"] {
        bench.operator.drain(tier).unwrap();
    }
    let begun = Instant::now();
    let error = bench.ask(prompt()).await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed()), (ErrorKind::OutOfService, Duration::ZERO));
    assert_eq!(error.message(), "no tier can carry it: a is drained by hand; b is drained by hand");
    assert_eq!(error.attempts().len(), 2);
    assert!(error.to_string().contains("undrain a tier"), "{error}");
    assert_eq!(bench.told(), ["ana drained a", "ana drained b", "all failed: out_of_service"]);
    assert_eq!(bench.status().await.state, ServingState::Unavailable);
    bench.operator.undrain("b").unwrap();
    assert_eq!(bench.tier(prompt()).await, "b");
    assert_eq!(bench.calls(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_last_resort_that_is_drained_is_none() {
    let mut file = config(&[("a", 1), ("b", 1)]);
    file.tiers[1].last_resort = true;
    let bench = Bench::of(file);
    bench.providers[0].fail(Fault::ServerError);
    bench.operator.force_open("b").unwrap();
    assert_eq!(bench.tier(prompt()).await, "b", "whatever its circuit says");
    bench.operator.drain("b").unwrap();
    assert!(bench.ask(prompt()).await.is_err());
    assert_eq!(bench.calls()[1], 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_a_probe_does_not_go_to_what_was_drained_meanwhile() {
    for (drained, expected) in [(&["b"][..], Ok("a")), (&["a", "b"], Err(ErrorKind::CircuitOpen))] {
        let mut file = config(&[("a", 1), ("b", 1)]);
        file.fallback.all_open = Some(AllOpen::Wait(Span(300 * SECOND)));
        file.timeout = Some(Span(300 * SECOND));
        let bench = Bench::of(file);
        bench.providers.iter().for_each(|provider| provider.fail(Fault::ServerError));
        for _ in 0..2 {
            assert!(bench.ask(prompt()).await.is_err());
        }
        // One call may go through, since nothing else is left.
        let waiting = tokio::spawn(bench.llm.clone().oneshot(prompt()));
        sleep(SECOND / 10).await;
        let calls = bench.calls();
        bench.providers.iter().for_each(SimulatedHandle::heal);
        for tier in drained {
            bench.operator.drain(tier).unwrap();
        }
        let answer = waiting.await.unwrap();
        let tier = answer.as_ref().map(|answer| answer.served_by().tier.unwrap()).map_err(LlmError::kind);
        assert_eq!(tier, expected);
        assert_eq!(bench.calls(), [calls[0] + u64::from(expected.is_ok()), calls[1]]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_feature_of_one_tier_fails_clearly_when_that_is_drained() {
    let mut file = config(&[("a", 1), ("b", 1)]);
    file.features.insert("code".into(), Feature { tiers: Some(vec!["a".into()]), ..Feature::default() });
    let bench = Bench::of(file);
    bench.operator.drain("a").unwrap();
    assert_eq!(bench.tier(prompt()).await, "b");
    let error = bench.ask(LlmRequest::prompt("?").with_feature("code")).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts().len()), (ErrorKind::OutOfService, 1));
}

#[tokio::test(start_paused = true)]
async fn a_drain_holds_in_a_cheaper_chain_too() {
    let mut file = config(&[("a", 1), ("b", 1)]);
    file.routes.push(Route { name: "all".into(), when: RouteWhen::default(), tiers: vec!["b".into()] });
    let bench = Bench::of(file);
    assert_eq!(bench.tier(prompt()).await, "b");
    bench.operator.drain("b").unwrap();
    assert_eq!(bench.tier(prompt()).await, "a");
    bench.operator.undrain("b").unwrap();
    bench.operator.drain("a").unwrap();
    assert_eq!(bench.tier(prompt()).await, "b");
}

#[tokio::test(start_paused = true)]
async fn a_pinned_level_is_for_all_but_those_with_a_pin_or_a_policy_of_their_own() {
    let mut file = config(&[("full", 1), ("small", 2), ("fixed", 5)]);
    file.features.insert("code".into(), Feature { worst_level: Some(1), ..Feature::default() });
    let mut bench = Bench::of(file);
    let of = |feature: &'static str| LlmRequest::prompt("?").with_feature(feature);
    assert!(bench.operator.pin_level(Some(2)) && !bench.operator.pin_level(Some(2)));
    assert!(bench.operator.pin_feature_level("chat", Some(1)));
    assert!(bench.operator.pin_feature_level("batch", Some(5)));
    for (feature, tier) in
        [("summary", "small"), ("code", "full"), ("chat", "full"), ("batch", "fixed"), ("summary", "small")]
    {
        assert_eq!(bench.tier(of(feature)).await, tier, "{feature}");
    }
    let answer = bench.ask(of("batch")).await.unwrap();
    assert_eq!(answer.degraded().unwrap().level, 5);
    assert_eq!(
        steps(answer.attempts()),
        [
            "full: is of level 1, and level 5 is pinned by hand; not asked",
            "small: is of level 2, and level 5 is pinned by hand; not asked",
        ]
    );
    let status = bench.status().await;
    assert_eq!((status.pinned_level, status.active_tier.as_str()), (Some(2), "small"));
    let features: Vec<_> =
        bench.operator.pinned_features().into_iter().map(|(name, level)| (name.to_string(), level)).collect();
    assert_eq!(features, [("batch".to_owned(), 5), ("chat".to_owned(), 1)]);

    assert!(bench.operator.pin_level(None));
    assert!(bench.operator.pin_feature_level("batch", None) && bench.operator.pin_feature_level("chat", None));
    assert!(!bench.operator.pin_feature_level("chat", None));
    assert_eq!(bench.tier(of("batch")).await, "full");
    assert_eq!(
        bench.told(),
        [
            "ana pinned all requests to level 2",
            "ana pinned chat to level 1",
            "ana pinned batch to level 5",
            "full gives way to small: out_of_service",
            "ana unpinned all requests",
            "ana unpinned batch",
            "ana unpinned chat",
            "full is back after small",
        ],
        "features that go their own way are no switch and no return"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pinned_level_leaves_a_cheaper_chain_out_that_is_above_it() {
    let mut file = config(&[("full", 1), ("cheap", 1), ("small", 2)]);
    file.routes.push(Route { name: "all".into(), when: RouteWhen::default(), tiers: vec!["cheap".into()] });
    let bench = Bench::of(file);
    assert_eq!(bench.tier(prompt()).await, "cheap");
    bench.operator.pin_level(Some(2));
    assert_eq!(bench.tier(prompt()).await, "small");
    bench.operator.pin_level(None);
    assert_eq!(bench.tier(prompt()).await, "cheap");
    assert_eq!(bench.calls(), [0, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_better_tier_serves_where_nothing_further_down_answers() {
    let bench = Bench::new(&[("full", 1), ("small", 3)]);
    bench.operator.pin_level(Some(3));
    bench.providers[1].fail(Fault::ServerError);
    assert_eq!(bench.tier(prompt()).await, "full");
    bench.providers[1].heal();
    assert_eq!(bench.tier(prompt()).await, "small");
    // A drained one does not.
    bench.operator.drain("full").unwrap();
    bench.providers[1].fail(Fault::ServerError);
    let before = bench.calls()[0];
    assert!(bench.ask(prompt()).await.is_err());
    assert_eq!(bench.calls()[0], before);
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_was_said_by_hand() {
    let tiers = [("a", 1), ("b", 1), ("c", 2), ("d", 2)];
    let mut bench = Bench::new(&tiers);
    bench.operator.drain("a").unwrap();
    bench.operator.drain("d").unwrap();
    bench.operator.force_open("b").unwrap();
    bench.operator.pin_level(Some(2));
    bench.operator.pin_feature_level("chat", Some(1));
    bench.told();

    // Another limit of time, and more attempts: no circuit is new for that.
    let mut next = config(&tiers);
    next.retry.max_attempts = Some(5);
    bench.operator.reload(next).unwrap();
    assert_eq!(bench.operator.drained(), [Arc::<str>::from("a"), Arc::<str>::from("d")]);
    assert_eq!(bench.operator.circuit("b").unwrap().forced(), Some(CircuitState::Open));
    assert_eq!(bench.tier(prompt()).await, "c", "a is drained, b is open");
    assert_eq!(bench.tier(LlmRequest::prompt("?")).await, "c");
    assert_eq!((bench.operator.pinned_level(), bench.operator.pinned_features().len()), (Some(2), 1));

    // Tiers that change: what is drained stays so, and a circuit that is new is nobody's.
    let mut next = config(&tiers[..3]);
    for tier in &mut next.tiers {
        tier.circuit_breaker = Some(CircuitBreaker { consecutive_failures: Some(9), ..CircuitBreaker::default() });
    }
    bench.operator.reload(next).unwrap();
    assert_eq!(bench.operator.drained(), [Arc::<str>::from("a")], "d is gone, and its drain with it");
    assert_eq!(bench.operator.circuit("b").unwrap().forced(), None);
    assert_eq!(bench.tier(prompt()).await, "b");
    let status = bench.status().await;
    let orders: Vec<_> = status.tiers.iter().map(|tier| (tier.drained, tier.circuit, tier.forced)).collect();
    assert_eq!(orders, [(true, "closed", None), (false, "closed", None), (false, "closed", None)]);
    bench.operator.reload(config(&tiers)).unwrap();
    assert_eq!(bench.operator.drained(), [Arc::<str>::from("a")]);
    let told = bench.told();
    assert!(!told.iter().any(|event| event.starts_with("ana ")), "a reload is no order: {told:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_no_tier_has_is_an_error_that_lists_them() {
    let mut bench = Bench::new(&[("a", 1), ("b", 1)]);
    let handle = &bench.operator;
    for refused in
        [handle.force_open("x"), handle.force_close("x"), handle.release("x"), handle.drain("x"), handle.undrain("x")]
    {
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("no tier is named `x`; there are a, b"), "{message}");
    }
    assert_eq!(bench.told(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_stack_made_by_hand_has_the_same_and_a_board_shows_it() {
    let events = Events::new();
    let board = StatusBoard::new("a").tiers(["b"]);
    let _subscription = events.follow(board.clone());
    let breaker = CircuitBreakerLayer::new("a").events(events.clone());
    let circuit = breaker.handle().acting_as("ana");
    let steer = FallbackHandle::new(events.clone());
    let fallback = FallbackLayer::new("a")
        .push(Place::new("b", Canned::text("in short")).level(3))
        .session(SessionPolicy::Pin)
        .events(events.clone())
        .steered_by(&steer);
    let mut heard = events.subscribe();
    let leaf = provider_fn(|_| async { Ok::<_, LlmError>(LlmResponse::from_text("at length")) });
    let llm = ServiceBuilder::new().layer(&fallback).layer(breaker).service(leaf);
    let tier = async |request: LlmRequest| {
        let answer = llm.clone().oneshot(request).await;
        answer.map(|answer| answer.served_by().tier.unwrap().to_owned()).map_err(|error| error.to_string())
    };
    assert_eq!(tier(prompt().with_session("mine")).await.unwrap(), "a");

    circuit.force_open();
    steer.acting_as("ana").pin_level(Some(3));
    fallback.handle().drain("a");
    advance(SECOND).await;
    tokio::task::yield_now().await;
    let status = board.snapshot();
    let a = &status.tiers[0];
    assert_eq!((a.circuit, a.forced, a.drained, status.pinned_level), ("open", Some("open"), true, Some(3)));
    assert_eq!(tier(prompt()).await.unwrap(), "b");
    let pinned = tier(prompt().with_session("mine")).await.unwrap_err();
    assert!(
        pinned.contains("the tier that the session is pinned to cannot carry it: a is drained by hand"),
        "{pinned}"
    );

    let mut told = Vec::new();
    while let Ok(event) = heard.try_recv() {
        match event {
            Event::Operated { operation, by, .. } => told.push((operation, by.as_deref().map(str::to_owned))),
            Event::CircuitChanged { reason, .. } => assert_eq!(reason, CircuitReason::Forced),
            Event::ModelSwitched { reason, .. } => assert_eq!(reason, ErrorKind::OutOfService),
            other => panic!("{other:?}"),
        }
    }
    let by = || Some("ana".to_owned());
    let forced = Operation::CircuitForced { circuit: "a".into(), to: CircuitState::Open };
    let pinned = Operation::LevelPinned { level: 3, feature: None };
    let drained = Operation::TierDrained { tier: "a".into() };
    assert_eq!(told, [(forced, by()), (pinned, by()), (drained, None)]);

    circuit.release();
    steer.undrain("a");
    steer.pin_level(None);
    assert_eq!(tier(prompt().with_session("mine")).await.unwrap(), "a");
    tokio::task::yield_now().await;
    let status = board.snapshot();
    let a = &status.tiers[0];
    assert_eq!((a.circuit, a.forced, a.drained, status.pinned_level), ("closed", None, false, None));
    drop(fallback.layer(Canned::text("")));
}
