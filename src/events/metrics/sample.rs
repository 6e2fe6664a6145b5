//! What is read, not told: queues, permits, the time on a fallback.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{series::Registry, states::Switches, table};
use crate::BulkheadHandle;

/// Samples what changes by itself: bulkheads, and the time on a fallback. Clones are the same handle.
#[derive(Clone)]
pub struct MetricsHandle {
    registry: Registry,
    switches: Arc<Switches>,
    bulkheads: Arc<Mutex<Vec<BulkheadHandle>>>,
}

impl MetricsHandle {
    pub(super) fn new(registry: Registry, switches: Arc<Switches>) -> Self {
        Self { registry, switches, bulkheads: Arc::default() }
    }

    /// Reads everything now. Cheap: for each scrape, or every few seconds.
    pub fn sample(&self) {
        self.switches.sample(Instant::now());
        let bulkheads = self.bulkheads().clone();
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
    }

    /// Samples again and again, for a caller to spawn: needed where nobody scrapes. Never ends.
    pub async fn sample_every(self, period: Duration) {
        loop {
            self.sample();
            sleep(period.max(SHORTEST)).await;
        }
    }

    /// Samples these bulkheads from now on, in place of those before: after a reload.
    pub fn set_bulkheads(&self, bulkheads: Vec<BulkheadHandle>) {
        *self.bulkheads() = bulkheads;
    }

    pub(super) fn add_bulkhead(&self, bulkhead: BulkheadHandle) {
        self.bulkheads().push(bulkhead);
    }

    fn bulkheads(&self) -> MutexGuard<'_, Vec<BulkheadHandle>> {
        self.bulkheads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MetricsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsHandle").field("registry", &self.registry).finish_non_exhaustive()
    }
}

const SHORTEST: Duration = Duration::from_millis(10);
