//! One cap of several replicas: what this one may spend before it agrees with the others again.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{AtCap, account::Account};
use crate::prices::Usd;

/// One cap's account in one period, as it was at one moment.
#[doc(hidden)]
pub struct ReplicaCap {
    account: Arc<Account>,
    period: u8,
    since: Duration,
    /// The amount spent at that moment.
    spent: u64,
    /// The amount that was in use at that moment.
    used: u64,
    /// The sum of all replicas.
    sum: u64,
    /// The part of the sum that this replica did not know of.
    raised: u64,
}

impl ReplicaCap {
    pub(super) fn new(account: Arc<Account>, now: Instant) -> Self {
        account.turn(now);
        let period = account.meter.period();
        let rule = &account.rule;
        let since = Duration::from_secs(rule.cap.period.start(rule.common.anchor.date(now)));
        let (spent, used) = account.meter.amounts();
        Self { account, period, since, spent, used, sum: spent, raised: 0 }
    }

    /// Returns the cap's name.
    pub fn cap(&self) -> &Arc<str> {
        &self.account.rule.cap.name
    }

    /// Returns the key, under a cap for each key.
    pub fn key(&self) -> Option<&Arc<str>> {
        self.account.key.as_ref()
    }

    /// Returns the beginning of the period, since 1970.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Returns the cap's limit.
    pub fn limit(&self) -> Usd {
        Usd::from_nanos(self.account.rule.limit())
    }

    /// Returns true if the cap keeps nobody from spending.
    pub fn only_warns(&self) -> bool {
        self.account.rule.cap.at_cap == AtCap::Warn
    }

    /// Returns true if nothing was reserved at that moment.
    pub fn is_idle(&self) -> bool {
        self.used == self.spent
    }

    /// Returns the amount that was spent at that moment, by all replicas that this one knows of.
    pub fn spent(&self) -> Usd {
        Usd::from_nanos(self.spent.saturating_add(self.raised))
    }

    /// Counts the sum of all replicas. It contains what this one had spent at that moment, and perhaps what it has
    /// spent since then.
    #[must_use]
    pub fn count(mut self, sum: Usd) -> Self {
        self.sum = self.spent.max(sum.nanos());
        self.raised = self.account.raise(self.period, sum.nanos());
        self
    }

    /// Returns the sum of all replicas.
    pub fn sum(&self) -> Usd {
        Usd::from_nanos(self.sum)
    }

    /// Returns the amount in use here beyond the sum: reserved, or spent since that moment.
    pub fn held(&self) -> Usd {
        let (_, used) = self.account.meter.amounts();
        Usd::from_nanos(used.saturating_sub(self.spent().nanos()))
    }

    /// Lets this replica hold so much, and no more, until it is told again.
    pub fn set_room(&self, grant: Usd) {
        self.account.meter.set_room(self.period, Some(self.spent().nanos().saturating_add(grant.nanos())));
    }

    /// Lowers the room, and never raises it.
    pub fn lower_room(&self, grant: Usd) {
        if self.account.meter.room(|_| None) > self.spent().nanos().saturating_add(grant.nanos()) {
            self.set_room(grant);
        }
    }

    /// Lets this replica spend so many millionths of the limit more than what is in use now.
    pub fn add_part(&self, millionths: u32) {
        let (_, used) = self.account.meter.amounts();
        let part = part(self.account.rule.limit(), millionths.into());
        self.account.meter.set_room(self.period, Some(used.saturating_add(part)));
    }

    /// Lets the next request find the [first room](super::BudgetHandle::set_first_room) again.
    pub fn forget_room(&self) {
        self.account.meter.set_room(self.period, None);
    }
}

impl fmt::Debug for ReplicaCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaCap").field("cap", self.cap()).field("key", &self.key()).finish_non_exhaustive()
    }
}

/// The part of a cap that a replica may use before it has agreed with the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(hidden)]
pub enum FirstShare {
    /// All of it: there is no agreement.
    #[default]
    All,
    /// An even part of what is left, among so many replicas.
    Even(u32),
    /// So many millionths of the limit.
    OfLimit(u32),
}

/// A [`FirstShare`] that changes while requests read it.
#[derive(Debug, Default)]
pub(super) struct FirstRoom(AtomicU64);

const ONE: u64 = 1_000_000;
const OF_LIMIT: u64 = 1 << 63;

/// Returns so many millionths of a limit.
fn part(limit: u64, millionths: u64) -> u64 {
    let part = u128::from(limit) * u128::from(millionths) / u128::from(ONE);
    u64::try_from(part).unwrap_or(u64::MAX)
}

impl FirstRoom {
    pub(super) fn set(&self, share: FirstShare) {
        let word = match share {
            FirstShare::All => 0,
            FirstShare::Even(replicas) => replicas.into(),
            FirstShare::OfLimit(millionths) => OF_LIMIT | u64::from(millionths),
        };
        self.0.store(word, Relaxed);
    }

    /// Returns whether there is an agreement.
    pub(super) fn is_agreed(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    /// Ends an agreement; returns whether there was one.
    pub(super) fn end(&self) -> bool {
        self.0.swap(0, Relaxed) != 0
    }

    /// Returns the amount up to which a replica may spend that knows of this amount spent; `None`: all.
    pub(super) fn of(&self, spent: u64, limit: u64) -> Option<u64> {
        match self.0.load(Relaxed) {
            0 | 1 => None,
            of_limit if of_limit & OF_LIMIT != 0 => Some(spent.saturating_add(part(limit, of_limit ^ OF_LIMIT))),
            replicas => Some(spent.saturating_add(limit.saturating_sub(spent) / replicas)),
        }
    }
}
