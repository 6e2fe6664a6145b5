//! One cap's account: its meter, with the cap's rules and its events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    AtCap, Cap, CapSpend, calendar::Anchor, cap::Keys, expectation::Expectation, meter::Meter, reservation::Reservation,
};
use crate::{
    ErrorKind, Event, Events, LlmError,
    body::admission::{Gate, Outcome, SoFar, Ticket},
    chat::Usage,
    error::ReachedLimit,
    internal::{
        sync::{Mutex, lock},
        wall_clock,
    },
    layers::{
        recent::Recent,
        shares::{AGAIN_AFTER, Hold, Level, Shares, Verdict},
    },
    ledger,
    prices::{PriceTable, Usd},
};

/// The parts that all caps of a layer share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) prices: PriceTable,
    pub(super) events: Option<Events>,
    pub(super) anchor: Anchor,
    /// The models found to have no price, so that each is reported once.
    unpriced: Mutex<Recent<Box<str>, ()>>,
}

/// The number of models without a price that are remembered.
const UNPRICED: usize = 256;

impl Common {
    pub(super) fn new(prices: PriceTable, events: Option<Events>, anchor: Anchor) -> Self {
        Self { prices, events, anchor, unpriced: Mutex::new(Recent::new(UNPRICED)) }
    }

    /// Reports, once, that the cost of this model cannot be counted.
    #[cold]
    pub(super) fn is_unpriced(&self, provider: Option<&str>, model: &str) {
        let mut unpriced = lock(&self.unpriced);
        if unpriced.get(model).is_none() {
            unpriced.insert(model.into(), ());
            drop(unpriced);
            tracing::warn!(provider, model, "a model without a price is counted as costing nothing");
        }
    }
}

/// A cap with its limit, which may change.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) cap: Cap,
    limit: AtomicU64,
    pub(super) common: Arc<Common>,
}

/// The largest amount that a meter can hold.
const MOST: u64 = (1 << 56) - 1;

impl Rule {
    pub(super) fn new(cap: Cap, common: Arc<Common>) -> Self {
        let limit = AtomicU64::new(cap.limit.nanos().min(MOST));
        Self { cap, limit, common }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    pub(super) fn set_limit(&self, limit: Usd) {
        self.limit.store(limit.nanos().min(MOST), Relaxed);
    }

    /// Returns a meter for the period that contains `now`.
    pub(super) fn meter(&self, now: Instant) -> Meter {
        Meter::new(self.cap.period.end(self.common.anchor.date(now)))
    }

    /// Returns the bits of the shares that an amount has reached.
    fn shares(&self, amount: u64) -> u64 {
        let limit = u128::from(self.limit());
        let reached = |percent: u8| u128::from(amount) * 100 >= limit * u128::from(percent);
        self.bits(reached)
    }

    fn bits(&self, told: impl Fn(u8) -> bool) -> u64 {
        let bits = self.cap.warn_at.iter().enumerate().filter(|(_, percent)| told(**percent));
        bits.fold(0, |bits, (place, _)| bits | 1 << place)
    }
}

/// The money of one cap, or of one key under it.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) rule: Arc<Rule>,
    pub(super) key: Option<Arc<str>>,
    /// The name in errors.
    name: Arc<str>,
    /// Shared by all layers of one state.
    pub(super) meter: Arc<Meter>,
    /// The reservations of each key under a cap that several keys share. Shared likewise.
    pub(super) shares: Arc<Shares>,
    expectation: Expectation,
}

/// A reservation of an amount.
pub(super) struct Reserved {
    /// The period in which it counts.
    pub(super) period: u8,
    /// The amount, in billionths of a dollar.
    pub(super) amount: u64,
    /// The level to which the request must step down.
    pub(super) step_down: Option<u8>,
    /// The key's part of a cap that several keys share.
    pub(super) hold: Option<Hold>,
}

impl Reserved {
    fn of(period: u8, amount: u64) -> Self {
        Self { period, amount, step_down: None, hold: None }
    }
}

impl Account {
    pub(super) fn new(rule: Arc<Rule>, key: Option<Arc<str>>, meter: Arc<Meter>, shares: Arc<Shares>) -> Self {
        let name = match &key {
            None => rule.cap.name.clone(),
            Some(key) => format!("{} ({key})", rule.cap.name).into(),
        };
        Self { rule, key, name, meter, shares, expectation: Expectation::new() }
    }

    /// Begins a new period if the last one is over.
    #[inline]
    fn turn(&self, now: Instant) {
        let Rule { cap, common, .. } = &*self.rule;
        let date = common.anchor.date(now);
        if let Some(turned) = self.meter.turn(date, || cap.period.end(date))
            && turned.was_reported
        {
            self.send(|| Event::BudgetReset { cap: cap.name.clone(), key: self.key.clone(), at: now });
        }
    }

    /// Returns the amount to reserve for a request, in billionths of a dollar. It is the cost of the answer that the
    /// key's last ones let expect. Where a cap refuses, a request that does not fit goes as its key's only one: it
    /// takes half of what is left, so that others still fit beside it.
    fn amount(&self, request: &Reservation, key: Option<&Arc<str>>, limit: u64) -> u64 {
        let most = u64::from(request.output);
        let expected = request.asked.and_then(|price| self.expectation.output(&key.cloned(), price));
        let amount = request.cost(&self.rule.common, expected.unwrap_or(most).min(most));
        let (spent, used) = self.meter.amounts();
        let left = limit.saturating_sub(used);
        if amount <= left || self.rule.cap.at_cap != AtCap::Refuse {
            return amount;
        }
        let is_alone = key.map_or(used == spent, |key| self.shares.held(key) == 0);
        whole(left / 2).filter(|_| is_alone).unwrap_or(amount)
    }

    /// Reserves for a request of this key.
    ///
    /// # Errors
    ///
    /// Fails if the cap refuses it.
    #[inline]
    pub(super) fn reserve(
        &self,
        request: &Reservation,
        key: Option<&Arc<str>>,
        now: Instant,
    ) -> Result<Reserved, LlmError> {
        self.turn(now);
        let limit = self.rule.limit();
        let key = key.filter(|_| self.rule.cap.key == Keys::All);
        let amount = self.amount(request, key, limit);
        let at_cap = self.rule.cap.at_cap;
        // A cap that only warns takes nothing from anybody.
        if let Some(key) = key.filter(|_| at_cap != AtCap::Warn && amount > 0) {
            return self.reserve_share(amount, limit, key, now);
        }
        let reserved = self.meter.reserve(amount, limit, at_cap != AtCap::Refuse);
        if reserved.fits {
            return Ok(Reserved::of(reserved.period, amount));
        }
        self.reached(reserved.period, now);
        match at_cap {
            AtCap::Warn => Ok(Reserved::of(reserved.period, amount)),
            AtCap::StepDown(level) => Ok(Reserved { step_down: Some(level), ..Reserved::of(reserved.period, amount) }),
            AtCap::Refuse => Err(self.refusal(amount, limit, now)),
        }
    }

    /// Reserves under a cap that several keys share: what is not spent is for all of them.
    fn reserve_share(&self, amount: u64, limit: u64, key: &Arc<str>, now: Instant) -> Result<Reserved, LlmError> {
        let level = || {
            let (spent, used) = self.meter.amounts();
            Level { limit: limit.saturating_sub(spent), used: used - spent }
        };
        let grant = || {
            let reserved = self.meter.reserve(amount, limit, false);
            if reserved.fits { Ok(reserved) } else { Err(reserved) }
        };
        let verdict = self.shares.take(key, amount, now, level, grant);
        if let Verdict::Granted(reserved) = verdict {
            let hold = Hold::new(self.shares.clone(), key.clone(), amount);
            return Ok(Reserved { hold: Some(hold), ..Reserved::of(reserved.period, amount) });
        }
        if let Verdict::Full(reserved) = verdict {
            self.reached(reserved.period, now);
        }
        match self.rule.cap.at_cap {
            AtCap::StepDown(level) => {
                // An amount beyond a share takes nothing from those who are within theirs.
                let amount = if verdict == Verdict::OverShare { 0 } else { amount };
                let period = self.meter.reserve(amount, limit, true).period;
                Ok(Reserved { step_down: Some(level), ..Reserved::of(period, amount) })
            }
            _ if verdict == Verdict::OverShare => Err(self.over_share(amount, limit, key, now)),
            _ => Err(self.refusal(amount, limit, now)),
        }
    }

    /// Releases the reserved amount, and counts the cost.
    #[inline]
    pub(super) fn count(&self, period: u8, reserved: u64, cost: u64) {
        if let Some(spent) = self.meter.settle(period, reserved, cost) {
            let reached = self.rule.shares(spent);
            if reached != 0 {
                self.report(period, reached, Instant::now());
            }
        }
    }

    /// Reports that the cap acts: all its shares are used up, reserved amounts included.
    #[cold]
    fn reached(&self, period: u8, now: Instant) {
        self.report(period, self.rule.bits(|percent| percent <= 100), now);
    }

    fn report(&self, period: u8, shares: u64, at: Instant) {
        let new = self.meter.mark_reported(period, shares);
        if new == 0 {
            return;
        }
        let (spent, used) = self.meter.amounts();
        for (_, percent) in self.rule.cap.warn_at.iter().enumerate().filter(|(place, _)| new >> place & 1 == 1) {
            self.send(|| Event::BudgetReached {
                cap: self.rule.cap.name.clone(),
                key: self.key.clone(),
                percent: *percent,
                spent: Usd::from_nanos(spent),
                reserved: Usd::from_nanos(used - spent),
                limit: Usd::from_nanos(self.rule.limit()),
                resets_at: self.resets_at(),
                at,
            });
        }
    }

    /// Lets shares be reported again that are no longer used up after a change of the limit.
    pub(super) fn forget_shares(&self) {
        let (spent, _) = self.meter.amounts();
        self.meter.unmark_reported(self.rule.shares(spent));
    }

    pub(super) fn resets_at(&self) -> Instant {
        self.rule.common.anchor.moment(self.meter.ends())
    }

    pub(super) fn spend(&self, now: Instant) -> CapSpend {
        self.turn(now);
        let (spent, used) = self.meter.amounts();
        CapSpend {
            cap: self.rule.cap.name.clone(),
            key: self.key.clone(),
            spent: Usd::from_nanos(spent),
            reserved: Usd::from_nanos(used - spent),
            limit: Usd::from_nanos(self.rule.limit()),
            resets_at: self.resets_at(),
        }
    }

    #[cold]
    fn refusal(&self, amount: u64, limit: u64, now: Instant) -> LlmError {
        let (spent, used) = self.meter.amounts();
        let [spent_is, reserved, limit_is, asked] =
            [spent, used - spent, limit, amount].map(|nanos| cents(Usd::from_nanos(nanos)));
        let (name, period) = (&self.name, self.rule.cap.period);
        let of = format!(
            "the cap {name:?}: of {limit_is} per {period}, {spent_is} is spent and {reserved} reserved, and the request may \
             cost {asked}"
        );
        let (of_key, of_feature) = self.whose();
        let cap = self.name.clone();
        let spending = ReachedLimit::Spending { cap: cap.clone(), of_key, of_feature };
        // Alone, any request would go.
        let (message, retry_at, limit) = if spent < limit {
            let message = format!("{of}; the reserved amount is free again as its requests end");
            (message, now.checked_add(AGAIN_AFTER), ReachedLimit::Reserved { cap, of_key, of_feature })
        } else {
            let resets = wall_clock::rfc3339(Duration::from_secs(self.meter.ends()));
            (format!("{of}; it resets at {resets}"), Some(self.resets_at()), spending)
        };
        refused(message, retry_at, limit, now)
    }

    /// Returns the refusal of a key that holds its share.
    #[cold]
    fn over_share(&self, amount: u64, limit: u64, key: &Arc<str>, now: Instant) -> LlmError {
        let (spent, used) = self.meter.amounts();
        let [spent, reserved, limit_is, asked, own] =
            [spent, used - spent, limit, amount, self.shares.held(key)].map(|nanos| cents(Usd::from_nanos(nanos)));
        let message = format!(
            "the cap {:?}: of {limit_is} per {}, {spent} is spent and {reserved} reserved, {own} of it by the key {key:?}, and \
             the request may cost {asked}; other keys want the rest",
            self.name, self.rule.cap.period
        );
        let (of_key, of_feature) = self.whose();
        let spending = ReachedLimit::Spending { cap: self.name.clone(), of_key, of_feature };
        refused(message, now.checked_add(AGAIN_AFTER), ReachedLimit::Share(Box::new(spending)), now)
    }

    /// Returns whether the cap is of a single key, and of a single feature.
    fn whose(&self) -> (bool, bool) {
        (self.rule.cap.key != Keys::All, self.rule.cap.feature.is_some())
    }

    fn send(&self, event: impl FnOnce() -> Event) {
        if let Some(events) = &self.rule.common.events {
            events.send(event());
        }
    }
}

fn refused(message: String, retry_at: Option<Instant>, limit: ReachedLimit, now: Instant) -> LlmError {
    let mut error = LlmError::new(ErrorKind::Budget, message).with_retry_at(retry_at);
    error.reach(limit);
    ledger::note(&mut error, now);
    error
}

/// Rounds down to what a reservation can hold: millionths of a dollar, and not nothing.
fn whole(nanos: u64) -> Option<u64> {
    let millionths = nanos / 1000;
    (millionths > 0).then_some(millionths * 1000)
}

/// Rounds up to the hundredth of a cent, for people to read.
fn cents(amount: Usd) -> Usd {
    const HUNDREDTH: u64 = 100_000;
    Usd::from_nanos(amount.nanos().div_ceil(HUNDREDTH).saturating_mul(HUNDREDTH))
}

/// A reservation as a permit carries it into a body, in the room that there is. It holds the period, the index of
/// the model's price, and the reserved amount in millionths of a dollar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slip {
    pub(super) period: u8,
    /// `None` if there is no price: the cost counts as nothing.
    pub(super) price: Option<u32>,
    /// True if a key holds it, so that the answer is the key's to learn from.
    pub(super) is_held: bool,
    pub(super) reserved: u32,
}

/// An index of 23 bits that no price has.
const NO_PRICE: u32 = (1 << 23) - 1;
const HELD: u32 = 1 << 23;

impl Slip {
    pub(super) fn ticket(self) -> Ticket {
        let price = self.price.unwrap_or(NO_PRICE).min(NO_PRICE);
        let held = if self.is_held { HELD } else { 0 };
        Ticket { generation: u32::from(self.period) << 24 | held | price, reserved: self.reserved, ..Ticket::default() }
    }

    fn of(ticket: &Ticket) -> Self {
        let price = Some(ticket.generation & NO_PRICE).filter(|price| *price != NO_PRICE);
        let is_held = ticket.generation & HELD != 0;
        Self { period: (ticket.generation >> 24) as u8, price, is_held, reserved: ticket.reserved }
    }

    /// Returns the reserved amount, in billionths.
    pub(super) fn amount(self) -> u64 {
        u64::from(self.reserved) * 1000
    }
}

impl Account {
    /// Learns from a whole answer to a key's request.
    pub(super) fn learn(&self, key: Option<&Arc<str>>, price: Option<u32>, usage: &Usage) {
        if let Some(price) = price {
            self.expectation.learn(&key.cloned(), price, usage.output);
        }
    }
}

impl Gate for Account {
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        self.settle_with(ticket, outcome, &SoFar::default);
    }

    /// Counts the tokens reported so far for an answer that broke or was dropped, and at least its prompt and the text
    /// that came. The law is one for all providers, whenever they report their tokens.
    fn settle_with<'a>(&self, ticket: &Ticket, outcome: Outcome<'_>, so_far: &dyn Fn() -> SoFar<'a>) {
        let slip = Slip::of(ticket);
        let mut cost = 0;
        if let Some(price) = slip.price {
            let used = so_far().used(ticket.prompt);
            cost = self.rule.common.prices.at(price).cost(&used).nanos();
            if !slip.is_held && matches!(outcome, Outcome::Answered) {
                self.learn(None, slip.price, &used);
            }
        }
        self.count(slip.period, slip.amount(), cost);
    }
}

/// A key's reservation under a shared cap, as a gate: it gives the key's part back with the rest.
pub(super) struct HeldAccount {
    pub(super) account: Arc<Account>,
    pub(super) hold: Hold,
}

impl Gate for HeldAccount {
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        self.settle_with(ticket, outcome, &SoFar::default);
    }

    fn settle_with<'a>(&self, ticket: &Ticket, outcome: Outcome<'_>, so_far: &dyn Fn() -> SoFar<'a>) {
        if matches!(outcome, Outcome::Answered) {
            self.account.learn(Some(self.hold.key()), Slip::of(ticket).price, &so_far().used(ticket.prompt));
        }
        self.account.settle_with(ticket, outcome, so_far);
        self.hold.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_survives_its_way_through_a_ticket() {
        for slip in [
            Slip { period: 255, price: Some(0), is_held: true, reserved: u32::MAX },
            Slip { period: 0, price: None, is_held: false, reserved: 0 },
            Slip { period: 7, price: Some(NO_PRICE - 1), is_held: true, reserved: 1 },
        ] {
            assert_eq!(Slip::of(&slip.ticket()), slip);
        }
    }

    #[test]
    fn a_person_reads_amounts_rounded_up() {
        assert_eq!(cents(Usd::from_nanos(1)).to_string(), "$0.0001");
        assert_eq!(cents(Usd::from_nanos(1_500_000_000)).to_string(), "$1.50");
    }
}
