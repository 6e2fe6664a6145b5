//! The simulated providers behind a gateway.

use std::time::Duration;
use steadfast::providers::simulated::{Simulated, SimulatedHandle, SimulatedStats};
use steadfast_simulator::{ReceivedRequest, Transcript};
use tokio::time::Instant;

/// A gateway's first provider and the one behind it, both simulated.
///
/// The gateway has to send every request to the first, and to the second when the first fails. Each speaks every
/// dialect on one port.
#[derive(Clone, Debug)]
pub struct Upstreams {
    /// The first.
    pub primary: Upstream,
    /// The second.
    pub backup: Upstream,
}

/// A simulated provider, with the requests that it got.
#[derive(Clone, Debug)]
pub struct Upstream {
    provider: Simulated,
    transcript: Transcript,
}

impl Upstream {
    /// Creates a healthy provider.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let provider = Simulated::new(name).reply(reply());
        Self { provider, transcript: Transcript::new(TRANSCRIPT) }
    }

    /// Returns the provider, for a server or an in-process transport.
    #[must_use]
    pub fn provider(&self) -> Simulated {
        self.provider.clone()
    }

    /// Returns the transcript, for a server or an in-process transport to write into.
    #[must_use]
    pub fn transcript(&self) -> Transcript {
        self.transcript.clone()
    }

    pub(crate) fn handle(&self) -> SimulatedHandle {
        self.provider.handle()
    }

    /// Makes it healthy, and its answers immediate.
    pub(crate) fn restore(&self) {
        let handle = self.handle();
        handle.heal();
        handle.latency(Duration::ZERO);
        handle.pace(Duration::ZERO);
        handle.plan_calls::<String>([]);
        self.transcript.clear();
    }
}

/// The newest requests that are kept.
const TRANSCRIPT: usize = 64;

/// The number of words in the answer of a healthy provider, each a token.
pub(crate) const WORDS: u64 = 60;

/// The answer of a healthy provider. Its words are of several scripts, for a gateway that cuts characters apart.
pub(crate) fn reply() -> String {
    let word = |n: u64| match n % 4 {
        0 => format!("wörd-{n}"),
        1 => format!("語-{n}"),
        2 => format!("👩‍🚀-{n}"),
        _ => format!("word-{n}"),
    };
    (1..=WORDS).map(word).collect::<Vec<_>>().join(" ")
}

/// The calls that a provider got since a moment.
#[derive(Debug)]
pub(crate) struct Visits {
    upstream: Upstream,
    before: SimulatedStats,
}

impl Visits {
    pub(crate) fn of(upstream: &Upstream) -> Self {
        let before = upstream.handle().stats();
        Self { upstream: upstream.clone(), before }
    }

    /// Returns the number of calls, those that were refused as malformed included.
    pub(crate) fn calls(&self) -> u64 {
        let now = self.upstream.handle().stats();
        now.calls + now.rejected - self.before.calls - self.before.rejected
    }

    pub(crate) fn answered(&self) -> u64 {
        self.upstream.handle().stats().answered - self.before.answered
    }

    pub(crate) fn failed(&self) -> u64 {
        self.upstream.handle().stats().failed - self.before.failed
    }

    /// Returns the times of the calls.
    pub(crate) fn arrivals(&self) -> Vec<Instant> {
        let handle = self.upstream.handle();
        let calls = usize::try_from(handle.stats().calls - self.before.calls).unwrap_or(usize::MAX);
        let times = handle.arrivals();
        times[times.len().saturating_sub(calls)..].to_vec()
    }

    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.upstream.transcript.requests()
    }
}
