//! What `steadfast serve` tells of itself, as those see it who watch it: the real binary before real servers.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a real process keeps real time")]

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "it is there for all")]
mod common;
mod harness;
mod logs;
mod metrics;
mod page;
mod status;
#[cfg(feature = "otlp")]
mod traces;

use std::time::Duration;

use steadfast::providers::simulated::Fault;

use self::harness::{Watched, within};

/// A status is `unavailable` until 10 s after the last answer at the earliest.
const SOON: Duration = Duration::from_secs(30);

/// The primary answers, fails, and answers again.
fn outage(watched: &Watched) {
    assert!(watched.ask("chat", true).contains("x-steadfast-tier: sonnet"));
    watched.primary().fail(Fault::Unavailable);
    for _ in 0..4 {
        assert!(watched.ask("chat", true).contains("x-steadfast-tier: gpt"));
    }
    watched.primary().heal();
    within(SOON, "the primary does not come back", || watched.ask("chat", false).contains("x-steadfast-tier: sonnet"));
}
