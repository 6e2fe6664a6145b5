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
//! Everything that a closed circuit needs is in one atomic word ([`Word`]). A change of state takes a short lock,
//! under which no foreign code runs. Every change begins a new *generation*, and the outcome of a call that was
//! admitted in an earlier one changes nothing (Polly's issues 217 and 218 show the alternative).
//!
//! A circuit that trips again within an hour of its closing has *lapsed*. From then on more probes must succeed in
//! a row: the first alone, and then twice as many at once after each. One failure among this trickle opens it
//! again.
//!
//! A *throttle* (`Retry-After`) is no state: it lies over the closed or half-open one and rejects calls until it is
//! over. Calls in flight still count, and traffic afterwards is plain traffic again.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    apart::Known,
    callers::Callers,
    evidence::{Author, Cause, Evidence},
    settings::{Rule, Settings, pause_of_only_way},
    storm::Storm,
    window::History,
    word::{Reason, Tag, Word},
};
use crate::{
    internal::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, Ordering},
        lock,
    },
    layers::{caller::UNNAMED, patience::SHORT_WAIT},
};

// On a cache line of its own: each call writes the counts of the `Arc` around it, but hardly any call writes the word.
#[repr(align(64))]
#[derive(Debug)]
pub(super) struct Circuit {
    /// See [`Word`].
    pub(super) word: AtomicU64,
    /// The time at which an open circuit may probe. Like all times here, it is in nanoseconds since `origin`.
    pub(super) until: AtomicU64,
    /// The time from which an open circuit lets a single call through that has nowhere else to go, and one that waits
    /// only for a short time.
    pub(super) single_at: AtomicU64,
    pub(super) short_at: AtomicU64,
    /// The end of the throttle.
    pub(super) throttled_until: AtomicU64,
    /// The calls admitted since the first failure of a row became known.
    pub(super) row: AtomicU32,
    /// The calls that ended well since the last invalid request, counted only while a storm is suspected.
    pub(super) calm: AtomicU32,
    pub(super) known: Known,
    pub(super) has_windows: bool,
    pub(super) failure_rate: Option<(Rule, History)>,
    pub(super) slow_rate: Option<(Rule, History)>,
    pub(super) settings: Settings,
    pub(super) origin: Instant,
    pub(super) core: Mutex<Core>,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) rng: fastrand::Rng,
    pub(super) probes: Vec<Probe>,
    pub(super) next_probe: u64,
    /// The successful probes since the circuit became half-open.
    pub(super) successes: u32,
    /// The probes since then whose callers had too little time to wait for an answer.
    pub(super) impatient: u32,
    /// The cooldowns since it was last closed, after the first.
    pub(super) relapses: u32,
    /// The number of times that it has tripped again soon after it had closed, and the time of its last closing.
    pub(super) lapses: u32,
    /// The last fact.
    pub(super) last: Cause,
    pub(super) closed_at: Option<u64>,
    /// The time of its last opening after it had been closed.
    opened_at: u64,
    /// The reason for which it opened, kept while half-open.
    pub(super) cause: Reason,
    /// The facts that a closed circuit counts, or that opened it, and whether all of these are of one prompt.
    pub(super) evidence: Evidence,
    is_one_prompts: bool,
    pub(super) callers: Callers,
    /// The generation that one caller's failures ended. Once others are let in again, its calls count as if it went on.
    pub(super) undone: Option<u32>,
    /// The closed generation before the last opening.
    pub(super) opened_from: Option<u32>,
    /// The last refusal of the account that is not confirmed.
    pub(super) accusation: Option<Accusation>,
    pub(super) storm: Storm,
    /// The last suspected reason for a latch, whether a probe is wanted to confirm it, and the earliest time of the
    /// next one.
    pub(super) suspected_latch: Option<Reason>,
    pub(super) wants_probe: bool,
    pub(super) next_confirmation: u64,
    /// The changes that were not yet reported, in their order, and whether a thread is reporting them.
    untold: VecDeque<Transition>,
    telling: bool,
}

/// One call's word that the account is refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accusation {
    pub(super) reason: Reason,
    pub(super) author: Author,
    pub(super) at: u64,
    /// The answers to callers before it.
    pub(super) served: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) id: u64,
    pub(super) begun: u64,
    /// The time from which it may be replaced.
    pub(super) lease_ends: u64,
}

/// The permission to make one call. Its outcome goes to [`Circuit::settle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    pub(super) generation: u32,
    pub(super) probe: Option<u64>,
    /// True if a storm of invalid requests is suspected: then this request's fingerprint is needed.
    pub(super) suspect: bool,
    /// The facts in a row when the call was admitted, and which one it is of the calls admitted since the first of
    /// them was known; 0 for a call that was under way then.
    pub(super) known: u32,
    pub(super) place: u32,
    /// The caller, and the prompt if it is needed.
    pub(super) caller: u64,
    pub(super) prompt: Option<u64>,
    /// The number of its probe, if its caller is held apart.
    pub(super) own_probe: Option<u64>,
    /// True if its caller has a row.
    pub(super) is_watched: bool,
    /// True if a fallback has nowhere else to go with the call.
    pub(super) is_only_way: bool,
}

impl Admission {
    /// Returns the admission of a call to a healthy circuit of this generation.
    pub(super) fn free(generation: u32) -> Self {
        Self {
            generation,
            probe: None,
            suspect: false,
            known: 0,
            place: 0,
            caller: UNNAMED,
            prompt: None,
            own_probe: None,
            is_watched: false,
            is_only_way: false,
        }
    }

    pub(super) fn author(self) -> Author {
        Author { caller: self.caller, prompt: self.prompt }
    }

    /// Returns true if more must be known of the call when it is settled.
    pub(super) fn is_marked(self) -> bool {
        self.probe.is_some() || self.suspect || self.known > 0 || self.is_watched
    }
}

/// The way of a call that is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It goes elsewhere, or fails.
    Any,
    /// It goes to another model, and leaves this one for it after a short wait.
    Short,
    /// It has nowhere else to go.
    Only,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Admitted(Admission),
    /// Admitted, and this very admission changed the state.
    AdmittedAfter(Admission, Transition),
    Rejected(Rejection),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) phase: Phase,
    pub(super) reason: Reason,
    /// The earliest time at which a call may be admitted, as far as is known; `None`: only by hand.
    pub(super) until: Option<Instant>,
}

/// The state, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Closed,
    Throttled,
    Open,
    HalfOpen,
    ForcedOpen,
    ForcedClosed,
}

/// A change of state, returned exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transition {
    pub(super) from: Phase,
    pub(super) to: Phase,
    pub(super) reason: Reason,
    pub(super) generation: u32,
}

/// The outcome of a call, in the circuit's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success {
        slow: bool,
    },
    /// `throttle` is set if it came with a `Retry-After`.
    Failure {
        slow: bool,
        throttle: Option<Instant>,
        cause: Cause,
    },
    /// The caller's own time was over: a failure, but it decides no probe.
    CallerImpatient {
        slow: bool,
    },
    /// The request failed by its own fault, which proves that the provider responds. It decides no probe.
    Alive,
    /// It shows nothing about the provider's health.
    Neutral,
    /// The caller left.
    Abandoned,
    /// Neutral, unless very many different requests are suddenly invalid.
    InvalidRequest {
        fingerprint: Option<u64>,
    },
    /// With a time, a throttle. Without, it counts as one failure in a row, and in no rate.
    RateLimited {
        until: Option<Instant>,
    },
    Quota {
        until: Option<Instant>,
    },
    /// Neutral for a key that has never worked.
    Auth,
    /// A quota or a rejected key, reported by a call that may have caused it itself.
    SuspectedLatch {
        reason: Reason,
    },
    /// The provider refuses the account, as one call has it. `is_asked` is true if a probe of the circuit's own can
    /// confirm it.
    AccountRefused {
        reason: Reason,
        until: Option<Instant>,
        is_asked: bool,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settlement {
    pub(super) transition: Option<Transition>,
    /// True if it was admitted in another generation, or was a probe that was replaced: it changed nothing.
    pub(super) late: bool,
}

impl Circuit {
    pub(super) fn new(settings: Settings, origin: Instant, seed: u64) -> Self {
        let storm = Storm::new(settings.second_opinion_after);
        let window = |rule: Rule| (rule, History::new(rule.window.span));
        Self {
            word: AtomicU64::new(0),
            until: AtomicU64::new(0),
            single_at: AtomicU64::new(0),
            short_at: AtomicU64::new(0),
            row: AtomicU32::new(0),
            throttled_until: AtomicU64::new(0),
            calm: AtomicU32::new(0),
            known: Known::default(),
            has_windows: settings.failure_rate.is_some() || settings.slow_rate.is_some(),
            failure_rate: settings.failure_rate.map(window),
            slow_rate: settings.slow_rate.map(window),
            settings,
            origin,
            core: Mutex::new(Core {
                rng: fastrand::Rng::with_seed(seed),
                probes: Vec::new(),
                next_probe: 0,
                successes: 0,
                impatient: 0,
                relapses: 0,
                lapses: 0,
                last: Cause::default(),
                closed_at: None,
                opened_at: 0,
                cause: Reason::Forced,
                evidence: Evidence::default(),
                is_one_prompts: false,
                callers: Callers::default(),
                undone: None,
                opened_from: None,
                accusation: None,
                storm,
                suspected_latch: None,
                wants_probe: false,
                next_confirmation: 0,
                untold: VecDeque::new(),
                telling: false,
            }),
        }
    }

    /// Returns the generation if a call needs only admission: closed, not throttled, no storm suspected.
    #[inline]
    pub(super) fn admits_freely(&self) -> Option<u32> {
        let word = self.load();
        word.admits_freely().then(|| word.generation())
    }

    /// Requests admission. While closed this is one load, and the clock is not read. An open circuit lets single
    /// calls through that have nowhere else to go.
    #[inline]
    pub(super) fn admit(&self, way: Way, now: impl FnOnce() -> Instant) -> Decision {
        let word = self.load();
        if word.admits_all() {
            return Decision::Admitted(self.admission(word, way));
        }
        self.admit_unless_open(word, now(), way)
    }

    /// Admits a call as a probe before the cooldown is over, if the facts that opened the circuit are all of another
    /// prompt.
    pub(super) fn admit_stranger(&self, prompt: u64, now: Instant) -> Option<Decision> {
        let mut core = self.lock();
        let word = self.load();
        if word.tag() != Tag::Open || word.throttled() || !word.suspect() || !core.evidence.spares(prompt) {
            return None;
        }
        let transition = self.publish(&mut core, Tag::HalfOpen, Reason::CooldownOver);
        let admission = self.add_probe(&mut core, Way::Any, self.at(now))?;
        Some(Decision::AdmittedAfter(admission, transition))
    }

    /// Returns true if the last failure was a long wait.
    pub(super) fn was_silent(&self) -> bool {
        self.lock().last.is_silence()
    }

    /// Returns the state without changing it. An open circuit whose cooldown is over stays open until a call
    /// requests admission.
    pub(super) fn peek(&self, now: Instant) -> Phase {
        let word = self.load();
        let phase = phase(word);
        // No call has come since the throttle ended, so none has lifted it.
        if phase == Phase::Throttled && self.throttled_until.load(Ordering::Acquire) <= self.at(now) {
            return unthrottled(word);
        }
        phase
    }

    /// Returns the earliest time at which a call may be admitted: `now` if at once, `None` if only by hand.
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
                if core.probes.len() >= self.room(&core) {
                    let ends = core.probes.iter().map(|probe| probe.lease_ends).min();
                    earliest = earliest.max(ends.unwrap_or(at));
                }
            }
        }
        self.instant(earliest)
    }

    /// Returns the number of failures in a row, while closed.
    pub(super) fn failures(&self) -> u32 {
        let word = self.load();
        if word.tag() == Tag::Closed { word.failures() } else { 0 }
    }

    pub(super) fn force_open(&self) -> Option<Transition> {
        let mut core = self.lock();
        if phase(self.load()) == Phase::ForcedOpen {
            return None;
        }
        core.forget();
        self.forget_callers(&mut core);
        Some(self.open(&mut core, Reason::Forced, 0, FOREVER))
    }

    /// Takes over another circuit's order by hand, which was told already.
    pub(super) fn keep_order(&self, other: &Self) {
        let kept = match phase(other.load()) {
            Phase::ForcedOpen => self.force_open(),
            Phase::ForcedClosed => self.force_close(),
            _ => None,
        };
        kept.into_iter().for_each(|_| self.lock().untold.clear());
    }

    pub(super) fn force_close(&self) -> Option<Transition> {
        let mut core = self.lock();
        if self.load().tag() == Tag::Bypassed {
            return None;
        }
        core.forget();
        self.forget_callers(&mut core);
        Some(self.publish(&mut core, Tag::Bypassed, Reason::Forced))
    }

    /// Ends a forced state: a forced open circuit probes first, a forced closed one starts to count from zero.
    pub(super) fn release(&self) -> Option<Transition> {
        let mut core = self.lock();
        let to = match phase(self.load()) {
            Phase::ForcedOpen => Tag::HalfOpen,
            Phase::ForcedClosed => Tag::Closed,
            _ => return None,
        };
        Some(self.publish(&mut core, to, Reason::Forced))
    }

    /// Resets the circuit: closed, nothing counted.
    pub(super) fn reset(&self, now: Instant) -> Option<Transition> {
        let mut core = self.lock();
        core.forget();
        self.forget_callers(&mut core);
        let before = self.peek(now);
        let transition = self.publish(&mut core, Tag::Closed, Reason::Forced);
        if before == Phase::Closed && transition.from == Phase::Throttled {
            // The throttle has ended by itself; the next call detects and reports that.
            core.untold.pop_back();
            self.update(|word| word.with_throttled(true));
        }
        (before != Phase::Closed).then_some(transition)
    }

    /// Returns the generation if an active probe could close the circuit early. It undoes no order by hand, and no
    /// throttle, since the provider itself set its end.
    pub(super) fn recoverable(&self) -> Option<u32> {
        let word = self.load();
        matches!(phase(word), Phase::Open | Phase::HalfOpen).then(|| word.generation())
    }

    /// Returns whether it is neither closed nor forced. The next call reports an end by the clock alone.
    pub(super) fn awaits_call(&self) -> bool {
        matches!(phase(self.load()), Phase::Open | Phase::HalfOpen | Phase::Throttled)
    }

    /// Takes a healthy answer to an active probe that was sent in this generation, and closes the circuit. After a
    /// lapse, the answer counts like that of any other probe.
    pub(super) fn recover(&self, generation: u32, now: Instant) -> Option<Transition> {
        let at = self.at(now);
        let mut core = self.lock();
        let word = self.load();
        if !matches!(phase(word), Phase::Open | Phase::HalfOpen) || word.generation() != generation {
            return None;
        }
        let looks = (core.lapses > 0 && word.tag() == Tag::Open)
            .then(|| self.publish(&mut core, Tag::HalfOpen, Reason::Recovered));
        self.prove(&mut core, at).or(looks)
    }

    /// Takes a healthy answer to a request that is not a caller's: it closes the circuit, or counts like any other
    /// probe where the circuit has lapsed.
    pub(super) fn prove(&self, core: &mut Core, at: u64) -> Option<Transition> {
        match core.lapses {
            0 => Some(self.close(core, at)),
            _ => self.succeed(core, at),
        }
    }

    /// Counts a successful probe. Closes the circuit if that is evidence enough.
    pub(super) fn succeed(&self, core: &mut Core, at: u64) -> Option<Transition> {
        core.successes = core.successes.saturating_add(1);
        (core.successes >= self.settings.evidence(core.lapses)).then(|| self.close(core, at))
    }

    fn close(&self, core: &mut Core, at: u64) -> Transition {
        core.relapses = 0;
        core.closed_at = Some(at);
        self.publish(core, Tag::Closed, Reason::Recovered)
    }

    #[inline]
    fn admit_unless_open(&self, word: Word, now: Instant, way: Way) -> Decision {
        let at = self.at(now);
        // Rejected without the lock: the usual work of an open circuit.
        if word.tag() == Tag::Open && at < self.opens_until(way)
            || word.throttled() && at < self.throttled_until.load(Ordering::Acquire)
        {
            return self.reject(word, way);
        }
        self.admit_after(at, way)
    }

    /// Returns when an open circuit lets the next call through.
    fn opens_until(&self, way: Way) -> u64 {
        let until = self.until.load(Ordering::Acquire);
        match way {
            Way::Any => until,
            Way::Short => until.min(self.short_at.load(Ordering::Acquire)),
            Way::Only => until.min(self.single_at.load(Ordering::Acquire)),
        }
    }

    /// Returns the admission of a call to a closed circuit in this state.
    #[inline]
    pub(super) fn admission(&self, word: Word, way: Way) -> Admission {
        let known = if word.tag() == Tag::Closed { word.failures() } else { 0 };
        let place = if known > 0 { self.row.fetch_add(1, Ordering::AcqRel).saturating_add(1) } else { 0 };
        let is_only_way = way == Way::Only;
        Admission { suspect: word.suspect(), known, place, is_only_way, ..Admission::free(word.generation()) }
    }

    /// Admits a call once a cooldown or a throttle may be over.
    #[cold]
    fn admit_after(&self, at: u64, way: Way) -> Decision {
        let mut core = self.lock();
        let word = self.load();
        let mut transition = None;
        if word.throttled() {
            if at < self.throttled_until.load(Ordering::Acquire) {
                return self.reject(word, way);
            }
            let (before, after) = self.update(|word| word.with_throttled(false));
            transition = Some(core.changed(before, after, Reason::ThrottleOver));
        }
        match word.tag() {
            Tag::Closed | Tag::Bypassed => {
                return admitted(self.admission(word, way), transition);
            }
            Tag::Open => {
                if at < self.opens_until(way) {
                    return self.reject(word, way);
                }
                transition = Some(self.publish(&mut core, Tag::HalfOpen, Reason::CooldownOver));
            }
            Tag::HalfOpen => {}
        }
        match self.add_probe(&mut core, way, at) {
            Some(admission) => admitted(Admission { is_only_way: way == Way::Only, ..admission }, transition),
            None => Decision::Rejected(Rejection {
                phase: Phase::HalfOpen,
                reason: core.cause,
                until: self.instant(self.probe_hint(&core, at)),
            }),
        }
    }

    /// Returns how many probes may be under way at once.
    fn room(&self, core: &Core) -> usize {
        let probes = self.settings.probes.get() as usize;
        let doubled = if core.lapses > 0 { core.successes.min(MOST_DOUBLED) } else { 0 };
        probes.saturating_mul(1 << doubled)
    }

    fn add_probe(&self, core: &mut Core, way: Way, at: u64) -> Option<Admission> {
        let room = match way {
            // Each caller would try alone too, and the provider sees none of it.
            Way::Only if core.last.is_connection => self.room(core).max(MOST_TO_CONNECT),
            _ => self.room(core),
        };
        if core.probes.len() >= room {
            // One that waits longer than others would does not keep them from looking themselves.
            let is_long = |probe: &Probe| probe.begun.saturating_add(nanos(SHORT_WAIT)) <= at;
            let may_pass = way == Way::Short && core.last.is_silence();
            let expired = core.probes.iter().position(|probe| probe.lease_ends <= at || may_pass && is_long(probe));
            core.probes.swap_remove(expired?);
        }
        let id = core.next_probe;
        core.next_probe += 1;
        let lease_ends = at.saturating_add(nanos(self.settings.probe_lease()));
        core.probes.push(Probe { id, begun: at, lease_ends });
        Some(Admission { probe: Some(id), ..Admission::free(self.load().generation()) })
    }

    /// Returns when to come back if all probes are out. They may end at any moment, so soon; but no later than the
    /// first lease.
    fn probe_hint(&self, core: &Core, at: u64) -> u64 {
        let soon = at.saturating_add(nanos(PROBE_HINT));
        let ends = core.probes.iter().map(|probe| probe.lease_ends).min();
        ends.map_or(soon, |ends| ends.min(soon))
    }

    fn reject(&self, word: Word, way: Way) -> Decision {
        let phase = phase(word);
        let reason = if phase == Phase::Throttled { Reason::Throttled } else { word.reason() };
        let until = match phase {
            Phase::Open => self.instant(self.opens_until(way)),
            _ => self.phase_ends(phase),
        };
        Decision::Rejected(Rejection { phase, reason, until })
    }

    /// Opens the circuit at `at`, until this time. A time that the provider has named before counts as well, for all
    /// calls.
    pub(super) fn open(&self, core: &mut Core, reason: Reason, at: u64, until: u64) -> Transition {
        core.opens_for(reason);
        self.known.set_only(None);
        if core.relapses == 0 {
            core.opened_at = at;
        }
        let throttled = if self.load().throttled() { self.throttled_until.load(Ordering::Acquire) } else { 0 };
        self.until.store(until.max(throttled), Ordering::Release);
        let after = |pause: Duration| match reason {
            Reason::Forced => FOREVER,
            _ => at.saturating_add(nanos(pause)).max(throttled),
        };
        self.single_at.store(after(pause_of_only_way(core.relapses, core.last)), Ordering::Release);
        self.short_at.store(after(self.settings.rest_of_short(core.last, core.down(at))), Ordering::Release);
        core.cause = reason;
        self.publish(core, Tag::Open, reason)
    }

    /// Begins the next generation.
    pub(super) fn publish(&self, core: &mut Core, tag: Tag, reason: Reason) -> Transition {
        core.probes.clear();
        core.undone = None;
        if let (Tag::Open, Tag::Closed) = (tag, self.load().tag()) {
            core.opened_from = Some(self.load().generation());
        }
        core.successes = 0;
        core.impatient = 0;
        let doubts = reason != Reason::Forced && core.storm.keep_doubts();
        if !doubts {
            self.forget_storm(core);
        }
        let next = self.load().next(tag, reason).generation();
        for (_, window) in self.failure_rate.iter().chain(&self.slow_rate) {
            window.restart(next);
        }
        if tag == Tag::Open {
            let may_be = match reason {
                Reason::ConsecutiveFailures => true,
                Reason::ProbeFailed => core.is_one_prompts,
                _ => false,
            };
            core.is_one_prompts = may_be && core.evidence.is_one_prompts();
        }
        if matches!(tag, Tag::Closed | Tag::Bypassed) {
            self.known.set_only(None);
        }
        let suspect = if tag == Tag::Open { core.is_one_prompts } else { doubts && tag == Tag::Closed };
        let (before, after) = self.update(|word| word.next(tag, reason).with_suspect(suspect));
        self.throttled_until.store(0, Ordering::Release);
        core.changed(before, after, reason)
    }

    /// Returns the next change to report. A thread that gets one reports all, and then passes `telling`. Returns
    /// `None` if there is none, or if another thread is reporting and will come to it.
    pub(super) fn next_to_tell(&self, telling: bool) -> Option<Transition> {
        let mut core = self.lock();
        if core.telling && !telling {
            return None;
        }
        let next = core.untold.pop_front();
        core.telling = next.is_some();
        next
    }

    /// Records that the reporting thread has stopped.
    pub(super) fn stop_telling(&self) {
        self.lock().telling = false;
    }

    /// Notes that the key has worked, by the word of another process. It changes nothing else.
    pub(super) fn note_worked(&self) {
        self.update(Word::with_word_of_others);
    }

    /// Returns whether a call has succeeded since this last returned true, or at all.
    pub(super) fn take_success(&self) -> bool {
        self.load().has_succeeded() && self.update(Word::asking).0.has_succeeded()
    }

    /// Changes the word atomically, and returns its old and new values. Callers hold the lock, so that only counts
    /// and the flags of the key can change beside them.
    pub(super) fn update(&self, change: impl Fn(Word) -> Word) -> (Word, Word) {
        let mut before = self.load();
        loop {
            let after = change(before);
            match self.word.compare_exchange_weak(before.0, after.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return (before, after),
                Err(actual) => before = Word(actual),
            }
        }
    }

    #[inline]
    pub(super) fn load(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        // No invariant spans a panic: nothing under the lock calls foreign code.
        lock(&self.core)
    }

    pub(super) fn phase_ends(&self, phase: Phase) -> Option<Instant> {
        match phase {
            Phase::Open => self.instant(self.until.load(Ordering::Acquire)),
            Phase::Throttled => self.instant(self.throttled_until.load(Ordering::Acquire)),
            Phase::Closed | Phase::HalfOpen | Phase::ForcedOpen | Phase::ForcedClosed => None,
        }
    }

    pub(super) fn at(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.origin))
    }

    pub(super) fn instant(&self, at: u64) -> Option<Instant> {
        if at == FOREVER {
            return None;
        }
        self.origin.checked_add(Duration::from_nanos(at))
    }
}

impl Core {
    /// Clears the history of lapses and relapses.
    fn forget(&mut self) {
        (self.relapses, self.lapses, self.closed_at) = (0, 0, None);
    }

    /// Records a trip of a circuit that was closed since it was last open.
    /// Forgets the last fact where the circuit opens for something else: it tells nothing about the next call then.
    pub(super) fn opens_for(&mut self, reason: Reason) {
        if matches!(reason, Reason::SlowCalls | Reason::Quota | Reason::Auth | Reason::Forced) {
            self.last = Cause::default();
        }
    }

    /// Returns how long it has not been closed.
    pub(super) fn down(&self, at: u64) -> Duration {
        Duration::from_nanos(at.saturating_sub(self.opened_at))
    }

    pub(super) fn trips(&mut self, at: u64) {
        match self.closed_at.take() {
            Some(closed) if at.saturating_sub(closed) < nanos(SOON) => self.lapses = self.lapses.saturating_add(1),
            Some(_) => self.lapses = 0,
            None => {}
        }
    }

    /// Records a change that was made under this lock.
    pub(super) fn changed(&mut self, before: Word, after: Word, reason: Reason) -> Transition {
        let transition = Transition { from: phase(before), to: phase(after), reason, generation: after.generation() };
        self.untold.push_back(transition);
        transition
    }
}

fn admitted(admission: Admission, transition: Option<Transition>) -> Decision {
    match transition {
        Some(transition) => Decision::AdmittedAfter(admission, transition),
        None => Decision::Admitted(admission),
    }
}

pub(super) fn phase(word: Word) -> Phase {
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

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(FOREVER - 1)
}

const FOREVER: u64 = u64::MAX;
const PROBE_HINT: Duration = Duration::from_secs(1);
/// The time within which a circuit that trips again was closed too soon.
const SOON: Duration = Duration::from_secs(3600);
/// The calls that may try at once whether a connection can be made, where there is nowhere else to go.
const MOST_TO_CONNECT: usize = 100;
/// The number of doublings after which there is room for all.
const MOST_DOUBLED: u32 = 16;
