//! The gateway before very many callers, and before callers that mean no good: the real binary, real sockets on loopback.
//!
//! Sizes are small by default. `STEADFAST_SCALE=full` makes them what the gateway promises; that is for a release build and for
//! one test at a time:
//!
//! ```text
//! STEADFAST_SCALE=full cargo test --release -p steadfast-gateway --test scale -- --test-threads 1 --nocapture
//! ```

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]
#![cfg(target_os = "linux")]

mod bad_input;
mod client;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "it is there for all")]
mod common;
mod crowd;
mod gateway;
mod mutations;
mod provider;
mod reload;
mod smuggling;
mod stopping;
mod streams;

use self::{client::Client, gateway::Gateway, provider::Provider};

/// The size of a test: that of a quick look, or that of the promise.
fn size(quick: usize, full: usize) -> usize {
    match std::env::var("STEADFAST_SCALE") {
        Ok(scale) if scale == "full" => full,
        _ => quick,
    }
}

/// Both protocols.
const PATHS: [&str; 2] = ["/v1/messages", "/v1/chat/completions"];
