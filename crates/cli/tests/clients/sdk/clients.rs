//! Popular clients and agent frameworks: a call, a stream, a tool that is required, a schema and an error through each.

use std::process::Command;

use serde_json::json;
use steadfast::providers::simulated::{Fault, Simulated};
use steadfast_simulator::SimulatedServer;

use super::drive;
use crate::common::{
    sdk,
    serve::{Serve, Served},
};

const PYTHON: [&str; 7] =
    ["openai", "anthropic", "langchain_openai", "langchain_anthropic", "litellm", "instructor", "agents"];
const NODE: [&str; 3] = ["ai", "@ai-sdk/openai-compatible", "@ai-sdk/anthropic"];

/// A provider for each client's request.
fn providers() -> Vec<(&'static str, Simulated)> {
    let (ada, model) = (json!({"name": "Ada", "age": 36}), |name| Simulated::new(name).reply("A countess."));
    vec![
        ("healthy", model("healthy")),
        ("tools", model("tools").call_tools(json!({"city": "Paris"}))),
        ("person", Simulated::new("person").reply(ada.to_string())),
        ("person-tool", model("person-tool").call_tools(ada)),
        ("overloaded", model("overloaded").fault_mix(Fault::Overloaded)),
    ]
}

/// A gateway that asks first a provider of the caller's own dialect, which is down, and then one of the other.
struct Outage {
    gateway: Served,
    servers: Vec<SimulatedServer>,
}

impl Outage {
    async fn begin() -> Self {
        let (mut tiers, mut features, mut servers) = (String::new(), String::new(), Vec::new());
        for (name, provider) in providers() {
            let server = SimulatedServer::start(provider).await.unwrap();
            let url = server.base_url();
            tiers.push_str(&format!(
                "  - {{ name: a-{name}, provider: anthropic, model: claude-sonnet-4-5, base_url: '{url}' }}\n\
                 \x20 - {{ name: o-{name}, provider: openai, model: gpt-4o, base_url: '{url}/v1' }}\n"
            ));
            features.push_str(&format!(
                "  a-overloaded-then-{name}: {{ tiers: [a-overloaded, o-{name}] }}\n\
                 \x20 o-overloaded-then-{name}: {{ tiers: [o-overloaded, a-{name}] }}\n"
            ));
            servers.push(server);
        }
        // Not so many calls of one client to what is down that its circuit opens and hides the rest.
        let config = format!(
            "tiers:\n{tiers}features:\n{features}retry: {{ max_attempts: 1 }}\n\
             circuit_breaker: {{ consecutive_failures: 0, max_throttle: 1ms }}\n"
        );
        Self { gateway: Serve::with(&config).start(), servers }
    }

    /// Every call went first to the provider that is down, and was answered by the one after it.
    fn assert_failed_over(&self) {
        let calls: Vec<u64> = self.servers.iter().map(|server| server.handle().stats().calls).collect();
        let [answered @ .., down] = &*calls else { unreachable!("there are several") };
        assert_eq!(answered.iter().sum::<u64>(), *down, "{calls:?}");
    }
}

async fn run(mut client: Command, place: &str, gateway: &Served, more: Option<&str>) {
    client.args([place, gateway.address()]).args(more).env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    drive(client).await;
}

async fn python(place: &str, gateway: &Served) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/clients.py");
    if let Some(python) = sdk::python_with("STEADFAST_SDK_CLIENTS", script, &PYTHON) {
        run(python, place, gateway, None).await;
    }
}

async fn node(place: &str, gateway: &Served) {
    if let Some((node, folder)) =
        sdk::node_with(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/clients.mjs"), &NODE)
    {
        run(node, place, gateway, Some(&folder)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn popular_python_clients_take_their_first_look_without_a_file() {
    python("nothing", &Serve::simulated().start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn popular_python_clients_survive_an_outage() {
    let outage = Outage::begin().await;
    python("outage", &outage.gateway).await;
    outage.assert_failed_over();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn popular_node_clients_take_their_first_look_without_a_file() {
    node("nothing", &Serve::simulated().start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn popular_node_clients_survive_an_outage() {
    let outage = Outage::begin().await;
    node("outage", &outage.gateway).await;
    outage.assert_failed_over();
}
