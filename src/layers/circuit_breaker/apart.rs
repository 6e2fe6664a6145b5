//! The law that one caller never decides alone where others are served, as its circuit applies it. [`super::callers`]
//! has its table.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    callers::{Hold, View},
    evidence::{Author, Cause, Evidence, MOMENT},
    settings::pause_of_only_way,
    state::{Admission, Circuit, Core, Decision, Outcome, Phase, Transition, Way, nanos, phase},
    word::{Reason, Tag, Word},
};
use crate::{
    internal::sync::atomic::{AtomicU64, Ordering},
    layers::caller::UNNAMED,
};

/// The callers that are known to a circuit beside its word: those with rows, by a filter, and the only one whose
/// failures have opened it.
#[derive(Debug)]
pub(super) struct Known {
    /// A bit for each caller with a row. Written under the lock; a call that reads it too early is only seen later.
    watched: [AtomicU64; SLOTS],
    /// The answers to callers while there were rows, or failures in a row.
    served: AtomicU64,
    /// The caller whose failures alone have opened or throttled the circuit; 0 for any other reason.
    only: AtomicU64,
}

impl Default for Known {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self { watched: std::array::from_fn(|_| zero()), served: zero(), only: zero() }
    }
}

impl Known {
    /// Returns the caller whose failures alone have closed the provider off.
    pub(super) fn only(&self) -> Option<u64> {
        Some(self.only.load(Ordering::Acquire)).filter(|only| *only != UNNAMED)
    }

    pub(super) fn set_only(&self, caller: Option<u64>) {
        self.only.store(caller.unwrap_or(UNNAMED), Ordering::Release);
    }

    fn may_watch(&self, caller: u64) -> bool {
        let (slot, bit) = place(caller);
        self.watched[slot].load(Ordering::Relaxed) & bit != 0
    }

    pub(super) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

/// Returns the place of a caller in the filter. The last bit of a named caller's number is always set.
fn place(caller: u64) -> (usize, u64) {
    let number = caller >> 1;
    (number as usize % SLOTS, 1 << (number / SLOTS as u64 % 64))
}

impl Circuit {
    /// Returns the generation if the call needs only admission although other callers have rows.
    pub(super) fn admits_beside_watched(&self, caller: u64) -> Option<u32> {
        let word = self.load();
        let is_free = word.watched() && word.with_watched(false).admits_freely() && !self.known.may_watch(caller);
        is_free.then(|| word.generation())
    }

    /// Returns true if this caller may have a row.
    pub(super) fn watches(&self, caller: u64) -> bool {
        self.load().watched() && self.known.may_watch(caller)
    }

    /// Takes an answer of this generation, to a caller without a row. Returns true if it changes nothing else.
    pub(super) fn is_idle_beside_watched(&self, generation: u32, caller: u64, now: impl FnOnce() -> Instant) -> bool {
        let healthy = Word(Word::healthy(generation)).with_watched(true);
        let is_idle = !self.has_windows && self.load() == healthy && !self.known.may_watch(caller);
        if is_idle && self.known.served.fetch_add(1, Ordering::Relaxed) % PURGED_EACH == PURGED_EACH - 1 {
            let at = self.at(now());
            let mut core = self.lock();
            core.callers.purge(at);
            self.watch_all(&core);
        }
        is_idle
    }

    /// Records an answer to a caller.
    pub(super) fn answer(&self, caller: u64) {
        self.known.served.fetch_add(1, Ordering::Relaxed);
        if self.watches(caller) {
            self.forget_caller(&mut self.lock(), caller);
        }
    }

    /// Forgets the failures of a caller that was answered.
    pub(super) fn forget_caller(&self, core: &mut Core, caller: u64) {
        if core.callers.answer(caller) {
            self.watch_all(core);
        }
    }

    /// Returns how a call of a watched caller goes on.
    pub(super) fn view(&self, caller: u64, prompt: impl FnOnce() -> u64, way: Way, now: Instant) -> View {
        let at = self.at(now);
        let mut core = self.lock();
        if self.load().tag() == Tag::Bypassed {
            return View::Free;
        }
        let lease_ends = at.saturating_add(nanos(self.settings.probe_lease()));
        let number = core.next_probe;
        let view = core.callers.view(caller, prompt, way == Way::Only, (number, lease_ends), at);
        core.next_probe += u64::from(matches!(view, View::Probe(_)));
        view
    }

    /// Returns true once for each caller that is held apart.
    pub(super) fn is_to_tell(&self, caller: u64) -> bool {
        self.watches(caller) && self.lock().callers.is_to_tell(caller)
    }

    /// Takes back the place of a held caller's probe that the circuit itself has refused.
    pub(super) fn give_back(&self, caller: u64, probe: u64) {
        self.lock().callers.give_back(caller, probe);
    }

    /// Settles the probe of a held caller. Returns false if the circuit is to know nothing of it.
    pub(super) fn settle_own(&self, admission: Admission, probe: u64, outcome: Outcome, at: u64) -> bool {
        let mut core = self.lock();
        let caller = admission.caller;
        if !core.callers.give_back(caller, probe) {
            return false;
        }
        let (cause, until) = match outcome {
            Outcome::Failure { cause, throttle, .. } => (cause, throttle),
            Outcome::RateLimited { until } => (Cause::default(), until),
            _ => return true,
        };
        self.hold(&mut core, caller, cause, at);
        if let Some(until) = until {
            self.hold_until(&mut core, caller, self.believed(until, at), at);
        }
        false
    }

    /// Counts a failure in its caller's own row. Returns true if the caller is held apart: then it says nothing else.
    pub(super) fn count_own(
        &self,
        core: &mut Core,
        author: Author,
        (cause, weight): (Cause, u32),
        is_fact: bool,
        at: u64,
    ) -> bool {
        let (caller, served) = (author.caller, self.known.served());
        if caller == UNNAMED || !is_fact && !core.callers.is_another_moment(caller, at, MOMENT) {
            return false;
        }
        let own = core.callers.fail(caller, author.prompt, weight, served, at);
        self.watch(caller);
        own >= self.settings.limit() && self.hold_where_others_are_served(core, caller, cause, at)
    }

    /// Holds a caller apart, if another was served since its first failure. Returns whether it is.
    pub(super) fn hold_where_others_are_served(&self, core: &mut Core, caller: u64, cause: Cause, at: u64) -> bool {
        let is_apart = core.callers.is_another_served(caller, self.known.served());
        if is_apart {
            self.hold(core, caller, cause, at);
        }
        is_apart
    }

    /// Counts a slow answer in its caller's own row.
    pub(super) fn note_slow(&self, caller: u64, at: u64) {
        if caller != UNNAMED {
            self.lock().callers.fail(caller, None, 1, self.known.served(), at);
            self.watch(caller);
        }
    }

    /// Applies the provider's wish to be left alone until this time. It is one caller's until another hears it too.
    pub(super) fn throttle_caller(&self, admission: Admission, until: Instant, at: u64) -> Option<Transition> {
        let until = self.believed(until, at);
        if until <= at {
            return None;
        }
        let (mut core, caller, served) = (self.lock(), admission.caller, self.known.served());
        let is_for_all = caller == UNNAMED || core.callers.ask_to_wait(caller, served, at);
        if caller != UNNAMED {
            self.watch(caller);
        }
        if !is_for_all && core.callers.is_another_served(caller, served) {
            self.hold_until(&mut core, caller, until, at);
            return None;
        }
        let transition = self.throttle_until(&mut core, until);
        if is_for_all || transition.is_some() {
            self.known.set_only((!is_for_all).then_some(caller));
        }
        transition
    }

    /// Returns the admission of a call of an earlier generation as one of the present, if what came in between was one
    /// caller's doing.
    pub(super) fn rejoined(&self, admission: Admission) -> Admission {
        let generation = self.load().generation();
        match admission.generation != generation && self.lock().undone == Some(admission.generation) {
            true => Admission { generation, known: 0, place: 0, ..admission },
            false => admission,
        }
    }

    /// Closes a circuit that only another caller's failures have opened, and holds that one apart. Returns the
    /// admission of this caller's call.
    pub(super) fn acquit(&self, caller: u64, way: Way, now: Instant) -> Option<Decision> {
        self.known.only().filter(|only| *only != caller)?;
        let at = self.at(now);
        let mut core = self.lock();
        let only = self.known.only().filter(|only| *only != caller)?;
        let word = self.load();
        let transition = match (phase(word), word.tag()) {
            (Phase::Throttled, Tag::Closed) => {
                let until = self.throttled_until.swap(0, Ordering::AcqRel);
                self.hold_until(&mut core, only, until, at);
                let (before, after) = self.update(|word| word.with_throttled(false));
                core.changed(before, after, Reason::ThrottleOver)
            }
            (Phase::Open | Phase::HalfOpen | Phase::Throttled, Tag::Open | Tag::HalfOpen) => {
                let until = self.until.load(Ordering::Acquire).max(self.throttled_until.load(Ordering::Acquire));
                let is_counted = matches!(core.cause, Reason::ConsecutiveFailures | Reason::ProbeFailed);
                core.relapses = 0;
                let undone = core.opened_from;
                let transition = self.publish(&mut core, Tag::Closed, Reason::Recovered);
                core.undone = undone;
                if is_counted {
                    let limit = self.settings.limit();
                    core.evidence = Evidence::of_one(only, limit);
                    self.row.store(0, Ordering::Release);
                    self.update(|word| word.with_failures(limit));
                }
                self.hold_until(&mut core, only, until, at);
                transition
            }
            _ => return None,
        };
        self.known.set_only(None);
        Some(Decision::AdmittedAfter(self.admission(self.load(), way), transition))
    }

    fn hold(&self, core: &mut Core, caller: u64, cause: Cause, at: u64) {
        let relapses = core.callers.hold_of(caller).map_or(0, |hold| hold.relapses.saturating_add(1));
        let after = |pause: Duration| at.saturating_add(nanos(pause));
        let until = after(self.settings.cooldown(relapses, cause, Duration::ZERO, 0.0));
        let single_at = after(pause_of_only_way(relapses, cause));
        self.put(core, caller, Hold { until, single_at, relapses, ..Hold::default() }, at);
    }

    fn hold_until(&self, core: &mut Core, caller: u64, until: u64, at: u64) {
        let hold = core.callers.hold_of(caller).unwrap_or_default();
        let single_at = hold.single_at.max(at.saturating_add(nanos(pause_of_only_way(0, Cause::default()))));
        self.put(core, caller, Hold { until: hold.until.max(until), single_at, ..hold }, at);
    }

    fn put(&self, core: &mut Core, caller: u64, hold: Hold, at: u64) {
        core.callers.hold(caller, hold, self.known.served(), at);
        self.watch(caller);
    }

    /// Notes that a caller has a row.
    fn watch(&self, caller: u64) {
        let (slot, bit) = place(caller);
        self.known.watched[slot].fetch_or(bit, Ordering::Relaxed);
        self.update(|word| word.with_watched(true));
    }

    /// Notes which callers have rows.
    pub(super) fn watch_all(&self, core: &Core) {
        let mut watched = [0; SLOTS];
        core.callers.numbers().map(place).for_each(|(slot, bit)| watched[slot] |= bit);
        for (slot, bits) in self.known.watched.iter().zip(watched) {
            slot.store(bits, Ordering::Relaxed);
        }
        self.update(|word| word.with_watched(!core.callers.is_empty()));
    }

    /// Forgets what callers have failed with: the provider fails for all.
    pub(super) fn forget_callers(&self, core: &mut Core) {
        if !core.callers.is_empty() {
            core.callers.clear();
            self.watch_all(core);
        }
    }
}

/// The words of the filter: with a hundred callers in it, nine of ten others are told apart.
const SLOTS: usize = 16;
/// The answers after which old rows are looked for.
const PURGED_EACH: u64 = 64;
