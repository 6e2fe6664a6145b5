//! Each surface says of a chain what its callers get: the status, the metrics, the events.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use steadfast::{
    BoxLlmService, Chat, Event, LlmRequest,
    chat::Message,
    events::{CircuitState, Subscription},
    providers::simulated::{Fault, Simulated, SimulatedHandle},
};
use steadfast_stack::{Config, Environment, Format, Stack, StackHandle};
use steadfast_subscribers::{ChainStatus, ServingState, Status, metrics::Metrics};
use tokio::{
    sync::broadcast::Receiver,
    time::{Instant, advance, sleep},
};
use tower::{BoxError, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);
/// The walks through random outages.
const SEEDS: u64 = 8;

const FILE: &str = "
timeout: 60s
tiers:
  - { name: sonnet, provider: simulated, model: claude-sonnet-4-5 }
  - { name: gpt, provider: simulated, model: gpt-5.2 }
  - { name: gemini, provider: simulated, model: gemini-3-pro, level: 2 }
models:
  gpt-4*: { tiers: [gpt, gemini] }
features:
  code: { tiers: [gemini, sonnet] }
  brief: { tiers: [gpt, sonnet] }
  strict: { worst_level: 1 }
  usual: { tiers: [gpt, gemini] }
";

/// A way to a chain: its name, the feature and the model of its requests, the tier that they ask first, and the chain's
/// id. Several chains begin at each tier.
type Way = (&'static str, Option<&'static str>, Option<&'static str>, &'static str, &'static str);

const WAYS: [Way; 8] = [
    ("default", None, None, "sonnet", "sonnet"),
    ("a model's rule", None, Some("gpt-4o"), "gpt", "gpt"),
    ("a tier's model", None, Some("gpt-5.2"), "gpt", "gpt (others)"),
    ("a feature", Some("code"), None, "gemini", "gemini"),
    ("a tier's name", None, Some("gemini"), "gemini", "gemini (others)"),
    ("a feature of other tiers", Some("brief"), None, "gpt", "gpt (feature brief)"),
    ("a feature that accepts less", Some("strict"), None, "sonnet", "sonnet (feature strict)"),
    ("a feature of the same tiers as a model", Some("usual"), None, "gpt", "gpt"),
];
const TIERS: [&str; 3] = ["sonnet", "gpt", "gemini"];

struct World {
    handle: StackHandle,
    llm: BoxLlmService,
    models: BTreeMap<&'static str, SimulatedHandle>,
    page: PrometheusHandle,
    told: Receiver<Event>,
    _subscription: Subscription,
}

impl World {
    fn new(file: &str, seed: u64) -> Self {
        let models = TIERS.map(|name| (name, Simulated::new(name).latency(SECOND / 10)));
        let handles = models.iter().map(|(name, model)| (*name, model.handle())).collect();
        let builder =
            models.into_iter().fold(Stack::builder().seed(seed), |stack, (name, model)| stack.leaf(name, model));
        let stack = builder.build(Config::from_str(file, Format::Yaml).unwrap()).unwrap();
        let handle = stack.handle();
        let recorder = PrometheusBuilder::new().with_recommended_naming(true).build_recorder();
        let page = recorder.handle();
        let metrics = Metrics::with_recorder(recorder).stack(handle.clone());
        let told = handle.events().subscribe();
        let _subscription = handle.events().follow(metrics);
        // The first look starts the board.
        handle.status();
        Self { llm: stack.service(), handle, models: handles, page, told, _subscription }
    }

    fn request((_, feature, model, ..): Way) -> LlmRequest {
        let mut chat = Chat::new([Message::user("Why?")]);
        chat.model = model.map(Into::into);
        let request = LlmRequest::from(chat).with_id("req-1");
        match feature {
            Some(feature) => request.with_feature(feature),
            None => request,
        }
    }

    /// Returns the tier that answered; `None` for a failure.
    async fn ask(&self, request: LlmRequest) -> Option<String> {
        let tier = match self.llm.clone().oneshot(request).await {
            Ok(answer) => {
                let tier = answer.served_by().tier.map(str::to_owned);
                answer.collect().await.ok().and(tier)
            }
            Err(_) => None,
        };
        // The events have reached their subscribers.
        sleep(Duration::from_millis(1)).await;
        tier
    }

    fn status(&self) -> Status {
        self.handle.status()
    }

    fn chain(&self, id: &str) -> ChainStatus {
        self.status().chains.into_iter().find(|chain| chain.id == id).unwrap()
    }

    fn metric(&self, name: &str, labels: &str) -> f64 {
        Self::read(&self.page.render(), name, labels)
    }

    /// Returns the value of a series on a page of metrics.
    fn read(text: &str, name: &str, labels: &str) -> f64 {
        let series = format!("{name}{{{labels}}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0.0, |value| value.parse().unwrap())
    }

    fn told(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_before_the_first_request() {
    let world = World::new(FILE, 1);
    advance(SECOND * 3600).await;
    let status = world.status();
    assert_eq!(status.state, ServingState::Untried);
    let chains: Vec<_> = status.chains.iter().map(|chain| (chain.id.as_str(), chain.names.clone())).collect();
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        chains,
        [
            ("sonnet", names(&["default"])),
            ("gpt", names(&["model gpt-4*", "feature usual"])),
            ("gpt (feature brief)", names(&["feature brief"])),
            ("gemini", names(&["feature code"])),
            ("sonnet (feature strict)", names(&["feature strict"])),
        ]
    );
    assert!(status.chains.iter().all(|chain| chain.state == ServingState::Untried));
}

#[tokio::test(start_paused = true)]
async fn the_switch_of_every_chain_is_told_on_every_surface_with_its_cause() {
    for way in WAYS {
        let mut world = World::new(FILE, 2);
        let (name, _, _, first, id) = way;
        world.models[first].fail(Fault::Unavailable);
        for _ in 0..30 {
            let by = world.ask(World::request(way)).await;
            assert!(by.is_some_and(|by| by != first), "{name}");
            let (status, chain) = (world.status(), world.chain(id));
            assert!(matches!(status.state, ServingState::Fallback | ServingState::Degraded), "{name}");
            assert_eq!(status.state, chain.state, "{name}");
            assert_ne!(status.active_tier, first);
            assert_ne!(status.active_model, status.primary_model);
            assert_eq!(chain.active_tier, status.active_tier);
            assert_eq!(world.metric("steadfast_on_fallback", &format!("from=\"{id}\"")), 1.0, "{name}");
            assert_eq!((status.chain.as_str(), chain.first.as_str()), (id, first), "{name}");
            let others = status.chains.iter().filter(|chain| chain.id != id);
            assert!(
                others.into_iter().all(|chain| chain.state == ServingState::Untried),
                "{name}: {:?}",
                status.chains
            );
            advance(SECOND).await;
        }
        let status = world.status();
        let failed = status.tiers.iter().find(|tier| tier.name == first).unwrap().last_failure.clone().unwrap();
        assert_eq!(
            (failed.kind, failed.status, failed.request_id.as_deref()),
            ("overloaded", Some(503), Some("req-1"))
        );
        let [switch] = &status.recent_switches[..] else { panic!("{status:?}") };
        assert_eq!(
            (switch.chain.as_str(), switch.first.as_str(), switch.failure.as_ref().and_then(|failure| failure.status)),
            (id, first, Some(503))
        );
        assert!(status.time_on_fallback.current_seconds > 28.0, "{name}");
        let told = world.told();
        let switches = told.iter().filter_map(|event| match event {
            Event::ModelSwitched { chain, failure, .. } => Some((&**chain, failure.as_ref().and_then(|it| it.status))),
            _ => None,
        });
        assert_eq!(switches.collect::<Vec<_>>(), [(id, Some(503))], "{name}");
    }
}

/// Two chains with one first tier, whose next tier fails one of them only: each has its own state.
#[tokio::test(start_paused = true)]
async fn chains_with_one_first_tier_are_told_apart_on_every_surface() {
    let [rule, brief] = [WAYS[1], WAYS[5]];
    let mut world = World::new(FILE, 3);
    // The rule's chain has nothing left, and the feature's has sonnet.
    ["gpt", "gemini"].iter().for_each(|tier| world.models[tier].fail(Fault::Unavailable));
    for _ in 0..12 {
        assert_eq!(world.ask(World::request(rule)).await, None);
        assert_eq!(world.ask(World::request(brief)).await.as_deref(), Some("sonnet"));
        advance(SECOND).await;
    }
    let on = |world: &World, way: Way| world.metric("steadfast_on_fallback", &format!("from=\"{}\"", way.4));
    assert_eq!([world.chain(rule.4).failed, world.chain(brief.4).failed], [12, 0]);
    assert_eq!(world.chain(rule.4).state, ServingState::Unavailable);
    assert_eq!(
        (world.chain(brief.4).state, world.chain(brief.4).active_tier.as_str()),
        (ServingState::Fallback, "sonnet")
    );
    assert_eq!([on(&world, rule), on(&world, brief)], [0.0, 1.0]);
    assert_eq!(world.status().chain, rule.4, "the worst of both");
    world.models["gemini"].heal();
    advance(SECOND * 120).await;
    for _ in 0..3 {
        world.ask(World::request(rule)).await;
        world.ask(World::request(brief)).await;
        advance(SECOND).await;
    }
    let serves = |world: &World, way: Way| world.chain(way.4).active_tier;
    assert_eq!([serves(&world, rule), serves(&world, brief)], ["gemini", "sonnet"]);
    assert_eq!([on(&world, rule), on(&world, brief)], [1.0, 1.0]);
    world.models["gpt"].heal();
    advance(SECOND * 600).await;
    for _ in 0..30 {
        assert_eq!(world.ask(World::request(brief)).await.as_deref(), Some("gpt"));
        advance(SECOND * 60).await;
    }
    assert_eq!([on(&world, rule), on(&world, brief)], [0.0, 0.0], "an answer of their first tier counts for both");
    let told = world.told();
    let told = told.iter().filter_map(|event| match event {
        Event::ModelSwitched { chain, to, .. } => Some(format!("{chain}: {to}")),
        Event::ModelRecovered { chain, to, .. } => Some(format!("{chain}: {to} again")),
        _ => None,
    });
    let expected = ["gpt (feature brief): sonnet", "gpt: gemini", "gpt: gpt again", "gpt (feature brief): gpt again"];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

/// Bad input: three hundred tiers, a thousand features, and a reader that asks for the status without end. Half of the
/// tiers are down: each of their chains is told as what it is, on each surface.
#[tokio::test(start_paused = true)]
async fn of_three_hundred_tiers_and_a_thousand_features_each_chain_is_told() {
    const HALF: usize = 150;
    let mut file = String::from("timeout: 60s\ntiers:\n");
    for tier in 0..2 * HALF {
        file += &format!("  - {{ name: t{tier}, provider: simulated, model: model-{tier} }}\n");
    }
    file += "features:\n";
    for feature in 0..1_000 {
        let first = feature % HALF;
        file += &format!("  f{feature}: {{ tiers: [t{first}, t{}] }}\n", HALF + first);
    }
    let mut builder = Stack::builder().seed(3);
    for tier in 0..2 * HALF {
        let model = Simulated::new(format!("t{tier}")).latency(SECOND / 10);
        if tier < HALF {
            model.handle().fail(Fault::Unavailable);
        }
        builder = builder.leaf(format!("t{tier}").as_str(), model);
    }
    let stack = builder.build(Config::from_str(&file, Format::Yaml).unwrap()).unwrap();
    let (handle, llm) = (stack.handle(), stack.service());
    let recorder = PrometheusBuilder::new().with_recommended_naming(true).build_recorder();
    let page = recorder.handle();
    let _subscription = handle.events().follow(Metrics::with_recorder(recorder).stack(handle.clone()));
    handle.status();
    for feature in 0..1_000 {
        let request = LlmRequest::prompt("Why?").with_feature(format!("f{feature}"));
        let answer = llm.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.served_by().tier, Some(&*format!("t{}", HALF + feature % HALF)));
        if feature % 20 == 0 {
            handle.status();
        }
    }
    sleep(Duration::from_millis(1)).await;
    let (status, page) = (handle.status(), page.render());
    for tier in 0..HALF {
        let first = format!("t{tier}");
        let name = format!("feature f{tier}");
        let chain = status.chains.iter().find(|chain| chain.names.contains(&name)).unwrap_or_else(|| panic!("{name}"));
        let id = if tier == 0 { "t0 (feature f0)" } else { &*first };
        assert_eq!((chain.id.as_str(), &chain.first), (id, &first));
        assert_eq!(chain.active_tier, format!("t{}", HALF + tier));
        assert_eq!(chain.state, ServingState::Fallback, "{first}");
        assert!(page.contains(&format!("steadfast_on_fallback{{from=\"{id}\"}} 1")), "{id}");
    }
    // A list of names is cut with a sign.
    let json = serde_json::to_string(&status).unwrap();
    assert!(json.len() < 1 << 20, "{} bytes", json.len());
}

/// The answers to callers of a chain: by which tier, and when.
#[derive(Default)]
struct Got {
    last: VecDeque<(Option<String>, Instant)>,
}

impl Got {
    fn in_a_row(&self, is: impl Fn(&Option<String>) -> bool) -> usize {
        self.last.iter().rev().take_while(|(by, _)| is(by)).count()
    }
}

/// The events' account: the chains that another tier than their first serves, and when a probe last closed a circuit.
#[derive(Default)]
struct Told {
    away: BTreeSet<String>,
    closed: BTreeMap<String, Instant>,
}

/// Compares what the surfaces say with what the callers got.
fn compare(world: &World, all: &BTreeMap<&'static str, Got>, told: &Told, at: &str) {
    // Once for all chains: to make the page is most of this test's work.
    let (status, page) = (world.status(), world.page.render());
    let now = Instant::now();
    let lately = |got: &&Got| got.last.back().is_some_and(|(_, at)| now - *at < SECOND * 300);
    let mut unserved = true;
    for (id, got) in all.iter().filter(|(_, got)| !got.last.is_empty()) {
        let chain = status.chains.iter().find(|chain| chain.id == **id).unwrap();
        let first = &chain.first.as_str();
        let said = format!("{at}: {id}: {:?} by {}", chain.state, chain.active_tier);
        // The first tier's last answer, to whichever chain, or to a probe.
        let answers = all.values().flat_map(|got| &got.last).filter(|(by, _)| by.as_deref() == Some(first));
        let shown = answers.map(|(_, at)| *at).chain(told.closed.get(*first).copied()).max();
        let is_since = |at: Instant| shown.is_none_or(|shown| at > shown);
        let is_past = |by: &Option<String>| by.as_deref().is_some_and(|by| by != *first);
        let past = got.last.iter().rev().take_while(|(by, at)| is_past(by) && is_since(*at)).count();
        let is_back = got.last.back().is_some_and(|(_, last)| !is_since(*last));
        assert!(past < 3 || chain.state != ServingState::Primary, "false green, {said}");
        let failed = got.in_a_row(Option::is_none);
        let is_red = matches!(chain.state, ServingState::Failing | ServingState::Unavailable);
        // The tier that would serve has answered another chain's request since, or a probe.
        let works = failed > 0
            && (is_back
                || got.last.back().is_some_and(|(_, failed)| {
                    let answers = all.values().flat_map(|got| &got.last);
                    answers.clone().any(|(by, at)| by.as_ref() == Some(&chain.active_tier) && at >= failed)
                        || told.closed.get(&chain.active_tier).is_some_and(|closed| closed >= failed)
                }));
        assert!(failed == 0 || works || is_red, "{failed} failed, {said}");
        let answered = got.last.iter().rev().find(|(by, _)| by.is_some()).map(|(_, at)| *at);
        let is_out = failed > 0 && answered.is_none_or(|answered| now - answered >= SECOND * 10);
        assert!(works || (chain.state == ServingState::Unavailable) == is_out, "{said}");
        if lately(&got) {
            unserved &= chain.state == ServingState::Unavailable;
            // The whole is never better than a chain.
            assert!(
                past < 3 || is_back || status.state != ServingState::Primary,
                "{said}, but the whole is {:?}",
                status.state
            );
            assert!(!is_red || matches!(status.state, ServingState::Failing | ServingState::Unavailable), "{said}");
        }
        // Three of the last three by one tier, and not the first: that one serves.
        if let Some((Some(by), _)) = got.last.back()
            && by != first
            && past >= 3
            && got.in_a_row(|other| other.as_ref() == Some(by)) >= 3
        {
            assert_eq!(chain.active_tier, *by, "{said}");
        }
        let is_away = chain.active_tier != **first;
        let on = World::read(&page, "steadfast_on_fallback", &format!("from=\"{id}\""));
        assert_eq!(on == 1.0, is_away, "the metric is {on}, {said}");
        assert!(!told.away.contains(*id) || is_away, "reported as away, {said}");
        // All is well for half an hour and twenty answers: nothing says otherwise.
        let well = got.in_a_row(|by| by.as_deref() == Some(first));
        let since = got.last.get(got.last.len() - well).map(|(_, at)| *at);
        if well >= 30 && since.is_some_and(|since| now - since > SECOND * 1800) {
            // A chain that begins further down has such answers.
            assert!(matches!(chain.state, ServingState::Primary | ServingState::Degraded), "false yellow, {said}");
            assert_eq!(chain.active_tier, *first, "{said}");
        }
    }
    let asked = all.values().any(|got| lately(&got));
    assert!(!asked || (status.state == ServingState::Unavailable) == unserved, "{at}: the whole is {:?}", status.state);
}

#[tokio::test(start_paused = true)]
async fn no_surface_is_green_while_callers_get_something_else() {
    let faults = [Fault::Unavailable, Fault::ServerError, Fault::Refused, Fault::Unauthorized, Fault::Hang];
    let mut seen = BTreeMap::<&str, usize>::new();
    for seed in 0..SEEDS {
        let mut world = World::new(FILE, seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut got: BTreeMap<&str, Got> = WAYS.map(|way| (way.4, Got::default())).into();
        let mut told = Told::default();
        for step in 0..160 {
            if random.u8(0..12) == 0 {
                let model = &world.models[random.choice(TIERS).unwrap()];
                if random.bool() { model.heal() } else { model.fail(random.choice(faults.iter()).unwrap().clone()) }
            }
            let way = random.choice(WAYS).unwrap();
            let by = world.ask(World::request(way)).await;
            let outcomes = &mut got.get_mut(way.4).unwrap().last;
            outcomes.push_back((by, Instant::now()));
            for event in world.told() {
                match event {
                    Event::ModelSwitched { chain, .. } => _ = told.away.insert(chain.to_string()),
                    Event::ModelRecovered { chain, .. } => _ = told.away.remove(&*chain),
                    Event::CircuitChanged { circuit, to: CircuitState::Closed, at, .. } => {
                        told.closed.insert(circuit.to_string(), at);
                    }
                    _ => {}
                }
            }
            compare(&world, &got, &told, &format!("seed {seed}, step {step}, {}", way.0));
            let state = world.status().state;
            *seen
                .entry(match state {
                    ServingState::Primary => "primary",
                    ServingState::Fallback => "fallback",
                    ServingState::Degraded => "degraded",
                    ServingState::Failing => "failing",
                    ServingState::Unavailable => "unavailable",
                    _ => "other",
                })
                .or_default() += 1;
            advance(Duration::from_millis(random.u64(0..20_000))).await;
            compare(&world, &got, &told, &format!("seed {seed}, after step {step}"));
        }
    }
    for state in ["primary", "fallback", "failing", "unavailable"] {
        assert!(seen.get(state).is_some_and(|times| *times > 5), "{seen:?}");
    }
}

/// The file's limits, a tier's, and the caller's deadline; how the provider is; and whose failure it is.
#[derive(Debug)]
struct Case {
    file: &'static str,
    tier: &'static str,
    caller: Option<Duration>,
    answers_in: Option<Duration>,
    is_providers: bool,
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_deadline_is_nobodys_failure() {
    let mut cases = Vec::new();
    for file in ["4s", "60s"] {
        for tier in ["", ", timeout: 3s"] {
            for caller in [None, Some(60), Some(1200), Some(15_000), Some(120_000)] {
                for answers_in in [Some(2), None] {
                    let caller = caller.map(Duration::from_millis);
                    let answers_in = answers_in.map(Duration::from_secs);
                    // A provider that answers in two seconds fails nobody. One that is silent fails all but a caller
                    // who has left it no time that a healthy model might need, and less than the file and the tier
                    // leave.
                    let own = if tier.is_empty() { Duration::MAX } else { SECOND * 3 };
                    let total = if file == "4s" { SECOND * 4 } else { SECOND * 60 };
                    let is_impatient =
                        caller.is_some_and(|caller| caller < SECOND * 10 && caller < own && caller < total);
                    cases.push(Case {
                        file,
                        tier,
                        caller,
                        answers_in,
                        is_providers: answers_in.is_none() && !is_impatient,
                    });
                }
            }
        }
    }
    for case in cases {
        let mut world = World::new(
            &format!(
                "timeout: {}\nretry: {{ max_attempts: 1 }}\ntiers:\n  - {{ name: sonnet, provider: simulated{} }}\n",
                case.file, case.tier
            ),
            4,
        );
        match case.answers_in {
            Some(after) => world.models["sonnet"].latency(after),
            None => world.models["sonnet"].fail(Fault::Hang),
        }
        for _ in 0..3 {
            let request = LlmRequest::prompt("Why?");
            let request = case.caller.into_iter().fold(request, LlmRequest::with_timeout);
            world.ask(request).await;
        }
        let status = world.status();
        let is_red = matches!(status.state, ServingState::Failing | ServingState::Unavailable);
        assert_eq!(is_red, case.is_providers, "{case:?}: {:?}", status.state);
        let told = world.told();
        let all_failed = told.iter().any(|event| matches!(event, Event::AllTiersFailed { .. }));
        assert_eq!(all_failed, case.is_providers, "{case:?}");
        assert_eq!(status.tiers[0].failures > 0, case.is_providers, "{case:?}");
        let opened = told.iter().any(|event| matches!(event, Event::CircuitChanged { .. }));
        assert!(!opened || case.is_providers, "{case:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_who_all_wait_in_vain_are_seen_though_each_sets_its_own_limit() {
    let world = World::new(FILE, 5);
    world.ask(LlmRequest::prompt("Why?")).await;
    assert_eq!(world.status().state, ServingState::Primary);
    TIERS.iter().for_each(|tier| world.models[tier].fail(Fault::Hang));
    for _ in 0..5 {
        world.ask(LlmRequest::prompt("Why?").with_timeout(SECOND * 5)).await;
    }
    sleep(SECOND * 10).await;
    assert!(matches!(world.status().state, ServingState::Failing | ServingState::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn one_callers_short_deadlines_turn_nothing_while_others_are_answered() {
    let mut world = World::new(FILE, 6);
    TIERS.iter().for_each(|tier| world.models[tier].latency(SECOND * 2));
    for _ in 0..10 {
        assert!(world.ask(LlmRequest::prompt("Why?")).await.is_some());
    }
    for _ in 0..30 {
        world.ask(LlmRequest::prompt("Why?").with_timeout(Duration::from_millis(1200))).await;
        assert_eq!(world.status().state, ServingState::Primary);
    }
    assert!(world.told().iter().all(|event| matches!(event, Event::RequestEnded(_))));
}

/// Bad input: a provider whose words are of 10 MB, a page, or of another language. No surface shows more of them than a
/// line, and none of what they quote.
#[tokio::test(start_paused = true)]
async fn a_providers_words_of_any_kind_are_shown_in_a_line_or_not_at_all() {
    let long = |text: &str| text.repeat((10 << 20) / text.len());
    let bodies = [
        format!(r#"{{"error":{{"message":"{}","type":"server_error"}}}}"#, long("overloaded: you said 'my secret' ")),
        format!("<html><head><title>503</title></head><body>{}</body></html>", long("<p>my secret</p>")),
        format!(r#"{{"error":{{"message":"{}"}}}}"#, long("服务暂时不可用，请稍后再试 my secret ")),
        long("Сервер перегружен: my secret "),
    ];
    for body in bodies {
        let what: String = body.chars().take(40).collect();
        let body = Bytes::from(body);
        let provider = service_fn(move |_: Request<Full<Bytes>>| {
            let body = Full::new(body.clone());
            async move { Ok::<_, BoxError>(Response::builder().status(503).body(body).unwrap()) }
        });
        let file = "
tiers:
  - { name: gpt, provider: openai, model: gpt-5.2 }
  - { name: sorry, provider: canned, text: Later. }
retry: { max_attempts: 1 }
";
        let environment: Environment = [("OPENAI_API_KEY", "a-key")].into_iter().collect();
        let stack = Stack::builder().environment(environment).transport(provider).seed(3);
        let stack = stack.build(Config::from_str(file, Format::Yaml).unwrap()).unwrap();
        let handle = stack.handle();
        let mut told = handle.events().subscribe();
        handle.status();
        let answer = stack.service().oneshot(LlmRequest::prompt("my secret")).await.unwrap();
        assert_eq!(answer.served_by().tier, Some("sorry"), "{what}");
        sleep(Duration::from_millis(1)).await;
        let status = handle.status();
        assert_eq!(status.tiers[0].last_failure.as_ref().and_then(|failure| failure.status), Some(503), "{what}");
        let told: Vec<Event> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        assert!(told.iter().any(|event| matches!(event, Event::ModelSwitched { .. })), "{what}: {told:?}");
        for text in [serde_json::to_string(&status).unwrap(), format!("{told:?}")] {
            assert!(text.len() < 16 << 10 && !text.contains("my secret"), "{what}: {} bytes", text.len());
        }
    }
}
