//! What watches a stack and steers it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{Shared, mirror::MirrorState};
use crate::{
    BulkheadHandle, CacheHandle, CircuitBreakerHandle, Events, HedgeHandle, IdempotencyHandle, MirrorHandle,
    config::{Budget, Config, ConfigError, Provider},
    events::Status,
    layers::budget::{BudgetHandle, CapSpend},
    prices::PriceTable,
};

/// Watches a [`Stack`](super::Stack) and steers it while it runs. Clones are the same handle.
///
/// What is looked up here (a circuit, the bulkhead) belongs to the configuration of that moment: look it up again after a
/// reload. Circuits of tiers that the reload did not change are the same ones, and what was done to them by hand stays.
#[derive(Clone)]
pub struct StackHandle {
    pub(super) shared: Arc<Shared>,
    /// Who acts through it.
    pub(super) by: Option<Arc<str>>,
}

impl StackHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, by: None }
    }

    /// The channel of everything that happens in the stack.
    pub fn events(&self) -> &Events {
        &self.shared.context.events
    }

    /// The configuration at work.
    pub fn config(&self) -> Arc<Config> {
        self.shared.current.load().config.clone()
    }

    /// The tiers, in order of preference.
    pub fn tiers(&self) -> Vec<TierInfo> {
        self.shared.current.load().tiers().collect()
    }

    /// Every tier's circuit by the tier's name: to look at it, to force it open or closed, to reset it.
    pub fn circuits(&self) -> BTreeMap<Arc<str>, CircuitBreakerHandle> {
        self.shared.current.load().circuits().map(|(name, circuit)| (name, self.as_actor(circuit))).collect()
    }

    /// The circuit of a tier; `None` where no tier has this name.
    pub fn circuit(&self, tier: &str) -> Option<CircuitBreakerHandle> {
        let found = self.shared.current.load().circuits().find(|(name, _)| &**name == tier);
        found.map(|(_, circuit)| self.as_actor(circuit))
    }

    fn as_actor(&self, circuit: CircuitBreakerHandle) -> CircuitBreakerHandle {
        self.by.as_ref().map_or_else(|| circuit.clone(), |who| circuit.acting_as(who.clone()))
    }

    /// The limits of the features: what is in flight, and to change how many may be.
    ///
    /// A limit that was set by hand stays until a reload brings another limit for that feature.
    pub fn bulkhead(&self) -> BulkheadHandle {
        self.shared.current.load().bulkhead.clone()
    }

    /// Asks the stores of the configuration whether they can be used: for a start that is to fail where they are named
    /// wrongly. A file was opened with the stack; a server is asked here, or else by the first request that needs it. None is
    /// there, or all can be used: nothing is said.
    ///
    /// # Errors
    ///
    /// What is the matter: where it [heals](crate::store::StoreError::heals), the stack goes on without it until then.
    pub async fn check_stores(&self) -> Result<(), crate::store::StoreError> {
        let stores = self.shared.current.load().stores.clone();
        stores.check().await
    }

    /// What is the matter with the stores of the configuration at the moment, as far as they were asked: one that is away, that is
    /// full or may only be read. Empty while all is well.
    pub fn store_troubles(&self) -> Vec<crate::store::StoreTrouble> {
        self.shared.current.load().store_troubles()
    }

    /// The calls under an idempotency key; `None` where the configuration has no `idempotency`. To be
    /// [closed](IdempotencyHandle::close) at a shutdown, so that no call goes on for a retry that cannot come.
    pub fn idempotency(&self) -> Option<IdempotencyHandle> {
        self.shared.current.load().idempotency()
    }

    /// The mirrored requests; `None` where the configuration has no `mirror`. To be [closed](MirrorHandle::close) at a shutdown.
    pub fn mirror(&self) -> Option<MirrorHandle> {
        self.shared.current.load().mirror.as_ref().map(MirrorState::handle)
    }

    /// The answers that are kept; `None` where the configuration has no `cache`.
    pub fn cache(&self) -> Option<CacheHandle> {
        self.shared.current.load().cache()
    }

    /// Whether the configuration has a `cache`: a look that shares nothing, for each request.
    pub fn keeps_answers(&self) -> bool {
        self.shared.current.load().cache.is_some()
    }

    /// The second calls of each tier that has some, by its name: how many there were, and to what avail.
    pub fn hedges(&self) -> Vec<(Arc<str>, HedgeHandle)> {
        self.shared.current.load().hedges().collect()
    }

    /// What was spent and reserved of every cap, and until when it counts.
    pub fn spend(&self) -> Vec<CapSpend> {
        self.shared.current.load().budgets().flat_map(BudgetHandle::snapshot).collect()
    }

    /// What watches this cap, and sets its limit; `None` where no cap has this name.
    pub fn budget(&self, cap: &str) -> Option<BudgetHandle> {
        self.shared.current.load().budgets().find(|budget| budget.limit(cap).is_some()).cloned()
    }

    /// What watches the caps: those of each tier that has some, and those of the whole.
    pub fn budgets(&self) -> Vec<BudgetHandle> {
        self.shared.current.load().budgets().cloned().collect()
    }

    /// Puts these caps beside those of the configuration, in place of the ones that were put there before: what a program
    /// knows of its callers and a file does not, such as a cap for each customer's [key](Budget::key). They count like the
    /// configuration's, stay over its reloads, and a cap that was there already goes on with what was spent.
    ///
    /// # Errors
    ///
    /// A cap of a name that another one has, or that steps down to where no tier is, or whose amount is none. Nothing has
    /// changed then. A reload of the configuration is refused for the same reasons.
    pub fn set_budgets(&self, budgets: Vec<Budget>) -> Result<(), ConfigError> {
        self.shared.set_budgets(budgets)
    }

    /// What answers cost: the crate's prices, with those of the configuration over them.
    pub fn prices(&self) -> PriceTable {
        self.shared.current.load().prices.clone()
    }

    /// Who serves, how each tier does, and the latest switches.
    ///
    /// It is kept by the stack's events from the first call on, in a task that ends with the stack; nothing is known of the
    /// time before. So call it once when the stack is made.
    ///
    /// # Panics
    ///
    /// The first call, outside of a tokio runtime.
    pub fn status(&self) -> Status {
        let mut status = self.shared.status().snapshot();
        self.add_orders(&mut status);
        status
    }

    /// Puts another configuration in place of the one at work. No request is lost: see [`Stack`](super::Stack).
    ///
    /// [`Event::Reloaded`](crate::Event::Reloaded) or [`Event::ReloadRefused`](crate::Event::ReloadRefused) tells of it,
    /// once.
    ///
    /// # Errors
    ///
    /// As [`Stack::from_config`](super::Stack::from_config). The stack goes on as it was.
    pub fn reload(&self, config: Config) -> Result<Reload, ConfigError> {
        self.shared.reload(Ok(config), None)
    }
}

impl fmt::Debug for StackHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackHandle").field("tiers", &self.tiers()).field("bulkhead", &self.bulkhead()).finish()
    }
}

/// A tier of a running stack.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Whose protocol it speaks.
    pub provider: Provider,
    /// Its model, where the configuration names one.
    pub model: Option<Arc<str>>,
    /// Its level of service, from 1 (full) to 5 (static).
    pub level: u8,
}

/// What a reload has done with the tiers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reload {
    /// Those whose leaf and circuit went on as they were.
    pub kept: Vec<Arc<str>>,
    /// Those that are new, or changed and so began anew.
    pub changed: Vec<Arc<str>>,
    /// Those that are gone, once the requests that they serve have ended.
    pub removed: Vec<Arc<str>>,
}
