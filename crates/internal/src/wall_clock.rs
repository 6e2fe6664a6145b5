//! The wall clock, which only this module reads.
//!
//! It serves for dates only: a Retry-After with a date, the timestamp of an answer, the day of a cap. Tokio's clock,
//! which tests can pause, measures every duration.

#[cfg(feature = "drill")]
use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[cfg(feature = "drill")]
use tokio::time::Instant;

use crate::calendar;

/// Returns the date.
#[allow(clippy::disallowed_methods, reason = "a date of the wall clock, not a time to measure")]
pub fn now() -> SystemTime {
    #[cfg(feature = "drill")]
    if let Some((date, since)) = DRILL_DATE.get() {
        return date + since.elapsed();
    }
    SystemTime::now()
}

#[cfg(feature = "drill")]
thread_local! {
    /// The date of a drill on this thread and the moment of its start. It advances with tokio's clock, so that every
    /// run has the same dates.
    static DRILL_DATE: Cell<Option<(SystemTime, Instant)>> = const { Cell::new(None) };
}

/// Another date on this thread, until it is dropped.
#[cfg(feature = "drill")]
#[must_use]
#[derive(Debug)]
pub struct DrillDate(());

#[cfg(feature = "drill")]
impl DrillDate {
    /// Sets the date to this time after 1970.
    pub fn begin(since_1970: Duration) -> Self {
        DRILL_DATE.set(Some((UNIX_EPOCH + since_1970, Instant::now())));
        Self(())
    }
}

#[cfg(feature = "drill")]
impl Drop for DrillDate {
    fn drop(&mut self) {
        DRILL_DATE.set(None);
    }
}

/// Returns the date as the time since 1970.
pub fn since_1970() -> Duration {
    now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns a duration in whole milliseconds.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Returns a time since 1970 as RFC 3339 text in UTC, in whole seconds, rounded up.
pub fn rfc3339(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs() + u64::from(since_1970.subsec_nanos() > 0);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = calendar::date_of(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Reads a moment in RFC 3339, as the time since 1970: with a fraction of a second and an offset, if there are any.
///
/// Returns `None` for anything else, and for a moment before 1970.
pub fn parse_rfc3339(text: &str) -> Option<Duration> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone);
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let three = |text: &str, mark: char| {
        let mut parts = text.splitn(3, mark).map(digits);
        Some([parts.next()??, parts.next()??, parts.next()??])
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let ([year, month, day], [hour, minute, second]) = (three(date, '-')?, three(clock, ':')?);
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    digits(fraction).filter(|_| in_range)?;
    let offset = match zone.strip_prefix(['+', '-']) {
        None => 0,
        Some(offset) => {
            let (hours, minutes) = offset.split_once(':')?;
            let seconds = (digits(hours)?.min(99) * 3600 + digits(minutes)?.min(99) * 60) as i64;
            if zone.starts_with('-') { -seconds } else { seconds }
        }
    };
    let days = calendar::day_of(year, month, day);
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = seconds.checked_add_signed(-offset)?;
    let nanos = format!("{fraction:0<9}");
    Some(Duration::new(seconds, nanos.get(..9)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_748_877_348, "2025-06-02T15:15:48Z"),
            (1_772_323_199, "2026-02-28T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), text);
            assert_eq!(parse_rfc3339(text), Some(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn offsets_and_fractions_are_read_and_nonsense_is_none() {
        let noon = Duration::from_secs(1_748_865_600);
        assert_eq!(parse_rfc3339("2025-06-02T12:00:00Z"), Some(noon));
        assert_eq!(parse_rfc3339("2025-06-02T14:00:00.5+02:00"), Some(noon + Duration::from_millis(500)));
        assert_eq!(parse_rfc3339("2025-06-02t07:30:00-04:30"), Some(noon));
        for nonsense in
            ["", "T", "2025-06-02", "2025-06-02T12:00:00", "2025-6x-02T12:00:00Z", "2025-06-02T12:00Z", "-1-1-1T0:0:0Z"]
        {
            assert_eq!(parse_rfc3339(nonsense), None, "{nonsense:?}");
        }
    }
}
