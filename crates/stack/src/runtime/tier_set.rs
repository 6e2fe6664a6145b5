//! The tiers of a generation.

use std::sync::Arc;

use super::{
    TierInfo,
    parts::{deployments::BalancedTier, tier_runtime::TierRuntime},
};
use crate::{Config, Tier};
use steadfast::CircuitBreakerHandle;

/// The tiers of a generation, in the configuration's order.
pub(super) struct TierSet {
    pub(super) conversations: Vec<TierRuntime>,
    /// The tiers of paths that are no conversation.
    pub(super) lane: Vec<TierRuntime>,
}

impl TierSet {
    /// Returns the tiers of conversations, then those of the lane.
    pub(super) fn iter(&self) -> impl Iterator<Item = &TierRuntime> {
        self.conversations.iter().chain(&self.lane)
    }

    pub(super) fn get(&self, name: &str) -> Option<&TierRuntime> {
        self.iter().find(|runtime| &*runtime.name == name)
    }

    /// Returns the primary's name, and the other tiers' names in order.
    pub(super) fn names(&self) -> (Arc<str>, Vec<Arc<str>>) {
        let mut names = self.iter().map(|runtime| runtime.name.clone());
        let primary = names.next().expect("a plan has at least one tier");
        (primary, names.collect())
    }

    /// Returns what their configuration says of the tiers.
    pub(super) fn infos(&self, config: &Config) -> impl Iterator<Item = TierInfo> {
        let info = |(runtime, tier): (&TierRuntime, &Tier)| TierInfo {
            name: runtime.name.clone(),
            provider: tier.provider,
            model: tier.model.as_deref().map(Into::into),
            level: tier.service_level(),
        };
        self.iter().zip(config.all_tiers()).map(info)
    }

    pub(super) fn circuits(&self) -> impl Iterator<Item = (Arc<str>, CircuitBreakerHandle)> {
        self.iter().map(|runtime| (runtime.name.clone(), runtime.breaker.handle()))
    }

    /// Returns the names of all deployments' circuits.
    pub(super) fn deployment_names(&self) -> Vec<Arc<str>> {
        let balances = self.conversations.iter().filter_map(TierRuntime::balance);
        balances.flat_map(BalancedTier::circuits).map(|circuit| circuit.name()).collect()
    }

    /// Returns the circuit of a deployment `TIER/DEPLOYMENT`.
    pub(super) fn deployment_circuit(&self, name: &str) -> Option<CircuitBreakerHandle> {
        let (balance, deployment) = self.deployment(name)?;
        balance.circuit(deployment)
    }

    /// Returns the tier of a deployment `TIER/DEPLOYMENT`, with the deployment's name.
    pub(super) fn deployment<'a>(&self, name: &'a str) -> Option<(&BalancedTier, &'a str)> {
        // A deployment's name has no slash, a tier's may have some.
        let (tier, deployment) = name.rsplit_once('/')?;
        Some((self.get(tier)?.balance()?, deployment))
    }
}
