//! The wait that a provider requests: `retry-after` in all its spellings.
//!
//! Pure functions over headers and text; the wall clock is an argument. A leaf calls [`from_headers`] once for each
//! error answer and puts the result into the error, where the layers read it.
//!
//! Sources, best first: `retry-after-ms` (milliseconds, fractions allowed), `retry-after` in seconds (fractions
//! allowed), `retry-after` as a moment or a duration, `x-ratelimit-reset` in milliseconds since 1970 (OpenRouter) where
//! nothing remains, and a hint from the body. A moment is an HTTP date (RFC 9110, section 10.2.3), one of RFC 3339 or
//! one in seconds or milliseconds since 1970: no provider asks for a wait of fifty years. Azure sends
//! `retry-after-ms: 0` beside `retry-after: 1`, so a number that is zero, negative or unreadable is ignored in favour
//! of the next source. A moment in the past counts: it means *now*.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use http::HeaderMap;
//! use steadfast::retry_after;
//!
//! let mut headers = HeaderMap::new();
//! headers.insert("retry-after", "3".parse()?);
//! headers.insert("retry-after-ms", "2150.5".parse()?);
//! let asked = retry_after::from_headers(&headers, None, SystemTime::UNIX_EPOCH);
//! assert_eq!(asked, Some(Duration::from_micros(2_150_500)));
//! # Ok::<(), http::header::InvalidHeaderValue>(())
//! ```

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

use crate::internal::wall_clock;

/// The longest wait any of these functions returns (365 days); longer ones are cut to it.
///
/// Far longer than any caller waits, and small enough that adding it to a clock never overflows.
pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Returns the wait that an answer requests, or `None` if it requests none that can be read.
///
/// `body` is the wait from the body (see [`duration`] and [`from_message`]); the headers take precedence. `wall` is the
/// wall clock, for a date without a `Date` header. With that header the difference of the two is taken, so that a
/// skewed clock (ours or theirs) does no harm. The same holds for a moment in milliseconds. `Some(Duration::ZERO)`
/// comes only from a date or moment that has passed. The wait never exceeds [`LONGEST`].
pub fn from_headers(headers: &HeaderMap, body: Option<Duration>, wall: SystemTime) -> Option<Duration> {
    let texts = |name| {
        let values = headers.get_all(name).iter();
        values.filter_map(|value| value.to_str().ok().map(str::trim))
    };
    let sent = || sent(headers, wall);
    let hint = body.filter(|hint| !hint.is_zero());
    let numbers = |name, seconds_each| {
        let sent = &sent;
        texts(name).find_map(move |text| match since_1970(text, seconds_each) {
            Some(at) => Some(at.duration_since(sent()).unwrap_or_default()),
            None => number(text, seconds_each),
        })
    };
    let dated = |name| texts(name).find_map(|text| spelled(text, sent()));
    numbers("retry-after-ms", 1e-3)
        .or_else(|| numbers("retry-after", 1.0))
        .or_else(|| dated("retry-after"))
        .or_else(|| {
            // A window that still has room for requests needs no wait.
            let remains = texts("x-ratelimit-remaining").any(|text| text != "0");
            let reset = texts("x-ratelimit-reset").find_map(moment).filter(|_| !remains)?;
            Some(reset.duration_since(sent()).unwrap_or(Duration::ZERO))
        })
        .or(hint)
        .map(|wait| wait.min(LONGEST))
}

/// Returns when the provider sent these headers: its own `Date`, or else the wall clock.
#[doc(hidden)]
pub fn sent(headers: &HeaderMap, wall: SystemTime) -> SystemTime {
    let dates = headers.get_all(header::DATE).iter().filter_map(|value| value.to_str().ok());
    dates.filter_map(|text| httpdate::parse_http_date(text.trim()).ok()).next().unwrap_or(wall)
}

/// Reads the reset of a rate limit in any spelling: a duration (`6m0s`), seconds, seconds or milliseconds since 1970,
/// RFC 3339 or an HTTP date. A moment that has passed means now. Returns `None` for anything else.
#[doc(hidden)]
pub fn reset(text: &str, sent: SystemTime) -> Option<Duration> {
    const OF_2001: f64 = 1e9;
    let text = text.trim();
    let until = |at: SystemTime| at.duration_since(sent).unwrap_or_default().min(LONGEST);
    let since_1970 =
        |wait: f64| Some(until(SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(wait).ok()?)?));
    match text.parse::<f64>().ok().filter(|_| text.starts_with(|c: char| c.is_ascii_digit() || c == '.')) {
        Some(millis) if millis >= OF_2001 * 1e3 => since_1970(millis / 1e3),
        Some(moment) if moment >= OF_2001 => since_1970(moment),
        Some(wait) => Some(seconds(wait)),
        None => duration(text)
            .or_else(|| since_1970(wall_clock::parse_rfc3339(text)?.as_secs_f64()))
            .or_else(|| httpdate::parse_http_date(text).ok().map(until)),
    }
}

/// Reads `x-should-retry`, the header by which the provider overrules the rule for its status.
///
/// Returns `None` if it is absent or neither `true` nor `false`. Obey `Some(false)`; `Some(true)` is a permission,
/// subject to budget and deadline.
pub fn should_retry(headers: &HeaderMap) -> Option<bool> {
    let text = headers.get("x-should-retry")?.to_str().ok()?.trim();
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// Reads a duration as Go and protobuf print it: `34.07s`, `12ms`, `6m0s`, `1h2m3.5s`.
///
/// Returns `None` if any part is not understood, or if it is negative. Units: `h`, `m`, `s`, `ms`, `us`, `ns`.
pub fn duration(text: &str) -> Option<Duration> {
    let (wait, rest) = leading_duration(text.trim())?;
    rest.is_empty().then_some(wait)
}

/// Finds the wait in a provider's message: `try again in 18.642s`, `retry after 33 seconds`,
/// `try again after 1 seconds`, `resets in 2h`, `wait 5 seconds`.
///
/// For the message of an error that is already known to be a rate limit, never for a whole body, which may echo the
/// prompt. Returns `None` if no such phrase is followed by a duration longer than zero.
pub fn from_message(message: &str) -> Option<Duration> {
    // ASCII only, so the byte positions stay those of `message`.
    let lower = message.to_ascii_lowercase();
    WAITS
        .iter()
        .flat_map(|phrase| {
            let found = lower.match_indices(phrase);
            found.map(|(at, phrase)| &lower[at + phrase.len()..])
        })
        .filter_map(|rest| leading_duration(rest.strip_prefix("about ").unwrap_or(rest)).map(|(wait, _)| wait))
        .find(|wait| !wait.is_zero())
}

/// The words before a wait, the plainest first. "After" alone is none: a call fails after its time, too.
const WAITS: [&str; 16] = [
    "try again in ",
    "retry after ",
    "retry in ",
    "try again after ",
    "again in ",
    "again after ",
    "retry again after ",
    "request after ",
    "requests after ",
    "available in ",
    "available after ",
    "resets in ",
    "reset in ",
    "reset after ",
    "wait for ",
    "wait ",
];

/// Finds the moment at which a limit is reset in a provider's message: `resets at 2026-05-15T15:00:00Z`. Returns the
/// wait until then.
#[doc(hidden)]
pub fn moment_in_message(message: &str, wall: SystemTime) -> Option<Duration> {
    let lower = message.to_ascii_lowercase();
    let behind = |phrase: &&str| lower.find(*phrase).map(|at| &message[at + phrase.len()..]);
    let moments = ["resets at ", "reset at ", "again at ", "until "].iter().filter_map(behind);
    let word = |text: &str| text.split([' ', ',', ')', ';']).next().map(|word| word.trim_end_matches('.').to_owned());
    moments.filter_map(word).filter(|word| word.contains('T')).find_map(|word| reset(&word, wall))
}

/// Reads a moment in milliseconds since 1970. Smaller numbers are seconds from an unknown start.
fn moment(text: &str) -> Option<SystemTime> {
    const OF_2001: u64 = 1_000_000_000_000;
    let milliseconds = text.parse().ok().filter(|milliseconds| *milliseconds >= OF_2001)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))
}

/// Reads a moment since 1970 in seconds, or in milliseconds, where each unit of the text is worth `seconds_each`.
fn since_1970(text: &str, seconds_each: f64) -> Option<SystemTime> {
    /// From 2017 on, and for a hundred and fifty years.
    const MOMENTS: std::ops::Range<f64> = 1.5e9..6e9;
    let amount: f64 = text.parse().ok()?;
    let moment = [amount, amount * 1e-3, amount * seconds_each].into_iter().find(|moment| MOMENTS.contains(moment))?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(moment).ok()?)
}

/// Reads a duration with its units, or a date.
fn spelled(text: &str, sent: SystemTime) -> Option<Duration> {
    // A number alone has been read already.
    if text.parse::<f64>().is_ok() { None } else { reset(text, sent) }
}

/// Reads a positive decimal number, each unit worth `seconds_each`.
fn number(text: &str, seconds_each: f64) -> Option<Duration> {
    // "inf" and "nan" would parse; they are words, not numbers.
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let wait = seconds(text.parse::<f64>().ok()? * seconds_each);
    (!wait.is_zero()).then_some(wait)
}

/// Converts seconds to a duration between zero and [`LONGEST`].
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.clamp(0.0, LONGEST.as_secs_f64())).unwrap_or(LONGEST)
}

/// Reads the duration at the start of a text, in one or more parts (`1h2m`, `1 hour and 5 minutes`), and returns the
/// rest too.
fn leading_duration(text: &str) -> Option<(Duration, &str)> {
    let (mut total, mut rest) = part(text)?;
    loop {
        let spaced = rest.trim_start();
        let next = spaced.strip_prefix("and ").unwrap_or(spaced);
        let Some((more, after)) = part(next) else {
            return Some((total.min(LONGEST), rest));
        };
        total = total.saturating_add(more);
        rest = after;
    }
}

/// Reads one number with its unit.
fn part(text: &str) -> Option<(Duration, &str)> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (amount, rest) = text.split_at(digits);
    let amount: f64 = amount.parse().ok()?;
    let rest = rest.trim_start_matches(' ');
    let letters = rest.find(|c: char| !(c.is_alphabetic() || c == '\u{b5}')).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    let each = match unit {
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "ms" | "millisecond" | "milliseconds" => 1e-3,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    };
    Some((seconds(amount * each), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    /// 2026-06-15 06:20:00 UTC.
    const WALL: SystemTime = SystemTime::UNIX_EPOCH;
    fn wall() -> SystemTime {
        WALL + Duration::from_secs(1_781_504_400)
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn asked(list: &[(&'static str, &str)]) -> Option<Duration> {
        from_headers(&headers(list), None, wall())
    }

    fn at(offset: i64) -> String {
        let time = if offset < 0 {
            wall() - Duration::from_secs(offset.unsigned_abs())
        } else {
            wall() + Duration::from_secs(offset.unsigned_abs())
        };
        httpdate::fmt_http_date(time)
    }

    const fn ms(n: u64) -> Option<Duration> {
        Some(Duration::from_millis(n))
    }

    #[test]
    fn milliseconds_win_over_seconds() {
        assert_eq!(asked(&[("retry-after", "3"), ("retry-after-ms", "2150")]), ms(2150));
        assert_eq!(asked(&[("retry-after-ms", "12.5")]), Some(Duration::from_micros(12_500)));
    }

    #[test]
    fn zero_milliseconds_beside_whole_seconds_give_the_seconds() {
        for nothing in ["0", "-5", "NaN", "inf", "-inf", "", "soon", "0.0", "1,5"] {
            let list = [("retry-after-ms", nothing), ("retry-after", "1")];
            assert_eq!(asked(&list), ms(1000), "{nothing:?}");
        }
    }

    #[test]
    fn numbers_of_the_fault_list() {
        for nothing in ["0", "-1", "NaN", "nan", "inf", "", " ", "tomorrow", "+"] {
            assert_eq!(asked(&[("retry-after", nothing)]), None, "{nothing:?}");
        }
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[("retry-after", "1e9")]), Some(LONGEST));
        assert_eq!(asked(&[("retry-after", "1e999")]), Some(LONGEST));
        assert_eq!(asked(&[("retry-after", &"9".repeat(400))]), Some(LONGEST));
        assert_eq!(asked(&[("retry-after", " 1.5 ")]), ms(1500));
        assert_eq!(asked(&[("retry-after", "20")]), ms(20_000));
    }

    #[test]
    fn a_date_counts_from_the_date_header_else_from_the_wall_clock() {
        let skewed = [("retry-after", &*at(3630)), ("date", &*at(3600))];
        assert_eq!(asked(&skewed), ms(30_000));
        assert_eq!(asked(&[("retry-after", &at(30))]), ms(30_000));
        let unreadable = [("retry-after", &*at(30)), ("date", "yesterday")];
        assert_eq!(asked(&unreadable), ms(30_000));
    }

    #[test]
    fn a_past_date_means_now() {
        assert_eq!(asked(&[("retry-after", &at(-3600))]), ms(0));
        let body = Some(Duration::from_secs(9));
        assert_eq!(from_headers(&headers(&[("retry-after", &at(-1))]), body, wall()), ms(0));
    }

    #[test]
    fn a_moment_since_1970_and_a_spelled_wait_are_read() {
        let moment = 1_781_504_400_u64;
        for text in [
            (moment + 30).to_string(),
            format!("{}.0", moment + 30),
            ((moment + 30) * 1000).to_string(),
            "2026-06-15T06:20:30Z".to_owned(),
            "30s".to_owned(),
            "30 seconds".to_owned(),
        ] {
            assert_eq!(asked(&[("retry-after", &text)]), ms(30_000), "{text}");
        }
        assert_eq!(asked(&[("retry-after-ms", &((moment + 30) * 1000).to_string())]), ms(30_000));
        assert_eq!(asked(&[("retry-after", &(moment - 30).to_string())]), ms(0), "it has passed");
        let skewed = [("retry-after", &*(moment + 3630).to_string()), ("date", &*at(3600))];
        assert_eq!(asked(&skewed), ms(30_000));
        for nothing in ["5 apples", "-30s", "2026-13-01T00:00:00Z", "s"] {
            assert_eq!(asked(&[("retry-after", nothing)]), None, "{nothing}");
        }
    }

    #[test]
    fn a_moment_in_a_message_is_a_wait() {
        let said = |text: &str| moment_in_message(text, wall());
        assert_eq!(said("usage limit reached, resets at 2026-06-15T06:21:00Z (2056)"), ms(60_000));
        assert_eq!(said("try again at 2026-06-15T08:20:30+02:00."), ms(30_000));
        for silent in ["", "resets at noon", "resets at ", "again at 5", "ends at 2026-06-15T06:21:00Z"] {
            assert_eq!(said(silent), None, "{silent:?}");
        }
    }

    #[test]
    fn both_forms_together_give_the_seconds() {
        assert_eq!(asked(&[("retry-after", &at(60)), ("retry-after", "5")]), ms(5000));
        assert_eq!(asked(&[("retry-after", "0"), ("retry-after", &at(60))]), ms(60_000));
    }

    #[test]
    fn a_reset_in_milliseconds_is_a_wait_where_nothing_remains() {
        // OpenRouter, as recorded: 2025-08-08 15:41:00 UTC.
        let date = "Fri, 08 Aug 2025 15:40:18 GMT";
        let reset =
            [("x-ratelimit-limit", "1"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1754667660000")];
        let dated = [&reset[..], &[("date", date)]].concat();
        assert_eq!(asked(&dated), ms(42_000));
        assert_eq!(from_headers(&headers(&dated), Some(Duration::from_secs(1)), wall()), ms(42_000), "before the body");
        assert_eq!(asked(&reset), ms(0), "long before the wall clock's time");
        let at = wall().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() + 2500;
        assert_eq!(asked(&[("x-ratelimit-reset", &at.to_string())]), ms(2500));
        assert_eq!(asked(&[&dated[..], &[("retry-after", "7")]].concat()), ms(7000));
        assert_eq!(asked(&[("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", &at.to_string())]), None);
        for nothing in ["0", "1769759901", "30s", "-1754667660000", "soon"] {
            assert_eq!(asked(&[("x-ratelimit-reset", nothing)]), None, "{nothing:?}");
        }
        assert_eq!(asked(&[("x-ratelimit-reset", &u64::MAX.to_string())]), Some(LONGEST));
    }

    #[test]
    fn the_body_is_asked_last() {
        let body = Some(Duration::from_millis(34_070));
        assert_eq!(from_headers(&headers(&[("retry-after", "2")]), body, wall()), ms(2000));
        assert_eq!(from_headers(&headers(&[("retry-after", "0")]), body, wall()), ms(34_070));
        assert_eq!(from_headers(&HeaderMap::new(), Some(Duration::ZERO), wall()), None);
        assert_eq!(from_headers(&HeaderMap::new(), Some(Duration::MAX), wall()), Some(LONGEST));
    }

    #[test]
    fn a_reset_is_read_in_all_spellings_and_nonsense_is_none() {
        let read = |text: &str| reset(text, wall());
        for (text, millis) in [
            ("6m0s", 360_000),
            ("12ms", 12),
            ("1", 1000),
            ("0.5", 500),
            ("0", 0),
            ("2026-06-15T06:20:30Z", 30_000),
            ("2026-06-15T06:20:30.250Z", 30_250),
            ("2026-06-15T08:20:30+02:00", 30_000),
            ("2026-06-15T06:19:00Z", 0),
            ("1781504407", 7000),
            ("1781504407500", 7500),
            ("Mon, 15 Jun 2026 06:21:00 GMT", 60_000),
        ] {
            assert_eq!(read(text), ms(millis), "{text:?}");
        }
        for nonsense in ["", "-1", "soon", "NaN", "inf", "2026-13-01T00:00:00Z", "2026-06-15", "1e999", "5 apples"] {
            assert!(read(nonsense).is_none_or(|wait| wait <= LONGEST), "{nonsense:?}");
        }
        assert_eq!((read("-1"), read("soon"), read("2026-13-01T00:00:00Z"), read("NaN")), (None, None, None, None));
    }

    #[test]
    fn should_retry_is_read_in_any_case() {
        assert_eq!(should_retry(&headers(&[("x-should-retry", "false")])), Some(false));
        assert_eq!(should_retry(&headers(&[("x-should-retry", " True ")])), Some(true));
        assert_eq!(should_retry(&headers(&[("x-should-retry", "perhaps")])), None);
        assert_eq!(should_retry(&headers(&[])), None);
    }

    #[test]
    fn go_durations() {
        assert_eq!(duration("34.07s"), ms(34_070));
        assert_eq!(duration("12ms"), ms(12));
        assert_eq!(duration("6m0s"), ms(360_000));
        assert_eq!(duration("1h2m3.5s"), ms(3_723_500));
        assert_eq!(duration("114h18m0s"), ms(411_480_000));
        assert_eq!(duration("0s"), ms(0));
        assert_eq!(duration("1\u{b5}s"), Some(Duration::from_micros(1)));
        assert_eq!(duration("9e9s"), None);
        assert_eq!(duration(&format!("{}s", "9".repeat(400))), Some(LONGEST));
        for wrong in ["", "5", "s", "-3s", "1.2.3s", "5 fortnights", "3s later", "\u{1f600}"] {
            assert_eq!(duration(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn messages_of_real_providers() {
        let said = |text: &str| from_message(text);
        assert_eq!(said("Rate limit reached. Please try again in 18.642s. Visit https://x"), ms(18_642));
        assert_eq!(said("Please try again in 644ms. Visit"), ms(644));
        assert_eq!(said("try again in 7m12.5s."), ms(432_500));
        assert_eq!(said("Please retry after 33 seconds. To increase"), ms(33_000));
        assert_eq!(said("Please retry after 1 second."), ms(1000));
        assert_eq!(said("Quota exceeded.\nPlease retry in 12.3s"), ms(12_300));
        assert_eq!(said("Please retry in 48.939935699s."), Some(Duration::from_nanos(48_939_935_699)));
        assert_eq!(said("try again in 1 hour and 5 minutes"), ms(3_900_000));
        assert_eq!(said("Try again in a moment, or retry after 3 seconds"), ms(3000));
        assert_eq!(said("Try again in 0s, or else retry in 5s"), ms(5000));
        assert_eq!(said("Organization Rate limit exceeded, please try again after 1 seconds"), ms(1000));
        assert_eq!(said("Too many requests. Please wait 30 seconds."), ms(30_000));
        assert_eq!(said("The limit resets in 2h3m."), ms(7_380_000));
        assert_eq!(said("Please send the next request after 5 seconds"), ms(5000));
        assert_eq!(said("try again in about 2 minutes"), ms(120_000));
        assert_eq!(said("The upstream timed out after 300 seconds"), None);
        for silent in ["", "try again in ", "try again in a minute", "retry after 0 seconds", "retry in 5 \u{e9}"] {
            assert_eq!(said(silent), None, "{silent:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            values in proptest::collection::vec((0..4usize, proptest::collection::vec(any::<u8>(), 0..40)), 0..6),
            body in any::<Option<u64>>(),
        ) {
            let names = ["retry-after", "retry-after-ms", "date", "x-should-retry"];
            let mut map = HeaderMap::new();
            for (name, bytes) in values {
                if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                    map.append(HeaderName::from_static(names[name]), value);
                }
            }
            let wait = from_headers(&map, body.map(Duration::from_secs), wall());
            prop_assert!(wait.is_none_or(|wait| wait <= LONGEST));
            let _ = should_retry(&map);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "(try again in |retry after )?[-+0-9.eE hmsunµ\u{3bc}a-z]{0,30}.{0,8}") {
            prop_assert!(duration(&text).is_none_or(|wait| wait <= LONGEST));
            prop_assert!(from_message(&text).is_none_or(|wait| wait <= LONGEST));
            let list = HeaderValue::from_str(&text).map(|value| HeaderMap::from_iter([(header::RETRY_AFTER, value)]));
            if let Ok(map) = list {
                let _ = from_headers(&map, None, wall());
            }
        }

        #[test]
        fn dates_far_and_near_never_panic(offset in any::<u32>(), past in any::<bool>()) {
            let time = if past { WALL } else { wall() } + Duration::from_secs(offset.into());
            let wait = asked(&[("retry-after", &httpdate::fmt_http_date(time))]);
            prop_assert!(wait.is_some_and(|wait| wait <= LONGEST));
        }

        #[test]
        fn never_earlier_than_asked(millis in 1u32..100_000_000) {
            let text = format!("{}", f64::from(millis) / 1000.0);
            let wait = asked(&[("retry-after", &text)]).unwrap();
            prop_assert_eq!(wait, Duration::from_millis(millis.into()));
        }
    }
}
