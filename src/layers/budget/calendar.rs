//! The calendar of periods: pure arithmetic on seconds since 1970, in UTC.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use crate::internal::calendar;

/// The period over which a [`Cap`](super::Cap) counts. All periods begin by the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Period {
    /// A clock hour.
    Hour,
    /// A day, from midnight.
    Day,
    /// A week, from Monday.
    Week,
    /// A calendar month.
    Month,
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
/// 1970-01-01 was a Thursday: the Monday before lies three days back.
const SINCE_MONDAY: u64 = 3 * DAY;

impl Period {
    /// Returns the first second of the period that contains `now`. Seconds since 1970.
    pub(super) fn start(self, now: u64) -> u64 {
        let last = |length: u64, shift: u64| ((now + shift) / length * length).saturating_sub(shift);
        match self {
            Self::Hour => last(HOUR, 0),
            Self::Day => last(DAY, 0),
            Self::Week => last(WEEK, SINCE_MONDAY),
            Self::Month => {
                let (year, month, _) = calendar::date_of(now / DAY);
                calendar::day_of(year, month, 1) * DAY
            }
        }
    }

    /// Returns the end of the period that contains `now`: the first second of the next. Seconds since 1970.
    pub(super) fn end(self, now: u64) -> u64 {
        let next = |length: u64, shift: u64| (now + shift) / length * length + length - shift;
        match self {
            Self::Hour => next(HOUR, 0),
            Self::Day => next(DAY, 0),
            Self::Week => next(WEEK, SINCE_MONDAY),
            Self::Month => {
                let (year, month, _) = calendar::date_of(now / DAY);
                let (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                calendar::day_of(year, month, 1) * DAY
            }
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        })
    }
}

/// A moment at which the calendar and tokio's clock were read together. From there on only tokio's clock counts,
/// which tests can pause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    at: Instant,
    since_1970: Duration,
}

impl Anchor {
    pub(super) fn new(at: Instant, since_1970: Duration) -> Self {
        Self { at, since_1970 }
    }

    /// Returns the calendar's second at this moment.
    pub(super) fn date(&self, now: Instant) -> u64 {
        self.since_1970.saturating_add(now.saturating_duration_since(self.at)).as_secs()
    }

    /// Returns the moment at which this second begins, or now if the clock cannot express it.
    pub(super) fn moment(&self, date: u64) -> Instant {
        let after = Duration::from_secs(date).saturating_sub(self.since_1970);
        self.at.checked_add(after).unwrap_or(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::internal::wall_clock::rfc3339;

    fn is_leap(year: u64) -> bool {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    }

    fn length(year: u64, month: u64) -> u64 {
        match month {
            2 => 28 + u64::from(is_leap(year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// Returns seconds since 1970 from a text in RFC 3339, counted year by year and month by month.
    fn at(moment: &str) -> u64 {
        let number = |range: std::ops::Range<usize>| moment[range].parse::<u64>().unwrap();
        let (year, month, day) = (number(0..4), number(5..7), number(8..10));
        let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
        let months: u64 = (1..month).map(|month| length(year, month)).sum();
        (years + months + day - 1) * DAY + number(11..13) * HOUR + number(14..16) * 60 + number(17..19)
    }

    #[test]
    fn a_period_starts_where_the_one_before_ends() {
        let begin = at("2026-01-01T00:00:00Z");
        for period in [Period::Hour, Period::Day, Period::Week, Period::Month] {
            for now in (begin..begin + 70 * DAY).step_by(1799) {
                let start = period.start(now);
                assert!(start <= now && now < period.end(now), "{period} {now}");
                assert_eq!((period.end(start - 1), period.end(start)), (start, period.end(now)), "{period} {now}");
            }
        }
        assert_eq!(Period::Week.start(0), 0, "1970 began on a Thursday");
    }

    #[test]
    fn periods_end_where_the_calendar_says() {
        for (period, now, end) in [
            (Period::Hour, "2026-11-20T10:59:59Z", "2026-11-20T11:00:00Z"),
            (Period::Hour, "2026-11-20T11:00:00Z", "2026-11-20T12:00:00Z"),
            (Period::Day, "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
            (Period::Day, "2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z"),
            // 2026-11-20 is a Friday.
            (Period::Week, "2026-11-20T10:00:00Z", "2026-11-23T00:00:00Z"),
            (Period::Week, "2026-11-22T23:59:59Z", "2026-11-23T00:00:00Z"),
            (Period::Week, "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            (Period::Week, "2026-12-31T00:00:00Z", "2027-01-04T00:00:00Z"),
            (Period::Week, "1970-01-01T00:00:00Z", "1970-01-05T00:00:00Z"),
            (Period::Month, "2026-01-31T23:59:59Z", "2026-02-01T00:00:00Z"),
            (Period::Month, "2026-02-28T12:00:00Z", "2026-03-01T00:00:00Z"),
            (Period::Month, "2028-02-29T23:59:59Z", "2028-03-01T00:00:00Z"),
            (Period::Month, "2026-04-30T00:00:00Z", "2026-05-01T00:00:00Z"),
            (Period::Month, "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(period.end(at(now)))), end, "{period} of {now}");
        }
    }

    #[test]
    fn every_month_of_five_centuries_ends_with_its_last_day() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for number in 0..500 * 366 {
            let length = length(year, month);
            if day == 1 {
                let end = Period::Month.end(number * DAY + DAY - 1);
                assert_eq!(end, (number + length) * DAY, "{year}-{month}");
            }
            (year, month, day) = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                _ if day == length => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }

    #[test]
    fn leap_years_are_those_of_the_gregorian_calendar() {
        assert_eq!(Period::Month.end(at("2096-02-01T00:00:00Z")) - at("2096-02-01T00:00:00Z"), 29 * DAY);
        assert_eq!(calendar::day_of(2100, 3, 1) - calendar::day_of(2100, 2, 1), 28);
        assert_eq!(calendar::day_of(2000, 3, 1) - calendar::day_of(2000, 2, 1), 29);
    }

    #[tokio::test(start_paused = true)]
    async fn dates_go_on_with_tokios_clock() {
        let anchor = Anchor::new(Instant::now(), Duration::from_millis(1_700_000_000_900));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(anchor.date(Instant::now()), 1_700_000_001);
        assert_eq!(anchor.moment(1_700_000_001), Instant::now());
        assert_eq!(anchor.moment(0), anchor.moment(1_700_000_000), "what is past is now");
    }
}
