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
    AtCap, Cap, CapSpend, calendar::Anchor, cap::Keys, expectation::Expectation, meter::Meter, replica_cap::FirstRoom,
    reservation::Reservation,
};
use crate::{
    ErrorKind, Event, Events, LlmError,
    body::admission::{Gate, Outcome, SoFar, Ticket},
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
    /// One for all layers with the same meters: a request of an earlier layer may be the next to set a room.
    pub(super) first_room: Arc<FirstRoom>,
    /// The models found to have no price, so that each is reported once.
    unpriced: Mutex<Recent<Box<str>, ()>>,
}

/// The number of models without a price that are remembered.
const UNPRICED: usize = 256;

impl Common {
    pub(super) fn new(prices: PriceTable, events: Option<Events>, anchor: Anchor) -> Self {
        Self { prices, events, anchor, first_room: Arc::default(), unpriced: Mutex::new(Recent::new(UNPRICED)) }
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
    shares: Arc<Shares>,
    /// Shared likewise, as long as the prices are the same.
    expectation: Arc<Expectation>,
}

/// A reservation of an amount.
pub(super) struct Reserved {
    /// The period in which it counts.
    pub(super) period: u8,
    /// The amount, in billionths of a dollar.
    pub(super) amount: u64,
    /// The level to which the request must step down.
    pub(super) step_down: Option<u8>,
    /// The key's part of a cap that several keys share: of nothing, if it steps down.
    pub(super) hold: Option<Hold>,
}

impl Account {
    pub(super) fn new(rule: Arc<Rule>, key: Option<Arc<str>>, now: Instant) -> Self {
        let meter = Arc::new(rule.meter(now));
        Self::with(rule, key, meter, Arc::default(), Arc::default())
    }

    /// Continues another layer's account of the same cap and key. `same_prices` is true if the layers' tables are
    /// equal.
    pub(super) fn following(rule: Arc<Rule>, key: Option<Arc<str>>, known: &Self, same_prices: bool) -> Self {
        let expectation = if same_prices { known.expectation.clone() } else { Arc::default() };
        let account = Self::with(rule, key, known.meter.clone(), known.shares.clone(), expectation);
        account.forget_shares();
        account
    }

    fn with(
        rule: Arc<Rule>,
        key: Option<Arc<str>>,
        meter: Arc<Meter>,
        shares: Arc<Shares>,
        expectation: Arc<Expectation>,
    ) -> Self {
        let name = match &key {
            None => rule.cap.name.clone(),
            Some(key) => format!("{} ({key})", rule.cap.name).into(),
        };
        Self { rule, key, name, meter, shares, expectation }
    }

    /// Begins a new period if the last one is over.
    #[inline]
    pub(super) fn turn(&self, now: Instant) {
        let Rule { cap, common, .. } = &*self.rule;
        let date = common.anchor.date(now);
        if let Some(turned) = self.meter.turn(date, || cap.period.end(date))
            && turned.was_reported
        {
            self.send(|| Event::BudgetReset { cap: cap.name.clone(), key: self.key.clone(), at: now });
        }
    }

    /// Reserves for a request of this key. Where a cap refuses, one that does not fit goes as its key's only one.
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
        let mut limit = self.rule.limit();
        let at_cap = self.rule.cap.at_cap;
        if at_cap != AtCap::Warn {
            let first_room = &self.rule.common.first_room;
            limit = limit.min(self.meter.room(|spent| first_room.of(spent, limit)));
        }
        // A cap that only warns takes nothing from anybody.
        let key = key.filter(|_| self.rule.cap.key == Keys::All && at_cap != AtCap::Warn);
        let amount = self.amount(request, key);
        match self.take(amount, key, limit, now) {
            Verdict::Granted(reserved) => Ok(reserved),
            verdict => self.beyond(amount, key, limit, now, &verdict),
        }
    }

    /// Returns the cost of the answer that the key's last ones let expect, in billionths of a dollar.
    fn amount(&self, request: &Reservation, key: Option<&Arc<str>>) -> u64 {
        let most = u64::from(request.output);
        let expected = request.asked.and_then(|price| self.expectation.output(key, price));
        request.cost(&self.rule.common, expected.unwrap_or(most).min(most))
    }

    /// Reserves an amount if there is room. Of a cap that several keys share, what is not spent is for all of them.
    #[inline]
    fn take(&self, amount: u64, key: Option<&Arc<str>>, limit: u64, now: Instant) -> Verdict<Reserved> {
        let grant = || {
            let outcome = self.meter.reserve(amount, limit, false);
            let reserved = Reserved { period: outcome.period, amount, step_down: None, hold: None };
            if outcome.fits { Ok(reserved) } else { Err(reserved) }
        };
        let Some(key) = key.filter(|_| amount > 0) else {
            return grant().map_or_else(Verdict::Full, Verdict::Granted);
        };
        let level = || {
            let (spent, used) = self.meter.amounts();
            Level { limit: limit.saturating_sub(spent), used: used - spent }
        };
        match self.shares.take(key, amount, now, level, grant) {
            Verdict::Granted(reserved) => Verdict::Granted(Reserved { hold: Some(self.hold(key, amount)), ..reserved }),
            other => other,
        }
    }

    fn hold(&self, key: &Arc<str>, amount: u64) -> Hold {
        Hold::new(self.shares.clone(), key.clone(), amount)
    }

    /// Acts on a request whose amount does not fit, or is beyond its key's share.
    #[cold]
    fn beyond(
        &self,
        amount: u64,
        key: Option<&Arc<str>>,
        limit: u64,
        now: Instant,
        verdict: &Verdict<Reserved>,
    ) -> Result<Reserved, LlmError> {
        let at_cap = self.rule.cap.at_cap;
        let (spent, used) = self.meter.amounts();
        let is_alone = key.map_or(used == spent, |key| self.shares.held(key) == 0);
        if at_cap == AtCap::Refuse
            && is_alone
            && let Some(part) = self.part(key, limit.saturating_sub(used))
            && let Verdict::Granted(reserved) = self.take(part, key, limit, now)
        {
            return Ok(reserved);
        }
        if let Verdict::Full(reserved) = verdict
            && (limit == self.rule.limit() || used.saturating_add(amount) > self.rule.limit())
        {
            self.reached(reserved.period, now);
        }
        let is_over_share = matches!(verdict, Verdict::OverShare);
        let forced = |amount, step_down| {
            let period = self.meter.reserve(amount, limit, true).period;
            // It learns for its key, though it takes nothing from the others.
            Ok(Reserved { period, amount, step_down, hold: key.map(|key| self.hold(key, 0)) })
        };
        match at_cap {
            AtCap::Warn => forced(amount, None),
            // An amount beyond a share takes nothing from those who are within theirs.
            AtCap::StepDown(level) => forced(if is_over_share { 0 } else { amount }, Some(level)),
            AtCap::Refuse => match key.filter(|_| is_over_share) {
                Some(key) => Err(self.over_share(amount, limit, key, now)),
                None => Err(self.refusal(amount, limit, key, now)),
            },
        }
    }

    /// Returns the amount that a request takes of what is left if it does not fit: within its key's share, so that no
    /// other key's wants are in its way, and half at the most, so that small ones still fit beside it. `None` if that
    /// is less than a reservation can hold.
    fn part(&self, key: Option<&Arc<str>>, left: u64) -> Option<u64> {
        let keys = key.map_or(1, |key| self.shares.wanting(key));
        let millionths = left / (keys + 1) / 1000;
        (millionths > 0).then_some(millionths * 1000)
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

    /// Raises the amount spent in a period to a sum in which it is contained. Returns what was added.
    pub(super) fn raise(&self, period: u8, sum: u64) -> u64 {
        let Some((spent, more)) = self.meter.raise(period, sum) else { return 0 };
        let reached = self.rule.shares(spent);
        if reached != 0 {
            self.report(period, reached, Instant::now());
        }
        more
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
            feature: self.rule.cap.feature.clone(),
            period: self.rule.cap.period,
            at_cap: self.rule.cap.at_cap,
            spent: Usd::from_nanos(spent),
            reserved: Usd::from_nanos(used - spent),
            limit: Usd::from_nanos(self.rule.limit()),
            resets_at: self.resets_at(),
            shared: self.rule.common.first_room.is_agreed(),
        }
    }

    #[cold]
    fn refusal(&self, amount: u64, limit: u64, key: Option<&Arc<str>>, now: Instant) -> LlmError {
        let (spent, used) = self.meter.amounts();
        let whole = self.rule.limit();
        let [spent_is, reserved, limit_is, others, asked] =
            [spent, used - spent, whole, whole.saturating_sub(limit.max(used)), amount]
                .map(|nanos| cents(Usd::from_nanos(nanos)));
        let (name, period) = (&self.name, self.rule.cap.period);
        let others = if limit < whole { format!(", {others} is kept for other replicas") } else { String::new() };
        let of = format!(
            "the cap {name:?}: of {limit_is} per {period}, {spent_is} is spent and {reserved} reserved{others}, and the \
             request may cost {asked}"
        );
        let (of_key, of_feature, of_team) = self.whose();
        let cap = self.name.clone();
        let spending = ReachedLimit::Spending { cap: cap.clone(), of_key, of_feature, of_team };
        // Alone, any request would go.
        let (message, retry_at, limit) = if self.part(key, whole.saturating_sub(spent)).is_some() {
            let message = format!("{of}; the reserved amount is free again as its requests end");
            (message, now.checked_add(AGAIN_AFTER), ReachedLimit::Reserved { cap, of_key, of_feature, of_team })
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
        let (of_key, of_feature, of_team) = self.whose();
        let spending = ReachedLimit::Spending { cap: self.name.clone(), of_key, of_feature, of_team };
        refused(message, now.checked_add(AGAIN_AFTER), ReachedLimit::Share(Box::new(spending)), now)
    }

    /// Returns whether the cap is of a single key, a single feature, a single team.
    fn whose(&self) -> (bool, bool, bool) {
        let cap = &self.rule.cap;
        (cap.key != Keys::All, cap.feature.is_some(), cap.team.is_some())
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
    pub(super) reserved: u32,
}

/// An index of 24 bits that no price has.
const NO_PRICE: u32 = (1 << 24) - 1;

impl Slip {
    pub(super) fn ticket(self) -> Ticket {
        let price = self.price.unwrap_or(NO_PRICE).min(NO_PRICE);
        Ticket { generation: u32::from(self.period) << 24 | price, reserved: self.reserved, ..Ticket::default() }
    }

    fn of(ticket: &Ticket) -> Self {
        let price = Some(ticket.generation & NO_PRICE).filter(|price| *price != NO_PRICE);
        Self { period: (ticket.generation >> 24) as u8, price, reserved: ticket.reserved }
    }

    /// Returns the reserved amount, in billionths.
    pub(super) fn amount(self) -> u64 {
        u64::from(self.reserved) * 1000
    }
}

impl Account {
    /// Counts what an answer to this key's request has used, and learns from a whole one. Of an answer that broke or
    /// was dropped the tokens reported so far count, and at least its prompt and the text that came. The law is one
    /// for all providers, whenever they report their tokens.
    pub(super) fn settle_for<'a>(
        &self,
        key: Option<&Arc<str>>,
        ticket: &Ticket,
        outcome: Outcome<'_>,
        so_far: impl FnOnce() -> SoFar<'a>,
    ) {
        let slip = Slip::of(ticket);
        let used = so_far().used(ticket.prompt);
        let cost = used.cost_at(slip.price.map(|price| self.rule.common.prices.at(price)));
        if let (Some(price), Outcome::Answered) = (slip.price, outcome) {
            self.expectation.learn(key, price, used.output);
        }
        self.count(slip.period, slip.amount(), cost.map_or(0, Usd::nanos));
    }
}

impl Gate for Account {
    fn settle(&self, ticket: &Ticket, outcome: Outcome<'_>) {
        self.settle_with(ticket, outcome, &SoFar::default);
    }

    fn settle_with<'a>(&self, ticket: &Ticket, outcome: Outcome<'_>, so_far: &dyn Fn() -> SoFar<'a>) {
        self.settle_for(None, ticket, outcome, so_far);
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
        self.account.settle_for(Some(self.hold.key()), ticket, outcome, so_far);
        self.hold.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_survives_its_way_through_a_ticket() {
        for slip in [
            Slip { period: 255, price: Some(0), reserved: u32::MAX },
            Slip { period: 0, price: None, reserved: 0 },
            Slip { period: 7, price: Some(NO_PRICE - 1), reserved: 1 },
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
