use std::{fmt, sync::Arc};

use super::account::Account;

/// A request's reservations under each cap that counts it. Dropping it releases them all.
#[derive(Default)]
pub(super) struct Reservation {
    /// Few caps count one request.
    few: [Option<(Arc<Account>, u8)>; FEW],
    more: Vec<(Arc<Account>, u8)>,
    /// The index of the price at which it was reserved.
    pub(super) price: Option<u32>,
    /// The reserved amount, equal under each cap, in millionths of a dollar.
    pub(super) reserved: u32,
    /// The approximate number of tokens in the prompt.
    pub(super) prompt: u32,
}

const FEW: usize = 3;

impl Reservation {
    /// Returns the reserved amount, in billionths of a dollar.
    pub(super) fn amount(&self) -> u64 {
        u64::from(self.reserved) * 1000
    }

    pub(super) fn is_empty(&self) -> bool {
        self.few[0].is_none()
    }

    pub(super) fn push(&mut self, account: Arc<Account>, period: u8) {
        match self.few.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some((account, period)),
            None => self.more.push((account, period)),
        }
    }

    /// Counts this cost as spent, and releases the rest.
    pub(super) fn settle(self, cost: u64) {
        let amount = self.amount();
        for (account, period) in self.release() {
            account.count(period, amount, cost);
        }
    }

    /// Returns the reservations; the caller must settle them.
    pub(super) fn release(mut self) -> impl Iterator<Item = (Arc<Account>, u8)> {
        let few = std::mem::take(&mut self.few);
        few.into_iter().flatten().chain(std::mem::take(&mut self.more))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let amount = self.amount();
        for (account, period) in self.few.iter_mut().filter_map(Option::take).chain(self.more.drain(..)) {
            account.count(period, amount, 0);
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caps = self.few.iter().flatten().count() + self.more.len();
        f.debug_struct("Reservation").field("caps", &caps).field("reserved", &self.reserved).finish_non_exhaustive()
    }
}
