//! Claims, renews and releases a key in all reachable stores. Updates that a store missed are sent again.

use std::{
    future::{Future as _, pending, poll_fn},
    sync::{Arc, atomic::Ordering::SeqCst},
    task::Poll,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::{
    Claim, IdempotencyKey, IdempotencyStore, StoreFuture, Ticket,
    backing::Backing,
    key::KeyedInput,
    results::{CallResult, Resolution, STORES, Tickets},
    settings::Settings,
    shared::Shared,
};
use crate::{cache::Answer, store::GuardError, totals::count};

/// The interval at which missed updates are sent again.
const RESEND_EVERY: Duration = Duration::from_millis(100);
/// The time limit of a check whether a store is back.
const CHECK_TIMEOUT: Duration = Duration::from_millis(500);
/// The least time for a store that is asked after another.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);

/// The number of missed updates that are sent at a time.
const AT_ONCE: usize = 16;

/// A key that is being claimed, or was claimed.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyHold {
    /// The ticket of each store's claim that was made, or may have been.
    pub(super) tickets: Tickets,
    /// The ticket in this process's own records, if no store was reachable.
    pub(super) here: Option<Ticket>,
    /// True if the call may have been made before.
    pub(super) is_doubtful: bool,
}

/// The outcome of a claim.
pub(super) enum ClaimOutcome {
    Won,
    /// Another claimant makes the call.
    Busy {
        /// The time until its lease expires.
        lease_left: Duration,
        /// False if the store that says so may have missed the end of that call.
        is_certain: bool,
    },
    Done(Arc<Answer>),
    Conflict,
}

/// One attempt of a claim.
pub(super) struct ClaimAttempt {
    /// The time by which the stores have to answer.
    pub(super) ends: Instant,
    pub(super) is_first: bool,
    /// True if the caller has waited long enough for a store that may have missed the end of a call.
    pub(super) is_overdue: bool,
}

impl ClaimAttempt {
    /// Returns whether to ask the next store after one that reports a call as under way. `is_certain` is true if this
    /// store cannot have missed the end of the call.
    fn skips(&self, store: &Backing, is_certain: bool, is_last: bool) -> bool {
        store.refuses() && !(self.is_first && is_last) || !is_certain && self.is_overdue
    }
}

impl Shared {
    /// Asks a store, with a time limit.
    async fn ask_store<'a, T>(
        self: &'a Arc<Self>,
        place: usize,
        limit: Duration,
        asks: impl FnOnce(&'a dyn IdempotencyStore) -> StoreFuture<'a, T>,
        proves: impl FnOnce(&T) -> bool,
    ) -> Result<T, GuardError> {
        let said = self.backings[place].ask(limit, asks, proves).await;
        self.after_reply(place, said)
    }

    async fn claims(
        self: &Arc<Self>,
        place: usize,
        same: &KeyedInput,
        ticket: Ticket,
        settings: &Settings,
        limit: Duration,
    ) -> Result<Claim, GuardError> {
        let claim = self.backings[place].claim(same, ticket, settings.lease, limit).await;
        self.after_reply(place, claim)
    }

    fn after_reply<T>(self: &Arc<Self>, place: usize, said: Result<T, GuardError>) -> Result<T, GuardError> {
        if self.backings[place].is_silent() {
            self.send_soon();
        }
        // The store may have been restored to an earlier state.
        if self.backings[place].has_come_back() && self.results.resend(place) {
            self.send_soon();
            self.send_now.notify_one();
        }
        said
    }

    /// Claims a key in every reachable store, or among this process's own records if none is reachable. A claim that
    /// found the key busy is continued with the same `held`: the stores that were won stay won.
    ///
    /// A store that refuses writes cannot learn that a call is over, and one that has just failed may not know it
    /// yet. If such a store reports a call as under way, the first attempt still waits; a later one, or an overdue one,
    /// asks the next store, and may then win the key in doubt.
    pub(super) async fn claim(
        self: &Arc<Self>,
        same: &KeyedInput,
        held: &mut KeyHold,
        settings: &Settings,
        attempt: ClaimAttempt,
    ) -> ClaimOutcome {
        // An answer that was made while no store was reachable may be in none of them.
        if let Some(known) = self.local.known(&same.key, &same.input) {
            return self.known(known, same, held, settings);
        }
        let (mut is_held, mut is_certain, mut is_doubtful) = (false, false, false);
        let (mut busy, mut perhaps) = (None, None);
        for (place, backing) in self.backings.iter().enumerate() {
            let limit = self.claim_limit(place, attempt.ends, settings);
            match self.claim_in(place, same, held, settings, limit).await {
                Ok(claim @ (Claim::Won(_) | Claim::Inherited(_))) => {
                    if busy.is_some() {
                        // The call belongs to another claimant, which must find the key free in this store.
                        self.release_from(place, same, held, settings);
                        continue;
                    }
                    is_held = true;
                    is_certain |= matches!(claim, Claim::Won(_)) && backing.is_certain();
                    held.is_doubtful |= matches!(claim, Claim::Inherited(_));
                }
                Ok(Claim::Busy { lease_left }) => {
                    let is_certain = !backing.may_miss_results();
                    if attempt.skips(backing, is_certain, place + 1 == self.backings.len()) {
                        perhaps = Some(lease_left);
                        is_doubtful = true;
                        continue;
                    }
                    busy = busy.or(Some(ClaimOutcome::Busy { lease_left, is_certain }));
                    // The next store may know the answer, but is worth a question only after a wait that brought none.
                    if attempt.is_first {
                        break;
                    }
                }
                Ok(known) => return self.known(known, same, held, settings),
                Err(GuardError::Failed(_)) => count(&self.counters.store_failures),
                Err(GuardError::Bypassed) => {}
            }
        }
        if let Some(busy) = busy {
            return busy;
        }
        if let Some(lease_left) = perhaps.filter(|_| attempt.is_first && !is_held) {
            return ClaimOutcome::Busy { lease_left, is_certain: false };
        }
        if !is_held {
            match self.local.take_claim(&same.key, &same.input, settings.lease) {
                Claim::Won(ticket) | Claim::Inherited(ticket) => held.here = Some(ticket),
                known => return self.known(known, same, held, settings),
            }
        }
        held.is_doubtful |= is_doubtful || !is_certain;
        ClaimOutcome::Won
    }

    /// Returns how long a claim waits for a store, so that the stores after it are asked in time too.
    fn claim_limit(&self, place: usize, ends: Instant, settings: &Settings) -> Duration {
        let later = MIN_TIMEOUT * (self.backings.len() - place - 1) as u32;
        let limit = ends.saturating_duration_since(Instant::now()).saturating_sub(later);
        // A store that has not answered is asked again, but not waited for as long.
        let longest = settings.store_timeout / if self.backings[place].is_silent() { 2 } else { 1 };
        limit.max(MIN_TIMEOUT).min(longest)
    }

    /// Claims a key in one store, or renews the claim there.
    async fn claim_in(
        self: &Arc<Self>,
        place: usize,
        same: &KeyedInput,
        held: &mut KeyHold,
        settings: &Settings,
        limit: Duration,
    ) -> Result<Claim, GuardError> {
        let ends = Instant::now() + limit;
        let ticket = &mut held.tickets[place];
        if let Some(ticket) = *ticket
            && self
                .ask_store(place, limit, |store| store.renew(&same.key, ticket, settings.lease), |renewed| *renewed)
                .await?
        {
            return Ok(Claim::Won(ticket));
        }
        let before = *ticket;
        // The ticket is known before the claim: the store may carry out a claim and still not answer.
        let own = *ticket.get_or_insert_with(new_ticket);
        let limit = ends.saturating_duration_since(Instant::now());
        let claim = self.claims(place, same, own, settings, limit).await;
        match &claim {
            Ok(Claim::Won(won) | Claim::Inherited(won)) => *ticket = Some(*won),
            Ok(_) => *ticket = None,
            Err(GuardError::Failed(_)) => {}
            Err(GuardError::Bypassed) => *ticket = before,
        }
        claim
    }

    /// Returns the outcome of a claim that has not won. The stores in which the key is held learn of it.
    fn known(self: &Arc<Self>, known: Claim, same: &KeyedInput, held: &KeyHold, settings: &Settings) -> ClaimOutcome {
        let (what, outcome) = match known {
            Claim::Done(answer) => (Resolution::Keep(answer.clone()), ClaimOutcome::Done(answer)),
            Claim::Conflict => (Resolution::Release, ClaimOutcome::Conflict),
            // The claim goes on later. (A claim that has not won is never `Won` or `Inherited`.)
            Claim::Busy { lease_left } => return ClaimOutcome::Busy { lease_left, is_certain: true },
            Claim::Won(_) | Claim::Inherited(_) => {
                return ClaimOutcome::Busy { lease_left: Duration::ZERO, is_certain: true };
            }
        };
        self.inform(same, what, held, settings);
        outcome
    }

    /// Checks whether the stores accept writes. Completes only if one now refuses them: the calls that it reports as
    /// under way may have ended.
    pub(super) async fn until_refused(&self, settings: &Settings) {
        let limit = settings.store_timeout / STORES as u32;
        let refused = join_all(self.backings.iter().map(|backing| backing.starts_to_refuse(limit))).await;
        if !refused.contains(&true) {
            pending().await
        }
    }

    /// Sends a key's resolution, in the background, to the stores in which it was claimed.
    pub(super) fn inform(self: &Arc<Self>, same: &KeyedInput, what: Resolution, held: &KeyHold, settings: &Settings) {
        let stored = held.tickets.map(|ticket| ticket.is_none());
        let result = CallResult::new(*same, what, held.tickets, stored, *settings);
        if !result.is_stored() {
            self.put(result);
        }
    }

    /// Releases a key in one store, in the background.
    fn release_from(self: &Arc<Self>, place: usize, same: &KeyedInput, held: &mut KeyHold, settings: &Settings) {
        let mut only = KeyHold::default();
        only.tickets[place] = held.tickets[place].take();
        self.inform(same, Resolution::Release, &only, settings);
    }

    /// Waits until a new claim may have another result.
    pub(super) async fn changed(&self, same: &KeyedInput, at_most: Duration) {
        let mut changes: Vec<_> =
            self.backings.iter().map(|backing| Box::pin(backing.changed(&same.key, at_most))).collect();
        poll_fn(|cx| match changes.iter_mut().any(|change| change.as_mut().poll(cx).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// Waits until a store comes back.
    pub(super) async fn returned(&self) {
        let mut returns: Vec<_> = self.backings.iter().map(Backing::returns).collect();
        let mut returned: Vec<_> = returns.iter_mut().map(|returns| Box::pin(returns.changed())).collect();
        poll_fn(|cx| match returned.iter_mut().any(|returned| returned.as_mut().poll(cx).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// Renews a key's lease, also in a store that was away when the key was claimed or has lost it since. Returns
    /// `false` if another claimant has taken the key over.
    pub(super) async fn renew(self: &Arc<Self>, same: &KeyedInput, held: &mut KeyHold, settings: &Settings) -> bool {
        let limit = settings.store_timeout / STORES as u32;
        let mut is_held = held.here.is_some_and(|ticket| self.local.take_renewal(&same.key, ticket, settings.lease));
        for place in 0..self.backings.len() {
            is_held |= match self.claim_in(place, same, held, settings, limit).await {
                Ok(claim) => matches!(claim, Claim::Won(_) | Claim::Inherited(_)),
                // The result is unknown.
                Err(_) => held.tickets[place].is_some(),
            };
        }
        is_held
    }

    /// Returns whether the answer was kept: in a store or, if none is reachable, in this process.
    pub(super) async fn complete(
        self: &Arc<Self>,
        same: &KeyedInput,
        held: &KeyHold,
        answer: &Arc<Answer>,
        settings: &Settings,
    ) -> bool {
        let mut result =
            CallResult::new(*same, Resolution::Keep(answer.clone()), held.tickets, [true; STORES], *settings);
        let kept = self.send_all(&mut result).await;
        let is_kept = if kept.contains(&Some(true)) {
            if let Some(ticket) = held.here {
                self.local.take_release(&same.key, ticket);
            }
            true
        } else if kept.contains(&None) || held.here.is_some() {
            let here = held.here.or_else(|| match self.local.take_claim(&same.key, &same.input, settings.lease) {
                Claim::Won(ticket) | Claim::Inherited(ticket) => Some(ticket),
                _ => None,
            });
            here.is_some_and(|ticket| self.local.take_answer(&same.key, ticket, answer.clone(), settings.ttl))
        } else {
            false
        };
        self.put(result);
        is_kept
    }

    pub(super) async fn release(self: &Arc<Self>, same: &KeyedInput, held: &KeyHold, settings: &Settings) {
        if let Some(ticket) = held.here {
            self.local.take_release(&same.key, ticket);
        }
        let mut result = CallResult::new(*same, Resolution::Release, held.tickets, [true; STORES], *settings);
        self.send_all(&mut result).await;
        if !result.is_stored() {
            self.put(result);
        }
    }

    fn put(self: &Arc<Self>, result: CallResult) {
        let is_stored = result.is_stored();
        self.results.put(result);
        if !is_stored {
            self.send_soon();
            self.send_now.notify_one();
        }
    }

    /// Sends an update to all stores at once. Returns for each whether it applied the update; `None` if that is not
    /// known yet.
    async fn send_all(self: &Arc<Self>, result: &mut CallResult) -> Vec<Option<bool>> {
        let words = (0..self.backings.len()).map(|place| {
            let mut result = result.clone();
            async move {
                // A caller waits for this; a background task checks whether the store is back.
                if self.backings[place].is_left_alone() {
                    return (Err(GuardError::Bypassed), result.tickets[place]);
                }
                let said = self.send(&mut result, place).await;
                (said, result.tickets[place])
            }
        });
        let said = join_all(words).await;
        let told = said.into_iter().enumerate().map(|(place, (said, ticket))| {
            (result.stored[place], result.tickets[place]) = (said.as_ref().is_ok_and(Delivery::is_final), ticket);
            match said {
                Ok(Delivery::Applied) => Some(true),
                Ok(Delivery::Superseded) => Some(false),
                Ok(Delivery::Busy) | Err(GuardError::Bypassed) => None,
                Err(GuardError::Failed(_)) => {
                    count(&self.counters.store_failures);
                    None
                }
            }
        });
        told.collect()
    }

    /// Sends an update to one store.
    async fn send(self: &Arc<Self>, result: &mut CallResult, place: usize) -> Result<Delivery, GuardError> {
        let CallResult { same, what, tickets, settings, .. } = result;
        let limit = settings.store_timeout;
        let ticket = &mut tickets[place];
        let Resolution::Keep(answer) = what else {
            return match *ticket {
                Some(ticket) => self.release_in(place, same, ticket, limit).await.map(|()| Delivery::Superseded),
                None => Ok(Delivery::Superseded),
            };
        };
        // If a record no longer belongs to this call, the store has usually lost it: make it again.
        for again in [true, false] {
            if let Some(ticket) = *ticket {
                let answer = answer.clone();
                let kept = self
                    .ask_store(
                        place,
                        limit,
                        |store| store.complete(&same.key, ticket, answer, settings.ttl),
                        |kept| *kept,
                    )
                    .await;
                if let Err(GuardError::Failed(kind)) = kept
                    && kind.is_refusal()
                {
                    // Other claimants must not wait for an answer that cannot be written.
                    let _ = self.release_in(place, same, ticket, limit).await;
                }
                if kept? {
                    return Ok(Delivery::Applied);
                }
            }
            if again {
                let own = ticket.unwrap_or_else(new_ticket);
                match self.claims(place, same, own, settings, limit).await {
                    Ok(Claim::Won(won) | Claim::Inherited(won)) => *ticket = Some(won),
                    Ok(Claim::Done(_)) => return Ok(Delivery::Applied),
                    Ok(Claim::Busy { .. }) => return Ok(Delivery::Busy),
                    Ok(Claim::Conflict) => return Ok(Delivery::Superseded),
                    Err(silence) => {
                        *ticket = Some(own);
                        return Err(silence);
                    }
                }
            }
        }
        Ok(Delivery::Superseded)
    }

    async fn release_in(
        self: &Arc<Self>,
        place: usize,
        same: &KeyedInput,
        ticket: Ticket,
        limit: Duration,
    ) -> Result<(), GuardError> {
        self.ask_store(place, limit, |store| store.release(&same.key, ticket), |()| false).await
    }

    /// Sends missed updates to the stores in a task of its own, until all have them or they have expired. The task
    /// also checks whether silent stores are back, so that no request has to.
    fn send_soon(self: &Arc<Self>) {
        if *self.closed.borrow() || self.sending.swap(true, SeqCst) {
            return;
        }
        let shared = Arc::downgrade(self);
        let send_now = self.send_now.clone();
        let mut held = Some(self.clone());
        tokio::spawn(async move {
            loop {
                let _ = timeout(RESEND_EVERY, send_now.notified()).await;
                let Some(shared) = held.take().or_else(|| shared.upgrade()) else { return };
                shared.send_pending().await;
                shared.check_silent_stores().await;
                if *shared.closed.borrow() {
                    return shared.sending.store(false, SeqCst);
                }
                let has_pending = shared.results.has_pending();
                if !has_pending && !shared.is_silent() {
                    shared.sending.store(false, SeqCst);
                    // Another update may have come in between.
                    let is_over = !shared.results.has_pending() && !shared.is_silent();
                    if is_over || shared.sending.swap(true, SeqCst) {
                        return;
                    }
                }
                // The task outlives the last layer: the updates are of calls that were made.
                held = has_pending.then_some(shared);
            }
        });
    }

    fn is_silent(&self) -> bool {
        self.backings.iter().any(Backing::is_silent)
    }

    /// Checks the silent stores with a question that changes nothing.
    async fn check_silent_stores(self: &Arc<Self>) {
        let nobodys = IdempotencyKey::from_bytes([0; 32]);
        for (place, backing) in self.backings.iter().enumerate() {
            if backing.is_silent() {
                let _ =
                    self.ask_store(place, CHECK_TIMEOUT, |store| store.release(&nobodys, Ticket(0)), |()| false).await;
            }
        }
    }

    /// Sends the missed updates, some at a time. The newest go first, since repeats wait for those.
    async fn send_pending(self: &Arc<Self>) {
        let mut is_silent = [false; STORES];
        let mut before = u64::MAX;
        loop {
            let batch = self.results.pending(before, AT_ONCE, is_silent);
            let Some(oldest) = batch.last() else { return };
            before = oldest.number();
            if *self.closed.borrow() {
                return;
            }
            let sent = join_all(batch.into_iter().map(|result| self.send_missed(result, is_silent))).await;
            for failed in sent {
                is_silent.iter_mut().zip(failed).for_each(|(is_silent, failed)| *is_silent |= failed);
            }
        }
    }

    /// Sends one update to the stores that missed it. Returns the stores that did not answer.
    async fn send_missed(self: &Arc<Self>, mut result: CallResult, mut is_silent: [bool; STORES]) -> [bool; STORES] {
        for (place, is_silent) in is_silent.iter_mut().enumerate().take(self.backings.len()) {
            if result.stored[place] || *is_silent {
                continue;
            }
            match self.send(&mut result, place).await {
                Ok(delivery) => result.stored[place] = delivery.is_final(),
                Err(GuardError::Failed(kind)) if kind.is_refusal() => {}
                Err(_) => *is_silent = true,
            }
            self.results.record_progress(&result);
        }
        is_silent
    }
}

/// The fate of an update at one store.
enum Delivery {
    Applied,
    /// The record has gone to another claimant for good, or there is nothing to change.
    Superseded,
    /// Another claimant holds the key for now. It may give the key back without an answer.
    Busy,
}

impl Delivery {
    /// Returns whether the update is not to be sent again.
    fn is_final(&self) -> bool {
        !matches!(self, Self::Busy)
    }
}

/// Returns a unique ticket, with room above it for tickets that a store counts itself.
fn new_ticket() -> Ticket {
    Ticket(fastrand::u64(1 << 32..1 << 62))
}
