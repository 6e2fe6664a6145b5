//! State that a stack's replicas share: [`ReplicaSync`], over any [`ReplicaStore`].
//!
//! Each replica decides on its own and at once; no request waits for a store. A background task reports this replica's
//! changes to the store a few times a second, and receives the others':
//!
//! - **Circuits.** A circuit that opens in one replica, or that a `Retry-After` closes off, does so in all others
//!   within a second, and so does its closing. After the cooldown the replica that opened the circuit probes first, and
//!   the others wait meanwhile: usually one probe at a time. Operators' orders are the durable store's.
//! - **Rates** of features. Each replica charges its own bucket with the requests that the others let through, so that
//!   all buckets are views of one. The requests of others since the last exchange are not known yet: with a full
//!   bucket, each of *n* replicas may let through what comes within that time (0.5 s), at most (*n* − 1) buckets too
//!   much. That is a debt, and repaid: over a longer time the rate holds.
//! - **Retry budgets**, in the same way: the share of first tries, the floor and the cap are those of all replicas
//!   together.
//!
//! - **Limits of callers** ([`LimitSync`]): requests and tokens a minute, and requests in flight. A rate is one bucket
//!   in the store; a replica takes from it what it has let through, and sets its own bucket to what is left. Of the
//!   places each replica has what the others leave.
//!
//! If the store does not reply, each replica uses its own knowledge: its own circuits, and the whole of each rate and
//! budget. Once the store is back, replicas report what has changed since. The newest change of a circuit counts, and
//! requests let through meanwhile are not charged.
//!
//! Names identify shared state: replicas with the same configuration have the same names, and a changed part of a
//! configuration has another name.
//!
//! # Design
//!
//! A request waits only for what must be asked on its way: an idempotency key, a shared cache. The rest is a task
//! beside the requests, which exchanges notices and counts with a [`ReplicaStore`]: in memory for tests, in production
//! a Redis. `Desk` holds what this replica sent and received, without clock or I/O. `Sharing` is the task around it: an
//! exchange every 500 ms, at once where something has changed here (checked every 100 ms) or a message from elsewhere
//! says so. A lost message costs the half second.
//!
//! | shared | how | how exact |
//! |---|---|---|
//! | a circuit that opened, was closed off by a `Retry-After`, is being probed, has closed | a notice; of two the later event stays, by Redis's clock and the event's age | in all replicas within a second; no notice makes an open circuit look sooner than it knows itself |
//! | probes, those without a caller's request too | the replica that opened a circuit has the right of way (the others wait 1 to 2 s longer), and "is being probed" holds the others off | one at a time as a rule; two that begin within the same 100 ms do not know of each other |
//! | rates of features | each replica adds its own use to a total, and charges its bucket with what others have added, below empty if need be | exact over time; at once at most (*n* − 1) times what one replica lets through in half a second, which is then owed |
//! | rates of callers | a bucket in the store, from the first use until it is full again: 20 ms after the first, then each 250 ms | exact over time; at once at most (*n* − 1) times what one replica lets through between two exchanges, which is then owed |
//! | requests in flight of callers | a number for each replica, which counts for 2 s; each has the limit less what the others have | at once the same; what a replica held that died comes back after 2 s |
//! | retry budgets | the same, for what first tries put in and retries take out | the same: share, floor and cap are those of all replicas together |
//! | idempotency keys | one script for each step, leases by Redis's clock, the end called out | one call; the durable store, where there is one, knows a record that Redis loses; else a new key that says so |
//! | answers (`cache.shared`) | a look each; stored behind the answer | an order to forget holds in all, once Redis knows |
//! | calls for whole answers (`cache.shared`) | the claim of an idempotency key made of the answer's, renewed while the call runs and given back behind the answer | one call for all who ask at once; one each where it failed, is a stream, or Redis is away |
//!
//! Redis keeps a ledger (since when, how many), by which all replicas learn of a loss. Requests in flight of features
//! and adaptive limits are each replica's own; caps are shared by the ledger, orders by hand by the registry. Replicas
//! share a circuit by the tier's name, provider, model and address, and rates and budgets by their names and settings.
//! So replicas in the middle of a roll-out share what is the same.
//!
//! An outage of Redis costs no answer. One connection for all (`redis/link.rs`) bounds each question at 250 ms. After a
//! failure only one in every 500 ms tries, and the others fail at once. A warning reports the beginning, a message the
//! end. Meanwhile each replica goes by its own circuits and has the whole of each rate for itself. That is not charged
//! afterwards, and an exchange that may or may not have been taken is not repeated: of the two ways to be wrong, too
//! little is charged. When Redis is back, the newest event of each circuit counts, whichever replica reports it first.
//! The client's own connection manager is not used: it waits for a reconnection longer than a request may, does not
//! notice a network that is gone, and takes TLS from the process's crypto provider.

mod exchange;
mod limit_sync;
mod limits;
mod memory;
mod shared_state;
mod sync;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::sleep;

use steadfast::store::StoreError;

pub use self::{
    limit_sync::{InFlightFuture, InFlightStore, LEASE, LimitSync},
    limits::{LimitUse, SharedLimit, SharedLimits},
    memory::MemoryReplicas,
    shared_state::SharedState,
    sync::ReplicaSync,
};

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
