//! The state machine of a circuit: no clock of its own, no async, no events; `now` comes in, transitions come out.
//!
//! ```text
//!             trips; quota or auth refused
//!   Closed ─────────────────────────────────▶ Open ◀───────────┐
//!     ▲                                        │ cooldown over │ a probe fails
//!     │          enough probes succeed         ▼               │
//!     └──────────────────────────────────── HalfOpen ──────────┘
//! ```
//!
//! Everything that a closed circuit needs is in one atomic word ([`Word`]); whatever changes the state takes a short lock,
//! under which no foreign code runs. Every change begins a new *generation*, and the outcome of a call that was admitted
//! in an earlier one changes nothing (Polly 217 and 218 tell what happens otherwise).
//!
//! A *throttle* (`Retry-After`) is no state: it lies over the closed or half-open one and rejects calls until it is over, so
//! calls in flight still count and traffic afterwards is plain traffic again.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::{
    settings::{Rule, Settings},
    storm::{CALM, Storm},
    sync::{AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering},
    window::{Sample, Window},
    word::{Reason, Tag, Word},
};

#[derive(Debug)]
pub(super) struct Circuit {
    /// See [`Word`].
    word: AtomicU64,
    /// When an open circuit may probe; like all moments here in nanoseconds since `origin`.
    until: AtomicU64,
    /// When the throttle is over.
    throttled_until: AtomicU64,
    /// Calls since the last invalid request, counted only while a storm is suspected.
    calm: AtomicU32,
    failure_rate: Option<(Rule, Window)>,
    slow_rate: Option<(Rule, Window)>,
    settings: Settings,
    origin: Instant,
    core: Mutex<Core>,
}

#[derive(Debug)]
struct Core {
    rng: fastrand::Rng,
    probes: Vec<Probe>,
    next_probe: u64,
    /// Successful probes since the circuit became half-open.
    successes: u32,
    /// Cooldowns since it was last closed, after the first.
    relapses: u32,
    /// What opened it, kept while half-open.
    cause: Reason,
    storm: Storm,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    id: u64,
    /// From here on it may be replaced.
    lease_ends: u64,
}

/// Leave to make one call. Its outcome goes to [`Circuit::settle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    pub(super) generation: u64,
    pub(super) probe: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Admitted(Admission),
    /// This very admission changed the state.
    AdmittedAfter(Admission, Transition),
    Rejected(Rejection),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) phase: Phase,
    pub(super) reason: Reason,
    /// The earliest moment that a call may be admitted, as far as is known; `None`: only when told so.
    pub(super) until: Option<Instant>,
}

/// The state, as the outside sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Closed,
    Throttled,
    Open,
    HalfOpen,
    ForcedOpen,
    ForcedClosed,
}

/// A change of state, handed out exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transition {
    pub(super) from: Phase,
    pub(super) to: Phase,
    pub(super) reason: Reason,
    pub(super) generation: u64,
    /// For a phase that ends by itself: when.
    pub(super) until: Option<Instant>,
}

/// How a call ended, in the circuit's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success {
        slow: bool,
    },
    /// `throttle`: it came with a `Retry-After`.
    Failure {
        slow: bool,
        throttle: Option<Instant>,
    },
    /// Says nothing about the provider's health.
    Neutral,
    /// The caller went away.
    Abandoned,
    /// Neutral, unless very many different requests are suddenly invalid.
    InvalidRequest {
        fingerprint: u64,
    },
    /// With a time: a throttle. Without: as one of so many failures in a row, and in no rate.
    RateLimited {
        until: Option<Instant>,
    },
    Quota {
        until: Option<Instant>,
    },
    /// Neutral for a key that has never worked.
    Auth,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) transition: Option<Transition>,
    /// Admitted in another generation, or a probe that was replaced: it changed nothing.
    pub(super) late: bool,
}

impl Circuit {
    pub(super) fn new(settings: Settings, origin: Instant, seed: u64) -> Self {
        let window = |rule: Rule| (rule, Window::new(rule.span));
        Self {
            word: AtomicU64::new(0),
            until: AtomicU64::new(0),
            throttled_until: AtomicU64::new(0),
            calm: AtomicU32::new(0),
            failure_rate: settings.failure_rate.map(window),
            slow_rate: settings.slow_rate.map(window),
            settings,
            origin,
            core: Mutex::new(Core {
                rng: fastrand::Rng::with_seed(seed),
                probes: Vec::new(),
                next_probe: 0,
                successes: 0,
                relapses: 0,
                cause: Reason::Forced,
                storm: Storm::new(),
            }),
        }
    }

    /// Asks for leave to call. While closed this is one load, and the clock is not read.
    #[inline]
    pub(super) fn admit(&self, now: impl FnOnce() -> Instant) -> Decision {
        let word = self.load();
        if word.admits_all() {
            return Decision::Admitted(Admission {
                generation: word.generation(),
                probe: None,
            });
        }
        self.admit_unless_open(word, now())
    }

    /// Takes the outcome of an admitted call, once for each. In good health this is one load and no write.
    #[inline]
    pub(super) fn settle(
        &self,
        admission: Admission,
        outcome: Outcome,
        now: impl FnOnce() -> Instant,
    ) -> Settled {
        let healthy = Word::healthy(admission.generation);
        if outcome == (Outcome::Success { slow: false })
            && self.failure_rate.is_none()
            && self.slow_rate.is_none()
            && self.word.load(Ordering::Acquire) == healthy
        {
            return Settled::default();
        }
        self.settle_with_windows(admission, outcome, now)
    }

    /// The state without changing it. An open circuit whose cooldown is over is still open until somebody asks for leave.
    pub(super) fn peek(&self, now: Instant) -> (Phase, Option<Instant>) {
        let word = self.load();
        let phase = phase(word);
        // Nobody has called since the throttle ended, so nobody has lifted it.
        if phase == Phase::Throttled && self.throttled_until.load(Ordering::Acquire) <= self.at(now)
        {
            return (unthrottled(word), None);
        }
        (phase, self.phase_ends(phase))
    }

    /// The earliest moment at which a call may be admitted: `now` if at once, `None` if only when told so.
    pub(super) fn earliest_probe(&self, now: Instant) -> Option<Instant> {
        let at = self.at(now);
        let core = self.lock();
        let word = self.load();
        let mut earliest = at;
        if word.throttled() {
            earliest = earliest.max(self.throttled_until.load(Ordering::Acquire));
        }
        match word.tag() {
            Tag::Closed | Tag::Bypassed => {}
            Tag::Open => earliest = earliest.max(self.until.load(Ordering::Acquire)),
            Tag::HalfOpen => {
                if core.probes.len() >= self.settings.probes.get() as usize {
                    let ends = core.probes.iter().map(|probe| probe.lease_ends).min();
                    earliest = earliest.max(ends.unwrap_or(at));
                }
            }
        }
        self.instant(earliest)
    }

    /// The number of failures in a row, while closed.
    pub(super) fn failures(&self) -> u32 {
        let word = self.load();
        if word.tag() == Tag::Closed {
            word.failures()
        } else {
            0
        }
    }

    pub(super) fn force_open(&self) -> Option<Transition> {
        let mut core = self.lock();
        if phase(self.load()) == Phase::ForcedOpen {
            return None;
        }
        core.relapses = 0;
        Some(self.open(&mut core, Reason::Forced, FOREVER))
    }

    pub(super) fn force_close(&self) -> Option<Transition> {
        let mut core = self.lock();
        if self.load().tag() == Tag::Bypassed {
            return None;
        }
        core.relapses = 0;
        Some(self.publish(&mut core, Tag::Bypassed, Reason::Forced))
    }

    /// Back to the beginning: closed, nothing counted.
    pub(super) fn reset(&self) -> Option<Transition> {
        let mut core = self.lock();
        core.relapses = 0;
        let transition = self.publish(&mut core, Tag::Closed, Reason::Forced);
        (transition.from != Phase::Closed).then_some(transition)
    }

    /// A healthy answer to an active probe closes an open circuit early. Nothing that a person decided is undone, and no
    /// throttle, for the provider has said itself how long that lasts.
    pub(super) fn recover(&self) -> Option<Transition> {
        let mut core = self.lock();
        match phase(self.load()) {
            Phase::Open | Phase::HalfOpen => {
                core.relapses = 0;
                Some(self.publish(&mut core, Tag::Closed, Reason::Recovered))
            }
            _ => None,
        }
    }

    #[cold]
    fn admit_unless_open(&self, word: Word, now: Instant) -> Decision {
        let at = self.at(now);
        // Rejected without the lock: what an open circuit does all day.
        if word.tag() == Tag::Open && at < self.until.load(Ordering::Acquire)
            || word.throttled() && at < self.throttled_until.load(Ordering::Acquire)
        {
            return self.reject(word);
        }
        let mut core = self.lock();
        let word = self.load();
        let mut transition = None;
        if word.throttled() {
            if at < self.throttled_until.load(Ordering::Acquire) {
                return self.reject(word);
            }
            let (before, after) = self.update(|word| word.with_throttled(false));
            transition = Some(Transition {
                from: phase(before),
                to: phase(after),
                reason: Reason::ThrottleOver,
                generation: after.generation(),
                until: None,
            });
        }
        match word.tag() {
            Tag::Closed | Tag::Bypassed => {
                let admission = Admission {
                    generation: word.generation(),
                    probe: None,
                };
                return admitted(admission, transition);
            }
            Tag::Open => {
                if at < self.until.load(Ordering::Acquire) {
                    return self.reject(word);
                }
                transition = Some(self.publish(&mut core, Tag::HalfOpen, Reason::CooldownOver));
            }
            Tag::HalfOpen => {}
        }
        match self.add_probe(&mut core, at) {
            Some(admission) => admitted(admission, transition),
            None => Decision::Rejected(Rejection {
                phase: Phase::HalfOpen,
                reason: core.cause,
                until: self.instant(self.probe_hint(&core, at)),
            }),
        }
    }

    fn add_probe(&self, core: &mut Core, at: u64) -> Option<Admission> {
        if core.probes.len() >= self.settings.probes.get() as usize {
            let expired = core.probes.iter().position(|probe| probe.lease_ends <= at);
            core.probes.swap_remove(expired?);
        }
        let id = core.next_probe;
        core.next_probe += 1;
        let lease_ends = at.saturating_add(nanos(self.settings.probe_lease()));
        core.probes.push(Probe { id, lease_ends });
        Some(Admission {
            generation: self.load().generation(),
            probe: Some(id),
        })
    }

    /// When to come back if all probes are out: they may end at any moment, so soon; but no later than the first lease.
    fn probe_hint(&self, core: &Core, at: u64) -> u64 {
        let soon = at.saturating_add(nanos(PROBE_HINT));
        let ends = core.probes.iter().map(|probe| probe.lease_ends).min();
        ends.map_or(soon, |ends| ends.min(soon))
    }

    fn reject(&self, word: Word) -> Decision {
        let phase = phase(word);
        let reason = if phase == Phase::Throttled {
            Reason::Throttled
        } else {
            word.reason()
        };
        Decision::Rejected(Rejection {
            phase,
            reason,
            until: self.phase_ends(phase),
        })
    }

    #[inline]
    fn settle_with_windows(
        &self,
        admission: Admission,
        outcome: Outcome,
        now: impl FnOnce() -> Instant,
    ) -> Settled {
        if outcome == (Outcome::Success { slow: false })
            && self.word.load(Ordering::Acquire) == Word::healthy(admission.generation)
        {
            let sample = Sample {
                failure: false,
                slow: false,
            };
            let mut at = None;
            let mut now = Some(now);
            for (_, window) in self.failure_rate.iter().chain(&self.slow_rate) {
                window.record(admission.generation, sample, || {
                    *at.get_or_insert_with(|| now.take().map_or(0, |now| self.at(now())))
                });
            }
            return Settled::default();
        }
        self.settle_slowly(admission, outcome, now())
    }

    #[cold]
    fn settle_slowly(&self, admission: Admission, outcome: Outcome, now: Instant) -> Settled {
        let at = self.at(now);
        let transition = match admission.probe {
            Some(id) => self.settle_probe(admission.generation, id, outcome, at),
            None => self.settle_call(admission.generation, outcome, at),
        };
        match transition {
            Ok(transition) => Settled {
                transition,
                late: false,
            },
            Err(Late) => {
                self.hear_late(outcome, at);
                Settled {
                    transition: None,
                    late: true,
                }
            }
        }
    }

    /// A call of a closed circuit.
    fn settle_call(
        &self,
        generation: u64,
        outcome: Outcome,
        at: u64,
    ) -> Result<Option<Transition>, Late> {
        let word = self.load();
        if word.generation() != generation {
            return Err(Late);
        }
        if word.tag() == Tag::Bypassed {
            return Ok(None);
        }
        if word.suspect() && !matches!(outcome, Outcome::InvalidRequest { .. } | Outcome::Abandoned)
        {
            self.calm_down(generation);
        }
        match outcome {
            Outcome::Neutral | Outcome::Abandoned => Ok(None),
            Outcome::Success { slow } => {
                self.count(generation, |word| word.with_failures(0).with_worked())?;
                self.record(generation, false, slow, at)
            }
            Outcome::Failure { slow, throttle } => {
                let mut tripped = self.fail(generation, at)?;
                if tripped.is_none() {
                    tripped = self.record(generation, true, slow, at)?;
                }
                let throttled = throttle.and_then(|until| self.throttle(until, at));
                Ok(self.refreshed(tripped).or(throttled))
            }
            Outcome::RateLimited { until: None } => self.fail(generation, at),
            Outcome::RateLimited { until: Some(until) } => Ok(self.throttle(until, at)),
            Outcome::InvalidRequest { fingerprint } => {
                self.suspect_storm(generation, fingerprint, at)
            }
            Outcome::Quota { until } => {
                let until = self.latched_until(until, at);
                self.trip(generation, Reason::Quota, until)
            }
            Outcome::Auth if self.load().worked() => {
                let until = self.latched_until(None, at);
                self.trip(generation, Reason::Auth, until)
            }
            Outcome::Auth => Ok(None),
        }
    }

    /// Whatever its outcome, a probe gives its place back.
    fn settle_probe(
        &self,
        generation: u64,
        id: u64,
        outcome: Outcome,
        at: u64,
    ) -> Result<Option<Transition>, Late> {
        let mut core = self.lock();
        let word = self.load();
        if word.generation() != generation {
            return Err(Late);
        }
        let place = core.probes.iter().position(|probe| probe.id == id);
        core.probes.swap_remove(place.ok_or(Late)?);

        let transition = match outcome {
            Outcome::Neutral | Outcome::Abandoned => None,
            Outcome::Success { slow: false } => {
                self.update(Word::with_worked);
                core.successes = core.successes.saturating_add(1);
                if core.successes >= self.settings.successes.get() {
                    core.relapses = 0;
                    Some(self.publish(&mut core, Tag::Closed, Reason::Recovered))
                } else {
                    None
                }
            }
            // A slow answer, a 429 without a time: still not well.
            Outcome::Success { slow: true } | Outcome::RateLimited { until: None } => {
                Some(self.relapse(&mut core, at))
            }
            Outcome::Failure { throttle, .. } => {
                let relapse = self.relapse(&mut core, at);
                drop(core);
                self.extend(throttle, at);
                self.refreshed(Some(relapse))
            }
            Outcome::RateLimited { until: Some(until) } => {
                drop(core);
                self.throttle(until, at)
            }
            // One caller's mistake says nothing; but if mistakes are what opened it, it is still broken.
            Outcome::InvalidRequest { .. } if core.cause == Reason::InvalidRequests => {
                Some(self.relapse(&mut core, at))
            }
            Outcome::InvalidRequest { .. } => None,
            Outcome::Quota { until } => {
                let until = self.latched_until(until, at);
                Some(self.open(&mut core, Reason::Quota, until))
            }
            Outcome::Auth if word.worked() => {
                let until = self.latched_until(None, at);
                Some(self.open(&mut core, Reason::Auth, until))
            }
            Outcome::Auth => None,
        };
        Ok(transition)
    }

    /// A late outcome changes no state. But a time that the provider itself has named is obeyed while open, for it is news,
    /// and nobody is sent there meanwhile who could repeat it.
    fn hear_late(&self, outcome: Outcome, at: u64) {
        if let Outcome::Failure { throttle, .. } | Outcome::RateLimited { until: throttle } =
            outcome
        {
            self.extend(throttle, at);
        }
    }

    fn extend(&self, throttle: Option<Instant>, at: u64) {
        let Some(until) = throttle else { return };
        let _core = self.lock();
        if phase(self.load()) == Phase::Open {
            let until = self.believed(until, at);
            self.until.fetch_max(until, Ordering::AcqRel);
        }
    }

    /// With the time as it is after a `Retry-After`.
    fn refreshed(&self, transition: Option<Transition>) -> Option<Transition> {
        transition.map(|transition| Transition {
            until: self.phase_ends(transition.to),
            ..transition
        })
    }

    /// Counts one more failure in a row, and trips if it is the last one.
    fn fail(&self, generation: u64, at: u64) -> Result<Option<Transition>, Late> {
        let word = self.count(generation, |word| word.with_failures(word.failures() + 1))?;
        match self.settings.consecutive_failures {
            Some(limit) if word.failures() >= limit.get().min(MOST_FAILURES) => {
                self.trip_for_cooldown(generation, Reason::ConsecutiveFailures, at)
            }
            _ => Ok(None),
        }
    }

    /// Enters a call in the windows. Only a bad call can trip: a good one never makes a share worse.
    fn record(
        &self,
        generation: u64,
        failure: bool,
        slow: bool,
        at: u64,
    ) -> Result<Option<Transition>, Late> {
        let sample = Sample { failure, slow };
        for (_, window) in self.failure_rate.iter().chain(&self.slow_rate) {
            window.record(generation, sample, || at);
        }
        if let Some((rule, window)) = self.failure_rate.as_ref().filter(|_| failure) {
            let totals = window.totals(generation, || at);
            if rule.trips(totals.failures, totals.calls) {
                return self.trip_for_cooldown(generation, Reason::FailureRate, at);
            }
        }
        if let Some((rule, window)) = self.slow_rate.as_ref().filter(|_| slow) {
            let totals = window.totals(generation, || at);
            if rule.trips(totals.slow, totals.calls) {
                return self.trip_for_cooldown(generation, Reason::SlowCalls, at);
            }
        }
        Ok(None)
    }

    fn suspect_storm(
        &self,
        generation: u64,
        fingerprint: u64,
        at: u64,
    ) -> Result<Option<Transition>, Late> {
        let mut core = self.lock();
        if self.load().generation() != generation {
            return Err(Late);
        }
        let others = self.calm.swap(0, Ordering::AcqRel);
        if core.storm.observe(fingerprint, at, u64::from(others)) {
            let until = at.saturating_add(nanos(self.settings.cooldown(0, 0.0)));
            return Ok(Some(self.open(&mut core, Reason::InvalidRequests, until)));
        }
        self.update(|word| word.with_suspect(true));
        Ok(None)
    }

    /// Another call ended while a storm is suspected; after enough of them none is.
    fn calm_down(&self, generation: u64) {
        if self.calm.fetch_add(1, Ordering::AcqRel) + 1 < CALM {
            return;
        }
        let mut core = self.lock();
        // An invalid request may have come in between.
        if self.load().generation() == generation && self.calm.load(Ordering::Acquire) >= CALM {
            self.forget_storm(&mut core);
            self.update(|word| word.with_suspect(false));
        }
    }

    fn forget_storm(&self, core: &mut Core) {
        core.storm.clear();
        self.calm.store(0, Ordering::Release);
    }

    /// Rejects calls until `until`, or until a later moment if one was named before.
    fn throttle(&self, until: Instant, at: u64) -> Option<Transition> {
        let until = self.believed(until, at);
        if until <= at {
            return None;
        }
        let _core = self.lock();
        match self.load().tag() {
            Tag::Closed | Tag::HalfOpen => {}
            Tag::Open => {
                if phase(self.load()) == Phase::Open {
                    self.until.fetch_max(until, Ordering::AcqRel);
                }
                return None;
            }
            Tag::Bypassed => return None,
        }
        self.throttled_until.fetch_max(until, Ordering::AcqRel);
        let (before, after) = self.update(|word| word.with_throttled(true));
        (before != after).then(|| Transition {
            from: phase(before),
            to: Phase::Throttled,
            reason: Reason::Throttled,
            generation: after.generation(),
            until: self.phase_ends(Phase::Throttled),
        })
    }

    fn trip_for_cooldown(
        &self,
        generation: u64,
        reason: Reason,
        at: u64,
    ) -> Result<Option<Transition>, Late> {
        let until = at.saturating_add(nanos(self.settings.cooldown(0, 0.0)));
        self.trip(generation, reason, until)
    }

    /// Opens a closed circuit, if it is still in the generation that says so.
    fn trip(
        &self,
        generation: u64,
        reason: Reason,
        until: u64,
    ) -> Result<Option<Transition>, Late> {
        let mut core = self.lock();
        if self.load().generation() != generation {
            return Err(Late);
        }
        core.relapses = 0;
        Ok(Some(self.open(&mut core, reason, until)))
    }

    /// Opens a half-open circuit again.
    fn relapse(&self, core: &mut Core, at: u64) -> Transition {
        core.relapses = core.relapses.saturating_add(1);
        let chance = core.rng.f64();
        let cooldown = self.settings.cooldown(core.relapses, chance);
        // A storm of invalid requests stays one, for the sake of the next probe.
        let reason = match core.cause {
            Reason::InvalidRequests => Reason::InvalidRequests,
            _ => Reason::ProbeFailed,
        };
        self.open(core, reason, at.saturating_add(nanos(cooldown)))
    }

    fn open(&self, core: &mut Core, reason: Reason, until: u64) -> Transition {
        let throttled = if self.load().throttled() {
            self.throttled_until.load(Ordering::Acquire)
        } else {
            0
        };
        self.until.store(until.max(throttled), Ordering::Release);
        core.cause = reason;
        self.publish(core, Tag::Open, reason)
    }

    /// Begins the next generation.
    fn publish(&self, core: &mut Core, tag: Tag, reason: Reason) -> Transition {
        core.probes.clear();
        core.successes = 0;
        self.forget_storm(core);
        let next = self.load().next(tag, reason).generation();
        for (_, window) in self.failure_rate.iter().chain(&self.slow_rate) {
            window.restart(next);
        }
        let (before, after) = self.update(|word| word.next(tag, reason));
        self.throttled_until.store(0, Ordering::Release);
        let to = phase(after);
        Transition {
            from: phase(before),
            to,
            reason,
            generation: after.generation(),
            until: self.phase_ends(to),
        }
    }

    /// Changes the count of a closed circuit, if it is still of that generation; no lock.
    fn count(&self, generation: u64, change: impl Fn(Word) -> Word) -> Result<Word, Late> {
        let mut current = self.load();
        loop {
            if current.generation() != generation {
                return Err(Late);
            }
            let next = change(current);
            if next == current {
                return Ok(next);
            }
            match self.word.compare_exchange_weak(
                current.0,
                next.0,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Ok(next),
                Err(actual) => current = Word(actual),
            }
        }
    }

    /// Changes the word whatever it is, and returns what it was and is; callers hold the lock, so that only counts can
    /// change beside them.
    fn update(&self, change: impl Fn(Word) -> Word) -> (Word, Word) {
        let mut before = self.load();
        loop {
            let after = change(before);
            match self.word.compare_exchange_weak(
                before.0,
                after.0,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return (before, after),
                Err(actual) => before = Word(actual),
            }
        }
    }

    fn load(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // No invariant spans a panic: nothing under the lock calls foreign code.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a latch probes: at the reset time if known, but not much later than usual, for such errors have been false.
    fn latched_until(&self, reset: Option<Instant>, at: u64) -> u64 {
        match reset {
            Some(reset) => self.believed(reset, at).max(at.saturating_add(1)),
            None => at.saturating_add(nanos(self.settings.latch)),
        }
    }

    /// A provider's own time, as far as it is believed.
    fn believed(&self, until: Instant, at: u64) -> u64 {
        let longest = at.saturating_add(nanos(self.settings.max_throttle));
        self.at(until).min(longest)
    }

    fn phase_ends(&self, phase: Phase) -> Option<Instant> {
        match phase {
            Phase::Open => self.instant(self.until.load(Ordering::Acquire)),
            Phase::Throttled => self.instant(self.throttled_until.load(Ordering::Acquire)),
            Phase::Closed | Phase::HalfOpen | Phase::ForcedOpen | Phase::ForcedClosed => None,
        }
    }

    fn at(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.origin))
    }

    fn instant(&self, at: u64) -> Option<Instant> {
        if at == FOREVER {
            return None;
        }
        self.origin.checked_add(Duration::from_nanos(at))
    }
}

/// The outcome belongs to another generation.
#[derive(Debug)]
struct Late;

fn admitted(admission: Admission, transition: Option<Transition>) -> Decision {
    match transition {
        Some(transition) => Decision::AdmittedAfter(admission, transition),
        None => Decision::Admitted(admission),
    }
}

fn phase(word: Word) -> Phase {
    if word.throttled() {
        return Phase::Throttled;
    }
    unthrottled(word)
}

fn unthrottled(word: Word) -> Phase {
    match word.tag() {
        Tag::Closed => Phase::Closed,
        Tag::Open if word.reason() == Reason::Forced => Phase::ForcedOpen,
        Tag::Open => Phase::Open,
        Tag::HalfOpen => Phase::HalfOpen,
        Tag::Bypassed => Phase::ForcedClosed,
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(FOREVER - 1)
}

const FOREVER: u64 = u64::MAX;
const PROBE_HINT: Duration = Duration::from_secs(1);
/// What the word has room for.
const MOST_FAILURES: u32 = (1 << 23) - 1;
