//! What the replicas of a stack share: [`Sharing`], over any [`ReplicaStore`].
//!
//! Each replica decides by itself and at once; no request waits for a store. A task beside them tells the store, a few times
//! a second, what happened here, and hears what happened elsewhere:
//!
//! - **Circuits.** What opened in one replica, or was closed off by a `Retry-After`, is so in all others within a second, and
//!   so is its closing. Where the cooldown is over, the replica that opened the circuit probes first, and the others leave it
//!   alone while that lasts: one probe at a time, as a rule. Orders by hand are for the replica that they are given to.
//! - **Rates** of features. Each replica charges its own bucket with what the others let through, so that all buckets are looks
//!   at one. What the others did since the last look is not known yet: of a full bucket, each of *n* replicas may let through
//!   as much as comes to it within that time (0.5 s), at most (*n* − 1) buckets too much. It is a debt, and paid: over a longer
//!   time the rate is kept.
//! - **Retry budgets**, in the same way: the share of first tries, the floor and the cap are those of all replicas together.
//!
//! Where the store is silent each goes by what it knows: its own circuits, and the whole of each rate and budget for
//! itself. When it is back, they say what has changed since; the newest change of a circuit is what counts, and what was let
//! through meanwhile is not charged.
//!
//! Names are what is shared by: replicas with the same configuration have the same, and what a configuration changes has
//! another name.
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
//! | retry budgets | the same, for what first tries put in and retries take out | the same: share, floor and cap are those of all replicas together |
//! | idempotency keys | one script for each step, leases by Redis's clock, the end called out | one call; the durable store, where there is one, knows a record that Redis loses; else a new key that says so |
//! | answers (`cache.shared`) | a look each; stored behind the answer | an order to forget holds in all, once Redis knows |
//! | calls for whole answers (`cache.shared`) | the claim of an idempotency key made of the answer's, renewed while the call runs and given back behind the answer | one call for all who ask at once; one each where it failed, is a stream, or Redis is away |
//!
//! Redis keeps a ledger (since when, how many), by which all replicas learn of a loss. Requests in flight, adaptive
//! limits, spend, gateway keys' limits and orders by hand are each replica's own. Replicas share a circuit by the
//! tier's name, provider, model and address, and rates and budgets by their names and settings. So replicas in the
//! middle of a roll-out share what is the same.
//!
//! An outage of Redis costs no answer. One connection for all (`store/redis/link.rs`) bounds each question at 250 ms.
//! After a failure only one in every 500 ms tries, and the others fail at once. A warning reports the beginning, a
//! message the end. Meanwhile each replica goes by its own circuits and has the whole of each rate for itself. That is
//! not charged afterwards, and an exchange that may or may not have been taken is not repeated: of the two ways to be
//! wrong, too little is charged. When Redis is back, the newest event of each circuit counts, whichever replica reports
//! it first. The client's own connection manager is not used: it waits for a reconnection longer than a request may,
//! does not notice a network that is gone, and takes TLS from the process's crypto provider.

mod desk;
mod memory;
mod shares;
mod sharing;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::store::StoreError;

pub use self::{memory::MemoryReplicas, shares::Shares, sharing::Sharing};

/// Where replicas tell each other what happened.
///
/// Two kinds of things stand there under names: *notices*, of which the newest is kept, and *totals*, to which each replica
/// adds. A server of keys and values stands behind it well. All of it may be forgotten at any time.
///
/// Time is the store's own: what it is given and gives are spans, so that the clocks of two replicas need not agree.
pub trait ReplicaStore: Send + Sync + 'static {
    /// Takes what one replica has to say, and gives what stands there then, in one step.
    ///
    /// - Of two notices of one name, that which happened later stays ([`Notice::age`]).
    /// - Each count is added to the total of its name, once if it succeeds; it is not sent again if it failed.
    fn exchange<'a>(&'a self, said: &'a Said) -> Pin<Box<dyn Future<Output = Result<Heard, StoreError>> + Send + 'a>>;

    /// Waits until another replica may have put up a notice, and never longer than this. Waking too early costs an exchange.
    /// By default it sleeps for the whole time; a store that tells of changes wakes sooner.
    fn changed<'a>(&'a self, at_most: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(sleep(at_most))
    }
}

/// What a replica says, and asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Whose notices these are: a number that no other replica has.
    pub replica: u64,
    /// The names of notices it wants to see, each with a new one to put up if it has one.
    pub notices: Vec<(Arc<str>, Option<Notice>)>,
    /// Names of totals, each with what to add.
    pub counts: Vec<(Arc<str>, i64)>,
}

/// What stands in the store, in the order in which it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Another number whenever the totals have begun anew, since the store has forgotten them.
    pub epoch: u64,
    /// The notices; `None` where there is none.
    pub notices: Vec<Option<(Stamp, Notice)>>,
    /// The totals, with what was just added. They may wrap.
    pub totals: Vec<i64>,
}

/// Something that happened in one replica, for the others to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// A few words, which stand for what happened: the store need not understand them.
    pub what: Cow<'static, str>,
    /// How long ago it happened.
    pub age: Duration,
    /// How long it holds from now on; zero where it is over.
    pub left: Duration,
}

/// Which notice it is: another has another stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When it happened, by the store's clock.
    pub at: u64,
    /// Which replica has put it up.
    pub replica: u64,
}
