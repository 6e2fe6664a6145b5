//! The store of actions and their results.

use std::{future::Future, pin::Pin, time::Duration};

use tower::BoxError;

use super::ActionKey;

/// The future of a store operation. Its error means that the store is unavailable.
pub type ActionStoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// The store in which [`Actions`](super::Actions) record running actions and their results.
///
/// It has one record for each [key](ActionKey::as_str): absent, *acting* (an [input](ActionKey::input), a ticket, a
/// lease) or *done* (an input, a result, a lifetime). Each method is one conditional write.
///
/// The store uses its own clock and receives only spans of time, so that the clocks of two processes need not agree.
pub trait ActionStore<R>: Send + Sync + 'static {
    /// Claims a key for an action, with a read and a write in one atomic step: of all concurrent claims in all
    /// processes, one wins.
    ///
    /// - No record, one whose lifetime is over, or an acting one whose lease is over: writes *acting* with this input,
    ///   a new ticket and this lease, then answers [`ActionClaim::Won`].
    /// - A record of another input: [`ActionClaim::Conflict`], without a change.
    /// - Acting, of this input: [`ActionClaim::Busy`].
    /// - Done, of this input: [`ActionClaim::Done`].
    fn claim<'a>(&'a self, key: &'a ActionKey, lease: Duration) -> ActionStoreFuture<'a, ActionClaim<R>>;

    /// Extends a lease to this span from now. Returns `false`, without a change, if the ticket is no longer the
    /// record's.
    fn renew<'a>(&'a self, key: &'a ActionKey, ticket: u64, lease: Duration) -> ActionStoreFuture<'a, bool>;

    /// Stores the result for this time, or less if the store is full. After `true`, every later claim finds it.
    /// Returns `false`, without a change, if the ticket is no longer the record's. A caller may repeat it after an
    /// error, which leaves its effect unknown; the answer is then the same as the first time.
    fn complete<'a>(&'a self, key: &'a ActionKey, ticket: u64, result: R, ttl: Duration)
    -> ActionStoreFuture<'a, bool>;

    /// Removes a record that is acting under this ticket, so that the next claim wins.
    fn release<'a>(&'a self, key: &'a ActionKey, ticket: u64) -> ActionStoreFuture<'a, ()>;
}

/// The result of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionClaim<R> {
    /// The claimant may run the action. A key never gets the same ticket twice while its record lives.
    Won {
        /// The store's identifier of the claim.
        ticket: u64,
    },
    /// Another process runs it. After this time its lease is over, unless it is renewed.
    Busy {
        /// The rest of the lease.
        lease_left: Duration,
    },
    /// The action is done.
    Done(R),
    /// The key belongs to another input.
    Conflict,
}
