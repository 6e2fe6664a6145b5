//! A limit on the retries of all requests together: a token bucket, without clock or I/O.

use std::{
    fmt,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Context, InvalidConfig,
    internal::{
        sharded::ShardedTotal,
        sync::{Arc, Mutex, lock},
    },
};

/// A limit on retries as a share of traffic, so that retries cannot multiply the load of a provider in trouble.
///
/// It is a token bucket: each first try adds `ratio` of a token, each retry takes one out, and at most `cap` are
/// kept. A service with little traffic would never save up a token, so there is a floor. Time adds the tokens that
/// first tries did not, up to `floor` tokens a second, and never more than ten seconds' worth. The floor is a
/// minimum, not an addition: with enough traffic, retries are `ratio` of first tries and no more. A new budget
/// starts with those ten seconds' worth.
///
/// Default: ratio 0.1, floor 1 token a second, cap 100 tokens.
///
/// If another model could be asked in place of a retry, only transient failures are worth one. A hundredth of the
/// share is then for retries (one for a thousand first tries), with at most three saved up, and no floor. A ratio
/// of 1 or more disables this restriction.
///
/// The budget takes a token when a retry is *scheduled*, so that requests in backoff are counted. The token comes
/// back if the retry is given up before it was sent. Clones share the bucket: give clones of one budget to every
/// layer whose retries reach the same provider.
///
/// After the retry budgets of Finagle and tower (no window here, and no rounding of the ratio).
#[derive(Clone)]
pub struct RetryBudget {
    /// `None` if there is no limit.
    bucket: Option<Arc<Bucket>>,
}

struct Bucket {
    /// The budget's identity, with which it marks the requests that it has counted.
    id: u32,
    /// The units added for one first try.
    ratio: u64,
    /// The units that time adds each second, at least.
    floor: u64,
    /// The most units kept.
    cap: u64,
    /// All units that first tries ever added: the only field that the healthy path touches.
    deposited: ShardedTotal,
    account: Mutex<Account>,
}

/// The other side of the balance, touched only after a failure.
struct Account {
    /// The units in the bucket are `deposited + granted - taken`, each a running total, which may wrap.
    granted: u64,
    taken: u64,
    /// The units taken here. The rest of `taken` exceeded the cap, or was taken by other replicas.
    own_taken: u64,
    /// The part of the deposits that other replicas made.
    others_put: u64,
    /// The time up to which the floor was computed, and the deposits by then.
    reckoned: Option<(Instant, u64)>,
    /// The units left for retries of transient failures, and the deposits when that was computed.
    passing: (u64, u64),
}

/// The units in a token: millionths, so that any sensible ratio is exact.
const TOKEN: u64 = 1_000_000;

/// The most tokens for each first try, or for each second. It exceeds the attempts that any layer makes: the totals
/// must not wrap between two looks.
const MOST_TOKENS: f64 = 65_536.0;

/// The next budget's number. A number is half as large as an address in what every layer copies.
static BUDGETS: AtomicU32 = AtomicU32::new(1);

/// The divisor for retries of transient failures, if another model could be asked: of the share of first tries, and
/// of the tokens saved up.
const IN_PASSING: u64 = 100;
const IN_PASSING_KEPT: u64 = 3 * TOKEN;

/// The time for which the floor's tokens are kept, as in Finagle and tower.
const FLOOR_KEPT_SECONDS: u64 = 10;

impl RetryBudget {
    /// The default number of retries for each first try.
    #[doc(hidden)]
    pub const RATIO: f64 = 0.1;
    /// The most retries saved up by default.
    #[doc(hidden)]
    pub const CAP: u32 = 100;

    /// Creates a budget of retries for 10 % of first tries, at least one a second, with at most 100 saved up.
    pub fn new() -> Self {
        Self::from_units((Self::RATIO * TOKEN as f64) as u64, TOKEN, u64::from(Self::CAP) * TOKEN)
    }

    /// Creates a budget of `ratio` retries for each first try, at least `floor` retries a second, with at most
    /// `cap` saved up.
    ///
    /// `ratio` 0 with `floor` 0 allows no retry at all; a ratio above 1 allows more retries than first tries.
    /// A `floor` that would save up more than `cap` saves up `cap`.
    ///
    /// # Errors
    ///
    /// Fails if `ratio` or `floor` is negative or not a finite number; the error names which.
    pub fn with_limits(ratio: f64, floor: f64, cap: u32) -> Result<Self, InvalidConfig> {
        Ok(Self::from_units(
            units("retry budget ratio", ratio)?,
            units("retry budget floor", floor)?,
            u64::from(cap) * TOKEN,
        ))
    }

    /// Creates a budget that is never empty: only `max_attempts` bounds the retries.
    pub fn unlimited() -> Self {
        Self { bucket: None }
    }

    fn from_units(ratio: u64, floor: u64, cap: u64) -> Self {
        let reserve = floor.saturating_mul(FLOOR_KEPT_SECONDS).min(cap);
        let account = Account {
            granted: reserve,
            taken: 0,
            own_taken: 0,
            others_put: 0,
            reckoned: None,
            passing: (IN_PASSING_KEPT, 0),
        };
        Self {
            bucket: Some(Arc::new(Bucket {
                // From 1. After four billion budgets two may get the same number, and one may miss a request that
                // the other has counted.
                id: BUDGETS.fetch_add(1, Ordering::Relaxed).max(1),
                ratio,
                floor,
                cap,
                deposited: ShardedTotal::default(),
                account: Mutex::new(account),
            })),
        }
    }

    /// Returns whether both are the same bucket; all unlimited ones are.
    pub fn is(&self, other: &Self) -> bool {
        let id = |budget: &Self| budget.bucket.as_ref().map(|bucket| bucket.id);
        id(self) == id(other)
    }

    /// Counts a request, unless the last layer with a budget on its way down has counted it here.
    #[doc(hidden)]
    #[inline]
    pub fn count(&self, context: &mut Context) {
        // An unlimited budget leaves no mark: it would hide the mark of a budget further out from the same budget
        // further in.
        if let Some(bucket) = &self.bucket
            && context.counted_in != bucket.id
        {
            context.counted_in = bucket.id;
            self.deposit();
        }
    }

    /// Counts a first try. It is one atomic addition; the cap is applied when a token is taken, with the same
    /// effect.
    pub fn deposit(&self) {
        if let Some(bucket) = &self.bucket {
            bucket.deposited.add(bucket.ratio);
        }
    }

    /// Takes a token for a retry that is about to be scheduled, or returns `None` if there is none.
    pub fn reserve(&self, now: Instant) -> Option<Reservation> {
        self.take(now, false)
    }

    /// Takes a token if another model could be asked: only from the part for transient failures.
    #[doc(hidden)]
    pub fn reserve_in_passing(&self, now: Instant) -> Option<Reservation> {
        self.take(now, true)
    }

    fn take(&self, now: Instant, in_passing: bool) -> Option<Reservation> {
        let Some(bucket) = &self.bucket else {
            return Some(Reservation { bucket: None, in_passing, sent: false });
        };
        let mut account = lock(&bucket.account);
        let in_passing = in_passing && !self.covers_each_try();
        if in_passing && bucket.passing(&mut account) < TOKEN || bucket.balance(&mut account, Some(now)) < signed(TOKEN)
        {
            return None;
        }
        account.taken = account.taken.wrapping_add(TOKEN);
        account.own_taken = account.own_taken.wrapping_add(TOKEN);
        account.passing.0 -= if in_passing { TOKEN } else { 0 };
        drop(account);
        Some(Reservation { bucket: Some(bucket.clone()), in_passing, sent: false })
    }

    /// Returns true if it allows a retry for each first try: then retries are wanted wherever else a request could go.
    #[doc(hidden)]
    pub fn covers_each_try(&self) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| bucket.ratio >= TOKEN)
    }

    /// Returns true if no retry is ever allowed.
    #[doc(hidden)]
    #[inline]
    pub fn allows_none(&self) -> bool {
        self.bucket.as_ref().is_some_and(|bucket| (bucket.ratio == 0 && bucket.floor == 0) || bucket.cap < TOKEN)
    }

    /// Returns how many retries are saved up at this moment, without those that the floor may add next; `u64::MAX`
    /// if the budget is unlimited.
    pub fn available(&self) -> u64 {
        let Some(bucket) = &self.bucket else {
            return u64::MAX;
        };
        let balance = bucket.balance(&mut lock(&bucket.account), None);
        u64::try_from(balance).unwrap_or(0) / TOKEN
    }

    /// Returns a text of its limits, by which replicas match equal budgets; `None` if it is unlimited.
    pub fn terms(&self) -> Option<String> {
        let Bucket { ratio, floor, cap, .. } = &**self.bucket.as_ref()?;
        Some(format!("{ratio} {floor} {cap}"))
    }

    /// Returns the units that were added and taken here: running totals, which may wrap.
    pub fn totals(&self) -> (i64, i64) {
        let Some(bucket) = &self.bucket else { return (0, 0) };
        let account = lock(&bucket.account);
        let put = bucket.deposited.get().wrapping_sub(account.others_put);
        (put.cast_signed(), account.own_taken.cast_signed())
    }

    /// Applies the units that other replicas have added and taken: this bucket is a view of a bucket that all
    /// share. It may fall below zero by the units that they took at once.
    pub fn reckon(&self, put: i64, taken: i64) {
        let Some(bucket) = &self.bucket else { return };
        // A count above the amount that a hundred replicas with full buckets could take at once is not valid.
        let most = signed(bucket.cap.saturating_mul(100));
        let (put, taken) = (put.clamp(-most, most), taken.clamp(-most, most));
        let mut account = lock(&bucket.account);
        bucket.deposited.add(put.cast_unsigned());
        account.others_put = account.others_put.wrapping_add(put.cast_unsigned());
        account.taken = account.taken.wrapping_add(taken.cast_unsigned());
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RetryBudget");
        match &self.bucket {
            Some(bucket) => debug
                .field("ratio", &(bucket.ratio as f64 / TOKEN as f64))
                .field("floor", &(bucket.floor as f64 / TOKEN as f64))
                .field("cap", &(bucket.cap / TOKEN))
                .field("available", &self.available())
                .finish(),
            None => debug.field("cap", &"unlimited").finish(),
        }
    }
}

impl Bucket {
    /// Returns the units in the bucket, after the floor (if there is a clock) and the cap.
    fn balance(&self, account: &mut Account, now: Option<Instant>) -> i64 {
        let deposited = self.deposited.get();
        let mut balance = deposited.wrapping_add(account.granted).wrapping_sub(account.taken).cast_signed();
        let cap = signed(self.cap);
        if balance > cap {
            account.taken = account.taken.wrapping_add(balance.abs_diff(cap));
            balance = cap;
        }
        let Some(now) = now else { return balance };
        // The first look starts the floor's clock; the reserve stands for the time before it.
        let (since, before) = *account.reckoned.get_or_insert((now, deposited));
        let due = self.due(now.saturating_duration_since(since).as_nanos());
        if due == 0 {
            return balance;
        }
        let kept = self.due(u128::from(FLOOR_KEPT_SECONDS) * NANOS).min(self.cap);
        let came = deposited.wrapping_sub(before);
        let room = u64::try_from(signed(kept).saturating_sub(balance)).unwrap_or(0);
        let granted = due.saturating_sub(came).min(room);
        account.granted = account.granted.wrapping_add(granted);
        // Deposits beyond the floor count for the next seconds too. Otherwise a burst of looks would split time
        // into pieces with and without a first try, and add the floor for the latter.
        let surplus = came.saturating_sub(due).min(kept);
        account.reckoned = Some((since + self.takes(due), deposited.wrapping_sub(surplus)));
        balance.saturating_add(signed(granted))
    }

    /// Returns the units left for retries of transient failures.
    fn passing(&self, account: &mut Account) -> u64 {
        let deposited = self.deposited.get();
        let (left, before) = account.passing;
        // Other replicas may take back deposits.
        let came = u64::try_from(deposited.wrapping_sub(before).cast_signed()).unwrap_or(0) / IN_PASSING;
        if came > 0 {
            account.passing = (left.saturating_add(came).min(IN_PASSING_KEPT), deposited);
        }
        account.passing.0
    }

    /// Returns the floor's units over a time in nanoseconds.
    fn due(&self, elapsed: u128) -> u64 {
        let units = elapsed.saturating_mul(self.floor.into()) / NANOS;
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// Returns the time in which the floor adds so many units; the rest of a unit counts on.
    fn takes(&self, due: u64) -> Duration {
        let nanos = u128::from(due) * NANOS / u128::from(self.floor.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

const NANOS: u128 = 1_000_000_000;

/// A token taken for a retry. Dropping it before the retry was [sent](Self::sent) returns it.
pub struct Reservation {
    bucket: Option<Arc<Bucket>>,
    in_passing: bool,
    sent: bool,
}

impl Reservation {
    /// Spends the token: the retry went out, whatever its outcome.
    pub fn sent(&mut self) {
        self.sent = true;
    }

    /// Returns the token: a layer on this side refused the retry after all.
    pub fn refund(mut self) {
        self.sent = false;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(bucket) = self.bucket.take_if(|_| !self.sent) {
            let mut account = lock(&bucket.account);
            account.taken = account.taken.wrapping_sub(TOKEN);
            account.own_taken = account.own_taken.wrapping_sub(TOKEN);
            account.passing.0 += if self.in_passing { TOKEN } else { 0 };
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reservation")
    }
}

fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

fn units(field: &'static str, tokens: f64) -> Result<u64, InvalidConfig> {
    if !(tokens.is_finite() && tokens >= 0.0) {
        return Err(InvalidConfig::new(field, format!("{tokens} is not a number of tokens; use 0 or more")));
    }
    // A ratio of 1e300 is as good as any other that is never reached.
    Ok((tokens.min(MOST_TOKENS) * TOKEN as f64).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(ratio: f64, cap: u32) -> RetryBudget {
        RetryBudget::with_limits(ratio, 0.0, cap).unwrap()
    }

    #[test]
    fn ratios_are_held_exactly() {
        let now = Instant::now();
        for (ratio, retries) in [(0.1, 100), (0.3, 300), (0.6, 600), (0.9, 900), (0.333, 333), (1.0, 1000)] {
            let budget = plain(ratio, 100);
            let mut sent = 0;
            for _ in 0..1000 {
                budget.deposit();
                if let Some(mut token) = budget.reserve(now) {
                    token.sent();
                    sent += 1;
                }
            }
            assert_eq!(sent, retries, "ratio {ratio}");
        }
    }

    #[test]
    fn retries_in_backoff_are_counted() {
        let now = Instant::now();
        let budget = RetryBudget::with_limits(0.2, 1.0, 1000).unwrap();
        (0..1000).for_each(|_| budget.deposit());
        let waiting: Vec<_> = (0..1000).filter_map(|_| budget.reserve(now)).collect();
        assert_eq!(waiting.len(), 210, "a fifth, and the reserve of ten");
        drop(waiting);
        assert_eq!(budget.available(), 210);
    }

    #[test]
    fn a_retry_that_was_not_sent_gives_its_token_back() {
        let now = Instant::now();
        let budget = plain(1.0, 10);
        budget.deposit();
        let token = budget.reserve(now).unwrap();
        assert!(budget.reserve(now).is_none());
        drop(token);
        let mut token = budget.clone().reserve(now).expect("clones share the bucket");
        token.sent();
        drop(token);
        assert!(budget.reserve(now).is_none());
        budget.deposit();
        let mut token = budget.reserve(now).unwrap();
        token.sent();
        token.refund();
        assert!(budget.reserve(now).is_some(), "sent, and refused on this side after all");
    }

    #[test]
    fn healthy_traffic_saves_up_no_more_than_the_cap() {
        let now = Instant::now();
        let budget = RetryBudget::new();
        (0..1_000_000).for_each(|_| budget.deposit());
        assert_eq!(budget.available(), 100);
        let taken: Vec<_> = (0..1000).filter_map(|_| budget.reserve(now)).collect();
        assert_eq!(taken.len(), 100);
        drop(taken);
        (0..1_000_000).for_each(|_| budget.deposit());
        assert_eq!(budget.available(), 100, "nor with what comes back");
    }

    #[test]
    fn the_floor_lets_a_quiet_service_retry() {
        let start = Instant::now();
        let budget = RetryBudget::new();
        let take = |at: Duration| {
            let tokens = std::iter::from_fn(|| budget.reserve(start + at));
            tokens.map(|mut token| token.sent()).count()
        };
        assert_eq!(take(Duration::ZERO), 10, "the reserve");
        assert_eq!(take(Duration::from_millis(999)), 0);
        assert_eq!(take(Duration::from_millis(1000)), 1);
        for tenth in 1..=10 {
            let at = Duration::from_millis(1000 + tenth * 100);
            assert_eq!(take(at), usize::from(tenth == 10), "fractions add up");
        }
        assert_eq!(take(Duration::from_secs(86_400)), 10, "a quiet day leaves ten seconds' worth");
        assert_eq!(take(Duration::from_secs(3600)), 0, "a clock that goes back gives nothing");
    }

    #[test]
    fn where_another_model_is_left_only_what_fails_in_passing_is_retried() {
        let start = Instant::now();
        let budget = RetryBudget::new();
        let take = |at: u64| {
            let tokens = std::iter::from_fn(|| budget.reserve_in_passing(start + Duration::from_secs(at)));
            tokens.map(|mut token| token.sent()).count()
        };
        assert_eq!(take(0), 3, "what a new budget has saved up");
        assert_eq!(take(3600), 0, "time brings nothing");
        (0..10_000).for_each(|_| budget.deposit());
        assert_eq!(take(3600), 3, "no more is saved up");
        let mut sent = 0;
        for _ in 0..10_000 {
            budget.deposit();
            sent += take(3600);
        }
        assert_eq!(sent, 10, "one in a thousand");
        drop((budget.reserve_in_passing(start), budget.reserve(start).unwrap()));
        (0..1000).for_each(|_| budget.deposit());
        drop(budget.reserve_in_passing(start).unwrap());
        assert_eq!(take(3600), 1, "what was not sent comes back");
        assert!(budget.reserve(start).is_some(), "who has nowhere else to go has the rest");
    }

    #[test]
    fn the_floor_adds_nothing_to_enough_traffic() {
        let start = Instant::now();
        let budget = RetryBudget::new();
        let mut sent = 0;
        // 50 requests a second for ten minutes, each of which would like a retry
        for n in 0..30_000 {
            budget.deposit();
            for later in [0, 7, 13] {
                let at = start + Duration::from_millis(n * 20 + later);
                if let Some(mut token) = budget.reserve(at) {
                    token.sent();
                    sent += 1;
                }
            }
        }
        assert!((3000..=3011).contains(&sent), "{sent}");
    }

    #[test]
    fn what_others_do_counts_here_and_is_not_told_as_done_here() {
        let now = Instant::now();
        let budget = plain(0.5, 10);
        (0..4).for_each(|_| budget.deposit());
        let token = TOKEN.cast_signed();
        budget.reckon(3 * token, token);
        assert_eq!(budget.available(), 4);
        budget.reserve(now).unwrap().sent();
        assert_eq!(budget.totals(), (2 * token, token));
        budget.reckon(0, 5 * token);
        assert_eq!(budget.available(), 0);
        (0..4).for_each(|_| budget.deposit());
        assert!(budget.reserve(now).is_none(), "what they took at once is owed");
        budget.reckon(0, -token);
        assert!(budget.reserve(now).is_some());
        budget.reckon(i64::MAX, 0);
        assert_eq!(budget.available(), 10, "the cap holds for all");
        RetryBudget::unlimited().reckon(token, token);
    }

    #[test]
    fn an_unlimited_budget_never_ends() {
        let budget = RetryBudget::unlimited();
        budget.deposit();
        (0..1000).for_each(|_| budget.reserve(Instant::now()).unwrap().sent());
        assert_eq!(budget.available(), u64::MAX);
    }

    #[test]
    fn an_empty_budget_allows_nothing() {
        let budget = plain(0.0, 100);
        (0..1000).for_each(|_| budget.deposit());
        assert!(budget.reserve(Instant::now() + Duration::from_secs(1000)).is_none());
        assert!(RetryBudget::with_limits(0.5, 5.0, 0).unwrap().reserve(Instant::now()).is_none());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for wrong in [-0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(RetryBudget::with_limits(wrong, 1.0, 10).unwrap_err().field(), "retry budget ratio");
            assert_eq!(RetryBudget::with_limits(0.1, wrong, 10).unwrap_err().field(), "retry budget floor");
        }
        let huge = RetryBudget::with_limits(1e300, 1e300, u32::MAX).unwrap();
        huge.deposit();
        huge.deposit();
        assert!(huge.reserve(Instant::now()).is_some());
    }

    proptest! {
        #[test]
        fn never_more_than_ratio_floor_and_reserve(
            ratio in 0.0..1.5f64,
            floor in 0.0..5.0f64,
            steps in proptest::collection::vec((0u64..2000, 0u8..4), 1..200),
        ) {
            let start = Instant::now();
            let budget = RetryBudget::with_limits(ratio, floor, 50).unwrap();
            let (mut at, mut first, mut held, mut sent) = (0, 0u32, Vec::new(), 0u32);
            for (millis, step) in steps {
                at += millis;
                match step {
                    0 | 1 => { budget.deposit(); first += 1; }
                    2 => held.extend(budget.reserve(start + Duration::from_millis(at))),
                    _ => {
                        let token = held.pop();
                        if let Some(mut token) = token.filter(|_| millis % 2 == 0) {
                            token.sent();
                            sent += 1;
                        }
                    }
                }
                let spent = f64::from(sent) + held.len() as f64;
                let seconds = at as f64 / 1000.0;
                let most = ratio * f64::from(first) + floor * (seconds + 10.0) + 0.01;
                prop_assert!(spent <= most, "{spent} of {most}");
                prop_assert!(budget.available() <= 50);
            }
        }
    }
}

#[cfg(steadfast_loom)]
pub mod races {
    use super::*;
    use crate::internal::sync::{model, thread};

    /// Two callers with one token between them, a first try and a refund at the same time.
    pub fn one_token_is_never_spent_twice() {
        model(|| {
            let budget = RetryBudget::with_limits(0.5, 0.0, 2).unwrap();
            let now = Instant::now();
            budget.deposit();
            let other = budget.clone();
            let one = thread::spawn(move || {
                other.deposit();
                other.reserve(now).map(|mut token| token.sent()).is_some()
            });
            let two = budget.reserve(now).map(|mut token| token.sent()).is_some();
            let one = one.join().unwrap();
            assert!(!(one && two), "one token was deposited in all");
            assert_eq!(budget.available(), u64::from(!one && !two));
        });
    }

    pub fn a_dropped_reservation_comes_back_whole() {
        model(|| {
            let budget = RetryBudget::with_limits(1.0, 0.0, 1).unwrap();
            let now = Instant::now();
            budget.deposit();
            let other = budget.clone();
            let dropped = thread::spawn(move || drop(other.reserve(now)));
            budget.deposit();
            drop(budget.reserve(now));
            dropped.join().unwrap();
            assert_eq!(budget.available(), 1, "never above the cap, never lost");
        });
    }
}
