//! Claims, renews and releases a key in all reachable stores. Updates that a store missed are sent again.

use std::{
    future::{Future as _, poll_fn},
    sync::{Arc, atomic::Ordering::SeqCst},
    task::Poll,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::{
    Claim, IdempotencyKey, IdempotencyStore, StoreFuture, Ticket,
    backing::Backing,
    handle::{ClaimOutcome, KeyHold, Shared},
    key::KeyedInput,
    layer::Settings,
    results::{CallResult, Resolution, STORES},
};
use crate::{
    layers::{cache::Answer, totals::count},
    store::GuardError,
};

/// The interval at which missed updates are sent again.
const RESEND_EVERY: Duration = Duration::from_millis(250);
/// The time limit of a check whether a store is back.
const CHECK_TIMEOUT: Duration = Duration::from_millis(500);
/// The least time for a store that is asked after another.
const MIN_TIMEOUT: Duration = Duration::from_millis(100);

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
        }
        said
    }

    /// Claims a key in every reachable store, or among this process's own records if none is reachable.
    ///
    /// A store that refuses writes cannot learn that a call is over. If it says that a call is under way, the next
    /// store is asked too, and only a patient caller waits for it.
    pub(super) async fn claim(
        self: &Arc<Self>,
        same: &KeyedInput,
        settings: &Settings,
        is_patient: bool,
    ) -> ClaimOutcome {
        // An answer that was made while no store was reachable may be in none of them.
        if let Some(known) = self.local.known(&same.key, &same.input) {
            return ClaimOutcome::known(known);
        }
        let ends = Instant::now() + settings.store_timeout;
        let ticket = new_ticket();
        let mut held = KeyHold { ticket, tickets: [None; STORES], here: None, is_doubtful: false };
        let (mut is_held, mut is_certain, mut perhaps) = (false, false, None);
        for (place, backing) in self.backings.iter().enumerate() {
            let limit = ends.saturating_duration_since(Instant::now()).max(MIN_TIMEOUT.min(settings.store_timeout));
            match self.claims(place, same, ticket, settings, limit).await {
                Ok(Claim::Won(ticket)) => {
                    (held.tickets[place], is_held) = (Some(ticket), true);
                    is_certain |= backing.is_certain();
                }
                Ok(Claim::Inherited(ticket)) => {
                    (held.tickets[place], is_held) = (Some(ticket), true);
                    held.is_doubtful = true;
                }
                Ok(Claim::Busy { lease_left })
                    if backing.refuses() && (!is_patient || place + 1 < self.backings.len()) =>
                {
                    perhaps = Some(lease_left);
                    held.is_doubtful = true;
                }
                Ok(known) => {
                    let what = match &known {
                        Claim::Done(answer) => Resolution::Keep(answer.clone()),
                        _ => Resolution::Release,
                    };
                    self.inform_earlier(same, what, &held, place, settings);
                    return ClaimOutcome::known(known);
                }
                // The store may have carried it out all the same.
                Err(GuardError::Failed(_)) => {
                    count(&self.counters.store_failures);
                    held.tickets[place] = Some(ticket);
                }
                Err(GuardError::Bypassed) => {}
            }
        }
        if let Some(lease_left) = perhaps.filter(|_| is_patient && !is_held) {
            self.inform_earlier(same, Resolution::Release, &held, self.backings.len(), settings);
            return ClaimOutcome::Busy(lease_left);
        }
        held.is_doubtful |= !is_certain;
        if !is_held {
            match self.local.take_claim(&same.key, &same.input, settings.lease) {
                Claim::Won(ticket) | Claim::Inherited(ticket) => held.here = Some(ticket),
                known => {
                    self.inform_earlier(same, Resolution::Release, &held, self.backings.len(), settings);
                    return ClaimOutcome::known(known);
                }
            }
        }
        ClaimOutcome::Won(held)
    }

    /// Checks whether the stores that report a key as taken accept writes again.
    pub(super) async fn try_to_write(&self, settings: &Settings) {
        for backing in &self.backings {
            backing.try_to_write(settings.store_timeout / STORES as u32).await;
        }
    }

    /// Sends another store's knowledge of a key to the stores before it in which the key was claimed.
    fn inform_earlier(
        self: &Arc<Self>,
        same: &KeyedInput,
        what: Resolution,
        held: &KeyHold,
        place: usize,
        settings: &Settings,
    ) {
        let told = std::array::from_fn(|before| before >= place || held.tickets[before].is_none());
        let result = CallResult::new(*same, what, held.tickets, told, *settings);
        if !result.is_stored() {
            self.results.put(result);
            self.send_soon();
        }
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
        let limit = settings.store_timeout / (2 * STORES as u32);
        let mut is_held = held.here.is_some_and(|ticket| self.local.take_renewal(&same.key, ticket, settings.lease));
        for place in 0..self.backings.len() {
            let renewed = match held.tickets[place] {
                Some(ticket) => {
                    self.ask_store(
                        place,
                        limit,
                        |store| store.renew(&same.key, ticket, settings.lease),
                        |renewed| *renewed,
                    )
                    .await
                }
                None => Ok(false),
            };
            match renewed {
                Ok(true) => is_held = true,
                Ok(false) => {
                    held.tickets[place] = match self.claims(place, same, held.ticket, settings, limit).await {
                        Ok(Claim::Won(ticket) | Claim::Inherited(ticket)) => Some(ticket),
                        Ok(_) | Err(GuardError::Bypassed) => None,
                        Err(GuardError::Failed(_)) => Some(held.ticket),
                    };
                    is_held |= held.tickets[place].is_some();
                }
                // The result is unknown.
                Err(_) => is_held = true,
            }
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
        }
    }

    /// Sends an update to all stores at once. Returns for each whether it applied the update; `None` if it was not
    /// asked.
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
            (result.stored[place], result.tickets[place]) = (said.is_ok(), ticket);
            if let Err(GuardError::Failed(_)) = said {
                count(&self.counters.store_failures);
            }
            said.ok()
        });
        told.collect()
    }

    /// Sends an update to one store. Returns whether the store applied it.
    async fn send(self: &Arc<Self>, result: &mut CallResult, place: usize) -> Result<bool, GuardError> {
        let CallResult { same, what, tickets, settings, .. } = result;
        let limit = settings.store_timeout;
        let ticket = &mut tickets[place];
        let Resolution::Keep(answer) = what else {
            return match *ticket {
                Some(ticket) => self.release_in(place, same, ticket, limit).await.map(|()| false),
                None => Ok(false),
            };
        };
        // A record that no longer belongs to this call was lost, as a rule, and is made again.
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
                    return Ok(true);
                }
            }
            if again {
                let own = ticket.unwrap_or_else(new_ticket);
                match self.claims(place, same, own, settings, limit).await {
                    Ok(Claim::Won(won) | Claim::Inherited(won)) => *ticket = Some(won),
                    Ok(Claim::Done(_)) => return Ok(true),
                    Ok(Claim::Busy { .. } | Claim::Conflict) => return Ok(false),
                    Err(silence) => {
                        *ticket = Some(own);
                        return Err(silence);
                    }
                }
            }
        }
        Ok(false)
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
        let mut held = Some(self.clone());
        tokio::spawn(async move {
            loop {
                sleep(RESEND_EVERY).await;
                let Some(shared) = held.take().or_else(|| shared.upgrade()) else { return };
                shared.send_pending().await;
                shared.check_silent_stores().await;
                if *shared.closed.borrow() {
                    return shared.sending.store(false, SeqCst);
                }
                let has_pending = !shared.results.pending().is_empty();
                if !has_pending && !shared.is_silent() {
                    shared.sending.store(false, SeqCst);
                    // Another update may have come in between.
                    let is_over = shared.results.pending().is_empty() && !shared.is_silent();
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

    async fn send_pending(self: &Arc<Self>) {
        let mut is_silent = [false; STORES];
        for mut result in self.results.pending() {
            if *self.closed.borrow() {
                return;
            }
            for (place, is_silent) in is_silent.iter_mut().enumerate().take(self.backings.len()) {
                if result.stored[place] || *is_silent {
                    continue;
                }
                match self.send(&mut result, place).await {
                    Ok(_) => result.stored[place] = true,
                    Err(GuardError::Failed(kind)) if kind.is_refusal() => {}
                    Err(_) => *is_silent = true,
                }
                self.results.record_progress(&result);
            }
        }
    }
}

/// Returns a unique ticket, with room above it for tickets that a store counts itself.
fn new_ticket() -> Ticket {
    Ticket(fastrand::u64(1 << 32..1 << 62))
}

impl ClaimOutcome {
    /// Converts a claim that has not won.
    fn known(claim: Claim) -> Self {
        match claim {
            Claim::Busy { lease_left } => Self::Busy(lease_left),
            Claim::Done(answer) => Self::Done(answer),
            Claim::Conflict => Self::Conflict,
            // A claim that has not won is neither.
            Claim::Won(_) | Claim::Inherited(_) => Self::Busy(Duration::ZERO),
        }
    }
}
