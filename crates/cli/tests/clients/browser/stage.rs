//! The scripts' stage: the real binary before two providers that can fail.

use std::{fmt::Write as _, time::Duration};

use sha2::{Digest, Sha256};
use steadfast::providers::simulated::{Fault, Latency, Simulated, SimulatedHandle};
use steadfast_simulator::SimulatedServer;
use tokio::runtime::{Builder, Runtime};

use crate::common::{
    Folder,
    serve::{Serve, Served},
};

/// Callers show a key, as wherever others can reach the gateway, and so do those who operate it and who answer. The
/// status page and the badge have none.
const KEYS: [(&str, &str); 3] = [
    ("sk-of-a-caller", ", team: '<b>search</b>'"),
    ("sk-of-an-administrator", ", admin: true"),
    ("sk-of-a-reviewer", ", handoff: true"),
];

pub(crate) struct Stage {
    gateway: Served,
    providers: [(&'static str, SimulatedServer); 2],
    /// The providers are in it.
    _runtime: Runtime,
    _folder: Folder,
}

impl Stage {
    pub(crate) fn start() -> Self {
        Self::with(|_| String::new(), "")
    }

    /// With a ledger, and a cap of the callers' team.
    pub(crate) fn with_ledger() -> Self {
        let store = |folder: &Folder| {
            let [store, journal] = ["state.db", "journal"].map(|name| folder.path(name).display().to_string());
            format!("stores: {{ durable: 'sqlite:{store}' }}\nledger: {{ folder: '{journal}' }}\n")
        };
        Self::with(
            store,
            "  - { name: 'search, monthly', usd: 0.05, period: month, team: '<b>search</b>', at_cap: warn }\n",
        )
    }

    /// With people behind the models.
    pub(crate) fn with_people() -> Self {
        let people = |folder: &Folder| {
            let store = folder.path("tasks.db");
            format!("  - {{ name: people, provider: handoff }}\nstores: {{ durable: 'sqlite:{}' }}\n", store.display())
        };
        Self::with(people, "")
    }

    /// With more of a configuration, which begins with tiers, and more caps.
    fn with(more: impl FnOnce(&Folder) -> String, caps: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let provider = |name: &'static str, p50, p99| {
            let latency = Latency::percentiles(Duration::from_millis(p50), Duration::from_millis(p99));
            let provider = Simulated::new(name).latency(latency).pace(Duration::from_millis(1)).tokens(40..=80);
            (name, runtime.block_on(SimulatedServer::start(provider)).unwrap())
        };
        let providers = [provider("primary", 20, 60), provider("backup", 40, 120)];
        let folder = Folder::new("stage");
        let config = config(&providers[0].1.base_url(), &providers[1].1.base_url(), &more(&folder)) + caps;
        let gateway = Serve::with(&config).keys(&keys()).env("PROVIDER_KEY", "sk-of-the-provider").start();
        Self { gateway, providers, _runtime: runtime, _folder: folder }
    }

    /// Handles a script's order: `address`, `fail NAME`, `heal NAME`, `kill` and `start` the gateway.
    pub(crate) fn fulfil(&mut self, wish: &str) -> String {
        match wish.split_once(' ').unwrap_or((wish, "")) {
            ("address", _) => return self.gateway.address().to_owned(),
            ("fail", name) => self.provider(name).fail(Fault::Unavailable),
            ("heal", name) => self.provider(name).heal(),
            ("kill", _) => self.gateway.kill(),
            ("start", _) => self.gateway.start_again(),
            _ => panic!("a script asks for `{wish}`"),
        }
        "done".to_owned()
    }

    fn provider(&self, name: &str) -> SimulatedHandle {
        let provider = self.providers.iter().find(|(one, _)| *one == name);
        provider.expect("one of the two").1.handle()
    }
}

fn config(primary: &str, backup: &str, more: &str) -> String {
    format!(
        "
tiers:
  - name: sonnet
    provider: anthropic
    model: claude-sonnet-4-5
    base_url: {primary}
    api_key: ${{PROVIDER_KEY}}
    circuit_breaker: {{ consecutive_failures: 4, cooldown: 1s }}
    retry: {{ max_attempts: 1 }}
  - name: gpt
    provider: openai
    model: gpt-4o
    base_url: {backup}/v1
    api_key: ${{PROVIDER_KEY}}
    circuit_breaker: {{ consecutive_failures: 4, cooldown: 1s }}
    retry: {{ max_attempts: 1 }}
{more}features:
  chat: {{ concurrency: 20 }}
  summaries: {{ concurrency: 5 }}
budgets:
  - {{ name: all, usd: 100, period: day }}
"
    )
}

fn keys() -> String {
    KEYS.iter().fold(String::new(), |mut text, (key, may)| {
        let hash = Sha256::digest(key).iter().fold(String::new(), |mut hash, byte| {
            let _ = write!(hash, "{byte:02x}");
            hash
        });
        let _ = writeln!(text, "  - {{ name: {key}-name, hash: 'sha256:{hash}'{may} }}");
        text
    })
}
