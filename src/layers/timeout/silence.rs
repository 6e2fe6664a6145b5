//! Who has waited for long enough: from what is usual at a tier, and from how many wait too long there.
//!
//! A call is *late* after [`MULTIPLE`] times the time within which nine in ten of the last calls like it had their answer. A healthy
//! tier has late calls too, but few. So calls are left only where [`TOO_MANY`] of the last [`AMONG`] were late, and there a little
//! before they are late themselves. One in [`WAITED_OUT`] is waited for all the same: a tier that has become slow for good is known as
//! such in time.

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
    fnv::{OFFSET_BASIS, fnv1a},
    histogram::{COARSE, micros},
    layers::{
        caller::{NOBODY, caller},
        latest::Latest,
    },
    sync::{Mutex, lock},
};

/// What is late, as a multiple of the 90th percentile: of a log-normal distribution whose 99th percentile is four times the median
/// that is its 99.99th, and of a Pareto distribution with a tail as heavy as 1.5 its 99.1st.
const MULTIPLE: u64 = 5;
const QUANTILE: f64 = 0.9;
/// So many answers must have been observed.
const LEAST: u32 = 30;
/// Nothing is late before.
const FLOOR: Duration = Duration::from_secs(5);
/// So many late calls are too many among so many.
const TOO_MANY: usize = 8;
const AMONG: u64 = 200;
/// A named caller's count for half of that, unless nobody else calls or is answered.
const SHARE: usize = TOO_MANY / 2;
/// One in so many is waited for.
const WAITED_OUT: u32 = 16;
/// Where too many are late, calls are left after this part of that time.
const EARLY: f64 = 0.8;
/// How often a call that is late looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Streams and whole answers, with reasoning and without, of features by a hash of their name: each is usual in its own way.
const KINDS: usize = 2 * 2 * FEATURES;
const FEATURES: usize = 4;

/// What is known of a tier. All services of a layer share it.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    kinds: [Kind; KINDS],
    /// How many calls were answered.
    answered: AtomicU64,
    /// Whose call was answered last, and how many had been when the one before was another's.
    last: AtomicU64,
    another: AtomicU64,
    late: Mutex<Late>,
}

#[derive(Debug, Default)]
struct Kind {
    times: Mutex<Latest<COARSE>>,
    /// From when on a call is late, in microseconds; 0 while too little was observed.
    late_after: AtomicU64,
}

/// The last calls that were late: how many calls there had been, and whose it was.
#[derive(Debug, Default)]
struct Late {
    calls: Vec<(u64, u64)>,
    /// How many there were in all.
    seen: u32,
}

/// As many as are kept: a caller who has the others' places in it has no more than are too many.
const KEPT: usize = 4 * TOO_MANY;

/// One call that is watched.
#[derive(Debug)]
pub(super) struct Watch {
    silence: Arc<Silence>,
    /// When to look at it; `None`: it is waited for.
    look: Option<Instant>,
    /// When it is late.
    late_at: Option<Instant>,
    kind: u8,
    caller: u64,
    /// How many had been answered when it began.
    answered: u64,
    /// How many calls there had been when it became late.
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

    /// A call of this kind was answered.
    #[inline]
    fn took(&self, kind: usize, caller: u64, time: Duration) {
        let number = self.answered.fetch_add(1, Relaxed);
        if self.last.load(Relaxed) != caller {
            self.last.store(caller, Relaxed);
            self.another.store(number + 1, Relaxed);
        }
        let kind = &self.kinds[kind];
        // Of what many threads have to tell at the same moment one will do.
        let Ok(mut times) = kind.times.try_lock() else { return };
        if let Some(micros) = times.record(micros(time), QUANTILE, LEAST) {
            let floor = FLOOR.as_micros() as u64;
            kind.late_after.store(micros.saturating_mul(MULTIPLE).max(floor), Relaxed);
        }
    }

    /// Whether late calls are left at a moment like this. `before` is how many calls had been answered when this one began.
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
        // Where others have their answers, one caller's may be late by what it asks.
        let counts = |(place, whose): (usize, &u64)| {
            *whose == NOBODY || among[..place].iter().filter(|other| *other == whose).count() < SHARE
        };
        among.iter().enumerate().filter(|call| counts(*call)).count() >= TOO_MANY
    }
}

impl Watch {
    /// When the call is to be looked at.
    #[inline]
    pub(super) fn look(&self) -> Option<Instant> {
        self.look
    }

    /// Whether the call is left, at the moment at which it is looked at.
    #[cold]
    pub(super) fn leaves(&mut self, waits_for: Phase, now: Instant) -> bool {
        self.look = now.checked_add(LOOK_AGAIN);
        if waits_for == Phase::Readiness {
            // It is not the provider that takes so long.
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

    /// The call was answered.
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
        let has_its_share = caller != NOBODY && self.calls.iter().filter(|call| own(call)).count() >= TOO_MANY;
        let oldest = if has_its_share { self.calls.iter().position(own) } else { is_full.then_some(0) };
        if let Some(oldest) = oldest {
            self.calls.remove(oldest);
        }
        self.calls.push((number, caller));
    }
}

/// What else is like a call.
#[inline]
fn kind(request: &LlmRequest) -> usize {
    let feature = request.feature_name().map_or(0, |name| fnv1a(OFFSET_BASIS, name) as usize % FEATURES);
    usize::from(request.is_stream()) + 2 * usize::from(request.asks_to_reason()) + 4 * feature
}
