//! The callers whose calls have failed of late, each with a row of its own.
//!
//! One caller never decides alone where others are served. Any failure may come of what one caller sends: a prompt
//! for which the provider has an error, breaks off or says nothing; work that takes longer than the limit. So a circuit
//! asks of each failure whose it is, whatever its kind.
//!
//! | all that failed is of | others | the circuit | the caller |
//! |---|---|---|---|
//! | two callers or more | | opens for all | |
//! | one caller | are served since its first failure | stays | is *held apart*: its own calls are refused, with a probe at growing intervals |
//! | one caller | none called | opens, as the caller may be all there is | |
//! | | one calls now | closes, and the call goes on | is held apart |
//! | an unnamed caller, which may be many | | opens for all | |
//!
//! "Two callers" means that those beside the one with the most facts have two fifths of what opens the circuit. A wait
//! that the provider asks for is one caller's until another is asked to wait as well.
//!
//! A healthy circuit keeps no rows, and looks at no request. While there are rows, its word says so, and a small filter
//! tells other callers' calls apart without a lock.

use std::{collections::HashMap, time::Duration};

use super::evidence::CommonPrompt;
use crate::layers::caller::UNNAMED;

/// The rows.
#[derive(Debug, Default)]
pub(super) struct Callers {
    rows: HashMap<u64, Row>,
}

/// One caller's failures since its last answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    /// The answers to all callers before the first of them.
    served: u64,
    /// The weight of its facts, and the time of the last one.
    weight: u32,
    at: u64,
    prompt: CommonPrompt,
    /// The time at which the provider last asked it to wait, if it did.
    asked_at: Option<u64>,
    hold: Option<Hold>,
    /// True once it was reported that the caller is held apart.
    is_told: bool,
}

/// A caller that is held apart.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    /// The time of its next probe, and that of one that has nowhere else to go.
    pub(super) until: u64,
    pub(super) single_at: u64,
    /// The number of probes that failed.
    pub(super) relapses: u32,
    /// The probe under way, and the time from which another may replace it.
    pub(super) probe: Option<(u64, u64)>,
}

/// A watched caller's call, by its own row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// Nothing speaks against it.
    Free,
    /// It is the caller's probe, of this number.
    Probe(u64),
    Refused {
        until: u64,
    },
}

impl Callers {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.rows.keys().copied()
    }

    /// Records a fact of a named caller after `served` answers; returns the weight of all in its row.
    pub(super) fn fail(&mut self, caller: u64, prompt: Option<u64>, weight: u32, served: u64, at: u64) -> u32 {
        let row = self.row(caller, served, at);
        row.weight = row.weight.saturating_add(weight);
        row.prompt.add(prompt);
        row.weight
    }

    /// Returns true if so much time has passed since its last fact that one more is another.
    pub(super) fn is_another_moment(&self, caller: u64, at: u64, moment: u64) -> bool {
        self.rows.get(&caller).is_none_or(|row| row.weight == 0 || at.saturating_sub(row.at) >= moment)
    }

    /// Records that the provider asked a named caller to wait. Returns true if it asked another within the last minute.
    pub(super) fn ask_to_wait(&mut self, caller: u64, served: u64, at: u64) -> bool {
        self.row(caller, served, at).asked_at = Some(at);
        let is_recent = |row: &Row| row.asked_at.is_some_and(|asked| at.saturating_sub(asked) <= MEMORY);
        self.rows.iter().any(|(other, row)| *other != caller && is_recent(row))
    }

    /// Returns true if another caller was served since this one's first failure.
    pub(super) fn is_another_served(&self, caller: u64, served: u64) -> bool {
        caller != UNNAMED && self.rows.get(&caller).is_some_and(|row| served > row.served)
    }

    /// Returns this caller if so many bad calls are its own, and no other named caller has failed within the last
    /// minute: then it would decide alone.
    pub(super) fn decider(&self, caller: u64, least_bad: u32, at: u64) -> Option<u64> {
        let has_enough = self.rows.get(&caller).is_some_and(|row| row.weight >= least_bad);
        let failed = |row: &Row| row.weight > 0 && at.saturating_sub(row.at) <= MEMORY;
        (has_enough && !self.rows.iter().any(|(other, row)| *other != caller && failed(row))).then_some(caller)
    }

    pub(super) fn is_held(&self, caller: u64) -> bool {
        self.hold_of(caller).is_some()
    }

    pub(super) fn hold_of(&self, caller: u64) -> Option<Hold> {
        self.rows.get(&caller)?.hold
    }

    /// Holds a caller apart; its probe, if there is one, is over.
    pub(super) fn hold(&mut self, caller: u64, hold: Hold, served: u64, at: u64) {
        self.row(caller, served, at).hold = Some(hold);
    }

    /// Returns how a call of this caller goes on. `next` is the number of a probe, and `lease_ends` the time from which
    /// another may replace it.
    pub(super) fn view(
        &mut self,
        caller: u64,
        prompt: impl FnOnce() -> u64,
        is_only_way: bool,
        (next, lease_ends): (u64, u64),
        at: u64,
    ) -> View {
        let Some(Row { prompt: common, hold: Some(hold), .. }) = self.rows.get_mut(&caller) else { return View::Free };
        let due = if is_only_way { hold.until.min(hold.single_at) } else { hold.until };
        match hold.probe {
            Some((_, ends)) if at < ends => View::Refused { until: ends.min(at.saturating_add(SOON)) },
            _ if at < due && !(common.is_known() && common.differs(prompt())) => View::Refused { until: due },
            _ => {
                hold.probe = Some((next, lease_ends));
                View::Probe(next)
            }
        }
    }

    /// Takes back a probe's place. Returns false if it was replaced.
    pub(super) fn give_back(&mut self, caller: u64, probe: u64) -> bool {
        let Some(Row { hold: Some(hold), .. }) = self.rows.get_mut(&caller) else { return false };
        let is_its = hold.probe.is_some_and(|(id, _)| id == probe);
        hold.probe = hold.probe.filter(|_| !is_its);
        is_its
    }

    /// Returns true once for each caller that is held apart.
    pub(super) fn is_to_tell(&mut self, caller: u64) -> bool {
        match self.rows.get_mut(&caller) {
            Some(row) if row.hold.is_some() && !row.is_told => {
                row.is_told = true;
                true
            }
            _ => false,
        }
    }

    /// Forgets the row of a caller that has an answer.
    pub(super) fn answer(&mut self, caller: u64) -> bool {
        self.rows.remove(&caller).is_some()
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
    }

    /// Forgets the rows to which nothing was added for a minute.
    pub(super) fn purge(&mut self, at: u64) {
        self.rows.retain(|_, row| !row.is_over(at));
    }

    /// Returns a caller's row. The oldest makes room for a new one.
    fn row(&mut self, caller: u64, served: u64, at: u64) -> &mut Row {
        if self.rows.len() >= MOST && !self.rows.contains_key(&caller) {
            let oldest = self.rows.iter().min_by_key(|(_, row)| row.at).map(|(caller, _)| *caller);
            oldest.and_then(|oldest| self.rows.remove(&oldest));
        }
        let row = self.rows.entry(caller).or_insert_with(|| Row { served, at, ..Row::default() });
        if row.is_over(at) {
            *row = Row { served, ..Row::default() };
        }
        row.at = at;
        row
    }
}

impl Row {
    fn is_over(&self, at: u64) -> bool {
        let last = self.at.max(self.hold.map_or(0, |hold| hold.until));
        at.saturating_sub(last) > MEMORY
    }
}

/// The most callers with a row.
pub(super) const MOST: usize = 4096;
/// The time for which a failure is held against its caller.
const MEMORY: u64 = Duration::from_secs(60).as_nanos() as u64;
/// The time after which a caller may come back whose probe is under way.
const SOON: u64 = Duration::from_secs(1).as_nanos() as u64;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_thousand_keys_more_than_there_is_room_for_displace_the_oldest() {
        let mut callers = Callers::default();
        for caller in 1..=MOST as u64 + 1000 {
            callers.fail(caller, None, 1, 0, caller);
        }
        assert_eq!(callers.rows.len(), MOST);
        assert!(callers.rows.keys().all(|caller| *caller > 1000));
        callers.purge(60 * SECOND + 1500);
        assert!(!callers.is_empty());
        callers.purge(60 * SECOND + 10_000);
        assert!(callers.is_empty());
    }

    #[test]
    fn a_held_caller_has_one_probe_at_once_and_another_when_that_is_over() {
        let mut callers = Callers::default();
        callers.hold(7, Hold { until: 10 * SECOND, single_at: 5 * SECOND, ..Hold::default() }, 0, 0);
        let mut view = |is_only_way, next, at| callers.view(7, || 1, is_only_way, (next, 100 * SECOND), at);
        assert_eq!(view(false, 1, 9 * SECOND), View::Refused { until: 10 * SECOND });
        assert_eq!(view(true, 2, 5 * SECOND), View::Probe(2));
        assert_eq!(view(true, 3, 10 * SECOND), View::Refused { until: 11 * SECOND });
        assert!(!callers.give_back(7, 3) && callers.give_back(7, 2));
        assert_eq!(callers.view(7, || 1, false, (4, 100 * SECOND), 10 * SECOND), View::Probe(4));
        assert_eq!(callers.view(8, || 1, false, (5, 100 * SECOND), 10 * SECOND), View::Free);
    }

    #[test]
    fn another_prompt_of_a_held_caller_is_its_probe() {
        let mut callers = Callers::default();
        (0..3).for_each(|at| assert_eq!(callers.fail(7, Some(1), 1, 0, at), at as u32 + 1));
        callers.hold(7, Hold { until: SECOND, single_at: SECOND, ..Hold::default() }, 0, 3);
        assert_eq!(callers.view(7, || 1, false, (0, SECOND), 4), View::Refused { until: SECOND });
        assert_eq!(callers.view(7, || 2, false, (0, SECOND), 4), View::Probe(0));
    }

    #[test]
    fn others_count_as_served_after_the_first_failure_only() {
        let mut callers = Callers::default();
        callers.fail(7, None, 1, 5, 0);
        assert!(!callers.is_another_served(7, 5) && callers.is_another_served(7, 6));
        assert!(!callers.is_another_served(8, 6) && !callers.is_another_served(UNNAMED, 6));
        // A minute later its row begins anew.
        assert_eq!(callers.fail(7, None, 1, 9, 61 * SECOND), 1);
        assert!(!callers.is_another_served(7, 9));
    }
}
