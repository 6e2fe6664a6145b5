//! The cases, and the world that they run in: a primary and a fallback for each, behind one gateway.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;
use steadfast::providers::simulated::{Simulated, SimulatedHandle};
use steadfast_simulator::SimulatedServer;

use crate::{
    common::serve::{Serve, Served},
    faults::scenarios::{SCENARIOS, Scenario},
    upstream::Upstream,
};

/// The answer of every healthy provider: sixty words, one a token.
pub(crate) fn canonical() -> String {
    (1..=60).map(|n| format!("word-{n}")).collect::<Vec<_>>().join(" ")
}

/// Between two words.
pub(crate) const PACE: Duration = Duration::from_millis(1);
/// Between two words of an answer that takes longer than a caller is left without a sign of life.
const LONG_PACE: Duration = Duration::from_millis(200);

pub(crate) const PRIMARY: &str = "model-of-the-primary";
pub(crate) const FALLBACK: &str = "model-of-the-fallback";

/// The protocols of the providers behind a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    /// Both of the caller's own: what they say passes through.
    Same,
    /// The primary of another one, the fallback of the caller's own.
    Across,
    /// The primary of the caller's own, the fallback of another one. Such an answer is translated only after the
    /// fault, so that the callers of two protocols and the commit point `complete` are enough.
    Behind,
    /// Two deployments of one tier, of the caller's own: the fault is at the one that is asked first, and the other is
    /// the fallback's server.
    Deployments,
    /// No gateway: the client is at the primary itself, and nobody else is there to be asked.
    Alone,
}

impl Mix {
    /// True if the long answer is among its cases, which takes longer than all others: the signs of life are in the
    /// caller's dialect, whichever provider serves.
    fn has_held(self) -> bool {
        self == Self::Same
    }

    /// Returns the protocols of the primary and the fallback. Where there are several others, each scenario meets all
    /// of them, by another way of calling each.
    fn upstreams(self, caller: Caller, scenario: usize) -> [Upstream; 2] {
        let own = caller.protocol();
        let others: Vec<Upstream> = Upstream::ALL.into_iter().filter(|other| *other != own).collect();
        match self {
            Self::Same | Self::Deployments | Self::Alone => [own, own],
            Self::Across => [caller.other(), own],
            Self::Behind => [own, others[(scenario + caller as usize) % others.len()]],
        }
    }

    fn has(self, caller: Caller, commit: Commit) -> bool {
        let has_others = matches!(caller.protocol(), Upstream::Responses | Upstream::Gemini);
        match self {
            Self::Behind => has_others && commit != Commit::Default,
            // It has no settings.
            Self::Alone => commit == Commit::Default,
            Self::Same | Self::Across | Self::Deployments => true,
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "providers of the caller's dialect",
            Self::Across => "a primary of another dialect",
            Self::Behind => "a fallback of another dialect",
            Self::Deployments => "two deployments of one tier",
            Self::Alone => "the provider alone",
        })
    }
}

/// A way to call the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Caller {
    /// A stream of Messages.
    Messages,
    /// A stream of Chat Completions.
    Chat,
    /// A whole answer of Responses.
    Create,
    /// A stream of Responses, which the SDK puts together.
    Stream,
    /// A stream of Responses, event by event.
    Raw,
    /// A whole answer of Gemini's protocol.
    Generate,
    /// A stream of Gemini's protocol.
    Gemini,
    /// A stream of Gemini's protocol in the form of a JSON array, for which the SDKs do not ask.
    Array,
}

impl Caller {
    /// The ways of the SDKs.
    pub(crate) const ALL: [Self; 7] =
        [Self::Messages, Self::Chat, Self::Create, Self::Stream, Self::Raw, Self::Generate, Self::Gemini];

    pub(crate) fn protocol(self) -> Upstream {
        match self {
            Self::Messages => Upstream::Messages,
            Self::Chat => Upstream::Chat,
            Self::Create | Self::Stream | Self::Raw => Upstream::Responses,
            Self::Generate | Self::Gemini | Self::Array => Upstream::Gemini,
        }
    }

    /// Returns the protocol of a primary that does not speak the caller's.
    fn other(self) -> Upstream {
        match self {
            Self::Messages | Self::Raw | Self::Array => Upstream::Chat,
            Self::Chat | Self::Create | Self::Gemini => Upstream::Messages,
            Self::Generate => Upstream::Responses,
            Self::Stream => Upstream::Gemini,
        }
    }

    pub(crate) fn is_streamed(self) -> bool {
        !matches!(self, Self::Create | Self::Generate)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Chat => "chat",
            Self::Create => "create",
            Self::Stream => "stream",
            Self::Raw => "raw",
            Self::Generate => "generate",
            Self::Gemini => "gemini",
            Self::Array => "array",
        }
    }
}

/// The part of a stream that is held back, and the policy for one that breaks after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Commit {
    Complete,
    /// The file says nothing.
    Default,
    /// Nothing is held back, and another call goes on.
    Continue,
}

impl Commit {
    pub(crate) const ALL: [Self; 3] = [Self::Complete, Self::Default, Self::Continue];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Default => "default",
            Self::Continue => "continue",
        }
    }
}

/// The subject of a case; clients and features use its name.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) scenario: &'static Scenario,
    pub(crate) caller: Caller,
    pub(crate) commit: Commit,
}

impl Key {
    pub(crate) fn name(&self) -> String {
        format!("{}-{}-{}", self.scenario.id, self.caller.name(), self.commit.name())
    }
}

/// An instruction to a client.
#[derive(Serialize)]
pub(crate) struct Case {
    pub(crate) case: String,
    pub(crate) caller: Caller,
    pub(crate) requests: Vec<Request>,
    /// Between two requests, in milliseconds.
    pub(crate) gap_ms: u64,
}

#[derive(Serialize)]
pub(crate) struct Request {
    /// The server's address.
    pub(crate) address: String,
    /// The time for an answer, and for a silence in it, in seconds.
    pub(crate) limit: u64,
    pub(crate) feature: String,
    /// True if the conversation ends with a turn of the model's, for it to continue.
    pub(crate) prefill: bool,
}

/// A gateway with two providers for each case.
pub(crate) struct World {
    mix: Mix,
    callers: &'static [Caller],
    pub(crate) gateway: Served,
    pairs: BTreeMap<String, Pair>,
}

/// The primary and the fallback of a case.
struct Pair {
    upstreams: [Upstream; 2],
    servers: [SimulatedServer; 2],
    commit: Commit,
}

/// A case of its own: an answer that is held back for longer than a caller is left without a sign of life.
const HELD: &str = "held";

impl World {
    pub(crate) async fn start(mix: Mix, callers: &'static [Caller]) -> Self {
        let mut pairs = BTreeMap::new();
        for (key, upstreams) in keys(mix, callers) {
            let servers = pair(PACE).await;
            let [primary, fallback] = [servers[0].handle(), servers[1].handle()];
            (key.scenario.act)(&primary, &fallback);
            pairs.insert(key.name(), Pair { upstreams, servers, commit: key.commit });
        }
        for caller in callers {
            let pair_of = |servers| Pair { upstreams: mix.upstreams(*caller, 0), servers, commit: Commit::Complete };
            pairs.insert(alive(*caller), pair_of(pair(PACE).await));
            if mix.has_held() && caller.is_streamed() {
                pairs.insert(held(*caller), pair_of(pair(LONG_PACE).await));
            }
        }
        let gateway = Serve::with(&config(mix, &pairs)).args(["--log", "error"]).start();
        Self { mix, callers, gateway, pairs }
    }

    /// Iterates over the subjects of all cases.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        keys(self.mix, self.callers).map(|(key, _)| key)
    }

    /// Iterates over the callers that wait for a long answer, with the name of their case.
    pub(crate) fn held(&self) -> impl Iterator<Item = (Caller, String)> {
        let callers = self.callers.iter().copied().filter(|caller| self.mix.has_held() && caller.is_streamed());
        callers.map(|caller| (caller, held(caller)))
    }

    /// Returns a client's instructions for each case: its requests, and then a healthy one, which must be answered.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let request = |feature: String, prefill| match self.mix {
            // More than an answer takes on a busy machine, and not the minutes of the SDKs.
            Mix::Alone => {
                Request { address: self.pairs[&feature].servers[0].addr().to_string(), limit: 10, feature, prefill }
            }
            _ => Request { address: self.gateway.address().to_owned(), limit: 60, feature, prefill },
        };
        let case = |key: Key| {
            let own = key.scenario.requests.iter().map(|prefill| request(key.name(), *prefill));
            let requests = own.chain([request(alive(key.caller), false)]).collect();
            Case { case: key.name(), caller: key.caller, requests, gap_ms: key.scenario.gap_ms }
        };
        let long = self.held().map(|(caller, name)| {
            let requests = vec![request(name.clone(), false)];
            Case { case: name, caller, requests, gap_ms: 0 }
        });
        let mut cases: Vec<Case> = long.chain(self.keys().map(case)).collect();
        // The longest first.
        cases.sort_by_key(|case| std::cmp::Reverse((case.case.starts_with(HELD), case.requests.len())));
        cases
    }

    pub(crate) fn mix(&self) -> Mix {
        self.mix
    }

    /// Returns the protocol of a case's primary.
    pub(crate) fn primary_of(&self, case: &str) -> Upstream {
        self.pairs[case].upstreams[0]
    }

    /// Returns the primary and the fallback of a case.
    pub(crate) fn providers(&self, case: &str) -> [SimulatedHandle; 2] {
        let [primary, fallback] = &self.pairs[case].servers;
        [primary.handle(), fallback.handle()]
    }
}

/// Iterates over the subjects of a mix's cases, with the protocols of the primary and the fallback.
fn keys(mix: Mix, callers: &'static [Caller]) -> impl Iterator<Item = (Key, [Upstream; 2])> {
    SCENARIOS.iter().enumerate().flat_map(move |(number, scenario)| {
        let of = move |caller: &Caller| Commit::ALL.map(|commit| Key { scenario, caller: *caller, commit });
        let keys = callers.iter().flat_map(of).filter(move |key| mix.has(key.caller, key.commit));
        keys.map(move |key| (key, mix.upstreams(key.caller, number)))
    })
}

fn alive(caller: Caller) -> String {
    format!("alive-{}", caller.name())
}

fn held(caller: Caller) -> String {
    format!("{HELD}-{}", caller.name())
}

/// Starts a primary and a fallback, both healthy.
pub(crate) async fn pair(pace: Duration) -> [SimulatedServer; 2] {
    let provider = || SimulatedServer::start(Simulated::new("model").reply(canonical()).pace(pace));
    [provider().await.unwrap(), provider().await.unwrap()]
}

/// Returns the settings of a tier beyond its provider's.
///
/// Only what differs from the defaults is said: the limits of time, scaled down; the windows, without which nobody
/// knows where a prompt that is too long may go. And each tier has a retry budget to itself, since the cases, which run
/// side by side, must not use up each other's.
pub(crate) fn settings(window: u32) -> String {
    format!(
        ", context_window: {window}, prefill: true, retry: {{ budget: 10% }}, \
         timeout: {{ first_token: 4s, idle: 3s, progress: 3s }}"
    )
}

/// The windows of a primary and a fallback.
pub(crate) const WINDOWS: [u32; 2] = [128_000, 1_000_000];

/// The settings beside the tiers: the circuit's cooldown is scaled down with the limits of time.
pub(crate) const BESIDE: &str = "circuit_breaker: { cooldown: 2s }\n";

/// The deployments of a case's first tier. By its weight the one with the fault gets every request while it serves.
fn deployments(pair: &Pair) -> String {
    let [first, second] = &pair.servers;
    let first = pair.upstreams[0].deployment("first", first, PRIMARY, ", weight: 1000000");
    let second = pair.upstreams[1].deployment("second", second, FALLBACK, ", weight: 0.000001");
    format!(", deployments: [{first}, {second}]")
}

/// Two tiers and a feature for each case.
fn config(mix: Mix, pairs: &BTreeMap<String, Pair>) -> String {
    let (mut tiers, mut features) = (String::new(), String::new());
    for (name, pair) in pairs {
        for (at, end, model) in [(0, "", PRIMARY), (1, "-fallback", FALLBACK)] {
            let (upstream, server) = (pair.upstreams[at], &pair.servers[at]);
            let mut settings = settings(WINDOWS[at]);
            if mix == Mix::Deployments && at == 0 {
                settings.push_str(&deployments(pair));
            }
            tiers.push_str(&upstream.tier(&format!("{name}{end}"), server, model, &settings));
        }
        let commit = match pair.commit {
            Commit::Complete => ", stream: { commit: complete }",
            Commit::Default => "",
            Commit::Continue => ", stream: { on_break: continue }",
        };
        features.push_str(&format!("  {name}: {{ tiers: [{name}, {name}-fallback]{commit} }}\n"));
    }
    format!("tiers:\n{tiers}features:\n{features}{BESIDE}")
}
