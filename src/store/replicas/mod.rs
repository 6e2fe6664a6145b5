//! State that a stack's replicas share: [`ReplicaSync`], over any [`ReplicaStore`].
//!
//! Each replica decides on its own and at once; no request waits for a store. A background task reports this replica's
//! changes to the store a few times a second, and receives the others':
//!
//! - **Circuits.** A circuit that opens in one replica, or that a `Retry-After` closes off, does so in all others
//!   within a second, and so does its closing. After the cooldown the replica that opened the circuit probes first, and
//!   the others wait meanwhile: usually one probe at a time. Operators' orders apply to the replica that receives them.
//! - **Rates** of features. Each replica charges its own bucket with the requests that the others let through, so that
//!   all buckets are views of one. The requests of others since the last exchange are not known yet: with a full
//!   bucket, each of *n* replicas may let through what comes within that time (0.5 s), at most (*n* − 1) buckets too
//!   much. That is a debt, and repaid: over a longer time the rate holds.
//! - **Retry budgets**, in the same way: the share of first tries, the floor and the cap are those of all replicas
//!   together.
//!
//! If the store does not reply, each replica uses its own knowledge: its own circuits, and the whole of each rate and
//! budget. Once the store is back, replicas report what has changed since. The newest change of a circuit counts, and
//! requests let through meanwhile are not charged.
//!
//! Names identify shared state: replicas with the same configuration have the same names, and a changed part of a
//! configuration has another name.

mod desk;
mod memory;
mod shares;
mod sharing;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::StoreError;

pub use self::{memory::MemoryReplicas, shares::SharedState, sharing::ReplicaSync};

/// A store through which replicas report their changes to each other.
///
/// It holds two kinds of values under names: *notices*, of which it keeps the newest, and *totals*, to which each
/// replica adds. A key-value server suits it well. It may lose all of it at any time.
///
/// Time is the store's own: arguments and results are durations, so the clocks of two replicas need not agree.
pub trait ReplicaStore: Send + Sync + 'static {
    /// Takes one replica's report and returns the store's contents after it, in one step.
    ///
    /// - Of two notices of one name, the store keeps the later one ([`Notice::age`]).
    /// - Each count is added to the total of its name, once on success; the replica does not send it again after a
    ///   failure.
    fn exchange<'a>(
        &'a self,
        report: &'a Report,
    ) -> Pin<Box<dyn Future<Output = Result<Snapshot, StoreError>> + Send + 'a>>;

    /// Waits until another replica may have posted a notice, at most this long. Waking too early costs an exchange. The
    /// default sleeps for the whole time; a store with notifications wakes sooner.
    fn changed<'a>(&'a self, at_most: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(sleep(at_most))
    }
}

/// A replica's report, and the names that it requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The replica's number, which no other replica has.
    pub replica: u64,
    /// The names of requested notices, each with a new one to post if there is one.
    pub notices: Vec<(Arc<str>, Option<Notice>)>,
    /// Names of totals, each with the amount to add.
    pub counts: Vec<(Arc<str>, i64)>,
}

/// The store's contents, in the order of the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// A number that changes whenever the store has lost the totals and they begin at zero.
    pub epoch: u64,
    /// The notices; `None` for an absent one.
    pub notices: Vec<Option<(Stamp, Notice)>>,
    /// The totals, including the amounts just added. They may wrap.
    pub totals: Vec<i64>,
}

/// A change in one replica, for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// A short text for the change, which the store need not understand.
    pub change: Cow<'static, str>,
    /// The time since the change.
    pub age: Duration,
    /// The time for which it still holds; zero if it is over.
    pub remaining: Duration,
}

/// The identity of a notice: another notice has another stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The time of the change, by the store's clock.
    pub at: u64,
    /// The replica that posted it.
    pub replica: u64,
}
