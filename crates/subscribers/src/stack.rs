//! A running stack, as subscribers see it.

use std::{fmt, sync::Arc};

use crate::status::{ChainSetup, DeploymentStatus};
use steadfast::{BudgetHandle, BulkheadHandle, CacheHandle, CircuitBreakerHandle, prices::PriceTable};

/// A stack that a subscriber looks at when it starts, and again after each reload.
///
/// `StackHandle` of `steadfast-stack` is one. Implement it for a stack of your own that changes while it runs.
pub trait StackView: fmt::Debug + Send + Sync + 'static {
    /// Returns each tier's name and, where it has one, its model, in order of preference.
    fn tiers(&self) -> Vec<(Arc<str>, Option<Arc<str>>)>;

    /// Returns the chains, that of most requests first. Default: one, of all tiers.
    fn chains(&self) -> Vec<ChainSetup> {
        let first = self.tiers().into_iter().next();
        let chain = |first: Arc<str>| ChainSetup { id: first.clone(), first, names: vec!["default".into()] };
        first.map(|(first, _)| chain(first)).into_iter().collect()
    }

    /// Returns each tier's circuit.
    fn circuits(&self) -> Vec<CircuitBreakerHandle>;

    /// Returns the deployments of the tiers, each with its tier's name. Default: none.
    fn deployments(&self) -> Vec<(Arc<str>, DeploymentStatus)> {
        Vec::new()
    }

    /// Returns the bulkhead around all tiers.
    fn bulkhead(&self) -> BulkheadHandle;

    /// Returns the budgets of the tiers, and of the whole.
    fn budgets(&self) -> Vec<BudgetHandle>;

    /// Returns the cache; `None` where there is none.
    fn cache(&self) -> Option<CacheHandle>;

    /// Returns the prices that costs are computed with.
    fn prices(&self) -> PriceTable;

    /// Returns the names of the tiers that were drained by hand.
    fn drained(&self) -> Vec<Arc<str>>;

    /// Returns the level that requests are stepped down to by hand; `None` where they are not.
    fn pinned_level(&self) -> Option<u8>;
}
