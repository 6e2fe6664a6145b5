use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{AllOpen, SessionPolicy, StreamBreak, layer::Config, ramp::Ramp, tier::TierFacts};
use crate::{ErrorKind, Event, LlmRequest, LlmResponse, layers::recent::Recent};

/// Which tier each session is with.
type Sessions = Recent<Arc<str>, usize>;

/// What all services of one fallback share.
pub(super) struct Shared {
    pub(super) config: Config,
    simple: bool,
    pub(super) ramp: Ramp,
    /// Whether any tier has said what it can do.
    pub(super) limited: bool,
    /// Whether each tier has ever answered.
    worked: Box<[AtomicBool]>,
    /// The tier that serves now, as the events tell it. Read by every request; changed under the lock.
    serving: AtomicUsize,
    changes: Mutex<Changes>,
    sessions: Mutex<Sessions>,
}

/// When what changed, as the events tell it.
#[derive(Debug, Default)]
struct Changes {
    /// When the primary stopped serving; `None` while it serves.
    away_since: Option<Instant>,
    /// The last change. What a request that began before it has met proves nothing about the time after.
    last: Option<Instant>,
}

impl Shared {
    pub(super) fn new(config: Config) -> Self {
        Self {
            simple: config.features.is_empty()
                && config.session == SessionPolicy::Free
                && config.all_open == AllOpen::Fail,
            ramp: Ramp::new(config.ramp.clone()),
            limited: std::iter::once(&config.primary)
                .chain(config.tiers.iter().map(|tier| &tier.facts))
                .any(|facts| facts.capabilities.is_limited()),
            worked: (0..=config.tiers.len()).map(|_| AtomicBool::new(false)).collect(),
            serving: AtomicUsize::new(0),
            changes: Mutex::default(),
            sessions: Mutex::new(Sessions::new(config.session_capacity)),
            config,
        }
    }

    /// Whether every request goes to the primary first and then to all tiers in their order, and never waits: then a
    /// request needs no walk while the primary answers.
    #[inline]
    pub(super) fn is_simple(&self) -> bool {
        self.simple && !self.ramp.is_running()
    }

    /// Whether an answer is handed on as it is, whatever may come of its stream.
    #[inline]
    pub(super) fn takes(&self, response: &LlmResponse) -> bool {
        self.config.stream_break == StreamBreak::Fail || !response.body().is_stream()
    }

    /// The primary has answered a request that went to it first.
    #[inline]
    pub(super) fn primary_answered(&self, request: &LlmRequest, response: &mut LlmResponse) {
        let primary = &self.config.primary;
        response.name_tier(&primary.name);
        if primary.degraded {
            response.set_degraded();
        }
        if !self.has_worked(0) || self.serving.load(Relaxed) != 0 {
            self.answered(0, request, request.context().begun.unwrap_or_else(Instant::now), None);
        }
    }

    /// How many tiers there are, the primary included.
    pub(super) fn tiers(&self) -> usize {
        self.config.tiers.len() + 1
    }

    /// What is known of a tier; 0 is the primary.
    pub(super) fn facts(&self, tier: usize) -> &TierFacts {
        match tier.checked_sub(1) {
            None => &self.config.primary,
            Some(place) => &self.config.tiers[place].facts,
        }
    }

    pub(super) fn has_worked(&self, tier: usize) -> bool {
        self.worked[tier].load(Relaxed)
    }

    /// The least time before the deadline that makes it worth beginning a tier.
    pub(super) fn min_useful(&self, tier: usize) -> Duration {
        self.facts(tier).min_useful.unwrap_or(self.config.min_useful)
    }

    /// The tier that the request's session is with.
    pub(super) fn session_tier(&self, request: &LlmRequest) -> Option<usize> {
        if self.config.session == SessionPolicy::Free {
            return None;
        }
        self.sessions().get(request.session_id()?)
    }

    /// A tier has answered a request that began at `begun`. `switched` says why the primary, which was asked first, did
    /// not.
    pub(super) fn answered(&self, tier: usize, request: &LlmRequest, begun: Instant, switched: Option<ErrorKind>) {
        // Written once: a line of cache that everybody only reads costs nothing.
        if !self.has_worked(tier) {
            self.worked[tier].store(true, Relaxed);
        }
        if self.config.session != SessionPolicy::Free
            && let Some(session) = request.session_id()
        {
            let mut sessions = self.sessions();
            // The first answer pins; one of a request that was under way beside it does not move the session.
            if self.config.session != SessionPolicy::Pin || sessions.get(session).is_none() {
                sessions.insert(session.into(), tier);
            }
        }
        let serving = self.serving.load(Relaxed);
        if tier == serving {
            return;
        }
        match switched {
            _ if tier == 0 => self.recover(begun),
            Some(reason) => self.switch(tier, reason, begun),
            None => {}
        }
    }

    /// The primary has failed, not merely refused.
    pub(super) fn primary_failed(&self) {
        if self.ramp.is_running() {
            self.ramp.begin(Instant::now());
        }
    }

    fn switch(&self, to: usize, reason: ErrorKind, begun: Instant) {
        let at = Instant::now();
        let mut changes = self.changes();
        let from = self.serving.load(Relaxed);
        if from == to || changes.last.is_some_and(|last| begun < last) {
            return;
        }
        self.serving.store(to, Relaxed);
        changes.last = Some(at);
        changes.away_since.get_or_insert(at);
        drop(changes);
        self.send(|| Event::ModelSwitched { from: self.name(from), to: self.name(to), reason, at });
    }

    fn recover(&self, begun: Instant) {
        let at = Instant::now();
        let mut changes = self.changes();
        let Some(since) = changes.away_since else { return };
        if changes.last.is_some_and(|last| begun < last) {
            return;
        }
        let from = self.serving.swap(0, Relaxed);
        *changes = Changes { away_since: None, last: Some(at) };
        drop(changes);
        self.ramp.begin(at);
        let after = at.saturating_duration_since(since);
        self.send(|| Event::ModelRecovered { from: self.name(from), to: self.name(0), after, at });
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, tier: usize) -> Arc<str> {
        self.facts(tier).name.clone()
    }

    fn send(&self, event: impl FnOnce() -> Event) {
        if let Some(events) = &self.config.events {
            events.send(event());
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
