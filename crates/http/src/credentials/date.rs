//! Dates as token servers write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;

use super::{Token, fetch};

/// Reads an RFC 3339 date, with a zone. The AWS CLI's older caches end in `UTC`.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let (date, rest) = text.split_at_checked(19)?;
    let bytes = date.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    let is_date = separators.iter().all(|(at, byte)| bytes[*at] == *byte) && matches!(bytes[10], b'T' | b't' | b' ');
    if !is_date {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = date.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let is_valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|digit: char| digit.is_ascii_digit()),
        None => rest,
    };
    let offset = match zone {
        "Z" | "z" | "UTC" => 0,
        zone => {
            let (sign, clock) = zone.split_at_checked(1)?;
            let (hours, minutes) = clock.split_once(':')?;
            let minutes = hours.parse::<u8>().ok().map(i64::from)? * 60 + minutes.parse::<u8>().ok().map(i64::from)?;
            match sign {
                "+" => minutes * 60,
                "-" => -minutes * 60,
                _ => return None,
            }
        }
    };
    // Howard Hinnant's `days_from_civil` (2013): a year from March has its leap day last.
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    is_valid.then(|| UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?)))?
}

/// Sets the end of a token by a date in a server's answer. The server's own date says how long that is from now, so
/// that a wrong clock here does no harm.
pub(crate) fn ending(token: Token, end: SystemTime, headers: &HeaderMap) -> Token {
    match fetch::date(headers) {
        Some(date) => token.expires_in(end.duration_since(date).unwrap_or_default()),
        None => token.expires_at(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2025-06-02T15:15:48.123Z", 1_748_877_348),
            ("2026-02-28T23:59:59UTC", 1_772_323_199),
            ("2025-06-02T17:15:48+02:00", 1_748_877_348),
            ("2025-06-02 05:15:48.5-10:00", 1_748_877_348),
        ] {
            assert_eq!(parse(text), Some(UNIX_EPOCH + Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "2025-06-02",
            "2025-06-02T15:15:48",
            "2025-13-02T15:15:48Z",
            "x025-06-02T15:15:48Z",
            "1969-06-02T15:15:48Z",
            "2025-06-02T15:15:48é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
