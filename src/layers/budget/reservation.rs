use std::{fmt, sync::Arc};

use tokio::time::Instant;

use super::account::{Account, Common};
use crate::{chat::Usage, layers::shares::Hold, request::unseen_answer};

/// A request's reservations under each cap that counts it. Dropping it releases them all.
#[derive(Default)]
pub(super) struct Reservation {
    /// Few caps count one request.
    few: [Option<Entry>; FEW],
    more: Vec<Entry>,
    /// The index of the price at which it was reserved.
    pub(super) price: Option<u32>,
    /// The index of the price of the requested model, or of the layer's own, if it has one.
    pub(super) asked: Option<u32>,
    /// The approximate number of tokens in the prompt.
    pub(super) prompt: u32,
    /// The most tokens of the answer.
    pub(super) output: u32,
    /// True if the answer comes in pieces.
    pub(super) stream: bool,
    /// The time of the admission.
    pub(super) begun: Option<Instant>,
}

/// A reservation under one cap.
pub(super) struct Entry {
    pub(super) account: Arc<Account>,
    /// The period in which it counts.
    pub(super) period: u8,
    /// The reserved amount, in millionths of a dollar. A request that steps down beyond its key's share reserves
    /// nothing.
    pub(super) reserved: u32,
    /// The key's part of a shared cap.
    pub(super) hold: Option<Hold>,
}

impl Entry {
    /// Counts this cost as spent, and releases the rest.
    fn settle(self, cost: u64) {
        self.account.count(self.period, nanos(self.reserved), cost);
    }
}

/// Returns an amount of billionths of a dollar in millionths, rounded up.
pub(super) fn millionths(nanos: u64) -> u32 {
    u32::try_from(nanos.div_ceil(1000)).unwrap_or(u32::MAX)
}

/// Returns an amount of millionths of a dollar in billionths.
fn nanos(millionths: u32) -> u64 {
    u64::from(millionths) * 1000
}

const FEW: usize = 3;

impl Reservation {
    /// Returns what the request costs with an answer of so many tokens, in billionths of a dollar: whole millionths.
    pub(super) fn cost(&self, common: &Common, output: u64) -> u64 {
        let Some(price) = self.price else { return 0 };
        let cost = common.prices.at(price).cost(&Usage::new(self.prompt.into(), output)).nanos();
        nanos(millionths(cost))
    }

    /// Returns the cost, in billionths of a dollar, of a call that ended without an answer, though the provider may
    /// have worked. It is the prompt, and of a whole answer the part that the time allows.
    pub(super) fn unseen(&self, common: &Common, now: Instant) -> u64 {
        let output = match self.begun {
            Some(begun) if !self.stream => unseen_answer(now.saturating_duration_since(begun), self.output.into()),
            _ => 0,
        };
        self.cost(common, output)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.few[0].is_none()
    }

    pub(super) fn push(&mut self, entry: Entry) {
        match self.few.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(entry),
            None => self.more.push(entry),
        }
    }

    /// Counts this cost as spent, and releases the rest.
    pub(super) fn settle(self, cost: u64) {
        self.release().for_each(|entry| entry.settle(cost));
    }

    /// Returns the reservations; the caller must settle them.
    pub(super) fn release(mut self) -> impl Iterator<Item = Entry> {
        let few = std::mem::take(&mut self.few);
        few.into_iter().flatten().chain(std::mem::take(&mut self.more))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.few.iter_mut().filter_map(Option::take).chain(self.more.drain(..)).for_each(|entry| entry.settle(0));
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caps = self.few.iter().flatten().count() + self.more.len();
        f.debug_struct("Reservation").field("caps", &caps).field("output", &self.output).finish_non_exhaustive()
    }
}
