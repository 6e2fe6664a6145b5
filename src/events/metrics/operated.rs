//! Metrics of operations by hand.

use std::sync::Arc;

use super::{series::Registry, table};
use crate::events::Operation;

/// Tiers that are drained, and the level that is pinned for all requests.
#[derive(Debug)]
pub(super) struct Operated {
    registry: Registry,
}

impl Operated {
    pub(super) fn new(registry: Registry) -> Self {
        let operated = Self { registry };
        // A dashboard needs the series before the first operation.
        operated.count("drain", 0);
        operated
    }

    pub(super) fn operated(&self, operation: &Operation) {
        self.count(operation.name(), 1);
        match operation {
            Operation::TierDrained { tier } => self.drained(tier, true),
            Operation::TierUndrained { tier } => self.drained(tier, false),
            Operation::LevelPinned { level, feature: None } => self.pinned(Some(*level)),
            Operation::LevelUnpinned { feature: None } => self.pinned(None),
            _ => {}
        }
    }

    fn count(&self, operation: &'static str, times: u64) {
        self.registry.counter(&table::OPERATIONS, [operation.into()]).increment(times);
    }

    pub(super) fn drained(&self, tier: &Arc<str>, drained: bool) {
        self.registry.gauge(&table::TIER_DRAINED, [tier.clone().into()]).set(if drained { 1.0 } else { 0.0 });
    }

    pub(super) fn pinned(&self, level: Option<u8>) {
        self.registry.gauge(&table::PINNED_LEVEL, []).set(f64::from(level.unwrap_or_default()));
    }
}
