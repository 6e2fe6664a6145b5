//! The official SDKs against the real binary. What each provider does is chosen by the feature that a request names:
//! every feature has a tier of its own, with a simulated provider behind it over real HTTP.
//!
//! The [`clients`] that are made of them (LangChain, LiteLLM, the AI SDK and others) come to a gateway without a file,
//! and to one whose first choice is down.

mod clients;
mod clouds;
mod conversations;
mod gemini;
mod lane;
mod prices;
mod responses;
mod schemas;

use std::{collections::BTreeMap, process::Command, time::Duration};

use serde_json::json;
use steadfast::providers::simulated::{Fault, Simulated, SimulatedHandle};
use steadfast_simulator::SimulatedServer;

use crate::common::{sdk, serve::Serve};

type Servers = BTreeMap<&'static str, SimulatedServer>;

/// The providers, by the name of the feature that reaches them.
fn providers() -> Vec<(&'static str, Simulated)> {
    let model = |name| Simulated::new(name).reply("Hello from afar, and all is well");
    let failing = |name, fault: Fault| (name, model(name).fault_mix(fault));
    let seconds = Duration::from_secs;
    vec![
        ("healthy", model("healthy")),
        ("tools", model("tools").call_tools(json!({"city": "Paris", "days": 3}))),
        ("slow", model("slow").pace(Duration::from_millis(500)).tokens(50..=50)),
        failing("overloaded", Fault::Overloaded),
        failing("server_error", Fault::ServerError),
        failing("bad_request", Fault::BadRequest),
        failing("unauthorized", Fault::Unauthorized),
        failing("rate_limited", Fault::RateLimited { retry_after: Some(seconds(300)) }),
        failing("rate_limited_shortly", Fault::RateLimited { retry_after: Some(seconds(1)) }),
        failing("context_length", Fault::ContextLength),
        failing("refused", Fault::Refused),
        failing("cut", Fault::CutAfter(3)),
        failing("truncated", Fault::TruncatedAfter(3)),
        failing("error_event", Fault::ErrorEventAfter(3)),
    ]
}

/// The tiers of each provider in either protocol, and the features that reach them.
fn config(servers: &Servers) -> String {
    let (mut tiers, mut features) = (String::new(), String::new());
    for (name, server) in servers {
        let url = server.base_url();
        tiers.push_str(&format!(
            "  - {{ name: a-{name}, provider: anthropic, model: claude-sonnet-4-5, base_url: '{url}' }}\n\
             \x20 - {{ name: o-{name}, provider: openai, model: gpt-4o, base_url: '{url}/v1' }}\n"
        ));
        features.push_str(&format!(
            "  a-{name}: {{ tiers: [a-{name}] }}\n  o-{name}: {{ tiers: [o-{name}] }}\n\
             \x20 a-{name}-then-o: {{ tiers: [a-{name}, o-healthy] }}\n\
             \x20 o-{name}-then-a: {{ tiers: [o-{name}, a-healthy] }}\n\
             \x20 {name}-then-sorry: {{ tiers: [a-{name}, o-{name}, sorry] }}\n"
        ));
    }
    format!(
        "tiers:\n{tiers}  - {{ name: sorry, provider: canned, text: Please try again. }}\n\
         features:\n{features}retry: {{ max_attempts: 1 }}\n\
         circuit_breaker: {{ consecutive_failures: 0, max_throttle: 1ms }}\n"
    )
}

/// Starts a server for each provider.
async fn start(providers: impl IntoIterator<Item = (&'static str, Simulated)>) -> Servers {
    let mut servers = BTreeMap::new();
    for (name, provider) in providers {
        servers.insert(name, SimulatedServer::start(provider).await.unwrap());
    }
    servers
}

/// Runs a client to its end, which is a success if all of its checks passed.
async fn drive(mut client: Command) {
    let output = tokio::task::spawn_blocking(move || client.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{said}");
}

/// Runs a client against a gateway with all providers behind it.
async fn run(mut command: Command, more: Option<String>) {
    let servers = start(providers()).await;
    let gateway = Serve::with(&config(&servers)).start();
    command.arg(gateway.address()).args(more);
    drive(command).await;

    // The clients allow themselves two repeats each, and so make three calls, as alone; where the provider asks for
    // five minutes, we have told them not to make them.
    let calls = |name: &str| servers[name].handle().stats().calls;
    assert_eq!(calls("server_error"), 12, "two clients, whole and streamed, three times each");
    assert_eq!(calls("rate_limited"), 4);
    let left: SimulatedHandle = servers["slow"].handle();
    tokio::time::timeout(Duration::from_secs(10), left.until(|stats| stats.cancelled == 2)).await.expect("cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdks_work_unchanged() {
    if let Some(python) = sdk::python(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/python.py")) {
        run(python, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_sdks_work_unchanged() {
    if let Some((node, folder)) = sdk::node(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/node.mjs")) {
        run(node, Some(folder)).await;
    }
}
