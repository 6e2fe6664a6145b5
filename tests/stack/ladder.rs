//! The whole ladder, down and up again: full, reduced, basic, cached only, static. Each answer says of which level it
//! is and why, each switch is told once, and a feature falls no further than it accepts.

use std::time::Duration;

use steadfast::{
    BoxLlmService, BudgetLayer, CacheLayer, Chat, CircuitBreakerLayer, Degradation, ErrorKind, Event, Events,
    FallbackHandle, FallbackLayer, LlmError, LlmRequest, LlmResponse, ObserveLayer, RouteLayer,
    chat::Message,
    events::RequestEnded,
    layers::{
        budget::{AtCap, Cap, Period},
        circuit_breaker::Window,
        fallback::{AllOpen, FeaturePolicy, Tier, TierSettings},
        route::Rule,
    },
    prices::{Price, PriceTable, Usd},
    providers::{
        CachedAnswers, Canned,
        simulated::{Fault, FaultMix, Simulated, SimulatedHandle},
    },
};
use tokio::{
    sync::broadcast::Receiver,
    time::{Instant, advance},
};
use tower::{Layer, ServiceBuilder, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);
/// The time that a circuit is open.
const COOLDOWN: Duration = Duration::from_secs(60);
/// A question that was asked while all was well, and one that never was.
const KNOWN: &str = "How do I reset my password?";
const NEW: &str = "Which of my invoices is still open, and since when?";

/// The same ladder in a file.
const FILE: &str = "
tiers:
  - { name: full, provider: simulated }
  - { name: reduced, provider: simulated, level: 2 }
  - { name: basic, provider: simulated, level: 3 }
  - { name: kept, provider: cached }
  - { name: sorry, provider: canned, text: Please try again in a minute. }
cache: { ttl: 0s, stale_for: 1d }
features:
  code: { worst_level: 1 }
  review: { worst_level: 1, all_open: { queue: 1h } }
  summary: { worst_level: 3 }
retry: { max_attempts: 1 }
circuit_breaker: { consecutive_failures: 3, cooldown: 60s }
timeout: 1h
";

/// The stack of the ladder, and the states of its models.
struct Ladder {
    llm: BoxLlmService,
    heard: Receiver<Event>,
    operator: FallbackHandle,
    /// Of the levels 1, 2 and 3.
    models: [SimulatedHandle; 3],
}

/// An answer: its level, why, and the tier that serves.
type Said = (u8, &'static str, String);

fn said(response: &LlmResponse) -> Said {
    let (level, reason) =
        response.degraded().map_or((1, "full"), |Degradation { level, reason, .. }| (level, reason.name()));
    (level, reason, response.served_by().tier.unwrap().to_owned())
}

fn circuit(name: &'static str) -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(name).consecutive_failures(3).cooldown(COOLDOWN).cooldown_jitter(0.0)
}

impl Ladder {
    fn new() -> Self {
        let models =
            ["full", "reduced", "basic"].map(|name| Simulated::new(name).reply(name).latency(SECOND / 10).seed(7));
        let handles = models.each_ref().map(Simulated::handle);
        let [full, reduced, basic] = models;
        // Each answer is made anew while a model answers, and kept for an outage of up to a day.
        let cache = CacheLayer::new().ttl(Duration::from_nanos(1)).stale_for(SECOND * 86_400);
        let events = Events::new();
        let heard = events.subscribe();
        let review = FeaturePolicy::new().worst_level(1).all_open(AllOpen::Queue(SECOND * 3600));
        let fallback = FallbackLayer::new("full")
            .push(Tier::new("reduced", circuit("reduced").layer(reduced)).level(2))
            .push(Tier::new("basic", circuit("basic").layer(basic)).level(3))
            .push(Tier::new("kept", CachedAnswers::new(&cache)).level(4))
            .push(Tier::new("sorry", Canned::text("Please try again in a minute.")).level(5))
            .feature("code", FeaturePolicy::new().worst_level(1))
            .feature("review", review)
            .feature("summary", FeaturePolicy::new().worst_level(3))
            .events(events.clone());
        let operator = fallback.handle();
        let llm = ServiceBuilder::new()
            .layer(ObserveLayer::new(events))
            .layer(cache)
            .layer(fallback)
            .layer(circuit("full"))
            .service(full);
        Self { llm: BoxLlmService::new(llm), heard, operator, models: handles }
    }

    fn of_a_file() -> Self {
        use steadfast_stack::{Config, Format, Stack};

        let models =
            ["full", "reduced", "basic"].map(|name| Simulated::new(name).reply(name).latency(SECOND / 10).seed(7));
        let handles = models.each_ref().map(Simulated::handle);
        let builder = ["full", "reduced", "basic"].into_iter().zip(models);
        let builder = builder.fold(Stack::builder().seed(7), |builder, (name, model)| builder.leaf(name, model));
        let stack = builder.build(Config::from_str(FILE, Format::Yaml).unwrap()).unwrap();
        let handle = stack.handle();
        let (heard, operator) = (handle.events().subscribe(), handle.fallback());
        Self { llm: stack.service(), heard, operator, models: handles }
    }

    async fn ask(&self, text: &str, feature: &'static str) -> Result<Said, LlmError> {
        // So that nothing that was kept is fresh.
        advance(Duration::from_millis(1)).await;
        let response = self.llm.clone().oneshot(LlmRequest::prompt(text).with_feature(feature)).await?;
        let said = said(&response);
        response.collect().await.expect("a whole answer");
        Ok(said)
    }

    async fn chat(&self, text: &str) -> Said {
        self.ask(text, "chat").await.unwrap()
    }

    /// Takes the model of this level away, until its circuit is open.
    async fn goes(&self, level: usize) {
        self.models[level - 1].fail(Fault::ServerError);
        for _ in 0..3 {
            assert_eq!(self.chat(KNOWN).await.1, if level == 1 { "server" } else { "circuit_open" });
        }
    }

    /// Gives it back, and asks until its circuit has looked.
    async fn comes(&self, level: usize) -> Said {
        self.models[level - 1].heal();
        advance(COOLDOWN).await;
        self.chat(KNOWN).await;
        self.chat(KNOWN).await
    }

    /// The switches that were told since the last look, and of the last request what was told of its level.
    fn told(&mut self) -> (Vec<String>, Option<Degradation>) {
        let (mut switches, mut last) = (Vec::new(), None);
        // A feature that accepts less has a chain of its own.
        let of = |chain: &str| chain.strip_prefix("full").unwrap().to_owned();
        while let Ok(event) = self.heard.try_recv() {
            match event {
                Event::ModelSwitched { chain, from, to, .. } => switches.push(format!("{from} to {to}{}", of(&chain))),
                Event::ModelRecovered { chain, from, to, .. } => {
                    switches.push(format!("{to} is back after {from}{}", of(&chain)));
                }
                Event::Operated { operation, .. } => switches.push(operation.to_string()),
                Event::RequestEnded(RequestEnded { degraded, .. }) => last = degraded,
                _ => {}
            }
        }
        (switches, last)
    }

    fn switches(&mut self) -> Vec<String> {
        self.told().0
    }
}

fn is(level: u8, reason: &'static str, tier: &str) -> Said {
    (level, reason, tier.to_owned())
}

#[tokio::test(start_paused = true)]
async fn an_outage_walks_the_ladder_down_and_recovery_up_again() {
    walk(Ladder::new()).await;
}

#[tokio::test(start_paused = true)]
async fn the_ladder_of_a_file_is_walked_down_and_up_as_well() {
    walk(Ladder::of_a_file()).await;
}

/// Down, level by level, and up again.
async fn walk(mut ladder: Ladder) {
    assert_eq!(ladder.chat(KNOWN).await, is(1, "full", "full"));
    assert_eq!(ladder.told(), (vec![], None));

    // Reduced. Code accepts nothing less than full.
    ladder.goes(1).await;
    assert_eq!(ladder.chat(KNOWN).await, is(2, "circuit_open", "reduced"));
    let (switches, told) = ladder.told();
    assert_eq!(switches, ["full to reduced"], "once");
    assert_eq!(told.unwrap().to_string(), "2;reason=circuit_open", "what is told of a request is what its answer says");
    // It waits for the next look at the model, which is due within a second.
    let failed = ladder.ask(KNOWN, "code").await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Server);

    // Basic: as far as a summary goes.
    ladder.goes(2).await;
    assert_eq!(ladder.chat(KNOWN).await, is(3, "circuit_open", "basic"));
    assert_eq!(ladder.ask(KNOWN, "summary").await.unwrap(), is(3, "circuit_open", "basic"));
    assert_eq!(ladder.switches(), ["reduced to basic", "full to basic (feature summary)"]);

    // No model is left. What was asked before is answered as it was; what never was, by a fixed sentence.
    ladder.goes(3).await;
    assert_eq!(ladder.chat(KNOWN).await, is(4, "circuit_open", "kept"));
    assert_eq!(ladder.switches(), ["basic to kept"]);
    assert_eq!(ladder.ask(KNOWN, "summary").await.unwrap_err().kind(), ErrorKind::Server);
    // All that failed was one prompt, so that another is the next probe of each model.
    assert_eq!(ladder.chat(NEW).await, is(5, "server", "sorry"));
    assert_eq!(ladder.switches(), ["kept to sorry"]);
    assert_eq!(ladder.chat(NEW).await, is(5, "circuit_open", "sorry"));

    // A request that must be full is queued where it is not refused.
    let (waiting, asked) = (ladder.llm.clone().oneshot(LlmRequest::prompt(NEW).with_feature("review")), Instant::now());
    let mut waiting = tokio::spawn(waiting);
    assert!(tokio::time::timeout(SECOND * 30, &mut waiting).await.is_err(), "it waits");

    // And up again, one by one.
    // A kept answer and the sentence are both no news: no model has come back.
    assert_eq!(ladder.chat(KNOWN).await, is(4, "circuit_open", "kept"));
    assert_eq!(ladder.switches(), Vec::<String>::new());
    assert_eq!(ladder.comes(3).await, is(3, "circuit_open", "basic"));
    assert_eq!(ladder.switches(), ["sorry to basic"]);
    assert_eq!(ladder.comes(2).await, is(2, "circuit_open", "reduced"));
    assert_eq!(ladder.switches(), ["basic to reduced"]);
    assert!(!waiting.is_finished());
    assert_eq!(ladder.comes(1).await, is(1, "full", "full"));
    let back = ["full is back after reduced", "full is back after basic (feature summary)"];
    assert_eq!(ladder.told(), (back.map(str::to_owned).to_vec(), None), "once");
    let queued = waiting.await.unwrap().unwrap();
    assert_eq!(said(&queued), is(1, "full", "full"));
    assert!(asked.elapsed() > COOLDOWN * 2, "{:?}", asked.elapsed());
    assert_eq!(ladder.ask(KNOWN, "code").await.unwrap(), is(1, "full", "full"));
    assert_eq!(ladder.switches(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_operator_walks_the_ladder_while_all_is_well() {
    operate(Ladder::new()).await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_walks_the_ladder_of_a_file_as_well() {
    operate(Ladder::of_a_file()).await;
}

/// Down by hand, and up again.
async fn operate(mut ladder: Ladder) {
    ladder.chat(KNOWN).await;
    let steps = [(2, "full", "reduced"), (3, "reduced", "basic"), (4, "basic", "kept"), (5, "kept", "sorry")];
    for (level, from, tier) in steps {
        assert!(ladder.operator.pin_level(Some(level)));
        for _ in 0..3 {
            assert_eq!(ladder.chat(KNOWN).await, is(level, "pinned", tier));
        }
        assert_eq!(
            ladder.switches(),
            [format!("pinned all requests to level {level}"), format!("{from} to {tier}")],
            "once"
        );
        // A pin is no reason to give code less than it accepts.
        assert_eq!(ladder.ask(KNOWN, "code").await.unwrap(), is(1, "full", "full"));
        let summary = ladder.ask(KNOWN, "summary").await.unwrap();
        assert_eq!(summary, if level <= 3 { is(level, "pinned", tier) } else { is(1, "full", "full") });
        let of_summary = (level <= 3).then(|| format!("{from} to {tier} (feature summary)"));
        assert_eq!(ladder.switches(), Vec::from_iter(of_summary), "level {level}");
    }
    // A feature's own pin stands before it.
    ladder.operator.pin_feature_level("chat", Some(2));
    assert_eq!(ladder.chat(KNOWN).await, is(2, "pinned", "reduced"));
    ladder.operator.pin_feature_level("chat", None);
    for (level, from, tier) in [(4, "sorry", "kept"), (3, "kept", "basic"), (2, "basic", "reduced")] {
        ladder.switches();
        assert!(ladder.operator.pin_level(Some(level)));
        assert_eq!(ladder.chat(KNOWN).await, is(level, "pinned", tier));
        assert_eq!(ladder.switches(), [format!("pinned all requests to level {level}"), format!("{from} to {tier}")]);
    }
    // A failure below a pin is reported: no pin is why it is further down.
    ladder.models[1].fail(Fault::Overloaded);
    let below = ladder.chat(KNOWN).await;
    assert_eq!((below.0, below.2.as_str()), (3, "basic"));
    assert_eq!(below.1, "overloaded");
    ladder.models[1].heal();
    ladder.chat(KNOWN).await;
    ladder.switches();
    assert!(ladder.operator.pin_level(None));
    assert_eq!(ladder.chat(KNOWN).await, is(1, "full", "full"));
    let back = ["full is back after reduced", "full is back after basic (feature summary)"];
    assert_eq!(ladder.switches(), [["unpinned all requests"].as_slice(), &back].concat());
}

/// A tier's circuit that opens when a share of its calls fails is what steps a level down on its error rate: the
/// level's requests go to the next one, a probe shows when it is well, and only several of them in a row bring it back.
#[tokio::test(start_paused = true)]
async fn a_failure_rate_steps_down_and_comes_back_no_sooner_than_it_is_well() {
    let events = Events::new();
    let mut heard = events.subscribe();
    let large = Simulated::new("large").latency(SECOND / 10).seed(7);
    let handle = large.handle();
    let breaker = CircuitBreakerLayer::new("large")
        .consecutive_failures(1000)
        .failure_rate(0.25, Window::last_calls(40))
        .cooldown(COOLDOWN)
        .cooldown_jitter(0.0)
        .probe_successes(3);
    let llm = FallbackLayer::new("large")
        .push(Tier::new("small", Simulated::new("small").latency(SECOND / 10)).level(2))
        .events(events)
        .layer(breaker.layer(large));
    let level = async || said(&llm.clone().oneshot(LlmRequest::prompt("hello")).await.unwrap());
    for _ in 0..100 {
        assert_eq!(level().await, is(1, "full", "large"));
    }
    handle.fail(FaultMix::new().with(0.1, Fault::ServerError));
    for _ in 0..100 {
        level().await;
    }
    assert_ne!(level().await.1, "circuit_open", "a tenth is not too much");
    handle.fail(FaultMix::new().with(0.6, Fault::ServerError));
    for _ in 0..60 {
        level().await;
    }
    let calls = handle.stats().calls;
    for _ in 0..60 {
        assert_eq!(level().await, is(2, "circuit_open", "small"), "all of them");
    }
    assert_eq!(handle.stats().calls, calls, "it is left alone");
    // Still ill: it does not come back.
    handle.fail(Fault::ServerError);
    advance(COOLDOWN).await;
    assert_eq!(level().await, is(2, "server", "small"), "the probe");
    assert_eq!(level().await, is(2, "circuit_open", "small"));
    handle.heal();
    advance(COOLDOWN).await;
    for _ in 0..20 {
        assert_eq!(level().await, is(1, "full", "large"));
    }
    drop(llm);
    let recovered =
        std::iter::from_fn(|| heard.try_recv().ok()).filter(|event| matches!(event, Event::ModelRecovered { .. }));
    assert!(recovered.count() >= 1);
}

#[tokio::test(start_paused = true)]
async fn spending_steps_down_and_a_new_period_steps_up() {
    let price = |dollars| Price::dollars(dollars, dollars).unwrap();
    let prices = PriceTable::empty().with("large", price(1000.0)).with("small", price(1.0));
    let cap = Cap::new("day", Usd::from_nanos(50_000_000), Period::Day).at_cap(AtCap::StepDown(3));
    let model = |name: &'static str| Simulated::new(name).tokens(20..=20).models([name]);
    let llm = ServiceBuilder::new()
        .layer(BudgetLayer::new(prices).cap(cap))
        .layer(FallbackLayer::new("large").push(Tier::new("small", model("small")).level(3)))
        .service(model("large"));
    let ask = async || said(&llm.clone().oneshot(LlmRequest::prompt("hello").with_max_attempts(2)).await.unwrap());
    let mut levels = Vec::new();
    for _ in 0..20 {
        levels.push(ask().await);
    }
    assert_eq!(levels[0], is(1, "full", "large"));
    assert_eq!(levels[19], is(3, "stepped_down", "small"), "{levels:?}");
    advance(SECOND * 86_400).await;
    assert_eq!(ask().await, is(1, "full", "large"), "a new day");
}

/// Of a file: what one feature has spent steps that feature down a level, and no other.
#[tokio::test(start_paused = true)]
async fn a_features_spending_steps_that_feature_down() {
    use steadfast_internal::wall_clock::DrillDate;
    use steadfast_stack::{Config, Format, Stack};

    // A day that does not end meanwhile.
    let _date = DrillDate::begin(Duration::ZERO);
    let file = "
tiers:
  - { name: large, provider: simulated, model: large }
  - { name: small, provider: simulated, model: small, level: 2 }
  - { name: kept, provider: cached }
cache: {}
prices: { large: { input: 1000, output: 1000 }, small: { input: 1, output: 1 } }
budgets: [{ name: chat, usd: 0.2, period: day, feature: chat, at_cap: { step_down: 2 } }]
";
    let stack = Stack::from_config(Config::from_str(file, Format::Yaml).unwrap()).unwrap();
    let llm = stack.service();
    let asked = std::cell::Cell::new(0);
    let ask = async |feature| {
        asked.set(asked.get() + 1);
        let mut chat = Chat::new([Message::user(format!("question {}", asked.get()))]);
        chat.max_tokens = Some(20);
        said(&llm.clone().oneshot(LlmRequest::from(chat).with_feature(feature)).await.unwrap())
    };
    assert_eq!(ask("chat").await, is(1, "full", "large"));
    for _ in 0..20 {
        ask("chat").await;
    }
    let spent = stack.handle().spend()[0].spent;
    for _ in 0..5 {
        assert_eq!(ask("chat").await, is(2, "stepped_down", "small"), "{spent}");
        assert_eq!(ask("mail").await, is(1, "full", "large"));
    }
    // A question that was answered in full before costs nothing, and is answered at any spending.
    let mut chat = Chat::new([Message::user("question 1")]);
    chat.max_tokens = Some(20);
    let again = llm.clone().oneshot(LlmRequest::from(chat).with_feature("chat")).await.unwrap();
    assert!(again.cached().is_some() && again.degraded().is_none());
    advance(SECOND * 86_400).await;
    assert_eq!(ask("chat").await, is(1, "full", "large"), "a new day");
}

#[tokio::test(start_paused = true)]
async fn a_cheaper_chain_says_that_it_was_a_route() {
    let cheap = FallbackLayer::new("small").primary(TierSettings::new().level(2)).layer(Simulated::new("small"));
    let rule = Rule::new("short").feature("summary");
    let llm = RouteLayer::new().rule(rule, cheap).layer(FallbackLayer::new("large").layer(Simulated::new("large")));
    let ask =
        async |feature| said(&llm.clone().oneshot(LlmRequest::prompt("hello").with_feature(feature)).await.unwrap());
    assert_eq!(ask("summary").await, is(2, "route", "small"));
    assert_eq!(ask("chat").await, is(1, "full", "large"));
}
