//! OpenAI's SDKs and responses that the gateway keeps: each conversation begins at a provider of Responses and goes on
//! at one of each protocol.

use std::process::Command;

use serde_json::json;
use steadfast::providers::simulated::{Fault, Simulated};
use steadfast_simulator::SimulatedServer;

use crate::common::{Folder, key, sdk, serve::Serve};

/// The providers' answers.
const FIRST: &str = "I am the first of them";
const SECOND: &str = "I am another one";

async fn run(mut command: Command, more: Option<String>) {
    let start = |provider: Simulated| async { SimulatedServer::start(provider).await.unwrap() };
    let first = start(Simulated::new("first").reply(FIRST)).await;
    let tools = start(Simulated::new("tools").call_tools(json!({"city": "Paris", "days": 3}))).await;
    let second = start(Simulated::new("second").reply(SECOND)).await;
    let stalls = start(Simulated::new("stalls").fault_mix(Fault::StallAfter(1))).await;
    let (first, tools, url) = (first.base_url(), tools.base_url(), second.base_url());
    let stalls = stalls.base_url();
    let (mut tiers, mut features) = (String::new(), String::new());
    for (upstream, provider) in [
        ("responses", format!("provider: openai, api: responses, model: gpt-4o, base_url: '{url}/v1'")),
        ("chat", format!("provider: openai, api: chat, model: gpt-4o, base_url: '{url}/v1'")),
        ("messages", format!("provider: anthropic, model: claude-sonnet-4-5, base_url: '{url}'")),
        ("gemini", format!("provider: gemini, model: gemini-2.5-flash, base_url: '{url}'")),
    ] {
        tiers.push_str(&format!("  - {{ name: {upstream}, {provider} }}\n"));
        features.push_str(&format!(
            "  to-{upstream}: {{ tiers: [first, {upstream}] }}\n  tools-to-{upstream}: {{ tiers: [tools, {upstream}] }}\n"
        ));
    }
    let folder = Folder::new("conversations");
    let store = folder.path("kept.db");
    let config = format!(
        "tiers:\n\
         \x20 - {{ name: first, provider: openai, api: responses, model: gpt-4o, base_url: '{first}/v1' }}\n\
         \x20 - {{ name: tools, provider: openai, api: responses, model: gpt-4o, base_url: '{tools}/v1' }}\n\
         \x20 - {{ name: stalls, provider: openai, model: gpt-4o, base_url: '{stalls}/v1' }}\n\
         {tiers}features:\n{features}  stalls: {{ tiers: [stalls] }}\nretry: {{ max_attempts: 1 }}\n\
         stores: {{ durable: 'sqlite:{}' }}\nresponses: {{ keep: 30d }}\n",
        store.display()
    );
    let (callers, entries): (Vec<_>, Vec<_>) = ["one", "two", "admin"].map(key).into_iter().unzip();
    let gateway = Serve::with(&config).keys(&format!("{}    admin: true\n", entries.concat())).start();
    let address = gateway.address().to_owned();
    let run = tokio::task::spawn_blocking(move || command.arg(address).args(callers).args(more).output().unwrap());
    let output = run.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_continues_kept_responses_at_every_provider() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/conversations.py");
    if let Some(python) = sdk::python_with("STEADFAST_SDK_PYTHON", script, &["openai"]) {
        run(python, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_sdk_continues_kept_responses_at_every_provider() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/conversations.mjs");
    if let Some((node, folder)) = sdk::node_with(script, &["openai"]) {
        run(node, Some(folder)).await;
    }
}
