use std::{fmt, sync::Arc};

use tokio::time::Instant;

use super::{CapSpend, account::Account, plan::Plan, shared::Shared};
use crate::{InvalidConfig, layers::draft::View, prices::Usd};

/// Reads the amounts of a [`Budget`](super::Budget), and changes its limits while it runs.
///
/// Clones are the same handle. It keeps only the counts alive.
#[derive(Clone)]
pub struct BudgetHandle {
    view: View<Plan>,
}

impl BudgetHandle {
    pub(super) fn new(view: View<Plan>) -> Self {
        Self { view }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.view.state()
    }

    /// Returns the amount spent under a cap in this period, by answers and attempts that have ended; zero if there
    /// is no such cap. For a cap for each key, this is the sum over all keys; likewise below.
    pub fn spent(&self, cap: &str) -> Usd {
        self.spends(cap).map(|spend| spend.spent).sum()
    }

    /// Returns the amount reserved for requests in flight.
    pub fn reserved(&self, cap: &str) -> Usd {
        self.spends(cap).map(|spend| spend.reserved).sum()
    }

    /// Returns the spent and reserved amounts of one key under a cap for each key; `None` if the key has sent no
    /// request.
    pub fn of_key(&self, cap: &str, key: &str) -> Option<CapSpend> {
        self.spends(cap).find(|spend| spend.key.as_deref() == Some(key))
    }

    /// Returns the limit; for a cap for each key, that of each.
    pub fn limit(&self, cap: &str) -> Option<Usd> {
        Some(Usd::from_nanos(self.shared().accounts(cap)?.rule.limit()))
    }

    /// Returns the end of the current period; `None` if there is no such cap, or it counts no request yet.
    pub fn resets_at(&self, cap: &str) -> Option<Instant> {
        self.spends(cap).map(|spend| spend.resets_at).max()
    }

    /// Sets a limit. It applies from the next request on; requests in flight go on.
    ///
    /// # Errors
    ///
    /// Fails if the layer has no cap of that name.
    pub fn set_limit(&self, cap: &str, limit: Usd) -> Result<(), InvalidConfig> {
        let shared = self.shared();
        let Some(accounts) = shared.accounts(cap) else {
            let names: Vec<&str> = shared.caps.iter().map(|accounts| &*accounts.rule.cap.name).collect();
            let problem = format!("no cap is named `{cap}`; there are {}", names.join(", "));
            return Err(InvalidConfig::new("cap", problem));
        };
        accounts.rule.set_limit(limit);
        accounts.all().iter().for_each(|account| account.forget_shares());
        Ok(())
    }

    /// Returns all caps in their order. A cap for each key has an entry for each remembered key, by name.
    pub fn snapshot(&self) -> Vec<CapSpend> {
        let now = Instant::now();
        let shared = self.shared();
        let all = shared.caps.iter().flat_map(|accounts| accounts.all());
        all.map(|account| account.spend(now)).collect()
    }

    fn spends(&self, cap: &str) -> impl Iterator<Item = CapSpend> {
        let now = Instant::now();
        let accounts: Vec<Arc<Account>> =
            self.shared().accounts(cap).map(|accounts| accounts.all()).unwrap_or_default();
        accounts.into_iter().map(move |account| account.spend(now))
    }
}

impl fmt::Debug for BudgetHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BudgetHandle").field(&self.snapshot()).finish()
    }
}
