//! Where it is written down what was done.

use std::{future::Future, pin::Pin, time::Duration};

use tower::BoxError;

use super::ActionKey;

/// What a store does, under way. Its error says that the store could not be asked.
pub type ActionStoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// Where [`Actions`](super::Actions) write down what is being done and what came of it.
///
/// One record for each [key](ActionKey::as_str): absent, *acting* (an [input](ActionKey::input), a ticket, a lease) or
/// *done* (an input, a result, a time to live). Each method is one conditional write.
///
/// Time is the store's own: what it is given are spans, so that the clocks of two processes need not agree.
pub trait ActionStore<R>: Send + Sync + 'static {
    /// Claims a key for an action, reading and writing in one step: of all who claim it at once, in all processes, one
    /// wins.
    ///
    /// - No record, one whose time to live is over, or one that is acting and whose lease is over: writes *acting* with this
    ///   input, a new ticket and this lease, then answers [`ActionClaim::Won`].
    /// - A record of another input: [`ActionClaim::Conflict`], and nothing is changed.
    /// - Acting, of this input: [`ActionClaim::Busy`].
    /// - Done, of this input: [`ActionClaim::Done`].
    fn claim<'a>(&'a self, key: &'a ActionKey, lease: Duration) -> ActionStoreFuture<'a, ActionClaim<R>>;

    /// Lengthens a lease to this span from now. `false` where the ticket is not the record's any more, and nothing is
    /// changed.
    fn renew<'a>(&'a self, key: &'a ActionKey, ticket: u64, lease: Duration) -> ActionStoreFuture<'a, bool>;

    /// Writes the result down, and keeps it for this time, or less where the store is full. Once it has returned `true`,
    /// every later claim finds it. `false` where the ticket is not the record's any more, and nothing is changed. It may be
    /// called again after it failed, when it may or may not have taken effect: then it answers the same as the first time.
    fn complete<'a>(&'a self, key: &'a ActionKey, ticket: u64, result: R, ttl: Duration)
    -> ActionStoreFuture<'a, bool>;

    /// Forgets a record that is acting under this ticket, so that the next claim wins.
    fn release<'a>(&'a self, key: &'a ActionKey, ticket: u64) -> ActionStoreFuture<'a, ()>;
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionClaim<R> {
    /// The action is the claimant's to do. No key gets the same ticket twice while its record lives.
    Won {
        /// By which the store knows the claim.
        ticket: u64,
    },
    /// Another does it. After this time its lease is over, unless it is renewed.
    Busy {
        /// What is left of the lease.
        lease_left: Duration,
    },
    /// It was done.
    Done(R),
    /// The key stands for something else.
    Conflict,
}
