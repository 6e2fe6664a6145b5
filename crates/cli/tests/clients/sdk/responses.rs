//! OpenAI's SDKs, its Agents SDK and the AI SDK over Responses, each at providers of four protocols.

use std::{process::Command, time::Duration};

use serde_json::json;
use steadfast::providers::simulated::Simulated;

use super::{Servers, drive, providers, start};
use crate::{
    common::{sdk, serve::Serve},
    upstream::Upstream,
};

/// The tiers of each provider in every protocol, and the features that reach them.
pub(super) fn config(servers: &Servers) -> String {
    let (mut tiers, mut features) = (String::new(), String::new());
    for (name, server) in servers {
        // Only a model that reasons is asked to.
        let gpt = if *name == "reasoning" { "gpt-5" } else { "gpt-4o" };
        for upstream in Upstream::ALL {
            let model = match upstream {
                Upstream::Responses | Upstream::Chat => gpt,
                Upstream::Messages => "claude-sonnet-4-5",
                Upstream::Gemini => "gemini-2.5-flash",
            };
            tiers.push_str(&upstream.tier(&format!("{upstream}-{name}"), server, model, ""));
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
    let servers = start(providers().into_iter().chain([free, reasoning])).await;
    let gateway = Serve::with(&config(&servers)).start();
    command.arg(gateway.address()).args(more);
    drive(command).await;
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
