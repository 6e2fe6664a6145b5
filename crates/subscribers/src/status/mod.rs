//! A page on who serves now and how requests have fared, derived from events.

mod board;
mod chains;
mod deployment;
mod machine;
mod rates;
mod recent;

use serde::Serialize;
use steadfast::{CacheHandle, layers::cache::CacheStats};

pub use self::{
    board::StatusBoard,
    chains::{ChainSetup, ChainStatus},
    deployment::DeploymentStatus,
};

/// The contents of a [`StatusBoard`]. As JSON its fields are in camelCase: `activeModel`, `activeTier`.
///
/// A model's id comes from the configuration, or else from the tier's last answer. If neither is known, as for a tier
/// with fixed words, the tier's name stands for it.
///
/// Dates are RFC 3339 in UTC, in whole seconds, for people. Programs should compare the seconds beside them, which come
/// from a monotonic clock.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Status {
    /// The state in one word: the worst of the chains that were asked within the last five minutes, or else of the one
    /// asked last. No chain is `unavailable` for all while another one was served.
    pub state: ServingState,
    /// False while the primary's key or model is refused and has never worked, and no other tier has ever answered. It
    /// is true again a minute after the last such refusal: a provider may have been wrong, so a request may try.
    pub ready: bool,
    /// The id of the model that serves the requests of the chain with this state. While nothing does, of the one that
    /// did so last.
    pub active_model: String,
    /// The name of its tier.
    pub active_tier: String,
    /// The id of the model that these requests ask first.
    pub primary_model: String,
    /// The name of its tier: the file's first, while the first tiers of all chains serve.
    pub primary_tier: String,
    /// The id of their chain, one of [`chains`](Self::chains).
    pub chain: String,
    /// The time of the last change of the state.
    pub since: String,
    /// The same in seconds before now.
    pub since_seconds: f64,
    /// The chains: those that the file names, and those that were asked.
    pub chains: Vec<ChainStatus>,
    /// Each tier, the primary first.
    pub tiers: Vec<TierStatus>,
    /// The outcomes of the callers' requests within the last minute.
    pub requests: RecentRequests,
    /// The last switches and recoveries, the latest first. At most 20.
    pub recent_switches: Vec<Switch>,
    /// The number of switches away from a tier within the last hour, to the minute.
    pub failovers_last_hour: u32,
    /// The level of service, from 1 (full) to 5 (static), that an operator has pinned for all requests.
    pub pinned_level: Option<u8>,
    /// The time for which other tiers than the first have served the chain where that took longest.
    pub time_on_fallback: TimeOnFallback,
    /// The duration of the last recovery: from the switch away from a first tier until it served again.
    pub last_recovery_seconds: Option<f64>,
    /// The cache's counts; absent without a cache, and for a board that follows no
    /// stack (`StackHandle::status`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheStatus>,
    /// The number of events lost because the board was too slow. Their changes are missing here.
    pub lost_events: u64,
}

/// The state of service, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ServingState {
    /// No request has ended since the start, so that nothing is known.
    Untried,
    /// The first tier serves.
    Primary,
    /// Another tier serves.
    Fallback,
    /// A tier serves whose answers are [degraded](steadfast::LlmResponse::degraded).
    Degraded,
    /// People take the requests in the place of models: callers get a task, and no answer of a model.
    People,
    /// Callers' requests fail, whatever the circuits' states: the last one did, or more than 5 % and at least 3 of
    /// those within the last minute. Requests that are the caller's own mistake, over a budget or without a place do
    /// not count.
    Failing,
    /// No tier serves: a request has failed, and none was answered since, nor within the last 10 s.
    Unavailable,
}

/// The outcomes of the callers' requests within the last minute, without those that [`ServingState::Failing`] leaves
/// out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecentRequests {
    /// The number of requests that were answered or failed.
    pub ended: u64,
    /// The number of requests that failed, before an answer or in the middle of it.
    pub failed: u64,
}

/// The health of a tier, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TierHealth {
    /// Calls succeed and the circuit is closed.
    Ok,
    /// Calls fail: the last one, or more than 5 % and at least 3 of those within the last minute.
    Failing,
    /// The circuit is not closed.
    Down,
}

/// The proof of a tier's key and of its model's name, since the start or since a reload changed the tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TierSetup {
    /// No call has proved anything.
    Untried,
    /// A call was answered.
    Works,
    /// The provider refuses the key, and no call was ever answered: check the API key.
    KeyRefused,
    /// The provider does not know the model, and no call was ever answered: check the model's name and the base URL.
    ModelUnknown,
}

/// One tier.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TierStatus {
    /// The tier's name; for a circuit that is named after no tier, the circuit's.
    pub name: String,
    /// The id of its model, if known.
    pub model: Option<String>,
    /// Its health. A tier that fails calls is not `ok`, although its circuit is closed.
    pub health: TierHealth,
    /// The proof of its key and its model's name.
    pub setup: TierSetup,
    /// Its circuit's state: `closed`, `open` or `half-open`. One that has never changed is closed.
    pub circuit: &'static str,
    /// The time of the circuit's last change, if there was one.
    pub circuit_since: Option<String>,
    /// The reason for the circuit's last change.
    pub circuit_reason: Option<String>,
    /// The time at which an open circuit lets a probe through, or a throttled one its calls, if known: only for a
    /// stack's tiers (`StackHandle::status`). `None` while the circuit is closed, or if an operator
    /// opened it.
    pub circuit_until: Option<String>,
    /// The state that an operator has forced on its circuit: `open` or `closed`; `None` while it judges on its own.
    pub forced: Option<&'static str>,
    /// True if an operator has drained it: it takes no new requests.
    pub drained: bool,
    /// The number of calls that were sent to it and ended within the last five minutes.
    pub calls: u64,
    /// The number of those calls that failed for another reason than the request itself.
    pub failures: u64,
    /// The share of failures: 0 to 1, and 0 without calls.
    pub failure_rate: f64,
    /// The latency of its answers (for a stream, to its first token) within the last five minutes; `None` without any.
    pub latency: Option<Latency>,
    /// The last failure of a call to it, other than by the request itself; `None` without one.
    pub last_failure: Option<LastFailure>,
    /// Its deployments, in order: only for a stack's tier that has some (`StackHandle::status`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deployments: Vec<DeploymentStatus>,
}

/// A failure of a call, without any word of the request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LastFailure {
    /// The [name](steadfast::ErrorKind::name) of its kind.
    pub kind: &'static str,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// The words in which the provider or the network speaks of itself, with `…` for each gap. The whole message is in
    /// the request's record.
    pub message: Option<String>,
    /// The id of the request that met it, if it has one.
    pub request_id: Option<String>,
    /// The time of the failure.
    pub at: String,
    /// The same in seconds before now.
    pub seconds_ago: f64,
}

/// The latency of answers, in milliseconds. Quantiles are exact to an eighth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Latency {
    /// The mean.
    pub mean_ms: f64,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// Nineteen of twenty took no longer.
    pub p95_ms: f64,
}

/// The outcomes of the requests that the cache has seen since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CacheStatus {
    /// The number of stored answers, including those that are too old to give.
    pub answers: usize,
    /// Their approximate size.
    pub bytes: u64,
    /// Requests answered from the cache.
    pub hits: u64,
    /// Requests answered by another request's call.
    pub shared: u64,
    /// Requests for which a call was made.
    pub misses: u64,
    /// Requests that bypassed the cache.
    pub bypassed: u64,
    /// Requests that received an answer past its age, because there was no other.
    pub stale: u64,
    /// Requests that received the answer to a similar question.
    pub similar: u64,
}

impl From<&CacheHandle> for CacheStatus {
    fn from(cache: &CacheHandle) -> Self {
        let CacheStats { hits, misses, passed_by: bypassed, stale, shared, similar, .. } = cache.stats();
        Self { answers: cache.len(), bytes: cache.bytes(), hits, shared, misses, bypassed, stale, similar }
    }
}

/// A change of the tier that serves.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Switch {
    /// The id of the chain.
    pub chain: String,
    /// The first tier of the chain.
    pub first: String,
    /// The tier that served before.
    pub from: String,
    /// The tier that served from then on.
    pub to: String,
    /// The reason for which the tier before did not serve: an error kind's [name](steadfast::ErrorKind::name), or
    /// `recovered`.
    pub reason: &'static str,
    /// The failure behind the reason, where a call met one.
    pub failure: Option<LastFailure>,
    /// The time of the switch.
    pub at: String,
    /// The same in seconds before now.
    pub seconds_ago: f64,
}

impl ServingState {
    /// Returns the state's weight: of several chains the heaviest counts.
    fn severity(self) -> u8 {
        self as u8
    }
}

/// The time for which other tiers than a chain's first have served it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TimeOnFallback {
    /// The total, the current time included.
    pub total_seconds: f64,
    /// The time since the first tier stopped serving; 0 while it serves.
    pub current_seconds: f64,
}

#[cfg(test)]
mod tests;
