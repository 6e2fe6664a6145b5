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
//! | most facts | of one caller, while others are served | for that caller only | its prompts fail, and the others' do not ([`callers`](super::callers)) |
//! | all facts | of one caller, while nobody else calls | until another calls | others may be served |
//! | all facts but the first | of one prompt | until another's call, which is the next probe | likewise |
//!
//! After such a success one fact more opens the circuit, and half of all calls since the first fact must have failed:
//! a provider that fails a few answers the others later than it fails these. The first fact of a row names no prompt: a
//! healthy circuit looks at no request but for the number of its caller.

use std::{num::NonZeroU64, time::Duration};

use crate::layers::{caller::UNNAMED, patience::SHORT_WAIT};

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
    /// `None` for a call that a healthy circuit admitted.
    pub(super) prompt: Option<u64>,
}

impl Author {
    /// Returns whether this is another caller; without a name, whether the call is known to be no repeat.
    pub(super) fn is_another_than(self, before: Self) -> bool {
        let is_other_call = self.prompt.is_some() && self.prompt != before.prompt;
        self.caller != before.caller || self.caller == UNNAMED && is_other_call
    }
}

/// The facts in a row.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// The time at which the last fact became known.
    known_at: u64,
    /// The connections that facts came with, the newest last.
    connections: Vec<NonZeroU64>,
    /// The weight of the facts by caller, up to [`CALLERS`] of them, in the order in which they came.
    shares: Vec<Share>,
    prompt: CommonPrompt,
    /// True once a call that was under way before the row has ended well: then only calls since then tell of now.
    is_contradicted: bool,
    /// The weight of the facts of calls since then; how many of those failed, and the latest one that did.
    fresh: u32,
    failed: u32,
    reach: u32,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    caller: u64,
    weight: u32,
    /// The part of calls since the row began.
    fresh: u32,
}

/// The prompt that all failures have in common of which it is known, if there is one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CommonPrompt {
    count: u32,
    prompt: Option<u64>,
}

impl CommonPrompt {
    pub(super) fn add(&mut self, prompt: Option<u64>) {
        let Some(prompt) = prompt else { return };
        self.prompt = if self.count == 0 { Some(prompt) } else { self.prompt.filter(|common| *common == prompt) };
        self.count = self.count.saturating_add(1);
    }

    /// Returns true if several failures have their prompt in common.
    pub(super) fn is_known(self) -> bool {
        self.count >= LEAST_COMMON && self.prompt.is_some()
    }

    pub(super) fn differs(self, prompt: u64) -> bool {
        self.prompt.is_some_and(|common| common != prompt)
    }
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
    pub(super) fn observe(&mut self, facts: u32, place: Place, cause: Cause, at: u64) -> bool {
        if facts == 0 {
            *self = Self::default();
        }
        let Place { known, number } = place;
        if number > 0 {
            self.failed = self.failed.saturating_add(1);
            self.reach = self.reach.max(number);
        }
        let is_known = facts > 0
            && (self.knows(cause)
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
        true
    }

    /// Returns true if a failure tells of a connection on record.
    pub(super) fn knows(&self, cause: Cause) -> bool {
        cause.connection.is_some_and(|connection| self.connections.contains(&connection))
    }

    /// Counts the weight of a fact of such a call, and whose it is.
    pub(super) fn weigh(&mut self, place: Place, weight: u32, author: Author) {
        let fresh = if place.number > 0 { weight } else { 0 };
        self.fresh = self.fresh.saturating_add(fresh);
        self.prompt.add(author.prompt);
        let has_room = self.shares.len() < CALLERS;
        match self.shares.iter_mut().find(|share| share.caller == author.caller) {
            Some(share) => {
                share.weight = share.weight.saturating_add(weight);
                share.fresh = share.fresh.saturating_add(fresh);
            }
            None if has_room => self.shares.push(Share { caller: author.caller, weight, fresh }),
            // None of so many callers decides alone.
            None => {}
        }
    }

    /// Takes a success of a call that was under way before the row began, and returns how many facts remain: the first,
    /// and those of calls since then. A success tells of now unless the failures were sooner known.
    pub(super) fn contradict(&mut self) -> u32 {
        self.is_contradicted = true;
        self.shares.iter_mut().for_each(|share| share.weight = share.fresh);
        if let Some(first) = self.shares.first_mut() {
            first.weight = first.weight.saturating_add(1);
        }
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

    /// Returns the row of a caller whose facts alone have opened a circuit.
    pub(super) fn of_one(caller: u64, weight: u32) -> Self {
        Self { shares: vec![Share { caller, weight, fresh: weight }], fresh: weight, ..Self::default() }
    }

    /// Returns the caller with the most facts if it is a named one and the others have too few of them: fewer than two
    /// fifths of what opens a circuit.
    pub(super) fn decider(&self, facts: u32, limit: u32) -> Option<u64> {
        let most = self.shares.iter().max_by_key(|share| share.weight)?;
        (most.caller != UNNAMED && facts.saturating_sub(most.weight) < (limit / 2).max(1)).then_some(most.caller)
    }

    /// Returns the named caller of all facts, if they have one in common.
    pub(super) fn only_caller(&self) -> Option<u64> {
        match &*self.shares {
            [only] if only.caller != UNNAMED => Some(only.caller),
            _ => None,
        }
    }

    /// Returns true if all facts are of one prompt, as far as that is known.
    pub(super) fn is_one_prompts(&self) -> bool {
        self.prompt.is_known()
    }

    /// Returns true if this call has nothing to do with the facts: they are of another prompt.
    pub(super) fn spares(&self, prompt: u64) -> bool {
        self.is_one_prompts() && self.prompt.differs(prompt)
    }
}

/// The time within which failures of calls that were under way together are one fact, in nanoseconds: a hiccup of
/// 50 ms, and what its calls take to be told.
pub(super) const MOMENT: u64 = 60_000_000;
/// The number of connections on record.
const CONNECTIONS: usize = 8;
/// The number of callers whose facts are told apart.
const CALLERS: usize = 16;
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
        assert!(evidence.observe(0, after(0), failure(), 10));
        for at in [10, 11, MOMENT] {
            assert!(!evidence.observe(1, after(0), failure(), at));
        }
        assert!(evidence.observe(1, after(0), failure(), MOMENT + 10), "it lasts");
        assert!(evidence.observe(2, after(2), failure(), MOMENT + 11), "it began after the news");
    }

    #[test]
    fn a_connection_is_one_fact_for_ever() {
        let mut evidence = Evidence::default();
        let of = |connection| Cause { connection: NonZeroU64::new(connection), ..Cause::default() };
        assert!(evidence.observe(0, after(0), of(1), 0));
        assert!(!evidence.observe(1, after(1), of(1), 5 * MOMENT));
        assert!(evidence.observe(1, after(1), of(2), 5 * MOMENT));
        assert!(!evidence.observe(2, after(2), of(1), 9 * MOMENT));
        assert!(evidence.observe(0, after(0), of(1), 9 * MOMENT), "a success in between begins a new row");
    }

    /// The facts of a row of these callers, one each, with prompts of their own.
    fn row(callers: &[u64]) -> Evidence {
        let mut evidence = Evidence::default();
        for (prompt, caller) in (0..).zip(callers) {
            evidence.weigh(after(1), 1, Author { caller: *caller, prompt: Some(prompt) });
        }
        evidence
    }

    #[test]
    fn one_named_caller_decides_until_others_have_two_fifths() {
        for (callers, decider) in [
            (&[7, 7, 7, 7, 7][..], Some(7)),
            (&[7, 7, 8, 7, 7], Some(7)),
            (&[7, 8, 7, 8, 7], None),
            (&[7, 8, 9, 10, 11], None),
            (&[7, 7, 7, 7, 7, 7, 7, 7, 8], Some(7)),
            (&[7, 7, 7, 7, 7, 7, 7, 7, 8, 9], None),
            (&[UNNAMED; 5], None),
        ] {
            let facts = callers.len() as u32;
            assert_eq!(row(callers).decider(facts, 5), decider, "{callers:?}");
        }
        // The first fact is one caller's, however few open it.
        for limit in [1, 2] {
            assert_eq!(row(&[7, 7]).decider(2, limit), Some(7));
            assert_eq!(row(&[7, 8]).decider(2, limit), None);
        }
        let crowd: Vec<u64> = (1..1000).collect();
        assert_eq!(row(&crowd).decider(999, 5), None);
        assert_eq!(row(&[7, 7]).only_caller(), Some(7));
        assert_eq!([row(&[7, 8]), row(&[UNNAMED]), row(&[])].map(|row| row.only_caller()), [None; 3]);
    }

    #[test]
    fn facts_of_one_prompt_say_nothing_of_others() {
        let of = |prompts: &[Option<u64>]| {
            let mut evidence = Evidence::default();
            prompts.iter().for_each(|prompt| evidence.weigh(after(1), 1, Author { caller: UNNAMED, prompt: *prompt }));
            evidence
        };
        assert!(!of(&[None, Some(1)]).spares(2), "one fact has everything in common");
        let same = of(&[None, Some(1), Some(1)]);
        assert!(same.spares(2) && !same.spares(1));
        assert!(!of(&[Some(1), Some(2), Some(1)]).spares(3));
    }
}
