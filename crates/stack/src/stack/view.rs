use std::sync::Arc;

use super::StackHandle;
use steadfast::{BudgetHandle, BulkheadHandle, CacheHandle, CircuitBreakerHandle, prices::PriceTable};
use steadfast_subscribers::{ChainSetup, DeploymentStatus, StackView};

impl StackView for StackHandle {
    fn tiers(&self) -> Vec<(Arc<str>, Option<Arc<str>>)> {
        self.tiers().into_iter().map(|tier| (tier.name, tier.model)).collect()
    }

    fn chains(&self) -> Vec<ChainSetup> {
        self.shared.current.load().chains()
    }

    fn circuits(&self) -> Vec<CircuitBreakerHandle> {
        self.circuits().into_values().collect()
    }

    fn deployments(&self) -> Vec<(Arc<str>, DeploymentStatus)> {
        let of = |tier: Arc<str>| {
            let all = self.deployments(&tier).into_iter();
            all.map(move |it| (tier.clone(), DeploymentStatus::new(&it.status, &it.circuit)))
        };
        self.tiers().into_iter().flat_map(|tier| of(tier.name)).collect()
    }

    fn bulkhead(&self) -> BulkheadHandle {
        self.bulkhead()
    }

    fn budgets(&self) -> Vec<BudgetHandle> {
        self.budgets()
    }

    fn cache(&self) -> Option<CacheHandle> {
        self.cache()
    }

    fn prices(&self) -> PriceTable {
        self.prices()
    }

    fn drained(&self) -> Vec<Arc<str>> {
        self.drained()
    }

    fn pinned_level(&self) -> Option<u8> {
        self.pinned_level()
    }
}
