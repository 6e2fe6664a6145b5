//! A meter of one cap's spent and reserved amounts in its period: a few atomics, and no clock of its own.

use crate::internal::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::SeqCst},
    lock,
};

/// The money of one cap in one period. Amounts are billionths of a dollar, dates seconds.
///
/// An amount that was admitted in one period and is settled in another counts in neither: it was paid for in the
/// period in which it began.
#[derive(Debug)]
pub(super) struct Meter {
    /// The spent and reserved amounts.
    used: AtomicU64,
    spent: AtomicU64,
    /// The amount up to which this replica may spend and reserve. `AMOUNT`, or one of another period, is none.
    room: AtomicU64,
    /// The shares that were reported, a bit for each.
    reported: AtomicU64,
    /// The end of the period.
    ends: AtomicU64,
    turning: Mutex<()>,
}

/// An amount and its period, in one word, so that one exchange sees both.
///
/// Eight bits distinguish periods. A request would have to last for 256 periods, hours each at the least, to be
/// mistaken for one of a later period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

const AMOUNT: u64 = (1 << 56) - 1;

impl Word {
    fn new(period: u8, amount: u64) -> Self {
        Self(u64::from(period) << 56 | amount.min(AMOUNT))
    }

    fn period(self) -> u8 {
        (self.0 >> 56) as u8
    }

    fn amount(self) -> u64 {
        self.0 & AMOUNT
    }
}

/// The outcome of an attempt to reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReserveOutcome {
    /// The period in which the amount counts.
    pub(super) period: u8,
    /// True if there was room. Otherwise the amount was taken only if it was forced.
    pub(super) fits: bool,
}

/// A period that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeriodEnd {
    /// True if a share of it was reported.
    pub(super) was_reported: bool,
}

impl Meter {
    /// Creates a meter for a period that ends then, with nothing spent.
    pub(super) fn new(ends: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            spent: AtomicU64::new(0),
            room: AtomicU64::new(AMOUNT),
            reported: AtomicU64::new(0),
            ends: AtomicU64::new(ends),
            turning: Mutex::new(()),
        }
    }

    /// Returns the end of the period.
    pub(super) fn ends(&self) -> u64 {
        self.ends.load(SeqCst)
    }

    /// Begins the period that contains `now`, if the last one is over. `end` returns when it ends.
    #[inline]
    pub(super) fn turn(&self, now: u64, end: impl FnOnce() -> u64) -> Option<PeriodEnd> {
        if now < self.ends() { None } else { self.turn_over(now, end) }
    }

    #[cold]
    fn turn_over(&self, now: u64, end: impl FnOnce() -> u64) -> Option<PeriodEnd> {
        let _turning = lock(&self.turning);
        if now < self.ends() {
            return None;
        }
        let next = Word(self.reported.load(SeqCst)).period().wrapping_add(1);
        let reported = Word(self.reported.swap(Word::new(next, 0).0, SeqCst));
        // `used` comes last but one: a thread that has reserved in the new period finds all else in place. Swaps,
        // since a bare store has no place in the order of other threads' exchanges.
        self.spent.swap(Word::new(next, 0).0, SeqCst);
        self.used.swap(Word::new(next, 0).0, SeqCst);
        self.ends.store(end(), SeqCst);
        Some(PeriodEnd { was_reported: reported.amount() != 0 })
    }

    /// Reserves an amount. If there is no room, it is taken only if `force` is set.
    #[inline]
    pub(super) fn reserve(&self, amount: u64, limit: u64, force: bool) -> ReserveOutcome {
        let mut now = Word(self.used.load(SeqCst));
        loop {
            let used = now.amount().saturating_add(amount);
            let fits = now.amount() < limit && used <= limit;
            if !fits && !force {
                return ReserveOutcome { period: now.period(), fits };
            }
            let next = Word::new(now.period(), used);
            match self.used.compare_exchange_weak(now.0, next.0, SeqCst, SeqCst) {
                Ok(_) => return ReserveOutcome { period: now.period(), fits },
                Err(other) => now = Word(other),
            }
        }
    }

    /// Replaces the amount reserved in `period` with its actual cost; does nothing if that period is over. Returns
    /// the amount spent by now, if this has added to it.
    #[inline]
    pub(super) fn settle(&self, period: u8, reserved: u64, cost: u64) -> Option<u64> {
        let settled = |word: u64, reserved: u64| {
            let word = Word(word);
            let amount = word.amount().saturating_sub(reserved).saturating_add(cost);
            (word.period() == period).then(|| Word::new(period, amount).0)
        };
        let _ = self.used.fetch_update(SeqCst, SeqCst, |word| settled(word, reserved));
        if cost == 0 {
            return None;
        }
        let before = self.spent.fetch_update(SeqCst, SeqCst, |word| settled(word, 0)).ok()?;
        settled(before, 0).map(|word| Word(word).amount())
    }

    /// Raises the amount spent in `period` to a sum in which it is contained. Returns the sum, if that was more, and
    /// what was added.
    pub(super) fn raise(&self, period: u8, sum: u64) -> Option<(u64, u64)> {
        let before = Word(self.spent.load(SeqCst));
        let more = sum.checked_sub(before.amount()).filter(|more| *more > 0 && before.period() == period)?;
        Some((self.settle(period, 0, more)?, more))
    }

    /// Returns the number of the period.
    pub(super) fn period(&self) -> u8 {
        Word(self.used.load(SeqCst)).period()
    }

    /// Returns the amount up to which this replica may spend and reserve in this period. `first` returns that of a
    /// period that has none yet; `None` sets no bound.
    #[inline]
    pub(super) fn room(&self, first: impl FnOnce(u64) -> Option<u64>) -> u64 {
        let room = Word(self.room.load(SeqCst));
        let period = self.period();
        if room.period() == period && room.amount() != AMOUNT {
            return room.amount();
        }
        let Some(first) = first(self.amounts().0) else { return AMOUNT };
        let first = Word::new(period, first);
        match self.room.compare_exchange(room.0, first.0, SeqCst, SeqCst) {
            Ok(_) => first.amount(),
            // Another thread has set one; one of another period is the next request's concern.
            Err(now) => Word(now).amount(),
        }
    }

    /// Sets the amount up to which this replica may spend and reserve in `period`; `None` sets no bound. Does nothing
    /// if that period is over.
    pub(super) fn set_room(&self, period: u8, room: Option<u64>) {
        if self.period() == period {
            self.room.store(Word::new(period, room.unwrap_or(AMOUNT)).0, SeqCst);
        }
    }

    /// Returns the amount spent so far, and the amount spent or reserved.
    pub(super) fn amounts(&self) -> (u64, u64) {
        let spent = Word(self.spent.load(SeqCst)).amount();
        (spent, Word(self.used.load(SeqCst)).amount().max(spent))
    }

    /// Marks these shares as reported in `period`, and returns those that were not yet. Returns none if that period
    /// is over.
    pub(super) fn mark_reported(&self, period: u8, shares: u64) -> u64 {
        let reported = self.reported.fetch_update(SeqCst, SeqCst, |word| {
            let word = Word(word);
            let new = word.period() == period && word.amount() & shares != shares;
            new.then(|| Word::new(period, word.amount() | shares).0)
        });
        reported.map_or(0, |before| shares & !Word(before).amount())
    }

    /// Clears the marks of all reported shares except these.
    pub(super) fn unmark_reported(&self, but: u64) {
        let _ = self.reported.fetch_update(SeqCst, SeqCst, |word| {
            let word = Word(word);
            Some(Word::new(word.period(), word.amount() & but).0)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(meter: &Meter, amount: u64, limit: u64) -> bool {
        meter.reserve(amount, limit, false).fits
    }

    #[test]
    fn what_is_reserved_and_spent_stays_within_the_limit() {
        let meter = Meter::new(100);
        assert!(took(&meter, 60, 100) && took(&meter, 40, 100), "an exact fit is one");
        assert!(!took(&meter, 1, 100) && !took(&meter, 0, 100), "a limit that is reached is closed");
        assert_eq!(meter.amounts(), (0, 100));
        meter.settle(0, 60, 10);
        assert_eq!(meter.amounts(), (10, 50));
        assert!(took(&meter, 50, 100));
        meter.settle(0, 40, 90);
        assert_eq!(meter.amounts(), (100, 150), "what was spent is spent, fitting or not");
    }

    #[test]
    fn a_sum_raises_what_is_spent_once_and_lowers_nothing() {
        let meter = Meter::new(100);
        assert!(took(&meter, 60, 100));
        meter.settle(0, 20, 10);
        assert_eq!(meter.raise(0, 35), Some((35, 25)));
        assert_eq!(meter.amounts(), (35, 75), "the reservation stays");
        assert_eq!((meter.raise(0, 35), meter.raise(0, 20), meter.amounts()), (None, None, (35, 75)));
        assert!(took(&meter, 25, 100) && !took(&meter, 1, 100));
        meter.turn(100, || 200);
        assert_eq!((meter.raise(0, 9), meter.raise(1, 7), meter.amounts()), (None, Some((7, 7)), (7, 7)));
    }

    #[test]
    fn a_room_is_of_its_period_and_the_first_is_set_once() {
        let meter = Meter::new(100);
        assert_eq!(meter.room(|_| None), AMOUNT);
        assert_eq!((meter.room(|spent| Some(spent + 5)), meter.room(|_| Some(9))), (5, 5));
        meter.set_room(0, Some(7));
        assert_eq!(meter.room(|_| Some(9)), 7);
        meter.turn(100, || 200);
        assert_eq!(meter.room(|_| Some(9)), 9, "that of the last period is none");
        meter.set_room(0, Some(3));
        assert_eq!(meter.room(|_| Some(4)), 9, "a late one changes nothing");
        meter.set_room(1, None);
        assert_eq!(meter.room(|_| None), AMOUNT);
    }

    #[test]
    fn a_limit_of_nothing_takes_nothing() {
        assert!(!took(&Meter::new(1), 0, 0));
    }

    #[test]
    fn force_takes_what_does_not_fit() {
        let meter = Meter::new(100);
        let over = meter.reserve(200, 100, true);
        assert_eq!((over.fits, meter.amounts()), (false, (0, 200)));
    }

    #[test]
    fn a_new_period_begins_with_nothing_and_old_calls_do_not_count_in_it() {
        let meter = Meter::new(100);
        let old = meter.reserve(10, 100, false);
        meter.settle(old.period, 0, 5);
        assert_eq!(meter.turn(99, || 200), None);
        assert_eq!(meter.turn(100, || 200), Some(PeriodEnd { was_reported: false }));
        assert_eq!(meter.turn(100, || 300), None, "once");
        let new = meter.reserve(7, 100, false);
        meter.settle(old.period, 10, 50);
        assert_eq!((meter.amounts(), meter.ends()), ((0, 7), 200));
        meter.settle(new.period, 7, 8);
        assert_eq!(meter.amounts(), (8, 8));
    }

    #[test]
    fn each_share_is_told_of_once_a_period() {
        let meter = Meter::new(100);
        assert_eq!([0b01, 0b01, 0b11].map(|shares| meter.mark_reported(0, shares)), [0b01, 0, 0b10]);
        meter.unmark_reported(0b10);
        assert_eq!(meter.mark_reported(0, 0b11), 0b01);
        assert_eq!(meter.turn(100, || 200), Some(PeriodEnd { was_reported: true }));
        assert_eq!(
            (meter.mark_reported(0, 0b01), meter.mark_reported(1, 0b01)),
            (0, 0b01),
            "a late one tells of nothing"
        );
    }

    #[test]
    fn amounts_stop_at_their_end_and_leave_the_period_alone() {
        let meter = Meter::new(100);
        let one = meter.reserve(u64::MAX, u64::MAX, false);
        assert_eq!(meter.reserve(u64::MAX, u64::MAX, true).period, one.period);
        assert_eq!(meter.amounts(), (0, AMOUNT));
        meter.settle(one.period, u64::MAX, 3);
        assert_eq!(meter.amounts(), (3, 3));
    }

    #[test]
    fn threads_that_reserve_settle_and_turn_over_leave_nothing_behind() {
        let meter = Meter::new(100);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let meter = &meter;
                scope.spawn(move || {
                    for n in 0..10_000u64 {
                        let reserved = meter.reserve(10, 1000, false);
                        assert!(meter.amounts().1 <= 1000);
                        if reserved.fits {
                            meter.settle(reserved.period, 10, n % 2);
                        }
                        if thread == 0 && n % 100 == 0 {
                            let now = 100 + n;
                            meter.turn(now, || now + 100);
                        }
                    }
                });
            }
        });
        let (spent, used) = meter.amounts();
        assert_eq!(spent, used, "no reservation is left");
    }
}

#[cfg(steadfast_loom)]
pub(crate) mod races {
    use super::*;
    use crate::internal::sync::{Arc, model, thread};

    /// Two requests of 10 each under a limit of 15, with or without a new period among them.
    fn race(turns: bool) {
        model(move || {
            let meter = Arc::new(Meter::new(100));
            let request = |cost: u64| {
                let meter = meter.clone();
                thread::spawn(move || {
                    let reserved = meter.reserve(10, 15, false);
                    if reserved.fits {
                        meter.settle(reserved.period, 10, cost);
                    }
                    reserved
                })
            };
            let requests = [request(10), request(10)];
            if turns {
                assert!(meter.turn(100, || 200).is_some());
            }
            let taken =
                requests.map(|request| request.join().unwrap()).map(|reserved| (reserved.fits, reserved.period));
            let (spent, used) = meter.amounts();
            let of_now = taken.iter().filter(|(taken, period)| *taken && *period == u8::from(turns)).count();
            assert_eq!((spent, used), (10 * of_now as u64, spent), "{taken:?}");
            assert!(of_now <= 1 && taken.iter().any(|(taken, _)| *taken), "{taken:?}");
        });
    }

    pub(crate) fn two_requests_never_share_the_room_for_one() {
        race(false);
    }

    pub(crate) fn a_period_begins_with_nothing_whoever_is_settled_meanwhile() {
        race(true);
    }

    pub(crate) fn a_period_turns_once() {
        model(|| {
            let meter = Arc::new(Meter::new(100));
            let turn = || {
                let meter = meter.clone();
                thread::spawn(move || meter.turn(100, || 200).is_some())
            };
            let turned = [turn(), turn()].map(|turn| turn.join().unwrap());
            assert_eq!(turned.iter().filter(|turned| **turned).count(), 1);
            assert_eq!(meter.reserve(1, 10, false).period, 1);
        });
    }
}
