//! The notes of all callers, within their bounds.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::StatusCode;
use steadfast::{ErrorKind, LlmError};
use tokio::time::Instant;

use super::{ANSWERS_FOR, WAIT};
use crate::api::refusal::FixedStatus;

/// The life of a note after its last failure.
pub(super) const LIFE: Duration = Duration::from_secs(60);
/// The most notes of all callers together: some 200 KB.
pub(super) const MOST: usize = 1024;
/// The most tiers of a note.
const TIERS: usize = 16;

/// The notes of all callers.
#[derive(Debug, Default)]
pub(super) struct Memory {
    callers: HashMap<u64, Vec<Note>>,
    kept: usize,
    /// The time of the last failure.
    newest: Option<Instant>,
}

/// The requests that a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The requests with this body.
    Body(u64),
    /// The requests of this session.
    Session(u64),
    /// All requests of the caller.
    Caller,
}

/// The failures of some requests of a caller.
#[derive(Debug)]
pub(super) struct Note {
    subject: Subject,
    /// The time of the last failure.
    at: Instant,
    pub(super) tiers: Vec<Tier>,
    /// The failure of the whole request.
    pub(super) failure: Option<Failure>,
}

/// The failures of one tier.
#[derive(Debug)]
pub(super) struct Tier {
    pub(super) name: Arc<str>,
    /// The calls in vain for the same request.
    pub(super) calls: u16,
    /// The kind of the failure after which it is asked last.
    pub(super) failed: Option<ErrorKind>,
    /// True if it has left the caller waiting.
    pub(super) is_silent: bool,
}

/// The failure of a whole request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    /// The status that the caller has had.
    pub(super) status: StatusCode,
    /// True if every tier was asked.
    pub(super) is_final: bool,
    /// The end of the wait that the provider asked for.
    pub(super) rests_until: Instant,
    /// The end of the time for which it is an answer.
    pub(super) until: Instant,
}

impl Failure {
    /// Returns the failure again, in words of our own: the provider's may repeat the prompt.
    pub(super) fn error(&self, now: Instant) -> LlmError {
        let name = self.kind.name();
        let message = format!("the same request has just failed ({name}) as often as its client repeats it");
        let wait = self.rests_until.saturating_duration_since(now).clamp(WAIT, ANSWERS_FOR);
        LlmError::new(self.kind, message).with_retry_after(wait).with_source(FixedStatus(self.status))
    }
}

impl Note {
    /// Returns the failures of this tier, none so far if it is new.
    pub(super) fn tier(&mut self, name: &Arc<str>) -> &mut Tier {
        let place = self.tiers.iter().position(|tier| tier.name == *name).unwrap_or_else(|| {
            if self.tiers.len() == TIERS {
                self.tiers.remove(0);
            }
            self.tiers.push(Tier { name: name.clone(), calls: 0, failed: None, is_silent: false });
            self.tiers.len() - 1
        });
        &mut self.tiers[place]
    }

    fn is_over(&self, now: Instant) -> bool {
        let until = self.failure.map_or(self.at, |failure| failure.rests_until.max(self.at));
        until + LIFE <= now
    }
}

impl Memory {
    /// Returns the number of notes.
    pub(super) fn len(&self) -> usize {
        self.kept
    }

    /// Returns the note on this subject.
    pub(super) fn find(&self, caller: u64, subject: Subject) -> Option<&Note> {
        self.callers.get(&caller)?.iter().find(|note| note.subject == subject)
    }

    /// Returns the note on this subject for a failure of this moment, a new one if there is none.
    pub(super) fn note(&mut self, caller: u64, subject: Subject, now: Instant) -> &mut Note {
        self.forget_old(caller, now);
        self.newest = Some(now);
        if self.find(caller, subject).is_none() {
            if self.kept == MOST {
                self.make_room(now);
            }
            let note = Note { subject, at: now, tiers: Vec::new(), failure: None };
            self.callers.entry(caller).or_default().push(note);
            self.kept += 1;
        }
        let notes = self.callers.entry(caller).or_default();
        // The newest stands last, so that the oldest makes room.
        let place = notes.iter().position(|note| note.subject == subject).unwrap_or_default();
        let mut note = notes.remove(place);
        note.at = now;
        notes.push(note);
        notes.last_mut().expect("it was pushed")
    }

    /// Forgets the notes of a caller that are over, and everybody's once all are.
    pub(super) fn forget_old(&mut self, caller: u64, now: Instant) {
        if self.newest.is_some_and(|newest| newest + 2 * LIFE <= now) {
            *self = Self::default();
        }
        self.keep(caller, |note| !note.is_over(now));
    }

    /// Forgets what an answer of this tier to a request begun then disproves.
    pub(super) fn answered(&mut self, caller: u64, subject: Subject, by: Option<&Arc<str>>, begun: Instant) {
        self.keep(caller, |note| {
            if note.subject != subject || note.at > begun {
                return true;
            }
            note.failure = None;
            note.tiers.iter_mut().for_each(|tier| tier.calls = 0);
            note.tiers.retain(|tier| Some(&tier.name) != by && (tier.failed.is_some() || tier.is_silent));
            !note.tiers.is_empty()
        });
    }

    /// Keeps a caller's notes of which this is true.
    fn keep(&mut self, caller: u64, is_kept: impl FnMut(&mut Note) -> bool) {
        let Some(notes) = self.callers.get_mut(&caller) else { return };
        let before = notes.len();
        notes.retain_mut(is_kept);
        self.kept -= before - notes.len();
        if notes.is_empty() {
            self.callers.remove(&caller);
        }
    }

    /// Forgets all notes that are over or, if none is, the oldest one of the caller that has the most.
    fn make_room(&mut self, now: Instant) {
        self.callers.retain(|_, notes| {
            notes.retain(|note| !note.is_over(now));
            !notes.is_empty()
        });
        self.kept = self.callers.values().map(Vec::len).sum();
        if self.kept < MOST {
            return;
        }
        let oldest = |notes: &[Note]| notes.first().map(|note| note.at);
        let most = self.callers.iter().max_by(|(_, a), (_, b)| {
            let by_count = a.len().cmp(&b.len());
            by_count.then_with(|| oldest(b).cmp(&oldest(a)))
        });
        if let Some(caller) = most.map(|(caller, _)| *caller)
            && let Some(notes) = self.callers.get_mut(&caller)
        {
            notes.remove(0);
            self.kept -= 1;
            if notes.is_empty() {
                self.callers.remove(&caller);
            }
        }
    }
}
