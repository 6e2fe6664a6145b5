//! What became of calls, as the stores are told: again, where one could not be told or may have forgotten it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Ticket, key::Same, layer::Settings};
use crate::{
    internal::sync::{Mutex, lock},
    layers::cache::Answer,
};

/// How many stores there are at the most: one that is quick, and one beneath it that lasts.
pub(super) const STORES: usize = 2;

/// A ticket of each store, where there is one.
pub(super) type Tickets = [Option<Ticket>; STORES];

/// What became of one call.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) same: Same,
    pub(super) what: What,
    pub(super) tickets: Tickets,
    /// The stores that have been told.
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

/// The last of them.
#[derive(Debug, Default)]
pub(super) struct Words(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    words: VecDeque<Word>,
    bytes: u64,
    last_number: u64,
}

/// What the answers among them may take, in bytes; over it, the oldest word goes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// How many there may be.
const MAX_WORDS: usize = 8192;
/// How long an answer is told again that could not be told.
const UNTOLD: Duration = Duration::from_secs(600);
/// How long a store that comes back is told again what it was told before: it may have been restored to an earlier state.
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

    /// Nobody needs it any more.
    fn is_over(&self, now: Instant) -> bool {
        let matters = match &self.what {
            // After it the key is free by itself.
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

    /// Those that not all stores have been told.
    pub(super) fn untold(&self) -> Vec<Word> {
        let now = Instant::now();
        lock(&self.0).words.iter().filter(|word| !word.is_told() && !word.is_over(now)).cloned().collect()
    }

    /// How far the telling of one has come.
    pub(super) fn note(&self, word: &Word) {
        let mut kept = lock(&self.0);
        // In the order of their numbers.
        let place = kept.words.partition_point(|other| other.number < word.number);
        if let Some(there) = kept.words.get_mut(place).filter(|there| there.number == word.number) {
            (there.tickets, there.told) = (word.tickets, word.told);
        }
    }

    /// A store has come back: it may have forgotten what it was told last. Whether there is something to tell.
    pub(super) fn tell_again(&self, place: usize) -> bool {
        let now = Instant::now();
        let mut kept = lock(&self.0);
        let mut again = false;
        for word in kept.words.iter_mut().filter(|word| !word.is_over(now)) {
            // A key that was given back is none that a store could have forgotten.
            if matches!(word.what, What::Keep(_)) {
                word.told[place] = false;
            }
            again |= !word.is_told();
        }
        again
    }
}
