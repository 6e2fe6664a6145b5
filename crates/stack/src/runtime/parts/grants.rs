//! Caps that go on from the ledger, and are one number for all replicas.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use crate::{Share, WhenAway};
use steadfast::{
    layers::budget::{BudgetHandle, CapScope, FirstShare, ReplicaCap},
    prices::Usd,
    store::{StoreError, StoreErrorKind},
};
use steadfast_internal::sync::{Mutex, lock};
use steadfast_ledger::{Grant, GrantRequest, GrantView, Ledger, Spend, SpendColumn, SpendQuery};

/// The time in which a request's row follows its cap's count.
const SETTLE_TIME: Duration = Duration::from_millis(20);
/// The time for which a turn waits for this process's own rows.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The time for the store's part of a turn. With the rest it is less than a grant lasts.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);
/// The age at which grants that could not be renewed end. The store ends them later.
const TRUST: Duration = Duration::from_secs(4);
/// The turns without use after which a replica gives a grant up.
const IDLE_TURNS: u8 = 5;
/// No period is longer.
const LONGEST_PERIOD: Duration = Duration::from_secs(32 * 24 * 60 * 60);

/// A cap, with its tier.
pub(crate) struct Scope {
    tier: Option<Arc<str>>,
    handle: BudgetHandle,
    of: CapScope,
}

impl Scope {
    /// Returns all caps of a handle.
    pub(crate) fn all(tier: Option<&str>, handle: &BudgetHandle) -> Vec<Self> {
        let tier: Option<Arc<str>> = tier.map(Into::into);
        handle.scopes().into_iter().map(|of| Self { tier: tier.clone(), handle: handle.clone(), of }).collect()
    }

    /// Returns the sums of the cap: one, or one for each key.
    fn sums(&self, spends: &Spends<'_>) -> BTreeMap<Option<Arc<str>>, Usd> {
        let mut sums = BTreeMap::new();
        for spend in spends.of(self.of.key.as_deref(), self.of.team.as_deref()) {
            let is = |wanted: &Option<Arc<str>>, group: &Option<Arc<str>>| wanted.is_none() || wanted == group;
            let key = spend.group.key.clone().filter(|_| self.of.is_of_each_key);
            let counts = is(&self.tier, &spend.group.tier)
                && is(&self.of.feature, &spend.group.feature)
                && is(&self.of.team, &spend.group.team);
            if counts && key.is_some() == self.of.is_of_each_key {
                let sum: &mut Usd = sums.entry(key).or_default();
                *sum = *sum + spend.cost;
            }
        }
        sums
    }
}

/// Returns the accounts of each cap, as they are now.
fn sample(scopes: &[Scope]) -> Vec<Vec<ReplicaCap>> {
    let mut samples: Vec<Vec<ReplicaCap>> = Vec::with_capacity(scopes.len());
    let mut rest = scopes;
    while let Some(first) = rest.first() {
        // The caps of a handle follow each other.
        let count = rest.iter().take_while(|scope| scope.tier == first.tier).count();
        let mut by_cap: BTreeMap<Arc<str>, Vec<ReplicaCap>> = BTreeMap::new();
        for account in first.handle.replica_caps() {
            by_cap.entry(account.cap().clone()).or_default().push(account);
        }
        let (these, others) = rest.split_at(count);
        samples.extend(these.iter().map(|scope| {
            let accounts = by_cap.remove(&scope.of.cap).unwrap_or_default();
            accounts.into_iter().filter(|account| account.since() == scope.of.since).collect()
        }));
        rest = others;
    }
    samples
}

/// The spend of a period, with that of each key and of each team at hand.
struct Spends<'a> {
    all: &'a [Spend],
    by_key: BTreeMap<&'a str, Vec<&'a Spend>>,
    by_team: BTreeMap<&'a str, Vec<&'a Spend>>,
}

impl<'a> Spends<'a> {
    fn new(all: &'a [Spend]) -> Self {
        let (mut by_key, mut by_team): (BTreeMap<_, Vec<_>>, BTreeMap<_, Vec<_>>) = Default::default();
        for spend in all {
            if let Some(key) = spend.group.key.as_deref() {
                by_key.entry(key).or_default().push(spend);
            }
            if let Some(team) = spend.group.team.as_deref() {
                by_team.entry(team).or_default().push(spend);
            }
        }
        Self { all, by_key, by_team }
    }

    /// Returns the spend of one key, of one team, or of all.
    fn of(&self, key: Option<&str>, team: Option<&str>) -> Box<dyn Iterator<Item = &'a Spend> + '_> {
        match (key, team) {
            (None, None) => Box::new(self.all.iter()),
            (Some(key), _) => Box::new(self.by_key.get(key).into_iter().flatten().copied()),
            (None, Some(team)) => Box::new(self.by_team.get(team).into_iter().flatten().copied()),
        }
    }
}

/// This process's agreement with the other replicas.
#[derive(Debug, Default)]
pub(crate) struct Agreement {
    /// The grants of the latest turn.
    grants: BTreeMap<Account, Grant>,
    /// The time of the latest turn that renewed them.
    renewed: Option<Instant>,
    /// The number of replicas, this one included.
    replicas: usize,
    /// The use of each account after the latest turn.
    used: BTreeMap<Account, AccountUse>,
    /// The rule by which the caps go while the store is away.
    away: Option<WhenAway>,
}

/// The use of an account, from which the next turn sees whether there was more.
#[derive(Clone, Copy, Debug)]
struct AccountUse {
    since: Duration,
    spent: Usd,
    /// The number of turns since the last use by this replica.
    idle: u8,
}

/// A cap's name, with the key of a cap for each key.
type Account = (Arc<str>, Option<Arc<str>>);

fn name_of(account: &ReplicaCap) -> Account {
    (account.cap().clone(), account.key().cloned())
}

impl Agreement {
    /// Takes a turn: counts what the ledger has, and replaces the grants.
    ///
    /// # Errors
    ///
    /// The store failed, or has not all rows of this process. Once the last grants are too old, each cap goes by
    /// `when_away`.
    pub(crate) async fn renew(
        &mut self,
        ledger: &Ledger,
        scopes: Vec<Scope>,
        when_away: WhenAway,
    ) -> Result<(), StoreError> {
        let begun = Instant::now();
        let periods: BTreeSet<Duration> = scopes.iter().map(|scope| scope.of.since).collect();
        let queries = periods.iter().map(|since| query(*since, &scopes)).collect();
        let sampled = sample(&scopes);
        sleep(SETTLE_TIME).await;
        let is_flushed = timeout(FLUSH_TIMEOUT, ledger.flush()).await.is_ok();
        let turn = Arc::new(Turn {
            scopes,
            periods: periods.into_iter().collect(),
            is_flushed,
            is_trusted: self.renewed.is_some_and(|renewed| begun.duration_since(renewed) < TRUST),
            replicas: self.replicas,
            before: self.grants.clone(),
            known: self.used.clone(),
            state: Mutex::new(TurnState { sampled, ..TurnState::default() }),
        });
        let choice = turn.clone();
        let taken = ledger.take_grants(queries, Arc::new(move |view| choice.choose(view)));
        let taken = timeout(TURN_TIMEOUT, taken).await.unwrap_or_else(|_| {
            let what = "the ledger's store gives no answer in time";
            Err(StoreError::new(StoreErrorKind::Unavailable, what))
        });
        let mut state = lock(&turn.state);
        let outcome = taken.and_then(|()| match is_flushed {
            true => Ok(()),
            false => {
                Err(StoreError::new(StoreErrorKind::Unavailable, "rows of this process are not in the ledger yet"))
            }
        });
        match outcome {
            Ok(()) => {
                self.grants = std::mem::take(&mut state.grants);
                self.used = std::mem::take(&mut state.used);
                self.replicas = state.replicas;
                self.renewed = Some(begun);
                state.apply(self.replicas, &turn.scopes);
                if self.away.take().is_some() {
                    tracing::info!(replicas = self.replicas, "caps agreed on with other replicas again");
                }
            }
            Err(_) => self.fail(&turn.scopes, when_away),
        }
        outcome
    }

    /// Lets each cap go by `when_away` once the grants are too old.
    fn fail(&mut self, scopes: &[Scope], when_away: WhenAway) {
        if self.renewed.is_some_and(|renewed| renewed.elapsed() < TRUST) {
            return;
        }
        self.grants.clear();
        let first = match when_away {
            WhenAway::GoOn(_) if self.replicas == 1 => FirstShare::Even(1),
            // The cast saturates.
            WhenAway::GoOn(Share(share)) => FirstShare::OfLimit((share * 1e6) as u32),
            WhenAway::Refuse => FirstShare::OfLimit(0),
        };
        // Caps that a reload has added are among them.
        scopes.iter().for_each(|scope| scope.handle.set_first_room(first));
        if self.away.replace(when_away) == Some(when_away) {
            return;
        }
        let known = sample(scopes);
        let known = known.iter().flatten();
        if let FirstShare::OfLimit(millionths) = first {
            match millionths {
                0 => known.for_each(ReplicaCap::forget_room),
                // Beside what is in flight.
                _ => known.for_each(|cap| cap.add_part(millionths)),
            }
            let percent = f64::from(millionths) / 1e4;
            tracing::warn!(percent, "caps without the ledger's store: each lets so much of its limit be spent");
        } else {
            known.for_each(ReplicaCap::forget_room);
            tracing::warn!("caps without the ledger's store: the only replica goes on by its own count");
        }
    }
}

/// Returns the question for a period, told apart as far as its caps need it.
fn query(since: Duration, scopes: &[Scope]) -> SpendQuery {
    let mut query = SpendQuery::new(since, since.saturating_add(LONGEST_PERIOD));
    let needs = |needs: fn(&Scope) -> bool| scopes.iter().any(|scope| scope.of.since == since && needs(scope));
    if needs(|scope| scope.tier.is_some()) {
        query = query.by(SpendColumn::Tier);
    }
    if needs(|scope| scope.of.feature.is_some()) {
        query = query.by(SpendColumn::Feature);
    }
    if needs(|scope| scope.of.team.is_some()) {
        query = query.by(SpendColumn::Team);
    }
    if needs(|scope| scope.of.is_of_each_key || scope.of.key.is_some()) {
        query = query.by(SpendColumn::Key);
    }
    query
}

/// One turn at the store.
struct Turn {
    scopes: Vec<Scope>,
    /// The beginnings of periods, in the order of the questions.
    periods: Vec<Duration>,
    /// True if the store had all rows of this process at the beginning.
    is_flushed: bool,
    /// True if the grants before last still.
    is_trusted: bool,
    /// The number of replicas in the latest turn: after an outage of the store they come back one by one.
    replicas: usize,
    before: BTreeMap<Account, Grant>,
    known: BTreeMap<Account, AccountUse>,
    state: Mutex<TurnState>,
}

#[derive(Default)]
struct TurnState {
    /// The accounts of each scope, as they were before the flush.
    sampled: Vec<Vec<ReplicaCap>>,
    /// The accounts with grants.
    granted: Vec<(ReplicaCap, Usd)>,
    /// The accounts without.
    idle: Vec<ReplicaCap>,
    grants: BTreeMap<Account, Grant>,
    replicas: usize,
    used: BTreeMap<Account, AccountUse>,
}

impl Turn {
    /// Counts the sums, and chooses the grants. Rooms are lowered here, and raised once the store has the grants.
    fn choose(&self, view: &GrantView) -> Vec<Grant> {
        let state = &mut *lock(&self.state);
        state.replicas = view.replicas;
        // It tells the others that this replica runs.
        state.grants.insert(Account::default(), Grant::default());
        let mut others: BTreeMap<Account, Vec<&Grant>> = BTreeMap::new();
        for other in &view.others {
            others.entry((other.cap.clone(), other.key.clone())).or_default().push(other);
        }
        let spends: Vec<Spends<'_>> = view.spends.iter().map(|spends| Spends::new(spends)).collect();
        for (scope, accounts) in self.scopes.iter().zip(std::mem::take(&mut state.sampled)) {
            let place = self.periods.iter().position(|since| *since == scope.of.since);
            let found = place.and_then(|place| spends.get(place));
            let mut sums = found.map(|spends| scope.sums(spends)).unwrap_or_default();
            for account in accounts {
                let sum = sums.remove(&account.key().cloned()).unwrap_or_default();
                let others = others.get(&name_of(&account));
                self.choose_for(account, sum, others.map_or(&[], Vec::as_slice), state);
            }
            // Keys that have not asked this process yet.
            for (key, sum) in sums {
                if let Some(account) = scope.handle.replica_cap(&scope.of.cap, key.as_deref())
                    && account.since() == scope.of.since
                {
                    let account = account.count(sum);
                    let used = AccountUse { since: account.since(), spent: account.spent(), idle: IDLE_TURNS };
                    state.used.insert(name_of(&account), used);
                }
            }
        }
        let chosen = if self.is_flushed { &state.grants } else { &self.before };
        chosen.values().cloned().collect()
    }

    fn choose_for(&self, account: ReplicaCap, sum: Usd, others: &[&Grant], state: &mut TurnState) {
        let name = name_of(&account);
        let is_as_before =
            |known: &AccountUse| account.is_idle() && known.since == account.since() && known.spent == account.spent();
        let idle = match self.known.get(&name) {
            Some(known) if is_as_before(known) => known.idle.saturating_add(1).min(IDLE_TURNS),
            None if account.is_idle() && account.spent() == Usd::default() => IDLE_TURNS,
            _ => 0,
        };
        let account = account.count(sum);
        let used = AccountUse { since: account.since(), spent: account.spent(), idle };
        state.used.insert(name.clone(), used);
        if !self.is_flushed || account.only_warns() {
            return;
        }
        if idle == IDLE_TURNS {
            state.idle.push(account);
            return;
        }
        let mut grant = Grant {
            cap: account.cap().clone(),
            key: account.key().cloned(),
            since: account.since(),
            ..Grant::default()
        };
        let others: Vec<&Grant> = others.iter().copied().filter(|other| other.since == grant.since).collect();
        let had_one = self.is_trusted && self.before.get(&name).is_some_and(|before| before.since == grant.since);
        loop {
            grant.held = account.held();
            let request = GrantRequest {
                limit: account.limit(),
                spent: account.sum(),
                held: grant.held,
                others: &others,
                first_among: (!had_one).then_some(state.replicas.max(self.replicas)),
            };
            grant.amount = request.amount();
            account.lower_room(grant.amount);
            // A request may have come in between.
            if account.held() <= grant.amount {
                break;
            }
        }
        state.granted.push((account, grant.amount));
        state.grants.insert(name, grant);
    }
}

impl TurnState {
    /// Raises the rooms, now that the store has the grants.
    fn apply(&self, replicas: usize, scopes: &[Scope]) {
        let first = FirstShare::Even(u32::try_from(replicas).unwrap_or(u32::MAX));
        scopes.iter().for_each(|scope| scope.handle.set_first_room(first));
        self.idle.iter().for_each(ReplicaCap::forget_room);
        for (account, grant) in &self.granted {
            match replicas {
                // Its own count is the whole.
                0 | 1 => account.forget_room(),
                _ => account.set_room(*grant),
            }
        }
    }
}
