//! The stack of a file does what the file says.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use steadfast::{
    BoxLlmService, ErrorKind, Event, LlmError, LlmRequest, LlmResponse,
    chat::{Chat, Image, Media, Message, Part, Role},
    events::{CircuitState, RequestEnded},
    layers::budget::BudgetKey,
    providers::simulated::{Fault, Simulated, SimulatedHandle},
};
use steadfast_simulator::InProcess;
use steadfast_stack::{
    AtCap, Budget, Config, Environment, Format, Hedge, HedgeSettings, Period, Share, Stack, StackBuilder,
};
use steadfast_subscribers::ServingState;
use tokio::{
    sync::broadcast::Receiver,
    time::{Instant, sleep_until},
};
use tower::{Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The shape that DESIGN fixes.
const MINIMAL: &str = "
listen: 127.0.0.1:8080
tiers:
  - name: sonnet
    provider: anthropic
    model: claude-sonnet-4-5
    api_key: ${ANTHROPIC_API_KEY}
    context_window: 200000
    timeout: 30s
    retry: { max_attempts: 3 }
    circuit_breaker: { consecutive_failures: 5, cooldown: 60s }
  - name: backup
    provider: openai
    base_url: http://127.0.0.1:9001/v1
    model: gpt-4o
features:
  chat: { concurrency: 20 }
  summary: { concurrency: 10 }
  background: { concurrency: 5, tiers: [backup] }
timeout: 90s
stream: { commit: first_token }
";

fn environment() -> Environment {
    ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"].map(|name| (name, "good-key")).into_iter().collect()
}

fn config(text: &str) -> Config {
    Config::from_str(text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
}

/// A simulated provider at each host, reached without a socket.
struct Hosts {
    providers: HashMap<&'static str, Simulated>,
}

impl Hosts {
    fn new(hosts: impl IntoIterator<Item = &'static str>) -> Self {
        let provider = |host| {
            let reply = format!("It rains at {host}.");
            (host, Simulated::new(host).reply(reply).latency(SECOND / 2).seed(11))
        };
        Self { providers: hosts.into_iter().map(provider).collect() }
    }

    fn handle(&self, host: &str) -> SimulatedHandle {
        self.providers[host].handle()
    }

    fn builder(&self) -> StackBuilder {
        let transports: HashMap<_, _> =
            self.providers.iter().map(|(host, provider)| (*host, InProcess::new(provider.clone()))).collect();
        let transport = service_fn(move |request: http::Request<Full<Bytes>>| {
            let host = request.uri().authority().expect("an absolute URL").as_str().to_owned();
            let mut transport = transports.get(&*host).cloned().unwrap_or_else(|| panic!("nobody is at {host}"));
            async move { transport.call(request).await }
        });
        Stack::builder().environment(environment()).transport(transport).seed(5)
    }
}

async fn ask(llm: &BoxLlmService, request: LlmRequest) -> Result<LlmResponse, LlmError> {
    llm.clone().oneshot(request).await
}

async fn tier_of(llm: &BoxLlmService, request: LlmRequest) -> String {
    let response = ask(llm, request).await.unwrap_or_else(|error| panic!("{error}"));
    response.served_by().tier.expect("a tier").to_owned()
}

fn prompt(feature: &str) -> LlmRequest {
    LlmRequest::prompt("How is the weather?").with_feature(feature)
}

const SONNET: &str = "api.anthropic.com";
const BACKUP: &str = "127.0.0.1:9001";

#[tokio::test(start_paused = true)]
async fn the_minimal_file_is_built_and_serves() {
    let hosts = Hosts::new([SONNET, BACKUP]);
    let stack = hosts.builder().build(config(MINIMAL)).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    for stream in [false, true] {
        let answer = ask(&llm, prompt("chat").with_stream(stream)).await.unwrap();
        let served = answer.served_by();
        assert_eq!(
            (served.tier, served.provider, served.model),
            (Some("sonnet"), Some("anthropic"), Some("claude-sonnet-4-5"))
        );
        assert_eq!(answer.text().await.unwrap(), "It rains at api.anthropic.com.");
    }
    assert_eq!(tier_of(&llm, prompt("background")).await, "backup");
    let limits: Vec<_> = handle.bulkhead().snapshot().iter().map(|load| load.limit).collect();
    assert_eq!(limits, [5, 20, 10, 20_000]);
    let tiers: Vec<_> = handle.tiers().iter().map(|tier| (tier.name.to_string(), tier.level)).collect();
    assert_eq!(tiers, [("sonnet".into(), 1), ("backup".into(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_hangs_is_answered_by_the_next_after_its_timeout() {
    let hosts = Hosts::new([SONNET, BACKUP]);
    let llm = hosts.builder().build(config(MINIMAL)).unwrap().service();
    hosts.handle(SONNET).fail(Fault::Hang);
    let begun = Instant::now();
    assert_eq!(tier_of(&llm, prompt("chat")).await, "backup");
    assert_eq!(begun.elapsed(), 30 * SECOND + SECOND / 2);
}

/// 2026-06-15 in small: the primary overloaded for two hours, one request each ten seconds.
#[tokio::test(start_paused = true)]
async fn an_incident_is_one_switch_and_one_recovery_and_nobody_notices() {
    let hosts = Hosts::new([SONNET, BACKUP]);
    let stack = hosts.builder().build(config(MINIMAL)).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    assert_eq!(handle.status().state, ServingState::Untried);
    let mut heard = handle.events().subscribe();
    let (begun, provider) = (Instant::now(), hosts.handle(SONNET));
    let mut switches = Vec::new();
    let mut slowest = Duration::ZERO;
    for number in 0..1440_u32 {
        match number {
            360 => provider.fail(Fault::Overloaded),
            1080 => provider.heal(),
            _ => {}
        }
        let asked = Instant::now();
        ask(&llm, prompt("chat").with_stream(number % 2 == 0)).await.unwrap().collect().await.unwrap();
        slowest = slowest.max(asked.elapsed());
        if number == 720 {
            assert_eq!(
                (handle.status().state, handle.circuit("sonnet").unwrap().state()),
                (ServingState::Fallback, CircuitState::Open)
            );
        }
        while let Ok(event) = heard.try_recv() {
            match event {
                Event::ModelSwitched { from, to, reason, .. } => switches.push(format!("{from} > {to}: {reason}")),
                Event::ModelRecovered { from, to, after, .. } => {
                    assert!((7200 - 70..7200 + 70).contains(&after.as_secs()), "{after:?}");
                    switches.push(format!("{from} > {to}"));
                }
                _ => {}
            }
        }
        sleep_until(begun + 10 * SECOND * (number + 1)).await;
    }
    assert_eq!(switches, ["sonnet > backup: overloaded", "backup > sonnet"]);
    assert!(slowest < 10 * SECOND, "{slowest:?}");
    // One probe a minute, and the first few before the circuit opened.
    let calls = provider.stats().failed;
    assert!(calls < 130, "{calls} calls to a provider that was down");
    assert_eq!(handle.status().state, ServingState::Primary);
    assert!(begun.elapsed() >= 4 * 60 * MINUTE);
}

#[tokio::test(start_paused = true)]
async fn a_complete_commit_rescues_a_stream_that_is_cut() {
    let hosts = Hosts::new([SONNET, BACKUP]);
    let text = MINIMAL.replace("first_token", "complete").replace("max_attempts: 3", "max_attempts: 1");
    let llm = hosts.builder().build(config(&text)).unwrap().service();
    hosts.handle(SONNET).fail(Fault::CutAfter(2));
    let answer = ask(&llm, prompt("chat").with_stream(true)).await.unwrap();
    assert_eq!(answer.served_by().tier, Some("backup"));
    assert_eq!(answer.text().await.unwrap(), "It rains at 127.0.0.1:9001.");
    // With the default it is the reader who hears of it.
    let llm = hosts.builder().build(config(MINIMAL)).unwrap().service();
    let answer = ask(&llm, prompt("chat").with_stream(true)).await.unwrap();
    assert_eq!(answer.text().await.unwrap_err().kind(), ErrorKind::StreamBroken);
}

#[tokio::test(start_paused = true)]
async fn a_stream_does_not_begin_anew_for_callers_who_cannot_be_told() {
    let text = MINIMAL.replace("commit: first_token", "on_break: restart");
    for (told, answered) in [(true, Some("It rains at 127.0.0.1:9001.")), (false, None)] {
        let hosts = Hosts::new([SONNET, BACKUP]);
        hosts.handle(SONNET).fail(Fault::CutAfter(2));
        let builder = if told { hosts.builder() } else { hosts.builder().without_restarts() };
        let llm = builder.build(config(&text)).unwrap().service();
        let answer = ask(&llm, prompt("chat").with_stream(true)).await.unwrap();
        assert_eq!(answer.text().await.ok().as_deref(), answered);
        assert_eq!(hosts.handle(BACKUP).stats().calls, u64::from(told), "nobody is asked in vain");
    }
}

#[tokio::test(start_paused = true)]
async fn policies_of_the_file_are_followed() {
    let hosts = Hosts::new([SONNET, BACKUP, "large.test"]);
    let text = "
tiers:
  - { name: sonnet, provider: anthropic, model: s, images: false, context_window: 100 }
  - { name: backup, provider: openai, model: b, base_url: 'http://127.0.0.1:9001/v1', level: 2 }
  - { name: large, provider: gemini, model: g, base_url: 'http://large.test', context_window: 1000000, level: 3 }
features:
  code: { worst_level: 1 }
  mine: { tiers: [large, sonnet] }
default_feature: { worst_level: 2 }
fallback:
  routes: { context_length: [large] }
  session: pin
stream: { on_break: restart }
";
    let stack = hosts.builder().build(config(text)).unwrap();
    let llm = stack.service();
    assert_eq!(tier_of(&llm, prompt("chat")).await, "sonnet");
    // Longer than the primary's window, in the route's words.
    let long = |feature: &str| LlmRequest::prompt("word ".repeat(2000)).with_feature(feature);
    assert_eq!(tier_of(&llm, long("mine").with_session("a")).await, "large");
    // A session stays where it was answered first.
    assert_eq!(tier_of(&llm, prompt("mine").with_session("a")).await, "large");
    hosts.handle(SONNET).fail(Fault::ServerError);
    assert_eq!(tier_of(&llm, prompt("chat")).await, "backup");
    assert!(ask(&llm, prompt("chat")).await.unwrap().degraded().is_some());
    let error = ask(&llm, prompt("code")).await.unwrap_err();
    assert!(
        error
            .attempts()
            .iter()
            .all(|attempt| attempt.tier.as_deref() == Some("sonnet") || attempt.message.as_str().contains("level"))
    );
    hosts.handle(BACKUP).fail(Fault::ServerError);
    assert!(ask(&llm, prompt("chat")).await.is_err(), "the third is worse than the unnamed accept");
    assert_eq!(tier_of(&llm, prompt("mine")).await, "large");
}

#[tokio::test(start_paused = true)]
async fn a_circuit_forced_open_and_a_pinned_level_are_followed() {
    let hosts = Hosts::new([SONNET, BACKUP]);
    let text = MINIMAL.replace("    model: gpt-4o\n", "    model: gpt-4o\n    level: 2\n");
    let stack = hosts.builder().build(config(&text)).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    handle.circuits()["sonnet"].force_open();
    assert_eq!(tier_of(&llm, prompt("chat")).await, "backup");
    handle.circuit("sonnet").unwrap().reset();
    assert_eq!(tier_of(&llm, prompt("chat")).await, "sonnet");
    handle.pin_level(Some(2));
    assert_eq!(tier_of(&llm, prompt("chat")).await, "backup");
    assert!(handle.circuit("nobody").is_none());
}

/// The next request that is told.
fn request_ended(events: &mut Receiver<Event>) -> RequestEnded {
    loop {
        if let Event::RequestEnded(ended) = events.try_recv().expect("a request has ended") {
            return ended;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn caps_prices_and_cheaper_chains_are_followed() {
    let hosts = Hosts::new([SONNET, BACKUP]);
    let text = format!(
        "{MINIMAL}
prices: {{ claude-sonnet-4-5: {{ input: 1000, output: 1000 }} }}
budgets:
  - {{ name: all, usd: 0.5, period: day, feature: chat }}
  - {{ name: mine, usd: 0, period: day, key: mine }}
  - {{ name: dear, usd: 100, period: month, tier: sonnet }}
routes:
  - {{ name: short, when: {{ features: [summary], max_input_tokens: 100 }}, tiers: [backup] }}
  - {{ name: closed, when: {{ features: [background] }}, tiers: [sonnet] }}
"
    );
    let stack = hosts.builder().build(config(&text)).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let mut events = handle.events().subscribe();
    let small = |feature: &str| {
        LlmRequest::from(Chat::new([Message::user("How is the weather?")]).max_tokens(20)).with_feature(feature)
    };

    let answer = ask(&llm, small("summary")).await.unwrap();
    assert_eq!((answer.served_by().tier, answer.route()), (Some("backup"), Some("short")));
    let (cost, without_route) = (answer.cost().unwrap(), answer.cost_without_route().unwrap());
    assert!(without_route > cost);
    let told = request_ended(&mut events);
    assert_eq!((told.cost, told.cost_without_route), (Some(cost), Some(without_route)));
    // A feature that names its tiers is served by no other.
    assert_eq!(tier_of(&llm, small("background")).await, "backup");

    let answer = ask(&llm, small("chat")).await.unwrap();
    let cost = answer.cost().expect("a price");
    assert!(cost.dollars() > 0.005, "{cost}, by the file's price");
    while events.len() > 1 {
        let _ = events.try_recv();
    }
    assert_eq!(request_ended(&mut events).cost, Some(cost));
    assert_eq!(
        (handle.budget("all").unwrap().spent("all"), handle.budget("dear").unwrap().spent("dear")),
        (cost, cost)
    );
    let mut refused = 0;
    for _ in 0..60 {
        refused += usize::from(ask(&llm, small("chat")).await.is_err_and(|error| error.kind() == ErrorKind::Budget));
    }
    assert!(refused > 0);
    let spent = handle.budget("all").unwrap().spent("all").dollars();
    assert!(spent >= 0.5 && spent < 0.5 + 2.0 * cost.dollars(), "{spent}");
    let error = ask(&llm, small("other").with_extension(BudgetKey::new("mine"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Budget);

    // The spent part of a cap stays spent over a reload, and a cap that is raised lets requests in.
    let raised = text.replace("usd: 0.5", "usd: 5");
    handle.reload(config(&raised)).unwrap();
    assert_eq!(handle.budget("all").unwrap().spent("all").dollars(), spent);
    assert!(ask(&llm, small("chat")).await.is_ok());
    assert_eq!(handle.spend().len(), 3);

    // A reload that is refused touches nothing of it; one that is not may take caps away and bring others.
    let refused = config(&raised.replace("usd: 5,", "usd: 0.2,"));
    let mut wrong = refused.clone();
    wrong.fallback.routes.insert("timeout".into(), vec!["nobody".into()]);
    assert!(handle.reload(wrong).is_err());
    assert!(ask(&llm, small("chat")).await.is_ok());
    handle.reload(refused).unwrap();
    assert_eq!(ask(&llm, small("chat")).await.unwrap_err().kind(), ErrorKind::Budget);
    handle.reload(config(MINIMAL)).unwrap();
    assert!(handle.spend().is_empty() && ask(&llm, small("chat")).await.is_ok());
    handle.reload(config(&raised)).unwrap();
    assert_eq!((handle.spend().len(), handle.budget("all").unwrap().spent("all").dollars()), (3, 0.0));

    // A tier's own cap: the next one serves.
    let closed = raised.replace("usd: 100", "usd: 0");
    handle.reload(config(&closed)).unwrap();
    assert_eq!(tier_of(&llm, small("chat")).await, "backup");
}

#[tokio::test(start_paused = true)]
async fn a_refused_reload_lets_no_cap_report_a_share_again() {
    let hosts = Hosts::new([SONNET, BACKUP]);
    let prices = "prices: { claude-sonnet-4-5: { input: 1000, output: 1000 } }";
    let cap = "budgets: [{ name: own, tier: sonnet, usd: 0.1, period: day, at_cap: warn, warn_at: [50%] }]";
    let text = format!("{MINIMAL}\n{prices}\n{cap}\n");
    let stack = hosts.builder().build(config(&text)).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let mut events = handle.events().subscribe();
    let mut reports = || {
        std::iter::from_fn(|| events.try_recv().ok())
            .filter(|event| matches!(event, Event::BudgetReached { .. }))
            .count()
    };
    let request = || LlmRequest::from(Chat::new([Message::user("How is the weather?")]).max_tokens(20));
    let mut reported = 0;
    while reported == 0 {
        ask(&llm, request()).await.unwrap();
        reported += reports();
    }
    // Under the raised cap no share would be used up.
    let mut wrong = config(&text.replace("usd: 0.1", "usd: 100"));
    wrong.hedge = Some(Hedge::On(HedgeSettings { extra: Some(Share(2.0)), ..HedgeSettings::default() }));
    assert!(handle.reload(wrong).is_err());
    ask(&llm, request()).await.unwrap();
    assert_eq!((reported, reports()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn caps_beside_the_configuration_count_and_stay_over_its_reloads() {
    let hosts = Hosts::new([SONNET, BACKUP]);
    let text = format!("{MINIMAL}\nprices: {{ claude-sonnet-4-5: {{ input: 1000, output: 1000 }} }}\n");
    let stack = hosts.builder().build(config(&text)).unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let small = |key: &str| {
        LlmRequest::from(Chat::new([Message::user("How is the weather?")]).max_tokens(20))
            .with_extension(BudgetKey::new(key))
    };
    let cap = |key: &str, usd: f64| Budget {
        name: format!("of {key}"),
        usd,
        period: Period::Day,
        feature: None,
        key: Some(key.to_owned()),
        team: None,
        each_key: false,
        among: None,
        tier: None,
        at_cap: AtCap::Refuse,
        warn_at: None,
    };
    let kind = async |key: &str| ask(&llm, small(key)).await.err().map(|error| error.kind());

    handle.set_budgets(vec![cap("one", 0.05)]).unwrap();
    while kind("one").await.is_none() {}
    assert_eq!((kind("one").await, kind("two").await), (Some(ErrorKind::Budget), None));
    let spent = handle.budget("of one").unwrap().spent("of one");
    // It goes on beside others, and when the configuration changes.
    handle.set_budgets(vec![cap("two", 5.0), cap("one", 0.05)]).unwrap();
    handle.reload(config(&format!("{text}retry: {{ max_attempts: 2 }}\n"))).unwrap();
    assert_eq!(handle.budget("of one").unwrap().spent("of one"), spent);
    assert_eq!((kind("one").await, kind("two").await), (Some(ErrorKind::Budget), None));
    assert!(handle.budget("of two").unwrap().spent("of two").dollars() > 0.0);
    assert!(handle.config().budgets.is_empty());

    // A budget that cannot be changes nothing.
    let to_nobody = Budget { at_cap: AtCap::StepDown(5), ..cap("two", 5.0) };
    for wrong in [vec![cap("one", f64::NAN)], vec![cap("one", 1.0), cap("one", 2.0)], vec![to_nobody]] {
        assert!(handle.set_budgets(wrong).is_err());
    }
    let named_alike = format!("{text}budgets: [{{ name: of one, usd: 1, period: day }}]\n");
    assert!(handle.reload(config(&named_alike)).is_err());
    assert_eq!((kind("one").await, handle.spend().len()), (Some(ErrorKind::Budget), 2));
    handle.set_budgets(Vec::new()).unwrap();
    assert_eq!((kind("one").await, handle.spend().len()), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_is_late_is_hedged_with_the_next_of_its_level_as_the_file_says() {
    let text = |hedge: &str, session: &str| {
        format!(
            "
tiers:
  - {{ name: sonnet, provider: anthropic, model: claude-sonnet-4-5, hedge: {hedge} }}
  - {{ name: small, provider: openai, model: gpt-4o-mini, level: 2 }}
  - {{ name: gpt, provider: openai, model: gpt-4o, images: false }}
  - {{ name: sorry, provider: canned, text: Sorry. }}
features:
  code: {{ tiers: [sonnet] }}
  pay: {{ hedge: false }}
fallback: {{ session: {session} }}
"
        )
    };
    let takes = |name: &str, seconds: u32| Simulated::new(name).latency(SECOND * seconds);
    let stack = Stack::builder()
        .leaf("sonnet", takes("sonnet", 20))
        .leaf("small", takes("small", 1))
        .leaf("gpt", takes("gpt", 1))
        .build(config(&text("{ after: 2s, extra: 100% }", "pin")))
        .unwrap();
    let (llm, handle) = (stack.service(), stack.handle());
    let served = async |request: LlmRequest| {
        let begun = Instant::now();
        let tier = tier_of(&llm, request).await;
        (tier, begun.elapsed().as_secs())
    };
    let (late, hedged) = (("sonnet".to_owned(), 20), ("gpt".to_owned(), 3));
    assert_eq!(served(prompt("chat")).await, hedged);
    assert_eq!(served(prompt("chat").with_stream(true)).await, hedged);
    // The feature has no other tier, or is not to be asked twice; a session stays; the other tier cannot read it, or
    // has been drained.
    assert_eq!(served(prompt("code")).await, late);
    assert_eq!(served(prompt("pay")).await, late);
    assert_eq!(served(prompt("chat").with_session("s")).await, late);
    assert_eq!(served(prompt("chat").no_fallback()).await, late);
    let picture = Image { media: Media::Url("https://example.com/a.png".into()) };
    let sees = Message::new(Role::User, vec![Part::Text("What is it?".into()), Part::Image(picture)]);
    assert_eq!(served(LlmRequest::from(Chat::new([sees]))).await, late);
    handle.fallback().drain("gpt");
    assert_eq!(served(prompt("chat")).await, late);
    handle.fallback().undrain("gpt");

    // A reload that leaves it as it is goes on with what was counted.
    let [(tier, counted)] = &handle.hedges()[..] else { panic!("{:?}", handle.hedges()) };
    assert_eq!((&**tier, counted.stats().sent, counted.stats().won), ("sonnet", 2, 2));
    handle.reload(config(&text("{ after: 2s, extra: 100% }", "free"))).unwrap();
    assert_eq!(handle.hedges()[0].1.stats(), counted.stats());
    assert_eq!(served(prompt("chat").with_session("s")).await, hedged);
    handle.reload(config(&text("off", "free"))).unwrap();
    assert!(handle.hedges().is_empty());
    assert_eq!(served(prompt("chat")).await, late);
}
