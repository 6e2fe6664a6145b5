//! Callers with ordinary keys, who do what one caller could do to all: each act alone, and all of them for a while
//! beside honest callers.

mod acts;
mod alone;
mod figures;
mod soak;

use std::{
    ops::Deref,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use tokio::time::timeout;

use self::acts::Sent;
use super::{
    Client, Gateway, Provider,
    common::{Folder, http::Answer},
};

/// A gateway before a provider of both dialects, for callers with keys.
pub(super) struct World {
    pub(super) provider: Provider,
    pub(super) gateway: Gateway,
    _folder: Folder,
}

/// The feature whose first tier speaks OpenAI's dialect. That of all others speaks Anthropic's.
pub(super) const OPENAI: &str = "x-steadfast-feature: openai\r\n";

impl World {
    /// `keys`: names, each with its limits. `gateway`: what the file says under this name.
    pub(super) fn start(keys: &[(String, &str)], gateway: &str) -> Self {
        let provider = Provider::start();
        let folder = Folder::new("hostile");
        let entry = |(name, limits): &(String, &str)| {
            let hash: String = Sha256::digest(secret(name)).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("  - {{ name: {name}, hash: 'sha256:{hash}'{limits} }}\n")
        };
        let keys = folder.file("keys.yaml", &format!("keys:\n{}", keys.iter().map(entry).collect::<String>()));
        let config = config(&provider.address, gateway, &folder.path("tasks.db").display().to_string());
        let gateway = Gateway::start(&config, &["--keys", keys.to_str().unwrap()]);
        Self { provider, gateway, _folder: folder }
    }

    /// Returns the entries of a key with these limits, named `hostile`, and one without, named `honest`.
    pub(super) fn of_two(limits: &str, gateway: &str) -> Self {
        Self::start(&[("hostile".to_owned(), limits), ("honest".to_owned(), "")], gateway)
    }

    /// Asks it to stop, and waits until it has.
    pub(super) fn end(self) {
        self.gateway.end();
    }

    pub(super) fn metrics(&self) -> Metrics {
        Metrics(self.gateway.ask("GET /metrics", "connection: close\r\n", "").body)
    }

    /// The tier that serves an honest request of each dialect.
    pub(super) async fn serves_honest(&self) -> Vec<String> {
        let mut tiers = Vec::new();
        for sent in [acts::plain("/v1/messages", ""), acts::plain("/v1/chat/completions", OPENAI)] {
            let answer = exchange(self.gateway.address(), "honest", &sent).await;
            tiers.push(answer.header("x-steadfast-tier").map_or_else(|| format!("{answer:?}"), str::to_owned));
        }
        tiers
    }

    /// The circuits that have opened, each with its reason and how often.
    pub(super) fn opened(&self) -> Vec<(String, f64)> {
        self.metrics().of("steadfast_circuit_transitions_total", r#"state="open""#)
    }
}

impl Deref for World {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.gateway
    }
}

/// Returns the key of this name.
pub(super) fn secret(name: &str) -> String {
    format!("sk-of-the-caller-{name}")
}

/// Sends a request and reads the whole answer.
pub(super) async fn exchange(address: &str, name: &str, sent: &Sent) -> Answer {
    let mut client = Client::connect(address).await.expect("connected");
    client.send(sent.bytes(name)).await.expect("sent");
    client.answer().await.expect("an answer")
}

/// A page of metrics.
pub(super) struct Metrics(String);

impl Metrics {
    /// The series of this name whose labels hold this.
    pub(super) fn of(&self, name: &str, label: &str) -> Vec<(String, f64)> {
        let lines = self.0.lines().filter_map(|line| line.strip_prefix(name));
        let series = lines.filter_map(|line| line.rsplit_once(' '));
        series
            .filter(|(labels, _)| labels.contains(label))
            .map(|(labels, value)| (labels.to_owned(), value.parse().unwrap()))
            .filter(|(_, value)| *value > 0.0)
            .collect()
    }

    pub(super) fn sum(&self, name: &str, label: &str) -> f64 {
        self.of(name, label).iter().map(|(_, value)| value).sum()
    }
}

impl Gateway {
    /// The time of the processor that it has used.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        // A hundred in a second, on every Linux that there is.
        Duration::from_millis(ticks * 10)
    }
}

fn config(provider: &str, gateway: &str, tasks: &str) -> String {
    format!(
        "
tiers:
  - {{ name: sonnet, provider: anthropic, model: claude-sonnet-4-5, base_url: 'http://{provider}', api_key: '${{PROVIDER_KEY}}' }}
  - {{ name: gpt, provider: openai, model: gpt-4o, base_url: 'http://{provider}/v1', api_key: '${{PROVIDER_KEY}}' }}
  - {{ name: people, provider: handoff }}
default_feature: {{ tiers: [sonnet, gpt], concurrency: 1000 }}
features:
  openai: {{ tiers: [gpt, sonnet], concurrency: 1000 }}
  people: {{ tiers: [people], concurrency: 1000 }}
retry: {{ base: 50ms }}
circuit_breaker: {{ cooldown: 5s }}
idempotency: {{ ttl: 1m, grace: 2s }}
handoff: {{ limits: {{ bytes_per_caller: 5MiB, tasks_per_caller: 20 }} }}
stores: {{ durable: 'sqlite:{tasks}' }}
budgets: [{{ name: callers, usd: 1000, period: day, each_key: true }}]
gateway: {{ {gateway} }}
timeout: 60s
"
    )
}

/// Waits until the gateway lets nobody in any more; gives how long that took.
pub(super) async fn has_subscribers(address: &str) -> Duration {
    let begun = Instant::now();
    // A caller that connects in the moment in which the listener goes has no answer, and its system asks again after a
    // second.
    let refused = async || matches!(timeout(Duration::from_millis(100), Client::connect(address)).await, Ok(Err(_)));
    while !refused().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}
