//! The last failures of each caller, for the request that comes again.
//!
//! A client whose answer failed, broke off or never came sends the same request again. This room recognises it by a
//! seeded hash of its body; no word of a prompt is kept. Three things follow, each for a minute after the failure:
//!
//! - **The order.** The tier whose stream broke or fell silent is asked after the other models: for the same body, and
//!   for the other requests of its session.
//! - **Patience.** Where a tier has left a caller waiting for 10 s or more, until it left or longer, the caller's next
//!   streams wait 10 s there.
//! - **The calls.** The official SDKs number their repeats (`x-stainless-retry-count`). By its second repeat an SDK
//!   alone has made three calls, so that each tier sees three at most for that request, the gateway's own repeats
//!   included. With none left, the gateway answers with the failure that it remembers, for ten seconds at most after
//!   the last call or the wait that the provider asked for. Other clients number nothing: the same request on the same
//!   connection within five seconds of its failure is such a repeat. Any other request without a number is never
//!   answered so; each tier is asked once for it, as its client alone would.
//!
//! A tier that has answered the caller since is forgotten. A thousand failures are kept at most, in memory alone; where
//! there is no room, the caller with the most of them loses its oldest.

mod connection;
mod memory;
#[cfg(test)]
mod tests;

use std::{
    collections::hash_map,
    hash::BuildHasher,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use foldhash::fast;
use http::{HeaderMap, HeaderName, StatusCode};
use steadfast::{
    Attempt, ErrorKind, LlmError, LlmRequest,
    ledger::{Next, Stop},
    request::KnownFailures,
};
use steadfast_stack::AskedTier;
use tokio::time::Instant;

pub(crate) use self::connection::ConnectionFailures;
use self::{
    connection::Failures,
    memory::{Failure, Memory, Subject},
};
use crate::{api::keys, lock::lock};

/// The wait from which on a failed call has left its caller waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest time for which a remembered failure is an answer.
const ANSWERS_FOR: Duration = Duration::from_secs(10);
/// The wait that an answer from memory names, where the provider asked for none.
const WAIT: Duration = Duration::from_secs(1);
/// The official SDKs' number of a repeat; the first request has 0.
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");
/// The bytes at a body's beginning and end that tell it from others of its length.
const HEAD: usize = 16 << 10;
const TAIL: usize = 48 << 10;

/// Returns a body's beginning and end.
fn ends_of(body: &[u8]) -> (&[u8], &[u8]) {
    let (head, rest) = body.split_at(body.len().min(HEAD));
    (head, &rest[rest.len().saturating_sub(TAIL)..])
}

/// The last failures of all callers.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    /// Of callers and sessions, by names that anybody may choose: nobody must find another's.
    names: hash_map::RandomState,
    /// Of bodies, which are long: a caller who makes two of one hash harms only itself.
    bodies: fast::RandomState,
    /// The number of notes in the memory: nearly always none, and then nobody takes the lock.
    kept: AtomicUsize,
    memory: Mutex<Memory>,
}

/// A request, as it is recognised when it comes again.
#[derive(Clone, Debug)]
pub(crate) struct Repeat {
    repeats: Arc<Repeats>,
    caller: u64,
    /// True if the caller has a key of anybody's, or a session.
    is_named: bool,
    body: Subject,
    session: Option<Subject>,
    begun: Instant,
    asked: AskedTier,
    /// The number that the client gives its repeats; 0 is a first request.
    number: Option<u16>,
    connection: Arc<ConnectionFailures>,
    /// The failures that this request repeats, of a client that gives no number.
    row: Option<Failures>,
}

impl Repeats {
    /// Returns a request's mark. `key` is the name of the caller's key.
    pub(crate) fn mark(
        self: &Arc<Self>,
        headers: &HeaderMap,
        key: Option<&str>,
        request: &LlmRequest,
        connection: &Arc<ConnectionFailures>,
    ) -> Repeat {
        let session = request.session();
        // Callers that show the same key are nearly always one program, if the gateway has no keys of its own.
        let session_alone = session.filter(|_| key.is_none());
        let shown = if key.is_none() && session.is_none() { keys::shown(headers).next() } else { None };
        let caller = self.names.hash_one((key, session_alone, shown));
        let body: &[u8] = request.wire().map_or(&[], |wire| wire.body());
        let path = (request.wire().map(|wire| wire.dialect()), request.model(), request.is_stream());
        let body = Subject::Body(self.bodies.hash_one((path, body.len(), ends_of(body))));
        let (number, begun) = (number(headers), Instant::now());
        Repeat {
            repeats: self.clone(),
            caller,
            is_named: key.is_some() || session.is_some() || shown.is_some(),
            body,
            session: session.map(|session| Subject::Session(self.names.hash_one(session))),
            begun,
            asked: AskedTier::default(),
            number,
            connection: connection.clone(),
            row: connection.of(body, begun).filter(|_| number.is_none()),
        }
    }

    /// Returns the number of failures that are kept.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.kept.load(Relaxed)
    }

    /// Changes the memory.
    fn change(&self, change: impl FnOnce(&mut Memory)) {
        let mut memory = lock(&self.memory);
        change(&mut memory);
        self.kept.store(memory.len(), Relaxed);
    }
}

impl Repeat {
    /// Returns whether the client repeats what fails by itself, with numbers.
    pub(crate) fn is_by_a_client_that_repeats(&self) -> bool {
        self.number.is_some()
    }

    /// Tells a request what is known of its last failures.
    ///
    /// # Errors
    ///
    /// The client's repeats have no call left: the failure that is remembered.
    pub(crate) fn inform(&self, request: LlmRequest) -> Result<LlmRequest, LlmError> {
        if self.repeats.kept.load(Relaxed) == 0 {
            return Ok(request.with_extension(self.asked.clone()));
        }
        let now = Instant::now();
        let mut known = KnownFailures::new();
        let mut remembered = None;
        let is_repeat = self.number.is_some_and(|number| number > 0) || self.row.is_some();
        self.repeats.change(|memory| {
            memory.forget_old(self.caller, now);
            if let Some(note) = memory.find(self.caller, self.body) {
                remembered = note.failure.filter(|failure| is_repeat && failure.is_final && now < failure.until);
                let has_lapsed = note.failure.is_none_or(|failure| failure.until <= now);
                for tier in &note.tiers {
                    let left = self.calls_left(tier.calls).max(has_lapsed.into());
                    // A request that a client calls its first is one again by then.
                    let is_limited = is_repeat || self.number.is_none() || !has_lapsed;
                    if is_limited && tier.calls > 0 {
                        known = std::mem::take(&mut known).calls_left_at(tier.name.clone(), left);
                    }
                    remembered = remembered.filter(|_| tier.calls == 0 || left == 0);
                }
            }
            let subjects = [Some(self.body), self.session, self.is_named.then_some(Subject::Caller)];
            for note in subjects.into_iter().flatten().filter_map(|subject| memory.find(self.caller, subject)) {
                for tier in &note.tiers {
                    if let Some(kind) = tier.failed {
                        known = std::mem::take(&mut known).failed_at(tier.name.clone(), kind);
                    }
                    if tier.is_silent {
                        known = std::mem::take(&mut known).silent_at(tier.name.clone());
                    }
                }
            }
        });
        match remembered {
            Some(failure) => {
                self.connection.add(self.body, 0, now);
                Err(failure.error(now))
            }
            None => Ok(request.with_known_failures(known).with_extension(self.asked.clone())),
        }
    }

    /// Returns the calls that a client alone would by now have made beside these.
    fn calls_left(&self, calls: u16) -> u16 {
        let (number, calls) = match (self.number, self.row) {
            (None | Some(0), None) => return 1,
            (None, Some(row)) => (row.requests, row.calls),
            (Some(number), _) => (number, calls),
        };
        number.saturating_add(1).saturating_sub(calls)
    }

    /// Remembers the steps that failed before an answer.
    pub(crate) fn served(&self, steps: &[Attempt]) {
        if steps.iter().any(is_silence) {
            let now = Instant::now();
            self.repeats.change(|memory| self.note_silences(memory, steps, now));
        }
    }

    /// Remembers the failure of the whole request.
    pub(crate) fn failed(&self, error: &LlmError, was_called: bool, status: StatusCode) {
        let kind = error.kind();
        let steps = error.attempts();
        let sent = steps.iter().filter(|step| step.is_wasted());
        let is_unrecorded = steps.is_empty() && was_called && !kind.is_local();
        // A tier that calls the request wrong would say so again: it has no call left.
        let cost = |step: &Attempt| if step.failure.is_some_and(ErrorKind::is_callers_own) { u16::MAX } else { 1 };
        let names: Vec<(Arc<str>, u16)> = match is_unrecorded {
            true => vec![(Arc::from(""), 1)],
            false => sent.map(|step| (step.tier.clone().unwrap_or_default(), cost(step))).collect(),
        };
        if kind.is_callers_own() {
            return;
        }
        let now = Instant::now();
        let calls_at = |name: &Arc<str>| {
            names.iter().filter(|(other, _)| other == name).fold(0, |sum: u16, (_, cost)| sum.saturating_add(*cost))
        };
        let calls = names.iter().map(|(name, _)| calls_at(name));
        self.connection.add(self.body, calls.max().unwrap_or_default(), now);
        if names.is_empty() {
            return;
        }
        let rests_until = error.retry_at().map_or(now, |at| at.clamp(now, now + memory::LIFE));
        let failure =
            Failure { kind, status, is_final: is_final(steps), rests_until, until: rests_until + ANSWERS_FOR };
        self.repeats.change(|memory| {
            let note = memory.note(self.caller, self.body, now);
            note.failure = Some(failure);
            for (name, cost) in &names {
                let tier = note.tier(name);
                tier.calls = tier.calls.saturating_add(*cost);
            }
            self.note_silences(memory, steps, now);
        });
    }

    /// Remembers that this tier's answer broke off or fell silent.
    pub(crate) fn broke(&self, tier: &Arc<str>, kind: ErrorKind) {
        if kind.is_callers_own() {
            return;
        }
        let now = Instant::now();
        self.repeats.change(|memory| {
            for subject in [Some(self.body), self.session].into_iter().flatten() {
                let tier = memory.note(self.caller, subject, now).tier(tier);
                tier.failed = Some(kind);
                tier.is_silent |= kind == ErrorKind::Timeout;
            }
        });
    }

    /// Remembers the tier for which the caller has waited in vain until it left: for an answer's beginning, or for the
    /// rest of one that has been silent for so long.
    pub(crate) fn left(&self, served: Option<(&Arc<str>, Duration)>) {
        let now = Instant::now();
        let asked = || self.asked.last().map(|(tier, at)| (tier, now.saturating_duration_since(at)));
        let waited = served.map(|(tier, quiet)| (tier.clone(), quiet)).or_else(asked);
        if let Some((tier, _)) = waited.filter(|(_, waited)| *waited >= PATIENCE) {
            self.repeats.change(|memory| self.note_silence(memory, &tier, ErrorKind::Timeout, now));
        }
    }

    /// Forgets what this answer disproves: its tier's failures from before the request began, and the calls in vain.
    pub(crate) fn answered(&self, tier: Option<&Arc<str>>) {
        if self.repeats.kept.load(Relaxed) == 0 {
            return;
        }
        self.connection.clear();
        let subjects = [Some(self.body), self.session, Some(Subject::Caller)];
        self.repeats.change(|memory| {
            subjects.into_iter().flatten().for_each(|subject| memory.answered(self.caller, subject, tier, self.begun));
        });
    }

    fn note_silences(&self, memory: &mut Memory, steps: &[Attempt], now: Instant) {
        for step in steps.iter().filter(|step| is_silence(step)) {
            let (Some(name), Some(kind)) = (&step.tier, step.failure) else { continue };
            self.note_silence(memory, name, kind, now);
        }
    }

    fn note_silence(&self, memory: &mut Memory, name: &Arc<str>, kind: ErrorKind, now: Instant) {
        let tier = memory.note(self.caller, self.body, now).tier(name);
        (tier.failed, tier.is_silent) = (Some(kind), true);
        if self.is_named {
            memory.note(self.caller, Subject::Caller, now).tier(name).is_silent = true;
        }
    }
}

/// Returns whether a step has left the caller waiting in vain.
fn is_silence(step: &Attempt) -> bool {
    step.failure.is_some() && !step.is_local() && step.took >= PATIENCE
}

/// Returns whether all tiers of a failed request were asked. One that refused on this side, or was not reached, may
/// serve the next repeat.
fn is_final(steps: &[Attempt]) -> bool {
    let refuses = |step: &Attempt| step.next != Next::Skipped && step.is_local();
    let ended_early = steps.last().is_some_and(|last| match last.next {
        Next::Stopped(Stop::Deadline | Stop::Budget) => true,
        // Without a failover there is no other tier.
        Next::Stopped(Stop::Attempts) => last.tier.is_some(),
        _ => false,
    });
    !ended_early && !steps.iter().any(refuses)
}

/// Returns the number that a client gives its repeats. Nonsense is none.
fn number(headers: &HeaderMap) -> Option<u16> {
    let number: u64 = headers.get(RETRY_COUNT)?.to_str().ok()?.parse().ok()?;
    Some(u16::try_from(number).unwrap_or(u16::MAX))
}
