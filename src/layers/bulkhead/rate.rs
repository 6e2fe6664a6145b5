//! Rates: limits on the amount that may pass in a minute.
//!
//! The generic cell rate algorithm (GCRA; ITU-T I.371, 1996) has one number for each rate, the *theoretical arrival
//! time*. At that time, all that was let through so far would have been used up at the steady rate. It is a token
//! bucket that needs no timer to fill it and fits into one atomic word.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    InvalidConfig,
    layers::shares::{AGAIN_AFTER, Level, Shares, Verdict},
};

/// A limit on the amount that may pass in a minute, and at once.
///
/// A token bucket: it refills steadily, up to the burst. The default burst is a whole minute's worth, as providers
/// with buckets document theirs (Anthropic, "Rate limits"); a smaller one spreads the calls out. A rate of 0 lets
/// nothing pass.
///
/// A `u32` always converts into a valid rate; a number from data goes through [`per_minute`](Self::per_minute).
///
/// ```
/// use steadfast::layers::bulkhead::Rate;
///
/// let rate = Rate::per_minute(90_000.0)?.burst(10_000);
/// assert!(Rate::per_minute(-1.0).is_err());
/// assert!(Rate::per_minute(f64::NAN).is_err());
/// # Ok::<_, steadfast::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    per_minute: f64,
    burst: u32,
}

impl Rate {
    /// Creates a rate of so many in a minute, with a burst of as many, though at least 1.
    ///
    /// # Errors
    ///
    /// Fails for negative, infinite and NaN amounts.
    pub fn per_minute(amount: f64) -> Result<Self, InvalidConfig> {
        if amount.is_nan() || amount.is_infinite() || amount < 0.0 {
            let problem = format!("{amount} is not a rate; use a number of 0 or more, or leave it out for no limit");
            return Err(InvalidConfig::new("per_minute", problem));
        }
        // A float that does not fit becomes the largest that does.
        Ok(Self { per_minute: amount, burst: (amount as u32).max(1) })
    }

    /// Sets the amount that may pass at once after a pause. Default: a minute's worth. 0 counts as 1.
    #[must_use]
    pub fn burst(mut self, amount: u32) -> Self {
        self.burst = amount.max(1);
        self
    }
}

impl From<u32> for Rate {
    fn from(per_minute: u32) -> Self {
        Self { per_minute: per_minute.into(), burst: per_minute.max(1) }
    }
}

/// The refusal of a rate: the time until the units would pass, `None` for never.
pub(super) type Closed = Option<Duration>;

/// The amount that a rate would let pass now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLevel {
    /// The most that may pass at once, after a pause.
    pub limit: u32,
    /// The amount that may pass now.
    pub left: u32,
    /// The time until all of it may pass; of a rate of 0 the longest there is.
    pub full_in: Duration,
}

/// The reason for which a rate lets nothing pass.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Refused {
    Rate(Closed),
    /// The key has its share, and other keys want the rest.
    Share,
}

impl Refused {
    /// Returns the time until the units would pass.
    fn retry_after(self) -> Closed {
        match self {
            Self::Rate(closed) => closed,
            Self::Share => Some(AGAIN_AFTER),
        }
    }
}

/// One rate's state. Times are nanoseconds since an origin that the caller keeps.
#[derive(Debug)]
pub(super) struct Gcra {
    /// The nanoseconds of the steady rate that one unit takes up. Infinite for a rate of 0.
    interval: f64,
    burst: u32,
    /// The theoretical arrival time.
    tat: AtomicU64,
    /// The units used here, a running total which may wrap, as reported to other replicas.
    used: AtomicI64,
    /// The units that each key has used, and that have not come back yet.
    shares: Shares,
}

impl Gcra {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            interval: 60e9 / rate.per_minute,
            burst: rate.burst,
            tat: AtomicU64::new(0),
            used: AtomicI64::new(0),
            shares: Shares::of_rate(rate.per_minute / 60.0),
        }
    }

    /// As [`take`](Self::take), for a request of this key: it is refused with [`Refused::Share`] beyond the key's
    /// share.
    fn take_for(
        &self,
        key: Option<&Arc<str>>,
        at: Instant,
        now: u64,
        amount: u32,
        patience: u64,
    ) -> Result<u64, Refused> {
        let Some(key) = key else { return self.take(now, amount, patience).map_err(Refused::Rate) };
        // Units that come in while a request waits are shared too. The casts saturate.
        let units = |nanos: u64| nanos as f64 / self.interval;
        let level = || Level {
            limit: u64::from(self.burst).saturating_add(units(patience) as u64),
            used: units(self.tat.load(Relaxed).saturating_sub(now)).ceil() as u64,
        };
        let take = || self.take(now, amount, patience).map(Ok).map_err(Err);
        match self.shares.take(key, self.chargeable(amount).into(), at, level, take) {
            Verdict::Granted(taken) | Verdict::Full(taken) => taken.map_err(Refused::Rate),
            Verdict::OverShare => Err(Refused::Share),
        }
    }

    /// As [`settle`](Self::settle), for a request of this key.
    fn settle_for(&self, key: Option<&str>, now: u64, charged: u32, used: u64) {
        if let Some(key) = key {
            self.shares.settle(key, charged.into(), used);
        }
        self.settle(now, charged, used);
    }

    /// Takes `units`, and returns how long to wait before they may be used, if that is at most `patience`.
    /// Otherwise takes nothing. More than the burst counts as the burst, since it could never pass otherwise.
    pub(super) fn take(&self, now: u64, units: u32, patience: u64) -> Result<u64, Closed> {
        if self.interval.is_infinite() {
            return Err(None);
        }
        let units = self.chargeable(units);
        let cost = self.cost(units.into());
        let full = now.saturating_add(self.cost(self.burst.into()));
        let mut tat = self.tat.load(Relaxed);
        loop {
            let next = tat.max(now).saturating_add(cost);
            let wait = next.saturating_sub(full);
            if wait > patience {
                return Err(Some(Duration::from_nanos(wait)));
            }
            match self.tat.compare_exchange_weak(tat, next, Relaxed, Relaxed) {
                Ok(_) => {
                    self.used.fetch_add(units.into(), Relaxed);
                    return Ok(wait);
                }
                Err(changed) => tat = changed,
            }
        }
    }

    fn level(&self, now: u64) -> RateLevel {
        if self.interval.is_infinite() {
            return RateLevel { limit: 0, left: 0, full_in: Duration::MAX };
        }
        let full_in = self.tat.load(Relaxed).saturating_sub(now);
        // The cast saturates.
        let used = (full_in as f64 / self.interval).ceil() as u32;
        let (limit, left) = (self.burst, self.burst.saturating_sub(used));
        RateLevel { limit, left, full_in: Duration::from_nanos(full_in) }
    }

    /// Returns how many of `units` are charged.
    pub(super) fn chargeable(&self, units: u32) -> u32 {
        units.min(self.burst)
    }

    /// Corrects a charge to the units used.
    pub(super) fn settle(&self, now: u64, charged: u32, used: u64) {
        self.used.fetch_add(signed(used).wrapping_sub(charged.into()), Relaxed);
        self.correct(now, self.cost(charged.into()), self.cost(used as f64));
    }

    /// Charges the units used elsewhere; a negative number is a refund.
    fn charge(&self, now: u64, units: f64) {
        // A count above the amount that a hundred replicas with full buckets could use at once is not valid.
        let amount = self.cost(units.abs().min(f64::from(self.burst) * 100.0));
        if units > 0.0 { self.correct(now, 0, amount) } else { self.correct(now, amount, 0) }
    }

    /// Returns the exact amount that is left, below zero for a debt.
    fn left(&self, now: u64) -> f64 {
        let used = self.tat.load(Relaxed).saturating_sub(now) as f64 / self.interval;
        f64::from(self.burst) - used
    }

    /// Replaces a charge by another, both in nanoseconds.
    fn correct(&self, now: u64, charged: u64, used: u64) {
        // The closures never decline, so the updates never fail.
        let _ = if used > charged {
            self.tat.fetch_update(Relaxed, Relaxed, |tat| Some(tat.max(now).saturating_add(used - charged)))
        } else {
            // A time behind the clock means a full bucket, and no fuller.
            self.tat.fetch_update(Relaxed, Relaxed, |tat| Some(tat.saturating_sub(charged - used)))
        };
    }

    fn cost(&self, units: f64) -> u64 {
        // Rounded up, so that the rate is never exceeded; a float that does not fit becomes the largest that does.
        (units * self.interval).ceil() as u64
    }
}

/// A feature's rates.
#[derive(Debug)]
pub(super) struct Rates {
    requests: Option<Gcra>,
    tokens: Option<Gcra>,
    /// The first reading of the clock. A gate made outside of a runtime thus follows the clock of the runtime that
    /// uses it.
    origin: OnceLock<Instant>,
}

/// The rate that did not let a request pass, and the time until it would; `None` for never.
#[derive(Debug, PartialEq)]
pub(super) struct Over {
    pub(super) what: &'static str,
    /// True if the tokens are over theirs.
    pub(super) of_tokens: bool,
    /// True if it is the key's share of the rate that did not let it pass.
    pub(super) of_share: bool,
    pub(super) retry_after: Option<Duration>,
}

impl Rates {
    /// Returns `None` if there is nothing to limit.
    pub(super) fn new(requests: Option<Rate>, tokens: Option<Rate>) -> Option<Self> {
        (requests.is_some() || tokens.is_some()).then(|| Self {
            requests: requests.map(Gcra::new),
            tokens: tokens.map(Gcra::new),
            origin: OnceLock::new(),
        })
    }

    /// Returns whether a request's tokens must be estimated.
    pub(super) fn counts_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Takes one request of so many tokens for a key, if it may be sent after at most `patience`. Returns that wait and
    /// the tokens charged.
    pub(super) fn take(
        &self,
        now: Instant,
        tokens: u32,
        patience: Duration,
        key: Option<&Arc<str>>,
    ) -> Result<(Duration, u32), Over> {
        let (at, patience) = (self.nanos(now), u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX));
        let requests = self.requests.as_ref().map_or(Ok(0), |rate| rate.take_for(key, now, at, 1, patience));
        let charged = self.tokens.as_ref().map_or(0, |rate| rate.chargeable(tokens));
        let taken = self.tokens.as_ref().map_or(Ok(0), |rate| rate.take_for(key, now, at, tokens, patience));
        let key = key.map(|key| &**key);
        match (requests, taken) {
            (Ok(first), Ok(second)) => Ok((Duration::from_nanos(first.max(second)), charged)),
            (Err(refused), Ok(wait)) => {
                self.settle_tokens(now, charged, 0, key);
                let (of_share, retry_after) = (refused == Refused::Share, later(refused.retry_after(), wait));
                Err(Over { what: "requests", of_tokens: false, of_share, retry_after })
            }
            (Ok(wait), Err(refused)) => {
                self.refund_request(key);
                let (of_share, retry_after) = (refused == Refused::Share, later(refused.retry_after(), wait));
                Err(Over { what: "tokens", of_tokens: true, of_share, retry_after })
            }
            (Err(first), Err(second)) => {
                let of_share = [first, second].contains(&Refused::Share);
                let both = first.retry_after().zip(second.retry_after());
                let retry_after = both.map(|(first, second)| first.max(second));
                Err(Over { what: "requests and tokens", of_tokens: true, of_share, retry_after })
            }
        }
    }

    /// Refunds a request that was not sent.
    pub(super) fn refund(&self, charged: u32, key: Option<&str>) {
        self.refund_request(key);
        if let Some(rate) = &self.tokens {
            rate.settle_for(key, 0, charged, 0);
        }
    }

    /// Corrects the charged tokens to those used.
    pub(super) fn settle_tokens(&self, now: Instant, charged: u32, used: u64, key: Option<&str>) {
        if let Some(rate) = &self.tokens {
            rate.settle_for(key, self.nanos(now), charged, used);
        }
    }

    /// Returns the levels of the requests and of the tokens.
    pub(super) fn levels(&self, now: Instant) -> [Option<RateLevel>; 2] {
        let now = self.nanos(now);
        [&self.requests, &self.tokens].map(|rate| rate.as_ref().map(|rate| rate.level(now)))
    }

    fn refund_request(&self, key: Option<&str>) {
        if let Some(rate) = &self.requests {
            rate.settle_for(key, 0, 1, 0);
        }
    }

    fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(*self.origin.get_or_init(|| now));
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The reason for which a [`SharedRate`] has no unit for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReachedRate {
    /// The time after which there may be one; `None` for never.
    pub retry_after: Option<Duration>,
    /// True if the caller's key has its share, and other keys want the rest.
    pub is_share: bool,
}

/// One of a feature's or caller's rates, as other replicas count it too.
#[derive(Clone, Debug)]
pub struct SharedRate {
    rates: Arc<Rates>,
    of_tokens: bool,
}

impl SharedRate {
    /// Creates a rate of requests that belongs to no bulkhead.
    pub fn of_requests(per_minute: NonZeroU32) -> Self {
        let rates = Rates::new(Some(per_minute.get().into()), None).expect("a rate of requests");
        Self { rates: Arc::new(rates), of_tokens: false }
    }

    /// Returns a feature's rates, each with a name that states its limits: a changed rate is another rate.
    pub(super) fn of(rates: &Arc<Rates>) -> impl Iterator<Item = (String, Self)> {
        let both = [(false, &rates.requests, "requests"), (true, &rates.tokens, "tokens")];
        both.into_iter().filter_map(|(of_tokens, rate, what)| {
            let Gcra { interval, burst, .. } = rate.as_ref()?;
            Some((format!("{what} {interval} {burst}"), Self { rates: rates.clone(), of_tokens }))
        })
    }

    fn rate(&self) -> Option<&Gcra> {
        if self.of_tokens { self.rates.tokens.as_ref() } else { self.rates.requests.as_ref() }
    }

    /// Takes a unit. With a key, it takes no more than the key's [share](super#shares).
    ///
    /// # Errors
    ///
    /// There is none for this caller now.
    pub fn take(&self, now: Instant, key: Option<&Arc<str>>) -> Result<(), ReachedRate> {
        let Some(rate) = self.rate() else { return Ok(()) };
        rate.take_for(key, now, self.rates.nanos(now), 1, 0)
            .map(drop)
            .map_err(|refused| ReachedRate { retry_after: refused.retry_after(), is_share: refused == Refused::Share })
    }

    /// Returns its level.
    pub fn level(&self, now: Instant) -> Option<RateLevel> {
        Some(self.rate()?.level(self.rates.nanos(now)))
    }

    /// Returns the exact amount that is left, below zero for a debt.
    pub fn left(&self, now: Instant) -> f64 {
        self.rate().map_or(f64::INFINITY, |rate| rate.left(self.rates.nanos(now)))
    }

    /// Returns whether both have the same state, which survives a reload that leaves the rate unchanged.
    pub fn is_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rates, &other.rates) && self.of_tokens == other.of_tokens
    }

    /// Returns the units used here, a running total which may wrap.
    pub fn used(&self) -> i64 {
        self.rate().map_or(0, |rate| rate.used.load(Relaxed))
    }

    /// Charges the units that other replicas have used, or refunds those that they gave back.
    pub fn charge(&self, now: Instant, units: f64) {
        if let Some(rate) = self.rate() {
            rate.charge(self.rates.nanos(now), units);
        }
    }
}

fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

fn later(retry_after: Closed, wait: u64) -> Closed {
    retry_after.map(|after| after.max(Duration::from_nanos(wait)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60_000_000_000;

    #[test]
    fn what_is_no_rate_is_refused_by_its_field() {
        for bad in [-1.0, -f64::MIN_POSITIVE, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Rate::per_minute(bad).unwrap_err().field(), "per_minute", "{bad}");
        }
        assert_eq!(Rate::per_minute(60.0).unwrap(), Rate::from(60));
    }

    #[test]
    fn a_rate_of_zero_lets_nothing_pass() {
        let gcra = Gcra::new(Rate::from(0));
        assert_eq!(gcra.take(0, 1, u64::MAX), Err(None));
        assert_eq!(gcra.take(u64::MAX, 0, 0), Err(None));
        gcra.settle(0, 1, 0);
        gcra.settle(0, 0, 1);
    }

    #[test]
    fn extreme_rates_do_not_overflow() {
        for per_minute in [f64::MIN_POSITIVE, 1e-9, 1e18, f64::MAX] {
            let gcra = Gcra::new(Rate::per_minute(per_minute).unwrap());
            for now in [0, 1, u64::MAX] {
                let _ = gcra.take(now, u32::MAX, u64::MAX);
                gcra.settle(now, 0, u64::MAX);
                gcra.settle(now, u32::MAX, 0);
            }
        }
    }

    #[test]
    fn a_refusal_names_the_exact_wait() {
        let gcra = Gcra::new(Rate::from(60).burst(2));
        assert_eq!((gcra.take(0, 1, 0), gcra.take(0, 1, 0)), (Ok(0), Ok(0)));
        let Err(Some(wait)) = gcra.take(0, 1, 0) else { panic!("the burst is used up") };
        assert_eq!(wait, Duration::from_secs(1));
        let wait = wait.as_nanos() as u64;
        assert!(gcra.take(wait - 1, 1, 0).is_err(), "a nanosecond early");
        assert_eq!(gcra.take(wait, 1, 0), Ok(0));
    }

    #[test]
    fn more_than_the_burst_passes_when_the_bucket_is_full_and_empties_it() {
        let gcra = Gcra::new(Rate::from(6000).burst(100));
        assert_eq!(gcra.take(MINUTE, 1_000_000, 0), Ok(0));
        assert!(gcra.take(MINUTE, 1, 0).is_err());
    }

    #[test]
    fn a_refusal_by_one_rate_takes_nothing_from_the_other() {
        let rates = Rates::new(Some(Rate::from(1)), Some(Rate::from(100))).unwrap();
        let now = Instant::now();
        assert_eq!(rates.take(now, 60, Duration::ZERO, None), Ok((Duration::ZERO, 60)));
        for _ in 0..10 {
            let over = rates.take(now, 10, Duration::ZERO, None).unwrap_err();
            assert_eq!(
                over,
                Over {
                    what: "requests",
                    of_tokens: false,
                    of_share: false,
                    retry_after: Some(Duration::from_secs(60))
                }
            );
        }
        rates.refund(60, None);
        assert_eq!(rates.take(now, 100, Duration::ZERO, None), Ok((Duration::ZERO, 100)), "both are as they were");
        rates.refund_request(None);
        let over = rates.take(now, 50, Duration::ZERO, None).unwrap_err();
        assert_eq!(
            over,
            Over { what: "tokens", of_tokens: true, of_share: false, retry_after: Some(Duration::from_secs(30)) }
        );
        assert_eq!(rates.take(now, 0, Duration::ZERO, None), Ok((Duration::ZERO, 0)), "the request was given back");
    }

    #[test]
    fn what_others_use_is_charged_below_empty_and_given_back_up_to_full() {
        let gcra = Gcra::new(Rate::from(60).burst(10));
        assert_eq!(gcra.take(0, 4, 0), Ok(0));
        gcra.charge(0, 16.0);
        let seconds = |seconds| Err(Some(Duration::from_secs(seconds)));
        assert_eq!(gcra.take(0, 1, 0), seconds(11), "ten are owed");
        gcra.charge(0, -15.0);
        assert_eq!((gcra.take(0, 5, 0), gcra.take(0, 1, 0)), (Ok(0), seconds(1)));
        gcra.charge(0, f64::MIN);
        assert_eq!((gcra.take(0, 10, 0), gcra.take(0, 1, 0)), (Ok(0), seconds(1)), "full, and no fuller");
        gcra.charge(0, f64::MAX);
        assert!(gcra.take(MINUTE, 1, 0).is_err());
        // Of the total, the part used here.
        gcra.settle(0, 10, 7);
        assert_eq!(gcra.used.load(Relaxed), 4 + 5 + 10 - 3);
    }

    #[test]
    fn those_who_wait_are_paced_in_order() {
        let gcra = Gcra::new(Rate::from(60).burst(1));
        let waits: Vec<_> = (0..4).map(|_| gcra.take(0, 1, 2_000_000_000)).collect();
        let second = 1_000_000_000;
        assert_eq!(waits[..3], [Ok(0), Ok(second), Ok(2 * second)]);
        assert_eq!(waits[3], Err(Some(Duration::from_secs(3))));
    }

    /// The same rate in its naive form: a bucket that is refilled at each step.
    struct Bucket {
        level: i128,
        full: i128,
        interval: i128,
        at: u64,
    }

    impl Bucket {
        fn refill(&mut self, now: u64) {
            self.level = (self.level + i128::from(now - self.at)).min(self.full);
            self.at = now;
        }

        fn take(&mut self, units: u32) -> Result<(), i128> {
            let cost = (i128::from(units) * self.interval).min(self.full);
            if self.level < cost {
                return Err(cost - self.level);
            }
            self.level -= cost;
            Ok(())
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Take(u32),
        Settle(u32, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..2 * MINUTE).prop_map(Step::Wait),
            (0..2_000_000_000u64).prop_map(Step::Wait),
            (0..200u32).prop_map(Step::Take),
            (0..100u32, 0..150u64).prop_map(|(charged, used)| Step::Settle(charged, used)),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_token_bucket(
            per_minute in prop::sample::select(vec![1u32, 6, 60, 100, 600, 1000, 6000]),
            burst in 1..120u32,
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let gcra = Gcra::new(Rate::from(per_minute).burst(burst));
            let interval = i128::from(MINUTE / u64::from(per_minute));
            let full = i128::from(burst) * interval;
            let mut bucket = Bucket { level: full, full, interval, at: 0 };
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Wait(nanos) => now += nanos,
                    Step::Take(units) => {
                        bucket.refill(now);
                        let expected = bucket.take(units).map(|()| 0);
                        let expected = expected.map_err(|nanos| Some(Duration::from_nanos(nanos as u64)));
                        prop_assert_eq!(gcra.take(now, units, 0), expected);
                    }
                    Step::Settle(charged, used) => {
                        bucket.refill(now);
                        bucket.level += (i128::from(charged) - i128::from(used)) * interval;
                        bucket.level = bucket.level.min(full);
                        gcra.settle(now, charged, used);
                    }
                }
            }
        }
    }
}
