//! The handle that watches and controls a stack.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{
    Reload, TierInfo, deployments::BalancedTier, mirror::MirrorState, responses::ResponseArchive, state::StackState,
    tier_runtime::TierRuntime,
};
use crate::{Budget, Config, ConfigError};
use steadfast::{
    BulkheadHandle, CacheHandle, CircuitBreakerHandle, Events, HedgeHandle, IdempotencyHandle, MirrorHandle,
    layers::{
        balance::{Availability, DeploymentStatus},
        budget::{BudgetHandle, CapSpend},
    },
    prices::PriceTable,
};
use steadfast_handoff::Desk;
use steadfast_subscribers::Status;

/// A handle that watches and controls a [`Stack`](super::Stack) while it runs. Clones are the same handle.
///
/// Circuits and the bulkhead belong to the configuration of the moment: look them up again after a reload. The
/// circuits of unchanged tiers stay the same, with all manual changes.
#[derive(Clone)]
pub struct StackHandle {
    pub(super) shared: Arc<StackState>,
    /// The actor that uses this handle.
    pub(super) by: Option<Arc<str>>,
}

impl StackHandle {
    pub(super) fn new(shared: Arc<StackState>) -> Self {
        Self { shared, by: None }
    }

    /// Returns the channel of all events in the stack.
    pub fn events(&self) -> &Events {
        &self.shared.context.events
    }

    /// Returns the active configuration.
    pub fn config(&self) -> Arc<Config> {
        self.shared.current.load().config.clone()
    }

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

    /// Checks that the configured stores can be used, for a start that must fail on a wrong address. Building the
    /// stack already opened a file; a server is contacted here, or else by the first request that needs it. Without
    /// stores, the check succeeds.
    ///
    /// # Errors
    ///
    /// A store cannot be used. If the error [heals](steadfast::store::StoreError::heals), the stack runs without the
    /// store until then.
    pub async fn check_stores(&self) -> Result<(), steadfast::store::StoreError> {
        let stores = self.shared.current.load().stores.clone();
        stores.check().await
    }

    /// Returns the current problems of the configured stores, as far as they were used: a store that is unreachable,
    /// full or read-only. Empty if all is well.
    pub fn store_troubles(&self) -> Vec<steadfast::store::StoreTrouble> {
        self.shared.current.load().store_troubles()
    }

    /// Returns the calls under idempotency keys; `None` if the configuration has no `idempotency`.
    /// [Close](IdempotencyHandle::close) it at shutdown, so that no call continues for a retry that cannot come.
    pub fn idempotency(&self) -> Option<IdempotencyHandle> {
        self.shared.current.load().idempotency()
    }

    /// Returns the mirrored requests; `None` if the configuration has no `mirror`. [Close](MirrorHandle::close) it at
    /// shutdown.
    pub fn mirror(&self) -> Option<MirrorHandle> {
        self.shared.current.load().mirror.as_ref().map(MirrorState::handle)
    }

    /// Returns the cached answers; `None` if the configuration has no `cache`.
    pub fn cache(&self) -> Option<CacheHandle> {
        self.shared.current.load().cache()
    }

    /// Returns whether the configuration has a `cache`. This is cheap enough for each request, because it clones no
    /// shared reference.
    pub fn keeps_answers(&self) -> bool {
        self.shared.current.load().cache.is_some()
    }

    /// Returns the kept responses; `None` if the configuration keeps none.
    pub fn responses(&self) -> Option<ResponseArchive> {
        self.shared.current.load().responses.clone()
    }

    /// Returns the desk at which people answer tasks; `None` if no tier's provider is `handoff`. Look it up again
    /// after a reload.
    pub fn desk(&self) -> Option<Desk> {
        self.shared.current.load().handoff.as_ref().map(|handoff| handoff.desk.clone())
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

    /// Returns the handle of a cap, to watch it and set its limit; `None` if no cap has this name.
    pub fn budget(&self, cap: &str) -> Option<BudgetHandle> {
        self.shared.current.load().budgets().find(|budget| budget.limit(cap).is_some()).cloned()
    }

    /// Returns the handles of all caps: those of single tiers, and those of the whole.
    pub fn budgets(&self) -> Vec<BudgetHandle> {
        self.shared.current.load().budgets().cloned().collect()
    }

    /// Sets the caps beside the configuration's, and replaces those set before: caps that a program knows and a file
    /// does not, such as one for each customer's [key](Budget::key). They count like the configuration's and survive
    /// its reloads. A cap that existed before keeps its spending.
    ///
    /// # Errors
    ///
    /// A cap shares its name with another, steps down to a level without a tier, or has an invalid amount. The caps
    /// then stay unchanged. A reload of the configuration is refused for the same reasons.
    pub fn set_budgets(&self, budgets: Vec<Budget>) -> Result<(), ConfigError> {
        self.shared.set_budgets(budgets)
    }

    /// Returns the prices of answers: the crate's, with the configuration's over them.
    pub fn prices(&self) -> PriceTable {
        self.shared.current.load().prices.clone()
    }

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

    /// Reads the stack's file again and replaces the active configuration, like [`reload`](Self::reload). The file is
    /// read on this thread.
    ///
    /// # Errors
    ///
    /// The file is wrong or gone, or the stack was not built from a file. The stack continues unchanged.
    pub fn reload_from_path(&self) -> Result<Reload, ConfigError> {
        self.shared.readings.fetch_add(1, Relaxed);
        self.shared.reload_from_path()
    }

    /// Replaces the active configuration. No request is lost: see [`Stack`](super::Stack).
    ///
    /// [`Event::Reloaded`](steadfast::Event::Reloaded) or [`Event::ReloadRefused`](steadfast::Event::ReloadRefused)
    /// reports the result once.
    ///
    /// # Errors
    ///
    /// As in [`Stack::from_config`](super::Stack::from_config). The stack continues unchanged.
    pub fn reload(&self, config: Config) -> Result<Reload, ConfigError> {
        self.shared.reload(Ok(config), None)
    }
}

impl fmt::Debug for StackHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackHandle").field("tiers", &self.tiers()).field("bulkhead", &self.bulkhead()).finish()
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
