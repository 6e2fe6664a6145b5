//! The table of metrics: name, kind, unit, help, labels and buckets.

use metrics::Unit;

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// A value that only grows.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// A distribution of values.
    Histogram,
}

/// A metric, as described to the recorder.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metric {
    /// The name. A Prometheus exporter writes a dot as `_`, and adds the unit to a name that lacks it.
    pub name: &'static str,
    /// The kind.
    pub kind: MetricKind,
    /// The unit of its values.
    pub unit: Option<Unit>,
    /// One sentence of description.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// The upper bounds of a histogram's buckets; empty for the others.
    pub buckets: &'static [f64],
}

impl Metric {
    const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: MetricKind::Counter, unit: None, help, labels, buckets: &[] }
    }

    const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: MetricKind::Gauge, unit: None, help, labels, buckets: &[] }
    }

    const fn seconds(
        name: &'static str,
        buckets: &'static [f64],
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: MetricKind::Histogram, unit: Some(Unit::Seconds), help, labels, buckets }
    }
}

/// All metrics, in the order of their documentation.
///
/// An exporter that sorts into buckets needs these bounds ([`Metric::buckets`]); see the [module's docs](super).
pub const METRICS: &[Metric] = &[
    REQUESTS,
    REQUEST_ERRORS,
    REQUEST_DURATION,
    FIRST_TOKEN,
    RESCUED,
    TRUNCATED,
    DEGRADED,
    ALL_TIERS_FAILED,
    ATTEMPTS,
    FAILURES,
    REFUSALS,
    RETRIES,
    HEDGES,
    DEAD_ATTEMPTS,
    OPERATION_DURATION,
    TIME_TO_FIRST_CHUNK,
    CIRCUIT_STATE,
    CIRCUIT_TRANSITIONS,
    CALLERS_HELD_APART,
    FALLBACK_ACTIVATIONS,
    ON_FALLBACK,
    FALLBACK_SECONDS,
    RECOVERY,
    QUEUE_DEPTH,
    PERMITS_IN_USE,
    PERMITS,
    TOKEN_USAGE,
    TOKENS,
    COST,
    TEAM_COST,
    FALLBACK_EXTRA_COST,
    FALLBACK_SAVED_COST,
    ROUTE_SAVED_COST,
    CACHED_ANSWERS,
    CACHE_SAVED_COST,
    CACHE_REQUESTS,
    CACHE_KEPT,
    CACHE_ANSWERS,
    CACHE_BYTES,
    BUDGET_SPENT,
    BUDGET_SHARED,
    BUDGET_RESERVED,
    BUDGET_LIMIT,
    DEPLOYMENT_CALLS,
    DEPLOYMENT_IN_FLIGHT,
    DEPLOYMENT_SERVES,
    DEPLOYMENT_HEADROOM,
    TIER_DRAINED,
    PINNED_LEVEL,
    STORE_AVAILABLE,
    CREDENTIALS_RENEWED,
    POSSIBLE_REPEATS,
    OPERATIONS,
    USAGE_REPLACED,
    HANDOFF,
    MIRRORED,
    MIRROR_NOT_COMPARED,
    MIRROR_FIRST_TOKEN,
    MIRROR_DURATION,
    MIRROR_ERRORS,
    MIRROR_COST,
    RELOADS,
    EVENTS_LOST,
];

pub(super) const REQUESTS: Metric = Metric::counter(
    "steadfast_requests_total",
    &["feature", "outcome"],
    "Ended requests: answered, failed, broken (after the first token) or abandoned (by the caller).",
);
pub(super) const REQUEST_ERRORS: Metric = Metric::counter(
    "steadfast_request_errors_total",
    &["feature", "kind"],
    "Failed or broken requests, by the kind of the caller's error.",
);
pub(super) const REQUEST_DURATION: Metric = Metric::seconds(
    "steadfast_request_duration_seconds",
    SECONDS,
    &["tier", "outcome"],
    "Time from the call to the end of the answer, failed attempts included, by the tier that served.",
);
pub(super) const FIRST_TOKEN: Metric = Metric::seconds(
    "steadfast_first_token_seconds",
    SECONDS,
    &["tier"],
    "Time from the call to the first token of a stream, failed attempts included: the caller's wait.",
);
pub(super) const RESCUED: Metric = Metric::counter(
    "steadfast_rescued_requests_total",
    &["tier", "by", "stream"],
    "Requests answered after a failure, by retry (same tier) or fallback (another).",
);
pub(super) const TRUNCATED: Metric = Metric::counter(
    "steadfast_truncated_streams_total",
    &["tier", "kind"],
    "Answers that broke after their first token, of which the caller received a part.",
);
pub(super) const DEGRADED: Metric = Metric::counter(
    "steadfast_degraded_answers_total",
    &["tier"],
    "Answers of a lower level than requested, such as a canned text.",
);
pub(super) const ALL_TIERS_FAILED: Metric = Metric::counter(
    "steadfast_all_tiers_failed_total",
    &["feature", "kind"],
    "Requests that every tier failed, by the kind of the leading error.",
);
pub(super) const ATTEMPTS: Metric = Metric::counter(
    "steadfast_attempts_total",
    &["tier", "provider", "model"],
    "Calls sent to a provider, retries included, without calls refused before sending.",
);
pub(super) const FAILURES: Metric = Metric::counter(
    "steadfast_attempt_failures_total",
    &["tier", "provider", "model", "kind"],
    "Calls sent to a provider that failed, by kind.",
);
pub(super) const REFUSALS: Metric = Metric::counter(
    "steadfast_refused_calls_total",
    &["tier", "kind"],
    "Calls refused before sending, for example by an open circuit.",
);
pub(super) const RETRIES: Metric = Metric::counter(
    "steadfast_retries_total",
    &["tier", "kind"],
    "Calls repeated at the same tier, by the kind of the failure before.",
);
pub(super) const HEDGES: Metric = Metric::counter(
    "steadfast_hedges_total",
    &["tier", "to", "outcome"],
    "Second calls sent because the first was late or failed, by outcome: won (it answered), lost.",
);
pub(super) const DEAD_ATTEMPTS: Metric = Metric::counter(
    "steadfast_dead_attempts_total",
    &["tier"],
    "Calls sent to a tier that did not answer the request in the end.",
);
pub(super) const OPERATION_DURATION: Metric = Metric::seconds(
    "gen_ai.client.operation.duration",
    OPERATION,
    &["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "error.type", "tier"],
    "Duration of one call to a provider, to the end of its answer; error_type is empty if it answered.",
);
pub(super) const TIME_TO_FIRST_CHUNK: Metric = Metric::seconds(
    "gen_ai.client.operation.time_to_first_chunk",
    OPERATION,
    &["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "tier"],
    "Time of one streamed call to a provider from its start to its first token.",
);
pub(super) const CIRCUIT_STATE: Metric = Metric::gauge(
    "steadfast_circuit_state",
    &["tier", "state"],
    "1 for the circuit's state (closed, open, half_open), 0 for the two others.",
);
pub(super) const CIRCUIT_TRANSITIONS: Metric = Metric::counter(
    "steadfast_circuit_transitions_total",
    &["tier", "state", "reason"],
    "Changes of a circuit to a state.",
);
pub(super) const CALLERS_HELD_APART: Metric = Metric::counter(
    "steadfast_callers_held_apart_total",
    &["tier"],
    "Callers whose calls a circuit began to hold apart: they fail there, and those of others do not.",
);
pub(super) const FALLBACK_ACTIVATIONS: Metric = Metric::counter(
    "steadfast_fallback_activations_total",
    &["from", "to", "reason"],
    "Changes of the tier that serves, away from the primary or on to a further tier.",
);
pub(super) const ON_FALLBACK: Metric = Metric::gauge(
    "steadfast_on_fallback",
    &["from"],
    "1 while another tier serves this chain, by its id in the status: its first tier, and what tells it from another one there; else 0.",
);
pub(super) const FALLBACK_SECONDS: Metric = Metric {
    unit: Some(Unit::Seconds),
    ..Metric::counter(
        "steadfast_fallback_seconds_total",
        &["from", "to"],
        "Seconds for which another tier served this chain in place of its first tier, the current time included.",
    )
};
pub(super) const RECOVERY: Metric = Metric::seconds(
    "steadfast_recovery_seconds",
    OUTAGE,
    &["tier"],
    "Time from a primary's last service to its return.",
);
pub(super) const QUEUE_DEPTH: Metric =
    Metric::gauge("steadfast_queue_depth", &["feature"], "Requests waiting for a place in the bulkhead.");
pub(super) const PERMITS_IN_USE: Metric =
    Metric::gauge("steadfast_permits_in_use", &["feature"], "Requests in flight in the bulkhead.");
pub(super) const PERMITS: Metric =
    Metric::gauge("steadfast_permits", &["feature"], "Requests that may be in flight in the bulkhead.");
pub(super) const TOKEN_USAGE: Metric = Metric {
    kind: MetricKind::Histogram,
    unit: Some(Unit::Count),
    buckets: TOKEN_COUNTS,
    ..Metric::counter(
        "gen_ai.client.token.usage",
        &["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.type", "tier"],
        "Tokens of one call, input or output.",
    )
};
pub(super) const TOKENS: Metric = Metric::counter(
    "steadfast_tokens_total",
    &["tier", "provider", "model", "type"],
    "Tokens: input and output; cache_read and cache_write are parts of input, reasoning of output.",
);
pub(super) const COST: Metric = Metric::counter(
    "steadfast_cost_nanodollars_total",
    &["tier", "provider", "model"],
    "Cost of answers, in billionths of a US dollar, where prices are known.",
);
pub(super) const TEAM_COST: Metric = Metric::counter(
    "steadfast_team_cost_nanodollars_total",
    &["team", "model"],
    "Cost of answers to keys of a team, in billionths of a US dollar, by the model that answered.",
);
pub(super) const FALLBACK_EXTRA_COST: Metric = Metric::counter(
    "steadfast_fallback_extra_cost_nanodollars_total",
    &["tier"],
    "Extra cost of fallback tiers' answers over the same tokens at the primary.",
);
pub(super) const FALLBACK_SAVED_COST: Metric = Metric::counter(
    "steadfast_fallback_saved_cost_nanodollars_total",
    &["tier"],
    "Saving of fallback tiers' answers over the same tokens at the primary.",
);
pub(super) const ROUTE_SAVED_COST: Metric = Metric::counter(
    "steadfast_route_saved_cost_nanodollars_total",
    &["route"],
    "Saving of requests that a rule sent to a cheaper chain, over their own chain.",
);
pub(super) const CACHED_ANSWERS: Metric = Metric::counter(
    "steadfast_cached_answers_total",
    &["feature", "why"],
    "Answers not made for their request: fresh, shared, stale, similar, or replayed (an idempotency key).",
);
pub(super) const CACHE_SAVED_COST: Metric = Metric::counter(
    "steadfast_cache_saved_cost_nanodollars_total",
    &["feature"],
    "Original cost of answers not made for their request, where prices are known.",
);
pub(super) const CACHE_REQUESTS: Metric = Metric::counter(
    "steadfast_cache_requests_total",
    &["result"],
    "Requests by the cache's outcome: hit, shared (another's call), miss (a call was made), stale, similar, bypass (not looked up).",
);
pub(super) const CACHE_KEPT: Metric =
    Metric::counter("steadfast_cache_kept_total", &[], "Answers stored by the cache, those deleted since included.");
pub(super) const CACHE_ANSWERS: Metric =
    Metric::gauge("steadfast_cache_answers", &[], "Answers in the cache, those too old to give included.");
pub(super) const CACHE_BYTES: Metric =
    Metric::gauge("steadfast_cache_bytes", &[], "Approximate size of the answers in the cache.");
pub(super) const BUDGET_SPENT: Metric = Metric::gauge(
    "steadfast_budget_spent_dollars",
    &["cap"],
    "Amount spent in this period; for a cap per key, by the key that has spent and reserved the most.",
);
pub(super) const BUDGET_RESERVED: Metric = Metric::gauge(
    "steadfast_budget_reserved_dollars",
    &["cap"],
    "Amount reserved for requests in flight; for a cap per key, by the key that has spent and reserved the most.",
);
pub(super) const BUDGET_SHARED: Metric = Metric::gauge(
    "steadfast_budget_shared",
    &["cap"],
    "1 where the amount spent is that of all replicas, which share a ledger, and 0 where it is this one's.",
);
pub(super) const BUDGET_LIMIT: Metric = Metric::gauge("steadfast_budget_limit_dollars", &["cap"], "The spending cap.");
pub(super) const DEPLOYMENT_CALLS: Metric = Metric::counter(
    "steadfast_deployment_calls_total",
    &["tier", "deployment", "outcome"],
    "Calls of a tier's deployment that ended: `answered` whole, or `failed`.",
);
pub(super) const DEPLOYMENT_IN_FLIGHT: Metric = Metric::gauge(
    "steadfast_deployment_in_flight",
    &["tier", "deployment"],
    "Requests that a tier's deployment serves; a stream counts until its end.",
);
pub(super) const DEPLOYMENT_SERVES: Metric = Metric::gauge(
    "steadfast_deployment_serves",
    &["tier", "deployment"],
    "1 while a tier's deployment takes new requests; 0 while it is open, throttled, full, without headroom or drained.",
);
pub(super) const DEPLOYMENT_HEADROOM: Metric = Metric::gauge(
    "steadfast_deployment_headroom_ratio",
    &["tier", "deployment"],
    "The share of a deployment's rate limits that is left, from 0 to 1; 1 if none is known.",
);
pub(super) const TIER_DRAINED: Metric = Metric::gauge(
    "steadfast_tier_drained",
    &["tier"],
    "1 while an operator has drained the tier, so that it takes no new requests.",
);
pub(super) const PINNED_LEVEL: Metric = Metric::gauge(
    "steadfast_pinned_level",
    &[],
    "The level of service (2 to 5) that an operator has pinned for all requests; 0 while none is.",
);
pub(super) const STORE_AVAILABLE: Metric = Metric::gauge(
    "steadfast_store_available",
    &["store"],
    "0 while a store fails and each process continues with its own knowledge; 1 once it is back.",
);
pub(super) const CREDENTIALS_RENEWED: Metric = Metric::gauge(
    "steadfast_credentials_renewed",
    &["source"],
    "0 while a source of credentials gives no new token; 1 once it does again.",
);
pub(super) const POSSIBLE_REPEATS: Metric = Metric::counter(
    "steadfast_possible_repeats_total",
    &["feature"],
    "Requests with an idempotency key whose call may have been made before, because no store could tell.",
);
pub(super) const OPERATIONS: Metric = Metric::counter(
    "steadfast_operations_total",
    &["operation"],
    "Operators' changes by hand: force_open, force_close, release, drain, undrain, pin_level, unpin_level, forget, \
     forget_owner.",
);
pub(super) const USAGE_REPLACED: Metric = Metric::counter(
    "steadfast_usage_replaced_total",
    &["provider", "model"],
    "Answers whose reported tokens cannot be right, by what passed: the estimate counts in their place.",
);
pub(super) const HANDOFF: Metric = Metric::counter(
    "steadfast_handoff_total",
    &["step"],
    "Steps of requests handed to people: queued, claimed, released, answered, redriven, refused (a limit is reached), forgotten, \
     not_delivered.",
);
pub(super) const MIRRORED: Metric = Metric::counter(
    "steadfast_mirrored_requests_total",
    &["feature", "primary", "candidate", "agrees"],
    "Compared mirrored requests, by each side's outcome and the answers' agreement: yes, no or unknown.",
);
pub(super) const MIRROR_NOT_COMPARED: Metric = Metric::counter(
    "steadfast_mirror_not_compared_total",
    &["feature", "reason"],
    "Requests chosen for mirroring but not compared: full, without_runtime, refused (nothing was sent), unpaired, panicked.",
);
pub(super) const MIRROR_FIRST_TOKEN: Metric = Metric::seconds(
    "steadfast_mirror_first_token_seconds",
    SECONDS,
    &["side"],
    "Time from the call to the response, or to a stream's first token, of each side of a mirrored request.",
);
pub(super) const MIRROR_DURATION: Metric = Metric::seconds(
    "steadfast_mirror_duration_seconds",
    SECONDS,
    &["side"],
    "Time from the call to the end of the answer, of each side of a mirrored request; the primary's at its reader's pace.",
);
pub(super) const MIRROR_ERRORS: Metric = Metric::counter(
    "steadfast_mirror_errors_total",
    &["side", "kind"],
    "Sides of mirrored requests that failed or broke, by kind.",
);
pub(super) const MIRROR_COST: Metric = Metric::counter(
    "steadfast_mirror_cost_nanodollars_total",
    &["side"],
    "Cost of each side of mirrored requests, in billionths of a US dollar, where prices are known.",
);
pub(super) const RELOADS: Metric = Metric::counter(
    "steadfast_config_reloads_total",
    &["outcome"],
    "Configurations that were loaded, or refused in favour of the one before.",
);
pub(super) const EVENTS_LOST: Metric = Metric::counter(
    "steadfast_events_lost_total",
    &[],
    "Events that these metrics lost because they lagged too far behind.",
);

/// The bounds that the conventions recommend for a call's duration.
const OPERATION: &[f64] = &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Bounds around limits that matter to a caller: a first token within a second or ten, attempts of 30 s, requests of 90
/// s.
const SECONDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 180.0, 600.0];
/// Bounds from a blip to a day.
const OUTAGE: &[f64] =
    &[1.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0, 86_400.0];
/// The bounds that the conventions recommend for the tokens of a call.
const TOKEN_COUNTS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
