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
    switch_reports::{Direction, SwitchReports},
};
use crate::{
    ErrorKind, Event, Events,
    internal::sync::{Mutex, MutexGuard, lock},
    layers::recent::Recent,
};

/// A fallback's state.
pub(super) struct State {
    pub(super) ramp: Ramp,
    /// True if the primary has ever answered, serves, and answered the last request. Every request reads it in place of
    /// the state behind the lock.
    settled: AtomicBool,
    serving: Mutex<ServingTier>,
    /// The tier of each session.
    sessions: Mutex<Recent<Arc<str>, Arc<str>>>,
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

/// The serving tier, as the events report it.
#[derive(Default)]
struct ServingTier {
    /// The tiers in force, in order; the first is the primary.
    tiers: Vec<KnownTier>,
    events: Option<Events>,
    /// The index of the tier that serves.
    at: usize,
    reports: SwitchReports,
}

/// A tier as the state knows it.
struct KnownTier {
    name: Arc<str>,
    asks_a_model: bool,
    /// True if it has ever answered.
    worked: Arc<AtomicBool>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            ramp: Ramp::new(),
            settled: AtomicBool::new(false),
            serving: Mutex::default(),
            sessions: Mutex::new(Recent::new(0)),
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

    /// Puts the tiers of these settings in force. Returns for each of them whether it has ever answered; that is known
    /// of unchanged tiers alone.
    pub(super) fn apply(&self, config: &Config, is_unchanged: impl Fn(&str) -> bool) -> Box<[Arc<AtomicBool>]> {
        let mut serving = self.serving();
        let facts = std::iter::once(&config.primary).chain(config.tiers.iter().map(|tier| &tier.facts));
        let tiers = facts.map(|facts| {
            let known = serving.place(facts.name()).filter(|_| is_unchanged(facts.name()));
            let worked = known.map_or_else(Arc::default, |place| serving.tiers[place].worked.clone());
            KnownTier { name: facts.name().clone(), asks_a_model: facts.asks_a_model(), worked }
        });
        let tiers: Vec<KnownTier> = tiers.collect();
        let worked = tiers.iter().map(|tier| tier.worked.clone()).collect();
        let before = std::mem::replace(&mut serving.tiers, tiers);
        serving.events.clone_from(&config.events);
        self.ramp.set_steps(&config.ramp);
        let mut sessions = lock(&self.sessions);
        *sessions = sessions.mapped(config.sessions.capacity, |tier| serving.place(tier).map(|_| tier.clone()));
        drop(sessions);
        let recovered = serving.restart(&before);
        self.settle(&serving);
        drop_then_send(serving, recovered);
        worked
    }

    /// Returns whether an answer of the primary changes nothing.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Relaxed)
    }

    /// Returns the tier of a session.
    pub(super) fn session(&self, session: &str) -> Option<Arc<str>> {
        lock(&self.sessions).get(session)
    }

    /// Records the tier of a session, if `moves` permits it for the tier so far.
    pub(super) fn remember(&self, session: &str, tier: &Arc<str>, moves: impl FnOnce(&str) -> bool) {
        let mut sessions = lock(&self.sessions);
        if sessions.get(session).is_none_or(|known| moves(&known)) {
            sessions.insert(session.into(), tier.clone());
        }
    }

    /// Records that a tier has answered a request that began at `begun`. `switched` is the reason why the primary,
    /// which was asked first, did not. An answer of a tier that is out of service is no return to it.
    pub(super) fn answered(&self, tier: &str, begun: Instant, switched: Option<ErrorKind>, is_out: bool) {
        let mut serving = self.serving();
        // The settings in force may have no such tier.
        let Some(place) = serving.place(tier) else { return };
        let change = match (place, switched) {
            // A request that began elsewhere shows nothing about the primary.
            (1.., None) => None,
            _ if place == serving.at => {
                serving.reports.goes_on();
                None
            }
            (0, _) if is_out => None,
            (0, _) => self.recover(&mut serving, begun, Instant::now()),
            (to, Some(reason)) => serving.switch(to, reason, begun, Instant::now()),
        };
        self.settle(&serving);
        drop_then_send(serving, change);
    }

    /// Returns when the last request found that the primary does not serve; `None` while it does.
    pub(super) fn away_since(&self) -> Option<Instant> {
        let serving = self.serving();
        serving.reports.last.filter(|_| serving.at != 0)
    }

    /// Records that the primary has answered a check that was sent at this time and was no caller's request.
    pub(super) fn primary_works(&self, asked: Instant) {
        let mut serving = self.serving();
        if serving.at != 0 {
            let change = self.recover(&mut serving, asked, Instant::now());
            self.settle(&serving);
            drop_then_send(serving, change);
        }
    }

    /// Records an answer of the primary while it does not serve. Returns the event if it serves again.
    fn recover(&self, serving: &mut ServingTier, begun: Instant, at: Instant) -> Option<Event> {
        let away = serving.reports.away_since?;
        if serving.reports.last.is_some_and(|last| begun < last) {
            return None;
        }
        if !serving.reports.is_returning() {
            self.ramp.begin(at);
        }
        let since = serving.reports.shows(Direction::Home, at)?;
        let from = std::mem::take(&mut serving.at);
        serving.reports.away_since = None;
        let after = since.saturating_duration_since(away);
        Some(Event::ModelRecovered { from: serving.name(from), to: serving.name(0), after, at })
    }

    fn settle(&self, serving: &ServingTier) {
        let worked = serving.tiers.first().is_some_and(|primary| primary.worked.load(Relaxed));
        self.settled.store(worked && serving.reports.is_settled(), Relaxed);
    }

    fn serving(&self) -> MutexGuard<'_, ServingTier> {
        lock(&self.serving)
    }
}

impl ServingTier {
    /// Returns the index of the tier of this name.
    fn place(&self, name: &str) -> Option<usize> {
        self.tiers.iter().position(|tier| *tier.name == *name)
    }

    fn name(&self, place: usize) -> Arc<str> {
        self.tiers[place].name.clone()
    }

    /// Looks at the outage under way with the tiers in force. It goes on if its primary is the primary still and its
    /// serving tier is another one. Otherwise it is over, and the event reports it to those who know it by its primary.
    fn restart(&mut self, before: &[KnownTier]) -> Option<Event> {
        let known = std::mem::take(&mut self.reports);
        let (since, from) = (known.away_since?, before[std::mem::take(&mut self.at)].name.clone());
        let to = before[0].name.clone();
        match self.place(&from) {
            Some(place) if place != 0 && self.name(0) == to => {
                (self.at, self.reports) = (place, known);
                None
            }
            _ => {
                let at = Instant::now();
                Some(Event::ModelRecovered { from, to, after: at.saturating_duration_since(since), at })
            }
        }
    }

    /// Records that another tier has answered in place of the serving one. Returns the event if it serves from now on.
    fn switch(&mut self, to: usize, reason: ErrorKind, begun: Instant, at: Instant) -> Option<Event> {
        let from = self.at;
        if self.reports.last.is_some_and(|last| begun < last) {
            return None;
        }
        if reason == ErrorKind::OutOfService {
            self.reports.is_ordered(at);
        } else {
            if to < from && !self.tiers[to].asks_a_model && !self.tiers[from].asks_a_model {
                // Among cached answers and fixed texts, the request decides which of them answers.
                return None;
            }
            self.reports.shows(if to < from { Direction::Up } else { Direction::Down }, at)?;
        }
        self.at = to;
        self.reports.away_since.get_or_insert(at);
        Some(Event::ModelSwitched { from: self.name(from), to: self.name(to), reason, failure: None, at })
    }
}

/// Sends an event without the lock, since its receivers run here.
fn drop_then_send(serving: MutexGuard<'_, ServingTier>, event: Option<Event>) {
    let Some(event) = event else { return };
    let events = serving.events.clone();
    drop(serving);
    if let Some(events) = events {
        events.send(event);
    }
}
