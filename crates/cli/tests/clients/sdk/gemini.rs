//! Google's SDKs, each at providers of four protocols.

use std::{process::Command, time::Duration};

use steadfast::providers::simulated::Simulated;

use super::{drive, providers, responses::config, start};
use crate::common::{sdk, serve::Serve};

async fn run(mut command: Command, more: Option<String>) {
    let reasoning = ("reasoning", Simulated::new("reasoning").reply("Hello from afar, and all is well"));
    let servers = start(providers().into_iter().chain([reasoning])).await;
    let gateway = Serve::with(&config(&servers)).start();
    command.arg(gateway.address()).args(more);
    drive(command).await;
    // The SDKs repeat nothing by themselves.
    let calls = |name: &str| servers[name].handle().stats().calls;
    assert_eq!(calls("server_error"), 8, "each protocol, whole and streamed, once each");
    let left = servers["slow"].handle();
    tokio::time::timeout(Duration::from_secs(10), left.until(|stats| stats.cancelled == 4)).await.expect("cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn googles_python_sdk_works_unchanged() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/gemini.py");
    if let Some(python) = sdk::python_with("STEADFAST_SDK_PYTHON", script, &["google.genai"]) {
        run(python, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn googles_node_sdk_works_unchanged() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/gemini.mjs");
    if let Some((node, folder)) = sdk::node_with(script, &["@google/genai"]) {
        run(node, Some(folder)).await;
    }
}
