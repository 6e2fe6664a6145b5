//! The cloud clients of the official SDKs before a gateway. Those with Anthropic's own paths work. The others call
//! paths that a gateway has not, and its errors are still their own classes.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cloud_clients_work_or_raise_their_own_errors() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/clouds.py");
    let packages = ["openai", "anthropic", "boto3", "google.auth"];
    let Some(mut python) = sdk::python_with("STEADFAST_SDK_CLOUDS", script, &packages) else { return };
    let servers = start(providers()).await;
    let gateway = Serve::with(&config(&servers)).start();
    python.arg(gateway.address());
    drive(python).await;
}
