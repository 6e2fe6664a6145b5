//! The calendar of periods: pure arithmetic on seconds since 1970, in UTC.

use std::{fmt, time::Duration};

use tokio::time::Instant;

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
    /// Returns the end of the period that contains `now`: the first second of the next. Seconds since 1970.
    pub(super) fn end(self, now: u64) -> u64 {
        let next = |length: u64, shift: u64| (now + shift) / length * length + length - shift;
        match self {
            Self::Hour => next(HOUR, 0),
            Self::Day => next(DAY, 0),
            Self::Week => next(WEEK, SINCE_MONDAY),
            Self::Month => {
                let (year, month, _) = civil(now / DAY);
                let (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                days(year, month) * DAY
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

/// A moment, displayed as in RFC 3339.
pub(super) struct Moment(pub(super) u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0 / DAY);
        let (hour, minute, second) = (self.0 % DAY / HOUR, self.0 % HOUR / 60, self.0 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
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

const FOUR_CENTURIES: u64 = 146_097;
/// The days from 0000-03-01 to 1970-01-01.
const TO_1970: u64 = 719_468;

/// Returns year, month and day of a day since 1970, in the Gregorian calendar. Years begin in March here, so that
/// the leap day comes last and the months' lengths repeat every five: 153 days.
fn civil(day: u64) -> (u64, u64, u64) {
    let day = day + TO_1970;
    let (era, of_era) = (day / FOUR_CENTURIES, day % FOUR_CENTURIES);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, of_month)
}

/// Returns the day since 1970 on which a month begins.
fn days(year: u64, month: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5;
    let (era, of_era) = (year / 400, year % 400);
    era * FOUR_CENTURIES + of_era * 365 + of_era / 4 - of_era / 100 + of_year - TO_1970
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// Returns seconds since 1970 from the text of a `Moment`, counted year by year and month by month.
    fn at(moment: &str) -> u64 {
        let number = |range: std::ops::Range<usize>| moment[range].parse::<u64>().unwrap();
        let (year, month, day) = (number(0..4), number(5..7), number(8..10));
        let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
        let months: u64 = (1..month).map(|month| length(year, month)).sum();
        (years + months + day - 1) * DAY + number(11..13) * HOUR + number(14..16) * 60 + number(17..19)
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
            assert_eq!(Moment(period.end(at(now))).to_string(), end, "{period} of {now}");
        }
    }

    #[test]
    fn every_day_of_five_centuries_is_the_day_after_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for number in 0..500 * 366 {
            assert_eq!(civil(number), (year, month, day));
            let length = length(year, month);
            if day == 1 {
                assert_eq!(days(year, month), number);
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
        assert_eq!(days(2100, 3) - days(2100, 2), 28);
        assert_eq!(days(2000, 3) - days(2000, 2), 29);
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
