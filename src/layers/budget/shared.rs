//! All caps of one layer, and the way of a request under them.

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;

use super::{
    Cap,
    account::{Account, Common, HeldAccount, Rule, Slip},
    cap::{CapSet, Keys},
    reservation::{Entry, Reservation, millionths},
};
use crate::{
    Attempt, LlmError, LlmRequest, LlmResponse,
    body::admission::{Gate, Outcome, Permit, Ticket},
    chat::Usage,
    internal::sync::{Mutex, lock},
    layers::{recent::Recent, shares::Hold},
    ledger::Next,
    prices::Usd,
    request::{BudgetKey, longest_answer},
};

/// The state that all services of one layer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) common: Arc<Common>,
    pub(super) caps: Box<[Accounts]>,
    places: Places,
    /// True if there is a cap: each counts by key, or is shared by the keys.
    keyed: bool,
    reserved_at: ReservedAt,
    default_output: u64,
}

/// The price at which requests are reserved.
#[derive(Debug)]
pub(super) enum ReservedAt {
    /// That of the model that they name.
    Asked,
    /// That of one model, whatever they name, with its longest answer.
    Fixed { price: u32, longest: u64 },
    /// None: the layer was told a model without a price.
    Unknown(LlmError),
}

/// The places of caps. A request reads its own, however many keys have one.
#[derive(Debug)]
struct Places {
    of_name: HashMap<Arc<str>, usize>,
    of_key: HashMap<Arc<str>, Vec<usize>>,
    of_team: HashMap<Arc<str>, Vec<usize>>,
    /// The places of caps that are neither one key's nor one team's.
    others: Vec<usize>,
    /// True if a cap counts one team, of which it may count one key.
    has_teams: bool,
}

impl Places {
    fn new(caps: &[Cap], of_name: HashMap<Arc<str>, usize>) -> Self {
        let has_teams = caps.iter().any(|cap| cap.team.is_some());
        let mut places =
            Self { of_name, of_key: HashMap::new(), of_team: HashMap::new(), others: Vec::new(), has_teams };
        for (place, cap) in caps.iter().enumerate() {
            match (&cap.key, &cap.team) {
                (Keys::One(key), _) => places.of_key.entry(key.clone()).or_default().push(place),
                (_, Some(team)) => places.of_team.entry(team.clone()).or_default().push(place),
                (_, None) => places.others.push(place),
            }
        }
        places
    }

    /// Iterates over the caps that may count a request of this key and this team: the key's own, the team's, and
    /// the others in their order.
    #[inline]
    fn of(&self, key: Option<&str>, team: Option<&str>) -> impl Iterator<Item = usize> {
        let own = key.and_then(|key| self.of_key.get(key)).into_iter().flatten();
        let teams = team.and_then(|team| self.of_team.get(team)).into_iter().flatten();
        own.chain(teams).chain(&self.others).copied()
    }
}

/// The key and the team that pay for a request, and the feature that it is for.
#[derive(Clone, Copy)]
struct Payer<'a> {
    feature: Option<&'a str>,
    key: Option<&'a Arc<str>>,
    team: Option<&'a str>,
}

/// A cap's account, or one for each key.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) rule: Arc<Rule>,
    pub(super) of: AccountSet,
}

#[derive(Debug)]
pub(super) enum AccountSet {
    All(Arc<Account>),
    Each(Mutex<Recent<Arc<str>, Arc<Account>>>),
}

impl Shared {
    pub(super) fn new(
        mut common: Common,
        caps: CapSet,
        reserved_at: ReservedAt,
        default_output: u64,
        keys: usize,
        state: Option<&Self>,
    ) -> Self {
        if let Some(state) = state {
            common.first_room = state.common.first_room.clone();
        }
        let common = Arc::new(common);
        let now = Instant::now();
        let CapSet { list, of_name } = caps;
        let keyed = !list.is_empty();
        let places = Places::new(&list, of_name);
        let accounts = |cap: Cap| {
            let known = state.and_then(|state| state.accounts_of(&cap));
            Accounts::new(Rule::new(cap, common.clone()), keys, now, known)
        };
        let caps = list.into_iter().map(accounts).collect();
        Self { caps, places, common, keyed, reserved_at, default_output }
    }

    /// Keeps the limits that were set by hand, where the caps' own are the same as before.
    pub(super) fn keep_limits(&self, before: &Self) {
        for accounts in &self.caps {
            let known = before.accounts_of(&accounts.rule.cap);
            if let Some(known) = known.filter(|known| known.rule.cap.limit == accounts.rule.cap.limit) {
                accounts.rule.set_limit(Usd::from_nanos(known.rule.limit()));
            }
        }
    }

    /// Reserves for a request under each cap that counts it, and lowers its level if a cap steps down.
    ///
    /// # Errors
    ///
    /// Fails if a cap refuses it; nothing is reserved then.
    #[inline]
    pub(super) fn admit(&self, request: &mut LlmRequest, now: Instant) -> Result<Reservation, LlmError> {
        let key = if self.keyed { request.extensions().get::<BudgetKey>().map(|key| key.0.clone()) } else { None };
        let feature = request.feature();
        let mut reservation = Reservation::default();
        let mut priced = false;
        let mut level = 0;
        let team = if self.places.has_teams { request.team().map(|team| &**team) } else { None };
        for place in self.places.of(key.as_deref(), team) {
            let of = Payer { feature, key: key.as_ref(), team };
            let Some(account) = self.caps[place].account(of, now) else { continue };
            if !priced {
                priced = true;
                self.estimate(request, &mut reservation)?;
                reservation.begun = Some(now);
            }
            // An error drops the reservations under the caps before it.
            let reserved = account.reserve(&reservation, key.as_ref(), now)?;
            let amount = millionths(reserved.amount);
            reservation.push(Entry { account, period: reserved.period, reserved: amount, hold: reserved.hold });
            level = level.max(reserved.step_down.unwrap_or(0));
        }
        if level > 0 {
            request.context_mut().step_down(level);
        }
        Ok(reservation)
    }

    /// Sets the price at which a request is reserved, its likely cost, and the tokens of its prompt and its answer. For
    /// a model without a price nothing is reserved: its cost is known once the answer names another model.
    ///
    /// # Errors
    ///
    /// Fails if the layer was told a model without a price.
    fn estimate(&self, request: &LlmRequest, reservation: &mut Reservation) -> Result<(), LlmError> {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        reservation.stream = request.is_stream();
        let asked = request.model().and_then(|model| self.common.prices.place(None, model));
        let (place, longest) = match &self.reserved_at {
            ReservedAt::Asked => (asked, 0),
            ReservedAt::Fixed { price, longest } => (Some(*price), *longest),
            ReservedAt::Unknown(error) => return Err(error.clone()),
        };
        let Some(place) = place else {
            reservation.prompt = request.glanced_prompt();
            return Ok(());
        };
        let longest = longest_answer(request.model()).max(longest);
        let (input, output) = request.estimated_parts_within(longest);
        let output = output.unwrap_or(self.default_output);
        (reservation.price, reservation.asked) = (Some(place), asked.or(Some(place)));
        (reservation.prompt, reservation.output) = (small(input), small(output));
        Ok(())
    }

    /// Takes the response: its price is known, and the reservations go with its body.
    #[inline]
    pub(super) fn answered(&self, reservation: Reservation, response: &mut LlmResponse) {
        response.set_prices(&self.common.prices);
        if reservation.is_empty() {
            return;
        }
        let price = self.price(&reservation, response);
        let wasted = self.wasted(&reservation, response.attempts());
        let prompt = reservation.prompt;
        for Entry { account, period, reserved, hold } in reservation.release() {
            if wasted > 0 {
                account.count(period, 0, wasted);
            }
            let ticket = Ticket { prompt, ..Slip { period, price, reserved }.ticket() };
            if let Some(facts) = response.body().whole() {
                // The hold is given back after it.
                account.settle_for(hold.as_ref().map(Hold::key), &ticket, Outcome::Answered, || facts);
                continue;
            }
            let gate: Arc<dyn Gate> = match hold {
                Some(hold) => Arc::new(HeldAccount { account, hold }),
                None => account,
            };
            response.hold_permit(&mut Permit::new(gate, ticket));
        }
    }

    /// Takes the failure: the cost of the attempts is spent, and the rest is released.
    #[cold]
    pub(super) fn failed(&self, reservation: Reservation, error: &LlmError) {
        let wasted = match (error.attempts(), error.usage()) {
            ([], Some(usage)) => self.cost(&reservation, error.provider(), error.model(), &usage),
            ([], None) if error.kind().may_have_cost() => reservation.unseen(&self.common, Instant::now()),
            (attempts, _) => self.wasted(&reservation, attempts),
        };
        reservation.settle(wasted);
    }

    /// Returns the index of the price of the model that answers.
    fn price(&self, reservation: &Reservation, response: &LlmResponse) -> Option<u32> {
        let names = response.priced_names();
        // A leaf that names no model is assumed to use the requested one.
        let Some(model) = names.asked else { return reservation.price };
        let place = self.common.prices.place_of(names);
        let has_cost = |usage: Option<Usage>| usage.is_none_or(|usage| usage.cost.is_some());
        if place.is_none() && (response.body().arrives_in_frames() || !has_cost(response.usage())) {
            self.common.is_unpriced(names.provider, model);
        }
        place
    }

    /// Returns the cost of failed attempts: by the tokens that they report, plus the estimate once if any may have
    /// been worked on without a report.
    fn wasted(&self, reservation: &Reservation, attempts: &[Attempt]) -> u64 {
        let (mut cost, mut silent) = (0u64, false);
        for attempt in attempts {
            if attempt.next == Next::Skipped || (attempt.failure.is_none() && !attempt.is_wasted()) {
                continue;
            }
            silent |= attempt.is_silent();
            let Some(usage) = &attempt.usage else { continue };
            let (provider, model) = (attempt.provider.as_deref(), attempt.model.as_deref());
            cost = cost.saturating_add(self.cost(reservation, provider, model, usage));
        }
        if silent { cost.saturating_add(reservation.unseen(&self.common, Instant::now())) } else { cost }
    }

    /// Returns the cost of a failed attempt's tokens.
    fn cost(&self, reservation: &Reservation, provider: Option<&str>, model: Option<&str>, usage: &Usage) -> u64 {
        let prices = &self.common.prices;
        let place = model.map_or(reservation.price, |model| prices.place(provider, model));
        usage.cost_at(place.map(|place| prices.at(place))).map_or(0, Usd::nanos)
    }

    pub(super) fn accounts(&self, cap: &str) -> Option<&Accounts> {
        self.places.of_name.get(cap).map(|place| &self.caps[*place])
    }

    /// Returns the accounts that are one key's or its team's; under a cap for each key, once it has sent a request.
    pub(super) fn all_of_key(&self, key: &str, team: Option<&str>) -> Vec<Arc<Account>> {
        let accounts = self.places.of(Some(key), team).filter_map(|place| match &self.caps[place] {
            Accounts { rule, .. } if rule.cap.among.as_ref().is_some_and(|group| !group.has(key)) => None,
            Accounts { of: AccountSet::Each(each), .. } => lock(each).get(key),
            Accounts { rule, of: AccountSet::All(account) } => {
                let Cap { key, team: only, .. } = &rule.cap;
                let is_of_all = *key == Keys::All && only.is_none();
                let counts = !is_of_all && (only.is_none() || only.as_deref() == team);
                counts.then(|| account.clone())
            }
        });
        accounts.collect()
    }

    /// Returns the accounts of a cap that counts the same requests.
    fn accounts_of(&self, cap: &Cap) -> Option<&Accounts> {
        self.accounts(&cap.name).filter(|known| known.is_of(cap))
    }
}

impl Accounts {
    /// Creates the accounts of a rule, over the meters of known accounts.
    fn new(rule: Rule, keys: usize, now: Instant, known: Option<&Self>) -> Self {
        let rule = Arc::new(rule);
        let same_prices = known.is_some_and(|known| known.rule.common.prices == rule.common.prices);
        let following = |key, known: &Account| Arc::new(Account::following(rule.clone(), key, known, same_prices));
        let of = match (&rule.cap.key, known.map(|known| &known.of)) {
            (Keys::Each, known) => {
                let mut each = Recent::new(keys);
                if let Some(AccountSet::Each(known)) = known {
                    for (key, known) in lock(known).iter() {
                        each.insert(key.clone(), following(Some(key.clone()), known));
                    }
                }
                AccountSet::Each(Mutex::new(each))
            }
            (_, Some(AccountSet::All(known))) => AccountSet::All(following(None, known)),
            (_, _) => AccountSet::All(Arc::new(Account::new(rule.clone(), None, now))),
        };
        Self { rule, of }
    }

    /// Returns whether it counts the same requests as this cap.
    fn is_of(&self, other: &Cap) -> bool {
        let cap = &self.rule.cap;
        (&cap.name, cap.period, &cap.feature, &cap.key, &cap.team, &cap.among)
            == (&other.name, other.period, &other.feature, &other.key, &other.team, &other.among)
    }

    /// Returns the account in which a request counts, if any.
    #[inline]
    fn account(&self, of: Payer<'_>, now: Instant) -> Option<Arc<Account>> {
        let (cap, key) = (&self.rule.cap, of.key);
        if cap.feature.is_some() && cap.feature.as_deref() != of.feature {
            return None;
        }
        if cap.team.is_some() && cap.team.as_deref() != of.team {
            return None;
        }
        if let Some(group) = &cap.among
            && !key.is_some_and(|key| group.has(key))
        {
            return None;
        }
        match (&cap.key, &self.of) {
            (Keys::One(name), _) if key != Some(name) => None,
            (_, AccountSet::All(account)) => Some(account.clone()),
            (_, AccountSet::Each(each)) => Some(self.of_key(each, key?, now)),
        }
    }

    fn of_key(&self, each: &Mutex<Recent<Arc<str>, Arc<Account>>>, key: &Arc<str>, now: Instant) -> Arc<Account> {
        let mut each = lock(each);
        if let Some(account) = each.get(&**key) {
            return account;
        }
        let account = Arc::new(Account::new(self.rule.clone(), Some(key.clone()), now));
        each.insert(key.clone(), account.clone());
        account
    }

    /// Returns the account of a key, or the only one.
    pub(super) fn one(&self, key: Option<&str>, now: Instant) -> Option<Arc<Account>> {
        match (&self.of, key) {
            (AccountSet::All(account), _) => Some(account.clone()),
            (AccountSet::Each(each), Some(key)) => Some(self.of_key(each, &key.into(), now)),
            (AccountSet::Each(_), None) => None,
        }
    }

    /// Returns all accounts; for keys, those that are remembered, by name.
    pub(super) fn all(&self) -> Vec<Arc<Account>> {
        match &self.of {
            AccountSet::All(account) => vec![account.clone()],
            AccountSet::Each(each) => {
                let mut all: Vec<_> = lock(each).iter().map(|(_, account)| account.clone()).collect();
                all.sort_by(|a, b| a.key.cmp(&b.key));
                all
            }
        }
    }
}
