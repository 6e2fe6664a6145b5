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
