//! The results of calls, as sent to the stores. They are sent again to a store that was unreachable or may have
//! lost them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Ticket, key::KeyedInput, settings::Settings};
use crate::{
    cache::Answer,
    internal::sync::{Mutex, lock},
};

/// The largest number of stores: a quick one, and a durable one beneath it.
pub(super) const STORES: usize = 2;

/// The ticket from each store that has one.
pub(super) type Tickets = [Option<Ticket>; STORES];

/// The result of one call.
#[derive(Clone, Debug)]
pub(super) struct CallResult {
    pub(super) same: KeyedInput,
    pub(super) what: Resolution,
    pub(super) tickets: Tickets,
    /// The stores that have it.
    pub(super) stored: [bool; STORES],
    pub(super) settings: Settings,
    number: u64,
    made_at: Instant,
}

#[derive(Clone, Debug)]
pub(super) enum Resolution {
    Keep(Arc<Answer>),
    Release,
}

/// The most recent results.
#[derive(Debug, Default)]
pub(super) struct ResultLog(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    results: VecDeque<CallResult>,
    bytes: u64,
    last_number: u64,
}

/// The limit on the answers among them, in bytes; over it, the oldest result goes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// The limit on their number.
const MAX_RESULTS: usize = 8192;
/// The time for which an answer is sent again to a store that missed it.
const RESEND_MISSED: Duration = Duration::from_secs(600);
/// The time for which a known answer is sent again to a store that comes back: it may have been restored to an
/// earlier state.
const RESEND_KNOWN: Duration = Duration::from_secs(60);

impl CallResult {
    pub(super) fn new(
        same: KeyedInput,
        what: Resolution,
        tickets: Tickets,
        stored: [bool; STORES],
        settings: Settings,
    ) -> Self {
        Self { same, what, tickets, stored, settings, number: 0, made_at: Instant::now() }
    }

    pub(super) fn is_stored(&self) -> bool {
        self.stored.iter().all(|told| *told)
    }

    fn bytes(&self) -> u64 {
        match &self.what {
            Resolution::Keep(answer) => answer.size(),
            Resolution::Release => 0,
        }
    }

    /// Returns its place in the order in which the results were made.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Returns whether the result has expired.
    fn is_over(&self, now: Instant) -> bool {
        let matters = match &self.what {
            // After the lease, the key is free by itself.
            Resolution::Release => self.settings.lease,
            Resolution::Keep(_) if self.is_stored() => RESEND_KNOWN.max(self.settings.lease),
            Resolution::Keep(_) => RESEND_MISSED,
        };
        now.saturating_duration_since(self.made_at) >= matters
    }
}

impl ResultLog {
    pub(super) fn put(&self, mut result: CallResult) {
        let mut entries = lock(&self.0);
        let now = Instant::now();
        entries.last_number += 1;
        result.number = entries.last_number;
        entries.bytes += result.bytes();
        entries.results.push_back(result);
        while entries.results.front().is_some_and(|result| result.is_over(now))
            || entries.bytes > MAX_BYTES
            || entries.results.len() > MAX_RESULTS
        {
            let Some(gone) = entries.results.pop_front() else { break };
            entries.bytes = entries.bytes.saturating_sub(gone.bytes());
        }
    }

    /// Returns up to `count` results with lower numbers that a store has missed, the newest first. It leaves out the
    /// stores that are silent.
    pub(super) fn pending(&self, before: u64, count: usize, is_silent: [bool; STORES]) -> Vec<CallResult> {
        let now = Instant::now();
        let entries = lock(&self.0);
        let is_due = |result: &&CallResult| {
            let can_send = result.stored.iter().zip(is_silent).any(|(stored, is_silent)| !stored && !is_silent);
            can_send && !result.is_over(now)
        };
        // The results are in the order of their numbers.
        let end = entries.results.partition_point(|result| result.number < before);
        entries.results.range(..end).rev().filter(is_due).take(count).cloned().collect()
    }

    pub(super) fn has_pending(&self) -> bool {
        let now = Instant::now();
        lock(&self.0).results.iter().any(|result| !result.is_stored() && !result.is_over(now))
    }

    /// Records the progress of sending a result.
    pub(super) fn record_progress(&self, result: &CallResult) {
        let mut entries = lock(&self.0);
        // The results are in the order of their numbers.
        let place = entries.results.partition_point(|other| other.number < result.number);
        if let Some(there) = entries.results.get_mut(place).filter(|there| there.number == result.number) {
            (there.tickets, there.stored) = (result.tickets, result.stored);
        }
    }

    /// Marks a returned store's results to be sent again, since the store may have lost them. Returns whether there
    /// is anything to send.
    pub(super) fn resend(&self, place: usize) -> bool {
        let now = Instant::now();
        let mut entries = lock(&self.0);
        let mut again = false;
        for result in entries.results.iter_mut().filter(|result| !result.is_over(now)) {
            // A store cannot lose a key that was released.
            if matches!(result.what, Resolution::Keep(_)) {
                result.stored[place] = false;
            }
            again |= !result.is_stored();
        }
        again
    }
}
