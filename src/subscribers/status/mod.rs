//! Who serves now, and how it has gone of late: a page's worth of what the events told.

mod board;
mod machine;
mod rates;
mod recent;

use serde::Serialize;

pub use self::board::StatusBoard;

/// What a [`StatusBoard`] shows. As JSON its fields are in camelCase: `activeModel`, `activeTier`.
///
/// A model's id is the one that the configuration names, or else that of the tier's last answer; where neither is known, as of
/// a tier with fixed words, the tier's name stands for it.
///
/// Dates are RFC 3339 in UTC, in whole seconds, for people; what programs compare are the seconds beside them, by a clock
/// that never jumps.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Status {
    /// Who serves, in one word.
    pub state: ServingState,
    /// The id of the model that serves now.
    pub active_model: String,
    /// The name of the tier that serves now.
    pub active_tier: String,
    /// The id of the model that is preferred.
    pub primary_model: String,
    /// The name of the tier that is preferred.
    pub primary_tier: String,
    /// Since when it is so.
    pub since: String,
    /// The same in seconds before now.
    pub since_seconds: f64,
    /// Each tier, the primary first.
    pub tiers: Vec<TierStatus>,
    /// What came of the callers' requests within the last minute.
    pub requests: RecentRequests,
    /// The last switches and recoveries, the latest first. At most 20.
    pub recent_switches: Vec<Switch>,
    /// How many switches away from a tier there were within the last hour, to the minute.
    pub failovers_last_hour: u32,
    /// The level of service, from 1 (full) to 5 (static), that somebody has pinned for all requests.
    pub pinned_level: Option<u8>,
    /// How long another tier than the primary has served.
    pub time_on_fallback: TimeOnFallback,
    /// How long the last recovery took: from the switch away from the primary until it served again.
    pub last_recovery_seconds: Option<f64>,
    /// What the cache came to; absent where there is none, and of a board that follows no [stack](crate::StackHandle::status).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheStatus>,
    /// The events that were lost because the board was too slow. What they told is missing here.
    pub lost_events: u64,
}

/// Who serves, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ServingState {
    /// The primary.
    Primary,
    /// Another tier.
    Fallback,
    /// A tier whose answers are [less than what was asked for](crate::LlmResponse::degraded).
    Degraded,
    /// Callers' requests fail, whatever the circuits say: the last one did, or more than 5 % and at least 3 of those within
    /// the last minute. A request that is the caller's own mistake, over a budget or without a place is none of them.
    Failing,
    /// Nobody: a request has failed, and none was answered since, nor within the last 10 s.
    Unavailable,
}

/// What came of the callers' requests within the last minute. Those that are left out in [`ServingState::Failing`] are left out
/// here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecentRequests {
    /// Those that were answered or have failed.
    pub ended: u64,
    /// Those that have failed, before an answer or in the middle of it.
    pub failed: u64,
}

/// How a tier does, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TierHealth {
    /// Nothing speaks against it.
    Ok,
    /// It fails calls: the last one, or more than 5 % and at least 3 of those within the last minute.
    Failing,
    /// Its circuit is not closed.
    Down,
}

/// One tier.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TierStatus {
    /// Its name; of a circuit that is named after no tier, the circuit's.
    pub name: String,
    /// The id of its model, where that is known.
    pub model: Option<String>,
    /// How it does: not `ok` while it fails calls, though its circuit is closed.
    pub health: TierHealth,
    /// Its circuit's state: `closed`, `open` or `half-open`. One that has never changed is closed.
    pub circuit: &'static str,
    /// Since when, if it has ever changed.
    pub circuit_since: Option<String>,
    /// Why it changed last.
    pub circuit_reason: Option<String>,
    /// When an open circuit lets a probe through, or a throttled one its calls, where that is known: of a
    /// [stack's](crate::StackHandle::status) tiers. `None` while it is closed, and of one that was opened by hand.
    pub circuit_until: Option<String>,
    /// What somebody has forced its circuit to be: `open` or `closed`; `None` while it judges by itself.
    pub forced: Option<&'static str>,
    /// Whether somebody has drained it: it takes no new requests.
    pub drained: bool,
    /// The calls that were sent to it within the last five minutes and have ended.
    pub calls: u64,
    /// Those of them that failed for another reason than the request itself.
    pub failures: u64,
    /// The share of failures: 0 to 1, and 0 where there were no calls.
    pub failure_rate: f64,
    /// How long its answers took (a stream: to its first token) within the last five minutes; `None` without any.
    pub latency: Option<Latency>,
}

/// How long answers took, in milliseconds. The quantiles are right to an eighth.
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

/// What became of the requests that the cache has seen since it was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CacheStatus {
    /// The answers that it has, those too old to be given included.
    pub answers: usize,
    /// What they take, about.
    pub bytes: u64,
    /// Requests that were answered by what was kept.
    pub hits: u64,
    /// Those that were answered by another's call.
    pub shared: u64,
    /// Those for which a call was made.
    pub misses: u64,
    /// Those that were not looked at.
    pub bypassed: u64,
    /// Those that were given an answer that was too old, for there was no other.
    pub stale: u64,
    /// Those that were given the answer to a similar question.
    pub similar: u64,
}

/// Another tier began to serve.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Switch {
    /// The tier that served before.
    pub from: String,
    /// The tier that served from then on.
    pub to: String,
    /// Why the tier before did not: an error kind's [name](crate::ErrorKind::name), or `recovered`.
    pub reason: &'static str,
    /// When.
    pub at: String,
    /// The same in seconds before now.
    pub seconds_ago: f64,
}

/// How long another tier than the primary has served.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TimeOnFallback {
    /// In all, the current time included.
    pub total_seconds: f64,
    /// Since the primary stopped serving; 0 while it serves.
    pub current_seconds: f64,
}

#[cfg(test)]
mod tests;
