//! The reports of `steadfast serve` on itself: the real binary before real servers.

mod harness;
mod logs;
mod metrics;
mod page;
mod status;
#[cfg(feature = "otlp")]
mod traces;

use std::time::Duration;

use steadfast::providers::simulated::Fault;

use self::harness::Watched;
use crate::common::within;

/// A status is `unavailable` until 10 s after the last answer at the earliest.
const SOON: Duration = Duration::from_secs(30);

/// The primary answers, fails, and answers again.
fn outage(watched: &Watched) {
    assert_eq!(watched.tier("chat", true), "sonnet");
    watched.primary().fail(Fault::Unavailable);
    for _ in 0..4 {
        assert_eq!(watched.tier("chat", true), "gpt");
    }
    watched.primary().heal();
    within(SOON, "the primary does not come back", || watched.tier("chat", false) == "sonnet");
}
