//! The findings of a fallback about its tiers. They outlast its settings: all fallbacks of one state share them, and
//! tiers are matched by their names.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

use tokio::time::{Duration, Instant};

use super::{
    kept_text::TextRoom,
    ramp::{Ramp, RampStep},
    sessions::Sessions,
    switch_reports::{Direction, SwitchReports},
};
use crate::{
    ErrorKind, Event, Events, LlmRequest,
    events::{Failure, report},
    internal::sync::{Mutex, MutexGuard, lock},
    ledger::Attempt,
};

/// A fallback's state.
pub(crate) struct State {
    pub(crate) ramp: Ramp,
    serving: Mutex<Serving>,
    /// The tier of each session.
    sessions: Mutex<Sessions>,
    /// The place of the last request that waited for a rate limit, as a fraction of [`SPREAD`].
    spread: AtomicU32,
    /// The requests that wait for a probe that is due.
    waiting: AtomicU32,
    /// The texts that calls may go on with.
    pub(super) texts: TextRoom,
}

/// A place among the requests that wait for a probe that is due.
pub(crate) struct ShortWait(Arc<State>);

impl Drop for ShortWait {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// The most requests that wait for a probe that is due. The others fail at once, as all did before.
const MOST_WAITING: u32 = 1000;

/// The time over which requests come back that wait for the end of one rate limit.
const SPREAD: Duration = Duration::from_secs(1);

/// The golden ratio's fraction of all values: each further step falls into the widest gap between those before it.
const GOLDEN_STEP: u32 = 0x9E37_79B9;

/// The tiers that serve, as the events report them.
#[derive(Default)]
struct Serving {
    /// The tiers in force, in order; the first is the primary.
    tiers: Vec<KnownTier>,
    chains: Vec<ServedChain>,
    events: Option<Events>,
}

/// The settings on which a state depends.
pub(crate) struct StateSettings<'a> {
    /// The tiers in order; the first is the primary.
    pub(crate) tiers: Vec<KnownTier>,
    pub(crate) chains: Vec<ServedChain>,
    pub(crate) events: Option<&'a Events>,
    pub(crate) ramp: &'a [RampStep],
    /// The number of sessions that are kept.
    pub(crate) sessions: usize,
}

/// A tier as the state knows it.
pub(crate) struct KnownTier {
    name: Arc<str>,
    asks_a_model: bool,
    /// True if an answer of it changes nothing. Every request reads this in place of the state behind the lock.
    settled: Settled,
    /// The last failure of a call to it.
    failure: Option<Failure>,
}

/// A chain, and the tier that serves it.
pub(crate) struct ServedChain {
    id: Arc<str>,
    /// Its requests, the first name of several. Empty for those that begin at its first tier otherwise.
    name: String,
    /// The indexes of its first tier and of the one that serves it.
    first: usize,
    at: usize,
    reports: SwitchReports,
}

/// True if an answer of a tier changes nothing: it serves the requests that begin there.
pub(crate) type Settled = Arc<AtomicBool>;

/// A request that did not come to an answer of the tier that it asked first.
pub(crate) struct Passage<'a> {
    /// The id of the request's chain.
    pub(crate) chain: &'a str,
    /// The first tier of the request's chain.
    pub(crate) first: &'a str,
    /// The reason why the tier before did not answer.
    pub(crate) reason: ErrorKind,
    /// The steps so far.
    pub(crate) steps: &'a [Attempt],
    pub(crate) request: &'a LlmRequest,
    /// Returns a tier's position in the request's chain.
    pub(crate) position: &'a dyn Fn(&str) -> Option<usize>,
}

impl Passage<'_> {
    /// Returns the failures of the calls that were sent, with their tiers.
    fn failures(&self) -> Vec<(&Arc<str>, Failure)> {
        let sent = self.steps.iter().filter(|step| !step.is_local());
        sent.filter_map(|step| Some((step.tier.as_ref()?, Failure::of_attempt(step, self.request.shared_id())?)))
            .collect()
    }
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            ramp: Ramp::new(),
            serving: Mutex::default(),
            sessions: Mutex::default(),
            spread: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            texts: TextRoom::default(),
        }
    }

    /// Takes a place among those that wait for a probe that is due, if there is one.
    pub(crate) fn wait_shortly(self: &Arc<Self>) -> Option<ShortWait> {
        let place = ShortWait(self.clone());
        (self.waiting.fetch_add(1, Relaxed) < MOST_WAITING).then_some(place)
    }

    /// Returns how long a request waits behind the end of a rate limit, so that not all come back at once.
    pub(crate) fn spread(&self) -> Duration {
        let place = self.spread.fetch_add(GOLDEN_STEP, Relaxed);
        SPREAD.mul_f64(f64::from(place) / f64::from(u32::MAX))
    }

    /// Puts these settings in force. Returns for each tier whether its answers change nothing. `begins` returns whether
    /// requests may begin at a tier.
    pub(crate) fn apply(&self, settings: StateSettings<'_>, begins: impl Fn(usize) -> bool) -> Box<[Settled]> {
        let StateSettings { tiers, chains, events, ramp, sessions: capacity } = settings;
        let mut serving = self.serving();
        let before = std::mem::take(&mut *serving);
        (serving.tiers, serving.chains, serving.events) = (tiers, chains, events.cloned());
        self.ramp.set_steps(ramp);
        let mut sessions = lock(&self.sessions);
        *sessions = sessions.kept(capacity, |tier| serving.place(tier).is_some());
        drop(sessions);
        let changes = serving.restart(&before, begins);
        let settled = serving.tiers.iter().map(|tier| tier.settled.clone()).collect();
        drop_then_send(serving, changes);
        settled
    }

    /// Returns the tier of a tenant's session.
    pub(crate) fn session(&self, tenant: Option<&Arc<str>>, session: &str) -> Option<Arc<str>> {
        lock(&self.sessions).get(tenant, session)
    }

    /// Records the tier of a tenant's session, if `moves` permits it for the tier so far.
    pub(crate) fn remember(
        &self,
        tenant: Option<&Arc<str>>,
        session: &str,
        tier: &Arc<str>,
        moves: impl FnOnce(&str) -> bool,
    ) {
        let mut sessions = lock(&self.sessions);
        if sessions.get(tenant, session).is_none_or(|known| moves(&known)) {
            sessions.insert(tenant.cloned(), session.into(), tier.clone());
        }
    }

    /// Records that a tier has answered a request that began at `begun`. An answer of a tier that is out of service is
    /// no return to it.
    pub(crate) fn answered(&self, tier: &str, begun: Instant, is_out: bool) {
        let mut serving = self.serving();
        // The settings in force may have no such tier.
        let Some(place) = serving.place(tier) else { return };
        for chain in serving.chains.iter_mut().filter(|chain| chain.first == place && chain.at == place) {
            chain.reports.goes_on();
        }
        let changes = if is_out { Vec::new() } else { self.recover(&mut serving, place, begun) };
        serving.settle(place);
        drop_then_send(serving, changes);
    }

    /// Records that a tier has answered a request that began at `begun`, in place of its chain's first. Returns when
    /// that one stopped serving.
    pub(crate) fn answered_for(&self, tier: &str, begun: Instant, passage: &Passage<'_>) -> Option<Instant> {
        // Read without the lock, for which all wait who are answered in another tier's place.
        let failures = passage.failures();
        let mut serving = self.serving();
        serving.note(failures);
        let chain = serving.chains.iter().position(|chain| *chain.id == *passage.chain);
        let (chain, to) = (chain?, serving.place(tier)?);
        let first = serving.chains[chain].first;
        // In the settings in force another chain may have its id.
        if *serving.tiers[first].name != *passage.first {
            return None;
        }
        let change = match serving.chains[chain].at == to {
            true => {
                serving.chains[chain].reports.goes_on();
                None
            }
            false => serving.switch(chain, to, passage, begun, Instant::now()),
        };
        serving.settle(first);
        let away_since = serving.chains[chain].reports.elsewhere_since();
        drop_then_send(serving, change);
        away_since
    }

    /// Returns when the last request that begins at a tier found that it does not serve; `None` while it does.
    pub(crate) fn away_since(&self, tier: &str) -> Option<Instant> {
        let serving = self.serving();
        let place = serving.place(tier)?;
        let away = serving.chains.iter().filter(|chain| chain.first == place && chain.at != place);
        away.filter_map(|chain| chain.reports.last).max()
    }

    /// Records that a tier has answered a check that was sent at this time and was no caller's request.
    pub(crate) fn works(&self, tier: &str, asked: Instant) {
        let mut serving = self.serving();
        let Some(place) = serving.place(tier) else { return };
        let changes = self.recover(&mut serving, place, asked);
        serving.settle(place);
        drop_then_send(serving, changes);
    }

    /// Records an answer of a tier for the chains that begin at it and that another one serves. Returns the events of
    /// those that it serves again.
    fn recover(&self, serving: &mut Serving, first: usize, begun: Instant) -> Vec<Event> {
        let (at, mut is_new, mut changes) = (Instant::now(), false, Vec::new());
        let Serving { tiers, chains, .. } = serving;
        for chain in chains.iter_mut().filter(|chain| chain.first == first && chain.at != first) {
            let reports = &mut chain.reports;
            let Some(away) = reports.away_since.filter(|_| reports.last.is_none_or(|last| begun >= last)) else {
                continue;
            };
            is_new |= !reports.is_returning();
            let Some(since) = reports.shows(Direction::Home, at) else { continue };
            reports.away_since = None;
            let from = tiers[std::mem::replace(&mut chain.at, first)].name.clone();
            let (id, to, after) = (chain.id.clone(), tiers[first].name.clone(), since.saturating_duration_since(away));
            changes.push(Event::ModelRecovered { chain: id, from, to, after, at });
        }
        if first == 0 && is_new {
            self.ramp.begin(at);
        }
        changes
    }

    fn serving(&self) -> MutexGuard<'_, Serving> {
        lock(&self.serving)
    }
}

impl KnownTier {
    pub(crate) fn new(name: Arc<str>, asks_a_model: bool) -> Self {
        let settled = Settled::new(AtomicBool::new(true));
        Self { name, asks_a_model, settled, failure: None }
    }
}

impl ServedChain {
    pub(crate) fn new(id: Arc<str>, name: String, first: usize) -> Self {
        Self { id, name, first, at: first, reports: SwitchReports::default() }
    }
}

impl Serving {
    /// Returns the index of the tier of this name.
    fn place(&self, name: &str) -> Option<usize> {
        self.tiers.iter().position(|tier| *tier.name == *name)
    }

    fn name(&self, place: usize) -> Arc<str> {
        self.tiers[place].name.clone()
    }

    /// Notes whether an answer of a tier changes nothing.
    fn settle(&self, tier: usize) {
        let mut begun = self.chains.iter().filter(|chain| chain.first == tier);
        self.tiers[tier].settled.store(begun.all(|chain| chain.reports.is_settled()), Relaxed);
    }

    /// Looks at the outages under way with the chains in force. One goes on if its chain is there still, with the same
    /// first tier, requests begin there, and its serving tier is another one. Otherwise it is over, and the event
    /// reports it to those who know it by its chain.
    fn restart(&mut self, before: &Self, begins: impl Fn(usize) -> bool) -> Vec<Event> {
        for known in &before.tiers {
            if let Some(place) = self.place(&known.name) {
                // Requests under way in the former settings read it too.
                self.tiers[place].settled = known.settled.clone();
                self.tiers[place].failure.clone_from(&known.failure);
            }
        }
        let mut over = Vec::new();
        for known in &before.chains {
            let (first, at) = (&before.tiers[known.first].name, &before.tiers[known.at].name);
            let goes_on = |chain: &&mut ServedChain| chain.id == known.id && chain.name == known.name;
            let serves = self.place(at);
            let tiers = &self.tiers;
            let chain = self.chains.iter_mut().find(goes_on).filter(|chain| tiers[chain.first].name == *first);
            match (chain.filter(|chain| begins(chain.first)), serves) {
                (Some(chain), Some(at)) if chain.first != at => (chain.at, chain.reports) = (at, known.reports),
                _ => {
                    let Some(since) = known.reports.away_since else { continue };
                    let (now, chain) = (Instant::now(), known.id.clone());
                    let after = now.saturating_duration_since(since);
                    over.push(Event::ModelRecovered { chain, from: at.clone(), to: first.clone(), after, at: now });
                }
            }
        }
        (0..self.tiers.len()).for_each(|tier| self.settle(tier));
        over
    }

    /// Keeps the failures of calls for those who ask why a tier no longer serves.
    fn note(&mut self, failures: Vec<(&Arc<str>, Failure)>) {
        for (name, failure) in failures {
            if let Some(tier) = self.tiers.iter_mut().find(|tier| tier.name == *name) {
                tier.failure = Some(failure);
            }
        }
    }

    /// Records that another tier has answered in place of the serving one. Returns the event if it serves from now on.
    fn switch(&mut self, chain: usize, to: usize, passage: &Passage<'_>, begun: Instant, at: Instant) -> Option<Event> {
        let reason = passage.reason;
        let from = self.chains[chain].at;
        let asks = [from, to].map(|tier| self.tiers[tier].asks_a_model);
        let reports = &self.chains[chain].reports;
        if reports.last.is_some_and(|last| begun < last) {
            return None;
        }
        // The request may not have the serving tier, for its own needs.
        let before = (passage.position)(&self.tiers[from].name)?;
        let is_up = (passage.position)(&self.tiers[to].name).is_some_and(|place| place < before);
        let reports = &mut self.chains[chain].reports;
        if reason == ErrorKind::OutOfService {
            reports.is_ordered(at);
        } else {
            if is_up && asks == [false; 2] {
                // Among cached answers and fixed texts, the request decides which of them answers.
                return None;
            }
            reports.shows(if is_up { Direction::Up } else { Direction::Down }, at)?;
        }
        reports.away_since.get_or_insert(at);
        self.chains[chain].at = to;
        let failure = self.tiers[from].failure.clone().filter(|_| reason != ErrorKind::OutOfService);
        let (chain, first) = (self.chains[chain].id.clone(), self.name(self.chains[chain].first));
        let (from, to) = (self.name(from), self.name(to));
        Some(Event::ModelSwitched { chain, first, from, to, reason, failure, at })
    }
}

/// Sends events without the lock, since their receivers run here.
fn drop_then_send(serving: MutexGuard<'_, Serving>, changes: impl IntoIterator<Item = Event>) {
    let events = serving.events.clone();
    drop(serving);
    for change in changes {
        report(&change, events.as_ref());
        if let Some(events) = &events {
            events.send(change);
        }
    }
}
