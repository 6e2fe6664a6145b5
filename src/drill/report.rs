//! What a drill found: plain data, which JSON prints and tables and pages are drawn from.

use serde::{Deserialize, Serialize};

use super::slo::SloMiss;

/// What a [drill](super) found.
///
/// It is a value, so that a program can judge it, keep it as JSON, and read it again. The same configuration, scenarios and seed give
/// the same report, byte for byte. Fields are only ever added; where one changes its meaning, [`version`](Self::version) goes up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The version of this form: 1.
    pub version: u32,
    /// Where all draws began: arrivals, latencies, faults, jitter.
    pub seed: u64,
    /// One for each scenario, in the order they were asked for.
    pub scenarios: Vec<ScenarioReport>,
    /// The targets that were missed; empty if there were none.
    pub missed: Vec<SloMiss>,
}

/// What one scenario did to the configuration.
///
/// Every request is counted in exactly one of [`answered`](Self::answered), [`degraded`](Self::degraded),
/// [`handed_off`](Self::handed_off), [`refused`](Self::refused) and [`lost`](Self::lost).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScenarioReport {
    /// The scenario's name.
    pub name: String,
    /// What happens in it, in a sentence or two.
    pub about: String,
    /// The incident that it replays; empty if none.
    pub source: String,
    /// How long it lasts, in seconds.
    pub lasts_s: f64,
    /// The time of day at its beginning, in seconds since midnight (UTC), where the scenario says one.
    pub clock_s: Option<f64>,
    /// Requests that arrived.
    pub requests: u64,
    /// Those with a whole answer of a model that is no worse than the first tier's level.
    pub answered: u64,
    /// Those with a whole answer of a lesser level: a lesser model, an answer that was kept, a fixed text.
    pub degraded: u64,
    /// Those that became a durable task for a person.
    pub handed_off: u64,
    /// Those with an error that they deserve: what the scenario's callers ask wrongly, what its own limits refuse of a feature that
    /// runs away, what no money is left for under a cap, and what is refused to a pinned session rather than answered by another
    /// model.
    pub refused: u64,
    /// Those with any other error, and those whose stream broke.
    pub lost: u64,
    /// Of [`lost`](Self::lost), those whose stream broke after its first token: an honest error, but no answer.
    pub cut: u64,
    /// Attempts for each request on the sick provider, over the whole scenario: its attempts, divided by the requests of which it got
    /// one or more. 1 if it got none. Of several sick providers, the worst.
    pub amplification: f64,
    /// How often another tier was told to serve than before, the primary's returns left out.
    #[serde(default)]
    pub switches: u64,
    /// From the end of the last fault at the primary until it serves again all that is its own, in seconds. 0 if nothing was wrong with
    /// it, `None` if it did not before the scenario's end, or nobody asked after the fault's.
    pub recovery_s: Option<f64>,
    /// The time to the first token (to the whole answer, where it is no stream), in milliseconds, of requests that were answered: the median.
    pub p50_ms: f64,
    /// The same, the 99th percentile.
    pub p99_ms: f64,
    /// What the answers cost, in US dollars, at list prices.
    pub cost: f64,
    /// The tiers, in order of preference.
    pub tiers: Vec<TierReport>,
    /// The scenario in 60 equal pieces of time.
    pub timeline: Vec<Bucket>,
    /// What happened, in order of time: at most 200. Of more, those in the middle are left out.
    pub events: Vec<TimelineEvent>,
    /// The same traffic without steadfast.
    pub baselines: Vec<Baseline>,
}

/// What one tier did in a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TierReport {
    /// Its name.
    pub name: String,
    /// Its level: `full`, `reduced`, `basic`, `cached`, `canned`, `human`.
    pub level: String,
    /// Calls that reached its provider.
    pub attempts: u64,
    /// Of these, those that failed; streams that broke included.
    pub failures: u64,
    /// Requests that it answered (took, if it hands over to people).
    pub answered: u64,
    /// What its answers cost, in US dollars.
    pub cost: f64,
}

/// A piece of a scenario's time. Requests are counted where they arrived.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bucket {
    /// When it begins, in seconds from the scenario's beginning.
    pub from_s: f64,
    /// Requests that arrived.
    pub requests: u64,
    /// Of these, those that each tier answered, in the order of [`ScenarioReport::tiers`].
    pub by_tier: Vec<u64>,
    /// Calls that reached each tier's provider in this time, in the same order.
    pub attempts: Vec<u64>,
    /// Of the requests, those that were lost.
    pub lost: u64,
    /// Of the requests, those that were refused.
    pub refused: u64,
    /// The time to the first token in milliseconds, of those that were answered: the median. 0 if none was.
    pub p50_ms: f64,
    /// The same, the 99th percentile.
    pub p99_ms: f64,
    /// The state of each tier's circuit at its end: `closed`, `open`, `half-open`, or `-` for a tier without one.
    pub circuits: Vec<String>,
    /// What the answers cost, in US dollars.
    pub cost: f64,
}

/// Something that happened: a fault begins or ends, a circuit opens or closes, another tier serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TimelineEvent {
    /// When, in seconds from the scenario's beginning.
    pub at_s: f64,
    /// What, in a few words.
    pub what: String,
}

/// The same traffic against the same providers, without steadfast.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Baseline {
    /// `no resilience`: the first tier is called once, and waited for 60 s. `retry loop`: what most people write: three more attempts, 1, 2 and 4 s
    /// after each failure of any kind, 60 s for each.
    pub name: String,
    /// Requests with a whole answer.
    pub answered: u64,
    /// All others.
    pub lost: u64,
    /// Calls that reached the provider.
    pub attempts: u64,
    /// Attempts for each request.
    pub amplification: f64,
    /// The time to the first token in milliseconds, of those that were answered: the median.
    pub p50_ms: f64,
    /// The same, the 99th percentile.
    pub p99_ms: f64,
    /// For each [`Bucket`] of the scenario: when it begins in seconds, and of the requests that arrived in it, how many were answered and lost.
    pub timeline: Vec<(f64, u64, u64)>,
}
