//! The evidence of a closed circuit: causes, not calls.
//!
//! One cause may end many calls. Such calls tell of one fact, and a circuit opens only after several facts in a row.
//! Two failures are two facts if the second call began after the first failure was known, or failed 60 ms
//! later, and they did not fail with the same connection. So a connection that ends under twenty calls is one
//! fact, and so is a moment of errors; a provider that is down shows a new fact with each round trip.
//!
//! | failed | seen as | counts | reason |
//! |---|---|---|---|
//! | an error of the provider's, a break | a call that began after the last fact | one | it met the provider as it is now |
//! | the same | a call that began before, within 60 ms of the last fact | nothing | the same moment |
//! | the same | a call that began before, 60 ms later or more | one | the trouble lasts |
//! | nothing: a success | a call that began before the first fact | no end of the row | others began before it too: at 200 requests a second they would hide an outage for as long as their answers take |
//! | any | with a connection that is on record | nothing | one connection is one proof (RFC 9113, 6.8) |
//! | no answer within a limit of this stack, of 10 s or more | any call | half of what opens the circuit | no moment: the caller paid for it |
//! | all facts but the first | of one caller, or of one prompt | until another's call, which is the next probe | others may be served (one caller's facts decide for that caller) |
//!
//! After such a success one fact more opens the circuit, and half of all calls since the first fact must have failed:
//! a provider that fails a few answers the others later than it fails these. The first fact of a row names no caller: a
//! healthy circuit looks at no request.

use std::{num::NonZeroU64, time::Duration};

use crate::layers::patience::SHORT_WAIT;

/// What is known of a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cause {
    /// The connection that it failed with.
    pub(super) connection: Option<NonZeroU64>,
    /// How long the call waited in vain, if it did: zero for any other failure.
    pub(super) waited: Duration,
    /// True if no connection could be made, or one ended: a new connection is the proof that it is over.
    pub(super) is_connection: bool,
}

impl Cause {
    /// Returns true if nothing came within a limit of time in which a healthy model has nearly always begun.
    pub(super) fn is_silence(self) -> bool {
        self.waited >= SHORT_WAIT
    }
}

/// The author of a call: the caller and the prompt, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Author {
    pub(super) caller: u64,
    pub(super) prompt: u64,
}

/// The facts in a row.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// The time at which the last fact became known.
    known_at: u64,
    /// The connections that facts came with, the newest last.
    connections: Vec<NonZeroU64>,
    /// The facts whose author is known, and what their authors have in common.
    authors: u32,
    caller: Option<u64>,
    prompt: Option<u64>,
    /// True once a call that was under way before the row has ended well: then only calls since then tell of now.
    is_contradicted: bool,
    /// The weight of the facts of calls since then; how many of those failed, and the latest one that did.
    fresh: u32,
    failed: u32,
    reach: u32,
}

/// A call that failed, as its circuit knows it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// The facts in a row when the call began.
    pub(super) known: u32,
    /// Which one it is of the calls since the first fact; 0 for a call that was under way then.
    pub(super) number: u32,
}

impl Evidence {
    /// Records a failure at this time; returns false if it tells of a known fact. `facts` is the number of facts in a
    /// row.
    pub(super) fn observe(&mut self, facts: u32, place: Place, cause: Cause, author: Option<Author>, at: u64) -> bool {
        if facts == 0 {
            *self = Self::default();
        }
        let Place { known, number } = place;
        if number > 0 {
            self.failed = self.failed.saturating_add(1);
            self.reach = self.reach.max(number);
        }
        let is_known = facts > 0
            && (cause.connection.is_some_and(|connection| self.connections.contains(&connection))
                || !cause.is_silence() && known != facts && at.saturating_sub(self.known_at) < MOMENT);
        if is_known {
            return false;
        }
        self.known_at = at;
        if let Some(connection) = cause.connection {
            if self.connections.len() == CONNECTIONS {
                self.connections.remove(0);
            }
            self.connections.push(connection);
        }
        if let Some(author) = author {
            self.add(author);
        }
        true
    }

    /// Counts the weight of a fact of such a call.
    pub(super) fn weigh(&mut self, place: Place, weight: u32) {
        self.fresh = self.fresh.saturating_add(if place.number > 0 { weight } else { 0 });
    }

    /// Takes a success of a call that was under way before the row began, and returns how many facts remain: the first,
    /// and those of calls since then. A success tells of now unless the failures were sooner known.
    pub(super) fn contradict(&mut self) -> u32 {
        self.is_contradicted = true;
        self.fresh.saturating_add(1)
    }

    /// Returns true if so many facts open a circuit. After a contradiction that takes one more, and half of all calls
    /// since the row began have failed: a provider that fails a part of them answers the others later.
    pub(super) fn is_enough(&self, facts: u32, limit: u32) -> bool {
        match self.is_contradicted {
            false => facts >= limit,
            true => facts > limit && self.failed.saturating_mul(2) >= self.reach,
        }
    }

    /// Records the author of a fact.
    pub(super) fn add(&mut self, author: Author) {
        let same = |common: Option<u64>, value| common.filter(|common| self.authors > 0 && *common == value);
        (self.caller, self.prompt) = match self.authors {
            0 => (Some(author.caller), Some(author.prompt)),
            _ => (same(self.caller, author.caller), same(self.prompt, author.prompt)),
        };
        self.authors = self.authors.saturating_add(1);
    }

    /// Returns true if all facts are of one caller or of one prompt, as far as that is known.
    pub(super) fn is_one_authors(&self) -> bool {
        self.authors >= LEAST_COMMON && (self.caller.is_some() || self.prompt.is_some())
    }

    /// Returns true if this call has nothing to do with the facts: they are of another caller, or another prompt.
    pub(super) fn spares(&self, author: Author) -> bool {
        let differs = |common: Option<u64>, value| common.is_some_and(|common| common != value);
        self.is_one_authors() && (differs(self.caller, author.caller) || differs(self.prompt, author.prompt))
    }
}

/// The time within which failures of calls that were under way together are one fact, in nanoseconds: a hiccup of
/// 50 ms, and what its calls take to be told.
const MOMENT: u64 = 60_000_000;
/// The number of connections on record.
const CONNECTIONS: usize = 8;
/// The least number of facts that can have something in common.
const LEAST_COMMON: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// The place of a call that began after so many facts.
    fn after(known: u32) -> Place {
        Place { known, number: known }
    }

    fn failure() -> Cause {
        Cause::default()
    }

    #[test]
    fn calls_that_were_under_way_together_are_one_fact() {
        let mut evidence = Evidence::default();
        assert!(evidence.observe(0, after(0), failure(), None, 10));
        for at in [10, 11, MOMENT] {
            assert!(!evidence.observe(1, after(0), failure(), None, at));
        }
        assert!(evidence.observe(1, after(0), failure(), None, MOMENT + 10), "it lasts");
        assert!(evidence.observe(2, after(2), failure(), None, MOMENT + 11), "it began after the news");
    }

    #[test]
    fn a_connection_is_one_fact_for_ever() {
        let mut evidence = Evidence::default();
        let of = |connection| Cause { connection: NonZeroU64::new(connection), ..Cause::default() };
        assert!(evidence.observe(0, after(0), of(1), None, 0));
        assert!(!evidence.observe(1, after(1), of(1), None, 5 * MOMENT));
        assert!(evidence.observe(1, after(1), of(2), None, 5 * MOMENT));
        assert!(!evidence.observe(2, after(2), of(1), None, 9 * MOMENT));
        assert!(evidence.observe(0, after(0), of(1), None, 9 * MOMENT), "a success in between begins a new row");
    }

    #[test]
    fn facts_of_one_caller_or_one_prompt_say_nothing_of_others() {
        let author = |caller, prompt| Author { caller, prompt };
        let of = |authors: &[Author]| {
            let mut evidence = Evidence::default();
            for author in authors {
                evidence.add(*author);
            }
            evidence
        };
        assert!(!of(&[author(1, 1)]).spares(author(2, 2)), "one fact has everything in common");
        let same_caller = of(&[author(1, 1), author(1, 2)]);
        assert!(same_caller.spares(author(2, 3)) && !same_caller.spares(author(1, 3)));
        let same_prompt = of(&[author(1, 1), author(2, 1)]);
        assert!(same_prompt.spares(author(1, 2)) && !same_prompt.spares(author(3, 1)));
        let all_differ = of(&[author(1, 1), author(2, 2)]);
        assert!(!all_differ.is_one_authors() && !all_differ.spares(author(3, 3)));
        let same = of(&[author(1, 1), author(1, 1), author(1, 1)]);
        assert!(same.spares(author(1, 2)) && same.spares(author(2, 1)) && !same.spares(author(1, 1)));
    }
}
