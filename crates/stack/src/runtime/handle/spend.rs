//! Caps that go on from the ledger: over a restart, and over what other replicas spend.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::timeout;

use crate::runtime::StackHandle;
use steadfast::{
    layers::budget::{BudgetHandle, CapScope},
    prices::Usd,
    store::StoreError,
};
use steadfast_ledger::{Ledger, Spend, SpendColumn, SpendQuery};

/// The time for which a recount waits for this process's own rows.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// No period is longer.
const LONGEST_PERIOD: Duration = Duration::from_secs(32 * 24 * 60 * 60);

impl StackHandle {
    /// Counts under each cap what the ledger has for its period: what other processes have spent on the same store, and
    /// this one's predecessors before a restart. Call it before the first request, and every few seconds: that is the
    /// time for which a cap may be behind. Without a [ledger](Self::ledger) it does nothing.
    ///
    /// It asks one question for each length of period, over sums by the hour.
    ///
    /// # Errors
    ///
    /// The store failed. Each cap stays as it was.
    pub async fn recount_spend(&self) -> Result<(), StoreError> {
        let Some(ledger) = self.ledger() else { return Ok(()) };
        let scopes: Vec<Scope> = {
            let current = self.shared.current.load();
            current.spend().iter().flat_map(|(tier, handle)| Scope::all(tier.as_deref(), handle)).collect()
        };
        if scopes.is_empty() {
            return Ok(());
        }
        let _ = timeout(FLUSH_TIMEOUT, ledger.flush()).await;
        let periods: BTreeSet<Duration> = scopes.iter().map(|scope| scope.of.since).collect();
        for since in periods {
            let those: Vec<&Scope> = scopes.iter().filter(|scope| scope.of.since == since).collect();
            let groups = groups(&ledger, since, &those).await?;
            those.iter().for_each(|scope| scope.raise(&groups));
        }
        Ok(())
    }
}

/// A cap, with its tier.
struct Scope {
    tier: Option<Arc<str>>,
    handle: BudgetHandle,
    of: CapScope,
}

impl Scope {
    fn all(tier: Option<&str>, handle: &BudgetHandle) -> Vec<Self> {
        let tier: Option<Arc<str>> = tier.map(Into::into);
        handle.scopes().into_iter().map(|of| Self { tier: tier.clone(), handle: handle.clone(), of }).collect()
    }

    fn counts(&self, spend: &Spend) -> bool {
        let is = |wanted: &Option<Arc<str>>, group: &Option<Arc<str>>| wanted.is_none() || wanted == group;
        let group = &spend.group;
        is(&self.tier, &group.tier) && is(&self.of.feature, &group.feature) && is(&self.of.key, &group.key)
    }

    fn raise(&self, groups: &[Spend]) {
        let CapScope { cap, since, is_of_each_key, .. } = &self.of;
        let mut sums: BTreeMap<Option<&str>, Usd> = BTreeMap::new();
        for spend in groups.iter().filter(|spend| self.counts(spend)) {
            let key = spend.group.key.as_deref().filter(|_| *is_of_each_key);
            if key.is_some() == *is_of_each_key {
                let sum = sums.entry(key).or_default();
                *sum = *sum + spend.cost;
            }
        }
        for (key, sum) in sums {
            self.handle.raise(cap, key, *since, sum);
        }
    }
}

/// Returns the spend of a period, told apart as far as these caps need it.
async fn groups(ledger: &Ledger, since: Duration, scopes: &[&Scope]) -> Result<Vec<Spend>, StoreError> {
    let mut query = SpendQuery::new(since, since.saturating_add(LONGEST_PERIOD));
    let needs = |needs: &dyn Fn(&Scope) -> bool| scopes.iter().any(|scope| needs(scope));
    if needs(&|scope| scope.tier.is_some()) {
        query = query.by(SpendColumn::Tier);
    }
    if needs(&|scope| scope.of.feature.is_some()) {
        query = query.by(SpendColumn::Feature);
    }
    if needs(&|scope| scope.of.is_of_each_key || scope.of.key.is_some()) {
        query = query.by(SpendColumn::Key);
    }
    ledger.store().spend(&query).await
}
