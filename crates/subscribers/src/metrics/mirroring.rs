//! Metrics of mirrored requests.

use std::sync::Arc;

use super::{
    series::{Names, Registry},
    table,
};
use steadfast::events::{Comparison, ComparisonSide, ComparisonSkipReason};

#[derive(Debug)]
pub(super) struct Mirroring {
    registry: Registry,
    features: Names,
}

impl Mirroring {
    pub(super) fn new(registry: Registry, features: u16) -> Self {
        Self { registry, features: Names::new(features) }
    }

    /// Comparisons are rare, so each series is looked up every time.
    pub(super) fn record(&mut self, comparison: &Comparison) {
        let feature = self.features.name(comparison.feature.as_ref());
        let agrees = match comparison.agrees {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        let Comparison { primary, candidate, .. } = comparison;
        let labels = [
            self.features.text(feature),
            primary.outcome.name().into(),
            candidate.outcome.name().into(),
            agrees.into(),
        ];
        self.registry.counter(&table::MIRRORED, labels).increment(1);
        self.record_side("primary", primary);
        self.record_side("candidate", candidate);
    }

    /// Records a chosen request that could not be compared, with the reason.
    pub(super) fn record_not_compared(&mut self, feature: Option<&Arc<str>>, why: ComparisonSkipReason) {
        let feature = self.features.name(feature);
        let labels = [self.features.text(feature), why.name().into()];
        self.registry.counter(&table::MIRROR_NOT_COMPARED, labels).increment(1);
    }

    pub(super) fn set_feature_limit(&mut self, limit: u16) {
        self.features = Names::new(limit);
    }

    fn record_side(&self, name: &'static str, side: &ComparisonSide) {
        if let Some(first_token) = side.first_token {
            self.registry.histogram(&table::MIRROR_FIRST_TOKEN, [name.into()]).record(first_token);
        }
        if side.first_token.is_some() && side.outcome.kind().is_none() {
            self.registry.histogram(&table::MIRROR_DURATION, [name.into()]).record(side.took);
        }
        if let Some(kind) = side.outcome.kind() {
            self.registry.counter(&table::MIRROR_ERRORS, [name.into(), kind.name().into()]).increment(1);
        }
        if let Some(cost) = side.cost {
            self.registry.counter(&table::MIRROR_COST, [name.into()]).increment(cost.nanos());
        }
    }
}
