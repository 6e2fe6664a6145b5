//! The whole state of a closed circuit in one word, so that a healthy call costs one load before and one after.

/// `generation (32) | low (25) | asked | watched | throttled | suspect | worked | tag (2)`
///
/// `low` is the number of consecutive failures while closed, and the [`Reason`] while open. `asked` is set while
/// somebody waits for the next success: that one costs a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

/// The machine's state for the next call. A throttle lies over the closed and the half-open state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Closed,
    Open,
    HalfOpen,
    /// Closed by hand: admits all, counts nothing.
    Bypassed,
}

/// The reason for a change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Too many calls in a row failed.
    ConsecutiveFailures,
    /// Too large a share of the calls in the window failed.
    FailureRate,
    /// Too large a share of the calls in the window were slow.
    SlowCalls,
    /// The provider called many different requests in a row invalid, by its own fault.
    InvalidRequests,
    /// The provider set a time to come back (`Retry-After`).
    Throttled,
    /// The account's quota is used up, or the provider believes so.
    Quota,
    /// The provider rejects a key that has worked.
    Auth,
    /// A probe failed.
    ProbeFailed,
    /// The cooldown is over: probes may go.
    CooldownOver,
    /// The time that the provider asked for is over.
    ThrottleOver,
    /// Enough probes succeeded.
    Recovered,
    /// An operator opened, closed or reset the circuit by hand.
    Forced,
}

impl Word {
    /// Returns the word of a healthy circuit: closed, nothing counted, has worked.
    #[inline]
    pub(super) fn healthy(generation: u32) -> u64 {
        u64::from(generation) << GENERATION_SHIFT | WORKED | CLOSED
    }

    pub(super) fn tag(self) -> Tag {
        match self.0 & TAG {
            CLOSED => Tag::Closed,
            OPEN => Tag::Open,
            HALF_OPEN => Tag::HalfOpen,
            _ => Tag::Bypassed,
        }
    }

    /// Returns whether it is closed and not throttled: then the clock need not be read.
    #[inline]
    pub(super) fn admits_all(self) -> bool {
        matches!(self.0 & (TAG | THROTTLED), CLOSED | BYPASSED)
    }

    /// Returns whether a call needs only admission: closed, not throttled, no storm suspected, no failure counted, no
    /// caller watched.
    #[inline]
    pub(super) fn admits_freely(self) -> bool {
        let state = self.0 & (LOW_MASK << LOW_SHIFT | WATCHED | THROTTLED | SUSPECT | TAG);
        state == CLOSED || state == BYPASSED
    }

    #[inline]
    pub(super) fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }

    pub(super) fn worked(self) -> bool {
        self.0 & WORKED != 0
    }

    #[inline]
    pub(super) fn suspect(self) -> bool {
        self.0 & SUSPECT != 0
    }

    /// Returns whether some callers have rows of their own.
    #[inline]
    pub(super) fn watched(self) -> bool {
        self.0 & WATCHED != 0
    }

    pub(super) fn with_watched(self, watched: bool) -> Self {
        Self(if watched { self.0 | WATCHED } else { self.0 & !WATCHED })
    }

    pub(super) fn throttled(self) -> bool {
        self.0 & THROTTLED != 0
    }

    /// Returns the failures in a row, while closed.
    pub(super) fn failures(self) -> u32 {
        (self.0 >> LOW_SHIFT & LOW_MASK) as u32
    }

    /// Returns the reason for which it opened, while open.
    pub(super) fn reason(self) -> Reason {
        let low = (self.0 >> LOW_SHIFT & LOW_MASK) as usize;
        REASONS.get(low).copied().unwrap_or(Reason::Forced)
    }

    pub(super) fn with_failures(self, failures: u32) -> Self {
        let low = u64::from(failures).min(LOW_MASK);
        Self(self.0 & !(LOW_MASK << LOW_SHIFT) | low << LOW_SHIFT)
    }

    /// Notes a success, which those who have asked for one learn.
    pub(super) fn with_worked(self) -> Self {
        Self(self.0 & !ASKED | WORKED)
    }

    /// Returns whether a call has succeeded since somebody asked for the next success, or at all.
    pub(super) fn has_succeeded(self) -> bool {
        self.0 & (WORKED | ASKED) == WORKED
    }

    /// Notes that the key has worked, by the word of another process: no call of this one has succeeded by that.
    pub(super) fn with_word_of_others(self) -> Self {
        if self.worked() { self } else { Self(self.0 | WORKED | ASKED) }
    }

    /// Asks for the next success. Before the first one there is nothing to ask.
    pub(super) fn asking(self) -> Self {
        if self.worked() { Self(self.0 | ASKED) } else { self }
    }

    pub(super) fn with_suspect(self, suspect: bool) -> Self {
        Self(if suspect { self.0 | SUSPECT } else { self.0 & !SUSPECT })
    }

    pub(super) fn with_throttled(self, throttled: bool) -> Self {
        Self(if throttled { self.0 | THROTTLED } else { self.0 & !THROTTLED })
    }

    /// Returns the first word of the next generation. Only the flags that the key has worked, that the next success is
    /// asked for, and that callers are watched carry over.
    pub(super) fn next(self, tag: Tag, reason: Reason) -> Self {
        let generation = u64::from(self.generation().wrapping_add(1)) << GENERATION_SHIFT;
        let (tag, low) = match tag {
            Tag::Closed => (CLOSED, 0),
            Tag::Open => {
                let low = REASONS.iter().position(|&known| known == reason);
                (OPEN, low.unwrap_or(REASONS.len()) as u64)
            }
            Tag::HalfOpen => (HALF_OPEN, 0),
            Tag::Bypassed => (BYPASSED, 0),
        };
        Self(generation | low << LOW_SHIFT | self.0 & (WORKED | ASKED | WATCHED) | tag)
    }
}

/// The reasons for which a circuit opens.
const REASONS: [Reason; 8] = [
    Reason::ConsecutiveFailures,
    Reason::FailureRate,
    Reason::SlowCalls,
    Reason::InvalidRequests,
    Reason::Quota,
    Reason::Auth,
    Reason::ProbeFailed,
    Reason::Forced,
];

const TAG: u64 = 0b11;
const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;
const BYPASSED: u64 = 3;
const WORKED: u64 = 1 << 2;
const SUSPECT: u64 = 1 << 3;
const THROTTLED: u64 = 1 << 4;
const WATCHED: u64 = 1 << 5;
const ASKED: u64 = 1 << 6;
const LOW_SHIFT: u32 = 7;
const LOW_MASK: u64 = (1 << 25) - 1;
const GENERATION_SHIFT: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch_each_other() {
        let word = Word(0).with_worked().with_failures(u32::MAX);
        assert_eq!((word.tag(), word.generation()), (Tag::Closed, 0));
        assert!(word.worked() && !word.suspect() && !word.throttled());
        assert_eq!(word.failures(), LOW_MASK as u32);
        let word = word.with_suspect(true).with_throttled(true).with_watched(true);
        assert!(word.suspect() && word.throttled() && word.watched() && !word.admits_all());
        assert!(!word.with_watched(false).watched() && word.next(Tag::Closed, Reason::Recovered).watched());
        assert!(!Word(0).with_watched(true).admits_freely());
        let word = word.with_watched(false);
        assert_eq!(word.with_failures(0).failures(), 0);

        for reason in REASONS {
            let open = word.next(Tag::Open, reason);
            assert_eq!((open.tag(), open.reason()), (Tag::Open, reason));
            assert!(open.worked() && !open.suspect() && !open.throttled());
            assert_eq!(open.generation(), 1);
        }
        let healthy = Word(Word::healthy(7));
        assert_eq!(healthy.generation(), 7);
        assert!(healthy.admits_all() && healthy.worked() && healthy.failures() == 0);
    }

    #[test]
    fn who_asks_learns_of_the_next_success_and_others_word_is_none() {
        let new = Word(0);
        assert!(!new.has_succeeded() && new.asking() == new);
        let told = new.with_failures(3).with_word_of_others();
        assert!(told.worked() && !told.has_succeeded());
        assert_eq!((told.failures(), told.tag(), told.generation()), (3, Tag::Closed, 0));
        let open = told.next(Tag::Open, Reason::Auth);
        assert!(open.worked() && !open.has_succeeded() && open.reason() == Reason::Auth);
        let worked = told.with_worked();
        assert!(worked.has_succeeded() && worked.with_word_of_others() == worked);
        assert_eq!(worked.with_failures(0).0, Word::healthy(0));
        let asked = worked.asking();
        assert!(asked.worked() && !asked.has_succeeded() && asked.admits_all());
        assert!(asked.with_failures(0).admits_freely() && asked.with_worked() == worked);
    }

    #[test]
    fn last_generation_wraps() {
        let last = Word(Word::healthy(u32::MAX));
        assert_eq!(last.next(Tag::Open, Reason::Auth).generation(), 0);
    }
}
