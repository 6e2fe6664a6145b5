use std::{
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;
use tower::BoxError;

use super::{Fingerprint, IdempotencyKey};
use crate::layers::cache::{Answer, AnswerOwner};

/// What a store does, under way. Its error says that the store could not be asked, and nothing of the request.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// Where it is written down what is being done and what was answered.
///
/// One record for each key: absent, *processing* (an input, a [`Ticket`], a lease) or *done* (an input, an answer, a time to
/// live). A database or a server of keys and values stands behind it well: each method is one conditional write.
///
/// Every method may be called again after it failed or was dropped half-way, when it may or may not have taken effect. The
/// layer bounds each by [`store_timeout`](super::IdempotencyLayer::store_timeout); where the store cannot be asked, the request
/// goes on without it.
///
/// Time is the store's own: what it is given are spans, so that the clocks of two processes need not agree.
pub trait IdempotencyStore: Send + Sync + 'static {
    /// Claims a key for a call: reads and writes in one step, so that of all who claim it at once, in all processes, one wins.
    ///
    /// - No record, or one whose time to live is over: writes *processing* with this input, a new ticket and this lease,
    ///   durably if the store is durable, then answers [`Claim::Won`].
    /// - Processing, with a lease that is over: the same, and answers [`Claim::Inherited`]. Another input may take it too: who
    ///   held it has crashed or could not say what came of it, and nothing is known of an answer.
    /// - A record of another input: [`Claim::Conflict`], whether it is processing or done, and nothing is changed.
    /// - Processing, of this input: [`Claim::Busy`].
    /// - Done, of this input: [`Claim::Done`].
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, input: &'a Fingerprint, lease: Duration) -> StoreFuture<'a, Claim>;

    /// The same, under a ticket that the claimant has chosen, so that a claim whose reply was lost can be made again, completed
    /// or given back all the same. A record that is processing under this very ticket is won again. Default: the ticket is the
    /// store's own choice, as for [`claim`](Self::claim).
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

    /// Lengthens a lease to this span from now. `false` where the ticket is not the record's any more: another has taken
    /// the key over, and nothing is changed. A lease that is over and that nobody has taken is given again.
    fn renew<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket, lease: Duration) -> StoreFuture<'a, bool>;

    /// Writes down the answer, and keeps it for this time, or less where the store is full. Once it has returned `true`,
    /// every later claim finds the answer. `false` where the ticket is not the record's any more, and nothing is changed; or
    /// where the store never has room for it, and the key is free.
    fn complete<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        ticket: Ticket,
        answer: Arc<Answer>,
        ttl: Duration,
    ) -> StoreFuture<'a, bool>;

    /// Forgets a record that is processing under this ticket, so that the next claim wins. Of another ticket, or done: it
    /// changes nothing.
    fn release<'a>(&'a self, key: &'a IdempotencyKey, ticket: Ticket) -> StoreFuture<'a, ()>;

    /// Forgets the answers that were made for these, so that their keys are as new. Says how many there were. By default it
    /// fails: a store that cannot tell whose they are must not seem to have forgotten them.
    fn forget_owner<'a>(&'a self, owner: &'a AnswerOwner) -> StoreFuture<'a, u64> {
        let _ = owner;
        Box::pin(ready(Err("this store does not know whose answers are whose".into())))
    }

    /// Removes what is over, for those who asked for it last may have been the last for long. Default: nothing is done, as by a
    /// store that forgets by itself.
    fn sweep(&self) -> StoreFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    /// Waits until the record may have changed, and never longer than this. Waking too early costs a claim. By default it
    /// sleeps for the whole time; a store that tells of changes wakes sooner.
    fn changed<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        at_most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let _ = key;
        Box::pin(sleep(at_most))
    }

    /// Whether it guards itself: says so at once while it is away, and tells of its outages. Default: no, and the layer does
    /// that for it.
    fn is_guarded(&self) -> bool {
        false
    }

    /// Whether records may be missing that were written, as of the last claim that was won: the store was emptied, or
    /// restored to an earlier state. A call under a key that is won then may have been made before. Default: no.
    fn may_have_lost(&self) -> bool {
        false
    }
}

/// The same store.
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

/// What became of a claim.
#[derive(Clone, Debug)]
pub enum Claim {
    /// The key is the claimant's, and the call its to make.
    Won(Ticket),
    /// The same; and another held the key before, of whose call nothing is known: it may have been made.
    Inherited(Ticket),
    /// Another makes the call. After this time its lease is over, unless it is renewed.
    Busy {
        /// What is left of the lease.
        lease_left: Duration,
    },
    /// The call was made.
    Done(Arc<Answer>),
    /// The key stands for something else.
    Conflict,
}

/// Says which claim of a key a call was made under. No key gets the same ticket twice while its record lives, so that one
/// who comes back after its lease was over changes nothing of what another has done since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);
