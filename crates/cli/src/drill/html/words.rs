//! The page's texts and numbers.

use std::fmt::{self, Write as _};

use crate::terminal::printable;

/// Text, escaped for an element or a quoted attribute.
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in printable(self.0).chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A whole number, its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a share. Only all is 100 %, and only none is 0 %: other values are not rounded to them.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return NOTHING.to_owned();
    }
    let share = part as f64 / whole as f64 * 100.0;
    match () {
        () if part == whole => "100 %".to_owned(),
        () if part == 0 => "0 %".to_owned(),
        () if share >= 99.99 => ">99.99 %".to_owned(),
        () if share >= 99.9 => format!("{:.2} %", (share * 100.0).floor() / 100.0),
        () if share >= 10.0 => format!("{:.1} %", (share * 10.0).floor() / 10.0),
        () if share >= 0.01 => format!("{share:.2} %"),
        () => "<0.01 %".to_owned(),
    }
}

/// Returns milliseconds; 0 stands for none.
pub(super) fn millis(millis: f64) -> String {
    match millis {
        _ if !known(millis) => NOTHING.to_owned(),
        _ if millis < 9.95 => format!("{millis:.1} ms"),
        _ if millis < 999.5 => format!("{millis:.0} ms"),
        _ if millis < 9_950.0 => format!("{:.1} s", millis / 1e3),
        _ => span(millis / 1e3),
    }
}

/// Milliseconds that are a power of ten, for an axis.
pub(super) fn power(millis: f64) -> String {
    if millis < 1e3 { format!("{millis} ms") } else { format!("{} s", millis / 1e3) }
}

/// Returns whether there is such a latency.
pub(super) fn known(millis: f64) -> bool {
    millis.is_finite() && millis > 0.0
}

/// A span of seconds.
pub(super) fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return NOTHING.to_owned();
    }
    let whole = seconds.round() as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes, rest) {
        (0, 0, _) if seconds < 9.95 && seconds.fract() > 0.0 => format!("{seconds:.1} s"),
        (0, 0, _) => format!("{rest} s"),
        (0, _, 0) => format!("{minutes} min"),
        (0, _, _) => format!("{minutes} min {rest} s"),
        (_, 0, _) => format!("{hours} h"),
        _ => format!("{hours} h {minutes} min"),
    }
}

/// Recovery: some wait, or none that was seen.
pub(super) fn recovery(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| NOTHING.to_owned(), span)
}

/// Returns US dollars, with the significant digits.
pub(super) fn usd(amount: f64) -> String {
    match amount {
        _ if !amount.is_finite() => NOTHING.to_owned(),
        _ if amount == 0.0 => "$0".to_owned(),
        _ if amount < 0.0001 => format!("${amount:.1e}"),
        _ if amount < 0.1 => format!("${}", format!("{amount:.4}").trim_end_matches('0')),
        _ if amount < 1000.0 => format!("${amount:.2}"),
        _ => format!("${}", count(amount.round() as u64)),
    }
}

/// A number of attempts for each request.
pub(super) fn times(number: f64) -> String {
    if !number.is_finite() {
        return NOTHING.to_owned();
    }
    format!("{number:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A moment of a scenario: the time of day where it has one, else the time since it began.
pub(super) fn moment(at_s: f64, clock_s: Option<f64>) -> String {
    let second = clock_s.map_or(at_s, |clock| clock + at_s).max(0.0).round() as u64;
    let (hours, minutes, seconds) = (second / 3600, second / 60 % 60, second % 60);
    match clock_s {
        // The next day's midnight is 00:00.
        Some(_) if seconds == 0 => format!("{:02}:{minutes:02}", hours % 24),
        Some(_) => format!("{:02}:{minutes:02}:{seconds:02}", hours % 24),
        None => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// The placeholder for a missing value.
pub(super) const NOTHING: &str = "–";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(Text("<b a='\"'>&\u{202e}").to_string(), "&lt;b a=&#39;&quot;&#39;&gt;&amp;\u{fffd}");
    }

    #[test]
    fn nearly_all_is_not_all_and_nearly_none_is_not_none() {
        assert_eq!([(7, 7), (0, 7), (0, 0)].map(|(part, whole)| percent(part, whole)), ["100 %", "0 %", NOTHING]);
        assert_eq!(percent(449_999, 450_000), ">99.99 %");
        assert_eq!(percent(99_949, 100_000), "99.94 %");
        assert_eq!(percent(1, 450_000), "<0.01 %");
        assert_eq!(percent(1, 3), "33.3 %");
    }

    #[test]
    fn numbers_have_their_units() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.0, 2.25, 820.4, 1500.0, 30_000.0, 90_000.0].map(millis),
            [NOTHING, "2.2 ms", "820 ms", "1.5 s", "30 s", "1 min 30 s"]
        );
        assert_eq!([1.0, 100.0, 1e3, 1e5].map(power), ["1 ms", "100 ms", "1 s", "100 s"]);
        assert_eq!([0.4, 59.0, 3600.0, 9360.0].map(span), ["0.4 s", "59 s", "1 h", "2 h 36 min"]);
        assert_eq!([0.0, 0.0123, 0.08, 4.5, 12_345.0].map(usd), ["$0", "$0.0123", "$0.08", "$4.50", "$12,345"]);
        assert_eq!([1.0, 1.0004, 3.25, f64::NAN].map(times), ["1", "1", "3.25", NOTHING]);
    }

    #[test]
    fn a_moment_is_of_the_day_where_the_scenario_has_one() {
        assert_eq!(moment(1200.0, Some(6.0 * 3600.0)), "06:20");
        assert_eq!(moment(3600.0, Some(23.5 * 3600.0)), "00:30");
        assert_eq!(moment(3725.0, None), "1:02:05");
    }
}
