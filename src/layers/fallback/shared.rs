use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{SessionPolicy, layer::Config, ramp::Ramp, sessions::Sessions, tier::TierFacts};
use crate::{ErrorKind, Event, LlmRequest};

/// What all services of one fallback share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) ramp: Ramp,
    /// Whether each tier has ever answered.
    worked: Box<[AtomicBool]>,
    /// The tier that serves now, as the events tell it. Read by every request; changed under the lock.
    serving: AtomicUsize,
    /// When the primary stopped serving.
    away_since: Mutex<Option<Instant>>,
    sessions: Mutex<Sessions>,
}

impl Shared {
    pub(super) fn new(config: Config) -> Self {
        Self {
            ramp: Ramp::new(config.ramp.clone()),
            worked: (0..=config.tiers.len()).map(|_| AtomicBool::new(false)).collect(),
            serving: AtomicUsize::new(0),
            away_since: Mutex::new(None),
            sessions: Mutex::new(Sessions::new(config.session_capacity)),
            config,
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

    /// A tier has answered. `switched` says why the primary, which was asked first, did not.
    pub(super) fn answered(&self, tier: usize, request: &LlmRequest, begun: Instant, switched: Option<ErrorKind>) {
        // Written once: a line of cache that everybody only reads costs nothing.
        if !self.has_worked(tier) {
            self.worked[tier].store(true, Relaxed);
        }
        if self.config.session != SessionPolicy::Free {
            if let Some(session) = request.session_id() {
                self.sessions().insert(session.into(), tier);
            }
        }
        let serving = self.serving.load(Relaxed);
        if tier == serving {
            return;
        }
        match switched {
            _ if tier == 0 => self.recover(begun),
            Some(reason) => self.switch(tier, reason),
            None => {}
        }
    }

    /// The primary has failed, not merely refused.
    pub(super) fn primary_failed(&self) {
        if self.ramp.is_running() {
            self.ramp.begin(Instant::now());
        }
    }

    fn switch(&self, to: usize, reason: ErrorKind) {
        let at = Instant::now();
        let mut away_since = self.away_since.lock().unwrap_or_else(PoisonError::into_inner);
        let from = self.serving.swap(to, Relaxed);
        if from == to {
            return;
        }
        away_since.get_or_insert(at);
        drop(away_since);
        self.send(|| Event::ModelSwitched { from: self.name(from), to: self.name(to), reason, at });
    }

    /// The primary answered. A call that began before the switch proves nothing.
    fn recover(&self, begun: Instant) {
        let at = Instant::now();
        let mut away_since = self.away_since.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(since) = *away_since else { return };
        if begun < since {
            return;
        }
        *away_since = None;
        let from = self.serving.swap(0, Relaxed);
        drop(away_since);
        self.ramp.begin(at);
        let after = at.saturating_duration_since(since);
        self.send(|| Event::ModelRecovered { from: self.name(from), to: self.name(0), after, at });
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
