//! The report of a drill: plain data, for JSON, tables and pages.

use serde::{Deserialize, Serialize};

/// The report of a [drill](super).
///
/// It is a value that a program can judge, keep as JSON, and read again. The same configuration, scenarios and seed
/// give the same report, byte for byte. Fields are only ever added; if one changes its meaning,
/// [`version`](Self::version) increases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The version of this format: 1.
    pub version: u32,
    /// The random seed of arrivals, latencies, faults and jitter.
    pub seed: u64,
    /// One report for each scenario, in the order given.
    pub scenarios: Vec<ScenarioReport>,
    /// The missed targets; empty if there are none.
    pub missed: Vec<SloMiss>,
}

/// The results of one scenario.
///
/// Every request counts in exactly one of [`answered`](Self::answered), [`degraded`](Self::degraded),
/// [`handed_off`](Self::handed_off), [`refused`](Self::refused) and [`lost`](Self::lost).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScenarioReport {
    /// The scenario's name.
    pub name: String,
    /// A description in a sentence or two.
    pub about: String,
    /// The incident that it replays; empty if none.
    pub source: String,
    /// The duration in seconds.
    pub lasts_s: f64,
    /// The time of day at its beginning, in seconds since midnight (UTC), if the scenario sets one.
    pub clock_s: Option<f64>,
    /// The requests that arrived.
    pub requests: u64,
    /// Requests with a whole answer of a model that is no worse than the first tier's level.
    pub answered: u64,
    /// Requests with a whole answer of a lesser level: a lesser model, a cached answer, a fixed text.
    pub degraded: u64,
    /// Requests that became a durable task for a person.
    pub handed_off: u64,
    /// Requests with a justified error: the scenario's wrong requests, a runaway feature's requests beyond its own
    /// limits, requests without budget under a cap, and those of a pinned session that are refused rather than
    /// answered by another model.
    pub refused: u64,
    /// Requests with any other error, and those whose stream broke.
    pub lost: u64,
    /// The part of [`lost`](Self::lost) that a model which the request may use could have answered: without a fault of
    /// the scenario from its arrival on, for two minutes. A gateway's promise is that it is none.
    #[serde(default)]
    pub lost_while_well: u64,
    /// The part of [`lost`](Self::lost) whose stream broke after its first token: an honest error, but no answer.
    pub cut: u64,
    /// Attempts per request on the sick provider, over the whole scenario: its attempts, divided by the requests that
    /// reached it at least once. 1 if none did. Of several sick providers, the worst.
    pub amplification: f64,
    /// The number of switches to another tier, excluding the primary's returns.
    #[serde(default)]
    pub switches: u64,
    /// The seconds from the end of the last fault at the primary until it serves all of its own traffic again. 0 if
    /// nothing was wrong with it; `None` if it did not recover before the scenario's end, or no request came after the
    /// fault's.
    pub recovery_s: Option<f64>,
    /// The median time to the first token of answered requests, in milliseconds; to the whole answer if it is no
    /// stream.
    pub p50_ms: f64,
    /// The 99th percentile of the same.
    pub p99_ms: f64,
    /// The cost of the answers, in US dollars, at list prices.
    pub cost: f64,
    /// The tiers, in order of preference.
    pub tiers: Vec<TierReport>,
    /// The share of the conversations' requests at the primary that met the deployment of the request before, where the
    /// provider's cache has the conversation. `None` without conversations, or if the primary has no deployments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<f64>,
    /// The scenario in 60 equal parts of time.
    pub timeline: Vec<Bucket>,
    /// The events in order of time, at most 200. Of more, those in the middle are left out.
    pub events: Vec<TimelineEvent>,
    /// The same traffic without steadfast; of a replayed log, first of all as it was recorded.
    pub baselines: Vec<Baseline>,
    /// The figures of the log that was replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<RecordedReport>,
}

/// The requests of a log, as they ended.
///
/// Every request counts in exactly one of [`answered`](Self::answered), [`degraded`](Self::degraded),
/// [`handed_off`](Self::handed_off), [`refused`](Self::refused) and [`lost`](Self::lost).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordedReport {
    /// The requests that arrived.
    pub requests: u64,
    /// Requests with an answer of full service, and those whose caller left within one.
    pub answered: u64,
    /// Requests with a lesser answer.
    pub degraded: u64,
    /// Requests that became a task for people.
    pub handed_off: u64,
    /// Requests that were wrong or without budget, and those whose caller left before an answer.
    pub refused: u64,
    /// Requests with any other error, and those whose stream broke.
    pub lost: u64,
    /// Calls that reached a provider.
    pub attempts: u64,
    /// The median time to the first token of answered requests, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile of the same.
    pub p99_ms: f64,
    /// The log's tiers, with their attempts, failures and answers.
    pub tiers: Vec<TierReport>,
    /// Sentences about what was passed over and what is assumed.
    pub notes: Vec<String>,
}

/// The results of one tier in a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TierReport {
    /// The tier's name.
    pub name: String,
    /// The tier's level: `full`, `reduced`, `basic`, `cached`, `canned`, `human`.
    pub level: String,
    /// Calls that reached its provider.
    pub attempts: u64,
    /// Failed calls among these, including streams that broke.
    pub failures: u64,
    /// Requests that it answered, or took over if it hands requests to people.
    pub answered: u64,
    /// The cost of its answers, in US dollars.
    pub cost: f64,
    /// Its deployments, in order; empty if it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deployments: Vec<DeploymentReport>,
}

/// The results of a deployment of a tier in a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeploymentReport {
    /// The deployment's name.
    pub name: String,
    /// Calls that reached its provider.
    pub attempts: u64,
    /// Failed calls among these, including streams that broke.
    pub failures: u64,
}

/// A part of a scenario's time. Requests count where they arrived.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bucket {
    /// Its beginning, in seconds from the scenario's beginning.
    pub from_s: f64,
    /// The requests that arrived.
    pub requests: u64,
    /// The requests among these that each tier answered, in the order of [`ScenarioReport::tiers`].
    pub by_tier: Vec<u64>,
    /// Calls that reached each tier's provider in this time, in the same order.
    pub attempts: Vec<u64>,
    /// The lost requests among these.
    pub lost: u64,
    /// The refused requests among these.
    pub refused: u64,
    /// The median time to the first token of answered requests, in milliseconds; 0 without any.
    pub p50_ms: f64,
    /// The 99th percentile of the same.
    pub p99_ms: f64,
    /// The state of each tier's circuit at its end: `closed`, `open`, `half-open`, or `-` for a tier without one.
    pub circuits: Vec<String>,
    /// The cost of the answers, in US dollars.
    pub cost: f64,
}

/// An event: a fault begins or ends, a circuit opens or closes, another tier serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TimelineEvent {
    /// The time, in seconds from the scenario's beginning.
    pub at_s: f64,
    /// A short description.
    pub what: String,
}

/// The same traffic against the same providers, without steadfast.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Baseline {
    /// `no resilience` calls the first tier once, and waits for 60 s. `retry loop` is a typical one: three more
    /// attempts, 1, 2 and 4 s after each failure of any kind, with 60 s for each. `recorded` is a replayed log.
    pub name: String,
    /// Requests with a whole answer.
    pub answered: u64,
    /// All other requests.
    pub lost: u64,
    /// Calls that reached the provider.
    pub attempts: u64,
    /// Attempts per request.
    pub amplification: f64,
    /// The median time to the first token of answered requests, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile of the same.
    pub p99_ms: f64,
    /// For each [`Bucket`] of the scenario: its beginning in seconds, and how many of its arrivals were answered and
    /// lost.
    pub timeline: Vec<(f64, u64, u64)>,
}

/// A missed target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SloMiss {
    /// The scenario's name.
    pub scenario: String,
    /// The target as given: `lost=0`.
    pub slo: String,
    /// The actual value: `3`.
    pub found: String,
}
