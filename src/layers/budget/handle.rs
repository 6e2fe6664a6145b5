use std::{fmt, sync::Arc};

use tokio::time::Instant;

use super::{account::Account, shared::Shared};
use crate::{InvalidConfig, prices::Usd};

/// Looks at what a [`Budget`](super::Budget) has spent, and changes its limits while it runs.
///
/// Clones are the same handle. It keeps nothing alive but the counts.
#[derive(Clone)]
pub struct BudgetHandle {
    shared: Arc<Shared>,
}

impl BudgetHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What was spent under a cap in this period, by answers and attempts that have ended; nothing of a cap that is not
    /// there. Of one for each key, by all keys together; likewise below.
    pub fn spent(&self, cap: &str) -> Usd {
        self.spends(cap).map(|spend| spend.spent).sum()
    }

    /// What is reserved for requests in flight.
    pub fn reserved(&self, cap: &str) -> Usd {
        self.spends(cap).map(|spend| spend.reserved).sum()
    }

    /// What one key has spent under a cap for each key, and has reserved; `None` of a key that has sent nothing.
    pub fn of_key(&self, cap: &str, key: &str) -> Option<CapSpend> {
        self.spends(cap).find(|spend| spend.key.as_deref() == Some(key))
    }

    /// The limit, of one for each key that of each.
    pub fn limit(&self, cap: &str) -> Option<Usd> {
        Some(Usd::from_nanos(self.shared.accounts(cap)?.rule.limit()))
    }

    /// When the period ends that runs now; `None` of a cap that is not there, or counts nothing yet.
    pub fn resets_at(&self, cap: &str) -> Option<Instant> {
        self.spends(cap).map(|spend| spend.resets_at).max()
    }

    /// Sets a limit. It holds from the next request on; those in flight go on.
    ///
    /// # Errors
    ///
    /// The layer has no cap of that name.
    pub fn set_limit(&self, cap: &str, limit: Usd) -> Result<(), InvalidConfig> {
        let Some(accounts) = self.shared.accounts(cap) else {
            let names: Vec<&str> = self.shared.caps.iter().map(|accounts| &*accounts.rule.cap.name).collect();
            let problem = format!("no cap is named `{cap}`; there are {}", names.join(", "));
            return Err(InvalidConfig::new("cap", problem));
        };
        accounts.rule.set_limit(limit);
        accounts.all().iter().for_each(|account| account.forget_shares());
        Ok(())
    }

    /// All caps in their order; one for each key with a line for each that is remembered, by name.
    pub fn snapshot(&self) -> Vec<CapSpend> {
        let now = Instant::now();
        let all = self.shared.caps.iter().flat_map(|accounts| accounts.all());
        all.map(|account| account.spend(now)).collect()
    }

    fn spends(&self, cap: &str) -> impl Iterator<Item = CapSpend> {
        let now = Instant::now();
        let accounts: Vec<Arc<Account>> = self.shared.accounts(cap).map(|accounts| accounts.all()).unwrap_or_default();
        accounts.into_iter().map(move |account| account.spend(now))
    }
}

impl fmt::Debug for BudgetHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BudgetHandle").field(&self.snapshot()).finish()
    }
}

/// What is spent under a cap in this period.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CapSpend {
    /// The cap's name.
    pub cap: Arc<str>,
    /// Whose it is, of a cap for each key.
    pub key: Option<Arc<str>>,
    /// What was spent, by answers and attempts that have ended.
    pub spent: Usd,
    /// What is reserved for requests in flight.
    pub reserved: Usd,
    /// What may be spent.
    pub limit: Usd,
    /// When the period ends.
    pub resets_at: Instant,
}
