//! OpenAI's SDKs, its Agents SDK and the AI SDK over Responses, each at providers of four protocols.

use std::{collections::BTreeMap, process::Command, time::Duration};

use serde_json::json;
use steadfast::providers::simulated::Simulated;
use steadfast_simulator::SimulatedServer;

use super::providers;
use crate::common::{sdk, serve::Serve};

/// The tiers of each provider in every protocol, and the features that reach them.
fn config(servers: &BTreeMap<&str, SimulatedServer>) -> String {
    let (mut tiers, mut features) = (String::new(), String::new());
    for (name, server) in servers {
        let url = server.base_url();
        // Only a model that reasons is asked to.
        let [gpt, claude, gemini] = match *name {
            "reasoning" => ["gpt-5", "claude-sonnet-4-5", "gemini-2.5-flash"],
            _ => ["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-flash"],
        };
        for (upstream, provider) in [
            ("responses", format!("provider: openai, api: responses, model: {gpt}, base_url: '{url}/v1'")),
            ("chat", format!("provider: openai, api: chat, model: {gpt}, base_url: '{url}/v1'")),
            ("messages", format!("provider: anthropic, model: {claude}, base_url: '{url}'")),
            ("gemini", format!("provider: gemini, model: {gemini}, base_url: '{url}'")),
        ] {
            tiers.push_str(&format!("  - {{ name: {upstream}-{name}, {provider} }}\n"));
            features.push_str(&format!("  {upstream}-{name}: {{ tiers: [{upstream}-{name}] }}\n"));
            if *name == "overloaded" {
                let then = format!("{upstream}-healthy");
                features.push_str(&format!("  {upstream}-after-{name}: {{ tiers: [{upstream}-{name}, {then}] }}\n"));
            }
        }
    }
    format!(
        "tiers:\n{tiers}features:\n{features}retry: {{ max_attempts: 1 }}\n\
         circuit_breaker: {{ consecutive_failures: 0, max_throttle: 1ms }}\n"
    )
}

async fn run(mut command: Command, more: Option<String>) {
    let free = Simulated::new("free").reply("Hello from afar, and all is well");
    let free = ("free", free.plan_calls([("weather", json!({"input": "a \"b\"\n\\c é"}))]));
    let reasoning = ("reasoning", Simulated::new("reasoning").reply("Hello from afar, and all is well"));
    let mut servers = BTreeMap::new();
    for (name, provider) in providers().into_iter().chain([free, reasoning]) {
        servers.insert(name, SimulatedServer::start(provider).await.unwrap());
    }
    let gateway = Serve::with(&config(&servers)).start();
    let address = gateway.address().to_owned();
    let run = tokio::task::spawn_blocking(move || command.arg(address).args(more).output().unwrap());
    let output = run.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{said}");
    let left = servers["slow"].handle();
    tokio::time::timeout(Duration::from_secs(10), left.until(|stats| stats.cancelled == 4)).await.expect("cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_and_its_agents_speak_responses() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/responses.py");
    if let Some(python) = sdk::python_with("STEADFAST_SDK_PYTHON", script, &["openai", "agents"]) {
        run(python, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_sdk_and_the_ai_sdk_speak_responses() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/responses.mjs");
    if let Some((node, folder)) = sdk::node_with(script, &["openai", "ai", "@ai-sdk/openai"]) {
        run(node, Some(folder)).await;
    }
}
