//! A provider that follows a script: its speed, its reliability, its outages.
//!
//! With it, a test shows that a stack survives an outage, without a key and without a network. In process it needs no
//! waiting either: all its times are tokio's, so that a paused clock runs through hours in milliseconds.
//!
//! A script has a [`Latency`] to the first token, a pace between tokens, a [`FaultMix`] for every day, [`Outage`]
//! windows, and a [`RateLimit`]. A call's outcome depends only on the time, the call's number and the seed, so that a
//! run can be repeated exactly. A [`SimulatedHandle`] changes the behaviour while calls run, and counts them.
//!
//! A request that requires a tool call gets one: of the tool that it names, or of the first that the conversation has
//! not called yet, else of the last. Its arguments satisfy the tool's schema. A request that asks for JSON gets an
//! instance of its schema. The values are made up, with the [reply](Simulated::reply) in texts without constraints; a
//! reply that is JSON itself is the answer, unchanged.
//!
//! An [opaque call](crate::OpaqueCall) to OpenAI's `/v1/embeddings` or `/v1/completions` gets an answer of that API.
//!
//! [`Simulated`] is a leaf by itself. The package `steadfast-simulator` lets it answer over HTTP, in the protocols of
//! three real providers. In process its errors have `simulated` as the provider and the name as the model. It does not
//! exercise a real decoder: the server does.
//!
//! # Example
//!
//! Two hours of an outage, in no time:
//!
//! ```
//! use std::time::Duration;
//! use steadfast::{ErrorKind, LlmRequest, providers::simulated::{Fault, Simulated}};
//! use tower::{Service, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let hour = Duration::from_secs(3600);
//! let mut sonnet = Simulated::new("sonnet")
//!     .latency(Duration::from_millis(800))
//!     .reply("Hello from afar")
//!     .outage(hour, 3 * hour, Fault::Overloaded);
//! let handle = sonnet.handle();
//!
//! let answer = sonnet.ready().await.unwrap().call(LlmRequest::prompt("hello")).await.unwrap();
//! assert_eq!(answer.text().await.unwrap(), "Hello from afar");
//!
//! tokio::time::sleep(2 * hour).await;
//! let error = sonnet.ready().await.unwrap().call(LlmRequest::prompt("hello")).await.unwrap_err();
//! assert_eq!((error.kind(), error.status().unwrap().as_u16()), (ErrorKind::Overloaded, 529));
//!
//! tokio::time::sleep(2 * hour).await;
//! assert!(sonnet.ready().await.unwrap().call(LlmRequest::prompt("hello")).await.is_ok());
//! assert_eq!((handle.stats().answered, handle.stats().failed), (2, 1));
//! # }
//! ```

mod answer;
mod demands;
mod fault;
mod handle;
mod instance;
mod latency;
mod leaf;
#[cfg(test)]
mod leaf_tests;
mod opaque;
mod pattern;
mod rate_limit;
mod script;
#[cfg(test)]
mod tests;

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use tokio::time::Instant;

#[doc(hidden)]
pub use self::{
    answer::{Voice, pieces, tokens_of},
    demands::PlannedCall,
    handle::SimulatedCall,
    leaf::ResponseFuture,
    rate_limit::{RateReading, RateStatus},
    script::Plan,
};
pub use self::{
    fault::{Fault, FaultMix, Outage},
    handle::{SimulatedHandle, SimulatedStats},
    latency::Latency,
    rate_limit::RateLimit,
};
use self::{
    handle::Shared,
    script::{Script, seed_of},
};
use crate::CommitPoint;

/// A scriptable provider.
///
/// By default it answers every call at once. Clones share everything: script, rate limit, counts and the number of the
/// next call.
#[derive(Clone, Debug)]
pub struct Simulated {
    shared: Arc<Shared>,
}

impl Simulated {
    /// Creates a healthy provider of this name, which is also the name of its model.
    ///
    /// Outages count from this moment.
    #[must_use]
    pub fn new(name: impl AsRef<str>) -> Self {
        let name = name.as_ref();
        let script = Script::new(seed_of(name), Instant::now());
        Self { shared: Arc::new(Shared::new(name.into(), script, Voice::default())) }
    }

    /// Sets the seed of the draws of latencies, lengths and faults. Default: made from the name.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.shared.lock().script.seed = seed;
        self
    }

    /// Sets the time to the first token, or to the error. Default: none.
    #[must_use]
    pub fn latency(self, latency: impl Into<Latency>) -> Self {
        self.handle().latency(latency);
        self
    }

    /// Sets the time between two tokens. Default: none.
    #[must_use]
    pub fn pace(self, between_tokens: Duration) -> Self {
        self.handle().pace(between_tokens);
        self
    }

    /// Sets the range of an answer's tokens, each number with equal probability. Default: 16.
    #[must_use]
    pub fn tokens(self, tokens: RangeInclusive<u32>) -> Self {
        self.shared.lock().script.tokens = tokens.into_inner();
        self
    }

    /// Sets the text of every answer, one word a token. Default: some words about closures.
    #[must_use]
    pub fn reply(self, text: impl AsRef<str>) -> Self {
        self.shared.lock().voice.set_reply(text.as_ref());
        self
    }

    /// Calls the first tool that a request offers, with these arguments, unless the conversation ends with a tool's
    /// result already. Where they lack one that the tool requires, or are `true`, others are made up that satisfy its
    /// schema. Default: a tool is called only if the request requires it.
    #[must_use]
    pub fn call_tools(self, arguments: serde_json::Value) -> Self {
        self.shared.lock().voice.set_tool_arguments(arguments);
        self
    }

    /// Calls these tools one after the other in each turn of the user's, a tool with an answer, and then replies. A
    /// tool is named as its provider sees it; one within a namespace, by both names joined with `__`. If the request
    /// does not offer the next tool, the reply follows at once. Default: none.
    ///
    /// [`SimulatedHandle::plan_calls`] changes the plan between two turns.
    #[must_use]
    pub fn plan_calls<N: Into<String>>(self, calls: impl IntoIterator<Item = (N, serde_json::Value)>) -> Self {
        self.handle().plan_calls(calls);
        self
    }

    /// Sets the known models; over HTTP another one is a 404. Default: every model.
    #[must_use]
    pub fn models<M: Into<String>>(self, models: impl IntoIterator<Item = M>) -> Self {
        let models = models.into_iter().map(Into::into).collect();
        self.shared.lock().models = Some(models);
        self
    }

    /// Sets the commit point of streams in process. Default: the first token.
    #[must_use]
    pub fn commit(self, point: CommitPoint) -> Self {
        self.shared.lock().commit = point;
        self
    }

    /// Sets the faults of an ordinary day. Default: none.
    #[must_use]
    pub fn fault_mix(self, faults: impl Into<FaultMix>) -> Self {
        self.handle().fault_mix(faults);
        self
    }

    /// Adds an outage, from and to a time since the creation of this provider.
    ///
    /// See [`outages`](Self::outages) for one that ramps in.
    #[must_use]
    pub fn outage(self, from: Duration, to: Duration, faults: impl Into<FaultMix>) -> Self {
        self.outages([Outage::new(from, to, faults)])
    }

    /// Adds outages. If several overlap, the first one that fails a call decides.
    #[must_use]
    pub fn outages(self, outages: impl IntoIterator<Item = Outage>) -> Self {
        let outages: Vec<_> = outages.into_iter().collect();
        self.shared.lock().script.outages.extend(outages);
        self
    }

    /// Sets the provider's rate limit. Default: none.
    #[must_use]
    pub fn rate_limit(self, limit: RateLimit) -> Self {
        self.handle().rate_limit(Some(limit));
        self
    }

    /// Sets the moment from which outages count. Default: the creation of the provider.
    #[must_use]
    pub fn starting_at(self, start: Instant) -> Self {
        self.shared.lock().script.start = start;
        self
    }

    /// The provider's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns a handle that controls and watches this provider.
    #[must_use]
    pub fn handle(&self) -> SimulatedHandle {
        SimulatedHandle { shared: Arc::clone(&self.shared) }
    }

    /// Begins a call, as the HTTP server does: `prompt_tokens` and at most `max_tokens` more count against the rate
    /// limit.
    #[must_use]
    pub fn begin(&self, prompt_tokens: u64, max_tokens: Option<u32>) -> SimulatedCall {
        self.shared.begin(Instant::now(), prompt_tokens, max_tokens, None)
    }

    /// Counts a request that is refused as malformed before it becomes a call.
    pub fn reject(&self) {
        self.shared.reject();
    }

    /// Returns true if it knows this model.
    #[must_use]
    pub fn serves(&self, model: &str) -> bool {
        let state = self.shared.lock();
        let models = state.models.as_ref();
        models.is_none_or(|models| models.iter().any(|known| known == model))
    }

    /// Returns the plan of call `call_number` (from 0) at `now`, without regard to the rate limit and to
    /// [`SimulatedHandle::fail_next`].
    #[must_use]
    pub fn decide(&self, now: Instant, call_number: u64) -> Plan {
        self.shared.lock().script.decide(now, call_number)
    }
}
