//! The gateway before very many callers, and before callers that mean no good: the real binary, real sockets on
//! loopback.
//!
//! Sizes are small by default. `STEADFAST_SCALE=full` makes them what the gateway promises; it is for one test at a
//! time, and the memory of the process itself counts in a release build alone:
//!
//! ```text
//! STEADFAST_SCALE=full cargo test --release -p steadfast-cli --test scale -- \
//!     --include-ignored --test-threads 1 --nocapture
//! ```
//!
//! The soak of honest and hostile callers among them takes a minute, or as many seconds as `STEADFAST_SOAK_SECONDS`
//! says.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]
#![cfg(target_os = "linux")]

mod answers;
mod bad_input;
#[path = "../common/mod.rs"]
pub mod common;
mod control;
mod crowd;
mod gateway;
mod hostile;
mod memory;
mod mutations;
mod provider;
mod reload;
mod smuggling;
mod sockets;
mod stopping;
mod streams;

use std::time::Duration;

use self::{
    common::client::{self, Client},
    gateway::Gateway,
    provider::Provider,
};

/// The size of a test: that of a quick look, or that of the promise.
fn size(quick: usize, full: usize) -> usize {
    match std::env::var("STEADFAST_SCALE") {
        Ok(scale) if scale == "full" => full,
        _ => quick,
    }
}

/// Takes all the open files that a process may have.
fn take_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).expect("the limit can be raised");
}

/// Returns the number of connections that can be open at once, each with one to the provider.
fn as_many_as(wanted: usize) -> usize {
    match rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum {
        Some(files) => wanted.min((usize::try_from(files).unwrap_or(usize::MAX) - 100) / 2),
        None => wanted,
    }
}

/// More than an answer takes on a machine that has other things to do, and less than the gateway's patience with
/// those who send nothing.
const SOON: Duration = Duration::from_secs(15);

/// Both protocols.
const PATHS: [&str; 2] = ["/v1/messages", "/v1/chat/completions"];

/// A stream that has begun and stands still.
async fn held(address: &str, path: &str) -> Client {
    let mut client = Client::connect(address).await.expect("connected");
    client.send(client::request(path, true, "hold")).await.expect("sent");
    client.until("first").await.expect("the first token");
    client
}
