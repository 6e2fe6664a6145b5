//! The ladder over real HTTP: the real binary before providers that go and come back, in both protocols.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use steadfast::providers::simulated::{Fault, Simulated, SimulatedHandle};
use steadfast_simulator::SimulatedServer;
use tokio::runtime::{Builder, Runtime};

use crate::common::{
    comes,
    http::{Answer, answer},
    key,
    serve::{Serve, Served},
    steadfast, within,
};

const MESSAGES: &str = "/v1/messages";
const CHAT: &str = "/v1/chat/completions";
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway with a tier of each level: three servers of both protocols, what was kept of their answers, and a fixed
/// sentence.
struct Ladder {
    gateway: Served,
    key: String,
    /// The tiers of the levels 1 to 3.
    servers: [SimulatedServer; 3],
    _runtime: Runtime,
}

impl Ladder {
    /// The cooldown of the circuits.
    fn start(cooldown: &str) -> Self {
        Self::with(cooldown, "")
    }

    /// With this beside the rest of its file.
    fn with(cooldown: &str, more: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let servers = ["full", "reduced", "basic"].map(|name| {
            let provider = Simulated::new(name).reply(name).latency(Duration::from_millis(1)).pace(Duration::ZERO);
            runtime.block_on(SimulatedServer::start(provider)).unwrap()
        });
        let (key, entry) = key("ana");
        let [full, reduced, basic] = servers.each_ref().map(SimulatedServer::base_url);
        let config = format!(
            "
tiers:
  - name: full
    provider: anthropic
    model: claude-sonnet-4-5
    base_url: '{full}'
    api_key: '${{PROVIDER_KEY}}'
  - name: reduced
    provider: openai
    model: gpt-4o
    base_url: '{reduced}/v1'
    api_key: '${{PROVIDER_KEY}}'
    level: 2
  - name: basic
    provider: anthropic
    model: claude-haiku-4-5
    base_url: '{basic}'
    api_key: '${{PROVIDER_KEY}}'
    level: 3
  - {{ name: kept, provider: cached }}
  - {{ name: sorry, provider: canned, text: sorry }}
cache: {{ ttl: 0s, stale_for: 1h }}
features:
  code: {{ worst_level: 1, all_open: {{ queue: 1m }} }}
  review: {{ worst_level: 1 }}
  summary: {{ worst_level: 3 }}
retry: {{ max_attempts: 1 }}
circuit_breaker: {{ consecutive_failures: 1, cooldown: {cooldown} }}
{more}
"
        );
        let gateway = Serve::with(&config)
            .keys(&format!("{entry}    admin: true\n"))
            .env("PROVIDER_KEY", "sk-of-the-provider")
            .start();
        Self { gateway, key, servers, _runtime: runtime }
    }

    fn model(&self, level: usize) -> SimulatedHandle {
        self.servers[level - 1].handle()
    }

    fn send(&self, path: &str, feature: &str, stream: bool, headers: &str) -> TcpStream {
        let messages = json!([{"role": "user", "content": "hello"}]);
        let body = json!({"model": "m", "max_tokens": 50, "stream": stream, "messages": messages}).to_string();
        let key = &self.key;
        let headers = format!(
            "connection: close\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             anthropic-version: 2023-06-01\r\nx-steadfast-feature: {feature}\r\n{headers}"
        );
        self.gateway.send(&format!("POST {path}"), &headers, &body)
    }

    fn ask(&self, path: &str, feature: &str, stream: bool) -> Answer {
        answer(self.send(path, feature, stream, ""))
    }

    /// Asks until this tier serves: a circuit looks again only after its cooldown.
    fn until(&self, path: &str, tier: &str) -> Answer {
        comes(PATIENCE, &format!("{tier} does not serve"), || {
            Some(self.ask(path, "chat", false)).filter(|answer| answer.header("x-steadfast-tier") == Some(tier))
        })
    }

    fn order(&self, words: &[&str]) {
        let environment = [("STEADFAST_URL", &*self.gateway.url()), ("STEADFAST_ADMIN_KEY", &*self.key)];
        let ran = steadfast(["admin"].into_iter().chain(words.iter().copied()), &environment);
        assert_eq!(ran.code, Some(0), "{words:?}: {}{}", ran.out, ran.err);
    }
}

/// It is of this level for one of these reasons: its header says so and, where it was put together by the gateway, so
/// does its JSON. A provider's own bytes are left alone.
fn assert_is(answer: &Answer, tier: &str, level: u8, reasons: &[&str], passed: bool) {
    let says = if tier == "kept" { "full" } else { tier };
    assert_eq!((answer.status, answer.text().as_str()), (200, says), "{answer:?}");
    let kept = if tier == "kept" { Some("stale") } else { Some("miss") };
    assert_eq!(answer.header("x-steadfast-cache"), kept, "{answer:?}");
    assert_eq!(answer.header("age").is_some(), tier == "kept", "{answer:?}");
    assert_eq!(answer.header("x-steadfast-tier"), Some(tier));
    let mark = &answer.json()["steadfast"]["degraded"];
    if level == 1 {
        assert_eq!((answer.header("x-steadfast-degraded"), mark), (None, &Value::Null));
        return;
    }
    let told = answer.header("x-steadfast-degraded").unwrap();
    let (is, reason) = told.split_once(";reason=").unwrap();
    assert!(is == level.to_string() && reasons.contains(&reason), "{told}, not {level} for {reasons:?}");
    match passed {
        true => assert_eq!(answer.json().get("steadfast"), None, "{}", answer.body),
        false => assert_eq!(*mark, json!({"level": level, "reason": reason})),
    }
}

/// The level, the tier, and whose protocol it speaks, if that is one of the callers'.
const STEPS: [(u8, &str, Option<&str>); 5] = [
    (1, "full", Some(MESSAGES)),
    (2, "reduced", Some(CHAT)),
    (3, "basic", Some(MESSAGES)),
    // The last answer of the full model: a stream, put together here for a caller who wants it whole.
    (4, "kept", None),
    (5, "sorry", None),
];
/// The statuses of a model that is down, before and after its circuit opens.
const DOWN: [&str; 2] = ["server", "circuit_open"];

/// Each step is served, in both protocols, whole and as a stream, and features fall no further than they accept.
fn serves(ladder: &Ladder, (level, tier, speaks): (u8, &str, Option<&str>), reasons: &[&str]) {
    for path in [MESSAGES, CHAT] {
        assert_is(&ladder.until(path, tier), tier, level, reasons, speaks == Some(path));
        let streamed = ladder.ask(path, "chat", true);
        assert_eq!(streamed.status, 200, "{streamed:?}");
        assert_eq!(streamed.header("x-steadfast-tier"), Some(tier));
        assert!(!streamed.body.contains("\"steadfast\""), "a stream has it in its head alone: {}", streamed.body);
        let told = streamed.header("x-steadfast-degraded");
        assert_eq!(told.map(|told| told.starts_with(&level.to_string())), (level > 1).then_some(true), "{told:?}");
    }
}

#[test]
fn an_outage_walks_the_ladder_down_and_recovery_up_again() {
    let ladder = Ladder::start("500ms");
    serves(&ladder, STEPS[0], &[]);
    for (level, step) in STEPS.into_iter().enumerate().skip(1) {
        match level {
            // There is no model to fail: nothing is kept any more.
            4 => ladder.order(&["forget"]),
            _ => ladder.model(level).fail(Fault::ServerError),
        }
        serves(&ladder, step, &DOWN);
        for path in [MESSAGES, CHAT] {
            let refused = ladder.ask(path, "review", false);
            assert!(matches!(refused.status, 500 | 502 | 503 | 529), "{refused:?}");
            let summary = ladder.ask(path, "summary", false);
            assert_eq!(summary.status == 200, level < 3, "level {level}: {summary:?}");
        }
    }
    for level in (2..=3).rev() {
        ladder.model(level).heal();
        serves(&ladder, STEPS[level - 1], &DOWN);
    }
    // A request that accepts nothing less is queued, and answered in full when there is full service.
    let before = ladder.model(1).stats().calls;
    let queued = [MESSAGES, CHAT].map(|path| ladder.send(path, "code", false, ""));
    within(PATIENCE, "none of them looks again", || ladder.model(1).stats().calls > before);
    ladder.model(1).heal();
    serves(&ladder, STEPS[0], &[]);
    for (queued, path) in queued.into_iter().zip([MESSAGES, CHAT]) {
        assert_is(&answer(queued), "full", 1, &[], path == MESSAGES);
    }
}

#[test]
fn a_quiet_gateway_is_green_again_after_an_outage_without_a_request() {
    let ladder = Ladder::with("1s", "fallback: { recovery_check: { every: 1s, active: true } }");
    let status = || ladder.gateway.ask("GET /status", "", "").json();
    ladder.model(1).fail(Fault::Overloaded);
    ladder.until(MESSAGES, "reduced");
    within(PATIENCE, "no fallback", || status()["state"] != "primary");
    let others = [2, 3].map(|level| ladder.model(level).stats().calls);
    ladder.model(1).heal();
    // Nobody asks anything from here on.
    within(PATIENCE, "it is not green", || {
        let status = status();
        let closed = status["tiers"].as_array().unwrap().iter().all(|tier| tier["circuit"] == "closed");
        closed && status["state"] == "primary" && status["timeOnFallback"]["currentSeconds"] == 0.0
    });
    assert_eq!([2, 3].map(|level| ladder.model(level).stats().calls), others);
    // And the model takes the small request for what it is: an answer of its own.
    assert_is(&ladder.ask(MESSAGES, "review", false), "full", 1, &[], true);
}

#[test]
fn an_operator_walks_the_ladder_with_pins() {
    let ladder = Ladder::start("500ms");
    for step in STEPS.iter().chain(STEPS.iter().rev()) {
        ladder.order(&["level", &step.0.to_string()]);
        serves(&ladder, *step, &["pinned"]);
        assert_is(&ladder.ask(MESSAGES, "review", false), "full", 1, &[], true);
    }
    ladder.order(&["level", "none"]);
    serves(&ladder, STEPS[0], &[]);
}

#[test]
fn a_queued_request_that_runs_out_of_time_gets_a_retry_after() {
    let ladder = Ladder::start("10s");
    ladder.model(1).fail(Fault::ServerError);
    ladder.until(MESSAGES, "reduced");
    for path in [MESSAGES, CHAT] {
        let begun = Instant::now();
        let refused = answer(ladder.send(path, "code", false, "x-steadfast-timeout-ms: 1500\r\n"));
        assert!(begun.elapsed() > Duration::from_millis(900), "it has waited: {:?}", begun.elapsed());
        // A single call may have gone through at the end, for nothing else is left: then its failure is the answer.
        if refused.status == 500 {
            continue;
        }
        assert!(matches!(refused.status, 503 | 529), "{refused:?}");
        let seconds: u64 = refused.header("retry-after").expect("the circuit says when").parse().unwrap();
        assert!((1..=11).contains(&seconds), "{seconds}");
    }
}
