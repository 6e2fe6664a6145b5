use std::time::Duration;

use crate::InvalidConfig;

/// The most spans of a day that are peak hours.
const MOST_SPANS: usize = 4;

/// A day's hours outside of which a price is lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OffPeak {
    /// The share of the price, in thousandths.
    pub(super) share: u64,
    /// The minutes of the day between which the whole price holds.
    peaks: [Option<(u16, u16)>; MOST_SPANS],
    has_weekend: bool,
}

impl OffPeak {
    /// Creates hours at this share of the price, from 0 to 1, without a peak: add each.
    ///
    /// # Errors
    ///
    /// The share is less than 0 or more than 1.
    pub(super) fn new(share: f64) -> Result<Self, InvalidConfig> {
        let share = thousandths(share).filter(|share| *share <= 1000);
        let share = share.ok_or_else(|| InvalidConfig::new("share", "give a share of the price from 0 to 1"))?;
        Ok(Self { share, peaks: [None; MOST_SPANS], has_weekend: false })
    }

    /// Adds a span in which the whole price holds, as `01:00-04:00` in UTC. One that ends before it begins goes over
    /// midnight.
    ///
    /// # Errors
    ///
    /// The text is no span, or there are four already.
    pub(super) fn peak(mut self, span: &str) -> Result<Self, InvalidConfig> {
        let wrong = |problem: String| InvalidConfig::new("peak", problem);
        let minute = |clock: &str| {
            let (hour, minute) = clock.trim().split_once(':')?;
            let number = |text: &str| (text.len() == 2).then(|| text.parse::<u16>().ok())?;
            let (hour, minute) = (number(hour)?, number(minute)?);
            (hour < 24 && minute < 60 || (hour, minute) == (24, 0)).then_some(hour * 60 + minute)
        };
        let known = span.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        let known = known.filter(|(from, to)| from != to);
        let known = known.ok_or_else(|| wrong(format!("`{span}` is no span of a day: write it as 01:00-04:00")))?;
        let free = self.peaks.iter_mut().find(|peak| peak.is_none());
        *free.ok_or_else(|| wrong(format!("there are at most {MOST_SPANS} spans")))? = Some(known);
        Ok(self)
    }

    /// Sets whether the lower price holds on Saturday and Sunday all day, in UTC. Default: no.
    pub(super) const fn weekend(mut self, is_off_peak: bool) -> Self {
        self.has_weekend = is_off_peak;
        self
    }

    /// Returns the share of the price, in thousandths, at this time since 1970.
    pub(super) fn share_at(&self, since_1970: Duration) -> u64 {
        let minutes = since_1970.as_secs() / 60;
        let (day, minute) = (minutes / 1440, minutes % 1440);
        // The first of January 1970 was a Thursday.
        let is_weekend = matches!((day + 4) % 7, 0 | 6);
        let is_peak = |(from, to): (u16, u16)| {
            let (from, to) = (u64::from(from), u64::from(to));
            if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to }
        };
        let is_dear = !(is_weekend && self.has_weekend) && self.peaks.into_iter().flatten().any(is_peak);
        if is_dear { 1000 } else { self.share }
    }
}

/// Returns a share in thousandths, if it is one from 0 to a thousand.
pub(super) fn thousandths(share: f64) -> Option<u64> {
    // The cast of a number in range is exact enough: it was rounded.
    (0.0..=1000.0).contains(&share).then(|| (share * 1000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::internal::wall_clock::parse_rfc3339;

    #[test]
    fn deepseeks_hours_are_those_of_its_page() {
        // "Peak hours are 01:00 - 04:00 and 06:00 - 10:00 UTC, Monday through Friday"; 2026-11-30 is a Monday.
        let hours = OffPeak::new(0.5).unwrap().peak("01:00-04:00").unwrap().peak("06:00-10:00").unwrap().weekend(true);
        for (at, share) in [
            ("2026-11-30T00:59:59Z", 500),
            ("2026-11-30T01:00:00Z", 1000),
            ("2026-11-30T03:59:59Z", 1000),
            ("2026-11-30T04:00:00Z", 500),
            ("2026-11-30T06:00:00Z", 1000),
            ("2026-11-30T10:00:00Z", 500),
            ("2026-12-04T09:59:00Z", 1000),
            ("2026-12-05T02:00:00Z", 500),
            ("2026-12-06T07:00:00Z", 500),
            ("2026-12-07T07:00:00Z", 1000),
        ] {
            assert_eq!(hours.share_at(parse_rfc3339(at).unwrap()), share, "{at}");
        }
    }

    proptest! {
        /// The judge walks from the span's begin to its end, minute by minute.
        #[test]
        fn a_span_holds_its_minutes(from in 0u16..1440, length in 1u16..1440, minute in 0u16..1440) {
            let clock = |minute: u16| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
            let hours = OffPeak::new(0.0).unwrap().peak(&format!("{}-{}", clock(from), clock(from + length))).unwrap();
            let is_peak = (0..length).any(|passed| (from + passed) % 1440 == minute);
            let at = Duration::from_secs(u64::from(minute) * 60 + 59);
            prop_assert_eq!(hours.share_at(at) == 1000, is_peak);
        }
    }

    #[test]
    fn what_is_no_span_is_told() {
        let hours = OffPeak::new(0.5).unwrap();
        for span in ["", "01:00", "1:00-2:00", "01:00-01:00", "25:00-26:00", "24:01-01:00", "01:60-02:00", "a-b"] {
            assert!(hours.peak(span).unwrap_err().to_string().contains("no span of a day"), "{span}");
        }
        assert!(hours.peak("22:00-24:00").is_ok());
        for share in [-0.1, 1.1, f64::NAN] {
            assert_eq!(OffPeak::new(share).unwrap_err().field(), "share");
        }
        let full = ["01:00-02:00", "03:00-04:00", "05:00-06:00", "07:00-08:00"].into_iter();
        let full = full.fold(hours, |hours, span| hours.peak(span).unwrap());
        assert!(full.peak("09:00-10:00").unwrap_err().to_string().contains("at most 4"));
    }
}
