//! Sixteen ways in which a provider fails, each through four protocols of the real binary, with the commit point
//! `complete` and with the default: what a client sees, and what the providers see of it meanwhile. A caller of
//! Responses asks for them in three ways: whole, streamed with the SDK's own reader, and streamed event by event.
//!
//! The faults and what counts as a pass are those of failoverbench (methodology v0.1), in `scenarios.rs`. Its times are
//! scaled down: where it has 30 s for a request or a silence, the tiers here have 4 s for the first token and 3 s for a
//! silence. With `complete` every scenario must pass. With the default a fault after the first token is the caller's to
//! hear of: an error of its SDK's own class, never a short answer that looks like a whole one.
//!
//! The clients are the official SDKs (see `common/sdk.rs`) and, so that the matrix is there without them too, a plain
//! one.

pub(crate) mod cases;
mod judge;
mod plain;
pub(crate) mod scenarios;
pub(crate) mod turns;

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use crate::common::sdk;
use cases::{Caller, Case, Mix, World};
use futures_util::future::join_all;
use judge::{Outcome, Table};
use serde_json::json;
use tokio::time::timeout;

/// A client may take this long for all cases; they run side by side.
const LIMIT: Duration = Duration::from_secs(180);

/// A client of an SDK goes through the cases: they go in as one JSON text, an outcome for each comes out on a line.
async fn drive(mut command: Command, cases: Vec<Case>) -> Vec<(String, Vec<Outcome>)> {
    let driving = tokio::task::spawn_blocking(move || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let text = serde_json::to_string(&cases).unwrap();
        // It reads all before it says anything.
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = driving.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    said.lines().map(read).collect()
}

/// Runs one client through all cases of a mix of dialects.
async fn matrix<F>(client: &str, mix: Mix, callers: &'static [Caller], run: impl FnOnce(Vec<Case>) -> F)
where
    F: Future<Output = Vec<(String, Vec<Outcome>)>>,
{
    let world = World::start(mix, callers).await;
    let running = run(world.cases());
    let table = Table::of(&world, timeout(LIMIT, running).await.expect("no case hangs"));
    println!("{client}, {mix}\n{table}");
    // For `conformance/run`.
    println!("conformance {}", json!({ "suite": client, "subject": mix.to_string(), "cases": table.cases() }));
    match mix {
        // Its retries mend a fault that passes, and no other.
        Mix::Alone => table.assert_alone(),
        _ => assert!(table.is_clean(), "{client}, {mix}\n{table}"),
    }
}

// The mixes run side by side: most of their time is waiting.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_client_survives_sixteen_faults() {
    let matrix = |mix| matrix("plain HTTP", mix, plain::CALLERS, plain::drive);
    join_all([Mix::Same, Mix::Across, Mix::Behind, Mix::Deployments].map(matrix)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdks_survive_sixteen_faults() {
    join_all([Mix::Same, Mix::Across, Mix::Behind, Mix::Alone].map(async |mix| {
        let Some(python) = sdk::python(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/faults/python.py")) else {
            return;
        };
        matrix("python SDKs", mix, &Caller::ALL, |cases| drive(python, cases)).await;
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_sdks_survive_sixteen_faults() {
    join_all([Mix::Same, Mix::Behind, Mix::Alone].map(async |mix| {
        let Some((mut node, folder)) = sdk::node(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/faults/node.mjs"))
        else {
            return;
        };
        node.arg(folder);
        matrix("node SDKs", mix, &Caller::ALL, |cases| drive(node, cases)).await;
    }))
    .await;
}
