//! The decision to leave a call early, from the usual times of a tier and the number of calls that wait too long
//! there.
//!
//! A call is *late* after [`MULTIPLE`] times the time within which nine in ten of the last calls like it were
//! answered. A healthy tier has late calls too, but few. So calls are left only if [`TOO_MANY`] of the last
//! [`AMONG`] were late, and then a little before they are late themselves. One in [`WAITED_OUT`] is waited for all
//! the same: a tier that has become slow for good is then known as such in time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    LlmRequest,
    error::Phase,
    internal::{
        fnv::{OFFSET_BASIS, fnv1a},
        histogram::{COARSE, micros},
        sync::{Mutex, lock},
    },
    layers::{
        caller::{UNNAMED, caller},
        recent_values::RecentValues,
    },
};

/// The multiple of the 90th percentile after which a call is late. For a log-normal distribution whose 99th
/// percentile is four times the median, that is the 99.99th percentile; for a Pareto distribution with a tail as
/// heavy as 1.5, the 99.1st.
const MULTIPLE: u64 = 5;
const QUANTILE: f64 = 0.9;
/// The least number of observed answers.
const LEAST: u32 = 30;
/// The least time after which a call is late.
const FLOOR: Duration = Duration::from_secs(5);
/// The number of late calls that is too many, and the number of calls among which they count.
const TOO_MANY: usize = 8;
const AMONG: u64 = 200;
/// The most late calls of one named caller that count, unless no other calls or is answered.
const SHARE: usize = TOO_MANY / 2;
/// The interval of late calls that are waited for.
const WAITED_OUT: u32 = 16;
/// The part of the late time after which calls are left, once too many are late.
const EARLY: f64 = 0.8;
/// The interval at which a late call checks again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The kinds of calls, each with usual times of its own: streams and whole answers, with reasoning and without, of
/// features by a hash of their name.
const KINDS: usize = 2 * 2 * FEATURES;
const FEATURES: usize = 4;

/// The observations of a tier. All services of a layer share them.
#[derive(Debug, Default)]
pub struct Silence {
    kinds: [Kind; KINDS],
    /// The number of answered calls.
    answered: AtomicU64,
    /// The caller whose call was answered last, and the number of answers before the last change of caller.
    last: AtomicU64,
    another: AtomicU64,
    late: Mutex<Late>,
}

#[derive(Debug, Default)]
struct Kind {
    times: Mutex<RecentValues<COARSE>>,
    /// The time after which a call is late, in microseconds; 0 while too few answers were observed.
    late_after: AtomicU64,
}

/// The last late calls: the number of calls at that moment, and the caller.
#[derive(Debug, Default)]
struct Late {
    calls: Vec<(u64, u64)>,
    /// The number of late calls in all.
    seen: u32,
}

/// The number of late calls that are kept. A caller that displaces the others' has at most as many in it as are too
/// many.
const KEPT: usize = 4 * TOO_MANY;

/// A call that is watched.
#[derive(Debug)]
pub(super) struct Watch {
    silence: Arc<Silence>,
    /// The time at which to check it; `None` if it is waited for.
    look: Option<Instant>,
    /// The time at which it is late.
    late_at: Option<Instant>,
    kind: u8,
    caller: u64,
    /// The number of answered calls when it began.
    answered: u64,
    /// The number of calls when it became late.
    late: Option<u64>,
}

impl Silence {
    /// Watches a call that begins now.
    #[inline(never)]
    pub(super) fn watch(self: &Arc<Self>, request: &LlmRequest, now: Instant) -> Watch {
        let kind = kind(request);
        let (look, late_at) = match self.kinds[kind].late_after.load(Relaxed) {
            0 => (None, None),
            micros => {
                let after = Duration::from_micros(micros);
                (now.checked_add(after.mul_f64(EARLY)), now.checked_add(after))
            }
        };
        let (caller, answered) = (caller(request), self.answered.load(Relaxed));
        Watch { silence: self.clone(), look, late_at, kind: kind as u8, caller, answered, late: None }
    }

    /// Records that a call of this kind was answered.
    #[inline]
    fn took(&self, kind: usize, caller: u64, time: Duration) {
        let number = self.answered.fetch_add(1, Relaxed);
        if self.last.load(Relaxed) != caller {
            self.last.store(caller, Relaxed);
            self.another.store(number + 1, Relaxed);
        }
        let kind = &self.kinds[kind];
        // Of many threads that record at the same moment, one is enough.
        let Ok(mut times) = kind.times.try_lock() else { return };
        if let Some(micros) = times.record(micros(time), QUANTILE, LEAST) {
            let floor = FLOOR.as_micros() as u64;
            kind.late_after.store(micros.saturating_mul(MULTIPLE).max(floor), Relaxed);
        }
    }

    /// Returns whether late calls are left at this moment. `before` is the number of answered calls when this one
    /// began.
    fn is_bad(&self, late: &Late, before: u64) -> bool {
        let answered = self.answered.load(Relaxed);
        let now = answered + u64::from(late.seen);
        let among: Vec<u64> = late
            .calls
            .iter()
            .filter(|(number, _)| now.saturating_sub(*number) <= AMONG)
            .map(|(_, whose)| *whose)
            .collect();
        let is_silent = answered == before;
        let is_one_caller = answered.saturating_sub(self.another.load(Relaxed)) > AMONG;
        if is_silent || is_one_caller {
            return among.len() >= TOO_MANY;
        }
        // If other callers are answered, one caller's calls may be late because of its own prompts.
        let counts = |(place, whose): (usize, &u64)| {
            *whose == UNNAMED || among[..place].iter().filter(|other| *other == whose).count() < SHARE
        };
        among.iter().enumerate().filter(|call| counts(*call)).count() >= TOO_MANY
    }
}

impl Watch {
    /// Returns the time at which the call is to be checked.
    #[inline]
    pub(super) fn look(&self) -> Option<Instant> {
        self.look
    }

    /// Returns whether the call is left, at the time of its check.
    #[cold]
    pub(super) fn leaves(&mut self, waits_for: Phase, now: Instant) -> bool {
        self.look = now.checked_add(LOOK_AGAIN);
        if waits_for == Phase::Readiness {
            // The provider did not cause the delay.
            return false;
        }
        let mut late = lock(&self.silence.late);
        if self.late.is_none() && self.late_at.is_some_and(|at| now < at) && !self.silence.is_bad(&late, self.answered)
        {
            self.look = self.late_at;
            return false;
        }
        let now = self.silence.answered.load(Relaxed) + u64::from(late.seen);
        let is_waited_out = match self.late {
            Some(since) => now.saturating_sub(since) > AMONG,
            None => {
                self.late = Some(now);
                late.add(now, self.caller);
                late.seen.is_multiple_of(WAITED_OUT)
            }
        };
        if is_waited_out {
            self.look = None;
            return false;
        }
        self.silence.is_bad(&late, self.answered)
    }

    /// Records that the call was answered.
    #[inline]
    pub(super) fn answered(&self, took: Duration) {
        self.silence.took(usize::from(self.kind), self.caller, took);
    }
}

impl Late {
    fn add(&mut self, number: u64, caller: u64) {
        self.seen = self.seen.wrapping_add(1);
        let own = |(_, whose): &(u64, u64)| *whose == caller;
        let is_full = self.calls.len() == KEPT;
        let has_its_share = caller != UNNAMED && self.calls.iter().filter(|call| own(call)).count() >= TOO_MANY;
        let oldest = if has_its_share { self.calls.iter().position(own) } else { is_full.then_some(0) };
        if let Some(oldest) = oldest {
            self.calls.remove(oldest);
        }
        self.calls.push((number, caller));
    }
}

/// Returns the kind of a call.
#[inline]
fn kind(request: &LlmRequest) -> usize {
    let feature = request.feature().map_or(0, |name| fnv1a(OFFSET_BASIS, name) as usize % FEATURES);
    usize::from(request.is_stream()) + 2 * usize::from(request.asks_to_reason()) + 4 * feature
}
