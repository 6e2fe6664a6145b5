//! The effect of a call's outcome on its circuit.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    evidence::{Author, Cause, Place},
    settings::{MOST_FAILURES, Rule},
    state::{Accusation, Admission, Circuit, Core, Outcome, Phase, Settlement, Transition, nanos, phase},
    window::Sample,
    word::{Reason, Tag, Word},
};
use crate::{
    internal::sync::{MutexGuard, atomic::Ordering},
    layers::{caller::UNNAMED, patience::SHORT_WAIT},
};

impl Circuit {
    /// Returns whether a success of this generation changes nothing at all.
    #[inline]
    pub(super) fn is_idle(&self, generation: u32) -> bool {
        !self.has_windows && self.word.load(Ordering::Acquire) == Word::healthy(generation)
    }

    /// Takes the outcome of an admitted call, once for each. In good health this is one load and no write.
    #[inline]
    pub(super) fn settle(&self, admission: Admission, outcome: Outcome, now: impl FnOnce() -> Instant) -> Settlement {
        if outcome == (Outcome::Success { slow: false }) && self.is_idle(admission.generation) {
            return Settlement::default();
        }
        self.settle_with_windows(admission, outcome, now)
    }

    #[inline]
    fn settle_with_windows(&self, admission: Admission, outcome: Outcome, now: impl FnOnce() -> Instant) -> Settlement {
        if outcome == (Outcome::Success { slow: false })
            && self.word.load(Ordering::Acquire) == Word::healthy(admission.generation)
        {
            let sample = Sample { failure: false, slow: false };
            let mut at = None;
            let mut now = Some(now);
            for (_, window) in self.failure_rate.iter().chain(&self.slow_rate) {
                window.record(admission.generation, sample, || {
                    *at.get_or_insert_with(|| now.take().map_or(0, |now| self.at(now())))
                });
            }
            return Settlement::default();
        }
        self.settle_slowly(admission, outcome, now())
    }

    #[cold]
    fn settle_slowly(&self, admission: Admission, outcome: Outcome, now: Instant) -> Settlement {
        let at = self.at(now);
        if let Some(probe) = admission.own_probe
            && !self.settle_own(admission, probe, outcome, at)
        {
            // A probe of the circuit's gives its place back all the same.
            let given_back = Admission { own_probe: None, ..admission };
            return self.settle_slowly(given_back, Outcome::Abandoned, now);
        }
        let transition = match admission.probe {
            Some(id) => self.settle_probe(admission, id, outcome, at),
            None => self.settle_call(self.rejoined(admission), outcome, at),
        };
        match transition {
            Ok(transition) => Settlement { transition, late: false },
            Err(Late) => {
                self.hear_late(outcome, at);
                Settlement { transition: None, late: true }
            }
        }
    }

    /// Settles a call of a closed circuit.
    fn settle_call(&self, admission: Admission, outcome: Outcome, at: u64) -> Result<Option<Transition>, Late> {
        let Admission { generation, .. } = admission;
        let word = self.load();
        if word.generation() != generation {
            return Err(Late);
        }
        if word.tag() == Tag::Bypassed {
            return Ok(None);
        }
        if word.suspect() && matches!(outcome, Outcome::Success { .. } | Outcome::Alive) {
            self.calm_down(generation);
        }
        if matches!(outcome, Outcome::Success { slow: false } | Outcome::Alive) {
            self.answer(admission.caller);
        }
        match outcome {
            Outcome::Neutral | Outcome::Abandoned => Ok(None),
            Outcome::Alive => {
                self.count(generation, |word| word.with_failures(0))?;
                self.record(admission, false, false, at)
            }
            Outcome::Success { slow } => {
                let facts = self.facts_after_success(admission, word);
                self.count(generation, |word| word.with_failures(facts).with_worked())?;
                self.record(admission, false, slow, at)
            }
            Outcome::Failure { slow, throttle, cause } => {
                let tripped = self.fail(admission, cause, slow, at)?;
                let throttled = throttle.and_then(|until| self.throttle_caller(admission, until, at));
                Ok(tripped.or(throttled))
            }
            Outcome::CallerImpatient { slow } => {
                self.settle_call(admission, Outcome::Failure { slow, throttle: None, cause: Cause::default() }, at)
            }
            Outcome::RateLimited { until: None } => {
                self.count_fact(admission, Cause::default(), at).map(|counted| counted.flatten())
            }
            Outcome::RateLimited { until: Some(until) } => Ok(self.throttle_caller(admission, until, at)),
            Outcome::InvalidRequest { fingerprint } => self.suspect_storm(admission, fingerprint, at),
            Outcome::Quota { until } => {
                let until = self.latched_until(until, at);
                self.trip(generation, Reason::Quota, at, until)
            }
            Outcome::Auth if self.load().worked() => {
                let until = self.latched_until(None, at);
                self.trip(generation, Reason::Auth, at, until)
            }
            Outcome::Auth => Ok(None),
            Outcome::SuspectedLatch { reason } => {
                let mut core = self.lock();
                if self.load().generation() != generation {
                    return Err(Late);
                }
                self.suspect_latch(&mut core, reason, at);
                Ok(None)
            }
            Outcome::AccountRefused { reason, until, is_asked } => {
                self.accuse(admission, (reason, until), is_asked, at)
            }
        }
    }

    /// Takes one call's word that the account is refused. It opens the circuit if another call has said the same.
    fn accuse(
        &self,
        admission: Admission,
        (reason, until): (Reason, Option<Instant>),
        is_asked: bool,
        at: u64,
    ) -> Result<Option<Transition>, Late> {
        let mut core = self.lock();
        let word = self.load();
        if word.generation() != admission.generation {
            return Err(Late);
        }
        if reason == Reason::Auth && !word.worked() {
            return Ok(None);
        }
        let author = admission.author();
        let before = self.replace_accusation(&mut core, reason, author, at);
        let is_confirmed = before.is_some_and(|before| {
            let is_recent = at.saturating_sub(before.at) <= nanos(CONFIRMED_WITHIN);
            let is_anothers = before.author.caller != author.caller;
            // A call that began when the first was known, and is no repeat of it as far as is known. A probe of the
            // circuit's own shows more.
            let is_another = !is_asked && author.prompt.is_some() && before.author.prompt != author.prompt;
            is_recent && before.served == self.known.served() && (is_anothers || is_another)
        });
        if is_confirmed {
            let only = before.filter(|before| before.author.caller == author.caller && author.caller != UNNAMED);
            let until = self.latched_until(until, at);
            let opened = self.open(&mut core, reason, at, until);
            self.known.set_only(only.map(|only| only.author.caller));
            return Ok(Some(opened));
        }
        self.suspect_latch(&mut core, reason, at);
        // The next calls tell of their prompts.
        self.update(|word| word.with_suspect(true));
        Ok(None)
    }

    /// Keeps an accusation as the last one. Returns the one before, if it has the same reason.
    fn replace_accusation(&self, core: &mut Core, reason: Reason, author: Author, at: u64) -> Option<Accusation> {
        let accusation = Accusation { reason, author, at, served: self.known.served() };
        core.accusation.replace(accusation).filter(|before| before.reason == reason)
    }

    /// Settles a probe. Whatever its outcome, the probe gives its place back.
    fn settle_probe(
        &self,
        admission: Admission,
        id: u64,
        outcome: Outcome,
        at: u64,
    ) -> Result<Option<Transition>, Late> {
        let mut core = self.lock();
        let word = self.load();
        if word.generation() != admission.generation {
            return Err(Late);
        }
        let place = core.probes.iter().position(|probe| probe.id == id);
        core.probes.swap_remove(place.ok_or(Late)?);
        Ok(self.judge_probe(core, word, admission, outcome, at))
    }

    /// Takes the outcome of a probe that has given its place back. `word` is the circuit's state before.
    fn judge_probe(
        &self,
        mut core: MutexGuard<'_, Core>,
        word: Word,
        admission: Admission,
        outcome: Outcome,
        at: u64,
    ) -> Option<Transition> {
        let caller = admission.caller;
        match outcome {
            Outcome::Alive | Outcome::Neutral | Outcome::Abandoned => None,
            Outcome::Success { slow: false } => {
                self.update(Word::with_worked);
                self.forget_caller(&mut core, caller);
                self.succeed(&mut core, at)
            }
            // The provider may be well for a more patient caller. But each such probe costs a caller its time.
            Outcome::CallerImpatient { .. } => {
                core.impatient += 1;
                (core.impatient >= MAX_IMPATIENT).then(|| self.relapse(&mut core, IMPATIENT, at))
            }
            // After a slow answer, or a 429 without a time, the provider is still not well.
            Outcome::Success { slow: true } | Outcome::RateLimited { until: None } => {
                Some(self.relapse(&mut core, Cause::default(), at))
            }
            Outcome::Failure { throttle, cause, .. } => {
                let only = self.known.only().filter(|only| *only == caller);
                core.evidence.weigh(Place::default(), 1, admission.author());
                let relapse = self.relapse(&mut core, cause, at);
                self.known.set_only(only);
                drop(core);
                self.extend(throttle, at);
                Some(relapse)
            }
            Outcome::RateLimited { until: Some(until) } => {
                drop(core);
                self.throttle(until, at)
            }
            // One caller's mistake shows nothing; but if invalid requests opened the circuit, the provider is still
            // broken.
            Outcome::InvalidRequest { .. }
                if core.cause == Reason::InvalidRequests && core.storm.goes_on(Some(caller)) =>
            {
                Some(self.relapse(&mut core, Cause::default(), at))
            }
            Outcome::InvalidRequest { .. } => None,
            Outcome::Quota { until } => {
                let until = self.latched_until(until, at);
                Some(self.open(&mut core, Reason::Quota, at, until))
            }
            Outcome::Auth if word.worked() => {
                let until = self.latched_until(None, at);
                Some(self.open(&mut core, Reason::Auth, at, until))
            }
            Outcome::Auth => None,
            Outcome::SuspectedLatch { reason } => {
                self.suspect_latch(&mut core, reason, at);
                None
            }
            Outcome::AccountRefused { reason: Reason::Auth, .. } if !word.worked() => None,
            Outcome::AccountRefused { reason, until, is_asked } => {
                let author = admission.author();
                let before = self.replace_accusation(&mut core, reason, author, at);
                // The outage goes on, by the word of another caller than the last.
                let goes_on =
                    core.cause == reason && before.is_some_and(|before| author.is_another_than(before.author));
                if is_asked && !goes_on {
                    self.suspect_latch(&mut core, reason, at);
                    return None;
                }
                let until = self.latched_until(until, at);
                Some(self.open(&mut core, reason, at, until))
            }
        }
    }

    /// Requests a probe of the circuit's own to confirm an apparent latch, which may be one caller's own doing.
    fn suspect_latch(&self, core: &mut Core, reason: Reason, at: u64) {
        let counts = reason != Reason::Auth || self.load().worked();
        if counts && at >= core.next_confirmation {
            core.suspected_latch = Some(reason);
            core.wants_probe = true;
            core.next_confirmation = at.saturating_add(nanos(CONFIRMATIONS));
        }
    }

    /// Returns the generation if the circuit wants a probe to confirm a latch. The request is then cleared.
    pub(super) fn take_suspected_latch(&self) -> Option<u32> {
        let mut core = self.lock();
        let wants = std::mem::take(&mut core.wants_probe);
        wants.then(|| self.load().generation())
    }

    /// Applies the outcome of the circuit's own probe, which was sent in this generation. A latch opens the circuit,
    /// and an answer [proves](Self::prove) a half-open one well. Anything else decides nothing, and lets others
    /// through.
    pub(super) fn confirm(&self, generation: u32, outcome: Outcome, now: Instant) -> Option<Transition> {
        let at = self.at(now);
        let mut core = self.lock();
        let word = self.load();
        if word.generation() != generation || !matches!(word.tag(), Tag::Closed | Tag::HalfOpen) {
            return None;
        }
        let (reason, until) = match outcome {
            Outcome::Quota { until } => (Reason::Quota, self.latched_until(until, at)),
            Outcome::Auth => (Reason::Auth, self.latched_until(None, at)),
            Outcome::Success { .. } if word.tag() == Tag::HalfOpen => return self.prove(&mut core, at),
            _ => return None,
        };
        // The circuit suspects a latch for one reason, and the probe may fail for another.
        (core.suspected_latch == Some(reason)).then(|| self.open(&mut core, reason, at, until))
    }

    /// Takes a late outcome, which changes no state and rejects no admitted call. But a time that the provider
    /// itself names now extends an open circuit: it is current, whenever the call began, and no call goes there
    /// meanwhile that could receive it again.
    fn hear_late(&self, outcome: Outcome, at: u64) {
        if let Outcome::Failure { throttle, .. } | Outcome::RateLimited { until: throttle } = outcome {
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

    /// Counts a failure, and trips if it is the last one.
    fn fail(&self, admission: Admission, cause: Cause, slow: bool, at: u64) -> Result<Option<Transition>, Late> {
        match self.count_fact(admission, cause, at)? {
            None => Ok(None),
            Some(Some(tripped)) => Ok(Some(tripped)),
            Some(None) => self.record(admission, true, slow, at),
        }
    }

    /// Counts one more fact in a row, and trips if it is the last one. Returns `None` if the failure tells of a known
    /// fact.
    fn count_fact(&self, admission: Admission, cause: Cause, at: u64) -> Result<Option<Option<Transition>>, Late> {
        let Admission { generation, known, place: number, caller, .. } = admission;
        let (place, author) = (Place { known, number }, admission.author());
        let limit = self.settings.consecutive_failures.map(|limit| limit.get().min(MOST_FAILURES));
        let mut core = self.lock();
        if self.load().generation() != generation {
            return Err(Late);
        }
        // It decides for its caller only.
        if core.callers.is_held(caller) {
            return Ok(None);
        }
        let weight = if cause.is_silence() { self.settings.limit().div_ceil(2) } else { 1 };
        let facts = self.load().failures();
        let is_known = core.evidence.knows(cause) && facts > 0;
        let is_fact = core.evidence.observe(facts, place, cause, at);
        let is_apart = !is_known && self.count_own(&mut core, author, (cause, weight), is_fact, at);
        if !is_fact || is_apart {
            return Ok(None);
        }
        if facts == 0 {
            self.row.store(0, Ordering::Release);
        }
        core.last = cause;
        core.evidence.weigh(place, weight, author);
        let word = self.count(generation, |word| word.with_failures(word.failures().saturating_add(weight)))?;
        let is_enough = limit.is_some_and(|limit| core.evidence.is_enough(word.failures(), limit));
        let decider = limit.and_then(|limit| core.evidence.decider(word.failures(), limit));
        let is_one_callers =
            decider.is_some_and(|decider| is_enough && core.callers.is_another_served(decider, self.known.served()));
        if is_one_callers {
            let is_apart = decider == Some(caller) && self.hold_where_others_are_served(&mut core, caller, cause, at);
            return Ok((!is_apart).then_some(None));
        }
        let only = core.evidence.only_caller();
        drop(core);
        match is_enough {
            true => self.trip_for_cooldown(generation, Reason::ConsecutiveFailures, only, at).map(Some),
            false => Ok(Some(None)),
        }
    }

    /// Returns how many facts remain after a success: none, unless its call was under way when the first became known.
    fn facts_after_success(&self, admission: Admission, word: Word) -> u32 {
        if admission.place > 0 || word.failures() == 0 {
            return 0;
        }
        let mut core = self.lock();
        // Who was silent began long before.
        if core.last.waited > Duration::ZERO { 0 } else { core.evidence.contradict() }
    }

    /// Records a call in the windows. Only a bad call can trip: a good one never makes a share worse.
    fn record(&self, admission: Admission, failure: bool, slow: bool, at: u64) -> Result<Option<Transition>, Late> {
        let generation = admission.generation;
        let sample = Sample { failure, slow };
        for (_, window) in self.failure_rate.iter().chain(&self.slow_rate) {
            window.record(generation, sample, || at);
        }
        if slow && self.slow_rate.is_some() {
            self.note_slow(admission.caller, at);
        }
        if let Some((rule, window)) = self.failure_rate.as_ref().filter(|_| failure) {
            let totals = window.totals(generation, || at);
            if rule.trips(totals.failures, totals.calls) {
                return self.trip_for_rate(admission, Reason::FailureRate, rule, at);
            }
        }
        if let Some((rule, window)) = self.slow_rate.as_ref().filter(|_| slow) {
            let totals = window.totals(generation, || at);
            if rule.trips(totals.slow, totals.calls) {
                return self.trip_for_rate(admission, Reason::SlowCalls, rule, at);
            }
        }
        Ok(None)
    }

    /// Rejects calls until `until`, or until a later time if one was named before.
    fn throttle(&self, until: Instant, at: u64) -> Option<Transition> {
        let until = self.believed(until, at);
        if until <= at {
            return None;
        }
        let mut core = self.lock();
        self.throttle_until(&mut core, until)
    }

    /// Does the same for a caller that holds the lock.
    pub(super) fn throttle_until(&self, core: &mut Core, until: u64) -> Option<Transition> {
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
        (before != after).then(|| core.changed(before, after, Reason::Throttled))
    }

    /// Opens a closed circuit, if it is still in this generation. `only` is the caller of all failures, if they are of
    /// one.
    fn trip_for_cooldown(
        &self,
        generation: u32,
        reason: Reason,
        only: Option<u64>,
        at: u64,
    ) -> Result<Option<Transition>, Late> {
        let mut core = self.lock();
        if self.load().generation() != generation {
            return Err(Late);
        }
        // One caller's failures say nothing about how soon the others may come back.
        let is_one_prompts = reason == Reason::ConsecutiveFailures && core.evidence.is_one_prompts();
        if only.is_none() && !is_one_prompts {
            core.trips(at);
        }
        if only.is_none() {
            self.forget_callers(&mut core);
        }
        core.opens_for(reason);
        let until = at.saturating_add(nanos(self.settings.cooldown(0, core.last, Duration::ZERO, 0.0)));
        let opened = self.open(&mut core, reason, at, until);
        self.known.set_only(only);
        Ok(Some(opened))
    }

    /// Opens the circuit for a share of bad calls, unless they are one caller's where others are served.
    fn trip_for_rate(
        &self,
        admission: Admission,
        reason: Reason,
        rule: &Rule,
        at: u64,
    ) -> Result<Option<Transition>, Late> {
        let Admission { generation, caller, .. } = admission;
        let mut core = self.lock();
        let only = core.callers.decider(caller, rule.least_bad(), at);
        if only.is_some() && self.hold_where_others_are_served(&mut core, caller, Cause::default(), at) {
            return Ok(None);
        }
        drop(core);
        self.trip_for_cooldown(generation, reason, only, at)
    }

    /// Opens a closed circuit, if it is still in this generation.
    fn trip(&self, generation: u32, reason: Reason, at: u64, until: u64) -> Result<Option<Transition>, Late> {
        let mut core = self.lock();
        if self.load().generation() != generation {
            return Err(Late);
        }
        Ok(Some(self.open(&mut core, reason, at, until)))
    }

    /// Opens a half-open circuit again.
    fn relapse(&self, core: &mut Core, cause: Cause, at: u64) -> Transition {
        core.last = cause;
        core.relapses = core.relapses.saturating_add(1);
        let chance = core.rng.f64();
        let cooldown = self.settings.cooldown(core.relapses, cause, core.down(at), chance);
        // A storm of invalid requests stays one, for the sake of the next probe.
        let reason = match core.cause {
            Reason::InvalidRequests => Reason::InvalidRequests,
            _ => Reason::ProbeFailed,
        };
        self.open(core, reason, at, at.saturating_add(nanos(cooldown)))
    }

    /// Changes the count of a closed circuit, if it is still of that generation; no lock.
    fn count(&self, generation: u32, change: impl Fn(Word) -> Word) -> Result<Word, Late> {
        let mut current = self.load();
        loop {
            if current.generation() != generation {
                return Err(Late);
            }
            let next = change(current);
            if next == current {
                return Ok(next);
            }
            match self.word.compare_exchange_weak(current.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(next),
                Err(actual) => current = Word(actual),
            }
        }
    }

    /// Returns when a latch probes: at the reset time if known, but not much later than usual, since such errors
    /// have been false.
    pub(super) fn latched_until(&self, reset: Option<Instant>, at: u64) -> u64 {
        match reset {
            Some(reset) => self.believed(reset, at).max(at.saturating_add(1)),
            None => at.saturating_add(nanos(self.settings.latch)),
        }
    }

    /// Returns a provider's own time, clamped to a believable one.
    pub(super) fn believed(&self, until: Instant, at: u64) -> u64 {
        let longest = at.saturating_add(nanos(self.settings.max_throttle));
        self.at(until).min(longest)
    }
}

/// The outcome belongs to another generation.
#[derive(Debug)]
pub(super) struct Late;

/// The number of probes with too little time that show an unhealthy provider, and what they tell.
const MAX_IMPATIENT: u32 = 3;
const IMPATIENT: Cause = Cause { connection: None, waited: SHORT_WAIT, is_connection: false };

/// The least time between two probes of the circuit's own, whichever call requests them.
const CONFIRMATIONS: Duration = Duration::from_secs(10);
/// The time within which a second call confirms that the account is refused.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(60);
