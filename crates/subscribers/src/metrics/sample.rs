//! Sampled metrics: queues, permits, budgets, the time on a fallback.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    deployments::{self, DeploymentSeries},
    series::Registry,
    states::Switches,
    table,
};
use crate::StackView;
use steadfast::{
    BudgetHandle, BulkheadHandle, CacheHandle,
    layers::{budget::CapSpend, cache::CacheStats},
};
use steadfast_internal::sync::{Mutex, MutexGuard, lock};

/// A handle that samples values which change without an event: bulkheads, budgets, the cache, and the time on a
/// fallback. Clones are the same handle.
#[derive(Clone)]
pub struct MetricsHandle {
    registry: Registry,
    switches: Arc<Switches>,
    sources: Arc<Mutex<Sources>>,
    deployments: Arc<Mutex<DeploymentSeries>>,
}

/// The sources of each sample.
#[derive(Clone, Default)]
struct Sources {
    bulkheads: Vec<BulkheadHandle>,
    budgets: Vec<BudgetHandle>,
    cache: Option<CacheHandle>,
    /// The cache's counts that the counters already include.
    counted_stats: CacheStats,
}

impl MetricsHandle {
    pub(super) fn new(registry: Registry, switches: Arc<Switches>) -> Self {
        Self { registry, switches, sources: Arc::default(), deployments: Arc::default() }
    }

    /// Reads all values now. It is cheap enough for each scrape, or every few seconds.
    pub fn sample(&self) {
        self.switches.sample(Instant::now());
        self.sample_cache();
        deployments::sample(&self.deployments, &self.registry);
        let Sources { bulkheads, budgets, .. } = self.sources().clone();
        // One feature may have a place in several bulkheads.
        let mut features = BTreeMap::<Option<Arc<str>>, [usize; 3]>::new();
        for load in bulkheads.iter().flat_map(BulkheadHandle::snapshot) {
            let sums = features.entry(load.feature).or_default();
            for (sum, count) in sums.iter_mut().zip([load.queued, load.in_flight, load.limit]) {
                *sum = sum.saturating_add(count);
            }
        }
        for (feature, counts) in features {
            for (metric, count) in [table::QUEUE_DEPTH, table::PERMITS_IN_USE, table::PERMITS].iter().zip(counts) {
                let label = feature.clone().map_or_else(|| "default".into(), Into::into);
                self.registry.gauge(metric, [label]).set(count as f64);
            }
        }
        // A cap per key shows the key that has spent the most: it is the first to meet the limit.
        let mut caps = BTreeMap::<Arc<str>, CapSpend>::new();
        for spend in budgets.iter().flat_map(BudgetHandle::snapshot) {
            let used = |spend: &CapSpend| spend.spent + spend.reserved;
            match caps.get(&spend.cap) {
                Some(most) if used(most) >= used(&spend) => {}
                _ => _ = caps.insert(spend.cap.clone(), spend),
            }
        }
        for (cap, CapSpend { spent, reserved, limit, shared, .. }) in caps {
            self.registry.gauge(&table::BUDGET_SPENT, [cap.clone().into()]).set(spent.dollars());
            self.registry.gauge(&table::BUDGET_RESERVED, [cap.clone().into()]).set(reserved.dollars());
            self.registry.gauge(&table::BUDGET_SHARED, [cap.clone().into()]).set(f64::from(u8::from(shared)));
            self.registry.gauge(&table::BUDGET_LIMIT, [cap.into()]).set(limit.dollars());
        }
    }

    /// Adds the change since the last sample. A counter cannot be set, because the cache may be another one by now.
    fn sample_cache(&self) {
        let mut sources = self.sources();
        let Some(cache) = sources.cache.clone() else { return };
        let now = cache.stats();
        let was = std::mem::replace(&mut sources.counted_stats, now);
        drop(sources);
        for (result, was, now) in [
            ("hit", was.hits, now.hits),
            ("shared", was.shared, now.shared),
            ("miss", was.misses, now.misses),
            ("stale", was.stale, now.stale),
            ("similar", was.similar, now.similar),
            ("bypass", was.passed_by, now.passed_by),
        ] {
            self.registry.counter(&table::CACHE_REQUESTS, [result.into()]).increment(now.saturating_sub(was));
        }
        self.registry.counter(&table::CACHE_KEPT, []).increment(now.kept.saturating_sub(was.kept));
        self.registry.gauge(&table::CACHE_ANSWERS, []).set(cache.len() as f64);
        self.registry.gauge(&table::CACHE_BYTES, []).set(cache.bytes() as f64);
    }

    /// Samples at an interval, without end, for a caller to spawn. Needed where there are no scrapes.
    pub async fn sample_every(self, period: Duration) {
        loop {
            self.sample();
            sleep(period.max(SHORTEST)).await;
        }
    }

    /// Replaces the sampled bulkheads, after a reload.
    pub fn set_bulkheads(&self, bulkheads: Vec<BulkheadHandle>) {
        self.sources().bulkheads = bulkheads;
    }

    /// Replaces the sampled budgets, after a reload.
    pub fn set_budgets(&self, budgets: Vec<BudgetHandle>) {
        self.sources().budgets = budgets;
    }

    /// Replaces the sampled cache, after a reload. `None` means that there is none any more.
    pub fn set_cache(&self, cache: Option<CacheHandle>) {
        let mut sources = self.sources();
        let goes_on = cache.as_ref().zip(sources.cache.as_ref()).is_some_and(|(cache, known)| cache.is(known));
        if !goes_on {
            sources.counted_stats = CacheStats::default();
        }
        let emptied = cache.is_none() && sources.cache.is_some();
        sources.cache = cache;
        drop(sources);
        if emptied {
            self.registry.gauge(&table::CACHE_ANSWERS, []).set(0.0);
            self.registry.gauge(&table::CACHE_BYTES, []).set(0.0);
        }
    }

    /// Samples the deployments of this stack, while it is there.
    pub(super) fn follow_deployments(&self, stack: Weak<dyn StackView>) {
        lock(&self.deployments).follow(stack);
    }

    #[cfg(test)]
    pub(super) fn record_deployments(&self, now: Vec<(Arc<str>, crate::status::DeploymentStatus)>) {
        lock(&self.deployments).record(now, &self.registry);
    }

    pub(super) fn add_bulkhead(&self, bulkhead: BulkheadHandle) {
        self.sources().bulkheads.push(bulkhead);
    }

    pub(super) fn add_budget(&self, budget: BudgetHandle) {
        self.sources().budgets.push(budget);
    }

    pub(super) fn has_budgets(&self) -> bool {
        !self.sources().budgets.is_empty()
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        lock(&self.sources)
    }
}

impl fmt::Debug for MetricsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsHandle").field("registry", &self.registry).finish_non_exhaustive()
    }
}

const SHORTEST: Duration = Duration::from_millis(10);
