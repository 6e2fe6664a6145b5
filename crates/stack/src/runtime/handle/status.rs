//! The status of a running stack, and the view from which a board shows it.

use std::sync::Arc;

use tokio::time::Instant;

use super::StackHandle;
use steadfast::{
    BudgetHandle, BulkheadHandle, CacheHandle, CircuitBreakerHandle, events::CircuitState, prices::PriceTable,
};
use steadfast_internal::wall_clock;
use steadfast_subscribers::{CacheStatus, ChainSetup, DeploymentStatus, StackView, Status, TierHealth};

impl StackHandle {
    /// Returns which tier serves, each tier's state, and the latest switches.
    ///
    /// The stack's events keep the status from the first call on, in a task that ends with the stack. Earlier events
    /// are unknown, so call this once after building the stack.
    ///
    /// # Panics
    ///
    /// Panics if the first call is outside of a tokio runtime.
    pub fn status(&self) -> Status {
        let mut status = self.shared.status().snapshot();
        self.add_orders(&mut status);
        status
    }

    /// Adds the models, the manual orders, the circuits' next probes and the cache's figures to the status. They come
    /// from their owners, because events may have been lost, or sent before the first subscriber.
    fn add_orders(&self, status: &mut Status) {
        let orders = self.fallback();
        status.pinned_level = orders.pinned_level();
        status.cache = self.cache().as_ref().map(CacheStatus::from);
        let drained = orders.drained();
        for tier in self.tiers() {
            let Some(model) = tier.model else { continue };
            let whole =
                [(&status.active_tier, &mut status.active_model), (&status.primary_tier, &mut status.primary_model)];
            let chains = status.chains.iter_mut().map(|chain| (&chain.active_tier, &mut chain.active_model));
            for (of, id) in whole.into_iter().chain(chains) {
                if *of == *tier.name {
                    *id = model.as_ref().into();
                }
            }
            if let Some(shown) = status.tiers.iter_mut().find(|shown| *shown.name == *tier.name) {
                shown.model = Some(model.as_ref().into());
            }
        }
        let (now, since_1970) = (Instant::now(), wall_clock::since_1970());
        for (name, circuit) in self.shared.current.load().tiers.circuits() {
            let Some(tier) = status.tiers.iter_mut().find(|tier| *tier.name == *name) else { continue };
            tier.drained = drained.contains(&name);
            tier.forced = circuit.forced().map(CircuitState::name);
            let deployments = self.deployments(&name).into_iter();
            tier.deployments = deployments.map(|it| DeploymentStatus::new(&it.status, &it.circuit)).collect();
            // Its own circuit opens by hand only: the deployments' say that it is down.
            if !tier.deployments.is_empty() && tier.deployments.iter().all(|it| it.health == TierHealth::Down) {
                tier.health = TierHealth::Down;
            }
            let until = circuit.earliest_probe().filter(|_| circuit.state() == CircuitState::Open);
            tier.circuit_until = until.map(|at| wall_clock::rfc3339(since_1970 + at.saturating_duration_since(now)));
        }
    }
}

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
