//! A key is claimed, held and given back in all stores that can be asked; what they could not be told they are told again.

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
    handle::{Claimed, Held, Shared},
    key::Same,
    layer::Settings,
    words::{STORES, What, Word},
};
use crate::{
    layers::{cache::Answer, totals::count},
    store::guard::GuardError,
};

/// How often a store is told again that could not be told.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// How long it may take to see whether a store is back.
const LOOK: Duration = Duration::from_millis(500);
/// The least time for a store that is asked after another.
const LEAST: Duration = Duration::from_millis(100);

impl Shared {
    /// What a store says, in time.
    async fn asked<'a, T>(
        self: &'a Arc<Self>,
        place: usize,
        limit: Duration,
        asks: impl FnOnce(&'a dyn IdempotencyStore) -> StoreFuture<'a, T>,
        proves: impl FnOnce(&T) -> bool,
    ) -> Result<T, GuardError> {
        let said = self.backings[place].ask(limit, asks, proves).await;
        self.heard(place, said)
    }

    async fn claims(
        self: &Arc<Self>,
        place: usize,
        same: &Same,
        ticket: Ticket,
        settings: &Settings,
        limit: Duration,
    ) -> Result<Claim, GuardError> {
        let claim = self.backings[place].claim(same, ticket, settings.lease, limit).await;
        self.heard(place, claim)
    }

    fn heard<T>(self: &Arc<Self>, place: usize, said: Result<T, GuardError>) -> Result<T, GuardError> {
        if self.backings[place].is_silent() {
            self.tell_soon();
        }
        // It may have been restored to an earlier state.
        if self.backings[place].has_come_back() && self.words.tell_again(place) {
            self.tell_soon();
        }
        said
    }

    /// Claims a key in every store that can be asked; where none can, among what this process knows itself.
    ///
    /// A store that refuses to write cannot be told that a call is over: what it says is under way is asked of the next one, and
    /// waited for with patience alone.
    pub(super) async fn claim(self: &Arc<Self>, same: &Same, settings: &Settings, is_patient: bool) -> Claimed {
        // What was answered while no store could be asked may be in none of them.
        if let Some(known) = self.local.known(&same.key, &same.input) {
            return Claimed::known(known);
        }
        let ends = Instant::now() + settings.store_timeout;
        let ticket = new_ticket();
        let mut held = Held { ticket, tickets: [None; STORES], here: None, is_doubtful: false };
        let (mut is_held, mut is_certain, mut perhaps) = (false, false, None);
        for (place, backing) in self.backings.iter().enumerate() {
            let limit = ends.saturating_duration_since(Instant::now()).max(LEAST.min(settings.store_timeout));
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
                        Claim::Done(answer) => What::Keep(answer.clone()),
                        _ => What::GiveBack,
                    };
                    self.says(same, what, &held, place, settings);
                    return Claimed::known(known);
                }
                // It may have been done all the same.
                Err(GuardError::Failed(_)) => {
                    count(&self.counters.store_failures);
                    held.tickets[place] = Some(ticket);
                }
                Err(GuardError::Bypassed) => {}
            }
        }
        if let Some(lease_left) = perhaps.filter(|_| is_patient && !is_held) {
            self.says(same, What::GiveBack, &held, self.backings.len(), settings);
            return Claimed::Busy(lease_left);
        }
        held.is_doubtful |= !is_certain;
        if !is_held {
            match self.local.take_claim(&same.key, &same.input, settings.lease) {
                Claim::Won(ticket) | Claim::Inherited(ticket) => held.here = Some(ticket),
                known => {
                    self.says(same, What::GiveBack, &held, self.backings.len(), settings);
                    return Claimed::known(known);
                }
            }
        }
        Claimed::Won(held)
    }

    /// Sees whether the stores that say that a key is taken can be told that it is free again.
    pub(super) async fn try_to_write(&self, settings: &Settings) {
        for backing in &self.backings {
            backing.try_to_write(settings.store_timeout / STORES as u32).await;
        }
    }

    /// The stores before this one are told what another knows of a key, where it was claimed in them.
    fn says(self: &Arc<Self>, same: &Same, what: What, held: &Held, place: usize, settings: &Settings) {
        let told = std::array::from_fn(|before| before >= place || held.tickets[before].is_none());
        let word = Word::new(*same, what, held.tickets, told, *settings);
        if !word.is_told() {
            self.words.put(word);
            self.tell_soon();
        }
    }

    /// Waits until a claim may come to something else.
    pub(super) async fn changed(&self, same: &Same, at_most: Duration) {
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

    /// Holds a key for another lease: also in a store that was away when it was claimed, or has lost it since. `false` where
    /// another has taken it over.
    pub(super) async fn renew(self: &Arc<Self>, same: &Same, held: &mut Held, settings: &Settings) -> bool {
        let limit = settings.store_timeout / (2 * STORES as u32);
        let mut is_held = held.here.is_some_and(|ticket| self.local.take_renewal(&same.key, ticket, settings.lease));
        for place in 0..self.backings.len() {
            let renewed = match held.tickets[place] {
                Some(ticket) => {
                    self.asked(place, limit, |store| store.renew(&same.key, ticket, settings.lease), |renewed| *renewed)
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
                // Nobody knows.
                Err(_) => is_held = true,
            }
        }
        is_held
    }

    /// Whether it was kept: in a store or, where none can be told, here.
    pub(super) async fn complete(
        self: &Arc<Self>,
        same: &Same,
        held: &Held,
        answer: &Arc<Answer>,
        settings: &Settings,
    ) -> bool {
        let mut word = Word::new(*same, What::Keep(answer.clone()), held.tickets, [true; STORES], *settings);
        let kept = self.tell_all(&mut word).await;
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
        self.put(word);
        is_kept
    }

    pub(super) async fn release(self: &Arc<Self>, same: &Same, held: &Held, settings: &Settings) {
        if let Some(ticket) = held.here {
            self.local.take_release(&same.key, ticket);
        }
        let mut word = Word::new(*same, What::GiveBack, held.tickets, [true; STORES], *settings);
        self.tell_all(&mut word).await;
        if !word.is_told() {
            self.put(word);
        }
    }

    fn put(self: &Arc<Self>, word: Word) {
        let is_told = word.is_told();
        self.words.put(word);
        if !is_told {
            self.tell_soon();
        }
    }

    /// Tells all stores at once. For each: whether it keeps what it is told; `None` where it was not told.
    async fn tell_all(self: &Arc<Self>, word: &mut Word) -> Vec<Option<bool>> {
        let words = (0..self.backings.len()).map(|place| {
            let mut word = word.clone();
            async move {
                // A caller waits for this: it is for others to see whether the store is back.
                if self.backings[place].is_left_alone() {
                    return (Err(GuardError::Bypassed), word.tickets[place]);
                }
                let said = self.tell(&mut word, place).await;
                (said, word.tickets[place])
            }
        });
        let said = join_all(words).await;
        let told = said.into_iter().enumerate().map(|(place, (said, ticket))| {
            (word.told[place], word.tickets[place]) = (said.is_ok(), ticket);
            if let Err(GuardError::Failed(_)) = said {
                count(&self.counters.store_failures);
            }
            said.ok()
        });
        told.collect()
    }

    /// Tells one store. Whether it keeps it.
    async fn tell(self: &Arc<Self>, word: &mut Word, place: usize) -> Result<bool, GuardError> {
        let Word { same, what, tickets, settings, .. } = word;
        let limit = settings.store_timeout;
        let ticket = &mut tickets[place];
        let What::Keep(answer) = what else {
            return match *ticket {
                Some(ticket) => self.gives_back(place, same, ticket, limit).await.map(|()| false),
                None => Ok(false),
            };
        };
        // Where the record is not this call's any more it was lost, as a rule, and is made again.
        for again in [true, false] {
            if let Some(ticket) = *ticket {
                let answer = answer.clone();
                let kept = self
                    .asked(place, limit, |store| store.complete(&same.key, ticket, answer, settings.ttl), |kept| *kept)
                    .await;
                if let Err(GuardError::Failed(kind)) = kept
                    && kind.is_refusal()
                {
                    // Others must not wait for what cannot be written.
                    let _ = self.gives_back(place, same, ticket, limit).await;
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

    async fn gives_back(
        self: &Arc<Self>,
        place: usize,
        same: &Same,
        ticket: Ticket,
        limit: Duration,
    ) -> Result<(), GuardError> {
        self.asked(place, limit, |store| store.release(&same.key, ticket), |()| false).await
    }

    /// Tells the stores what they were not told, in a task of its own, until they know or nobody needs it any more; and looks
    /// whether those are back that say nothing, so that no request has to.
    fn tell_soon(self: &Arc<Self>) {
        if *self.closed.borrow() || self.telling.swap(true, SeqCst) {
            return;
        }
        let shared = Arc::downgrade(self);
        let mut held = Some(self.clone());
        tokio::spawn(async move {
            loop {
                sleep(TELL_EVERY).await;
                let Some(shared) = held.take().or_else(|| shared.upgrade()) else { return };
                shared.tell_untold().await;
                shared.look_for_the_silent().await;
                if *shared.closed.borrow() {
                    return shared.telling.store(false, SeqCst);
                }
                let is_untold = !shared.words.untold().is_empty();
                if !is_untold && !shared.is_silent() {
                    shared.telling.store(false, SeqCst);
                    // Something may have come in between.
                    let is_over = shared.words.untold().is_empty() && !shared.is_silent();
                    if is_over || shared.telling.swap(true, SeqCst) {
                        return;
                    }
                }
                // Also after the last layer: the words are of calls that were made.
                held = is_untold.then_some(shared);
            }
        });
    }

    fn is_silent(&self) -> bool {
        self.backings.iter().any(Backing::is_silent)
    }

    /// By a question that changes nothing.
    async fn look_for_the_silent(self: &Arc<Self>) {
        let nobodys = IdempotencyKey::from_bytes([0; 32]);
        for (place, backing) in self.backings.iter().enumerate() {
            if backing.is_silent() {
                let _ = self.asked(place, LOOK, |store| store.release(&nobodys, Ticket(0)), |()| false).await;
            }
        }
    }

    async fn tell_untold(self: &Arc<Self>) {
        let mut is_silent = [false; STORES];
        for mut word in self.words.untold() {
            if *self.closed.borrow() {
                return;
            }
            for (place, is_silent) in is_silent.iter_mut().enumerate().take(self.backings.len()) {
                if word.told[place] || *is_silent {
                    continue;
                }
                match self.tell(&mut word, place).await {
                    Ok(_) => word.told[place] = true,
                    Err(GuardError::Failed(kind)) if kind.is_refusal() => {}
                    Err(_) => *is_silent = true,
                }
                self.words.note(&word);
            }
        }
    }
}

/// One that nobody else has: with room above it for those that a store counts itself.
fn new_ticket() -> Ticket {
    Ticket(fastrand::u64(1 << 32..1 << 62))
}

impl Claimed {
    /// Of a claim that has not won.
    fn known(claim: Claim) -> Self {
        match claim {
            Claim::Busy { lease_left } => Self::Busy(lease_left),
            Claim::Done(answer) => Self::Done(answer),
            Claim::Conflict => Self::Conflict,
            // Not from a look.
            Claim::Won(_) | Claim::Inherited(_) => Self::Busy(Duration::ZERO),
        }
    }
}
