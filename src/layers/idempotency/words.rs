//! The results of calls, as sent to the stores. They are sent again to a store that was unreachable or may have
//! lost them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Ticket, key::Same, layer::Settings};
use crate::{
    internal::sync::{Mutex, lock},
    layers::cache::Answer,
};

/// The largest number of stores: a quick one, and a durable one beneath it.
pub(super) const STORES: usize = 2;

/// The ticket from each store that has one.
pub(super) type Tickets = [Option<Ticket>; STORES];

/// The result of one call.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) same: Same,
    pub(super) what: What,
    pub(super) tickets: Tickets,
    /// The stores that have it.
    pub(super) told: [bool; STORES],
    pub(super) settings: Settings,
    number: u64,
    said_at: Instant,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Keep(Arc<Answer>),
    GiveBack,
}

/// The most recent results.
#[derive(Debug, Default)]
pub(super) struct Words(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    words: VecDeque<Word>,
    bytes: u64,
    last_number: u64,
}

/// The limit on the answers among them, in bytes; over it, the oldest result goes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// The limit on their number.
const MAX_WORDS: usize = 8192;
/// The time for which an answer is sent again to a store that missed it.
const UNTOLD: Duration = Duration::from_secs(600);
/// The time for which a known answer is sent again to a store that comes back: it may have been restored to an
/// earlier state.
const TOLD: Duration = Duration::from_secs(60);

impl Word {
    pub(super) fn new(same: Same, what: What, tickets: Tickets, told: [bool; STORES], settings: Settings) -> Self {
        Self { same, what, tickets, told, settings, number: 0, said_at: Instant::now() }
    }

    pub(super) fn is_told(&self) -> bool {
        self.told.iter().all(|told| *told)
    }

    fn bytes(&self) -> u64 {
        match &self.what {
            What::Keep(answer) => answer.size(),
            What::GiveBack => 0,
        }
    }

    /// Returns whether the result has expired.
    fn is_over(&self, now: Instant) -> bool {
        let matters = match &self.what {
            // After the lease, the key is free by itself.
            What::GiveBack => self.settings.lease,
            What::Keep(_) if self.is_told() => TOLD.max(self.settings.lease),
            What::Keep(_) => UNTOLD,
        };
        now.saturating_duration_since(self.said_at) >= matters
    }
}

impl Words {
    pub(super) fn put(&self, mut word: Word) {
        let mut kept = lock(&self.0);
        let now = Instant::now();
        kept.last_number += 1;
        word.number = kept.last_number;
        kept.bytes += word.bytes();
        kept.words.push_back(word);
        while kept.words.front().is_some_and(|word| word.is_over(now))
            || kept.bytes > MAX_BYTES
            || kept.words.len() > MAX_WORDS
        {
            let Some(gone) = kept.words.pop_front() else { break };
            kept.bytes = kept.bytes.saturating_sub(gone.bytes());
        }
    }

    /// Returns the results that some store has missed.
    pub(super) fn untold(&self) -> Vec<Word> {
        let now = Instant::now();
        lock(&self.0).words.iter().filter(|word| !word.is_told() && !word.is_over(now)).cloned().collect()
    }

    /// Records the progress of sending a result.
    pub(super) fn note(&self, word: &Word) {
        let mut kept = lock(&self.0);
        // The results are in the order of their numbers.
        let place = kept.words.partition_point(|other| other.number < word.number);
        if let Some(there) = kept.words.get_mut(place).filter(|there| there.number == word.number) {
            (there.tickets, there.told) = (word.tickets, word.told);
        }
    }

    /// Marks a returned store's results to be sent again, since the store may have lost them. Returns whether there
    /// is anything to send.
    pub(super) fn tell_again(&self, place: usize) -> bool {
        let now = Instant::now();
        let mut kept = lock(&self.0);
        let mut again = false;
        for word in kept.words.iter_mut().filter(|word| !word.is_over(now)) {
            // A store cannot lose a key that was released.
            if matches!(word.what, What::Keep(_)) {
                word.told[place] = false;
            }
            again |= !word.is_told();
        }
        again
    }
}
