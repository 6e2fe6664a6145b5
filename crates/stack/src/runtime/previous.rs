//! The state of the serving generation that the next one may continue.

use super::{
    parts::{
        cache::CacheState, handoff::HandoffState, hedge::Hedges, idempotency::IdempotencyState, ledger::LedgerState,
        mirror::MirrorState, object_places::ObjectPlaces, responses::ResponseArchive, retry_budgets::RetryBudgets,
        stores::OpenStores, tier_runtime::TierRuntime,
    },
    tier_set::TierSet,
};
use steadfast::{BulkheadHandle, FallbackLayer, layers::budget::BudgetHandle};

/// The state of the serving generation that the next one may continue. The first one has none to continue.
#[derive(Clone, Copy, Default)]
pub(super) struct Previous<'a> {
    pub(super) tiers: Option<&'a TierSet>,
    pub(super) retry_budgets: Option<&'a RetryBudgets>,
    /// The spending, by caps: of all tiers, and of single tiers by name.
    pub(super) spend: &'a [(Option<String>, BudgetHandle)],
    pub(super) fallback: Option<&'a FallbackLayer>,
    pub(super) hedges: Option<&'a Hedges>,
    pub(super) bulkhead: Option<&'a BulkheadHandle>,
    pub(super) stores: Option<&'a OpenStores>,
    pub(super) idempotency: Option<&'a IdempotencyState>,
    pub(super) cache: Option<&'a CacheState>,
    pub(super) responses: Option<&'a ResponseArchive>,
    pub(super) ledger: Option<&'a LedgerState>,
    pub(super) objects: Option<&'a ObjectPlaces>,
    pub(super) handoff: Option<&'a HandoffState>,
    pub(super) mirror: Option<&'a MirrorState>,
}

impl<'a> Previous<'a> {
    /// Returns the tier of this name.
    pub(super) fn tier(&self, name: &str) -> Option<&'a TierRuntime> {
        self.tiers?.get(name)
    }

    /// Returns the spending under a tier's caps, or under those of no tier.
    pub(super) fn spend(&self, tier: Option<&str>) -> Option<&'a BudgetHandle> {
        self.spend.iter().find(|(of, _)| of.as_deref() == tier).map(|(_, handle)| handle)
    }
}
