//! Dates as token servers write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;

use super::{Token, fetch};
use crate::internal::wall_clock;

/// Reads an RFC 3339 date, with a zone, in whole seconds. The AWS CLI's older caches end in `UTC`.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let since_1970 = match text.strip_suffix("UTC") {
        Some(date) => wall_clock::parse_rfc3339(&format!("{date}Z")),
        None => wall_clock::parse_rfc3339(text),
    };
    UNIX_EPOCH.checked_add(Duration::from_secs(since_1970?.as_secs()))
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
