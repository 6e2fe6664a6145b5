//! Metrics of the layers' work, through the [`metrics`] facade. Feature `metrics`.
//!
//! [`Metrics`] is a [`Subscriber`]: it follows the [`Events`](steadfast::Events) outside of the requests' way and
//! records to the application's recorder. [`METRICS`] is the table of all names.
//!
//! - **Names.** The GenAI semantic conventions' where they have one (`gen_ai.client.operation.duration`,
//!   `gen_ai.client.operation.time_to_first_chunk`, `gen_ai.client.token.usage`), and `steadfast_..` elsewhere. A
//!   Prometheus exporter writes dots as `_`; with its recommended naming the conventions' durations are
//!   `gen_ai_client_operation_duration_seconds`, as an OpenTelemetry collector writes them.
//! - **Labels.** Tiers, providers and error kinds are few. Values that callers can invent are bounded: the first 64
//!   [features](Metrics::feature_limit) and models have series of their own, and all others share the value `other`.
//!   The same holds for the first 200 deployments. An absent value is `none`.
//! - **Money** is counted in billionths of a dollar, because counters are whole numbers: divide by `1e9`.
//! - **Sampling.** [`MetricsHandle::sample`] reads values that change without an event (the time on a fallback, queues,
//!   budgets, the cache). Call it before each scrape, or every few seconds.
//! - **Upkeep.** The recorder manages its own memory between two scrapes. Without scrapes, call
//!   `PrometheusHandle::run_upkeep` every few seconds.
//!
//! `ops/` in the repository has a Grafana dashboard and Prometheus alert rules for these names.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
//! use steadfast::{Event, Events};
//! use steadfast_subscribers::metrics::{METRICS, Metrics};
//!
//! // the exporter: Prometheus' naming, and the buckets of each histogram
//! let mut builder = PrometheusBuilder::new().with_recommended_naming(true);
//! for metric in METRICS.iter().filter(|metric| !metric.buckets.is_empty()) {
//!     builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), metric.buckets)?;
//! }
//! let recorder = builder.build_recorder();
//! let page = recorder.handle();
//!
//! let events = Events::new(); // give clones of it to the layers
//! let metrics = Metrics::with_recorder(recorder).tier("sonnet").tier("gpt-4o");
//! let handle = metrics.handle();
//! let _subscription = events.follow(metrics);
//! # let at = tokio::time::Instant::now();
//! # events.send(Event::Reloaded { kept: 2, changed: 0, settings: Default::default(), at });
//! # tokio::task::yield_now().await;
//!
//! // for each scrape:
//! handle.sample();
//! let text = page.render();
//! assert!(text.contains(r#"steadfast_circuit_state{tier="sonnet",state="closed"} 1"#));
//! # assert!(text.contains("steadfast_config_reloads_total"));
//! # Ok(()) }
//! ```

mod deployments;
mod leaves;
mod mirroring;
mod operations;
mod requests;
mod sample;
mod series;
mod stack;
mod states;
mod success;
mod table;
mod teams;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use metrics::{Counter, Recorder};

use self::{
    mirroring::Mirroring,
    operations::Operations,
    requests::Requests,
    series::Registry,
    states::{Budgets, Circuits, Switches},
};
pub use self::{
    sample::MetricsHandle,
    table::{METRICS, Metric, MetricKind},
};
use crate::chains::{Chains, Change};
use steadfast::{
    BudgetHandle, BulkheadHandle, CacheHandle, CircuitBreakerHandle,
    events::{CircuitState, Event, RequestEnded, Subscriber},
    prices::PriceTable,
};

/// A subscriber that records events as metrics. See the [module's docs](self).
///
/// An event like an earlier one is recorded without an allocation, a lock or formatting.
pub struct Metrics {
    registry: Registry,
    circuits: Circuits,
    circuit_handles: Vec<CircuitBreakerHandle>,
    budgets: Budgets,
    requests: Requests,
    switches: Arc<Switches>,
    operations: Operations,
    mirroring: Mirroring,
    handle: MetricsHandle,
    lost: Counter,
    /// Read again after each reload.
    stack: Option<Arc<dyn crate::StackView>>,
    chains: Chains,
}

impl Metrics {
    /// Creates metrics for the recorder that is current when a series is first used: install it before.
    pub fn new() -> Self {
        Self::build(Registry::default())
    }

    /// Creates metrics for this recorder, regardless of the process's own.
    pub fn with_recorder(recorder: impl Recorder + Send + Sync + 'static) -> Self {
        Self::build(Registry::of(recorder))
    }

    fn build(registry: Registry) -> Self {
        registry.describe();
        let switches = Arc::new(Switches::new(registry.clone()));
        let lost = registry.counter(&table::EVENTS_LOST, []);
        lost.increment(0);
        Self {
            circuits: Circuits::new(registry.clone()),
            circuit_handles: Vec::new(),
            budgets: Budgets::new(registry.clone()),
            requests: Requests::new(registry.clone(), MOST_FEATURES),
            handle: MetricsHandle::new(registry.clone(), switches.clone()),
            switches,
            operations: Operations::new(registry.clone()),
            mirroring: Mirroring::new(registry.clone(), MOST_FEATURES),
            lost,
            stack: None,
            chains: Chains::default(),
            registry,
        }
    }

    /// Names a tier before its first event, the primary first. Its circuit is closed and it serves for no primary.
    /// Without this, a tier's series begin with its first event.
    #[must_use]
    pub fn tier(mut self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.circuits.set(&name, CircuitState::Closed);
        self.switches.add_chain(&name);
        self
    }

    /// Reads a circuit's state at the start, and again whenever events were lost.
    #[must_use]
    pub fn circuit(mut self, circuit: CircuitBreakerHandle) -> Self {
        self.circuits.read(&circuit);
        self.circuit_handles.push(circuit);
        self
    }

    /// Samples a bulkhead's queues and permits. See [`MetricsHandle::set_bulkheads`] to change them later.
    #[must_use]
    pub fn bulkhead(self, bulkhead: BulkheadHandle) -> Self {
        self.handle.add_bulkhead(bulkhead);
        self
    }

    /// Samples the spending of a budget. Without it, metrics show the spending only when a share of a cap is used up.
    /// See [`MetricsHandle::set_budgets`] to change them later.
    #[must_use]
    pub fn budget(self, budget: BudgetHandle) -> Self {
        self.handle.add_budget(budget);
        self
    }

    /// Samples the outcomes of a cache's requests and its size. See [`MetricsHandle::set_cache`] to change it later.
    #[must_use]
    pub fn cache(self, cache: CacheHandle) -> Self {
        self.handle.set_cache(Some(cache));
        self
    }

    /// Sets the prices for the extra cost or saving of running on a fallback. Default: the crate's own.
    #[must_use]
    pub fn prices(mut self, prices: PriceTable) -> Self {
        self.requests.set_prices(prices);
        self
    }

    /// Sets the number of features with series of their own; all further ones share the value `other`. Default: 64.
    #[must_use]
    pub fn feature_limit(mut self, limit: u16) -> Self {
        self.requests.set_feature_limit(limit);
        self.mirroring.set_feature_limit(limit);
        self
    }

    /// Returns a handle that samples values which change without an event. Clones share it.
    pub fn handle(&self) -> MetricsHandle {
        self.handle.clone()
    }

    #[inline]
    fn request_ended(&mut self, request: &RequestEnded) {
        self.requests.record(request);
        if let Some(change) = self.chains.ended(request) {
            self.record_change(change);
        }
    }

    /// Records a change that requests show before an event does, or in place of a lost one.
    #[cold]
    fn record_change(&self, change: Change) {
        match change {
            Change::Away { chain, to, since } => self.switches.record_away(&chain, &to, since),
            Change::Home { chain, began, .. } => drop(self.switches.record_home(&chain, began)),
        }
    }

    fn record_reload(&self, outcome: &'static str) {
        self.registry.counter(&table::RELOADS, [outcome.into()]).increment(1);
    }
}

impl Subscriber for Metrics {
    fn event(&mut self, event: &Event) {
        self.record(event);
        self.requests.flush();
    }

    fn events(&mut self, events: &[Event]) {
        for event in events {
            // Nearly all events are of this kind; the other arms together are larger code than this one.
            match event {
                Event::RequestEnded(request) => self.request_ended(request),
                other => self.record(other),
            }
        }
        self.requests.flush();
    }

    fn lost(&mut self, events: u64) {
        self.lost.increment(events);
        self.chains.lost();
        for circuit in &self.circuit_handles {
            self.circuits.read(circuit);
        }
        // The lost events may include a reload.
        self.read_stack();
    }
}

impl Metrics {
    fn record(&mut self, event: &Event) {
        match event {
            Event::RequestEnded(request) => self.request_ended(request),
            Event::ModelSwitched { chain, first, from, to, reason, at, .. } => {
                self.chains.switched(chain, first, to, *at);
                self.switches.count_switch(from, to, *reason);
                self.switches.record_away(chain, to, *at);
            }
            Event::ModelRecovered { chain, from, to, after, at } => {
                self.chains.recovered(chain);
                self.switches.record_recovery(chain, [from, to], *after, *at);
            }
            Event::CallerHeldApart { circuit, .. } => {
                self.registry.counter(&table::CALLERS_HELD_APART, [circuit.clone().into()]).increment(1);
            }
            Event::CircuitChanged { circuit, to, reason, .. } => self.circuits.record_change(circuit, *to, *reason),
            Event::AllTiersFailed { feature, reason, .. } => self.requests.record_all_failed(feature.as_ref(), *reason),
            Event::Hedged { tier, to, won, .. } => {
                let outcome = if *won { "won" } else { "lost" };
                let labels = [tier.clone().into(), to.clone().into(), outcome.into()];
                self.registry.counter(&table::HEDGES, labels).increment(1);
            }
            // Sampling reports these more precisely.
            Event::BudgetReached { .. } | Event::BudgetReset { .. } if self.handle.has_budgets() => {}
            Event::BudgetReached { cap, spent, reserved, limit, resets_at, .. } => {
                self.budgets.record_reached(cap, [*spent, *reserved], *limit, *resets_at);
            }
            Event::BudgetReset { cap, at, .. } => self.budgets.record_reset(cap, *at),
            Event::Operated { operation, .. } => self.operations.record(operation),
            Event::Mirrored(comparison) => self.mirroring.record(comparison),
            Event::NotCompared { feature, why, .. } => self.mirroring.record_not_compared(feature.as_ref(), *why),
            Event::HandoffWaiting { .. }
            | Event::LateResult { .. }
            | Event::ParameterRefused { .. }
            | Event::RecoveryChecked { .. } => {}
            Event::UsageReplaced { provider, model, .. } => {
                let model = model.clone().unwrap_or_else(|| "".into());
                self.registry.counter(&table::USAGE_REPLACED, [provider.clone().into(), model.into()]).increment(1);
            }
            Event::HandedOver(handed) => {
                self.registry.counter(&table::HANDOFF, [handed.step.name().into()]).increment(1)
            }
            Event::Reloaded { .. } => {
                self.record_reload("loaded");
                self.read_stack();
            }
            Event::StoreChanged { store, available, .. } => {
                let gauge = self.registry.gauge(&table::STORE_AVAILABLE, [store.clone().into()]);
                gauge.set(if *available { 1.0 } else { 0.0 });
            }
            Event::CredentialsFailed { source, .. } => {
                self.registry.gauge(&table::CREDENTIALS_RENEWED, [source.clone().into()]).set(0.0);
            }
            Event::CredentialsRenewed { source, .. } => {
                self.registry.gauge(&table::CREDENTIALS_RENEWED, [source.clone().into()]).set(1.0);
            }
            Event::ReloadRefused { .. } => self.record_reload("refused"),
            // A kind of event that is younger than this package.
            _ => {}
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("registry", &self.registry).finish_non_exhaustive()
    }
}

const MOST_FEATURES: u16 = 64;
