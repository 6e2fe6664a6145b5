//! The parts of a running stack, by their own handles.

use std::{collections::BTreeMap, sync::Arc};

use super::StackHandle;
use crate::runtime::{
    TierInfo,
    parts::{deployments::BalancedTier, mirror::MirrorState, tier_runtime::TierRuntime},
};
use steadfast::{
    BulkheadHandle, CircuitBreakerHandle, HedgeHandle, MirrorHandle,
    layers::{
        balance::{Availability, DeploymentStatus},
        budget::{AtCap, BudgetHandle, CapSpend},
    },
    prices::PriceTable,
};

impl StackHandle {
    /// Returns the tiers, in order of preference.
    pub fn tiers(&self) -> Vec<TierInfo> {
        self.shared.current.load().tier_infos()
    }

    /// Returns every tier's circuit by the tier's name, to inspect, force or reset it.
    pub fn circuits(&self) -> BTreeMap<Arc<str>, CircuitBreakerHandle> {
        self.shared.current.load().tiers.circuits().map(|(name, circuit)| (name, self.as_actor(circuit))).collect()
    }

    /// Returns the circuit of a tier, or of a deployment `TIER/DEPLOYMENT`; `None` if none has this name. The circuit
    /// of a tier with deployments opens only by hand.
    pub fn circuit(&self, tier: &str) -> Option<CircuitBreakerHandle> {
        let current = self.shared.current.load();
        let found = current.tiers.circuits().find(|(name, _)| &**name == tier).map(|(_, circuit)| circuit);
        found.or_else(|| current.tiers.deployment_circuit(tier)).map(|circuit| self.as_actor(circuit))
    }

    /// Returns the state of a tier's deployments, in order. Empty for a tier without deployments.
    ///
    /// ```
    /// use steadfast_stack::{Config, Format, Stack};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tier = "{ name: sonnet, provider: simulated, deployments: [{ name: east }, { name: west, weight: 3 }] }";
    /// let stack = Stack::from_config(Config::from_str(&format!("tiers: [{tier}]"), Format::Yaml)?)?;
    /// let operator = stack.handle().acting_as("ana");
    /// operator.drain("sonnet/west")?;
    /// let deployments = operator.deployments("sonnet");
    /// assert_eq!((deployments[1].status.weight, deployments[1].is_drained()), (3.0, true));
    /// # Ok(()) }
    /// ```
    pub fn deployments(&self, tier: &str) -> Vec<TierDeployment> {
        let current = self.shared.current.load();
        let balance = current.tiers.get(tier).and_then(TierRuntime::balance);
        let state = |(status, circuit)| TierDeployment { status, circuit: self.as_actor(circuit) };
        balance.map(BalancedTier::status).unwrap_or_default().into_iter().map(state).collect()
    }

    fn as_actor(&self, circuit: CircuitBreakerHandle) -> CircuitBreakerHandle {
        self.by.as_ref().map_or_else(|| circuit.clone(), |who| circuit.acting_as(who.clone()))
    }

    /// Returns the features' limits, to read what is in flight and to change the limits.
    ///
    /// A manually set limit stays until a reload brings another limit for that feature.
    pub fn bulkhead(&self) -> BulkheadHandle {
        self.shared.current.load().bulkhead.clone()
    }

    /// Returns the mirrored requests; `None` if the configuration has no `mirror`. [Close](MirrorHandle::close) it at
    /// shutdown.
    pub fn mirror(&self) -> Option<MirrorHandle> {
        self.shared.current.load().mirror.as_ref().map(MirrorState::handle)
    }

    /// Returns a fingerprint of the provider's account that a tier calls, if the provider keeps conversations of its
    /// own. Tiers of one account have the same one. It is a hash, from which nobody reads the account's key.
    ///
    /// Each deployment of a tier has its own: see [`deployment_account`](Self::deployment_account).
    pub fn account(&self, tier: &str) -> Option<Arc<str>> {
        self.shared.current.load().tiers.get(tier)?.account()
    }

    /// Returns a fingerprint of the account of a tier's deployment, as [`account`](Self::account) does for a tier.
    pub fn deployment_account(&self, tier: &str, deployment: &str) -> Option<Arc<str>> {
        self.shared.current.load().tiers.get(tier)?.balance()?.account(deployment)
    }

    /// Returns each hedged tier's name and its second calls, with their number and benefit.
    pub fn hedges(&self) -> Vec<(Arc<str>, HedgeHandle)> {
        self.shared.current.load().hedges().collect()
    }

    /// Returns the spending and reservations of every cap, and the end of its period.
    pub fn spend(&self) -> Vec<CapSpend> {
        self.shared.current.load().budgets().flat_map(BudgetHandle::snapshot).collect()
    }

    /// Returns the same of the caps of one key: its own, its team's, and its part of those for each key.
    pub fn spend_of_key(&self, key: &str, team: Option<&str>) -> Vec<CapSpend> {
        self.shared.current.load().budgets().flat_map(|budget| budget.snapshot_of_key(key, team)).collect()
    }

    /// Returns those of one key's caps that a request of this feature counts under, and that end in a refusal: neither
    /// those of single tiers, at which the next tier serves, nor those that warn or step down.
    pub fn spend_of_call(&self, key: &str, team: Option<&str>, feature: Option<&str>) -> Vec<CapSpend> {
        let counts = |spend: &CapSpend| {
            spend.at_cap == AtCap::Refuse && (spend.feature.is_none() || spend.feature.as_deref() == feature)
        };
        let current = self.shared.current.load();
        let of_all = current.spend().iter().filter(|(tier, _)| tier.is_none());
        of_all.flat_map(|(_, budget)| budget.snapshot_of_key(key, team)).filter(counts).collect()
    }

    /// Returns the handle of a cap, to watch it and set its limit; `None` if no cap has this name.
    pub fn budget(&self, cap: &str) -> Option<BudgetHandle> {
        self.shared.current.load().budgets().find(|budget| budget.limit(cap).is_some()).cloned()
    }

    /// Returns the handles of all caps: those of single tiers, and those of the whole.
    pub fn budgets(&self) -> Vec<BudgetHandle> {
        self.shared.current.load().budgets().cloned().collect()
    }

    /// Returns the prices of answers: the crate's, with the configuration's over them.
    pub fn prices(&self) -> PriceTable {
        self.shared.current.load().prices.clone()
    }
}

/// A deployment of a tier of a running stack.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TierDeployment {
    /// Its state in the balancer.
    pub status: DeploymentStatus,
    /// Its circuit.
    pub circuit: CircuitBreakerHandle,
}

impl TierDeployment {
    /// Returns whether an operator has drained it.
    pub fn is_drained(&self) -> bool {
        self.status.availability == Availability::Drained
    }
}
