//! Headroom: what a deployment still admits. Its owner sets that, or its provider, whose headers or a 429 report it.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::SystemTime,
};

use http::HeaderMap;

use super::{
    cost::Stamped,
    exchange::{FRESH, HeadroomGrant, HeadroomOrder},
    time::Moment,
};
use crate::{
    internal::sync::{Mutex, MutexGuard, lock},
    retry_after,
};

/// The length of a window whose reset the provider does not report: limits are for a minute everywhere.
const MINUTE: f64 = 60.0;
/// The longest time for which a report without a limit is believed.
const DAY: f64 = 86_400.0;
/// The share of the last minute's requests that is assumed to be the limit after a 429 that reports none.
const LEARNED: f64 = 0.9;
/// The least requests of a minute from which a limit is learned. With fewer, the wait after the 429 is enough.
const LEARNED_FROM: f32 = 10.0;
/// The time after which a learned limit is forgotten. One request of that time finds the real one.
const LEARNED_FOR: f64 = 600.0;

/// The largest share of a shared limit that a replica takes beforehand for what it may send.
const MOST_LEASED: f64 = 0.1;

/// The headroom of a deployment.
// In the order in which a choice needs it: before it draws a deployment, and only then.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Headroom {
    in_flight: AtomicU32,
    drained: AtomicBool,
    /// True once a limit is known. Before that nothing is counted, and no lock is taken.
    known: AtomicBool,
    /// True while the tokens of answers correct what requests were estimated at: no header does.
    estimates: AtomicBool,
    /// The requests of the last minute, from which a limit is learned.
    recent: Stamped,
    /// Made once a limit may be known: until then a deployment takes less of the processor's cache.
    meters: OnceLock<Box<Mutex<Meters>>>,
}

#[derive(Debug, Default)]
struct Meters {
    requests: Meter,
    tokens: Meter,
}

/// One limit: a bucket that refills evenly, less the amounts of calls whose answer has not come.
#[derive(Debug, Default)]
struct Meter {
    pending: f64,
    bucket: Option<Bucket>,
    /// The limit that is known beforehand.
    declared: Option<f64>,
    /// The part of a shared limit that this replica may use.
    lease: Option<Lease>,
}

/// A part of a limit that replicas share.
#[derive(Clone, Copy, Debug)]
struct Lease {
    /// The amount that was granted and not used; below zero if more was used.
    left: f64,
    /// The amount that the store has beside it.
    stored: f64,
    /// The moment until which the store's last reply counts.
    until: Moment,
    /// The amount that an exchange's time uses, recently.
    used: f64,
    /// The largest amount that found no room since the last exchange.
    wish: f64,
}

/// The kind of a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Requests,
    Tokens,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    limit: f64,
    level: f64,
    at: Moment,
    per_second: f64,
    /// The moment from which the level is unknown again.
    ends: Moment,
}

impl Headroom {
    /// Returns the requests that have a place.
    #[inline]
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed) as usize
    }

    /// Gives a place to a request, until it [leaves](Self::leave).
    #[inline]
    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    #[inline]
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Returns true if an operator has drained the deployment.
    #[inline]
    pub(super) fn is_drained(&self) -> bool {
        self.drained.load(Relaxed)
    }

    /// Sets whether it is drained. Returns whether it was.
    pub(super) fn set_drained(&self, drained: bool) -> bool {
        self.drained.swap(drained, Relaxed)
    }

    /// Returns true if a limit is known.
    #[inline]
    pub(super) fn is_known(&self) -> bool {
        self.known.load(Relaxed)
    }

    fn meters(&self) -> MutexGuard<'_, Meters> {
        lock(self.meters.get_or_init(Box::default))
    }

    /// Sets limits for a minute that are known beforehand. The provider's own headers replace them.
    pub(super) fn declare(&self, requests: Option<u64>, tokens: Option<u64>, now: Moment) {
        if (requests, tokens) == (None, None) && self.meters.get().is_none() {
            return;
        }
        let mut meters = self.meters();
        let Meters { requests: of_requests, tokens: of_tokens } = &mut *meters;
        for (meter, limit) in [(of_requests, requests), (of_tokens, tokens)] {
            let limit = limit.map(|limit| limit as f64);
            if let Some(limit) = limit.filter(|limit| meter.declared != Some(*limit)) {
                meter.bucket = Some(Bucket::full(limit, now));
                self.known.store(true, Relaxed);
            }
            if limit.is_none() {
                meter.lease = None;
            }
            meter.declared = limit;
        }
        self.estimates.store(tokens.is_some(), Relaxed);
    }

    /// Shares the limits that are known beforehand with other replicas.
    pub(super) fn share(&self, now: Moment) {
        let mut meters = self.meters();
        let Meters { requests, tokens } = &mut *meters;
        for meter in [requests, tokens] {
            if let Some(limit) = meter.declared {
                // Nothing before the first reply: each replica would use the whole of it.
                let until = now + FRESH.as_secs_f64();
                meter.lease.get_or_insert(Lease { left: 0.0, stored: limit, until, used: 0.0, wish: 0.0 });
            }
        }
    }

    /// Returns the orders for a store that replicas share.
    pub(super) fn orders(&self, tier: &str, deployment: &str) -> Vec<(Kind, HeadroomOrder)> {
        if !self.is_known() {
            return Vec::new();
        }
        let mut meters = self.meters();
        let Meters { requests, tokens } = &mut *meters;
        let order = |(kind, name, meter): (Kind, &str, &mut Meter)| {
            let (limit, (settle, reserve)) = (meter.declared?, meter.order()?);
            let order = HeadroomOrder::new(format!("{tier}/{deployment}:{name}"), limit);
            Some((kind, order.settle(settle).reserve(reserve)))
        };
        [(Kind::Requests, "requests", requests), (Kind::Tokens, "tokens", tokens)]
            .into_iter()
            .filter_map(order)
            .collect()
    }

    /// Takes a store's reply to an order.
    pub(super) fn granted(&self, kind: Kind, order: &HeadroomOrder, grant: HeadroomGrant, now: Moment) {
        if !(grant.granted.is_finite() && grant.left.is_finite()) {
            return;
        }
        let mut meters = self.meters();
        let meter = match kind {
            Kind::Requests => &mut meters.requests,
            Kind::Tokens => &mut meters.tokens,
        };
        if let Some(lease) = &mut meter.lease {
            lease.left += order.settle + grant.granted.clamp(0.0, order.reserve);
            (lease.stored, lease.until) = (grant.left, now + FRESH.as_secs_f64());
        }
    }

    /// Returns true if the tokens of an answer [correct](Self::correct) its estimate.
    #[inline]
    pub(super) fn is_corrected(&self) -> bool {
        self.estimates.load(Relaxed)
    }

    /// Returns true if there is room for a request of so many tokens.
    pub(super) fn has_room(&self, tokens: u32, now: Moment) -> bool {
        !self.is_known() || self.meters().has_room(tokens, now)
    }

    /// Returns the share of its limits that is left, from below 0 to 1.
    pub(super) fn share_left(&self, now: Moment) -> f64 {
        if !self.is_known() {
            return 1.0;
        }
        let meters = self.meters();
        meters.requests.share_left(now).min(meters.tokens.share_left(now))
    }

    /// Reserves a request of so many tokens. Returns whether they are counted, or `None` without room.
    pub(super) fn reserve(&self, tokens: u32, now: Moment, without_room: bool) -> Option<bool> {
        if self.is_known() {
            let mut meters = self.meters();
            if !without_room && !meters.has_room(tokens, now) {
                return None;
            }
            meters.requests.reserve(1.0);
            meters.tokens.reserve(tokens.into());
            return Some(true);
        }
        Some(false)
    }

    /// Counts a request that goes out.
    pub(super) fn sent(&self, now: Moment) {
        self.recent.update(now, |count, idle| count.unwrap_or(0.0) * faded(idle) + 1.0);
    }

    /// Returns the reservation of a request that was never sent.
    pub(super) fn release(&self, tokens: u32) {
        self.meters().release(tokens);
    }

    /// Takes the reservation of a request that was sent, and whose answer reports nothing.
    pub(super) fn spend(&self, tokens: u32, now: Moment) {
        let mut meters = self.meters();
        meters.release(tokens);
        meters.requests.take(1.0, now);
        meters.tokens.take(tokens.into(), now);
    }

    /// Takes the headers of an answer. `reserved` are the tokens of a counted reservation.
    pub(super) fn answered(&self, headers: Option<&HeaderMap>, wall: SystemTime, reserved: Option<u32>, now: Moment) {
        let [requests, tokens] = headers.map_or([None, None], |headers| {
            let sent = retry_after::sent(headers, wall);
            [read(headers, &REQUESTS, sent), read(headers, &TOKENS, sent)]
        });
        if reserved.is_none() && requests.is_none() && tokens.is_none() {
            return;
        }
        if tokens.is_some() {
            self.estimates.store(false, Relaxed);
        }
        let mut meters = self.meters();
        if let Some(tokens) = reserved {
            meters.release(tokens);
        }
        let Meters { requests: of_requests, tokens: of_tokens } = &mut *meters;
        for (meter, report, amount) in
            [(of_requests, requests, reserved.map_or(0.0, |_| 1.0)), (of_tokens, tokens, reserved.unwrap_or(0).into())]
        {
            match report {
                // The provider itself says what is left for all replicas.
                Some(report) => (meter.bucket, meter.lease) = (Some(report.bucket(now)), None),
                None => meter.take(amount, now),
            }
        }
        self.known.store(true, Relaxed);
    }

    /// Corrects an estimate of tokens, once they are known, where no header does.
    pub(super) fn correct(&self, reserved: u32, used: u64, now: Moment) {
        if self.is_corrected() {
            self.meters().tokens.take(used as f64 - f64::from(reserved), now);
        }
    }

    /// Learns a limit from a 429, if none is known.
    pub(super) fn limited(&self, now: Moment) {
        let mut meters = self.meters();
        let has = |meter: &Meter| meter.bucket.is_some_and(|bucket| now < bucket.ends);
        if has(&meters.requests) || has(&meters.tokens) {
            return;
        }
        let recent = self.recent.read(now).map_or(0.0, |(count, idle)| count * faded(idle));
        if recent < LEARNED_FROM {
            return;
        }
        let limit = f64::from(recent) * LEARNED;
        meters.requests.bucket = Some(Bucket { level: 0.0, ends: now + LEARNED_FOR, ..Bucket::full(limit, now) });
        self.known.store(true, Relaxed);
    }
}

/// Returns the part of the last minute's requests that still counts after so many seconds.
#[inline]
fn faded(idle: f32) -> f32 {
    // Of two requests in one tick the second is spared the power.
    if idle == 0.0 { 1.0 } else { (-idle / MINUTE as f32).exp() }
}

impl Meters {
    fn has_room(&mut self, tokens: u32, now: Moment) -> bool {
        self.requests.has_room(1.0, now) && self.tokens.has_room(tokens.into(), now)
    }

    fn release(&mut self, tokens: u32) {
        // Not below zero, whatever rounding has left.
        self.requests.pending = (self.requests.pending - 1.0).max(0.0);
        self.tokens.pending = (self.tokens.pending - f64::from(tokens)).max(0.0);
    }
}

impl Meter {
    fn has_room(&mut self, amount: f64, now: Moment) -> bool {
        let amount = amount.min(self.declared.unwrap_or(f64::INFINITY));
        if let Some(lease) = self.lease.as_mut().filter(|lease| now < lease.until) {
            let has = lease.left - self.pending >= amount;
            if !has {
                lease.wish = lease.wish.max(amount);
            }
            return has;
        }
        self.bucket
            .is_none_or(|bucket| now >= bucket.ends || bucket.level(now) - self.pending >= amount.min(bucket.limit))
    }

    fn reserve(&mut self, amount: f64) {
        self.pending += amount;
        if let Some(lease) = &mut self.lease {
            lease.used += amount;
        }
    }

    /// Returns the amounts to settle with the store and to reserve there.
    fn order(&mut self) -> Option<(f64, f64)> {
        let (limit, lease) = (self.declared?, self.lease.as_mut()?);
        // Enough for two exchanges, and for what found no room.
        let free = (2.0 * lease.used).min(limit * MOST_LEASED).max(lease.wish);
        (lease.used, lease.wish) = (lease.used / 2.0, 0.0);
        let target = self.pending + free;
        Some(match lease.left {
            left if left < 0.0 => (-left, target),
            left => ((target - left).min(0.0), (target - left).max(0.0)),
        })
    }

    fn share_left(&self, now: Moment) -> f64 {
        if let Some((lease, limit)) = self.lease.filter(|lease| now < lease.until).zip(self.declared) {
            return ((lease.stored + lease.left - self.pending) / limit.max(1.0)).min(1.0);
        }
        let known = self.bucket.filter(|bucket| now < bucket.ends);
        known.map_or(1.0, |bucket| match bucket.level(now) - self.pending {
            left if bucket.limit.is_finite() => left / bucket.limit.max(1.0),
            left => left.clamp(0.0, 1.0),
        })
    }

    fn take(&mut self, amount: f64, now: Moment) {
        if let Some(lease) = &mut self.lease {
            lease.left -= amount;
        }
        if let Some(bucket) = &mut self.bucket {
            (bucket.level, bucket.at) = ((bucket.level(now) - amount).min(bucket.limit), now);
        }
    }
}

impl Bucket {
    /// Creates a full bucket of a limit for a minute.
    fn full(limit: f64, now: Moment) -> Self {
        Self { limit, level: limit, at: now, per_second: limit / MINUTE, ends: Moment::INFINITY }
    }

    fn level(&self, now: Moment) -> f64 {
        (self.level + (now - self.at).max(0.0) * self.per_second).min(self.limit)
    }
}

/// One limit, as an answer's headers report it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Report {
    remaining: f64,
    limit: Option<f64>,
    /// The seconds until the limit is full again.
    reset: Option<f64>,
}

impl Report {
    fn bucket(self, now: Moment) -> Bucket {
        match self.limit {
            Some(limit) => {
                let missing = limit - self.remaining;
                let refill = self.reset.filter(|reset| *reset > 0.0 && missing > 0.0).map(|reset| missing / reset);
                let full = Bucket::full(limit, now);
                Bucket { level: self.remaining.min(limit), per_second: refill.unwrap_or(full.per_second), ..full }
            }
            // How much comes back is unknown: the rest lasts until then.
            None => Bucket {
                limit: f64::INFINITY,
                level: self.remaining,
                at: now,
                per_second: 0.0,
                ends: now + self.reset.unwrap_or(MINUTE).min(DAY),
            },
        }
    }
}

/// The names of what is left, the limit and the reset of requests: OpenAI and those like it with Azure, Anthropic,
/// OpenRouter, and the IETF's draft.
const REQUESTS: [[&str; 3]; 4] = [
    ["x-ratelimit-remaining-requests", "x-ratelimit-limit-requests", "x-ratelimit-reset-requests"],
    [
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-reset",
    ],
    ["x-ratelimit-remaining", "x-ratelimit-limit", "x-ratelimit-reset"],
    ["ratelimit-remaining", "ratelimit-limit", "ratelimit-reset"],
];
/// The same for tokens. Anthropic's first is the tightest of its limits on tokens.
const TOKENS: [[&str; 3]; 4] = [
    ["x-ratelimit-remaining-tokens", "x-ratelimit-limit-tokens", "x-ratelimit-reset-tokens"],
    ["anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-reset"],
    [
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-reset",
    ],
    ["x-ratelimit-remaining-tokens-minute", "x-ratelimit-limit-tokens-minute", "x-ratelimit-reset-tokens-minute"],
];

/// Reads a limit by the first names that the headers have. What cannot be read counts as absent.
fn read(headers: &HeaderMap, names: &[[&str; 3]], sent: SystemTime) -> Option<Report> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let number = |name: &str| {
        let text = text(name)?.trim();
        let digits = text.starts_with(|c: char| c.is_ascii_digit());
        text.parse::<f64>().ok().filter(|number| digits && *number <= MOST)
    };
    names.iter().find_map(|[remaining, limit, reset]| {
        let remaining = number(remaining)?;
        let limit = number(limit).filter(|limit| *limit > 0.0).map(|limit| limit.max(remaining));
        let reset = text(reset).and_then(|text| retry_after::reset(text, sent)).map(|reset| reset.as_secs_f64());
        Some(Report { remaining, limit, reset })
    })
}

/// A larger number is nonsense.
const MOST: f64 = 1e15;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    /// 2026-06-15 06:20:00 UTC.
    fn wall() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_781_504_400)
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn after(list: &[(&'static str, &str)]) -> Headroom {
        let headroom = Headroom::default();
        headroom.answered(Some(&headers(list)), wall(), None, 0.0);
        headroom
    }

    #[test]
    fn openai_and_azure_report_in_durations() {
        let room = after(&[
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1m0s"),
            ("x-ratelimit-limit-tokens", "150000"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-tokens", "6ms"),
        ]);
        assert!(!room.has_room(10, 0.5) && room.has_room(10, 1.1), "one request a second comes back");
        let azure = after(&[("x-ratelimit-remaining-requests", "5"), ("x-ratelimit-remaining-tokens", "700")]);
        assert!(azure.has_room(700, 1.0) && !azure.has_room(701, 1.0));
        assert!(
            azure.reserve(600, 1.0, false).is_some() && !azure.has_room(200, 1.0),
            "no reset: until a minute later"
        );
        assert!(azure.has_room(200, 61.0));
    }

    #[test]
    fn anthropic_reports_in_moments() {
        let room = after(&[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2026-06-15T06:20:01Z"),
            ("anthropic-ratelimit-tokens-limit", "90000"),
            ("anthropic-ratelimit-tokens-remaining", "30000"),
            ("anthropic-ratelimit-tokens-reset", "2026-06-15T06:20:40Z"),
        ]);
        assert!(room.has_room(30_000, 0.0) && !room.has_room(31_000, 0.0));
        assert!(room.has_room(45_000, 10.1), "1,500 tokens a second come back");
        assert!((room.share_left(0.0) - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_reservation_counts_until_the_answer_reports() {
        let left =
            |left: &str| headers(&[("x-ratelimit-limit-tokens", "1000"), ("x-ratelimit-remaining-tokens", left)]);
        let room = Headroom::default();
        room.answered(Some(&left("1000")), wall(), None, 0.0);
        assert_eq!(room.reserve(600, 0.0, false), Some(true));
        assert_eq!(room.reserve(600, 0.0, false), None);
        assert_eq!(room.reserve(600, 0.0, true), Some(true), "where no other has room either");
        room.release(600);
        room.answered(Some(&left("400")), wall(), Some(600), 0.0);
        assert!(room.has_room(400, 0.0) && !room.has_room(401, 0.0));
    }

    #[test]
    fn a_limit_is_learned_from_a_429_and_forgotten_in_time() {
        let room = Headroom::default();
        for request in 0..120 {
            room.sent(f64::from(request) * 0.5);
        }
        assert!(room.has_room(0, 60.0));
        room.limited(60.0);
        assert!(!room.has_room(0, 60.0) && room.has_room(0, 61.5));
        // Of the requests in a minute of exponential weights: 120 times (1 - 1/e), less a tenth.
        let mut admitted = 0;
        for step in 0..6000 {
            let now = 120.0 + f64::from(step) * 0.01;
            if room.reserve(0, now, false).is_some() {
                room.spend(0, now);
                admitted += 1;
            }
        }
        assert!((100..=140).contains(&admitted), "a full bucket and a minute's refill: {admitted}");
        assert!(room.has_room(0, 661.0));
    }

    #[test]
    fn declared_limits_are_corrected_by_the_tokens_used() {
        let room = Headroom::default();
        room.declare(None, Some(6000), 0.0);
        assert_eq!(room.reserve(4000, 0.0, false), Some(true));
        assert!(!room.has_room(4000, 0.0));
        room.answered(None, wall(), Some(4000), 0.0);
        room.correct(4000, 500, 0.0);
        assert!(room.has_room(5500, 0.0) && !room.has_room(5600, 0.0));
    }

    #[test]
    fn a_request_over_the_whole_limit_waits_for_a_full_bucket() {
        let room = Headroom::default();
        room.declare(None, Some(1000), 0.0);
        assert_eq!(room.reserve(5000, 0.0, false), Some(true));
        room.spend(5000, 0.0);
        assert!(!room.has_room(5000, 60.0) && room.has_room(5000, 300.1));
    }

    #[test]
    fn nonsense_is_ignored() {
        for nonsense in ["-5", "many", "", "NaN", "inf", "1e300", "-0", "0x10"] {
            let room = after(&[
                ("x-ratelimit-remaining-requests", nonsense),
                ("x-ratelimit-limit-requests", nonsense),
                ("x-ratelimit-reset-requests", nonsense),
            ]);
            assert!(!room.is_known() && room.has_room(u32::MAX, 0.0), "{nonsense:?}");
        }
        let past = after(&[
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-limit", "60"),
            ("anthropic-ratelimit-requests-reset", "1999-01-01T00:00:00Z"),
        ]);
        assert!(!past.has_room(0, 0.0) && past.has_room(0, 1.1), "the limit for a minute refills in one");
        let over = after(&[("x-ratelimit-remaining-requests", "90"), ("x-ratelimit-limit-requests", "60")]);
        assert!(over.has_room(0, 0.0));
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic_and_never_close_a_deployment_for_ever(
            values in proptest::collection::vec((0..8usize, 0..3usize, "[-+0-9a-zA-Z:., ]{0,24}"), 0..12),
        ) {
            let mut map = HeaderMap::new();
            for (family, part, value) in values {
                let name = if family < 4 { REQUESTS[family][part] } else { TOKENS[family - 4][part] };
                if let Ok(value) = HeaderValue::from_str(&value) {
                    map.append(name, value);
                }
            }
            let room = Headroom::default();
            room.answered(Some(&map), wall(), None, 0.0);
            let year = 366.0 * 86_400.0;
            prop_assert!(room.has_room(1, year), "{map:?}");
        }
    }
}
