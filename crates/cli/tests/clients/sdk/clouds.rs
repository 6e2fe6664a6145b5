//! The cloud clients of the official SDKs before a gateway. Those with Anthropic's own paths work, and so do Azure's.
//! The others call paths that a gateway has not, and its errors are still their own classes.

use std::process::Command;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cloud_clients_work_or_raise_their_own_errors() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/clouds.py");
    let packages = ["anthropic", "boto3", "google.auth"];
    let Some(mut python) = sdk::python_with("STEADFAST_SDK_CLOUDS", script, &packages) else { return };
    let servers = start(providers()).await;
    let gateway = Serve::with(&config(&servers)).start();
    python.arg(gateway.address());
    drive(python).await;
}

async fn run_azures(mut command: Command, more: Option<String>) {
    let servers = start(providers()).await;
    let gateway = Serve::with(&config(&servers)).start();
    command.arg(gateway.address()).args(more);
    drive(command).await;
    // The client allows itself two repeats, and so makes three calls, as alone.
    assert_eq!(servers["server_error"].handle().stats().calls, 6, "whole and streamed, three times each");
    let left = servers["slow"].handle();
    tokio::time::timeout(Duration::from_secs(10), left.until(|stats| stats.cancelled == 1)).await.expect("cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azures_python_client_works_unchanged() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/azure.py");
    if let Some(python) = sdk::python_with("STEADFAST_SDK_PYTHON", script, &["openai"]) {
        run_azures(python, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azures_node_client_works_unchanged() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/azure.mjs");
    if let Some((node, folder)) = sdk::node_with(script, &["openai"]) {
        run_azures(node, Some(folder)).await;
    }
}
