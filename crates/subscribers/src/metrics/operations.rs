//! Metrics of operations by hand.

use std::sync::Arc;

use super::{series::Registry, table};
use steadfast::events::Operation;

/// Tiers that are drained, and the level that is pinned for all requests.
#[derive(Debug)]
pub(super) struct Operations {
    registry: Registry,
}

impl Operations {
    pub(super) fn new(registry: Registry) -> Self {
        let operations = Self { registry };
        // A dashboard needs the series before the first operation.
        operations.count("drain", 0);
        operations
    }

    pub(super) fn record(&self, operation: &Operation) {
        self.count(operation.name(), 1);
        match operation {
            Operation::TierDrained { tier } => self.set_drained(tier, true),
            Operation::TierUndrained { tier } => self.set_drained(tier, false),
            Operation::LevelPinned { level, feature: None } => self.set_pinned(Some(*level)),
            Operation::LevelUnpinned { feature: None } => self.set_pinned(None),
            _ => {}
        }
    }

    fn count(&self, operation: &'static str, times: u64) {
        self.registry.counter(&table::OPERATIONS, [operation.into()]).increment(times);
    }

    pub(super) fn set_drained(&self, tier: &Arc<str>, drained: bool) {
        self.registry.gauge(&table::TIER_DRAINED, [tier.clone().into()]).set(if drained { 1.0 } else { 0.0 });
    }

    pub(super) fn set_pinned(&self, level: Option<u8>) {
        self.registry.gauge(&table::PINNED_LEVEL, []).set(f64::from(level.unwrap_or_default()));
    }
}
