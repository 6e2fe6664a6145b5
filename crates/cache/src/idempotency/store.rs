use std::{
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;
use tower::BoxError;

use super::{Fingerprint, IdempotencyKey};
use crate::cache::{Answer, AnswerOwner};

/// The future of a store's method. Its error says that the store was unreachable, and nothing of the request.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// A record of the calls under way and of their answers.
///
/// There is one record for each key: absent, *processing* (an input, a [`Ticket`], a lease) or *done* (an input, an
/// answer, a time to live). It fits a database or a key-value server: each method is one conditional write.
///
/// The layer may call every method again after it failed or was dropped half-way, when it may or may not have taken
/// effect. The layer bounds each by [`store_timeout`](super::IdempotencyLayer::store_timeout). If the store is
/// unreachable, the request goes on without it.
///
/// Time is the store's own: the layer passes spans, so that the clocks of two processes need not agree.
pub trait IdempotencyStore: Send + Sync + 'static {
    /// Claims a key for a call. It reads and writes in one step, so that one wins of all that claim the key at
    /// once, in all processes.
    ///
    /// - No record, or one whose time to live is over: writes *processing* with this input, a new ticket and this
    ///   lease, durably if the store is durable, then returns [`Claim::Won`].
    /// - Processing, with an expired lease: does the same, and returns [`Claim::Inherited`]. Another input may take
    ///   it too: the holder has crashed or could not report a result, and no answer is known.
    /// - A record of another input: [`Claim::Conflict`], whether it is processing or done, and nothing is changed.
    /// - Processing, of this input: [`Claim::Busy`].
    /// - Done, of this input: [`Claim::Done`].
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, input: &'a Fingerprint, lease: Duration) -> StoreFuture<'a, Claim>;

    /// Claims a key under a ticket that the claimant has chosen. A claim whose reply was lost can then be made
    /// again, completed or released. A record that is processing under this very ticket is won again. Default: the
    /// store chooses the ticket, as for [`claim`](Self::claim).
    fn claim_as<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        input: &'a Fingerprint,
        lease: Duration,
        ticket: Ticket,
    ) -> StoreFuture<'a, Claim> {
        let _ = ticket;
        self.claim(key, input, lease)
    }

    /// Extends a lease to this span from now. Returns `false`, and changes nothing, if another claimant has taken
    /// the key over. An expired lease that no claimant has taken is granted again.
    fn renew<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket, lease: Duration) -> StoreFuture<'a, bool>;

    /// Writes the answer, and keeps it for this time, or less if the store is full. Once it has returned `true`,
    /// every later claim finds the answer. Returns `false` and changes nothing if the record no longer has this
    /// ticket. Also returns `false` if the store can never have room for the answer; the key is then free.
    fn complete<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        ticket: Ticket,
        answer: Arc<Answer>,
        ttl: Duration,
    ) -> StoreFuture<'a, bool>;

    /// Removes a record that is processing under this ticket, so that the next claim wins. It changes nothing if
    /// the record is done or has another ticket.
    fn release<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket) -> StoreFuture<'a, ()>;

    /// Forgets the answers that were made for this owner, so that their keys are as new. Returns how many there
    /// were. By default it fails: a store that does not know its answers' owners must not seem to have forgotten
    /// them.
    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        let _ = owner;
        Box::pin(ready(Err("this store does not know whose answers are whose".into())))
    }

    /// Removes expired records, since no later request may touch them. Default: does nothing, as for a store that
    /// expires records by itself.
    fn sweep(&self) -> StoreFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    /// Waits until the record may have changed, and never longer than this. Waking too early costs a claim. By
    /// default it sleeps for the whole time; a store with change notifications wakes sooner.
    fn changed<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        at_most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let _ = key;
        Box::pin(sleep(at_most))
    }

    /// Returns whether the store guards itself: it fails at once while it is away, and reports its outages.
    /// Default: no, and the layer does that for it.
    fn is_guarded(&self) -> bool {
        false
    }

    /// Returns whether records may be missing that were written, as of the last claim that was won: the store was
    /// emptied, or restored to an earlier state. The call of a key that is won then may have been made before.
    /// Default: no.
    fn may_have_lost(&self) -> bool {
        false
    }
}

/// Forwards to the same store.
impl<S: IdempotencyStore + ?Sized> IdempotencyStore for Arc<S> {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, input: &'a Fingerprint, lease: Duration) -> StoreFuture<'a, Claim> {
        (**self).claim(key, input, lease)
    }

    fn claim_as<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        input: &'a Fingerprint,
        lease: Duration,
        ticket: Ticket,
    ) -> StoreFuture<'a, Claim> {
        (**self).claim_as(key, input, lease, ticket)
    }

    fn renew<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket, lease: Duration) -> StoreFuture<'a, bool> {
        (**self).renew(key, ticket, lease)
    }

    fn complete<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        ticket: Ticket,
        answer: Arc<Answer>,
        ttl: Duration,
    ) -> StoreFuture<'a, bool> {
        (**self).complete(key, ticket, answer, ttl)
    }

    fn release<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket) -> StoreFuture<'a, ()> {
        (**self).release(key, ticket)
    }

    fn sweep(&self) -> StoreFuture<'_, ()> {
        (**self).sweep()
    }

    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        (**self).forget_owner(owner)
    }

    fn changed<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        at_most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        (**self).changed(key, at_most)
    }

    fn is_guarded(&self) -> bool {
        (**self).is_guarded()
    }

    fn may_have_lost(&self) -> bool {
        (**self).may_have_lost()
    }
}

/// The outcome of a claim.
#[derive(Clone, Debug)]
pub enum Claim {
    /// The claimant has the key, and makes the call.
    Won(Ticket),
    /// The claimant has the key, and makes the call. An earlier holder never reported a result: its call may have
    /// been made.
    Inherited(Ticket),
    /// Another claimant makes the call.
    Busy {
        /// The time left until the lease expires, unless it is renewed.
        lease_left: Duration,
    },
    /// The call was made.
    Done(Arc<Answer>),
    /// The key stands for another input.
    Conflict,
}

/// The claim of a key under which a call was made. No key gets the same ticket twice while its record lives. A
/// holder that returns after its lease expired therefore changes no later claimant's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);
