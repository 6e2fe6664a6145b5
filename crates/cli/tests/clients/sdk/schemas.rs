//! The vendors' published OpenAPI files, as llm-comply carries them, over answers from providers of four protocols.

use steadfast::providers::simulated::Simulated;

use super::{drive, providers, responses, start};
use crate::common::{sdk, serve::Serve};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_and_event_has_what_the_published_schemas_require() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/sdk/schemas.py");
    let Some(mut command) = sdk::python_with("STEADFAST_SDK_PYTHON", script, &["llm_comply", "jsonschema"]) else {
        return;
    };
    let reasoning = ("reasoning", Simulated::new("reasoning").reply("Hello from afar, and all is well"));
    let healthy = providers().into_iter().filter(|(name, _)| ["healthy", "tools"].contains(name));
    let servers = start(healthy.chain([reasoning])).await;
    let gateway = Serve::with(&responses::config(&servers)).start();
    command.arg(gateway.address());
    drive(command).await;
}
