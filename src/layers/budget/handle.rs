use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    CapSpend,
    account::Account,
    cap::Keys,
    plan::Plan,
    replica_cap::{FirstShare, ReplicaCap},
    shared::{Accounts, Shared},
};
use crate::{InvalidConfig, layers::draft::View, prices::Usd};

/// Reads the amounts of a [`Budget`](super::Budget), and changes its limits while it runs.
///
/// Clones are the same handle. It keeps only the counts alive.
#[derive(Clone)]
pub struct BudgetHandle {
    view: View<Plan>,
}

/// The requests that a cap counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct CapScope {
    pub cap: Arc<str>,
    pub feature: Option<Arc<str>>,
    /// The one key whose requests count.
    pub key: Option<Arc<str>>,
    /// The one team whose requests count.
    pub team: Option<Arc<str>>,
    /// True if each key has an amount of its own.
    pub is_of_each_key: bool,
    /// The beginning of the period, since 1970.
    pub since: Duration,
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
        let of_group = |accounts: &Accounts| {
            let group = accounts.rule.cap.among.clone();
            let counts = move |account: &Arc<Account>| {
                group.as_ref().zip(account.key.as_ref()).is_none_or(|(all, key)| all.has(key))
            };
            accounts.all().into_iter().filter(counts)
        };
        shared.caps.iter().flat_map(of_group).map(|account| account.spend(now)).collect()
    }

    /// Returns the caps of one key: its own, its team's, and its part of those for each key. The work grows with their
    /// number, and not with that of all keys.
    pub fn snapshot_of_key(&self, key: &str, team: Option<&str>) -> Vec<CapSpend> {
        let now = Instant::now();
        self.shared().all_of_key(key, team).into_iter().map(|account| account.spend(now)).collect()
    }

    /// Returns what each cap counts, and since when.
    #[doc(hidden)]
    pub fn scopes(&self) -> Vec<CapScope> {
        let (shared, now) = (self.shared(), Instant::now());
        let scope = |accounts: &Accounts| {
            let cap = &accounts.rule.cap;
            let since = cap.period.start(accounts.rule.common.anchor.date(now));
            CapScope {
                cap: cap.name.clone(),
                feature: cap.feature.clone(),
                key: if let Keys::One(key) = &cap.key { Some(key.clone()) } else { None },
                team: cap.team.clone(),
                is_of_each_key: cap.key == Keys::Each,
                since: Duration::from_secs(since),
            }
        };
        shared.caps.iter().map(scope).collect()
    }

    /// Returns the account of a cap in its current period, for an agreement with other replicas. `key` is the key of a
    /// cap for each key. `None` if there is no such cap.
    #[doc(hidden)]
    pub fn replica_cap(&self, cap: &str, key: Option<&str>) -> Option<ReplicaCap> {
        let now = Instant::now();
        Some(ReplicaCap::new(self.shared().accounts(cap)?.one(key, now)?, now))
    }

    /// Returns the accounts of all caps, those of each remembered key among them.
    #[doc(hidden)]
    pub fn replica_caps(&self) -> Vec<ReplicaCap> {
        let (shared, now) = (self.shared(), Instant::now());
        let all = shared.caps.iter().flat_map(|accounts| accounts.all());
        all.map(|account| ReplicaCap::new(account, now)).collect()
    }

    /// Sets the room of accounts that have not been agreed on with other replicas.
    #[doc(hidden)]
    pub fn set_first_room(&self, share: FirstShare) {
        self.shared().common.first_room.set(share);
    }

    /// Ends the agreement with other replicas, if there is one: each cap is this process's alone from then on.
    #[doc(hidden)]
    pub fn end_agreement(&self) {
        if self.shared().common.first_room.end() {
            self.replica_caps().iter().for_each(ReplicaCap::forget_room);
        }
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
