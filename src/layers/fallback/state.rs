//! The findings of a fallback about its tiers. They outlast its settings: all fallbacks of one state share them, and
//! tiers are matched by their names.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

use tokio::time::{Duration, Instant};

use super::{
    layer::Config,
    ramp::Ramp,
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
pub(super) struct State {
    pub(super) ramp: Ramp,
    serving: Mutex<Serving>,
    /// The tier of each session.
    sessions: Mutex<Sessions>,
    /// The place of the last request that waited for a rate limit, as a fraction of [`SPREAD`].
    spread: AtomicU32,
    /// The requests that wait for a probe that is due.
    waiting: AtomicU32,
}

/// A place among the requests that wait for a probe that is due.
pub(super) struct ShortWait(Arc<State>);

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
    events: Option<Events>,
}

/// A tier as the state knows it, and the requests that begin at it.
struct KnownTier {
    name: Arc<str>,
    asks_a_model: bool,
    /// True if an answer of it changes nothing. Every request reads this in place of the state behind the lock.
    settled: Settled,
    /// The index of the tier that serves the requests whose chain begins at this one.
    at: usize,
    reports: SwitchReports,
    /// The last failure of a call to it.
    failure: Option<Failure>,
}

/// True if an answer of a tier changes nothing: it serves the requests that begin there.
pub(super) type Settled = Arc<AtomicBool>;

/// A request that did not come to an answer of the tier that it asked first.
pub(super) struct Passage<'a> {
    /// The first tier of the request's chain.
    pub(super) first: &'a str,
    /// The reason why the tier before did not answer.
    pub(super) reason: ErrorKind,
    /// The steps so far.
    pub(super) steps: &'a [Attempt],
    pub(super) request: &'a LlmRequest,
    /// Returns a tier's position in the request's chain.
    pub(super) position: &'a dyn Fn(&str) -> Option<usize>,
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
    pub(super) fn new() -> Self {
        Self {
            ramp: Ramp::new(),
            serving: Mutex::default(),
            sessions: Mutex::default(),
            spread: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
        }
    }

    /// Takes a place among those that wait for a probe that is due, if there is one.
    pub(super) fn wait_shortly(self: &Arc<Self>) -> Option<ShortWait> {
        let place = ShortWait(self.clone());
        (self.waiting.fetch_add(1, Relaxed) < MOST_WAITING).then_some(place)
    }

    /// Returns how long a request waits behind the end of a rate limit, so that not all come back at once.
    pub(super) fn spread(&self) -> Duration {
        let place = self.spread.fetch_add(GOLDEN_STEP, Relaxed);
        SPREAD.mul_f64(f64::from(place) / f64::from(u32::MAX))
    }

    /// Puts the tiers of these settings in force. Returns for each of them whether its answers change nothing.
    /// `begins` returns whether requests may begin at a tier.
    pub(super) fn apply(&self, config: &Config, begins: impl Fn(usize) -> bool) -> Box<[Settled]> {
        let mut serving = self.serving();
        let facts = std::iter::once(&config.primary).chain(config.tiers.iter().map(|tier| &tier.facts));
        let before = std::mem::take(&mut serving.tiers);
        serving.tiers = facts.map(|facts| KnownTier::new(facts.name().clone(), facts.asks_a_model())).collect();
        serving.events.clone_from(&config.events);
        self.ramp.set_steps(&config.ramp);
        let mut sessions = lock(&self.sessions);
        *sessions = sessions.kept(config.sessions.capacity, |tier| serving.place(tier).is_some());
        drop(sessions);
        let changes = serving.restart(&before, begins);
        let settled = serving.tiers.iter().map(|tier| tier.settled.clone()).collect();
        drop_then_send(serving, changes);
        settled
    }

    /// Returns the tier of a tenant's session.
    pub(super) fn session(&self, tenant: Option<&Arc<str>>, session: &str) -> Option<Arc<str>> {
        lock(&self.sessions).get(tenant, session)
    }

    /// Records the tier of a tenant's session, if `moves` permits it for the tier so far.
    pub(super) fn remember(
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
    pub(super) fn answered(&self, tier: &str, begun: Instant, is_out: bool) {
        let mut serving = self.serving();
        // The settings in force may have no such tier.
        let Some(place) = serving.place(tier) else { return };
        let change = if serving.tiers[place].at == place {
            serving.tiers[place].reports.goes_on();
            None
        } else if is_out {
            None
        } else {
            self.recover(&mut serving, place, begun, Instant::now())
        };
        serving.tiers[place].settle();
        drop_then_send(serving, change);
    }

    /// Records that a tier has answered a request that began at `begun`, in place of its chain's first.
    pub(super) fn answered_for(&self, tier: &str, begun: Instant, passage: &Passage<'_>) {
        // Read without the lock, for which all wait who are answered in another tier's place.
        let failures = passage.failures();
        let mut serving = self.serving();
        serving.note(failures);
        let (Some(first), Some(to)) = (serving.place(passage.first), serving.place(tier)) else { return };
        let change = match serving.tiers[first].at == to {
            true => {
                serving.tiers[first].reports.goes_on();
                None
            }
            false => serving.switch(first, to, passage, begun, Instant::now()),
        };
        serving.tiers[first].settle();
        drop_then_send(serving, change);
    }

    /// Returns when the last request that begins at a tier found that it does not serve; `None` while it does.
    pub(super) fn away_since(&self, tier: &str) -> Option<Instant> {
        let serving = self.serving();
        let place = serving.place(tier)?;
        serving.tiers[place].reports.last.filter(|_| serving.tiers[place].at != place)
    }

    /// Records that a tier has answered a check that was sent at this time and was no caller's request.
    pub(super) fn works(&self, tier: &str, asked: Instant) {
        let mut serving = self.serving();
        let Some(place) = serving.place(tier).filter(|place| serving.tiers[*place].at != *place) else { return };
        let change = self.recover(&mut serving, place, asked, Instant::now());
        serving.tiers[place].settle();
        drop_then_send(serving, change);
    }

    /// Records an answer of a tier that does not serve the requests that begin at it. Returns the event if it serves
    /// again.
    fn recover(&self, serving: &mut Serving, first: usize, begun: Instant, at: Instant) -> Option<Event> {
        let KnownTier { reports, at: serves, .. } = &mut serving.tiers[first];
        let away = reports.away_since?;
        if reports.last.is_some_and(|last| begun < last) {
            return None;
        }
        if first == 0 && !reports.is_returning() {
            self.ramp.begin(at);
        }
        let since = reports.shows(Direction::Home, at)?;
        reports.away_since = None;
        let from = std::mem::replace(serves, first);
        let after = since.saturating_duration_since(away);
        Some(Event::ModelRecovered { from: serving.name(from), to: serving.name(first), after, at })
    }

    fn serving(&self) -> MutexGuard<'_, Serving> {
        lock(&self.serving)
    }
}

impl KnownTier {
    fn new(name: Arc<str>, asks_a_model: bool) -> Self {
        let settled = Settled::new(AtomicBool::new(true));
        Self { name, asks_a_model, settled, at: 0, reports: SwitchReports::default(), failure: None }
    }

    fn settle(&self) {
        self.settled.store(self.reports.is_settled(), Relaxed);
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

    /// Looks at the outages under way with the tiers in force. One goes on if requests still begin at its tier and
    /// its serving tier is another one: for the primary, if it is the primary still. Otherwise it is over, and the
    /// event reports it to those who know it by its first tier.
    fn restart(&mut self, before: &[KnownTier], begins: impl Fn(usize) -> bool) -> Vec<Event> {
        let mut over = Vec::new();
        for place in 0..self.tiers.len() {
            self.tiers[place].at = place;
        }
        for (place_before, known) in before.iter().enumerate() {
            let place = self.place(&known.name).filter(|place| *place == 0 || place_before != 0 && begins(*place));
            let at = self.place(&before[known.at].name);
            if let Some(place) = self.place(&known.name) {
                // Requests under way in the former settings read it too.
                self.tiers[place].settled = known.settled.clone();
                self.tiers[place].failure.clone_from(&known.failure);
            }
            match (place, at) {
                (Some(place), Some(at)) if place != at => {
                    (self.tiers[place].at, self.tiers[place].reports) = (at, known.reports);
                }
                _ => {
                    let Some(since) = known.reports.away_since else { continue };
                    let at = Instant::now();
                    let (from, to) = (before[known.at].name.clone(), known.name.clone());
                    over.push(Event::ModelRecovered { from, to, after: at.saturating_duration_since(since), at });
                }
            }
        }
        self.tiers.iter().for_each(KnownTier::settle);
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
    fn switch(&mut self, first: usize, to: usize, passage: &Passage<'_>, begun: Instant, at: Instant) -> Option<Event> {
        let reason = passage.reason;
        let from = self.tiers[first].at;
        let asks = [from, to].map(|tier| self.tiers[tier].asks_a_model);
        let reports = &self.tiers[first].reports;
        if reports.last.is_some_and(|last| begun < last) {
            return None;
        }
        // The request's chain may begin at the same tier and not have the serving one.
        let before = (passage.position)(&self.tiers[from].name)?;
        let is_up = (passage.position)(&self.tiers[to].name).is_some_and(|place| place < before);
        let reports = &mut self.tiers[first].reports;
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
        self.tiers[first].at = to;
        let failure = self.tiers[from].failure.clone().filter(|_| reason != ErrorKind::OutOfService);
        let (first, from, to) = (self.name(first), self.name(from), self.name(to));
        Some(Event::ModelSwitched { first, from, to, reason, failure, at })
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
