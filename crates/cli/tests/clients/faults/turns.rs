//! The sixteen faults before a client that is a program: a turn of its own for each request.

use futures_util::stream::{self, StreamExt};
use steadfast_simulator::SimulatedServer;

use crate::{
    common::serve::{Serve, Served},
    faults::{
        cases::{BESIDE, PACE, WINDOWS, canonical, pair, settings},
        scenarios::{SCENARIOS, Scenario},
    },
    upstream::Upstream,
};

/// The faults that are not the same in every protocol: a wait is in a header, in a body or in words; a stream breaks
/// between events of its own; the end mark is another, or none; a prompt that is too long, and one that a filter
/// refuses, have words of their own. Each is at a primary of the other three protocols too, of which every status,
/// silence and reset is as at one of the client's own.
const DIFFERING: [&str; 6] = ["S01", "S08", "S10", "S11", "S12", "S13"];

/// The words of each protocol's filter.
const FILTERED: [&str; 4] =
    ["flagged as potentially violating", "content filtering policy", "safety system", "prompt was blocked"];

/// A scenario at a primary and a fallback of these protocols.
pub(crate) struct FaultCase {
    /// The feature that reaches them.
    pub(crate) name: String,
    scenario: &'static Scenario,
    servers: [SimulatedServer; 2],
    upstreams: [Upstream; 2],
}

impl FaultCase {
    /// Starts the sixteen at a primary and a fallback that speak a client's own protocol, and those that differ also at
    /// a primary of each other protocol.
    pub(crate) async fn all(own: Upstream) -> Vec<Self> {
        let mut cases = Vec::new();
        for scenario in SCENARIOS {
            cases.push(Self::start(scenario, [own, own]).await);
            let others: Vec<Upstream> = Upstream::ALL.into_iter().filter(|other| *other != own).collect();
            for (at, first) in others.iter().enumerate().filter(|_| DIFFERING.contains(&scenario.id)) {
                // No provider of the client's own protocol is second: only it has all of its tools.
                let then = others[(at + 1) % others.len()];
                cases.push(Self::start(scenario, [*first, then]).await);
            }
        }
        cases
    }

    async fn start(scenario: &'static Scenario, upstreams: [Upstream; 2]) -> Self {
        let servers = pair(PACE).await;
        (scenario.act)(&servers[0].handle(), &servers[1].handle());
        Self { name: format!("{}-{}-{}", scenario.id, upstreams[0], upstreams[1]), scenario, servers, upstreams }
    }

    /// Starts a gateway to all of them.
    pub(crate) fn serve(cases: &[Self]) -> Served {
        let (mut tiers, mut features) = (String::new(), String::new());
        for Self { name, servers, upstreams, .. } in cases {
            for (at, end) in ["", "-fallback"].into_iter().enumerate() {
                let (upstream, settings) = (upstreams[at], settings(WINDOWS[at]));
                tiers.push_str(&upstream.tier(&format!("{name}{end}"), &servers[at], model(upstream), &settings));
            }
            let commit = "stream: { commit: complete }";
            features.push_str(&format!("  {name}: {{ tiers: [{name}, {name}-fallback], {commit} }}\n"));
        }
        let config = format!("tiers:\n{tiers}features:\n{features}{BESIDE}");
        Serve::with(&config).args(["--log", "error"]).start()
    }

    /// Takes the turns of all cases, a few at a time, and requires that each ends as its scenario says.
    ///
    /// `turn` is a client's: its last words, or all that it said if the turn failed.
    pub(crate) async fn judge<C, T>(cases: &[Self], client: impl Fn(&Self) -> C, turn: T)
    where
        T: AsyncFn(&C) -> Result<String, String>,
    {
        let run = async |case: &Self| {
            let client = client(case);
            let mut failures = Vec::new();
            for number in 0..case.scenario.requests.len() {
                let said = turn(&client).await;
                let passes = match &said {
                    Ok(said) => case.scenario.id != "S13" && *said == canonical(),
                    // A filter is no fault: the user reads the provider's own words.
                    Err(said) => case.scenario.id == "S13" && FILTERED.iter().any(|words| said.contains(words)),
                };
                println!("{} turn {number}: {}", case.name, if passes { "pass" } else { "FAIL" });
                if !passes {
                    let (name, fault) = (&case.name, case.scenario.fault);
                    failures.push(format!("{name} {fault}, turn {number}: {said:.1500?}"));
                }
            }
            failures
        };
        // Most of a turn is the start of a process, or a wait.
        let failures: Vec<Vec<String>> = stream::iter(cases).map(run).buffer_unordered(4).collect().await;
        let failures = failures.concat();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}

/// Returns a model that such a provider has.
fn model(upstream: Upstream) -> &'static str {
    match upstream {
        Upstream::Responses => "gpt-5.5",
        Upstream::Chat => "gpt-5.4",
        Upstream::Messages => "claude-sonnet-4-5",
        Upstream::Gemini => "gemini-2.5-flash",
    }
}
