//! The cases, and the world that they run in: a primary and a fallback for each, behind one gateway.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;
use steadfast::providers::simulated::{Simulated, SimulatedHandle};
use steadfast_simulator::SimulatedServer;

use crate::{
    common::serve::{Serve, Served},
    faults::scenarios::{SCENARIOS, Scenario},
};

/// The answer of every healthy provider: sixty words, one a token.
pub(crate) fn canonical() -> String {
    (1..=60).map(|n| format!("word-{n}")).collect::<Vec<_>>().join(" ")
}

/// Between two words.
const PACE: Duration = Duration::from_millis(1);
/// Between two words of an answer that takes longer than a caller is left without a sign of life.
const LONG_PACE: Duration = Duration::from_millis(200);

pub(crate) const PRIMARY: &str = "model-of-the-primary";
pub(crate) const FALLBACK: &str = "model-of-the-fallback";

/// The protocols of the providers behind a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    /// Both the caller's own: what they say passes through.
    Same,
    /// The primary the other one, the fallback the caller's own.
    Across,
}

impl Mix {
    /// True if the long answer is among its cases, which takes longer than all others: the signs of life are in the
    /// caller's dialect, whichever provider serves.
    pub(crate) fn has_held(self) -> bool {
        self == Self::Same
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "providers of the caller's dialect",
            Self::Across => "a primary of the other dialect",
        })
    }
}

/// The protocol that a caller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protocol {
    Messages,
    Chat,
}

impl Protocol {
    pub(crate) const BOTH: [Self; 2] = [Self::Messages, Self::Chat];

    /// The protocol that the primary speaks to such a caller.
    pub(crate) fn of_primary(self, mix: Mix) -> Self {
        match (self, mix) {
            (own, Mix::Same) => own,
            (Self::Messages, Mix::Across) => Self::Chat,
            (Self::Chat, Mix::Across) => Self::Messages,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Chat => "chat",
        }
    }
}

/// The commit point of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Commit {
    Complete,
    /// The file says nothing.
    Default,
}

/// The subject of a case; clients and features use its name.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) scenario: &'static Scenario,
    pub(crate) protocol: Protocol,
    pub(crate) commit: Commit,
}

impl Key {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let of = |scenario| {
            Protocol::BOTH.into_iter().flat_map(move |protocol| {
                [Commit::Complete, Commit::Default].map(|commit| Self { scenario, protocol, commit })
            })
        };
        SCENARIOS.iter().flat_map(of)
    }

    pub(crate) fn name(&self) -> String {
        let commit = match self.commit {
            Commit::Complete => "complete",
            Commit::Default => "default",
        };
        format!("{}-{}-{commit}", self.scenario.id, self.protocol.name())
    }
}

/// An instruction to a client.
#[derive(Serialize)]
pub(crate) struct Case {
    pub(crate) case: String,
    pub(crate) protocol: Protocol,
    pub(crate) requests: Vec<Request>,
    /// Between two requests, in milliseconds.
    pub(crate) gap_ms: u64,
}

#[derive(Serialize)]
pub(crate) struct Request {
    pub(crate) feature: String,
    /// True if the conversation ends with a turn of the model's, for it to continue.
    pub(crate) prefill: bool,
}

/// A gateway with two providers for each case.
pub(crate) struct World {
    pub(crate) mix: Mix,
    pub(crate) gateway: Served,
    providers: BTreeMap<String, [SimulatedServer; 2]>,
}

/// A case of its own: an answer that is held back for longer than a caller is left without a sign of life.
pub(crate) const HELD: &str = "held";

impl World {
    pub(crate) async fn start(mix: Mix) -> Self {
        let mut providers = BTreeMap::new();
        for key in Key::all() {
            let pair = pair(PACE).await;
            let [primary, fallback] = [pair[0].handle(), pair[1].handle()];
            (key.scenario.act)(&primary, &fallback);
            providers.insert(key.name(), pair);
        }
        for protocol in Protocol::BOTH {
            providers.insert(alive(protocol), pair(PACE).await);
            if mix.has_held() {
                providers.insert(held(protocol), pair(LONG_PACE).await);
            }
        }
        let gateway = Serve::with(&config(mix, &providers)).args(["--log", "error"]).start();
        Self { mix, gateway, providers }
    }

    /// Returns a client's instructions for each case: its requests, and then a healthy one, which must be answered.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let request = |feature: String, prefill| Request { feature, prefill };
        let case = |key: Key| {
            let own = key.scenario.requests.iter().map(|prefill| request(key.name(), *prefill));
            let requests = own.chain([request(alive(key.protocol), false)]).collect();
            Case { case: key.name(), protocol: key.protocol, requests, gap_ms: key.scenario.gap_ms }
        };
        let long = Protocol::BOTH.map(|protocol| Case {
            case: held(protocol),
            protocol,
            requests: vec![request(held(protocol), false)],
            gap_ms: 0,
        });
        let long = long.into_iter().filter(|_| self.mix.has_held());
        let mut cases: Vec<Case> = long.chain(Key::all().map(case)).collect();
        // The longest first.
        cases.sort_by_key(|case| std::cmp::Reverse((case.case.starts_with(HELD), case.requests.len())));
        cases
    }

    /// The primary and the fallback of a case.
    pub(crate) fn providers(&self, case: &str) -> [SimulatedHandle; 2] {
        let [primary, fallback] = &self.providers[case];
        [primary.handle(), fallback.handle()]
    }
}

fn alive(protocol: Protocol) -> String {
    format!("alive-{}", protocol.name())
}

pub(crate) fn held(protocol: Protocol) -> String {
    format!("{HELD}-{}", protocol.name())
}

async fn pair(pace: Duration) -> [SimulatedServer; 2] {
    let provider = || SimulatedServer::start(Simulated::new("model").reply(canonical()).pace(pace));
    [provider().await.unwrap(), provider().await.unwrap()]
}

/// Two tiers and a feature for each case.
///
/// Only what differs from the defaults is said: the limits of time, scaled down; the circuit's cooldown with them; the
/// windows, without which nobody knows where a prompt that is too long may go. And each tier has a retry budget to
/// itself, since the cases, which run side by side, must not use up each other's.
fn config(mix: Mix, providers: &BTreeMap<String, [SimulatedServer; 2]>) -> String {
    let (mut tiers, mut features) = (String::new(), String::new());
    for (name, [primary, fallback]) in providers {
        let protocol = Protocol::BOTH.into_iter().find(|protocol| name.contains(protocol.name())).unwrap();
        let mut tier = |end: &str, protocol: Protocol, server: &SimulatedServer, model: &str, window: u32| {
            let url = server.base_url();
            let provider = match protocol {
                Protocol::Messages => format!("provider: anthropic, base_url: '{url}'"),
                Protocol::Chat => format!("provider: openai, base_url: '{url}/v1'"),
            };
            tiers.push_str(&format!(
                "  - {{ name: {name}{end}, {provider}, model: {model}, context_window: {window}, retry: {{ budget: 10% }}, \
                 timeout: {{ first_token: 4s, idle: 3s, progress: 3s }} }}\n"
            ));
        };
        tier("", protocol.of_primary(mix), primary, PRIMARY, 128_000);
        tier("-fallback", protocol, fallback, FALLBACK, 1_000_000);
        let commit =
            if name.ends_with("default") { String::new() } else { ", stream: { commit: complete }".to_owned() };
        features.push_str(&format!("  {name}: {{ tiers: [{name}, {name}-fallback]{commit} }}\n"));
    }
    format!("tiers:\n{tiers}features:\n{features}circuit_breaker: {{ cooldown: 2s }}\n")
}
